package relay

import (
	"runtime/debug"
	"time"
)

const (
	calmFor    = time.Second // without a new session: the storm is over
	worthwhile = 500         // sessions opened since the last time
)

// runTidying gives back what a storm of handshakes has left behind. Go lets garbage grow as large as what is alive, and
// between storms nothing is allocated that would set the collector off: an idle session then costs twice what it holds,
// and one over TLS, whose handshake takes 50 KiB, more. While sessions go on coming the collector keeps up by itself.
func (r *Relay) runTidying() {
	defer r.running.Done()
	tick := time.NewTicker(calmFor)
	defer tick.Stop()
	var c calm
	for {
		select {
		case <-tick.C:
			if c.tidy(r.opened.Load()) {
				debug.FreeOSMemory()
			}
		case <-r.life.Done():
			return
		}
	}
}

// calm decides when it is time.
type calm struct {
	seen int64 // sessions opened until the last tick
	done int64 // and until the last tidying
}

// tidy takes the number of sessions ever opened, once a tick.
func (c *calm) tidy(opened int64) bool {
	quiet := opened == c.seen
	c.seen = opened
	if !quiet || opened-c.done < worthwhile {
		return false
	}
	c.done = opened
	return true
}
