package relay

import (
	"context"
	"math"
	"net"
	"testing"

	"github.com/unitgate/unitgate/edge/handshake"
	registry "github.com/unitgate/unitgate/edge/session"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// cutover puts the slots from split on in a phase of their way, as the cutover c1 whose first fence is at a sequence.
func (f *fixture) cutover(from, to *routing.Rules, phase routing.Phase, fence uint64) {
	f.t.Helper()
	wave := routing.Compare(from, to).Split(1)[0]
	v := f.view(routing.CompileCutover(from, to, []routing.Wave{{Keys: wave, Phase: phase}}))
	v.Types[testType].Cutover, v.Types[testType].Fences = "c1", []uint64{fence}
	if phase == routing.Committed {
		v.Types[testType].Committed = 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Install(ctx, v); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) passage(users int) events.CutoverAnswer {
	return f.Passage(events.CutoverQuestion{Cutover: "c1", UnitType: testType, Fences: []uint64{7}, Users: users})
}

// leaves ends an evicted session as a client does.
func leaves(c, o *peer) {
	c.wantClose(1012, "moved to there")
	c.send(closeFrame(1012, true)...)
	_, _ = c.Close(), o.Close()
}

// A losing edge remembers whom it evicted and when; the sessions that nothing may touch are the same ones afterwards, and
// how others of them ended is known. The edge's own probes are none of them.
func TestPassageOfALosingEdge(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	from, to := rules(t, 100), rules(t, 50)
	moving, movingO := f.open(b, "60")
	f.open(b, "10")
	ends, endsO := f.open(b, "11")
	evicted, evictedO := f.open(b, "12")
	const noRouterID = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, request := range []string{noRouterID + "\r\n", noRouterID + handshake.ProbeField + ": " + probeSecret + "\r\n\r\n"} {
		c := f.connect(request)
		o, _ := b.next()
		o.send([]byte(switching)...)
		c.head()
	}

	if a := f.passage(10); a.Known {
		t.Errorf("before the cutover: %+v", a)
	}
	f.cutover(from, to, routing.Pending, 0)
	if a := f.passage(10); !a.Known || !a.Whole || a.Untouched.Before != 0 {
		t.Errorf("before its first fence: %+v", a)
	}
	f.cutover(from, to, routing.Fenced, 7)
	f.open(b, "13") // came later
	f.Evict(testType, 0)
	leaves(moving, movingO)
	_, _ = ends.Close(), endsO.Close()
	f.EvictRouter(testType, "12")
	evicted.wantClose(1012, "evicted by operator")
	evicted.send(closeFrame(1012, true)...)
	_, _ = evicted.Close(), evictedO.Close()
	f.waitCounts("four are left", func(n Counts) bool { return n.Sessions == 4 && n.Victims == 0 })
	f.cutover(from, to, routing.Committed, 7)

	a := f.passage(10)
	want := events.Untouched{Before: 4, After: 2, EndedByPeer: 1, Evicted: 1, Compared: 2, Same: true}
	if a.Untouched != want {
		t.Errorf("untouched: %+v, want %+v", a.Untouched, want)
	}
	left := events.Sightings(a.Left)
	if a.Evicted != 1 || a.Landed != 0 || a.Bound != math.MaxUint64 || len(left) != 1 || left[0].User != registry.UserNumber("c1", "60") || left[0].Ago > 60e6 {
		t.Errorf("%+v: %+v", a, left)
	}
	// Once it is reported nothing of it is remembered.
	f.install(routing.CompileCutover(from, to, []routing.Wave{{Keys: routing.Compare(from, to).Split(1)[0], Phase: routing.Committed}}))
	if a := f.passage(10); a.Known {
		t.Errorf("after the report: %+v", a)
	}
	for _, e := range f.engines {
		left := make(chan int)
		e.post(func() { left <- len(e.cohorts) })
		if n := <-left; n != 0 {
			t.Errorf("%d cohorts are left", n)
		}
	}
}

// A gaining edge remembers who landed, whether or not the client was there before.
func TestPassageOfAGainingEdge(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	from, to := rules(t, 50), rules(t, 100)
	f.install(routing.Compile(from))
	f.open(b, "10")
	f.cutover(from, to, routing.Fenced, 7)
	held := f.connect(requestFor("60"))
	f.waitCounts("held", func(n Counts) bool { return n.Held == 1 })
	f.cutover(from, to, routing.Committed, 7)
	o, _ := b.next()
	o.send([]byte(switching)...)
	held.head()
	f.open(b, "61")
	f.open(b, "11") // moves nowhere
	a := f.passage(10)
	back := events.Sightings(a.Back)
	if !a.Whole || a.Landed != 2 || a.Evicted != 0 || len(back) != 2 || a.Untouched.Before != 1 || !a.Untouched.Same {
		t.Errorf("%+v: %+v", a, back)
	}
	if a := f.passage(1); len(a.Back) != 16 || a.Bound == math.MaxUint64 {
		t.Errorf("one user: %d bytes, bound %d", len(a.Back), a.Bound)
	}
}

// An edge whose first view is in the middle of a cutover does not claim to have seen all of it.
func TestPassageAfterARestart(t *testing.T) {
	f := start(t, Config{})
	f.cutover(rules(t, 100), rules(t, 50), routing.Committed, 7)
	if a := f.passage(10); !a.Known || a.Whole {
		t.Errorf("%+v", a)
	}
	f.cutover(rules(t, 100), rules(t, 50), routing.Committed, 7)
	if a := f.passage(10); a.Whole {
		t.Errorf("a later view makes it whole: %+v", a)
	}
}

// The proof of G1 is one: it finds a session that an edge has closed, and one whose sockets are not what they were.
func TestUntouchedNoticesWhatIsTouched(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 1}, b.addr())
	f.own()
	c1, o1 := f.open(b, "10")
	f.open(b, "11")
	f.cutover(rules(t, 100), rules(t, 50), routing.Fenced, 7)
	f.engines[0].post(func() { // as a defect would
		for s := range f.engines[0].all {
			if s.entry.Key.RouterID == "10" {
				f.engines[0].evict(s, becauseMoved)
			}
		}
		c := f.engines[0].cohorts[testType][0]
		for s := range c.sample {
			c.sample[s] = connections{1, 2}
		}
	})
	c1.wantClose(1012, "moved to here")
	c1.send(closeFrame(1012, true)...)
	_, _ = c1.Close(), o1.Close()
	f.waitCounts("one is left", func(n Counts) bool { return n.Sessions == 1 })
	want := events.Untouched{Before: 2, After: 1, ClosedByUs: 1, Compared: 1, Changed: 1}
	if u := f.passage(10).Untouched; u != want {
		t.Errorf("%+v, want %+v", u, want)
	}
}

