package relay

import (
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/deadman"
	"github.com/unitgate/unitgate/events/routing"
)

// refused wants a 503 that says when to come again, and never a redirect (R9).
func (f *fixture) refused(p *peer) {
	f.t.Helper()
	if h := p.head(); !strings.HasPrefix(h, "HTTP/1.1 503 ") || !strings.Contains(h, "\r\nRetry-After: ") {
		f.t.Fatalf("the client got %q", h)
	}
}

// letGo waits for the end of a Forbid.
func (f *fixture) letGo(done <-chan struct{}) {
	f.t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		f.t.Fatal("the pollers do not let go")
	}
}

// R3, R9, R12: at the end of a lease both legs of every session are reset; a handshake that an origin has ends there, see
// giveup.go; clients that were not connected yet get 503, also those of other units; only a new lease after everything was let go helps.
func TestEndOfALease(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 1}, b.addr())
	f.move(50, routing.Fenced)
	end := deadman.Now() + time.Hour
	if !f.Serve(end) {
		t.Fatal("a lease is not taken")
	}
	cl, o := f.open(b, "7")
	held := f.connect(requestFor("70"))
	f.waitCounts("one is held", func(n Counts) bool { return n.Held == 1 })
	dialled := f.connect(requestFor("8"))
	unanswered, _ := b.next() // the origin has the handshake and has not answered it
	eventually(t, "the origin's kernel has it, too", func() bool { return f.owing() == 0 })

	end = deadman.Now() + 50*time.Millisecond
	if !f.Serve(end) {
		t.Fatal("a lease is not changed")
	}
	eventually(t, "its end", func() bool { return deadman.Now() > end })
	cl.send(frameOf(0x81, []byte("late"), true)...) // the first that the poller wakes up for (R12)
	eventually(t, "the client is reset", cl.aborted)
	eventually(t, "the origin is reset", o.aborted)
	unanswered.wantFarewell() // there is nothing to take back
	if f.Serve(deadman.Now() + time.Hour) {
		t.Error("a lease that has ended is renewed")
	}
	f.refused(held)
	f.refused(dialled)
	f.letGo(f.Forbid())
	if n := f.counts(); n.Sessions != 0 || n.Held != 0 || n.Victims != 0 {
		t.Errorf("left: %+v", n)
	}
	f.move(50, routing.Committed)
	f.refused(f.connect(requestFor("70"))) // it belongs elsewhere, and this edge may not say so
	if !f.Serve(deadman.Now() + time.Hour) {
		t.Fatal("a new lease is not taken")
	}
	f.open(b, "7")
	f.ServeFreely()
	f.open(b, "9")
}

// R3: Forbid resets what is there without waiting for an event, on every poller.
func TestForbid(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 4}, b.addr())
	f.own()
	var ends []*peer
	for i := range 16 {
		cl, o := f.open(b, id(i))
		ends = append(ends, cl, o)
	}
	f.letGo(f.Forbid())
	if n := f.counts().Sessions; n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	for _, p := range ends {
		eventually(t, "a reset", p.aborted)
	}
}

// R10: a lease that ends between the verdict and the connect, or the origin's 101, admits nobody.
func TestLeaseEndsWhileDialling(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 1}, b.addr())
	f.own()
	f.Serve(deadman.Now() + time.Hour)
	cl := f.connect(requestFor("7"))
	o, _ := b.next()
	end := deadman.Now()
	if !f.Serve(end) {
		t.Fatal("a lease is not changed")
	}
	o.send([]byte(switching)...)
	f.refused(cl)
	o.wantFarewell()
}
