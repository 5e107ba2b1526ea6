package events

import (
	"cmp"
	"slices"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// maxWaves bounds the waves of a cutover.
const maxWaves = 100

// decideCutover decides the commands of cutovers and of the driver.
func (s *State) decideCutover(env Envelope, now time.Time) (Event, error) {
	switch c := env.Command.(type) {
	case PreviewCutover:
		return s.decidePreview(c)
	case CheckCutover:
		return s.decideChecks(c.Cutover, c.Checks)
	case RetryCheck:
		if !slices.Contains(CheckIDs(), c.Check) {
			return nil, ErrUnknownCheck.With("there is no precheck %q; known are %v", c.Check, CheckIDs()).At("check")
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
	case FenceWave:
		return s.decideFence(c)
	case CommitWave:
		return s.decideCommit(c)
	case CompleteCutover:
		return s.decideComplete(c)
	default:
		return nil, ErrBadCommand.With("%T is not decided here", c)
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

func (s *State) decidePreview(c PreviewCutover) (Event, error) {
	t, ok := s.UnitType(c.UnitType)
	if !ok {
		return nil, ErrUnknownUnitType.With("there is no unit type %q", c.UnitType).At("unitType")
	}
	have, ok := s.Rules[t.Name]
	if !ok {
		return nil, ErrNoRules.With("unit type %q has no rules yet: set the baseline first", t.Name).At("unitType")
	}
	if c.Waves < 0 || c.Waves > maxWaves {
		return nil, ErrBadValue.With("want 1 to %d waves", maxWaves).At("waves")
	}
	rules, err := s.wanted(t, have.Current, c)
	if err != nil {
		return nil, err
	}
	diff := routing.Compare(have.Current, rules)
	if diff.Empty() {
		return nil, ErrNothingMoves.With("every routerId already belongs to the unit that this names")
	}
	if err := s.soundUnder(t.Name, rules); err != nil {
		return nil, err
	}
	rate := Rate(s.Policy.EvictRate)
	if c.Rate != nil {
		rate = *c.Rate
	}
	if rate < 0 || rate > MaxRate {
		return nil, ErrBadValue.With("want max or 1 to %d", MaxRate).At("rate")
	}
	if c.Counted.SilentEdges == nil {
		c.Counted.SilentEdges = []string{}
	}
	return CutoverProposed{
		Cutover: cutoverID(s.CutoverCount + 1), UnitType: t.Name, RuleFrom: have.Version, RuleTo: have.Version + 1,
		Rules: rules, Moves: append([]routing.Move{}, diff.Moves...), ExactMoves: append([]routing.ExactMove{}, diff.ExactMoves...),
		Diff: routing.DiffText(have.Current, rules), Waves: diff.Split(max(1, c.Waves)), Rate: rate, Counted: c.Counted,
	}, nil
}

// wanted builds the rules that a preview asks for.
func (s *State) wanted(t UnitType, have *routing.Rules, c PreviewCutover) (*routing.Rules, error) {
	if c.Ranges == nil && c.Exact == nil {
		return nil, ErrMissingField.With("say what moves: ranges, exact, or both").At("ranges")
	}
	ranges, exact := have.Ranges(), have.Exact()
	if c.Ranges != nil {
		ranges = c.Ranges
	}
	given := map[string]bool{}
	for unit, ids := range c.Exact {
		exact[unit] = ids
		for _, id := range ids {
			given[id] = true
		}
	}
	for other := range exact { // an ID that is given to one unit leaves the lists that are not named
		if _, named := c.Exact[other]; !named {
			exact[other] = slices.DeleteFunc(exact[other], func(id string) bool { return given[id] })
		}
	}
	for _, m := range []struct {
		field string
		units []string
	}{{"ranges", sortedKeys(c.Ranges)}, {"exact", sortedKeys(c.Exact)}} {
		for _, u := range m.units {
			if _, ok := s.Units[u]; !ok {
				return nil, ErrUnknownUnit.With("there is no unit %q; known are %v", u, sortedKeys(s.Units)).At(m.field + "." + u)
			}
		}
	}
	rules, err := routing.NewRules(t.Slots, ranges, exact)
	if err != nil {
		return nil, fromRouting(err, "ranges", "exact")
	}
	return rules, nil
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
	cut, err := s.cutover(c.Cutover, Started)
	if err != nil {
		return nil, err
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

func (s *State) decideStart(c StartCutover, now time.Time) (Event, error) {
	cut, err := s.cutover(c.Cutover, Proposed, Checked)
	if err != nil {
		return nil, err
	}
	if r, ok := s.Running(cut.UnitType); ok {
		return nil, ErrCutoverOpen.With("cutover %s of unit type %s is %s: one may run at a time", r.ID, cut.UnitType, r.State)
	}
	if v := s.Rules[cut.UnitType].Version; v != cut.RuleFrom {
		return nil, ErrStaleVersion.With("cutover %s was made against rule version %d, the rules are at %d: preview again", cut.ID, cut.RuleFrom, v)
	}
	if err := s.soundUnder(cut.UnitType, cut.To); err != nil { // the configuration may have changed since the proposal
		return nil, err
	}
	if err := soundChecks(c.Checks); err != nil {
		return nil, err
	}
	checks := cut.merge(c.Checks)
	for _, id := range StaleChecks(checks, now) {
		return nil, ErrPrecheckFailed.With("precheck %s is missing or older than %s: run check %s", id, MaxCheckAge, cut.ID)
	}
	for _, k := range checks {
		if k.State == Fail {
			return nil, ErrPrecheckFailed.With("precheck %s failed: %s; mend it and retry, or skip it with a reason", k.ID, k.Message)
		}
	}
	return CutoverStarted{Cutover: cut.ID, Checks: c.Checks}, nil
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

func (s *State) decidePause(c PauseCutover, reason string) (Event, error) {
	cut, err := s.cutover(c.Cutover, Started)
	if err != nil {
		return nil, err
	}
	if c.Term != 0 {
		if err := s.inTerm(c.Term); err != nil {
			return nil, err
		}
	}
	if cut.NextWave() == len(cut.Waves) {
		return nil, ErrWrongState.With("every wave of %s is committed: it is about to complete", cut.ID)
	}
	return CutoverPaused{Cutover: cut.ID, Why: Why{cmp.Or(c.Code, "operator"), cmp.Or(reason, "paused by the operator")}}, nil
}

func (s *State) decideAbort(c AbortCutover, reason string) (Event, error) {
	cut, err := s.cutover(c.Cutover, Proposed, Checked, Started, Paused)
	if err != nil {
		return nil, err
	}
	if n := cut.NextWave(); n > 0 {
		return nil, ErrWrongState.With("%d of %d waves of %s are committed: resume it, and cut over back afterwards", n, len(cut.Waves), cut.ID)
	}
	return CutoverAborted{Cutover: cut.ID, Why: Why{"operator", cmp.Or(reason, "aborted by the operator")}}, nil
}

// inTerm lets only the driver in office act (R1).
func (s *State) inTerm(term uint64) error {
	if term != s.Office.Term {
		return ErrStaleTerm.With("term %d does not hold the office, term %d does", term, s.Office.Term)
	}
	return nil
}

func (s *State) decideFence(c FenceWave) (Event, error) {
	if err := s.inTerm(c.Term); err != nil {
		return nil, err
	}
	cut, err := s.cutover(c.Cutover, Started)
	if err != nil {
		return nil, err
	}
	if cut.FencedWave() >= 0 || cut.NextWave() != c.Wave || c.Wave >= len(cut.Waves) {
		return nil, ErrWrongState.With("wave %d of %s is not the next to fence", c.Wave, cut.ID)
	}
	return WaveFenced(c), nil
}

// decideCommit holds R5, R7 and R8 once more, whatever the driver believes: every needed edge has reported for this
// fence, or an operator did without it.
func (s *State) decideCommit(c CommitWave) (Event, error) {
	if err := s.inTerm(c.Term); err != nil {
		return nil, err
	}
	cut, err := s.cutover(c.Cutover, Started)
	if err != nil {
		return nil, err
	}
	if c.Wave < 0 || cut.FencedWave() != c.Wave {
		return nil, ErrWrongState.With("wave %d of %s is not fenced", c.Wave, cut.ID)
	}
	if units := s.Deserted(&cut, c.Wave); len(units) > 0 {
		return nil, ErrWrongState.With("unit %s would gain users and has no edge left to serve them", units[0])
	}
	w := cut.Waves[c.Wave]
	for _, e := range s.NeededEdges(&cut, c.Wave) {
		if _, ok := w.SkipEdges[e.ID]; ok {
			continue
		}
		i := slices.IndexFunc(c.Edges, func(r EdgeResult) bool { return r.ID == e.ID })
		if i < 0 || c.Edges[i].Applied < w.FenceSeq || e.Loses && !c.Edges[i].Drained {
			return nil, ErrWrongState.With("edge %s has not reported for the fence at %d", e.ID, w.FenceSeq)
		}
	}
	return WaveCommitted(c), nil
}

func (s *State) decideComplete(c CompleteCutover) (Event, error) {
	if err := s.inTerm(c.Term); err != nil {
		return nil, err
	}
	cut, err := s.cutover(c.Cutover, Started)
	if err != nil {
		return nil, err
	}
	if cut.NextWave() < len(cut.Waves) {
		return nil, ErrWrongState.With("wave %d of %s is not committed", cut.NextWave(), cut.ID)
	}
	return CutoverCompleted(c), nil
}
