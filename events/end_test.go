package events

import (
	"strings"
	"testing"
	"time"
)

// What an early end leaves: committed waves stay, and the rules in force say so under a version of their own.
func TestAbortKeepsCommittedWaves(t *testing.T) {
	w := shop(t)
	w.started(2) // slots 5998 to 6380: wave 0 ends before 6189
	w.fence("c1", 0)
	w.commit("c1", 0)
	w.fence("c1", 1)
	e := w.do(AbortCutover{Cutover: "c1", Reason: "enough"}).(CutoverAborted)
	if e.CommittedWaves != 1 || !strings.Contains(e.Why.Message, "1 of 2 waves") {
		t.Errorf("%+v", e)
	}
	r := w.s.Rules["unit_type"]
	if w.route("6000") != "center" || w.route("6249") != "unbj" || r.Version != 2 || r.Current.SlotOwner(6000) != "center" || r.Current.SlotOwner(6249) != "unbj" {
		t.Errorf("rules version %d: %v", r.Version, r.Current.Ranges())
	}
	if c, ok := w.s.InForce("unit_type"); !ok || c.ID != "c1" {
		t.Error("the aborted cutover made the rules in force, and nobody says so")
	}
	w.refuse(RollbackCutover{Cutover: "c1"}, ErrWrongState, "")
}

// A rollback is a cutover of its own, of exactly what was committed.
func TestRollback(t *testing.T) {
	w := shop(t)
	w.started(2)
	w.fence("c1", 0)
	w.commit("c1", 0)
	w.fence("c1", 1)
	e := w.do(RollbackCutover{Cutover: "c1", Reason: "complaints"}).(CutoverRolledBack)
	if c := w.s.Cutovers["c1"]; c.State != RolledBack || c.FencedWave() >= 0 || c.Why.Message != "complaints" {
		t.Errorf("%+v", c)
	}
	c := w.s.Cutovers["c2"]
	if e.Back.Cutover != "c2" || c.State != Proposed || c.RollbackOf != "c1" || c.Auto || c.RuleFrom != 2 || c.RuleTo != 3 || e.Back.Slots() != 191 {
		t.Errorf("%+v, %d slots", c, e.Back.Slots())
	}
	w.complete("c2")
	if w.route("6000") != "unbj" || w.s.Rules["unit_type"].Version != 3 {
		t.Errorf("6000 is at %s", w.route("6000"))
	}
}

func TestRollbackOfACompletedCutover(t *testing.T) {
	w := shop(t)
	w.do(walk(1))
	w.complete("c1")
	w.do(RollbackCutover{Cutover: "c1"})
	if s := w.s.Cutovers["c1"].State; s != Completed {
		t.Errorf("the way back is only proposed, and c1 is %s", s)
	}
	w.complete("c2")
	if s := w.s.Cutovers["c1"].State; s != RolledBack || w.route("6249") != "unbj" {
		t.Errorf("c1 is %s, 6249 at %s", s, w.route("6249"))
	}
	w.do(walk(1))
	w.complete("c3")
	w.refuse(RollbackCutover{Cutover: "c2"}, ErrStaleVersion, "") // c3 came after it
}

// complete checks, starts and drives a proposed cutover to its end.
func (w *world) complete(id string) {
	w.t.Helper()
	w.do(StartCutover{Cutover: id, Checks: w.checks(Pass)})
	for i := range w.s.Cutovers[id].Waves {
		w.fence(id, i)
		w.commit(id, i)
	}
	w.do(CompleteCutover{Cutover: id, Term: w.s.Office.Term})
}

// A gate is judged after every commit, before anything else happens; a bad verdict pauses with it, and the driver may
// then go back by itself.
func TestGate(t *testing.T) {
	w := shop(t)
	p := walk(2)
	p.Gate = &Gate{Landed: 90, Action: "rollback"}
	w.do(p)
	if g := w.s.Cutovers["c1"].Gate; g.Window != DefaultGateWindow {
		t.Errorf("%+v", g)
	}
	w.do(StartCutover{Cutover: "c1", Checks: w.checks(Pass)})
	w.refuse(JudgeWave{Cutover: "c1", Wave: -1, Term: 1}, ErrWrongState, "")
	w.fence("c1", 0)
	w.commit("c1", 0)
	w.refuse(FenceWave{Cutover: "c1", Wave: 1, Term: 1}, ErrWrongState, "")
	w.refuse(JudgeWave{Cutover: "c1", Wave: 1, Term: 1}, ErrWrongState, "")
	w.do(JudgeWave{Cutover: "c1", Wave: 0, Term: 1, Result: GateResult{OK: true}})
	w.refuse(JudgeWave{Cutover: "c1", Wave: 0, Term: 1}, ErrWrongState, "")
	w.fence("c1", 1)
	w.commit("c1", 1)
	w.refuse(CompleteCutover{Cutover: "c1", Term: 1}, ErrWrongState, "")
	w.refuse(RollbackCutover{Cutover: "c1", Term: 1}, ErrWrongState, "")
	w.do(JudgeWave{Cutover: "c1", Wave: 1, Term: 1, Result: GateResult{Message: "3 of 10 landed"}})
	if c := w.s.Cutovers["c1"]; c.State != Paused || *c.Why != (Why{"gate", "3 of 10 landed"}) {
		t.Fatalf("%+v", c)
	}
	e := w.do(RollbackCutover{Cutover: "c1", Term: 1}).(CutoverRolledBack)
	if !e.Back.Auto || e.Why.Code != "gate" || w.s.Cutovers["c2"].Gate.Set() {
		t.Errorf("%+v", e)
	}
}

