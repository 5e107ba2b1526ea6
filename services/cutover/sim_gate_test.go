package cutover

import (
	"fmt"
	"slices"
	"time"

	"github.com/unitgate/unitgate/events"
)

// simPassage is what an edge of the simulation remembers of a cutover: users by the true time.
type simPassage struct {
	whole      bool
	left, back map[uint64]time.Duration
}

// gate is what the operator wants of a cutover, nil for nothing.
func (w *world) gate() *events.Gate {
	if w.chance(0.5) {
		return nil
	}
	g := &events.Gate{Landed: 50, OriginErrors: 20, Window: events.Duration(3 * time.Second), Action: "pause"}
	if w.chance(0.5) {
		g.Action = "rollback"
	}
	return g
}

// prepared does for a command what the Preparer does.
func (w *world) prepared(c events.Command) events.Command {
	switch c := c.(type) {
	case events.CheckCutover:
		c.Checks = allPassed()
		if w.faulty() && w.chance(0.3) {
			c.Checks[0].State = events.Fail
		}
		return c
	case events.StartCutover:
		c.Checks = allPassed()
		return c
	}
	return c
}

// passage is the cutover that moves a user by what the edge has applied, and what the edge remembers of it.
func (e *simEdge) passage(user int) (*simPassage, *events.Cutover) {
	s := e.w.states[e.applied]
	c, ok := s.InForce("user")
	if !ok || c.Waves[0].FenceSeq == 0 || e.route(user).Wave < 0 {
		return nil, nil
	}
	p := e.seen[c.ID]
	if p == nil {
		if e.seen == nil {
			e.seen = map[string]*simPassage{}
		}
		p = &simPassage{e.since < c.Waves[0].FenceSeq, map[uint64]time.Duration{}, map[uint64]time.Duration{}}
		e.seen[c.ID] = p
	}
	return p, &c
}

func (e *simEdge) evicts(user int) {
	if p, _ := e.passage(user); p != nil {
		p.left[uint64(user)] = e.w.now
	}
}

func (e *simEdge) lands(user int) {
	if p, _ := e.passage(user); p != nil && e.route(user).Moved && !e.sessions[user] {
		if _, ok := p.back[uint64(user)]; !ok {
			p.back[uint64(user)] = e.w.now
		}
	}
}

// inquire asks the edges; an answer may get lost, and an edge that is down gives none.
func (d *simDriver) inquire(o Inquire) {
	w := d.w
	sent := d.clock()
	w.after(w.span(200*time.Millisecond), d.alive(func() {
		if w.faulty() && w.chance(0.05) {
			return // the machine has to give it up by itself
		}
		var answers []Witness
		for _, asked := range o.Edges {
			i := slices.IndexFunc(w.edges, func(e *simEdge) bool { return e.id == asked.ID })
			e := w.edges[i]
			answers = append(answers, Witness{
				Edge: asked, Sent: sent, Got: d.clock(), Silent: !e.up || w.faulty() && w.chance(0.05), Answer: e.witness(o.Question),
			})
		}
		d.step(Inquired{d.at(), o.Round, answers})
	}))
}

func (e *simEdge) witness(q events.CutoverQuestion) events.CutoverAnswer {
	c, ok := e.w.states[e.applied].Cutovers[q.Cutover]
	a := events.CutoverAnswer{Bound: ^uint64(0), Known: ok && len(c.Waves) > 0 && c.Waves[0].FenceSeq > 0}
	if !a.Known {
		return a
	}
	a.Whole = e.since < c.Waves[0].FenceSeq
	if p := e.seen[q.Cutover]; p != nil {
		for user, at := range p.left {
			if w := e.w.routes[e.applied][user].Wave; w >= 0 && w < len(c.Waves) && slices.Contains(q.Fences, c.Waves[w].FenceSeq) {
				a.Left = events.AppendSighting(a.Left, events.Sighting{User: user, Ago: uint64((e.w.now - at).Microseconds())})
			}
		}
		for user, at := range p.back {
			a.Back = events.AppendSighting(a.Back, events.Sighting{User: user, Ago: uint64((e.w.now - at).Microseconds())})
		}
		a.Evicted, a.Landed = len(p.left), len(p.back)
	}
	if n := c.NextWave(); n > 0 {
		a.Commit = events.CommitCounts{Fence: c.Waves[n-1].FenceSeq, Whole: e.since < c.Waves[n-1].FenceSeq, Counters: events.Counters{Handshakes: 10, Dials: 10}}
		if c.Number%3 == 0 {
			a.Commit.Counters.DialErrors = 5 // the new unit's origins are ill
		}
	}
	a.Untouched.Judge()
	return a
}

// judged looks at what a gate, or a report, has put into the journal.
func (w *world) judged(rec events.Record) {
	e, err := rec.Event()
	if err != nil {
		w.bug("%v", err)
		return
	}
	switch e := e.(type) {
	case events.WaveJudged:
		c := w.head.Cutovers[e.Cutover]
		switch r := e.Result; {
		case len(r.Missing) > 0 && r.OK:
			w.bug("a gate that lacks something has passed: %+v", r)
		case len(r.Missing) > 0:
			w.stats.unknown++
		case r.OK != (c.Number%3 != 0 && (r.Compared == 0 || r.Landed*2 >= r.Compared)):
			w.bug("gate of %s: %+v", c.ID, r)
		case r.OK:
			w.stats.passed++
		default:
			w.stats.failed++
		}
	case events.CutoverRolledBack:
		if e.Back.Auto {
			w.stats.wentBack++
			if g := w.states[rec.Seq-1].Cutovers[e.Cutover]; g.Waves[g.NextWave()-1].Gate == nil || len(g.Waves[g.NextWave()-1].Gate.Missing) > 0 {
				w.bug("%s went back by itself and nobody knows why", e.Cutover)
			}
		}
	case events.CutoverReported:
		w.stats.reported++
		if r := e.Report; r.NotSeen > r.Compared || r.Blackout.Samples != r.Compared-r.NotSeen || len(r.Edges) == 0 {
			w.bug("report of %s: %+v", e.Cutover, r)
		}
	}
}

// converged: what the driver has to do for a cutover by itself was done, once nothing has failed for long enough.
func (w *world) converged(c *events.Cutover) {
	s := w.head
	if c.Auto && (c.State == events.Proposed || c.State == events.Checked) && s.Rules["user"].Version == c.RuleFrom && !occupied(s, "user") {
		w.bug("the way back %s waits, %s", c.ID, fmt.Sprint(c.Checks))
	}
	if w.dead == "" && c.State == events.Started && c.FencedWave() < 0 && c.Gate.Set() && c.NextWave() > 0 && c.Waves[c.NextWave()-1].Gate == nil {
		w.bug("the gate of %s does not judge wave %d", c.ID, c.NextWave()-1)
	}
}
