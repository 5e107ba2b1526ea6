package relay

import (
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// endReplies has the time pass that the handshakes have which wait for an answer.
func (f *fixture) endReplies() {
	for _, e := range f.engines {
		e.do(func() {
			for _, q := range e.replies {
				for q.first != nil {
					d := q.first
					d.stop()
					e.expired(d.s)
				}
			}
		})
	}
}

// until is when the time for an answer ends of the handshake that waits for one.
func (f *fixture) until() (at time.Duration) {
	f.each(stReply, func(s *session) { at = s.deadline.at })
	return at
}

// each does something with every session in a state.
func (f *fixture) each(in state, do func(s *session)) {
	for _, e := range f.engines {
		e.do(func() {
			for s := range e.all {
				if s.state == in {
					do(s)
				}
			}
		})
	}
}

// An origin that takes long for some users and answers the others at once is not at fault: those whose time is over get
// 504 (RFC 9110 section 15.6.5), everybody else is served.
func TestSlowHandshakes(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.reply = time.Hour
	f.own()
	for range 2 {
		var slow []*peer
		for range 3 {
			slow = append(slow, f.connect(requestFor("7")))
			b.next()
		}
		f.open(b, "8")
		f.endReplies()
		for _, p := range slow {
			if code, _, body := p.status(); code != 504 || !strings.Contains(body, "in time") {
				t.Errorf("%d %q", code, body)
			}
		}
		if st := f.of(b.addr()); st.State != "healthy" || st.Failures != 0 {
			t.Errorf("%+v", st)
		}
	}
	if n := f.counts(); n.DialErrors != 6 || n.HandshakeErrors != 6 || n.Sessions != 2 {
		t.Errorf("%+v", n)
	}
}

// What an interim answer says of an origin is that it is at it: its time begins anew, up to ten times that in all. It is no
// answer: one who only ever says so is ejected.
func TestInterimAnswersTakeTime(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.reply = time.Hour
	f.own()
	const processing, continues = "HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n"
	for range 3 {
		p := f.connect(requestFor("7"))
		o, _ := b.next()
		f.waitState(stReply)
		for _, interim := range []string{processing, continues} {
			was := f.until()
			o.send([]byte(interim)...)
			p.want([]byte(interim)...)
			eventually(t, "it has its time anew", func() bool { return f.until() > was })
		}
		f.each(stReply, func(s *session) { s.hs.group.replies = f.reply }) // as if the others were over
		was := f.until()
		o.send([]byte(processing)...)
		p.want([]byte(processing)...)
		if is := f.until(); is != was {
			t.Errorf("it has %s more than ten times", is-was)
		}
		f.endReplies()
		if code, _, body := p.status(); code != 504 || !strings.Contains(body, "in time") {
			t.Errorf("%d %q", code, body)
		}
	}
	f.becomes(b.addr(), "ejected")

	p := f.connect(requestFor("7"))
	o, _ := b.next()
	o.send([]byte(processing + switching)...)
	p.want([]byte(processing + switching)...)
	f.becomes(b.addr(), "healthy")
}

// An interim answer that has come when the time is over is in time, too.
func TestInterimAnswerAtTheLastMoment(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 1}, b.addr())
	f.reply = time.Hour
	f.own()
	p := f.connect(requestFor("7"))
	o, _ := b.next()
	f.waitState(stReply)
	e := f.engines[0]
	e.do(func() { // in one go, so that the poller does not come to the answer before the deadline
		o.send([]byte("HTTP/1.1 102 Processing\r\n\r\n")...)
		o.waitTaken()
		for _, q := range e.replies {
			for d := q.first; d != nil; d = nil {
				d.stop()
				e.expired(d.s)
			}
		}
	})
	p.head()
	o.send([]byte(switching)...)
	p.want([]byte(switching)...)
}

// An edge that says that its origin is slow is not the one that is, nor is it while the other one still waits.
func TestPassedOnToASlowOrigin(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	p.far.reply, p.near.reply = 2*time.Hour, 2*time.Hour
	p.install(routing.Compile(rules(t, 50)))
	for range 4 {
		c := p.near.connect(requestFor("70"))
		p.origin.next()
		p.far.waitState(stReply)
		if near, far := p.near.until()-p.near.engines[0].now(), p.far.until()-p.far.engines[0].now(); near < far+15*time.Second {
			t.Errorf("the edge in front waits for %s, the one behind it for %s", near, far)
		}
		p.far.endReplies()
		if code, _, body := c.status(); code != 504 || !strings.Contains(body, "the origin did not answer in time") {
			t.Errorf("%d %q", code, body)
		}
	}
	for _, st := range p.near.Peers() {
		if st.State != "healthy" || st.Failures != 0 || st.Failed != 0 {
			t.Errorf("%+v", st)
		}
	}
}
