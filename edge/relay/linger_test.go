package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// stuck opens a connection whose window is shorter than any answer of a test, and sends a request.
func (f *fixture) stuck(request string) *peer {
	f.t.Helper()
	d := net.Dialer{Control: func(_, _ string, rc syscall.RawConn) error {
		return control(rc, func(fd int) error { return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1024) })
	}}
	addr := f.Addrs()[0]
	if f.secure != nil {
		addr = f.TLSAddrs()[0]
	}
	c, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		f.t.Fatal(err)
	}
	if f.secure != nil {
		secure := tls.Client(c, f.secure)
		if err := secure.Handshake(); err != nil {
			f.t.Fatal(err)
		}
		c = &tlsTransport{secure, c.(*net.TCPConn)}
	}
	p := newPeer(f.t, c)
	p.send([]byte(request)...)
	return p
}

// longRequest is the handshake of a user with a path that makes a redirect longer than a stuck client's window.
func longRequest(routerID string) string {
	return strings.Replace(requestFor(routerID), "/chat", "/"+strings.Repeat("x", 7500), 1)
}

func (f *fixture) left() int { return f.sum(func(e *engine) int { return len(e.all) }) }

func (f *fixture) late() int64 { return f.Readings().Late }

// goes waits until nothing is left of any client, and wants n of them to have been reset for not reading.
func (f *fixture) goes(n int64) {
	f.t.Helper()
	eventually(f.t, "they are reset and nothing is left", func() bool { return f.late() == n && f.left() == 0 })
}

// An answer that is not read has an end, whoever gave it: the edge, or an origin, with a body or with interim responses
// that never end. The client's kernel is alive all the time.
func TestUnreadAnswersHaveAnEnd(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{AnswerTimeout: 100 * time.Millisecond}, b.addr())
	f.reply = 50 * time.Millisecond
	f.install(routing.Compile(rules(t, 50)))
	f.sum(func(e *engine) int { e.bodies.timeout = 50 * time.Millisecond; return 0 })
	for what, answer := range map[string]func(o *peer){
		"body of known length": func(o *peer) { _, _ = o.Write([]byte("HTTP/1.1 404 No\r\nContent-Length: 4194304\r\n\r\n")) },
		"body without one":     func(o *peer) { _, _ = o.Write([]byte("HTTP/1.1 404 No\r\n\r\n")) },
		"interim responses":    func(*peer) {},
	} {
		t.Run(what, func(t *testing.T) {
			was := f.late()
			more := bytes.Repeat([]byte("x"), 1<<20)
			if what == "interim responses" {
				more = bytes.Repeat([]byte("HTTP/1.1 103 Hints\r\n\r\n"), 1<<15)
			}
			p := f.stuck(requestFor("7"))
			o, _ := b.next()
			answer(o)
			for { // until the edge has had enough of it
				if _, err := o.Write(more); err != nil {
					break
				}
			}
			f.goes(was + 1)
			p.wantReset()
		})
	}
	t.Run("redirect", func(t *testing.T) {
		was := f.late()
		p := f.stuck(longRequest("77"))
		f.goes(was + 1)
		p.wantReset()
	})
	// One that reads a little now and then, and one that goes on sending, have no more time than the others.
	t.Run("redirect, read by the byte", func(t *testing.T) {
		was := f.late()
		p := f.stuck(longRequest("77"))
		read := make(chan int, 1)
		go func() {
			n := 0
			for one := make([]byte, 1); ; n++ {
				if _, err := p.tcp().Read(one); err != nil {
					break
				}
				time.Sleep(5 * time.Millisecond) // so slowly that the answer would take its reader half a minute
			}
			read <- n
		}()
		f.goes(was + 1)
		_ = p.Close() // or it would take its time for what its kernel has
		if n := <-read; n == 0 {
			t.Error("nothing was read at all")
		}
	})
	t.Run("redirect, to one that sends", func(t *testing.T) {
		was := f.late()
		p := f.stuck(longRequest("77"))
		ended := make(chan error, 1)
		go func() {
			_, err := io.Copy(p, zeros{})
			ended <- err
		}()
		f.goes(was + 1)
		if err := <-ended; err == nil {
			t.Error("it still sends")
		}
	})
	// Who reads gets all of it.
	p := f.connect(longRequest("77"))
	if code, resp, _ := p.status(); code != 302 || len(resp.Header.Get("Location")) < 7500 {
		t.Errorf("%d %v", code, resp.Header)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// A client that was corrected by a Close frame, and reads nothing, has an end as well.
func TestUnreadCorrectionHasAnEnd(t *testing.T) {
	f := start(t, Config{AnswerTimeout: 50 * time.Millisecond})
	f.correct = "close"
	f.install(routing.Compile(rules(t, 50)))
	f.sum(func(e *engine) int { e.evicting.timeout = 50 * time.Millisecond; return 0 })
	f.stuck(longRequest("77"))
	eventually(t, "nothing is left", func() bool { return f.left() == 0 })
}

// So has what is left of a tunnel that both ends have ended: the client may be slow, and takes a place in the capacity until
// it has read the rest, but not for ever.
func TestUnreadRestOfATunnelHasAnEnd(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Capacity: 1, rest: 100 * time.Millisecond}, b.addr())
	f.own()
	p := f.stuck(requestFor("7"))
	o, _ := b.next()
	o.send([]byte(switching)...)
	f.waitCounts("the session is open", func(n Counts) bool { return n.Sessions == 1 })
	_ = p.Conn.(transport).CloseWrite()
	o.wantEnd()
	o.send(bytes.Repeat([]byte("x"), 200<<10)...) // more than the kernel takes for the client, less than it takes from the origin
	_ = o.Close()
	f.goes(1)
	p.wantReset()
	f.open(b, "8") // its place is free
}

// A name that leads to very many addresses, none of which answers, keeps a client no longer than an origin may: the budget
// is for all of them.
func TestAddressesOfANameHaveABudget(t *testing.T) {
	full := fullBacklog(t)
	f := start(t, Config{Engines: 1, DialTimeout: 20 * time.Millisecond, DialBudget: 100 * time.Millisecond, lookUp: func(context.Context, string) (all []netip.AddrPort, _ error) {
		to := netip.MustParseAddrPort(full)
		for i := range 200 { // each of which is this host
			all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)}), to.Port()))
		}
		return all, nil
	}}, "many.example:80")
	f.own()
	p := f.connect(requestFor("7"))
	if code, _, _ := p.status(); code != 502 {
		t.Errorf("%d, want 502", code)
	}
}

// A client that was refused takes no place in the capacity from then on, read or not.
func TestUnreadAnswersTakeNoCapacity(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Capacity: 1}, b.addr())
	f.own()
	f.sum(func(e *engine) int { e.bodies.timeout = 20 * time.Millisecond; return 0 })
	f.stuck(requestFor("7"))
	o, _ := b.next()
	o.send([]byte("HTTP/1.1 404 No\r\n\r\n")...)
	o.send(bytes.Repeat([]byte("x"), 100<<10)...)
	eventually(t, "it is over", func() bool { return f.Readings().Admitted == 0 })
	reading := func(e *engine) (n int) {
		for s := range e.all {
			if s.state == stLinger {
				n++
			}
		}
		return n
	}
	if f.sum(reading) != 1 {
		t.Error("it is gone already")
	}
	f.open(b, "8")
}
