package relay

import (
	"sync/atomic"
	"time"
)

// longRun is from when on a run of a poller is told one by one. Hardly any is so long unless the machine is short of
// processors: what a run may do is bounded, see chore.
const longRun = time.Millisecond

// occupancy is what a poller knows of how busy it is. A run is what it does for one event: of a connection, of a listener,
// or of its mailbox. While it lasts, every other connection waits. The poller writes, anybody may read.
type occupancy struct{ busy atomic.Int64 } // nanoseconds of all runs, ever

// ran counts a run.
func (e *engine) ran(d time.Duration) {
	e.occupancy.busy.Add(int64(d))
	if d >= longRun {
		observe(e.r.cfg.Observers.Run, d)
	}
}

// Occupancy is how long pollers have run, together, and how many there are: at most so many seconds in one.
func (r *Relay) Occupancy() (busy time.Duration, pollers int) {
	for _, e := range r.engines {
		busy += time.Duration(e.occupancy.busy.Load())
	}
	return busy, len(r.engines)
}
