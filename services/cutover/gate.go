package cutover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events"
)

// gateUsers is how many users each edge tells of for a gate: enough for a percentage that is right to some two percent.
const gateUsers = 2048

// judging holds the next step up until the gate of a committed wave has judged it.
//
// What is judged comes from the edges: the losing ones remember whom they evicted, the gaining ones who landed, and what
// they have counted since they decided by the commit. So a driver that takes over lacks nothing: it asks, and gives the
// users the whole window anew. An edge that has restarted meanwhile has forgotten, and says so.
//
// The verdict comes at once when it is good: enough users are back, and errors are within bounds. Whether it is bad is
// known at the end of the window only. Without a share that must land nothing says early that all is well.
func (d *Driver) judging(c *events.Cutover, next int) (holds bool) {
	if !c.Gate.Set() || next == 0 || c.Waves[next-1].Gate != nil {
		return false
	}
	i := next - 1
	from, ok := d.commits[c.ID]
	if !ok || from.wave != i {
		from = seenCommit{i, d.now}
		d.commits[c.ID] = from
	}
	needed := d.state.NeededEdges(c, i)
	answers, final := d.inquire(inquiryKey{c.ID, i}, c, plain(needed), events.CutoverQuestion{
		Cutover: c.ID, UnitType: c.UnitType, Fences: fencesOf(c, i, next), Users: gateUsers,
	}, from.at, from.at+time.Duration(c.Gate.Window))
	if answers == nil {
		return true
	}
	res := measure(c, i, needed, answers)
	if final || res.OK && c.Gate.Landed > 0 {
		d.want(c, wish{"judge", i, c.Waves[i].FenceSeq}, events.JudgeWave{Cutover: c.ID, Wave: i, Term: d.office.term, Result: res})
	}
	return true
}

// seenCommit is when this driver first saw the commit of a wave in office.
type seenCommit struct {
	wave int
	at   time.Duration
}

// measure is what the witnesses say of a committed wave, held against the cutover's gate.
func measure(c *events.Cutover, i int, needed []events.NeededEdge, answers []Witness) events.GateResult {
	w, g := c.Waves[i], c.Gate
	var res events.GateResult
	for _, r := range w.Results {
		res.Evicted += r.Evicted
	}
	left := 0 // by edges whose part counts
	for _, e := range needed {
		// An edge that was not needed for the commit has joined since; one that was done without is known to be missing.
		k := slices.IndexFunc(w.Results, func(r events.EdgeResult) bool { return r.ID == e.ID })
		counts := k >= 0 && !w.Results[k].Skipped && !w.Results[k].Silent
		if counts {
			left += w.Results[k].Evicted
		}
		why, errs := testimony(e, w.FenceSeq, witnessOf(answers, e.ID))
		if why == "" {
			res.Handshakes, res.HandshakeErrors = res.Handshakes+errs.Handshakes, res.HandshakeErrors+errs.HandshakeErrors
			res.Dials, res.DialErrors = res.Dials+errs.Dials, res.DialErrors+errs.DialErrors
		} else if counts {
			res.Missing = append(res.Missing, fmt.Sprintf("edge %s %s", e.ID, why))
		}
	}
	p := laid(answers)
	res.Compared, res.Landed = p.compared, p.landed
	if left > 0 && p.compared == 0 && len(res.Missing) == 0 {
		res.Missing = append(res.Missing, "no edge remembers whom it evicted")
	}
	bad := overs(g, &res)
	res.OK = len(bad) == 0 && len(res.Missing) == 0
	switch {
	case len(bad) > 0:
		res.Message = fmt.Sprintf("wave %d: %s", i, strings.Join(bad, ", "))
		if len(res.Missing) > 0 {
			res.Message += "; and not all is known: " + few(res.Missing, ", ")
		}
	case len(res.Missing) > 0:
		res.Message = fmt.Sprintf("wave %d cannot be judged: %s", i, few(res.Missing, ", "))
	default:
		res.Message = strings.Join(seenWell(g, &res), ", ")
	}
	return res
}

// witnessOf is what an edge said, nil if it was not asked or did not answer.
func witnessOf(answers []Witness, edge string) *events.CutoverAnswer {
	i := slices.IndexFunc(answers, func(w Witness) bool { return w.Edge.ID == edge })
	if i < 0 || answers[i].Silent {
		return nil
	}
	return &answers[i].Answer
}

