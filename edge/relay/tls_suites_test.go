package relay

import (
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/edge/certs"
	"github.com/unitgate/unitgate/edge/certs/certstest"
)

// Of all suites that this Go knows for TLS 1.2, an edge takes those with forward secrecy and authenticated encryption, each
// with either kind of certificate that has a use for it, and no other: none with CBC among them.
func TestTLSSuites(t *testing.T) {
	dir, authority := t.TempDir(), certstest.New(t)
	for key, leaf := range map[string]certstest.Leaf{"ECDSA": {}, "RSA": {RSA: true}} {
		leaf.Names = []string{"edge.example"}
		files := certs.Files{Cert: filepath.Join(dir, key+".pem"), Key: filepath.Join(dir, key+".key")}
		authority.Issue(files.Cert, files.Key, leaf)
		store, err := certs.Open([]certs.Files{files}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		f := start(t, Config{TLSAddrs: []string{"127.0.0.1:0"}, Certificate: store.Certificate})
		offer := func(version uint16, suites ...uint16) (uint16, error) {
			c, err := tls.Dial("tcp", f.TLSAddrs()[0], &tls.Config{
				RootCAs: authority.Pool, ServerName: "edge.example", MinVersion: tls.VersionTLS12, MaxVersion: version, CipherSuites: suites,
			})
			if err != nil {
				return 0, err
			}
			defer c.Close()
			return c.ConnectionState().CipherSuite, nil
		}
		taken := 0
		for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			if s.SupportedVersions[0] > tls.VersionTLS12 {
				continue
			}
			want := strings.HasPrefix(s.Name, "TLS_ECDHE_"+key+"_") && !strings.Contains(s.Name, "CBC") && !strings.Contains(s.Name, "RC4")
			if _, err := offer(tls.VersionTLS12, s.ID); (err == nil) != want {
				t.Errorf("%s certificate, %s: %v", key, s.Name, err)
			}
			if want {
				taken++
			}
		}
		if taken != 3 {
			t.Errorf("%s certificate: %d suites", key, taken)
		}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if _, err := offer(version); err != nil {
				t.Errorf("%s certificate, version %x: %v", key, version, err)
			}
		}
	}
}
