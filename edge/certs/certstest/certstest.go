// Package certstest makes certificates for tests: a new authority for each test, and leaves that it signs.
package certstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates. One test's goroutine uses it.
type Authority struct {
	t      testing.TB
	cert   *x509.Certificate
	key    crypto.Signer
	serial int64
	Pool   *x509.CertPool // trusts it
}

// Leaf is what a certificate shall be. The zero value is valid for an hour, has an ECDSA key and no names.
type Leaf struct {
	Names   []string // DNS names and IP addresses
	RSA     bool
	Expired bool
	Peer    bool // it also dials, and proves who it is
}

// New makes an authority.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, key: newKey(t, false), Pool: x509.NewCertPool()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority of " + t.Name()}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.sign(template, template, a.key.Public(), a.key)
	a.Pool.AddCert(a.cert)
	return a
}

func newKey(t testing.TB, useRSA bool) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	if useRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *Authority) sign(template, parent *x509.Certificate, public any, key crypto.Signer) *x509.Certificate {
	a.t.Helper()
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// CAFile writes the authority's own certificate and returns the file's name.
func (a *Authority) CAFile() string {
	a.t.Helper()
	name := filepath.Join(a.t.TempDir(), "ca.pem")
	a.write(name, "CERTIFICATE", a.cert.Raw, 0o644)
	return name
}

// Issue writes a certificate and its key to the two files.
func (a *Authority) Issue(certFile, keyFile string, leaf Leaf) {
	a.t.Helper()
	template := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if leaf.Peer {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, name := range leaf.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	if leaf.Expired {
		template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	key := newKey(a.t, leaf.RSA)
	cert := a.sign(template, a.cert, key.Public(), a.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(certFile, "CERTIFICATE", cert.Raw, 0o644)
	a.write(keyFile, "PRIVATE KEY", der, 0o600)
}

// write replaces a file as renewals do: whoever reads it sees all of the old or all of the new content.
func (a *Authority) write(name, kind string, der []byte, mode os.FileMode) {
	a.t.Helper()
	next := name + ".next"
	err := os.WriteFile(next, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
	if err == nil {
		err = os.Rename(next, name)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}
