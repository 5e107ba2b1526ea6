package relay

import (
	"slices"

	"github.com/unitgate/unitgate/edge/handshake"
	registry "github.com/unitgate/unitgate/edge/session"
	"github.com/unitgate/unitgate/events"
)

// cutoversOf is what a view says of the cutovers of its unit types.
func cutoversOf(v *handshake.View) map[string]typeCutover {
	out := map[string]typeCutover{}
	for name, t := range v.Types {
		if t.Table != nil {
			out[name] = typeCutover{t.Cutover, t.Committed, t.Table, slices.ContainsFunc(t.Fences, func(fence uint64) bool { return fence > 0 })}
		}
	}
	return out
}

// noteLeft remembers that a session feels its eviction from now on.
func (e *engine) noteLeft(s *session) {
	if p, fence := e.movedBy(s); p != nil {
		p.Left(s.entry.Key.RouterID, fence, e.r.now())
	}
}

// noteBack remembers that a session has landed on a key that moved.
func (e *engine) noteBack(s *session) {
	if p, fence := e.movedBy(s); p != nil {
		now := e.r.now()
		p.Back(s.entry.Key.RouterID, fence, now)
		if d, known := p.sinceCommit(e.waveOf(s), now); known {
			observe(e.r.cfg.Observers.Landed, d)
		}
	}
}

// movedBy is the cutover that moves a session's key, and the newest fence of its wave; nil if none does, or if that has
// been reported.
func (e *engine) movedBy(s *session) (*passage, uint64) {
	k := &s.entry.Key
	list := e.passages[k.Type]
	if len(list) == 0 || e.view == nil || k.RouterID == "" {
		return nil, 0
	}
	t := e.view.Types[k.Type]
	if t == nil || t.Table == nil || t.Cutover != list[0].Cutover {
		return nil, 0
	}
	wave := e.waveOf(s)
	if wave < 0 || wave >= len(t.Fences) {
		return nil, 0
	}
	return list[0], t.Fences[wave]
}

// waveOf is the wave of its type's cutover that moves a session's key, -1 if none does. There are rules of the type.
func (e *engine) waveOf(s *session) int {
	return e.view.Types[s.entry.Key.Type].Table.Lookup(s.entry.Key.RouterID).Wave
}

// Passage says what this relay saw of a cutover, but for what was counted since its commit.
func (r *Relay) Passage(q events.CutoverQuestion) events.CutoverAnswer {
	r.mu.Lock()
	list := r.passages[q.UnitType]
	r.mu.Unlock()
	i := slices.IndexFunc(list, func(p *passage) bool { return p.Cutover == q.Cutover })
	if i < 0 {
		return events.CutoverAnswer{}
	}
	p := list[i]
	a := events.CutoverAnswer{Known: true, Whole: p.Whole}
	a.Evicted, a.Landed = p.Counts()
	a.Untouched = r.untouched(q.UnitType, p)
	bound, left, back := p.List(q.Fences, q.Users)
	now := r.now()
	a.Bound = bound
	for _, s := range left {
		a.Left = events.AppendSighting(a.Left, events.Sighting{User: s.User, Ago: uint64(max(0, now-s.At).Microseconds())})
	}
	for _, s := range back {
		a.Back = events.AppendSighting(a.Back, events.Sighting{User: s.User, Ago: uint64(max(0, now-s.At).Microseconds())})
	}
	return a
}

// untouched adds up what the pollers know of the sessions that the cutover may not touch.
func (r *Relay) untouched(unitType string, p *passage) events.Untouched {
	var sum events.Untouched
	ask(r, func(e *engine, answer func(events.Untouched)) chore {
		begun := false
		return func(steps *int) bool {
			if !begun {
				begun = true
				e.untouched(unitType, p, answer)
			}
			return e.takeCensuses(steps)
		}
	}, sum.Add)
	sum.Judge()
	return sum
}

// untouched says what became of a cohort's members until this moment, and has those that are still there counted one by
// one, so that the sum with those that have ended proves something. It is asked once or twice for a cutover and costs as
// much as there are sessions.
func (e *engine) untouched(unitType string, p *passage, answer func(events.Untouched)) {
	i := slices.IndexFunc(e.cohorts[unitType], func(c *cohort) bool { return c.of == p })
	if i < 0 {
		answer(events.Untouched{})
		return
	}
	c := e.cohorts[unitType][i]
	u := events.Untouched{
		Before: c.before, EndedByPeer: c.ended[notClosing], Evicted: c.ended[becauseOperator] + c.ended[becauseRemoved],
		ClosedByUs: c.ended[becauseMoved] + c.ended[becauseShutdown] + c.ended[becauseNoLease],
	}
	for s, was := range c.sample {
		if now, ok := s.connections(); ok { // else it is ending
			u.Compared++
			if now != was {
				u.Changed++
			}
		}
	}
	e.count(unitType, registry.Everything(), func(s *session) bool { return s.served() && c.has(s) }, func(n int) {
		u.After = n
		answer(u)
	})
}
