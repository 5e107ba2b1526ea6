package events

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The walkthrough: 6249 moves from Beijing to Hangzhou, 1111 and 8330 never notice.
func TestWalkthrough(t *testing.T) {
	w := shop(t)
	routes := func(a, b, c string) {
		t.Helper()
		if got := []string{w.route("1111"), w.route("6249"), w.route("8330")}; !slices.Equal(got, []string{a, b, c}) {
			t.Fatalf("at %d: got %v", w.s.Seq, got)
		}
	}
	routes("center", "unbj", "unbj")
	p := w.do(walk(1)).(CutoverProposed)
	if p.Cutover != "c1" || p.RuleFrom != 1 || p.RuleTo != 2 || len(p.Moves) != 1 || p.Moves[0].From != 5998 || p.Moves[0].To != 6380 ||
		p.Moves[0].Source != "unbj" || p.Moves[0].Target != "center" || p.ExactMoves == nil || p.Counted.SilentEdges == nil || p.Rate != 1000 {
		t.Fatalf("proposed %+v", p)
	}
	routes("center", "unbj", "unbj")
	w.do(CheckCutover{Cutover: "c1", Checks: w.checks(Pass)})
	w.do(StartCutover{Cutover: "c1"})
	routes("center", "unbj", "unbj")
	w.fence("c1", 0)
	routes("center", "unbj>center", "unbj")
	w.commit("c1", 0)
	routes("center", "center", "unbj")
	if v := w.s.Rules["unit_type"].Version; v != 1 {
		t.Errorf("the version is %d before the cutover is complete", v)
	}
	w.do(CompleteCutover{Cutover: "c1", Term: 1})
	routes("center", "center", "unbj")
	if r := w.s.Rules["unit_type"]; r.Version != 2 || r.Baseline.SlotOwner(6249) != "unbj" || r.Current.SlotOwner(6249) != "center" {
		t.Errorf("rules %+v", r)
	}
	if c := w.s.Cutovers["c1"]; c.State != Completed || !c.EndedAt.Equal(w.now) || c.Waves[0].Results == nil {
		t.Errorf("cutover %+v", c)
	}
	// And back: a cutover against version 1 would now be stale, a new preview is not.
	w.do(PreviewCutover{Ranges: shopConfig().Rules["unit_type"].Ranges})
	if c := w.s.Cutovers["c2"]; c.RuleFrom != 2 || c.RuleTo != 3 {
		t.Errorf("cutover back %+v", c)
	}
}

func TestUnknownCutover(t *testing.T) {
	w := shop(t)
	for _, id := range []string{"", "c1", "c0", "../c1"} {
		for _, c := range []Command{
			CheckCutover{Cutover: id}, RetryCheck{Cutover: id, Check: "edges-at-head", Result: w.checks(Pass)[2]}, SkipCheck{Cutover: id, Check: "edges-at-head", Reason: "x"},
			SkipCheck{Cutover: id, Edge: "hz-1", Reason: "x"}, StartCutover{Cutover: id}, PauseCutover{Cutover: id}, ResumeCutover{Cutover: id},
			AbortCutover{Cutover: id}, FenceWave{Cutover: id, Term: 1}, CommitWave{Cutover: id, Term: 1}, CompleteCutover{Cutover: id, Term: 1},
		} {
			w.refuse(c, ErrUnknownCutover, "cutover")
		}
	}
}

