package events

import (
	"reflect"
	"strings"
	"testing"
)

// situation is a history that ends with cutover c1 in one of the states it can be in.
type situation struct {
	name string
	make func(w *world)
}

func situations() []situation {
	half := func(w *world) { w.started(2); w.fence("c1", 0); w.commit("c1", 0) }
	whole := func(w *world) { w.started(1); w.fence("c1", 0); w.commit("c1", 0) }
	return []situation{
		{"proposed", func(w *world) { w.do(walk(2)) }},
		{"checked", func(w *world) { w.do(walk(2)); w.do(CheckCutover{Cutover: "c1", Checks: w.checks(Pass)}) }},
		{"unfenced", func(w *world) { w.started(2) }},
		{"fenced", func(w *world) { w.started(2); w.fence("c1", 0) }},
		{"half", half},
		{"committed", whole},
		{"paused", func(w *world) { w.started(2); w.fence("c1", 0); w.do(PauseCutover{Cutover: "c1"}) }},
		{"half paused", func(w *world) { half(w); w.do(PauseCutover{Cutover: "c1"}) }},
		{"completed", func(w *world) { whole(w); w.do(CompleteCutover{Cutover: "c1", Term: 1}) }},
		{"aborted", func(w *world) { w.started(2); w.do(AbortCutover{Cutover: "c1"}) }},
		{"half aborted", func(w *world) { half(w); w.do(AbortCutover{Cutover: "c1"}) }},
		{"rolled back", func(w *world) { half(w); w.do(RollbackCutover{Cutover: "c1"}) }},
		{"failed", func(w *world) { w.started(2); w.do(FailCutover{Cutover: "c1", Term: 1, Why: Why{"hook_failed", "no"}}) }},
	}
}

func hooked(name, on string) Command {
	return RecordHook{Cutover: "c1", Term: 1, Result: HookResult{Name: name, On: on}}
}

