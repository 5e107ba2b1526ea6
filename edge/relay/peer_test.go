package relay

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// peer is one end of a connection in a test.
type peer struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
}

func newPeer(t testing.TB, c net.Conn) *peer {
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(3 * patience))
	return &peer{Conn: c, t: t, br: bufio.NewReader(c)}
}

// tcp is the connection itself, below TLS.
func (p *peer) tcp() *net.TCPConn {
	if t, ok := p.Conn.(*tlsTransport); ok {
		return t.tcp
	}
	return p.Conn.(*net.TCPConn)
}

func (p *peer) send(b ...byte) {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) read(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	if k, err := io.ReadFull(p.br, b); err != nil {
		p.t.Fatalf("read %d of %d bytes: %v", k, n, err)
	}
	return b
}

func (p *peer) want(b ...byte) {
	p.t.Helper()
	if got := p.read(len(b)); !bytes.Equal(got, b) {
		p.t.Fatalf("got %q, want %q", got, b)
	}
}

// wantEnd expects an orderly end of the stream and nothing before it.
func (p *peer) wantEnd() {
	p.t.Helper()
	if b, err := io.ReadAll(p.br); err != nil || len(b) > 0 {
		p.t.Fatalf("got %q and %v, want the end of the stream", b, err)
	}
}

// wantReset reads until the connection breaks.
func (p *peer) wantReset() {
	p.t.Helper()
	if n, err := io.Copy(io.Discard, p.br); !errors.Is(err, syscall.ECONNRESET) {
		p.t.Fatalf("got %d bytes and %v, want a reset", n, err)
	}
}

// head reads the head of a request or response, its line ends included.
func (p *peer) head() string {
	p.t.Helper()
	var b strings.Builder
	for {
		line, err := p.br.ReadString('\n')
		if err != nil {
			p.t.Fatalf("head ends after %q: %v", b.String(), err)
		}
		b.WriteString(line)
		if line == "\r\n" {
			return b.String()
		}
	}
}

// readFrame reads one frame and returns its first byte and payload.
func readFrame(r io.Reader) (first byte, payload []byte, err error) {
	h := make([]byte, 14)
	if _, err := io.ReadFull(r, h[:2]); err != nil {
		return 0, nil, err
	}
	n, more := uint64(h[1]&0x7f), 0
	switch n {
	case 126:
		more = 2
	case 127:
		more = 8
	}
	if h[1]&0x80 != 0 {
		more += 4
	}
	if _, err := io.ReadFull(r, h[2:2+more]); err != nil {
		return 0, nil, err
	}
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		n = binary.BigEndian.Uint64(h[2:])
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	if h[1]&0x80 != 0 {
		for i, key := 0, h[2+more-4:]; i < len(b); i++ {
			b[i] ^= key[i%4]
		}
	}
	return h[0], b, err
}

func (p *peer) frame() (byte, []byte) {
	p.t.Helper()
	first, b, err := readFrame(p.br)
	if err != nil {
		p.t.Fatal(err)
	}
	return first, b
}

func (p *peer) wantClose(code uint16, text string) {
	p.t.Helper()
	op, b := p.frame()
	if op != 0x88 || len(b) < 2 || binary.BigEndian.Uint16(b) != code || string(b[2:]) != text {
		p.t.Fatalf("got frame %#x %q, want Close %d %q", op, b, code, text)
	}
}

// frameOf is a frame; mask says whether a client sends it.
func frameOf(first byte, payload []byte, mask bool) []byte {
	b := []byte{first, 0}
	switch n := len(payload); {
	case n < 126:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if !mask {
		return append(b, payload...)
	}
	b[1] |= 0x80
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}

func closeFrame(code uint16, mask bool) []byte {
	return frameOf(0x88, binary.BigEndian.AppendUint16(nil, code), mask)
}

// status reads a response and returns its status, head and body.
func (p *peer) status() (int, *http.Response, string) {
	p.t.Helper()
	resp, err := http.ReadResponse(p.br, &http.Request{Method: "GET"})
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, resp, string(b)
}

// backend is an origin that hands every connection to the test.
type backend struct {
	t     *testing.T
	ln    net.Listener
	conns chan *peer
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{t: t, ln: ln, conns: make(chan *peer, 4096)}
	done := make(chan struct{})
	t.Cleanup(func() { _ = ln.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b.conns <- newPeer(t, c)
		}
	}()
	return b
}

func (b *backend) addr() string { return b.ln.Addr().String() }

// next is the next connection, with its request read.
func (b *backend) next() (*peer, string) {
	b.t.Helper()
	select {
	case p := <-b.conns:
		return p, p.head()
	case <-time.After(patience):
		b.t.Fatal("the origin was not dialled")
		return nil, ""
	}
}

// nextHop is the next connection, on which another edge begins TLS.
func (b *backend) nextHop(key ed25519.PrivateKey) *peer {
	b.t.Helper()
	select {
	case p := <-b.conns:
		x, err := newHopTLS(key)
		if err != nil {
			b.t.Fatal(err)
		}
		c := tls.Server(p.Conn, x.server)
		if err := c.Handshake(); err != nil {
			b.t.Fatal(err)
		}
		return newPeer(b.t, &tlsTransport{c, p.Conn.(*net.TCPConn)})
	case <-time.After(patience):
		b.t.Fatal("the edge was not dialled")
		return nil
	}
}
