package probe

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
)

// frame builds what an origin says, from opcode and payload.
func frame(op byte, payload string) []byte {
	out := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		out = append(out, byte(n))
	case n < 1<<16:
		out = append(out, 126, byte(n>>8), byte(n))
	default:
		out = append(out, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, payload...)
}

// The pong is found behind whatever the origin says first, and its absence has a reason.
func TestPing(t *testing.T) {
	pong := frame(opPong, "unitgate")
	for _, c := range []struct {
		name  string
		said  []byte
		fails string
	}{
		{"at once", pong, ""},
		{"after a greeting", append(frame(1, "Welcome to the server!"), pong...), ""},
		{"after messages of every length", bytes.Join([][]byte{frame(1, ""), frame(2, strings.Repeat("x", 126)), frame(2, strings.Repeat("y", 70_000)), pong}, nil), ""},
		{"after an unsolicited pong", append(frame(opPong, "other"), pong...), ""},
		{"closed", frame(opClose, "\x03\xe9"), "closed the session"},
		{"ended", frame(1, "hi"), "no pong: EOF"},
		{"ended within a frame", frame(1, "hello")[:4], "no pong"},
		{"a length that no memory has", []byte{0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, "no pong"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sent bytes.Buffer
			err := ping(&sent, bufio.NewReader(bytes.NewReader(c.said)))
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%v", err)
			}
			if !bytes.HasPrefix(sent.Bytes(), []byte{0x89, 0x88, 0, 0, 0, 0}) || (err == nil) != bytes.HasSuffix(sent.Bytes(), []byte{0x88, 0x82, 0, 0, 0, 0, 3, 0xe8}) {
				t.Errorf("sent %x", sent.Bytes())
			}
		})
	}
}

// Whatever an origin says, next takes no more than it needs and ends.
func FuzzNext(f *testing.F) {
	f.Add(frame(1, "hello"))
	f.Add(frame(2, strings.Repeat("x", 300)))
	f.Add([]byte{0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bufio.NewReader(bytes.NewReader(b))
		for range len(b) + 1 {
			if _, payload, err := next(in); err != nil {
				return
			} else if len(payload) > 127 {
				t.Fatalf("%d bytes kept", len(payload))
			}
		}
		t.Fatal("more frames than bytes")
	})
}

// A server that accepts and says nothing, and one that is not there, have their reason in the time given.
func TestTryFails(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() }()
		}
	}()
	service := events.Service{Host: "ws.shop.example", Path: "/"}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r := (Front{Addr: silent.Addr().String()}).Try(ctx, "s", service); !strings.Contains(r.Failed, "no answer in time") || r.Status != 0 || r.Service != service {
		t.Errorf("%+v", r)
	}
	_ = silent.Close()
	if r := (Front{Addr: silent.Addr().String()}).Try(t.Context(), "s", service); !strings.Contains(r.Failed, "refused") {
		t.Errorf("%+v", r)
	}
}

// An edge may advertise a port that wants TLS.
func TestTryOverTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if r.Host != "ws.shop.example:81" || r.Header.Get(handshake.ProbeField) != "s" || r.TLS == nil || r.TLS.ServerName != "ws.shop.example" {
			t.Errorf("%s %v %v", r.Host, r.Header, r.TLS)
		}
		_, _ = c.Write(append([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n"), frame(opPong, "unitgate")...))
		_, _ = io.Copy(io.Discard, rw)
	}))
	defer srv.Close()
	f := Front{Addr: srv.Listener.Addr().String()}
	if r := f.Try(t.Context(), "s", events.Service{Host: "ws.shop.example:81", Path: "/"}); r.Failed != "" || r.Status != 101 {
		t.Errorf("%+v", r)
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no cookie", http.StatusBadRequest) }))
	defer plain.Close()
	f.Addr = plain.Listener.Addr().String()
	if r := f.Try(t.Context(), "s", events.Service{Host: "a", Path: "/"}); r.Status != 400 || !strings.Contains(r.Failed, "no cookie") {
		t.Errorf("an origin's own 400: %+v", r)
	}
}
