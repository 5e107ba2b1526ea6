package events

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

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
	started := CutoverStarted{Cutover: cut.ID, Checks: c.Checks}
	for _, k := range checks {
		switch {
		case k.State != Fail:
		case cut.Emergency:
			k.State = Skipped
			started.Checks = append(slices.DeleteFunc(slices.Clone(started.Checks), func(o Check) bool { return o.ID == k.ID }), k)
		default:
			return nil, ErrPrecheckFailed.With("precheck %s failed: %s; mend it and retry, or skip it with a reason", k.ID, k.Message)
		}
	}
	return started, nil
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
	return CutoverPaused{Cutover: cut.ID, Why: Why{cmp.Or(c.Code, "operator"), cmp.Or(reason, "paused by the operator")}}, nil
}

// decideAbort ends a cutover where it stands.
func (s *State) decideAbort(c AbortCutover, reason string) (Event, error) {
	cut, err := s.cutover(c.Cutover, Proposed, Checked, Started, Paused)
	if err != nil {
		return nil, err
	}
	n := cut.NextWave()
	if n == len(cut.Waves) {
		return nil, ErrWrongState.With("every wave of %s is committed, nothing is left to abort: resume it to complete it, or roll it back", cut.ID)
	}
	why := Why{"operator", cmp.Or(reason, "aborted by the operator")}
	if n > 0 {
		if err := s.soundUnder(cut.UnitType, cut.Standing()); err != nil {
			return nil, err
		}
		why.Message = fmt.Sprintf("%s; %d of %d waves were committed and stay", why.Message, n, len(cut.Waves))
	}
	return CutoverAborted{Cutover: cut.ID, Why: why, CommittedWaves: n}, nil
}

// decideRollback proposes the way back from where a cutover stands.
func (s *State) decideRollback(c RollbackCutover, reason string) (Event, error) {
	cut, err := s.cutover(c.Cutover)
	if err != nil {
		return nil, err
	}
	why := Why{"operator", cmp.Or(reason, "rolled back by the operator")}
	if c.Term != 0 {
		if err := s.inTerm(c.Term); err != nil {
			return nil, err
		}
		if cut.State != Paused || cut.Why == nil || cut.Why.Code != "gate" {
			return nil, ErrWrongState.With("no gate has stopped %s", cut.ID)
		}
		why = *cut.Why
	}
	from, version := cut.Standing(), cut.RuleTo
	switch {
	case cut.State.Running() && cut.NextWave() > 0:
	case cut.State == Completed && s.Rules[cut.UnitType].Version == cut.RuleTo:
		from = cut.To
	case cut.State == Completed:
		return nil, ErrStaleVersion.With("the rules are at version %d, %s led to %d: preview a cutover from where they are", s.Rules[cut.UnitType].Version, cut.ID, cut.RuleTo)
	case cut.State.Ended():
		return nil, ErrWrongState.With("cutover %s is %s: preview a cutover from where the rules are", cut.ID, cut.State)
	default:
		return nil, ErrWrongState.With("nothing of %s is committed yet: abort it", cut.ID)
	}
	p := pace{hold: s.Policy.Hold}
	p.Rate, p.Interval, p.Counted, p.RollbackOf, p.Auto = cut.Rate, cut.Interval, c.Counted, cut.ID, c.Term != 0
	back, err := s.proposal(cut.UnitType, from, version, cut.From, p)
	if err != nil {
		return nil, err
	}
	return CutoverRolledBack{Cutover: cut.ID, Why: why, Back: back.(CutoverProposed)}, nil
}

// decideFail ends a cutover of which nothing was fenced yet.
func (s *State) decideFail(c FailCutover) (Event, error) {
	cut, err := s.cutover(c.Cutover, Started)
	if err != nil {
		return nil, err
	}
	if cut.Waves[0].FenceSeq > 0 {
		return nil, ErrWrongState.With("%s has begun to move users: it pauses, it does not fail", cut.ID)
	}
	return CutoverFailed(c), nil
}

// decideHook stores what became of a hook, once.
func (s *State) decideHook(c RecordHook) (Event, error) {
	cut, err := s.cutover(c.Cutover)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(cut.Hooks, func(h Hook) bool { return h.Name == c.Result.Name && h.On == c.Result.On })
	if i < 0 || cut.Result(cut.Hooks[i]) != nil || c.Result.On == "post" && !cut.State.Ended() {
		return nil, ErrWrongState.With("hook %s of %s is not under way", c.Result.Name, cut.ID)
	}
	return HookCalled(c), nil
}

// decideReport stores the report of a cutover that has moved someone and has ended, once.
func (s *State) decideReport(c ReportCutover) (Event, error) {
	cut, err := s.cutover(c.Cutover)
	if err != nil {
		return nil, err
	}
	if !cut.State.Ended() || cut.NextWave() == 0 || cut.Report != nil {
		return nil, ErrWrongState.With("cutover %s is %s and not to be reported", cut.ID, cut.State)
	}
	return CutoverReported(c), nil
}