// R1: fence, commit, complete and the driver's own pause carry the term, and only the newest term acts.
func TestR1OnlyTheTermInOfficeActs(t *testing.T) {
	w := shop(t)
	id := w.started(1)
	w.refuse(TakeOffice{Term: 1, Holder: "driver-b"}, ErrStaleTerm, "")
	w.refuse(TakeOffice{Term: 0, Holder: "driver-b"}, ErrStaleTerm, "")
	w.do(TakeOffice{Term: 2, Holder: "driver-b"})
	for _, term := range []uint64{0, 1, 3, 1 << 63} {
		w.refuse(FenceWave{Cutover: id, Term: term}, ErrStaleTerm, "")
	}
	w.refuse(PauseCutover{Cutover: id, Term: 1, Code: "deadline"}, ErrStaleTerm, "")
	w.fence(id, 0)
	w.refuse(CommitWave{Cutover: id, Term: 1, Edges: w.reports()}, ErrStaleTerm, "")
	w.do(TakeOffice{Term: 9, Holder: "driver-c"}) // a successor goes on with the fence that it found
	w.refuse(CommitWave{Cutover: id, Term: 2, Edges: w.reports()}, ErrStaleTerm, "")
	w.commit(id, 0)
	w.refuse(CompleteCutover{Cutover: id, Term: 2}, ErrStaleTerm, "")
	w.do(CompleteCutover{Cutover: id, Term: 9})
}

// R5, R7, R8: which reports a commit needs.
func TestCommitNeedsEveryReport(t *testing.T) {
	for _, c := range []struct {
		name    string
		reports func(rs []EdgeResult, fence uint64) []EdgeResult
		ok      bool
	}{
		{"all", func(rs []EdgeResult, _ uint64) []EdgeResult { return rs }, true},
		{"none", func([]EdgeResult, uint64) []EdgeResult { return nil }, false},
		{"R5 a losing edge is missing", func(rs []EdgeResult, _ uint64) []EdgeResult { return without(rs, "bj-2") }, false},
		{"R8 a gaining edge is missing", func(rs []EdgeResult, _ uint64) []EdgeResult { return without(rs, "hz-2") }, false},
		{"R5 applied and not drained", func(rs []EdgeResult, _ uint64) []EdgeResult {
			return with(rs, "bj-1", func(r *EdgeResult) { r.Drained = false })
		}, false},
		{"a gaining edge has nothing to drain", func(rs []EdgeResult, _ uint64) []EdgeResult {
			return with(rs, "hz-1", func(r *EdgeResult) { r.Drained = false })
		}, true},
		{"R6 a losing edge is below the fence", func(rs []EdgeResult, f uint64) []EdgeResult {
			return with(rs, "bj-1", func(r *EdgeResult) { r.Applied = f - 1 })
		}, false},
		{"R8 a gaining edge is below the fence", func(rs []EdgeResult, f uint64) []EdgeResult {
			return with(rs, "hz-1", func(r *EdgeResult) { r.Applied = f - 1 })
		}, false},
		{"exactly at the fence", func(rs []EdgeResult, f uint64) []EdgeResult {
			return with(rs, "bj-1", func(r *EdgeResult) { r.Applied = f })
		}, true},
		{"a driver's word that it was skipped does not count", func(rs []EdgeResult, _ uint64) []EdgeResult {
			return with(rs, "bj-1", func(r *EdgeResult) { r.Applied, r.Drained, r.Skipped = 0, false, true })
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := shop(t)
			id := w.started(1)
			w.fence(id, 0)
			cmd := CommitWave{Cutover: id, Term: 1, Edges: c.reports(w.reports(), w.s.Seq)}
			if !c.ok {
				w.refuse(cmd, ErrWrongState, "")
				return
			}
			w.do(cmd)
		})
	}
}

// R7: the needed edges are those of the journal at the moment of the commit.
func TestR7NeededEdgesComeFromTheJournal(t *testing.T) {
	w := shop(t)
	id := w.started(1)
	w.fence(id, 0)
	old := w.reports()
	w.do(joinOf("bj-3")) // joined after the fence: it may have admitted someone in between
	w.refuse(CommitWave{Cutover: id, Term: 1, Edges: old}, ErrWrongState, "")
	w.refuse(LeaveEdge{ID: "bj-3", Directory: directoryOf("bj-3")}, ErrWrongState, "") // leaving is no report
	w.do(RetireEdge{ID: "bj-3", Reason: "burnt down too"})
	w.do(RetireEdge{ID: "bj-2", Reason: "burnt down"}) // a retired edge falls out
	w.do(CommitWave{Cutover: id, Term: 1, Edges: without(old, "bj-2")})
	for _, gone := range []string{"bj-2", "bj-3"} {
		w.refuse(joinOf(gone), ErrEdgeGone, "id")
		w.refuse(LeaveEdge{ID: gone, Directory: directoryOf(gone)}, ErrUnknownEdge, "id")
		w.refuse(RetireEdge{ID: gone, Reason: "again"}, ErrUnknownEdge, "id")
	}
}

