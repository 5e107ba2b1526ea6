// Package certs keeps the TLS certificates of an edge: read from files, chosen by the name that a client asks for, and
// read again when the files change.
//
// A Store is made by Open; a nil one has no certificates. Certificate may be called by any number of goroutines at any time; a change of the files
// reaches the handshakes that begin after it, and nothing else: a session keeps what it was opened with.
package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// Files is one certificate: a PEM file with its chain, the leaf first, and a PEM file with the leaf's private key.
type Files struct{ Cert, Key string }

var errNone = errors.New("TLS needs a certificate: name its file and that of its key")

// Store is a set of certificates.
type Store struct {
	log   *slog.Logger
	pairs []pair // whoever calls Refresh owns them, after Open has returned
	index atomic.Pointer[index]
}

// pair is a certificate and the files that it came from.
type pair struct {
	Files
	loaded *tls.Certificate
	seen   [2]version // of the files when they were last read, whether that went well or not
}

// index finds certificates by name. It is never changed, only replaced.
type index struct {
	byName map[string][]*tls.Certificate // exact names and wildcards ("*.example.com"), lower case, in Open's order
	first  *tls.Certificate
}

// Open reads the certificates; the first is for clients that ask for no name, or for one that none has. log gets what
// is odd about them, and later what becomes of changed files.
func Open(files []Files, log *slog.Logger) (*Store, error) {
	if len(files) == 0 {
		return nil, errNone
	}
	s := &Store{log: log}
	for _, f := range files {
		p := pair{Files: f}
		if err := p.load(); err != nil {
			return nil, err
		}
		s.pairs = append(s.pairs, p)
		s.remark(&p)
	}
	s.compile()
	return s, nil
}

// Certificate chooses by the name that the client asked for (SNI, RFC 6066 section 3): a certificate with that very
// name, else one whose wildcard covers it (RFC 6125 section 6.4.3: one label), else the first of all. Where several
// fit, it is the first one whose key the client can use. Only a nil Store fails. It serves as tls.Config.GetCertificate.
func (s *Store) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s == nil {
		return nil, errNone
	}
	x := s.index.Load()
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if c := usable(x.byName[name], hello); c != nil {
		return c, nil
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if c := usable(x.byName["*."+parent], hello); c != nil {
			return c, nil
		}
	}
	return x.first, nil
}

// usable is the first of list that the client supports; if it supports none, the first: the handshake then says why.
func usable(list []*tls.Certificate, hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(list) == 1 {
		return list[0]
	}
	for _, c := range list {
		if hello.SupportsCertificate(c) == nil {
			return c
		}
	}
	if len(list) > 0 {
		return list[0]
	}
	return nil
}

// compile makes the index of what is loaded.
func (s *Store) compile() {
	x := &index{byName: map[string][]*tls.Certificate{}, first: s.pairs[0].loaded}
	for i := range s.pairs {
		c := s.pairs[i].loaded
		for _, name := range c.Leaf.DNSNames {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			x.byName[name] = append(x.byName[name], c)
		}
	}
	s.index.Store(x)
}

// remark logs what is odd about a certificate that is used all the same.
func (s *Store) remark(p *pair) {
	leaf, now := p.loaded.Leaf, time.Now()
	switch {
	case now.After(leaf.NotAfter):
		s.log.Warn("TLS certificate has expired: clients will refuse it", "file", p.Cert, "notAfter", leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		s.log.Warn("TLS certificate is not valid yet: clients will refuse it", "file", p.Cert, "notBefore", leaf.NotBefore)
	}
	if len(leaf.DNSNames) == 0 {
		s.log.Warn("TLS certificate has no DNS name: it is only used if it is the first", "file", p.Cert)
	}
	if p.exposed() {
		s.log.Warn("TLS key file is open to every user of this machine: chmod o= it", "file", p.Key)
	}
}

// load reads the pair anew. On an error the old certificate stays.
func (p *pair) load() error {
	seen, err := p.versions()
	if err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	p.seen = seen // from before the reading: a change during it shows as one more
	c, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		return fmt.Errorf("TLS certificate %s with key %s: %w", p.Cert, p.Key, err)
	}
	p.loaded = &c
	return nil
}
