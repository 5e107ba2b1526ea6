package cutover

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// size gives center's edges, which gain in these tests, a capacity.
func (b *bed) size(capacity int) {
	for _, id := range []string{"h1", "h2"} {
		e := b.projector.State().Edges[id]
		b.do(events.JoinEdge{ID: e.ID, Directory: e.Directory, Unit: e.Unit, Cluster: e.Cluster, Address: e.Address, Capacity: capacity})
	}
}

func TestTargetCapacity(t *testing.T) {
	// Every losing edge has 10 sessions on the keys that move, every gaining one has 30 of its own.
	start := func(t *testing.T, capacity int) *bed {
		b := newBed(t)
		if capacity > 0 {
			b.size(capacity)
		}
		for _, id := range []string{"b1", "b2"} {
			b.change(id, func(e *fakeEdge) { e.sessions = 10 })
		}
		for _, id := range []string{"h1", "h2"} {
			b.change(id, func(e *fakeEdge) {
				e.twist = func(r *events.EdgeReport) { r.Sessions = map[string]int{"user": 28, "other": 2} }
			})
		}
		return b
	}
	t.Run("no limit", func(t *testing.T) {
		b := start(t, 0)
		k := b.check("target-capacity")
		b.want(k, events.Pass, "center: 60 present + 20 incoming of no limit")
		if k.Threshold != "center: at most no limit" {
			t.Error(k.Threshold)
		}
	})
	t.Run("room", func(t *testing.T) {
		b := start(t, 45)
		b.want(b.check("target-capacity"), events.Pass, "center: 60 present + 20 incoming of 90")
	})
	t.Run("room only where no client comes", func(t *testing.T) {
		b := start(t, 39)
		b.do(events.PutCluster{Cluster: events.Cluster{ID: "hz-spare", Unit: "center"}})
		b.do(events.JoinEdge{ID: "h9", Directory: directoryOf("h9"), Unit: "center", Cluster: "hz-spare", Address: "127.0.0.1:7109"})
		b.edge("h9", "center")
		b.want(b.check("target-capacity"), events.Fail, "60 present + 20 incoming of 78", "2 sessions more")
		b.want(b.check("target-origins"), events.Pass, "asked by 2 of 2 edges")
		b.want(b.check("target-handshake"), events.Pass, "2 of 2 sessions")
	})
	t.Run("nearly full", func(t *testing.T) {
		b := start(t, 44)
		b.want(b.check("target-capacity"), events.Warn, "of 88", "90 % full")
	})
	t.Run("too small", func(t *testing.T) {
		b := start(t, 39)
		k := b.check("target-capacity")
		b.want(k, events.Fail, "60 present + 20 incoming of 78", "2 sessions more")
		if k.Threshold != "center: at most 78" {
			t.Error(k.Threshold)
		}
	})
	t.Run("a losing edge is silent", func(t *testing.T) {
		b := start(t, 1000)
		b.silence("b2")
		b.want(b.check("target-capacity"), events.Warn, "60 present + 10 incoming of 2000", "b2")
	})
	t.Run("a gaining edge is silent: its room does not count", func(t *testing.T) {
		b := start(t, 39)
		b.silence("h2")
		b.want(b.check("target-capacity"), events.Fail, "30 present + 20 incoming of 39", "11 sessions more", "h2")
	})
	t.Run("no gaining edge answers", func(t *testing.T) {
		b := start(t, 0)
		b.silence("h1")
		b.silence("h2")
		b.want(b.check("target-capacity"), events.Fail, "0 present", "no edge of unit center answers")
	})
}

func TestTargetHandshake(t *testing.T) {
	t.Run("healthy", func(t *testing.T) {
		b := newBed(t)
		var asked []events.Service
		b.change("h1", func(e *fakeEdge) {
			e.try = func(s events.Service) (int, string) { asked = append(asked, s); return 101, "" }
		})
		b.change("b1", func(e *fakeEdge) {
			e.try = func(events.Service) (int, string) { return 502, "the losing side is not asked" }
		})
		k := b.check("target-handshake")
		b.want(k, events.Pass, "2 of 2 sessions")
		if len(asked) != 1 || asked[0] != (events.Service{Host: "ws.shop.example", Path: "/"}) || k.Threshold != "2 of 2" {
			t.Errorf("asked %+v, threshold %q", asked, k.Threshold)
		}
	})
	answers := func(status int, failed string) func(*fakeEdge) {
		return func(e *fakeEdge) { e.try = func(events.Service) (int, string) { return status, failed } }
	}
	for _, c := range []struct {
		name   string
		status int
		failed string
		want   events.CheckState
		says   string
	}{
		{"origins are down", 502, `answered 502 "no origin"`, events.Fail, "edge h2, ws.shop.example/: answered 502"},
		{"nothing there", 404, "answered 404", events.Fail, "404"},
		{"no answer", 0, "connection refused", events.Fail, "connection refused"},
		{"the origin closes", 502, "an origin is there, and closes the connection", events.Warn, "edge h2, ws.shop.example/: an origin is there"},
		{"no pong", 101, "no pong: EOF", events.Warn, "no pong"},
		{"the origin wants credentials", 401, "answered 401", events.Warn, "without credentials"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			b.change("h2", answers(c.status, c.failed))
			b.want(b.check("target-handshake"), c.want, "1 of 2 sessions", c.says)
		})
	}
	t.Run("an edge is silent", func(t *testing.T) {
		b := newBed(t)
		b.silence("h2")
		b.want(b.check("target-handshake"), events.Fail, "1 of 2 sessions", "h2", "not connected")
	})
}