// Edges of a unit that neither loses nor gains are not waited for.
func TestBystandersAreNotNeeded(t *testing.T) {
	w := newWorld(t)
	cfg := shopConfig()
	cfg.Units = append(cfg.Units, Unit{ID: "third"})
	cfg.Clusters = append(cfg.Clusters, Cluster{ID: "ws-3", Unit: "third"})
	w.do(ApplyConfig{Config: cfg})
	w.do(joinOf("hz-1"))
	w.do(joinOf("bj-1"))
	w.do(JoinEdge{ID: "x-1", Directory: directoryOf("x-1"), Unit: "third", Cluster: "ws-3", Address: "10.0.0.3:1"})
	w.do(TakeOffice{Term: 1, Holder: "driver-a"})
	id := w.started(1)
	w.fence(id, 0)
	c := w.s.Cutovers[id]
	got := fmt.Sprint(w.s.NeededEdges(&c, 0))
	if strings.Contains(got, "x-1") || !strings.Contains(got, "hz-1") || !strings.Contains(got, "bj-1") {
		t.Errorf("needed are %s", got)
	}
	w.refuse(SkipCheck{Cutover: id, Edge: "x-1", Reason: "x"}, ErrUnknownEdge, "edge")
	w.do(CommitWave{Cutover: id, Term: 1, Edges: without(w.reports(), "x-1")})
}

// R11: pausing unfences; a resume needs a new fence, and neither old reports nor old skips count for it.
func TestR11PauseUnfences(t *testing.T) {
	w := shop(t)
	id := w.started(1)
	w.fence(id, 0)
	first := w.s.Seq
	w.do(SkipCheck{Cutover: id, Edge: "bj-1", Reason: "unreachable"})
	old := w.reports()
	w.do(PauseCutover{Cutover: id, Reason: "lunch"})
	if c := w.s.Cutovers[id]; c.FencedWave() != -1 || c.Why == nil || *c.Why != (Why{"operator", "lunch"}) || w.route("6249") != "unbj" {
		t.Errorf("paused: %+v, 6249 is at %s", c, w.route("6249"))
	}
	w.do(ResumeCutover{Cutover: id})
	w.refuse(CommitWave{Cutover: id, Term: 1, Edges: w.reports()}, ErrWrongState, "")
	if w.route("6249") != "unbj" {
		t.Error("a resume alone fenced the keys")
	}
	w.fence(id, 0)
	if c := w.s.Cutovers[id]; c.Waves[0].FenceSeq <= first || c.Waves[0].SkipEdges != nil || c.Why != nil {
		t.Errorf("fenced again: %+v", c.Waves[0])
	}
	w.refuse(CommitWave{Cutover: id, Term: 1, Edges: old}, ErrWrongState, "")
	w.refuse(CommitWave{Cutover: id, Term: 1, Edges: without(w.reports(), "bj-1")}, ErrWrongState, "") // the skip was for the first fence
	w.do(SkipCheck{Cutover: id, Edge: "bj-1", Reason: "still unreachable"})
	w.do(CommitWave{Cutover: id, Term: 1, Edges: without(w.reports(), "bj-1")})
	if skip, ok := w.s.Cutovers[id].Waves[0].SkipEdges["bj-1"]; !ok || skip.Reason != "still unreachable" || skip.Actor != "alice" {
		t.Errorf("the skip is not on record: %+v", w.s.Cutovers[id].Waves[0])
	}
}

