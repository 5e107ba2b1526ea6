package relay

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unitgate/unitgate/edge/deadman"
	"github.com/unitgate/unitgate/events/routing"
)

// wantFarewell expects of an origin's end of a connection what it sees of a client that leaves, and that it may go on to
// say something all the same: a RST is never seen.
func (p *peer) wantFarewell() {
	p.t.Helper()
	p.wantEnd()
	for range 3 {
		p.send([]byte(switching)...)
		p.waitTaken()
	}
	_ = p.Close()
}

// waitTaken waits until the other end's kernel has everything that was sent, and wants no RST for an answer.
func (p *peer) waitTaken() {
	p.t.Helper()
	rc, err := p.tcp().SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "what was sent is taken", func() (taken bool) {
		_ = rc.Control(func(fd uintptr) { taken = unsent(int(fd)) == 0 })
		return taken
	})
	if p.aborted() {
		p.t.Fatal("the origin got a RST")
	}
}

// owing is how many connections to origins have something that was not acknowledged.
func (f *fixture) owing() int {
	return f.sum(func(e *engine) (n int) {
		for s := range e.all {
			if l := &s.legs[origin]; l.fd() >= 0 && e.outstanding(l) {
				n++
			}
		}
		return n
	})
}

// An origin that has a handshake and has not answered it sees a FIN, whatever the edge gives it up for. Node ends the
// whole process, with the sessions of others, when such a socket is reset.
func TestGivenUpHandshakeEndsWithFIN(t *testing.T) {
	for name, giveUp := range map[string]func(f *fixture, cl *peer){
		"the client leaves":  func(_ *fixture, cl *peer) { _ = cl.Close() },
		"the client resets":  func(_ *fixture, cl *peer) { _ = cl.tcp().SetLinger(0); _ = cl.tcp().Close() },
		"the client is half": func(_ *fixture, cl *peer) { _ = cl.tcp().CloseWrite() },
		"its key moves":      func(f *fixture, _ *peer) { f.move(0, routing.Committed) },
		"its key is fenced":  func(f *fixture, _ *peer) { f.move(0, routing.Fenced) },
		"the edge drains": func(f *fixture, _ *peer) {
			for _, e := range f.engines {
				e.do(e.refuseAll)
			}
		},
		"the lease ends": func(f *fixture, _ *peer) {
			eventually(f.t, "the origin has it all", func() bool { return f.owing() == 0 })
			f.letGo(f.Forbid())
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			f := start(t, Config{}, b.addr())
			f.own()
			if !f.Serve(deadman.Now() + time.Hour) {
				t.Fatal("a lease is not taken")
			}
			cl := f.connect(requestFor("7"))
			o, _ := b.next()
			giveUp(f, cl)
			o.wantFarewell()
			eventually(t, "nothing is counted for the origin", func() bool { return f.Origins()[0].Sessions == 0 })
		})
	}
}

// A deadline ends so as well, that of an answer and that of the body of one; and an answer that is none.
func TestGivenUpAnswerEndsWithFIN(t *testing.T) {
	const streaming = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
	for name, c := range map[string]struct {
		answer  string
		replies time.Duration
		then    func(f *fixture, cl *peer)
	}{
		"none in time":            {"", 50 * time.Millisecond, func(*fixture, *peer) {}},
		"half a head in time":     {"HTTP/1.1 10", 50 * time.Millisecond, func(*fixture, *peer) {}},
		"something else":          {"HTTP/1.1 hello\r\n\r\n", time.Hour, func(*fixture, *peer) {}},
		"the client leaves":       {streaming, time.Hour, func(_ *fixture, cl *peer) { _ = cl.Close() }},
		"the client resets":       {streaming, time.Hour, func(_ *fixture, cl *peer) { _ = cl.tcp().SetLinger(0); _ = cl.tcp().Close() }},
		"the body takes too long": {streaming, time.Hour, func(f *fixture, _ *peer) { f.endBodies() }},
		"no descriptors":          {streaming, time.Hour, func(f *fixture, _ *peer) { f.shedAll() }},
		"it says more than it should": {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nnone of your business", time.Hour,
			func(*fixture, *peer) {}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			f := start(t, Config{young: 1}, b.addr())
			f.reply = c.replies
			f.own()
			cl := f.connect(requestFor("7"))
			o, _ := b.next()
			if c.answer != "" {
				o.send([]byte(c.answer)...)
			}
			if strings.HasPrefix(c.answer, "HTTP/1.1 200") {
				cl.head()
			}
			c.then(f, cl)
			if name == "no descriptors" { // it is closed at once: nothing may be said any more
				o.wantEnd()
				return
			}
			o.wantFarewell()
		})
	}
}

// endBodies has the time pass that answers have which are passed on.
func (f *fixture) endBodies() {
	for _, e := range f.engines {
		e.do(func() {
			for s := range e.all {
				if s.state == stPass {
					e.expired(s)
				}
			}
		})
	}
}

// shedAll has connections without a session give way.
func (f *fixture) shedAll() {
	for _, e := range f.engines {
		e.do(func() { e.shed(100) })
	}
}

// An origin that does not end its side is left alone after a while, and sooner when the relay closes or is out of
// descriptors; one that ends it is forgotten at once.
func TestFarewellEnds(t *testing.T) {
	begin := func(t *testing.T, f *fixture, b *backend) *peer {
		cl := f.connect(requestFor("7"))
		o, _ := b.next()
		_ = cl.Close()
		o.wantEnd()
		return o
	}
	for name, end := range map[string]func(f *fixture, o *peer){
		"it ends":        func(_ *fixture, o *peer) { _ = o.Close() },
		"no descriptors": func(f *fixture, _ *peer) { f.shedAll() },
		"a while": func(f *fixture, _ *peer) {
			for _, e := range f.engines {
				e.do(func() {
					for d := e.leaving.first; d != nil; d = e.leaving.first {
						d.stop()
						e.expired(d.s)
					}
				})
			}
		},
		"it floods": func(_ *fixture, o *peer) {
			for range 64 {
				o.send(make([]byte, 64<<10)...)
			}
			o.waitTaken()
			_ = o.Close()
		},
		"the relay closes": func(f *fixture, _ *peer) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := f.Close(ctx); err != nil {
				f.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			f := start(t, Config{young: 1}, b.addr())
			f.own()
			o := begin(t, f, b)
			if n := f.left(); n != 1 {
				t.Fatalf("%d connections are left", n)
			}
			end(f, o)
			eventually(t, "nothing is left", func() bool { return f.left() == 0 })
		})
	}
}

// R3: what an origin may not have any more after a lease's end is taken back, which only a RST does.
func TestLeaseEndTakesBackWhatIsOutstanding(t *testing.T) {
	ln, err := (&net.ListenConfig{Control: smallWindow}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f := start(t, Config{Engines: 1}, ln.Addr().String())
	f.own()
	if !f.Serve(deadman.Now() + time.Hour) {
		t.Fatal("a lease is not taken")
	}
	filler := strings.Repeat("a", 7<<10)
	_ = f.connect(strings.Replace(requestFor("7"), "\r\nHost:", "\r\nFiller: "+filler+"\r\nHost:", 1))
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	o := newPeer(t, c)
	eventually(t, "a part of the handshake waits for the origin to read", func() bool { return f.owing() == 1 })
	f.letGo(f.Forbid())
	o.wantReset()
}

// smallWindow gives connections the smallest receive buffer that there is.
func smallWindow(_, _ string, rc syscall.RawConn) error {
	return control(rc, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
}
