package relay

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// Content types of records, and messages (RFC 8446 section 5.1 and appendix B.3).
const (
	recordApplication = 23
	msgTicket         = 4
	msgKeyUpdate      = 24

	alertClosed = 0  // close_notify
	alertBadMAC = 20 // bad_record_mac
	alertWrong  = 10 // unexpected_message
	updateMine  = 0  // update_not_requested
	updateBoth  = 1  // update_requested
)

// rawTLS is a TLS 1.3 client that writes its records by hand after the handshake: crypto/tls, as a client, neither
// updates keys nor makes mistakes.
type rawTLS struct {
	t       testing.TB
	tcp     *net.TCPConn
	held    []byte // a client's Finished, if it is to be sent along with what comes first
	in, out *trafficKeys
	plain   []byte // application data that was read and not asked for yet
}

// trafficKeys protect one direction (RFC 8446 sections 5.2, 5.3 and 7.3), with TLS_AES_128_GCM_SHA256.
type trafficKeys struct {
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func newTrafficKeys(secret []byte) *trafficKeys {
	block, err := aes.NewCipher(expandLabel(secret, "key", 16))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &trafficKeys{secret: secret, aead: aead, iv: expandLabel(secret, "iv", 12)}
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
func expandLabel(secret []byte, label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "+label...)
	b, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	if err != nil {
		panic(err)
	}
	return b
}

// next are the keys after a KeyUpdate (RFC 8446 section 7.2).
func (k *trafficKeys) next() *trafficKeys {
	return newTrafficKeys(expandLabel(k.secret, "traffic upd", 32))
}

func (k *trafficKeys) nonce() []byte {
	n := bytes.Clone(k.iv)
	for i, c := range binary.BigEndian.AppendUint64(nil, k.seq) {
		n[4+i] ^= c
	}
	k.seq++
	return n
}

// seal makes a record of any content type, with padding.
func (k *trafficKeys) seal(kind byte, payload []byte, padding int) []byte {
	inner := append(append(bytes.Clone(payload), kind), make([]byte, padding)...)
	head := []byte{recordApplication, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(inner)+k.aead.Overhead()))
	return k.aead.Seal(head, k.nonce(), inner, head)
}

func (k *trafficKeys) open(record []byte) (kind byte, payload []byte, err error) {
	inner, err := k.aead.Open(nil, k.nonce(), record[5:], record[:5])
	if err != nil {
		return 0, nil, err
	}
	inner = bytes.TrimRight(inner, "\x00")
	return inner[len(inner)-1], inner[:len(inner)-1], nil
}

// recordConn gives its reader no more than the current record, and keeps the last write if it shall.
type recordConn struct {
	net.Conn
	end    recordEnd
	keep   bool
	writes int
	held   []byte
}

func (c *recordConn) Read(p []byte) (int, error) {
	n := 5 - int(c.end.have)
	if n == 0 {
		n = int(c.end.left)
	}
	k, err := c.Conn.Read(p[:min(n, len(p))])
	if c.end.within(p[:k]) != k {
		panic("read too far")
	}
	return k, err
}

// Write keeps what comes after the hello: the Finished.
func (c *recordConn) Write(p []byte) (int, error) {
	if c.writes++; c.keep && c.writes > 1 {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// secrets collects what crypto/tls logs of a handshake.
type secrets struct{ text strings.Builder }

func (s *secrets) Write(b []byte) (int, error) { return s.text.Write(b) }

func (s *secrets) of(t testing.TB, label string) []byte {
	t.Helper()
	for line := range strings.Lines(s.text.String()) {
		if f := strings.Fields(line); f[0] == label {
			b, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("no %s in %q", label, s.text.String())
	return nil
}

// dialRaw does a handshake and takes the keys over. With holdFinished the end of the handshake is sent together with
// the first record.
func (f *fixture) dialRaw(holdFinished bool) *rawTLS {
	f.t.Helper()
	c, err := net.Dial("tcp", f.TLSAddrs()[0])
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(3 * patience))
	var log secrets
	cfg := f.secure.Clone()
	cfg.KeyLogWriter, cfg.MinVersion = &log, tls.VersionTLS13
	below := &recordConn{Conn: c, keep: holdFinished}
	client := tls.Client(below, cfg)
	if err := client.Handshake(); err != nil {
		f.t.Fatal(err)
	}
	if suite := client.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		f.t.Skipf("this machine has no fast AES: it prefers %s, which this test does not speak", tls.CipherSuiteName(suite))
	}
	return &rawTLS{
		t: f.t, tcp: c.(*net.TCPConn), held: below.held,
		in: newTrafficKeys(log.of(f.t, "SERVER_TRAFFIC_SECRET_0")), out: newTrafficKeys(log.of(f.t, "CLIENT_TRAFFIC_SECRET_0")),
	}
}

// openRaw makes a session.
func (f *fixture) openRaw(b *backend, routerID string) (*rawTLS, *peer) {
	f.t.Helper()
	c := f.dialRaw(false)
	c.send([]byte(requestFor(routerID)))
	o, _ := b.next()
	o.send([]byte(switching)...)
	c.want([]byte(switching))
	return c, o
}

// put writes bytes as they are, behind what is held.
func (c *rawTLS) put(b []byte) {
	c.t.Helper()
	b = append(c.held, b...)
	c.held = nil
	if _, err := c.tcp.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// send writes application data in records of up to 16 KiB.
func (c *rawTLS) send(b []byte) {
	c.t.Helper()
	var all []byte
	for len(b) > 0 {
		n := min(len(b), 16<<10)
		all = append(all, c.out.seal(recordApplication, b[:n], 0)...)
		b = b[n:]
	}
	c.put(all)
}

// keyUpdate is the record that announces new keys, which are used from then on.
func (c *rawTLS) keyUpdate(request byte) []byte {
	record := c.out.seal(recordHandshake, []byte{msgKeyUpdate, 0, 0, 1, request}, 0)
	c.out = c.out.next()
	return record
}

// record reads one record. Key updates of the relay take effect.
func (c *rawTLS) record() (kind byte, payload []byte, err error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(c.tcp, head); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(c.tcp, body); err != nil {
		return 0, nil, fmt.Errorf("in a record: %w", err)
	}
	kind, payload, err = c.in.open(slices.Concat(head, body))
	if err == nil && kind == recordHandshake && payload[0] == msgKeyUpdate {
		c.in = c.in.next()
	}
	return kind, payload, err
}

// want reads application data, and tickets in between.
func (c *rawTLS) want(b []byte) {
	c.t.Helper()
	for len(c.plain) < len(b) {
		kind, payload, err := c.record()
		switch {
		case err != nil:
			c.t.Fatalf("%v after %d bytes", err, len(c.plain))
		case kind == recordApplication:
			c.plain = append(c.plain, payload...)
		case kind != recordHandshake || payload[0] != msgTicket:
			c.t.Fatalf("got a record of type %d: %x", kind, payload)
		}
	}
	if !bytes.Equal(c.plain[:len(b)], b) {
		c.t.Fatalf("got %.100q, want %.100q", c.plain[:len(b)], b)
	}
	c.plain = c.plain[len(b):]
}

// wantRecord expects one record, tickets aside.
func (c *rawTLS) wantRecord(kind byte, payload ...byte) {
	c.t.Helper()
	for {
		k, p, err := c.record()
		switch {
		case err != nil:
			c.t.Fatal(err)
		case k == recordHandshake && p[0] == msgTicket:
		case k != kind || !bytes.Equal(p, payload):
			c.t.Fatalf("got a record of type %d: %x, want %d: %x", k, p, kind, payload)
		default:
			return
		}
	}
}

// wantEnd expects close_notify and then FIN.
func (c *rawTLS) wantEnd() {
	c.t.Helper()
	c.wantRecord(recordAlert, 1, alertClosed)
	if _, _, err := c.record(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("behind close_notify: %v", err)
	}
}
