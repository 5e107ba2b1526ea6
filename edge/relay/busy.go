package relay

import (
	"sync/atomic"
	"time"
)

const (
	// maxRun is how long a poller may be busy with one event. What a run may do is bounded, see chore; one that takes longer
	// all the same had to wait for a processor.
	maxRun = 5 * time.Millisecond

	runWindow = 30 * time.Second // the longest run is that of this one and the one before
)

// occupancy is how busy a poller is. A run is what it does for one event: of a connection, of a listener, or of its mailbox.
// While it lasts every other connection waits. The poller writes, anybody may read.
type occupancy struct {
	busy    atomic.Int64 // nanoseconds of all runs, ever
	over    atomic.Int64 // runs of more than maxRun, ever
	longest atomic.Int64 // nanoseconds, of those in the window that ends at until
	before  atomic.Int64 // likewise in the window before
	until   atomic.Int64 // on the engine's clock
}

// ran counts a run that has ended just now.
func (o *occupancy) ran(began, ended time.Duration) {
	took := ended - began
	o.busy.Add(int64(took))
	if ended > time.Duration(o.until.Load()) {
		o.turn(ended)
	}
	if int64(took) > o.longest.Load() {
		o.longest.Store(int64(took))
	}
	if took > maxRun {
		o.over.Add(1)
	}
}

// turn begins a window.
func (o *occupancy) turn(now time.Duration) {
	o.before.Store(int64(o.lately(now)))
	o.longest.Store(0)
	o.until.Store(int64(now + runWindow))
}

// lately is the longest run of this window, or of the one before if there is more to it.
func (o *occupancy) lately(now time.Duration) time.Duration {
	longest := max(o.longest.Load(), o.before.Load())
	switch since := now - time.Duration(o.until.Load()); {
	case since > runWindow: // a poller that has nothing to do opens no windows
		return 0
	case since > 0:
		return time.Duration(o.longest.Load())
	}
	return time.Duration(longest)
}

// Pollers is how busy the pollers of a relay are.
type Pollers struct {
	N       int           // how many there are
	Busy    time.Duration // that they were busy, together, ever
	Overrun int64         // times, ever, that one was busy for more than 5 ms in a row
	Longest time.Duration // that one was busy in a row, within the last 30 to 60 s
}

// Pollers tells it.
func (r *Relay) Pollers() Pollers {
	p := Pollers{N: len(r.engines)}
	for _, e := range r.engines {
		p.Busy += time.Duration(e.occupancy.busy.Load())
		p.Overrun += e.occupancy.over.Load()
		p.Longest = max(p.Longest, e.occupancy.lately(e.now()))
	}
	return p
}