// certificate is a self-signed one for a name, and the pool that trusts it.
func certificate(t *testing.T, name string, remaining time.Duration) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(remaining), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// A name is found or not, and its certificate is looked at where clients come by TLS: on a real TLS server.
func TestSubdomainNames(t *testing.T) {
	const month = 30 * 24 * time.Hour
	for _, c := range []struct {
		name      string
		subdomain string
		scheme    string
		certFor   string // "": nobody speaks TLS
		remaining time.Duration
		why       string // "": all is well
		mild      bool
	}{
		{"plain", "a.shop.test", "ws", "", 0, "", false},
		{"no such name", "gone.shop.test", "ws", "", 0, "does not resolve", false},
		{"no address", "empty.shop.test", "ws", "", 0, "has no address", false},
		{"by definition", "a.localhost", "ws", "", 0, "browsers of this machine", true},
		{"TLS", "a.shop.test", "wss", "a.shop.test", month, "", false},
		{"TLS with a port", "a.shop.test:7443", "https", "a.shop.test", month, "", false},
		{"wrong name", "a.shop.test", "wss", "b.shop.test", month, "not valid", false},
		{"wrong name, auto", "a.shop.test", "auto", "b.shop.test", month, "not valid", false},
		{"expired", "a.shop.test", "wss", "a.shop.test", -time.Minute, "not valid", false},
		{"ends soon", "a.shop.test", "wss", "a.shop.test", time.Hour, "ends on", true},
		{"no TLS", "a.shop.test", "wss", "", 0, "no TLS at", false},
		{"no TLS, auto", "a.shop.test", "auto", "", 0, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := names{dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }}
			n.lookup = func(_ context.Context, host string) ([]string, error) {
				switch host {
				case "a.shop.test":
					return []string{"192.0.2.1"}, nil
				case "empty.shop.test":
					return nil, nil
				}
				return nil, errors.New("no such host")
			}
			if c.certFor != "" {
				cert, pool := certificate(t, c.certFor, c.remaining)
				srv := httptest.NewUnstartedServer(http.NotFoundHandler())
				srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
				srv.Config.ErrorLog = log.New(io.Discard, "", 0)
				srv.StartTLS()
				t.Cleanup(srv.Close)
				n.roots = pool
				n.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if want := map[bool]string{true: "192.0.2.1:7443", false: "192.0.2.1:443"}[strings.HasSuffix(c.subdomain, ":7443")]; address != want {
						t.Errorf("dials %s, want %s", address, want)
					}
					return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
				}
			}
			f := n.look(t.Context(), c.subdomain, c.scheme)
			if (f.why == "") != (c.why == "") || !strings.Contains(f.why, c.why) || f.mild != c.mild {
				t.Errorf("%+v", f)
			}
		})
	}
}

// An operator's sub-domain that leads to the control plane's own machine does not make it
// knock at its ports there and tell what it found.
func TestSubdomainsAreNoPortScanner(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Error("the port was knocked at")
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, to := range []string{"127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254"} {
		n := worldNames(nil)
		n.lookup = func(context.Context, string) ([]string, error) { return []string{to}, nil }
		for _, scheme := range []string{"wss", "https", "auto"} {
			f := n.look(t.Context(), "a.shop.test:"+port, scheme)
			if !f.mild || !strings.Contains(f.why, "is not looked at") {
				t.Errorf("%s by %s: %+v", to, scheme, f)
			}
		}
	}
}

func TestSubdomains(t *testing.T) {
	b := newBed(t)
	b.want(b.check("subdomains"), events.Pass, "2 of 2 sub-domains")
	b.prepare.names.lookup = func(_ context.Context, host string) ([]string, error) {
		if strings.HasPrefix(host, "center.") {
			return []string{"192.0.2.1"}, nil
		}
		return nil, errors.New("no such host")
	}
	b.want(b.check("subdomains"), events.Warn, "1 of 2 sub-domains", "unbj.ws.shop.example", "does not resolve")
	s, c := b.projector.State().Clone(), b.preview()
	d := *s.Domains["ws.shop.example"].Active
	d.DNS.Provider = "rfc2136" // somebody is to publish them
	s.Domains["ws.shop.example"] = events.DomainState{Active: &d}
	k := b.prepare.names.check(t.Context(), s, c)
	k.At = day
	b.want(k, events.Fail, "1 of 2 sub-domains", "unbj.ws.shop.example", "then retry")
}