// Handshakes and dials are counted once each, by what became of them.
func TestCounters(t *testing.T) {
	b := newBackend(t)
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := refused.Addr().String()
	refused.Close()
	f := start(t, Config{Capacity: 2, Engines: 1}, b.addr())
	f.own()
	f.open(b, "1")
	sick := f.connect(requestFor("2"))
	o, _ := b.next()
	o.send([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")...)
	sick.status()
	_, _ = sick.Close(), o.Close()
	f.waitCounts("the refused one is gone", func(Counts) bool { return f.admitted.Load() == 1 })
	f.open(b, "3")
	if code, _, _ := f.connect(requestFor("4")).status(); code != 503 {
		t.Errorf("beyond the capacity: %d", code)
	}
	if code, _, _ := f.connect("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status(); code != 426 {
		t.Errorf("no handshake: %d", code)
	}
	if got, want := f.counts().Counters, (events.Counters{Handshakes: 5, HandshakeErrors: 1, Dials: 3, DialErrors: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	g := start(t, Config{Engines: 1}, dead)
	g.own()
	if code, _, _ := g.connect(requestFor("1")).status(); code != 502 {
		t.Errorf("no origin: %d", code)
	}
	if got, want := g.counts().Counters, (events.Counters{Handshakes: 1, HandshakeErrors: 1, Dials: 1, DialErrors: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
