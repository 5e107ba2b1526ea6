package relay

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
	origins "github.com/unitgate/unitgate/edge/origin"
)

// ownProbe is a handshake as the edge makes it at itself.
const ownProbe = "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + handshake.ProbeField + ": " + probeSecret + "\r\n\r\n"

// No user sends what the edge's own handshakes do: whatever becomes of them, it says nothing of the origins, nor of what
// users get.
func TestOwnProbesCountAgainstNobody(t *testing.T) {
	unharmed := func(t *testing.T, f *fixture) {
		t.Helper()
		for _, st := range f.Origins() {
			if st.State != "healthy" || st.Failures != 0 || st.Failed != 0 {
				t.Errorf("%+v", st)
			}
		}
		if n := f.counts(); n.Dials != 0 || n.DialErrors != 0 || n.HandshakeErrors != 0 {
			t.Errorf("%+v", n)
		}
	}
	t.Run("it closes", func(t *testing.T) {
		closing := func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 4096)) }
		one, _ := server(t, "127.0.0.1:0", closing)
		other, _ := server(t, "127.0.0.1:0", closing)
		f := start(t, Config{}, one.Addr().String(), other.Addr().String())
		f.own()
		for range 5 {
			code, resp, body := f.connect(ownProbe).status()
			if code != 502 || resp.Header.Get(handshake.ProbeField) != handshake.ProbeClosed || !strings.Contains(body, "closes the connection") {
				t.Errorf("%d %v %q", code, resp.Header, body)
			}
		}
		unharmed(t, f)
		code, resp, _ := f.connect(requestFor("7")).status()
		if code != 502 || resp.Header.Get(handshake.ProbeField) != "" || f.of(one.Addr().String()).Failures != 1 {
			t.Errorf("a user got %d %v, and %+v", code, resp.Header, f.Origins())
		}
	})
	t.Run("it is slow to close", func(t *testing.T) {
		b, other := newBackend(t), newBackend(t)
		f := start(t, Config{Engines: 1}, b.addr(), other.addr())
		f.own()
		p := f.connect(ownProbe)
		f.waitState(stReply)
		f.each(stReply, func(s *session) { s.hs.began -= probePatience + time.Second })
		select {
		case o := <-b.conns:
			o.head()
			_ = o.Close()
		case o := <-other.conns:
			o.head()
			_ = o.Close()
		}
		if code, resp, _ := p.status(); code != 502 || resp.Header.Get(handshake.ProbeField) != handshake.ProbeClosed {
			t.Errorf("%d %v", code, resp.Header)
		}
		unharmed(t, f)
	})
	t.Run("it refuses", func(t *testing.T) {
		f := start(t, Config{}, refusing(t))
		f.own()
		for range 3 {
			if code, resp, _ := f.connect(ownProbe).status(); code != 502 || resp.Header.Get(handshake.ProbeField) != "" {
				t.Errorf("%d %v", code, resp.Header)
			}
		}
		unharmed(t, f)
	})
	for name, end := range map[string]func(t *testing.T, f *fixture, p *peer, origin string){
		"it says nothing": func(t *testing.T, f *fixture, p *peer, _ string) {
			t.Helper()
			f.endReplies()
			if code, _, _ := p.status(); code != 504 {
				t.Errorf("%d", code)
			}
		},
		"nobody waits": func(t *testing.T, f *fixture, p *peer, origin string) {
			t.Helper()
			f.each(stReply, func(s *session) { s.hs.picked -= origins.TooLong + time.Second })
			_ = p.Close()
			f.waitCounts("it is gone", func(Counts) bool { return f.of(origin).Sessions == 0 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			f := start(t, Config{}, b.addr())
			f.own()
			for range 3 {
				p := f.connect(ownProbe)
				b.next()
				f.waitState(stReply)
				end(t, f, p, b.addr())
			}
			unharmed(t, f)
		})
	}
	t.Run("it is no server of HTTP, or it says 500", func(t *testing.T) {
		for _, says := range []string{"SSH-2.0-x\r\n", "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 20"} {
			b := newBackend(t)
			f := start(t, Config{}, b.addr())
			f.own()
			for range 3 {
				p := f.connect(ownProbe)
				o, _ := b.next()
				o.send([]byte(says)...)
				_ = o.Close()
				if code, resp, _ := p.status(); code < http.StatusInternalServerError || resp.Header.Get(handshake.ProbeField) != "" {
					t.Errorf("%d %v", code, resp.Header)
				}
			}
			unharmed(t, f)
		}
	})
}
