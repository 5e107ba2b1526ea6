package relay

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A process that stood still finds its deadlines passed, and in its sockets what came in time: a connection to an origin
// that was made, an answer that was given, is no failure of the origin.
func TestStandstill(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 1, HandshakeTimeout: time.Hour}, b.addr())
	f.own()
	p := f.connect("")
	eventually(t, "the client is accepted", func() bool { return f.in(stHead) != nil })
	s := f.in(stHead)

	goOn := f.standStill(func(e *engine) {
		for s.state != stDial {
			e.readable(s, client)
		}
		for e.poll(s.hs.attempt.c.Hash(), unix.POLLOUT) == 0 {
			runtime.Gosched()
		}
		e.expired(s)
		if s.state != stReply {
			t.Errorf("a connection that was made is given up: state %d", s.state)
		}
	})
	p.send([]byte(requestFor("7"))...)
	goOn()
	o, _ := b.next()

	goOn = f.standStill(func(e *engine) {
		for e.poll(s.legs[origin].fd(), unix.POLLIN) == 0 {
			runtime.Gosched()
		}
		e.expired(s)
		if s.state != stTunnel {
			t.Errorf("an answer that was given is not taken: state %d", s.state)
		}
	})
	o.send([]byte(switching)...)
	goOn()
	if h := p.head(); h != switching {
		t.Errorf("the client got %q", h)
	}
	if got := f.Origins()[0]; got.Failures != 0 {
		t.Errorf("%+v", got)
	}
}

// standStill stops the only engine until goOn is called, which has it do something first and returns when that is done.
func (f *fixture) standStill(first func(e *engine)) (goOn func()) {
	stands, goes, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	f.engines[0].post(func() {
		close(stands)
		<-goes
		first(f.engines[0])
		close(done)
	})
	<-stands
	return func() { close(goes); <-done }
}

// in is a session in a state, of the only engine; nil if there is none.
func (f *fixture) in(state state) (found *session) {
	f.sum(func(e *engine) int {
		for s := range e.all {
			if s.state == state {
				found = s
			}
		}
		return 0
	})
	return found
}
