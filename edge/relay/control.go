package relay

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/unitgate/unitgate/events"
)

// Counts are the numbers of one unit type. Each is exact; read together they may stem from slightly different moments.
type Counts struct {
	Sessions int // open sessions, from the origin's 101 until both connections are closed
	Victims  int // sessions, dials and origin connections on keys that are no longer served, until they are closed; see Install
	Evicted  int // sessions that Evict has ended, ever
	Landed   int // sessions admitted on keys that a cutover has brought here, ever
	Held     int // handshakes held

	events.Counters // ever

	Proxied events.Proxied // handshakes and sessions passed on to other units' edges, in none of the above but Victims and Held
}

type typeStats struct {
	name string // of the unit type

	victims, landed, held atomic.Int64
	own                   dealings                         // with clients that this edge serves
	proxied               dealings                         // with those that it passes on
	closing               atomic.Int64                     // of own.sessions: this edge is ending them
	ended                 [becauseNoLease + 1]atomic.Int64 // of own.sessions, ever, by why
	waiting               []atomic.Int64                   // by engine: victims that Evict has not come to
	open                  []atomic.Int64                   // by engine: its part of own.sessions, but for probes
}

// dealings are what is counted of clients that are served here and of those that are passed on, apart.
type dealings struct{ sessions, evicted, handshakes, handshakeErrors, dials, dialErrors atomic.Int64 }

func (d *dealings) counters() events.Counters {
	return events.Counters{
		Handshakes: int(d.handshakes.Load()), HandshakeErrors: int(d.handshakeErrors.Load()),
		Dials: int(d.dials.Load()), DialErrors: int(d.dialErrors.Load()),
	}
}

// dealings is where a session counts that has a key.
func (s *session) dealings() *dealings {
	if s.via != 0 {
		return &s.stats.proxied
	}
	return &s.stats.own
}

func (st *typeStats) waitingAll() (n int64) {
	for i := range st.waiting {
		n += st.waiting[i].Load()
	}
	return n
}

func (r *Relay) statsOf(unitType string) *typeStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.stats[unitType]
	if st == nil {
		st = &typeStats{name: unitType, waiting: make([]atomic.Int64, len(r.engines)), open: make([]atomic.Int64, len(r.engines))}
		r.stats[unitType] = st
	}
	return st
}

func (e *engine) statsOf(unitType string) *typeStats {
	st := e.stats[unitType]
	if st == nil {
		st = e.r.statsOf(unitType)
		e.stats[unitType] = st
	}
	return st
}

// Counts are the numbers of a unit type.
func (r *Relay) Counts(unitType string) Counts { return r.statsOf(unitType).counts() }

func (st *typeStats) counts() Counts {
	return Counts{
		Sessions: int(st.own.sessions.Load()),
		Victims:  int(st.victims.Load()),
		Evicted:  int(st.own.evicted.Load()),
		Landed:   int(st.landed.Load()),
		Held:     int(st.held.Load()),
		Counters: st.own.counters(),
		Proxied: events.Proxied{
			Sessions: int(st.proxied.sessions.Load()), Evicted: int(st.proxied.evicted.Load()), Counters: st.proxied.counters(),
		},
	}
}

// Changed is signalled when the victims of a unit type have reached 0, or Evicted or Landed has changed. Signals that
// nobody has taken yet become one. It is one channel: for one receiver.
func (r *Relay) Changed() <-chan struct{} { return r.changed }

func (r *Relay) signal() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// sum adds up what f says on each poller.
func (r *Relay) sum(f func(e *engine) int) int {
	results := make(chan int, len(r.engines))
	asked := 0
	for _, e := range r.engines {
		if e.post(func() { results <- f(e) }) {
			asked++
		}
	}
	n := 0
	for range asked {
		n += <-results
	}
	return n
}

// accuse makes a session a victim, whatever its state: one that is ending already, for whatever reason, still has its
// connections. It is Evict's only if nothing else is ending it.
func (e *engine) accuse(s *session) {
	if !s.victim && s.entry.Registered() {
		s.victim = true
		s.stats.victims.Add(1)
	}
	if s.victim && !s.waiting && s.why == notClosing && s.evictable() {
		s.waiting = true
		s.stats.waiting[e.index].Add(1)
		typ := s.entry.Key.Type
		e.victims[typ] = append(e.victims[typ], s)
	}
}

