package certs

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/unitgate/unitgate/edge/certs/certstest"
)

// logged is what a Store has said.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// take is what was said since the last take.
func (l *logged) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.buf.String()
	l.buf.Reset()
	return s
}

// shop is a store of certificates in a directory of the test's.
type shop struct {
	*certstest.Authority
	t     *testing.T
	log   logged
	files []Files
}

func newShop(t *testing.T, leaves ...certstest.Leaf) *shop {
	s := &shop{Authority: certstest.New(t), t: t}
	dir := t.TempDir()
	for i, leaf := range leaves {
		f := Files{filepath.Join(dir, string(rune('a'+i))+".pem"), filepath.Join(dir, string(rune('a'+i))+".key")}
		s.Issue(f.Cert, f.Key, leaf)
		s.files = append(s.files, f)
	}
	return s
}

func (s *shop) open() *Store {
	s.t.Helper()
	store, err := Open(s.files, slog.New(slog.NewTextHandler(&s.log, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	return store
}

// served is the serial number and the names of the certificate that a client gets who asks for name.
func served(t *testing.T, store *Store, name string, suites ...uint16) (serial int64, names string) {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	done := make(chan error, 1)
	go func() {
		done <- tls.Server(server, &tls.Config{GetCertificate: store.Certificate, MinVersion: tls.VersionTLS12}).Handshake()
	}()
	cfg := &tls.Config{ServerName: name, InsecureSkipVerify: true, CipherSuites: suites}
	if suites != nil {
		cfg.MaxVersion = tls.VersionTLS12
	}
	c := tls.Client(client, cfg)
	if err := c.Handshake(); err != nil {
		t.Fatalf("as %q: %v", name, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	leaf := c.ConnectionState().PeerCertificates[0]
	return leaf.SerialNumber.Int64(), strings.Join(leaf.DNSNames, " ")
}

func TestCertificateByName(t *testing.T) {
	s := newShop(t,
		certstest.Leaf{Names: []string{"first.example", "127.0.0.1"}},
		certstest.Leaf{Names: []string{"*.Shop.example", "shop.example"}},
		certstest.Leaf{Names: []string{"ws.shop.example"}},
	)
	store := s.open()
	for name, want := range map[string]string{
		"":                    "first.example",
		"first.example":       "first.example",
		"unknown.example":     "first.example",
		"127.0.0.1":           "first.example", // an address is never asked for by name
		"shop.example":        "*.Shop.example shop.example",
		"SHOP.example":        "*.Shop.example shop.example",
		"a.shop.example":      "*.Shop.example shop.example",
		"ws.shop.example":     "ws.shop.example", // the exact name wins
		"a.ws.shop.example":   "first.example",   // a wildcard is one label
		"*.shop.example.evil": "first.example",
	} {
		if _, got := served(t, store, name); got != want {
			t.Errorf("asked for %q got the certificate of %q, want %q", name, got, want)
		}
	}
	if out := s.log.take(); out != "" {
		t.Errorf("nothing is odd, but the log says %s", out)
	}
}

func TestCertificateThatTheClientCanUse(t *testing.T) {
	s := newShop(t, certstest.Leaf{Names: []string{"shop.example"}}, certstest.Leaf{Names: []string{"shop.example"}, RSA: true})
	store := s.open()
	first, _ := served(t, store, "shop.example", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	second, _ := served(t, store, "shop.example", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)
	if first == second {
		t.Error("one name with an ECDSA and an RSA certificate: both clients got the same")
	}
}

func TestRefresh(t *testing.T) {
	s := newShop(t, certstest.Leaf{Names: []string{"a.example"}}, certstest.Leaf{Names: []string{"b.example"}})
	store := s.open()
	before, _ := served(t, store, "b.example")
	store.Refresh()
	if again, _ := served(t, store, "b.example"); again != before || s.log.take() != "" {
		t.Error("nothing has changed, but something happened")
	}

	s.Issue(s.files[1].Cert, s.files[1].Key, certstest.Leaf{Names: []string{"c.example"}})
	store.Refresh()
	if _, names := served(t, store, "c.example"); names != "c.example" {
		t.Errorf("the new certificate is not served, but %q", names)
	}
	if _, names := served(t, store, "b.example"); names != "a.example" {
		t.Errorf("the old name still leads to %q", names)
	}
	if out := s.log.take(); !strings.Contains(out, "level=INFO") || !strings.Contains(out, "c.example") {
		t.Errorf("the log says %q", out)
	}
}

func TestRefreshRefusesWhatIsBroken(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *shop, Files){
		"no PEM": func(t *testing.T, _ *shop, f Files) { write(t, f.Cert, "nonsense") },
		"empty":  func(t *testing.T, _ *shop, f Files) { write(t, f.Key, "") },
		"half": func(t *testing.T, _ *shop, f Files) {
			b, err := os.ReadFile(f.Cert)
			if err != nil {
				t.Fatal(err)
			}
			write(t, f.Cert, string(b[:len(b)/2]))
		},
		"another key": func(_ *testing.T, s *shop, f Files) { s.Issue(f.Cert+".other", f.Key, certstest.Leaf{}) },
		"removed": func(t *testing.T, _ *shop, f Files) {
			if err := os.Remove(f.Key); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, certstest.Leaf{Names: []string{"a.example"}}, certstest.Leaf{Names: []string{"b.example"}})
			store := s.open()
			before, _ := served(t, store, "b.example")
			spoil(t, s, s.files[1])
			store.Refresh()
			if after, _ := served(t, store, "b.example"); after != before {
				t.Error("the old certificate is gone")
			}
			if out := s.log.take(); !strings.Contains(out, "level=ERROR") || !strings.Contains(out, s.files[1].Cert) {
				t.Errorf("the log says %q", out)
			}
			store.Refresh()
			if out := s.log.take(); out != "" {
				t.Errorf("the same again: %q", out)
			}
			s.Issue(s.files[1].Cert, s.files[1].Key, certstest.Leaf{Names: []string{"b.example"}})
			store.Refresh()
			if after, _ := served(t, store, "b.example"); after == before {
				t.Error("the mended certificate is not served")
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	s := newShop(t, certstest.Leaf{}, certstest.Leaf{})
	log := slog.New(slog.DiscardHandler)
	for what, files := range map[string][]Files{
		"needs a certificate": nil,
		"no such file":        {s.files[0], {Cert: "missing.pem", Key: s.files[0].Key}},
		"does not match":      {{Cert: s.files[0].Cert, Key: s.files[1].Key}},
		"PEM":                 {{Cert: s.files[0].Key, Key: s.files[0].Key}},
	} {
		if _, err := Open(files, log); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want an error with %q", err, what)
		}
	}
}

func TestRemarks(t *testing.T) {
	s := newShop(t, certstest.Leaf{Expired: true, Names: []string{"a.example"}}, certstest.Leaf{})
	if err := os.Chmod(s.files[1].Key, 0o644); err != nil {
		t.Fatal(err)
	}
	store := s.open()
	out := s.log.take()
	for _, want := range []string{"has expired", "no DNS name", "open to every user"} {
		if strings.Count(out, want) != 1 {
			t.Errorf("the log says %q, want %q once", out, want)
		}
	}
	store.Refresh()
	if out := s.log.take(); out != "" {
		t.Errorf("remarked again: %q", out)
	}
}

// Watch looks by itself, and ends with its context.
func TestWatch(t *testing.T) {
	s := newShop(t, certstest.Leaf{Names: []string{"a.example"}})
	store := s.open()
	synctest.Test(t, func(t *testing.T) {
		go store.Watch(t.Context())
		s.Issue(s.files[0].Cert, s.files[0].Key, certstest.Leaf{Names: []string{"b.example"}})
		for range 3 {
			synctest.Wait()
			if strings.Contains(s.log.take(), "b.example") {
				return
			}
			<-time.After(watchInterval)
		}
		t.Error("the change went unnoticed")
	})
}
