package events

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/unitgate/unitgate/events/routing"
)

// applyCutover applies the events of cutovers.
func (s *State) applyCutover(rec Record, e Event) error {
	if p, ok := e.(CutoverProposed); ok {
		return s.propose(rec, p)
	}
	id := cutoverOf(e)
	c, ok := s.Cutovers[id]
	if !ok {
		return ErrUnknownCutover.With("there is no cutover %q", id)
	}
	switch e := e.(type) {
	case CutoverChecked:
		c.Checks = c.merge(e.Checks)
		if c.State == Proposed && c.allChecked() {
			c.State = Checked
		}
	case CutoverSkipped:
		if e.Edge != "" && c.FencedWave() < 0 {
			return ErrWrongState.With("no wave of %s is fenced", c.ID)
		}
		c = c.skip(e, Skip{rec.Actor, e.Reason, rec.Time})
	case CutoverStarted:
		if r, ok := s.Running(c.UnitType); ok {
			return ErrCutoverOpen.With("cutover %s is %s", r.ID, r.State)
		}
		c.excuse(rec, e.Checks)
		c.Checks = c.merge(e.Checks)
		c.State, c.StartedAt, c.Hooks = Started, rec.Time, s.Hooks
	case CutoverPaused:
		c.State, c.Why = Paused, &e.Why
		c.unfence()
	case CutoverResumed:
		c.State, c.Why = Started, nil
	case CutoverAborted:
		s.end(&c, rec, Aborted, &e.Why)
	case CutoverRolledBack:
		return s.rollBack(rec, c, e)
	case CutoverFailed:
		s.end(&c, rec, Failed, &e.Why)
	case HookCalled:
		c.Results = append(slices.Clone(c.Results), e.Result)
	case CutoverReported:
		c.Report = &e.Report
	case WaveFenced:
		if c.FencedWave() >= 0 || c.NextWave() != e.Wave || e.Wave >= len(c.Waves) {
			return ErrWrongState.With("wave %d of %s is not the next to fence", e.Wave, c.ID)
		}
		c.setWave(e.Wave, func(w *Wave) { w.State, w.FenceSeq, w.FencedAt, w.SkipEdges = FencedWave, rec.Seq, rec.Time, nil })
		if s.Policy.Ownership == "exclusive" {
			s.Exclusive.Fence = rec.Seq
		}
	case WaveCommitted:
		if e.Wave < 0 || c.FencedWave() != e.Wave {
			return ErrWrongState.With("wave %d of %s is not fenced", e.Wave, c.ID)
		}
		c.setWave(e.Wave, func(w *Wave) { w.State, w.Results = CommittedWave, e.Edges })
		s.silenced(e.Edges)
	case WaveJudged:
		if e.Wave < 0 || e.Wave != c.NextWave()-1 {
			return ErrWrongState.With("wave %d of %s is not the one committed last", e.Wave, c.ID)
		}
		c.setWave(e.Wave, func(w *Wave) { w.Gate = &e.Result })
		if !e.Result.OK {
			c.State, c.Why = Paused, &Why{"gate", e.Result.Message}
		}
	case CutoverCompleted:
		if c.NextWave() < len(c.Waves) {
			return ErrWrongState.With("wave %d of %s is not committed", c.NextWave(), c.ID)
		}
		s.end(&c, rec, Completed, c.Why)
		if o, ok := s.Cutovers[c.RollbackOf]; ok && o.State == Completed {
			o.State = RolledBack
			s.Cutovers[o.ID] = o
		}
	default:
		return fmt.Errorf("no rule says what %T changes", e)
	}
	s.Cutovers[id] = c
	s.forget()
	return nil
}

func cutoverOf(e Event) string {
	switch e := e.(type) {
	case CutoverChecked:
		return e.Cutover
	case CutoverSkipped:
		return e.Cutover
	case CutoverStarted:
		return e.Cutover
	case CutoverPaused:
		return e.Cutover
	case CutoverResumed:
		return e.Cutover
	case CutoverAborted:
		return e.Cutover
	case WaveFenced:
		return e.Cutover
	case WaveCommitted:
		return e.Cutover
	case CutoverCompleted:
		return e.Cutover
	case CutoverRolledBack:
		return e.Cutover
	case WaveJudged:
		return e.Cutover
	case CutoverFailed:
		return e.Cutover
	case HookCalled:
		return e.Cutover
	case CutoverReported:
		return e.Cutover
	default:
		return ""
	}
}

// end ends a cutover. What was committed stays: the rules in force are the standing ones then.
func (s *State) end(c *Cutover, rec Record, how CutoverState, why *Why) {
	c.unfence()
	c.State, c.Why, c.EndedAt = how, why, rec.Time
	if c.NextWave() == 0 {
		return
	}
	r := s.Rules[c.UnitType]
	current := c.To
	if c.NextWave() < len(c.Waves) {
		current = c.Standing()
	}
	s.Rules[c.UnitType] = RuleSet{Version: c.RuleTo, Baseline: r.Baseline, Current: current}
}

// rollBack proposes the way back. A completed cutover stays so until that is completed.
func (s *State) rollBack(rec Record, c Cutover, e CutoverRolledBack) error {
	if c.State != Completed {
		if !c.State.Running() || c.NextWave() == 0 {
			return ErrWrongState.With("cutover %s is %s", c.ID, c.State)
		}
		s.end(&c, rec, RolledBack, &e.Why)
		s.Cutovers[c.ID] = c
	}
	return s.propose(rec, e.Back)
}

