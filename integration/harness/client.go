package harness

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Handshake is a WebSocket handshake as a client sends it.
type Handshake struct {
	Addr     string // HOST:PORT of the edge
	Host     string // Host header; "": Addr
	Target   string // request target; "": /
	RouterID string // header routerId; "": none
	Header   [][2]string
}

// lines are the request's header section.
func (h Handshake) lines() string {
	host, target := h.Host, h.Target
	if host == "" {
		host = h.Addr
	}
	if target == "" {
		target = "/"
	}
	text := "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if h.RouterID != "" {
		text += "routerId: " + h.RouterID + "\r\nunitType: unit_type\r\n"
	}
	for _, field := range h.Header {
		text += field[0] + ": " + field[1] + "\r\n"
	}
	return text + "\r\n"
}

// Client is a bare WebSocket client: it does what it is told, and shows every frame.
// One goroutine may read while others send.
type Client struct {
	// BeforeClose, if set, is called between the other side's Close and our answer to it.
	// What it sends still belongs to the session (RFC 6455 section 5.5.1).
	BeforeClose func()

	conn net.Conn
	in   *bufio.Reader

	mu     sync.Mutex // orders what is sent
	closed bool       // our Close went out, nothing may follow it (RFC 6455 section 5.5.1)
}

// handshakeWithin covers the longest time an edge may hold a handshake (policy hold, 5 s) and then some.
const handshakeWithin = 15 * time.Second

// Dial sends a handshake. The answer is returned too when it is not 101: then the client is nil and the body already read.
func Dial(h Handshake) (*Client, *http.Response, error) {
	return DialRaw(h.Addr, []byte(h.lines()))
}

// DialRaw sends a request as it stands and reads the answer.
func DialRaw(addr string, request []byte) (*Client, *http.Response, error) {
	conn, err := net.DialTimeout("tcp", addr, handshakeWithin)
	if err != nil {
		return nil, nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(handshakeWithin)); err != nil {
		return nil, nil, err
	}
	if _, err := conn.Write(request); err != nil {
		conn.Close()
		return nil, nil, err
	}
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("reading the handshake's answer: %w", err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		_, err := io.Copy(io.Discard, response.Body)
		return nil, response, err
	}
	return &Client{conn: conn, in: in}, response, conn.SetDeadline(time.Time{})
}

// MustDial fails the test unless the answer is 101.
func MustDial(t testing.TB, h Handshake) *Client {
	t.Helper()
	c, response, err := Dial(h)
	if err != nil {
		t.Fatalf("%s as %q: %v", h.Addr, h.RouterID, err)
	}
	if c == nil {
		t.Fatalf("%s as %q: answered %s", h.Addr, h.RouterID, response.Status)
	}
	t.Cleanup(c.Drop)
	return c
}

// LocalAddr is this end of the client's TCP connection.
func (c *Client) LocalAddr() string { return c.conn.LocalAddr().String() }

// errClosed is what Send says after our Close.
var errClosed = fmt.Errorf("our Close was sent: %w", net.ErrClosed)

// Send sends a text message. Without an error it precedes our Close on the connection.
func (c *Client) Send(text string) error { return c.send(OpText, []byte(text)) }

// SendClose sends a Close; nothing is sent after it.
func (c *Client) SendClose(code uint16, reason string) error {
	return c.send(OpClose, ClosePayload(code, reason))
}

func (c *Client) send(opcode byte, payload []byte) error {
	frame := AppendFrame(nil, opcode, &[4]byte{0x37, 0xfa, 0x21, 0x3d}, payload)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.closed = opcode == OpClose
	_, err := c.conn.Write(frame)
	return err
}

// CloseError is the Close that the other side sent.
type CloseError struct {
	Code   uint16
	Reason string
}

func (e *CloseError) Error() string { return fmt.Sprintf("closed with %d %q", e.Code, e.Reason) }

// Read returns the next message. It answers pings, and answers a Close with the same code
// before it returns a *CloseError. within bounds the wait; 0 is for ever.
func (c *Client) Read(within time.Duration) ([]byte, error) {
	deadline := time.Time{}
	if within > 0 {
		deadline = time.Now().Add(within)
	}
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	for {
		opcode, payload, err := readFrame(c.in)
		if err != nil {
			return nil, err
		}
		switch opcode {
		case OpPing:
			if err := c.send(OpPong, payload); err != nil {
				return nil, err
			}
		case OpPong:
		case OpClose:
			closed := &CloseError{Code: 1005}
			if len(payload) >= 2 {
				closed = &CloseError{Code: binary.BigEndian.Uint16(payload), Reason: string(payload[2:])}
			}
			if c.BeforeClose != nil {
				c.BeforeClose()
			}
			_ = c.send(OpClose, payload) // the other side may be gone already
			return nil, closed
		default:
			return payload, nil
		}
	}
}

// Raw returns the connection, for tests that look at bytes.
func (c *Client) Raw() io.ReadWriter {
	return struct {
		io.Reader
		io.Writer
	}{c.in, c.conn}
}

// Reset breaks the TCP connection off with a RST.
func (c *Client) Reset() {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.conn.Close()
}

// Drop closes the TCP connection without a word.
func (c *Client) Drop() { c.conn.Close() }
