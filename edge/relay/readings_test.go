package relay

import (
	"sync"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// distributions keeps what Observers are told.
type distributions struct {
	mu                      sync.Mutex
	connected, held, landed []time.Duration
}

func (d *distributions) observers() Observers {
	into := func(list *[]time.Duration) func(time.Duration) {
		return func(v time.Duration) {
			d.mu.Lock()
			defer d.mu.Unlock()
			*list = append(*list, v)
		}
	}
	return Observers{Connected: into(&d.connected), Held: into(&d.held), Landed: into(&d.landed)}
}

func (d *distributions) counts() [3]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return [3]int{len(d.connected), len(d.held), len(d.landed)}
}

func (r Readings) handshakes(verdict, to string) (n int64) {
	for _, h := range r.Handshakes {
		if h.UnitType == testType && h.Verdict == verdict && h.To == to {
			n += h.N
		}
	}
	return n
}

// What a relay has done is what it has counted: sessions by how they ended, handshakes by what became of them, bytes.
func TestReadings(t *testing.T) {
	b := newBackend(t)
	var seen distributions
	f := start(t, Config{Observers: seen.observers()}, b.addr())
	from, to := rules(t, 100), rules(t, 50)
	f.own()
	moving, movingO := f.open(b, "60")
	evicted, evictedO := f.open(b, "10")
	ends, endsO := f.open(b, "11")
	hello := frameOf(0x81, []byte("hello"), true)
	ends.send(hello...)
	endsO.want(hello...)
	_, _ = ends.Close(), endsO.Close()
	f.waitCounts("one has ended", func(c Counts) bool { return c.Sessions == 2 })

	if f.EvictRouter(testType, "10") != 1 {
		t.Fatal("nobody to evict")
	}
	evicted.wantClose(1012, "evicted by operator")
	if got := f.Readings().Types[testType]; got.Closing != 1 || got.Sessions != 2 {
		t.Errorf("while one is closing: %+v", got)
	}
	evicted.send(closeFrame(1012, true)...)
	_, _ = evicted.Close(), evictedO.Close()

	f.cutover(from, to, routing.Fenced, 7)
	f.Evict(testType, 0)
	leaves(moving, movingO)
	f.waitCounts("all have ended", func(c Counts) bool { return c.Sessions == 0 && c.Victims == 0 })
	held := f.connect(requestFor("61"))
	f.waitCounts("one is held", func(c Counts) bool { return c.Held == 1 })
	f.cutover(from, to, routing.Committed, 7)
	if code, _, _ := held.status(); code != 302 {
		t.Errorf("answered %d", code)
	}

	got := f.Readings()
	if e := got.Types[testType].Ended; e != [becauseNoLease + 1]int64{notClosing: 1, becauseMoved: 1, becauseOperator: 1} {
		t.Errorf("ended: %v", e)
	}
	if s, r := got.handshakes("served", ""), got.handshakes("redirect", "there"); s != 3 || r != 1 {
		t.Errorf("%d served, %d redirected: %+v", s, r, got.Handshakes)
	}
	if got.ToOrigins.Bytes < int64(len(hello)) || got.ToClients.Bytes == 0 {
		t.Errorf("%+v", got)
	}
	if n := seen.counts(); n != [3]int{3, 1, 0} {
		t.Errorf("%v connects, held ones and landings were observed", n)
	}
}

// A relay that gains keys tells how long after the commit users have come, and nothing of those whose commit it has not
// seen.
func TestReadingsOfLandings(t *testing.T) {
	b := newBackend(t)
	var seen distributions
	f := start(t, Config{Observers: seen.observers()}, b.addr())
	from, to := rules(t, 50), rules(t, 100)
	f.install(routing.Compile(from))
	f.cutover(from, to, routing.Fenced, 7)
	f.cutover(from, to, routing.Committed, 7)
	f.open(b, "60")
	f.open(b, "10") // has not moved
	if n := seen.counts(); n[2] != 1 {
		t.Errorf("%d landings were observed", n[2])
	}

	late := start(t, Config{Observers: seen.observers()}, b.addr())
	late.cutover(from, to, routing.Committed, 7)
	late.open(b, "60")
	if n := seen.counts(); n[2] != 1 {
		t.Error("a landing after a commit of unknown time was observed")
	}
}
