package relay

import (
	"crypto/tls"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/edge/certs"
	"github.com/unitgate/unitgate/edge/certs/certstest"
)

// TestOverTLS runs tests that were written for plain connections with clients that speak TLS: what they say of the
// tunnel, of back-pressure and of evictions holds all the same.
func TestOverTLS(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"Answers":                   TestAnswers,
		"ByteExact":                 TestTunnelIsByteExact,
		"Glued":                     TestBytesGluedToTheHandshake,
		"SingleBytes":               TestRequestAndResponseInSingleBytes,
		"LongHeads":                 TestLongHeadsPass,
		"MaxHead":                   TestMaxHead,
		"HalfClose":                 TestHalfClose,
		"HalfCloseWithASlowReader":  TestHalfCloseWithASlowReader,
		"Reset":                     TestResetPassesThrough,
		"ResetAfterTheEnd":          TestResetAfterTheEndTakesNothingAway,
		"Burst":                     TestBurstAndEndForClientsThatReadLater,
		"SlowReader":                TestSlowReaderPausesItsOwnOriginOnly,
		"Flood":                     TestFloodBothWays,
		"Churn":                     TestChurn,
		"OriginsOwnAnswers":         TestOriginsOwnAnswers,
		"ClientLeavesWhileDialling": TestClientLeavesWhileDialling,
		"HeldUntilTheMoveIsDecided": TestHeldUntilTheMoveIsDecided,
		"HeldAreLetIn":              TestHeldAreLetInWhenTheKeyArrives,
		"EvictionInTheMiddle":       TestEvictionInTheMiddleOfAMessage,
		"EvictionOfAClientThatEnds": TestEvictionOfAClientThatJustEnds,
		"SessionsThatEndAreVictims": TestSessionsThatEndAlreadyAreVictims,
		"CutoverUnderChatter":       TestCutoverUnderChatter,
		"InstallWhileConnecting":    TestInstallWhileConnecting,
		"InstallWhileOriginThinks":  TestInstallWhileTheOriginThinks,
		"CloseTellsEverybody":       TestCloseTellsEverybody,
		"EvictionOfAStuckReader":    TestEvictionOfAStuckReader,
		"ClosesThatCross":           TestClosesThatCrossAnEviction,
		"EvictionOfAHalfClosed":     TestEvictionOfAHalfClosedClient,
		"ClosedDescriptor":          TestClosedDescriptorIsNotTouched,
		"Chaos":                     TestChaos,
		"PassedOnIsEvicted":         TestPassedOnIsEvicted,
		"PassedOnScheme":            TestPassedOnScheme,
		"ClosedElsewhere":           TestClosedElsewhere,
		"UnreadAnswers":             TestUnreadAnswersHaveAnEnd,
		"UnreadRestOfATunnel":       TestUnreadRestOfATunnelHasAnEnd,
		"ClosedElsewhereInSilence":  TestClosedElsewhereInSilence,
	} {
		t.Run(name, test)
	}
}

func overTLS(t *testing.T) bool { return strings.HasPrefix(t.Name(), "TestOverTLS/") }

// useTLS lets cfg listen for TLS, with a certificate of authority, and returns what clients need.
func useTLS(t *testing.T, cfg *Config, authority *certstest.Authority) *tls.Config {
	t.Helper()
	dir := t.TempDir()
	files := certs.Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	authority.Issue(files.Cert, files.Key, certstest.Leaf{Names: []string{"edge.example"}})
	store, err := certs.Open([]certs.Files{files}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cfg.TLSAddrs, cfg.Certificate = []string{"127.0.0.1:0"}, store.Certificate
	return &tls.Config{RootCAs: authority.Pool, ServerName: "edge.example"}
}

// transport is a client's connection.
type transport interface {
	net.Conn
	CloseWrite() error
	SetLinger(sec int) error
}

// tlsTransport is one over TLS. Close says no close_notify, as a client does that is killed; CloseWrite does.
type tlsTransport struct {
	*tls.Conn
	tcp *net.TCPConn
}

func (c *tlsTransport) Close() error            { return c.tcp.Close() }
func (c *tlsTransport) SetLinger(sec int) error { return c.tcp.SetLinger(sec) }
func (c *tlsTransport) CloseWrite() error {
	if err := c.Conn.CloseWrite(); err != nil {
		return err
	}
	return c.tcp.CloseWrite()
}

// dial connects to the relay as its fixture's clients do.
func (f *fixture) dial() (transport, error) {
	if f.front != nil {
		return f.front.dial()
	}
	if f.secure == nil {
		c, err := net.Dial("tcp", f.Addrs()[0])
		if err != nil {
			return nil, err
		}
		return c.(transport), nil
	}
	c, err := net.Dial("tcp", f.TLSAddrs()[0])
	if err != nil {
		return nil, err
	}
	secure := tls.Client(c, f.secure)
	if err := secure.Handshake(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return &tlsTransport{secure, c.(*net.TCPConn)}, nil
}