// R11: aborting unfences too, and frees the unit type's place.
func TestR11AbortUnfences(t *testing.T) {
	w := shop(t)
	id := w.started(2)
	w.do(walk(1))
	w.do(CheckCutover{Cutover: "c2", Checks: w.checks(Pass)})
	w.refuse(StartCutover{Cutover: "c2"}, ErrCutoverOpen, "")
	w.fence(id, 0)
	w.do(AbortCutover{Cutover: id})
	if w.route("6249") != "unbj" || w.s.Rules["unit_type"].Version != 1 {
		t.Errorf("6249 is at %s", w.route("6249"))
	}
	w.do(StartCutover{Cutover: "c2"})
}

func TestStartNeedsFreshChecks(t *testing.T) {
	w := shop(t)
	w.do(walk(1))
	w.refuse(StartCutover{Cutover: "c1"}, ErrPrecheckFailed, "")
	checks := w.checks(Pass)
	checks[1].State, checks[1].Message = Fail, "c9 is running"
	w.do(CheckCutover{Cutover: "c1", Checks: checks})
	w.refuse(StartCutover{Cutover: "c1"}, ErrPrecheckFailed, "")
	w.do(SkipCheck{Cutover: "c1", Check: checks[1].ID, Reason: "I know"})
	if s := w.s.Cutovers["c1"].Checks[1].State; s != Skipped {
		t.Errorf("the skipped check is %s", s)
	}
	w.now = w.now.Add(MaxCheckAge + time.Second)
	w.refuse(StartCutover{Cutover: "c1"}, ErrPrecheckFailed, "")
	if got := StaleChecks(w.s.Cutovers["c1"].Checks, w.now); len(got) != len(CheckIDs())-1 || slices.Contains(got, checks[1].ID) {
		t.Errorf("stale are %v", got)
	}
	again := w.checks(Warn)
	again[1].State = Fail // fails again: it stays skipped
	w.do(StartCutover{Cutover: "c1", Checks: again})
	if c := w.s.Cutovers["c1"]; c.State != Started || c.Checks[1].State != Skipped || c.Checks[0].State != Warn {
		t.Errorf("%+v", c)
	}
}

// A proposal against rules that another cutover has replaced since is stale.
func TestStartAgainstReplacedRules(t *testing.T) {
	w := shop(t)
	w.do(walk(1))
	w.do(walk(1))
	w.do(CheckCutover{Cutover: "c1", Checks: w.checks(Pass)})
	w.do(CheckCutover{Cutover: "c2", Checks: w.checks(Pass)})
	w.do(StartCutover{Cutover: "c1"})
	w.fence("c1", 0)
	w.commit("c1", 0)
	w.do(CompleteCutover{Cutover: "c1", Term: 1})
	w.refuse(StartCutover{Cutover: "c2"}, ErrStaleVersion, "")
	w.refuse(walk(1), ErrNothingMoves, "")
}

// A wave is not committed to a unit whose last edge is gone: nobody would serve its users.
func TestNoCommitToADesertedUnit(t *testing.T) {
	w := shop(t)
	id := w.started(1)
	w.fence(id, 0)
	for _, e := range w.s.LiveEdges() {
		if e.Unit == "center" {
			w.do(RetireEdge{ID: e.ID, Reason: "burnt"})
		}
	}
	c := w.s.Cutovers[id]
	if got := w.s.Deserted(&c, 0); len(got) != 1 || got[0] != "center" {
		t.Fatalf("deserted: %v", got)
	}
	w.refuse(CommitWave{Cutover: id, Wave: 0, Term: w.s.Office.Term, Edges: w.reports()}, ErrWrongState, "")
	none := []DomainSessions{{Host: "websocket.msha.tech"}}
	w.refuse(RemoveDomain{Host: "websocket.msha.tech", Counted: none}, ErrCutoverOpen, "domains")
	w.refuse(DeactivateDomain{Host: "websocket.msha.tech", Counted: none}, ErrCutoverOpen, "domains")
}