// excuse notes the prechecks that an emergency started without.
func (c *Cutover) excuse(rec Record, checks []Check) {
	for _, k := range checks {
		if _, ok := c.Skips[k.ID]; !ok && k.State == Skipped {
			c.setSkip(k.ID, Skip{rec.Actor, "emergency: " + c.Reason, rec.Time})
		}
	}
}

// setSkip notes that a precheck is done without, in a fresh copy of the map.
func (c *Cutover) setSkip(check string, s Skip) {
	skips := maps.Clone(c.Skips)
	if skips == nil {
		skips = map[string]Skip{}
	}
	skips[check] = s
	c.Skips = skips
}

func (s *State) propose(rec Record, e CutoverProposed) error {
	r, ok := s.Rules[e.UnitType]
	if !ok {
		return ErrNoRules.With("unit type %q has no rules", e.UnitType)
	}
	if id := cutoverID(s.CutoverCount + 1); e.Cutover != id {
		return fmt.Errorf("it is called %q, the next cutover is %s", e.Cutover, id)
	}
	to, err := e.to(r.Current, s.before(e))
	if err != nil {
		return err
	}
	if to.Slotting() != r.Current.Slotting() {
		return fmt.Errorf("%w: %+v before and %+v after", routing.ErrSlots, r.Current.Slotting(), to.Slotting())
	}
	keys, err := waves(e.Waves, routing.Compare(r.Current, to))
	if err != nil {
		return err
	}
	if err := routing.CheckWaves(r.Current, to, keys); err != nil {
		return err
	}
	c := Cutover{
		ID: e.Cutover, Number: s.CutoverCount + 1, State: Proposed, UnitType: e.UnitType, RuleFrom: e.RuleFrom, RuleTo: e.RuleTo,
		From: r.Current, To: to, Rate: e.Rate, Interval: e.Interval, Gate: e.Gate, Counted: e.Counted,
		Drain: e.Drain, Emergency: e.Emergency, Reason: rec.Reason, RollbackOf: e.RollbackOf, Auto: e.Auto,
		Actor: rec.Actor, Traceparent: rec.Traceparent, ProposedAt: rec.Time,
	}
	for _, k := range keys {
		c.Waves = append(c.Waves, Wave{Keys: k, State: PendingWave})
	}
	s.CutoverCount++
	s.Cutovers[c.ID] = c
	s.forget()
	return nil
}

// before are the rules from which the cutover led that a proposal rolls back; nil if it rolls back none.
func (s *State) before(e CutoverProposed) *routing.Rules {
	if c, ok := s.Cutovers[e.RollbackOf]; ok && c.UnitType == e.UnitType {
		return c.From
	}
	return nil
}

// Between are the rule sets from one to the other of which a proposal leads that was decided on s and is not applied yet.
func (s *State) Between(e CutoverProposed) (from, to *routing.Rules, err error) {
	from = s.Rules[e.UnitType].Current
	if c, ok := s.Cutovers[e.RollbackOf]; ok && c.State.Running() {
		from = c.Standing() // which the same event puts in force
	}
	to, err = e.to(from, s.before(e))
	return from, to, err
}

// cutoverID is the id of a namespace's nth cutover.
func cutoverID(n uint64) string { return fmt.Sprintf("c%d", n) }

// forget drops the oldest cutovers that are not running, so that a State stays bounded.
func (s *State) forget() {
	if len(s.Cutovers) <= MaxIdleCutovers {
		return
	}
	var idle []Cutover
	for _, c := range s.CutoverList() {
		if !c.State.Running() {
			idle = append(idle, c)
		}
	}
	for _, c := range idle[:max(0, len(idle)-MaxIdleCutovers)] {
		delete(s.Cutovers, c.ID)
	}
}

// merge lays new verdicts over the ones there are; a skipped check stays skipped when it fails again.
func (c *Cutover) merge(checks []Check) []Check {
	all := map[string]Check{}
	for _, k := range c.Checks {
		all[k.ID] = k
	}
	for _, k := range checks {
		if _, ok := c.Skips[k.ID]; ok && k.State == Fail {
			k.State = Skipped
		}
		all[k.ID] = k
	}
	rank := func(k Check) int { return slices.Index(CheckIDs(), k.ID) }
	return slices.SortedFunc(maps.Values(all), func(a, b Check) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.ID, b.ID))
	})
}

// allChecked reports whether every precheck has a verdict.
func (c *Cutover) allChecked() bool {
	return !slices.ContainsFunc(CheckIDs(), func(id string) bool {
		return !slices.ContainsFunc(c.Checks, func(k Check) bool { return k.ID == id })
	})
}

func (c Cutover) skip(e CutoverSkipped, s Skip) Cutover {
	if e.Edge != "" {
		c.setWave(c.FencedWave(), func(w *Wave) {
			w.SkipEdges = maps.Clone(w.SkipEdges)
			if w.SkipEdges == nil {
				w.SkipEdges = map[string]Skip{}
			}
			w.SkipEdges[e.Edge] = s
		})
		return c
	}
	c.setSkip(e.Check, s)
	c.Checks = slices.Clone(c.Checks)
	for i, k := range c.Checks {
		if k.ID == e.Check && k.State == Fail {
			c.Checks[i].State = Skipped
		}
	}
	return c
}

// unfence returns the fenced wave, if any, to its owner (R11); reports for the old fence do not count for the next.
func (c *Cutover) unfence() {
	if w := c.FencedWave(); w >= 0 {
		c.setWave(w, func(w *Wave) { w.State, w.SkipEdges = PendingWave, nil })
	}
}

// setWave changes one wave in a fresh copy of the list.
func (c *Cutover) setWave(i int, change func(*Wave)) {
	c.Waves = slices.Clone(c.Waves)
	change(&c.Waves[i])
}