// testimony is what a gaining edge has counted since the commit of the wave with that fence, or why the edge's part is
// not known.
func testimony(e events.NeededEdge, fence uint64, a *events.CutoverAnswer) (why string, counted events.Counters) {
	switch {
	case a == nil:
		return "does not answer", counted
	case !a.Known || !a.Whole:
		return "has restarted since the first fence", counted
	case !e.Gains:
		return "", counted
	case a.Commit.Fence != fence:
		return "has not applied the commit", counted
	case !a.Commit.Whole:
		return "has restarted since the commit", counted
	}
	return "", a.Commit.Counters
}

func percent(part, whole int) int {
	if whole == 0 {
		return 0
	}
	return part * 100 / whole
}

// overs are the thresholds that a result does not keep.
func overs(g events.Gate, r *events.GateResult) (bad []string) {
	if g.Landed > 0 && r.Landed*100 < g.Landed*r.Compared {
		bad = append(bad, fmt.Sprintf("%d of %d evicted sessions are back (%d %%, wanted %d %%)", r.Landed, r.Compared, percent(r.Landed, r.Compared), g.Landed))
	}
	for _, e := range errorRates(g, r) {
		if e.limit > 0 && e.failed*100 > e.limit*e.all {
			bad = append(bad, fmt.Sprintf("%d of %d %s failed (%d %%, at most %d %%)", e.failed, e.all, e.what, percent(e.failed, e.all), e.limit))
		}
	}
	return bad
}

// seenWell says what a good result is made of.
func seenWell(g events.Gate, r *events.GateResult) (good []string) {
	if g.Landed > 0 {
		good = append(good, fmt.Sprintf("%d of %d evicted sessions are back", r.Landed, r.Compared))
	}
	for _, e := range errorRates(g, r) {
		if e.limit > 0 {
			good = append(good, fmt.Sprintf("%d of %d %s failed", e.failed, e.all, e.what))
		}
	}
	return good
}

type errorRate struct {
	what               string
	limit, failed, all int
}

func errorRates(g events.Gate, r *events.GateResult) []errorRate {
	return []errorRate{{"handshakes", g.HandshakeErrors, r.HandshakeErrors, r.Handshakes}, {"connects to origins", g.OriginErrors, r.DialErrors, r.Dials}}
}

// goBack rolls a cutover back that its gate has paused, if it says so. A verdict that lacks something never does.
func (d *Driver) goBack(c *events.Cutover) {
	if !d.goesBack(c) {
		return
	}
	d.want(c, wish{"rollback", c.NextWave(), 0}, events.RollbackCutover{Cutover: c.ID, Term: d.office.term})
}

func (d *Driver) goesBack(c *events.Cutover) bool {
	if c.State != events.Paused || c.Why == nil || c.Why.Code != "gate" || c.Gate.Action != "rollback" || c.NextWave() == 0 {
		return false
	}
	g := c.Waves[c.NextWave()-1].Gate
	return g != nil && !g.OK && len(g.Missing) == 0
}

// recheckEvery is how often the prechecks of a way back that failed are run again.
const recheckEvery = 15 * time.Second

// startsItself checks and starts a proposal that the driver has made: a rollback that a gate has led to. A precheck that
// fails stands in the journal, for an operator to mend or to skip; the driver goes on trying.
func (d *Driver) startsItself(c *events.Cutover) {
	if !d.auto(c) {
		return
	}
	last, checked := d.rechecks[c.ID]
	failing := slices.ContainsFunc(c.Checks, func(k events.Check) bool { return k.State == events.Fail })
	switch {
	case occupied(d.state, c.UnitType):
	case c.State == events.Checked && !failing:
		d.want(c, wish{"start", 0, 0}, events.StartCutover{Cutover: c.ID})
	case !checked || d.now-last >= recheckEvery:
		d.rechecks[c.ID] = d.now
		d.want(c, wish{"check", 0, d.state.Seq}, events.CheckCutover{Cutover: c.ID})
	}
}

// auto reports whether a proposal is the driver's to start, and still fits the rules.
func (d *Driver) auto(c *events.Cutover) bool {
	return c.Auto && (c.State == events.Proposed || c.State == events.Checked) && d.state.Rules[c.UnitType].Version == c.RuleFrom
}

// occupied reports whether a cutover of the unit type runs.
func occupied(s *events.State, unitType string) bool {
	_, ok := s.Running(unitType)
	return ok
}
