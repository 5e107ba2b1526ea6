package relay

import (
	"testing"
	"time"
)

func TestOccupancy(t *testing.T) {
	var o occupancy
	at := time.Hour
	ran := func(took time.Duration) { o.ran(at, at+took); at += took }
	want := func(longest time.Duration) {
		t.Helper()
		if got := o.lately(at); got != longest {
			t.Errorf("%v is the longest, want %v", got, longest)
		}
	}
	want(0)
	ran(2 * time.Millisecond)
	ran(7 * time.Millisecond)
	ran(time.Millisecond)
	want(7 * time.Millisecond)
	at += runWindow + 1
	ran(3 * time.Millisecond)
	want(7 * time.Millisecond) // of the window before
	at += runWindow + 1
	want(3 * time.Millisecond)
	ran(time.Millisecond)
	want(3 * time.Millisecond)
	at += 3 * runWindow
	want(0) // nothing has run since
	if busy, over := time.Duration(o.busy.Load()), o.over.Load(); busy != 14*time.Millisecond || over != 1 {
		t.Errorf("busy for %v, %d times for too long", busy, over)
	}
}

// What a poller does shows in what is told of it.
func TestPollersTellHowBusyTheyAre(t *testing.T) {
	f := start(t, Config{Engines: 2})
	f.own()
	before := f.Pollers()
	f.engines[0].do(func() { time.Sleep(2 * maxRun) })
	eventually(t, "the run is told of", func() bool {
		p := f.Pollers()
		return p.N == 2 && p.Busy-before.Busy >= 2*maxRun && p.Overrun > before.Overrun && p.Longest >= 2*maxRun
	})
}
