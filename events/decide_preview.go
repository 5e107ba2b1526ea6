package events

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// maxWaves bounds the waves of a cutover.
const maxWaves = 100

func (s *State) decidePreview(c PreviewCutover, reason string) (Event, error) {
	t, ok := s.UnitType(c.UnitType)
	if !ok {
		return nil, ErrUnknownUnitType.With("there is no unit type %q", c.UnitType).At("unitType")
	}
	have, ok := s.Rules[t.Name]
	if !ok {
		return nil, ErrNoRules.With("unit type %q has no rules yet: set the baseline first", t.Name).At("unitType")
	}
	pace, err := s.pace(c, reason)
	if err != nil {
		return nil, err
	}
	rules, err := s.wanted(t, have.Current, c)
	if err != nil {
		return nil, err
	}
	e, err := s.proposal(t.Name, have.Current, have.Version, rules, pace)
	if err == nil && !c.Emergency { // in one the way forward counts
		err = s.wayBack(e.(CutoverProposed), have.Current, rules, pace)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Under so many moves a way back fits in any case, and over so many bytes it might not with what stands around it.
const (
	fewMoves   = 1024
	maxWayBack = MaxEventSize - 8<<10
)

// wayBack refuses a cutover that could not be rolled back, because that event would be too large although this one is not:
// many ranges take more than the few in which they end. Exact lists take nothing on the way back.
func (s *State) wayBack(e CutoverProposed, from, to *routing.Rules, p pace) error {
	if len(e.Moves) < fewMoves {
		return nil
	}
	p.RollbackOf = e.Cutover
	back, err := s.proposal(e.UnitType, to, e.RuleTo, from, p)
	if err != nil {
		return nil //nolint:nilerr // for reasons that may be gone by then
	}
	data, err := json.Marshal(back)
	if err != nil {
		return err
	}
	if n := len(Pack(data)); len(data) > maxUnpacked-8<<10 || n > maxWayBack {
		return ErrTooLarge.With("the way back would be an event of %d bytes, at most %d are allowed: move fewer ranges at a time", n, maxWayBack)
	}
	return nil
}

// pace is how a cutover goes about what it moves.
type pace struct {
	CutoverProposed     // Rate, Interval, Gate, Drain, Emergency, RollbackOf, Auto and Counted
	waves           int // 0 and no steps: see defaultWaves
	steps           []int
	hold            Duration
}

func (s *State) pace(c PreviewCutover, reason string) (pace, error) {
	p := pace{waves: c.Waves, steps: c.Steps, hold: s.Policy.Hold}
	p.Rate, p.Interval, p.Gate, p.Drain, p.Emergency, p.Counted = Rate(s.Policy.EvictRate), c.Interval, s.Policy.Gate, c.Drain, c.Emergency, c.Counted
	if c.Rate != nil {
		p.Rate = *c.Rate
	}
	switch {
	case c.Gate != nil:
		p.Gate = *c.Gate
	case c.Emergency: // it does without what cannot answer
		p.Gate = Gate{}
	}
	if err := p.Gate.normalize("gate"); err != nil {
		return p, err
	}
	switch {
	case p.Rate < 0 || p.Rate > MaxRate:
		return p, ErrBadValue.With("want max or 1 to %d", MaxRate).At("rate")
	case c.Waves < 0 || c.Waves > maxWaves:
		return p, ErrBadValue.With("want 1 to %d waves", maxWaves).At("waves")
	case c.Waves > 0 && len(c.Steps) > 0:
		return p, ErrBadValue.With("give waves or steps, not both").At("steps")
	case c.Interval < 0 || c.Interval > Duration(24*time.Hour):
		return p, ErrBadValue.With("want 0 to 24h").At("interval")
	case c.Emergency && c.Drain == "":
		return p, ErrMissingField.With("an emergency drains a unit: say which").At("drain")
	case c.Emergency && reason == "":
		return p, needReason("")
	}
	return p, checkSteps(c.Steps)
}

// checkSteps wants percentages that rise to 100.
func checkSteps(steps []int) error {
	if len(steps) == 0 {
		return nil
	}
	if len(steps) > maxWaves {
		return ErrBadSteps.With("%d steps, at most %d are allowed", len(steps), maxWaves).At("steps")
	}
	last := 0
	for i, p := range steps {
		if p <= last || p > 100 {
			return ErrBadSteps.With("%d: want percentages of the moving users that rise from 1 to 100", p).At(fmt.Sprintf("steps[%d]", i))
		}
		last = p
	}
	if last != 100 {
		return ErrBadSteps.With("they end at %d %%, the last one must be 100", last).At("steps")
	}
	return nil
}

// proposal is the cutover from one rule set to another at a pace.
func (s *State) proposal(unitType string, from *routing.Rules, version uint64, to *routing.Rules, p pace) (Event, error) {
	diff := routing.Compare(from, to)
	if diff.Empty() {
		return nil, ErrNothingMoves.With("every routerId already belongs to the unit that this names")
	}
	if err := s.soundUnder(unitType, to); err != nil {
		return nil, err
	}
	e := p.CutoverProposed
	if e.Counted.SilentEdges == nil {
		e.Counted.SilentEdges = []string{}
	}
	e.Cutover, e.UnitType, e.RuleFrom, e.RuleTo = cutoverID(s.CutoverCount+1), unitType, version, version+1
	change := routing.ChangeOf
	if p.RollbackOf != "" {
		change = routing.ChangeBack // to is in the state
	}
	e.Change, e.Diff = change(from, to), routing.DiffText(from, to)
	e.Moves, e.ExactMoves = append([]routing.Move{}, diff.Moves...), diff.ExactMoves(routing.MaxShown)
	if n := diff.Exact.Len(); n > len(e.ExactMoves) {
		e.ExactCount = n
	}
	if len(p.steps) > 0 {
		e.Waves = shares(diff.SplitAt(p.steps), diff.Exact.Len())
	} else {
		e.Waves = shares(diff.Split(cmp.Or(p.waves, defaultWaves(e.Counted.Largest, e.Rate, p.hold))), diff.Exact.Len())
	}
	return e, nil
}

// defaultWaves is as many waves as keep the eviction of one wave, on the edge with the most sessions that move, under
// half of the hold time: a held handshake must not time out because of the pacing of evictions.
func defaultWaves(largest int, rate Rate, hold Duration) int {
	if rate == 0 {
		return 1
	}
	perWave := max(1, int(time.Duration(hold).Seconds()*float64(rate)/2))
	return min(max(1, (largest+perWave-1)/perWave), maxWaves)
}

// wanted builds the rules that a preview asks for.
func (s *State) wanted(t UnitType, have *routing.Rules, c PreviewCutover) (*routing.Rules, error) {
	if c.Drain != "" {
		return s.drained(have, c)
	}
	if c.DrainTo != "" {
		return nil, ErrMissingField.With("say which unit is drained").At("drain")
	}
	patch, err := c.lists()
	if err != nil {
		return nil, err
	}
	if c.Ranges == nil && patch.empty() {
		return nil, ErrMissingField.With("say what moves: ranges, exact, or drain").At("ranges")
	}
	for _, u := range sortedKeys(c.Ranges) {
		if err := s.knows(u, "ranges"); err != nil {
			return nil, err
		}
	}
	if err := s.knowsAll(c); err != nil {
		return nil, err
	}
	rules := have
	if c.Ranges != nil {
		if rules, err = have.WithRanges(c.Ranges); err != nil {
			return nil, fromRouting(err, "ranges", "exact")
		}
	}
	if patch.empty() {
		return rules, nil
	}
	if patch, err = patch.inForm(t, have.ExactIDs()); err != nil {
		return nil, err
	}
	exact, err := patch.over(have.ExactIDs())
	if err != nil {
		return nil, err
	}
	if rules, err = rules.WithExact(exact); err != nil {
		return nil, fromRouting(err, "ranges", "exact")
	}
	return rules, nil
}

// knows tells whether there is a unit that a command names.
func (s *State) knows(unit, field string) error {
	if _, ok := s.Units[unit]; !ok {
		return ErrUnknownUnit.With("there is no unit %q; known are %v", unit, sortedKeys(s.Units)).At(field + "." + unit)
	}
	return nil
}