// pardon takes it back. Evict takes no notice of the session any more.
func (e *engine) pardon(s *session) {
	e.unwait(s)
	if s.victim {
		s.victim = false
		if s.stats.victims.Add(-1) == 0 {
			e.r.signal()
		}
	}
}

func (e *engine) unwait(s *session) {
	if s.waiting {
		s.waiting = false
		s.stats.waiting[e.index].Add(-1)
	}
}

// evictDue evicts n further victims of a type, those first that became one first.
func (e *engine) evictDue(unitType string, n int) {
	due := e.due[unitType]
	e.due[unitType] = min(due+n, everyVictim)
	if due == 0 {
		e.takeTurns(func(steps *int) bool { return e.evictSome(unitType, steps) })
	}
}

// everyVictim is more than there can be.
const everyVictim = 1 << 40

// evictSome evicts some of those that are due, and reports whether these are all.
func (e *engine) evictSome(unitType string, steps *int) bool {
	list := e.victims[unitType]
	for *steps > 0 && e.due[unitType] > 0 && len(list) > 0 {
		s := list[0]
		list[0] = nil
		list = list[1:]
		*steps -= stepLookup
		if !s.waiting {
			continue // gone, or served again, or evicted by other means
		}
		e.unwait(s)
		if e.stillServed(s) {
			e.pardon(s)
			continue
		}
		*steps -= stepEnd
		if e.disowned(s) {
			e.evict(s, becauseRemoved)
		} else {
			e.evict(s, becauseMoved)
		}
		e.due[unitType]--
	}
	e.victims[unitType] = list
	if len(list) > 0 && e.due[unitType] > 0 {
		return false
	}
	delete(e.due, unitType)
	return true
}

// eviction is what Evict asked for one unit type.
type eviction struct {
	stats *typeStats
	rate  int // per second; 0: all at once
	pacer pacer
}

// Evict closes the victims of a unit type, rate per second over the whole relay, spread evenly from the start but not in
// time with any other edge, or all at once with rate 0. A victim that is served again by the time it is its turn is left alone. Calling it again
// changes the rate. It ends with the last victim: those that a later Install makes need another call.
func (r *Relay) Evict(unitType string, rate int) {
	st := r.statsOf(unitType)
	r.mu.Lock()
	defer r.mu.Unlock()
	if ev := r.evictions[unitType]; ev != nil && ev.rate == rate {
		return
	}
	if st.waitingAll() == 0 {
		delete(r.evictions, unitType)
		return
	}
	ev := &eviction{stats: st, rate: rate}
	if rate > 0 {
		ev.pacer = newPacer(rate, time.Since(r.epoch), rand.N[time.Duration])
	}
	r.evictions[unitType] = ev
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// runEvictions paces what Evict asked for.
func (r *Relay) runEvictions() {
	defer r.running.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(r.evictDue(time.Since(r.epoch)))
		select {
		case <-r.kick:
		case <-timer.C:
		case <-r.life.Done():
			return
		}
	}
}

// evictDue posts what is due and returns how long until the next is.
func (r *Relay) evictDue(now time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := time.Hour
	for typ, ev := range r.evictions {
		switch {
		case ev.stats.waitingAll() == 0:
			delete(r.evictions, typ)
			continue
		case ev.rate <= 0:
			for _, e := range r.engines {
				e.post(func() { e.evictDue(typ, everyVictim) })
			}
			delete(r.evictions, typ)
			continue
		}
		r.deal(typ, ev.stats, ev.pacer.take(now))
		wait = min(wait, ev.pacer.next-now)
	}
	return wait
}

// deal hands n evictions to the engines, each to the one with the most victims waiting.
func (r *Relay) deal(typ string, st *typeStats, n int) {
	waiting := make([]int64, len(r.engines))
	for i := range waiting {
		waiting[i] = st.waiting[i].Load()
	}
	for i, k := range portions(waiting, n) {
		if e := r.engines[i]; k > 0 {
			e.post(func() { e.evictDue(typ, k) })
		}
	}
}

// portions divides n among those who have something to do, always to the one with the most, and takes it from what they
// have. Nobody gets more than that.
func portions(have []int64, n int) []int {
	parts := make([]int, len(have))
	for ; n > 0; n-- {
		most := 0
		for i := range have {
			if have[i] > have[most] {
				most = i
			}
		}
		if have[most] <= 0 {
			break // a rate beyond what is there
		}
		have[most]--
		parts[most]++
	}
	return parts
}
