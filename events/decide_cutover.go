package events

import (
	"slices"
	"time"
)

// decideCutover decides the commands of cutovers and of the driver.
func (s *State) decideCutover(env Envelope, now time.Time) (Event, error) {
	switch c := env.Command.(type) {
	case PreviewCutover:
		return s.decidePreview(c, env.why())
	case CheckCutover:
		return s.decideChecks(c.Cutover, c.Checks)
	case RetryCheck:
		if !slices.Contains(CheckIDs(), c.Check) {
			return nil, ErrUnknownCheck.With("there is no precheck %q; known are %v", c.Check, CheckIDs()).At("check")
		}
		if _, err := s.cutover(c.Cutover, Proposed, Checked); err != nil {
			return nil, err // nothing was measured of it
		}
		if c.Result.ID != c.Check {
			return nil, ErrBadValue.With("the result is of precheck %q", c.Result.ID).At("check")
		}
		return s.decideChecks(c.Cutover, []Check{c.Result})
	case SkipCheck:
		c.Reason = env.why()
		return s.decideSkip(c)
	case StartCutover:
		return s.decideStart(c, now)
	case PauseCutover:
		return s.decidePause(c, env.why())
	case ResumeCutover:
		cut, err := s.cutover(c.Cutover, Paused)
		if err != nil {
			return nil, err
		}
		return CutoverResumed{Cutover: cut.ID}, nil
	case AbortCutover:
		return s.decideAbort(c, env.why())
	case RollbackCutover:
		return s.decideRollback(c, env.why())
	default:
		return s.decideDriven(env)
	}
}

// cutover finds a cutover that is in one of the states, or in any if none is given.
func (s *State) cutover(id string, states ...CutoverState) (Cutover, error) {
	c, ok := s.Cutovers[id]
	if !ok {
		return c, ErrUnknownCutover.With("there is no cutover %q; see get cutovers", id).At("cutover")
	}
	if len(states) > 0 && !slices.Contains(states, c.State) {
		return c, ErrWrongState.With("cutover %s is %s; this needs %v", id, c.State, states)
	}
	return c, nil
}

func (s *State) decideChecks(id string, checks []Check) (Event, error) {
	c, err := s.cutover(id, Proposed, Checked)
	if err != nil {
		return nil, err
	}
	if err := soundChecks(checks); err != nil {
		return nil, err
	}
	return CutoverChecked{Cutover: c.ID, Checks: checks}, nil
}

// soundChecks checks what was measured: a verdict of a known precheck. That one is skipped is an operator's word only.
func soundChecks(checks []Check) error {
	for _, k := range checks {
		if !slices.Contains(CheckIDs(), k.ID) {
			return ErrUnknownCheck.With("there is no precheck %q; known are %v", k.ID, CheckIDs()).At("check")
		}
		if !slices.Contains([]CheckState{Pass, Fail, Warn}, k.State) {
			return ErrBadValue.With("precheck %s: %q is no verdict", k.ID, k.State).At("check")
		}
	}
	return nil
}

func (s *State) decideSkip(c SkipCheck) (Event, error) {
	if (c.Check == "") == (c.Edge == "") {
		return nil, ErrMissingField.With("name one precheck or one edge").At("check")
	}
	if err := needReason(c.Reason); err != nil {
		return nil, err
	}
	if c.Check != "" {
		cut, err := s.cutover(c.Cutover, Proposed, Checked)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(CheckIDs(), c.Check) {
			return nil, ErrUnknownCheck.With("there is no precheck %q; known are %v", c.Check, CheckIDs()).At("check")
		}
		return CutoverSkipped{Cutover: cut.ID, Check: c.Check, Reason: c.Reason}, nil
	}
	return s.decideSkipEdge(c)
}

// decideSkipEdge lets the fenced wave do without one edge's report. Under exclusive ownership nobody's word replaces the
// silence of a lease that has run out (G2).
func (s *State) decideSkipEdge(c SkipCheck) (Event, error) {
	cut, err := s.cutover(c.Cutover, Started)
	if err != nil {
		return nil, err
	}
	if c.Term != 0 {
		if err := s.inTerm(c.Term); err != nil {
			return nil, err
		}
		if e := s.Edges[c.Edge]; !cut.Emergency || e.Unit != cut.Drain {
			return nil, ErrNotAllowed.With("only an emergency's drained unit is done without by itself").At("edge")
		}
	}
	if s.Policy.Ownership == "exclusive" {
		return nil, ErrNotAllowed.With("under exclusive ownership a wave waits until edge %q reports or its lease has run out (%s): retire it if it is gone for good",
			c.Edge, time.Duration(s.Exclusive.Lease)).At("edge")
	}
	w := cut.FencedWave()
	if w < 0 {
		return nil, ErrWrongState.With("no wave of %s is fenced, so no edge is waited for", cut.ID)
	}
	if !slices.ContainsFunc(s.NeededEdges(&cut, w), func(e NeededEdge) bool { return e.ID == c.Edge }) {
		return nil, ErrUnknownEdge.With("wave %d does not wait for edge %q", w, c.Edge).At("edge")
	}
	return CutoverSkipped{Cutover: cut.ID, Edge: c.Edge, Reason: c.Reason}, nil
}

// StaleChecks are the prechecks that must be run before a start: missing, or older than MaxCheckAge and not skipped.
func StaleChecks(have []Check, now time.Time) []string {
	var out []string
	for _, id := range CheckIDs() {
		i := slices.IndexFunc(have, func(k Check) bool { return k.ID == id })
		if i < 0 || have[i].State != Skipped && now.Sub(have[i].At).Abs() > MaxCheckAge {
			out = append(out, id)
		}
	}
	return out
}
