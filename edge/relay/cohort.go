package relay

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unitgate/unitgate/edge/handshake"
	registry "github.com/unitgate/unitgate/edge/session"
	"github.com/unitgate/unitgate/events/routing"
)

// Bounds of the sessions of a cohort whose connections are compared, on one poller.
const (
	maxSample = 64
	maxLooks  = 512 // sessions that are looked at for them
)

// passage is what a relay remembers of one cutover; see registry.Passage.
type passage struct {
	registry.Passage
	lists []routing.Range // those with keys that the cutover moves, in whatever wave

	mu      sync.Mutex            // guards what follows
	known   int                   // waves that are committed
	commits map[int]time.Duration // by wave: the relay decides by its commit since then, by Relay.now
}

// cohort are the sessions of one poller that were open when a cutover's first fence was installed, on keys that it does
// not move: those that nothing of it may touch (G1). The poller owns it. Sessions are not listed: one that was
// established before the cohort began and whose key the table does not move is a member.
type cohort struct {
	of     *passage
	table  *routing.Table
	gen    uint32 // members were established in an earlier generation of the engine
	before int    // members when it began, once they are counted
	ended  [becauseNoLease + 1]int
	sample map[*session]connections // members whose connections are compared
}

// connections are the kernel's names of a session's two sockets: no other socket ever has them.
type connections [2]uint64

// passagesOf keeps, by unit type, the cutover of a view and the one before it, newest first. It is called with the view
// that the pollers get next; first says that they had none.
func (r *Relay) passagesOf(types map[string]typeCutover, first bool) map[string][]*passage {
	next := map[string][]*passage{}
	for name, t := range types {
		have := r.passages[name]
		switch {
		case t.cutover == "": // none, or one that was reported
		case len(have) > 0 && have[0].Cutover == t.cutover:
			next[name] = have
			have[0].committed(t.committed, r.now())
		default:
			p := &passage{Passage: registry.Passage{Cutover: t.cutover, Whole: !first || !t.fenced}, lists: t.table.Slotting().SlotsOf(t.table.Moving()), known: t.committed, commits: map[int]time.Duration{}}
			next[name] = append([]*passage{p}, have[:min(len(have), 1)]...)
		}
	}
	return next
}

// typeCutover is what a view says of the cutover of one unit type.
type typeCutover struct {
	cutover   string
	committed int // waves
	table     *routing.Table
	fenced    bool // its first fence has come
}

// committed notes from when on a relay decides by the commits of so many waves: of those that it has seen uncommitted.
func (p *passage) committed(waves int, now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ; p.known < waves; p.known++ {
		p.commits[p.known] = now
	}
}

// sinceCommit is how long a relay has decided by the commit of a wave; not known if it did so from the start.
func (p *passage) sinceCommit(wave int, now time.Duration) (d time.Duration, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, known := p.commits[wave]
	return now - at, known
}

// beginCohorts marks the sessions that a cutover may not touch, when its first fence is about to be installed.
func (e *engine) beginCohorts(types map[string]typeCutover, passages map[string][]*passage) {
	for name := range e.cohorts {
		if passages[name] == nil {
			delete(e.cohorts, name)
		}
	}
	e.passages = passages
	for name, list := range passages {
		have := e.cohorts[name]
		if t := types[name]; t.fenced && (len(have) == 0 || have[0].of != list[0]) {
			e.cohorts[name] = append([]*cohort{e.newCohort(name, list[0], t.table)}, have[:min(len(have), 1)]...)
		}
	}
}

// newCohort begins one. How many of the open sessions move is counted by a census, because there may be many.
func (e *engine) newCohort(unitType string, p *passage, table *routing.Table) *cohort {
	e.gen++
	c := &cohort{
		of: p, table: table, gen: e.gen, sample: map[*session]connections{},
		before: int(e.statsOf(unitType).open[e.index].Load()),
	}
	moves := func(s *session) bool {
		return s.served() && s.gen < c.gen && !s.entry.Key.Unbound() && c.table.Lookup(s.entry.Key.RouterID).Wave >= 0
	}
	e.count(unitType, p.lists, moves, func(n int) { c.before -= n })
	looks := 0
	for s := range e.all { // in no order
		if looks++; looks > maxLooks || len(c.sample) == maxSample {
			break
		}
		if s.served() && s.entry.Key.Type == unitType && c.has(s) {
			if names, ok := s.connections(); ok {
				c.sample[s] = names
			}
		}
	}
	return c
}

// has reports whether an open session of the unit type is a member.
func (c *cohort) has(s *session) bool {
	if s.gen >= c.gen || s.probe() {
		return false
	}
	return s.entry.Key.RouterID == "" || c.table.Lookup(s.entry.Key.RouterID).Wave < 0 // unmarked clients are bound to no key
}

// connections are the session's, if both are open.
func (s *session) connections() (names connections, ok bool) {
	for i := range s.legs {
		cookie, err := unix.GetsockoptUint64(s.legs[i].fd(), unix.SOL_SOCKET, unix.SO_COOKIE)
		if err != nil {
			return names, false
		}
		names[i] = cookie
	}
	return names, true
}

// served reports whether the session is an open one that this edge serves: not one that it passes on to an edge that does.
func (s *session) served() bool { return s.open && s.via == 0 }

// probe reports whether the session is the edge's own, made to see whether sessions reach its origins.
func (s *session) probe() bool { return s.entry.Key.RouterID == handshake.ProbeID }

// opens counts a session that is being established.
func (e *engine) opens(s *session) {
	s.open, s.gen = true, e.gen
	s.dealings().sessions.Add(1)
	if s.via == 0 && !s.probe() {
		s.stats.open[e.index].Add(1)
	}
}

// closes counts a session whose connections are gone.
func (e *engine) closes(s *session) {
	for _, c := range e.censuses {
		c.closes(s)
	}
	s.open = false
	s.dealings().sessions.Add(-1)
	if s.via != 0 {
		return
	}
	if !s.probe() {
		s.stats.open[e.index].Add(-1)
	}
	s.stats.ended[s.why].Add(1)
	if s.why != notClosing {
		s.stats.closing.Add(-1)
	}
	for _, c := range e.cohorts[s.entry.Key.Type] {
		if c.has(s) {
			c.ended[s.why]++
			delete(c.sample, s)
		}
	}
}
