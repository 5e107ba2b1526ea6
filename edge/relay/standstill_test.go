package relay

import (
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

	stands, goes := make(chan struct{}), make(chan struct{})
	f.engines[0].post(func() {
		close(stands)
		<-goes
		e := f.engines[0]
		for s.state != stDial {
			e.readable(s, client)
		}
		for e.poll(s.hs.attempt.c.Hash(), unix.POLLOUT) == 0 {
		}
		e.expired(s)
		if s.state != stReply {
			t.Errorf("a connection that was made is given up: state %d", s.state)
		}
	})
	<-stands
	p.send([]byte(requestFor("7"))...)
	close(goes)
	o, _ := b.next()

	stands, goes = make(chan struct{}), make(chan struct{})
	f.engines[0].post(func() {
		close(stands)
		<-goes
		e := f.engines[0]
		for e.poll(s.legs[origin].fd(), unix.POLLIN) == 0 {
		}
		e.expired(s)
		if s.state != stTunnel {
			t.Errorf("an answer that was given is not taken: state %d", s.state)
		}
	})
	<-stands
	o.send([]byte(switching)...)
	close(goes)
	if h := p.head(); h != switching {
		t.Errorf("the client got %q", h)
	}
	if got := f.Origins()[0]; got.Failures != 0 {
		t.Errorf("%+v", got)
	}
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