// Every command has one answer in every state of a cutover: its event, or a code.
func TestEveryStateAnswersEveryCommand(t *testing.T) {
	pass := func(w *world) []Check { return w.checks(Pass) }
	commands := []struct {
		name    string
		command func(w *world) Command
		answers string // in the order of situations; "-" is wrong_state, an upper-case word is the event
	}{
		//                                                  proposed checked unfenced fenced half committed paused half-paused completed aborted half-aborted rolled-back failed
		{"check", func(w *world) Command { return CheckCutover{Cutover: "c1", Checks: pass(w)} }, "Checked Checked - - - - - - - - - - -"},
		{"retry", func(w *world) Command {
			return RetryCheck{Cutover: "c1", Check: "edges-at-head", Result: pass(w)[2]}
		}, "Checked Checked - - - - - - - - - - -"},
		{"skip check", func(w *world) Command { return SkipCheck{Cutover: "c1", Check: "edges-at-head", Reason: "known"} }, "Skipped Skipped - - - - - - - - - - -"},
		{"skip edge", func(w *world) Command { return SkipCheck{Cutover: "c1", Edge: "bj-1", Reason: "burnt"} }, "- - - Skipped - - - - - - - - -"},
		{"driver skips", func(w *world) Command { return SkipCheck{Cutover: "c1", Edge: "bj-1", Reason: "burnt", Term: 1} }, "- - not_allowed not_allowed not_allowed not_allowed - - - - - - -"},
		{"start", func(w *world) Command { return StartCutover{Cutover: "c1"} }, "precheck_failed Started - - - - - - - - - - -"},
		{"start with checks", func(w *world) Command { return StartCutover{Cutover: "c1", Checks: pass(w)} }, "Started Started - - - - - - - - - - -"},
		{"pause", func(w *world) Command { return PauseCutover{Cutover: "c1"} }, "- - Paused Paused Paused Paused - - - - - - -"},
		{"driver's pause", func(w *world) Command { return PauseCutover{Cutover: "c1", Term: 1, Code: "deadline"} }, "- - Paused Paused Paused Paused - - - - - - -"},
		{"stale driver's pause", func(w *world) Command { return PauseCutover{Cutover: "c1", Term: 7} }, "- - stale_term stale_term stale_term stale_term - - - - - - -"},
		{"resume", func(w *world) Command { return ResumeCutover{Cutover: "c1"} }, "- - - - - - Resumed Resumed - - - - -"},
		{"abort", func(w *world) Command { return AbortCutover{Cutover: "c1"} }, "Aborted Aborted Aborted Aborted Aborted - Aborted Aborted - - - - -"},
		{"rollback", func(w *world) Command { return RollbackCutover{Cutover: "c1"} }, "- - - - RolledBack RolledBack - RolledBack RolledBack - - - -"},
		{"driver's rollback", func(w *world) Command { return RollbackCutover{Cutover: "c1", Term: 1} }, "- - - - - - - - - - - - -"},
		{"fence 0", func(w *world) Command { return FenceWave{Cutover: "c1", Wave: 0, Term: 1} }, "- - Fenced - - - - - - - - - -"},
		{"fence 1", func(w *world) Command { return FenceWave{Cutover: "c1", Wave: 1, Term: 1} }, "- - - - Fenced - - - - - - - -"},
		{"fence -1", func(w *world) Command { return FenceWave{Cutover: "c1", Wave: -1, Term: 1} }, "- - - - - - - - - - - - -"},
		{"fence 2", func(w *world) Command { return FenceWave{Cutover: "c1", Wave: 2, Term: 1} }, "- - - - - - - - - - - - -"},
		{"commit 0", func(w *world) Command { return CommitWave{Cutover: "c1", Wave: 0, Term: 1, Edges: w.reports()} }, "- - - Committed - - - - - - - - -"},
		{"commit 1", func(w *world) Command { return CommitWave{Cutover: "c1", Wave: 1, Term: 1, Edges: w.reports()} }, "- - - - - - - - - - - - -"},
		{"commit -1", func(w *world) Command { return CommitWave{Cutover: "c1", Wave: -1, Term: 1, Edges: w.reports()} }, "- - - - - - - - - - - - -"},
		{"judge 0", func(w *world) Command { return JudgeWave{Cutover: "c1", Wave: 0, Term: 1} }, "- - - - - - - - - - - - -"}, // it has no gate
		{"complete", func(w *world) Command { return CompleteCutover{Cutover: "c1", Term: 1} }, "- - - - - Completed - - - - - - -"},
		{"fail", func(w *world) Command { return FailCutover{Cutover: "c1", Term: 1} }, "- - Failed - - - - - - - - - -"},
		{"pre hook", func(w *world) Command { return hooked("before", "pre") }, "- - HookCalled HookCalled HookCalled HookCalled HookCalled HookCalled HookCalled HookCalled HookCalled HookCalled HookCalled"},
		{"post hook", func(w *world) Command { return hooked("after", "post") }, "- - - - - - - - HookCalled HookCalled HookCalled HookCalled HookCalled"},
		{"unknown hook", func(w *world) Command { return hooked("after", "pre") }, "- - - - - - - - - - - - -"},
		{"report", func(w *world) Command { return ReportCutover{Cutover: "c1", Term: 1} }, "- - - - - - - - Reported - Reported Reported -"},
		{"report, stale term", func(w *world) Command { return ReportCutover{Cutover: "c1", Term: 7} },
			strings.Repeat("stale_term ", len(situations()))},
	}
	for _, c := range commands {
		answers := strings.Fields(c.answers)
		for i, sit := range situations() {
			t.Run(sit.name+"/"+c.name, func(t *testing.T) {
				w := shop(t)
				w.do(ApplyConfig{Base: w.s.ConfigVersion, Config: Config{Namespace: "shop", Hooks: &[]Hook{
					{Name: "before", URL: "http://a/", On: "pre", Wait: "none"}, {Name: "after", URL: "http://a/", On: "post"},
				}}})
				sit.make(w)
				e, err := w.try(c.command(w))
				got := ""
				if err != nil {
					got = err.(*Error).Code
				} else {
					got = strings.TrimPrefix(strings.TrimPrefix(reflect.TypeOf(e).Name(), "Cutover"), "Wave")
				}
				want := answers[i]
				if want == "-" {
					want = "wrong_state"
				}
				if got != want {
					t.Errorf("got %s (%v), want %s", got, err, want)
				}
			})
		}
	}
}