// exclusive turns exclusive ownership on.
func (w *world) exclusive() {
	w.t.Helper()
	w.do(ApplyConfig{Base: w.s.ConfigVersion, Config: Config{Namespace: "shop", Policy: &PolicyPatch{Ownership: ptr("exclusive")}}})
}

// R13, R5, R7: exclusive ownership counts once established; silence stands for a report then, and only then; a retired
// edge is waited for until its silence is on record.
func TestExclusive(t *testing.T) {
	w := shop(t)
	w.exclusive()
	if x := w.s.Exclusive; x.Since != w.s.Seq || x.Counts() || x.Lease != Duration(30*time.Second) {
		t.Fatalf("%+v", x)
	}
	w.do(EstablishOwnership{Term: 1, Since: w.s.Exclusive.Since})
	since := w.s.Exclusive.Since
	w.refuse(EstablishOwnership{Term: 1, Since: since}, ErrWrongState, "")
	w.started(1)
	w.fence("c1", 0)
	w.do(RetireEdge{ID: "bj-2", Reason: "burnt"})
	silent := func(rs []EdgeResult, id string) []EdgeResult {
		return append(without(rs, id), EdgeResult{ID: id, Unit: "unbj", Silent: true})
	}
	all := w.reports()
	w.refuse(CommitWave{Cutover: "c1", Term: 1, Edges: all}, ErrWrongState, "") // bj-2 is retired, and not known to be silent
	lie := append(without(all, "bj-2"), EdgeResult{ID: "bj-2", Unit: "unbj", Applied: w.s.Seq, Fence: all[0].Fence, Drained: true})
	w.refuse(CommitWave{Cutover: "c1", Term: 1, Edges: lie}, ErrWrongState, "") // a retired edge's word counts for nothing
	w.do(CommitWave{Cutover: "c1", Term: 1, Edges: silent(silent(all, "bj-2"), "bj-1")})
	if w.s.Edges["bj-2"].Awaited || w.s.Edges["bj-1"].Awaited {
		t.Error("bj-2 is still waited for")
	}
	w.do(CompleteCutover{Cutover: "c1", Term: 1})
	// A change of the lease is not established; the longer one is waited for.
	lease := func(d time.Duration) Command {
		return ApplyConfig{Base: w.s.ConfigVersion, Config: Config{Namespace: "shop", Policy: &PolicyPatch{Lease: ptr(Duration(d))}}}
	}
	w.do(lease(20 * time.Second))
	if x := w.s.Exclusive; x.Counts() || x.Lease != Duration(30*time.Second) {
		t.Errorf("%+v", x)
	}
	w.refuse(EstablishOwnership{Term: 1, Since: since}, ErrWrongState, "") // of leases under the policy before
	w.do(EstablishOwnership{Term: 1, Since: w.s.Exclusive.Since})
	if x := w.s.Exclusive; !x.Counts() || x.Lease != Duration(20*time.Second) {
		t.Errorf("%+v", x)
	}
	w.do(RetireEdge{ID: "bj-1", Reason: "burnt too"})
	w.do(ApplyConfig{Base: w.s.ConfigVersion, Config: Config{Namespace: "shop", Policy: &PolicyPatch{Ownership: ptr("available")}}})
	if w.s.Exclusive != (Exclusive{}) || w.s.Edges["bj-1"].Awaited {
		t.Errorf("%+v", w.s.Exclusive)
	}
}

// Silence counts for nothing while exclusive ownership does not.
func TestSilenceUnderAvailable(t *testing.T) {
	w := shop(t)
	w.started(1)
	w.fence("c1", 0)
	rs := with(w.reports(), "bj-1", func(r *EdgeResult) { r.Applied, r.Fence, r.Drained, r.Silent = 0, 0, false, true })
	w.refuse(CommitWave{Cutover: "c1", Term: 1, Edges: rs}, ErrWrongState, "")
	other := with(w.reports(), "bj-1", func(r *EdgeResult) { r.Fence-- })
	w.refuse(CommitWave{Cutover: "c1", Term: 1, Edges: other}, ErrWrongState, "") // R6: a report names its fence
}
