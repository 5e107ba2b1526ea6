package events

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// paceRefusals are bad commands about how a cutover goes, and about what surrounds it.
func paceRefusals() []refusal {
	preview := func(change func(p *PreviewCutover)) Command { p := walk(0); change(&p); return p }
	drain := func(change func(p *PreviewCutover)) Command { p := PreviewCutover{Drain: "unbj"}; change(&p); return p }
	hooks := func(h ...Hook) Command { return ApplyConfig{Base: 1, Config: Config{Namespace: "shop", Hooks: &h}} }
	hook := func(change func(h *Hook)) Command {
		h := Hook{Name: "page", URL: "https://ops.example/hook", On: "pre"}
		change(&h)
		return hooks(h)
	}
	gate := func(g Gate) Command {
		return ApplyConfig{Base: 1, Config: Config{Namespace: "shop", Policy: &PolicyPatch{Gate: &g}}}
	}
	exclusive := func(w *world) { w.exclusive() }
	return []refusal{
		{"steps: not to 100", nil, preview(func(p *PreviewCutover) { p.Steps = []int{1, 10, 50} }), ErrBadSteps, "steps"},
		{"steps: falling", nil, preview(func(p *PreviewCutover) { p.Steps = []int{10, 5, 100} }), ErrBadSteps, "steps[1]"},
		{"steps: twice the same", nil, preview(func(p *PreviewCutover) { p.Steps = []int{10, 10, 100} }), ErrBadSteps, "steps[1]"},
		{"steps: zero", nil, preview(func(p *PreviewCutover) { p.Steps = []int{0, 100} }), ErrBadSteps, "steps[0]"},
		{"steps: above 100", nil, preview(func(p *PreviewCutover) { p.Steps = []int{50, 101} }), ErrBadSteps, "steps[1]"},
		{"steps: too many", nil, preview(func(p *PreviewCutover) { p.Steps = make([]int, 101) }), ErrBadSteps, "steps"},
		{"steps and waves", nil, preview(func(p *PreviewCutover) { p.Steps, p.Waves = []int{100}, 2 }), ErrBadValue, "steps"},
		{"interval: negative", nil, preview(func(p *PreviewCutover) { p.Interval = -1 }), ErrBadValue, "interval"},
		{"interval: a week", nil, preview(func(p *PreviewCutover) { p.Interval = Duration(7 * 24 * time.Hour) }), ErrBadValue, "interval"},
		{"gate: 101 %", nil, preview(func(p *PreviewCutover) { p.Gate = &Gate{Landed: 101} }), ErrBadValue, "gate.landed"},
		{"gate: negative", nil, preview(func(p *PreviewCutover) { p.Gate = &Gate{OriginErrors: -1} }), ErrBadValue, "gate.originErrors"},
		{"gate: nothing looked at", nil, preview(func(p *PreviewCutover) { p.Gate = &Gate{Action: "pause"} }), ErrMissingField, "gate"},
		{"gate: window", nil, preview(func(p *PreviewCutover) { p.Gate = &Gate{Landed: 1, Window: 1} }), ErrBadValue, "gate.window"},
		{"gate: action", nil, preview(func(p *PreviewCutover) { p.Gate = &Gate{Landed: 1, Action: "shout"} }), ErrBadValue, "gate.action"},
		{"policy: gate", nil, gate(Gate{HandshakeErrors: 200}), ErrBadValue, "policy.gate.handshakeErrors"},
		{"drain: unknown", nil, drain(func(p *PreviewCutover) { p.Drain = "mars" }), ErrUnknownUnit, "drain"},
		{"drain: to unknown", nil, drain(func(p *PreviewCutover) { p.DrainTo = "mars" }), ErrUnknownUnit, "drainTo"},
		{"drain: to itself", nil, drain(func(p *PreviewCutover) { p.DrainTo = "unbj" }), ErrBadValue, "drainTo"},
		{"drain: with ranges", nil, preview(func(p *PreviewCutover) { p.Drain = "unbj" }), ErrBadValue, "drain"},
		{"drain: only a target", nil, PreviewCutover{DrainTo: "center"}, ErrMissingField, "drain"},
		{"emergency: no drain", nil, preview(func(p *PreviewCutover) { p.Emergency, p.Reason = true, "fire" }), ErrMissingField, "drain"},
		{"emergency: no reason", nil, drain(func(p *PreviewCutover) { p.Emergency = true }), ErrReasonMissing, "reason"},
		{"hook: name", nil, hook(func(h *Hook) { h.Name = "Page me" }), ErrBadName, "hooks[0].name"},
		{"hook: no URL", nil, hook(func(h *Hook) { h.URL = "" }), ErrBadValue, "hooks[0].url"},
		{"hook: file", nil, hook(func(h *Hook) { h.URL = "file:///etc/passwd" }), ErrBadValue, "hooks[0].url"},
		{"hook: endless URL", nil, hook(func(h *Hook) { h.URL = "http://a/" + strings.Repeat("x", 1024) }), ErrBadValue, "hooks[0].url"},
		{"hook: secret", nil, hook(func(h *Hook) { h.URL = "https://me:secret@ops.example/" }), ErrBadValue, "hooks[0].url"},
		{"hook: on", nil, hook(func(h *Hook) { h.On = "during" }), ErrBadValue, "hooks[0].on"},
		{"hook: wait", nil, hook(func(h *Hook) { h.Wait = "long" }), ErrBadValue, "hooks[0].wait"},
		{"hook: timeout", nil, hook(func(h *Hook) { h.Timeout = Duration(time.Hour) }), ErrBadValue, "hooks[0].timeout"},
		{"hooks: one name twice", nil, hooks(Hook{Name: "a", URL: "http://a/", On: "pre"}, Hook{Name: "a", URL: "http://a/", On: "post"}), ErrDuplicateName, "hooks[1]"},
		{"hooks: six", nil, hooks(run6(func(i int) Hook { return Hook{Name: fmt.Sprint("h", i), URL: "http://a/", On: "post"} })...), ErrBadValue, "hooks"},
		{"exclusive: not established", func(w *world) { w.exclusive(); w.started(1) }, FenceWave{Cutover: "c1", Term: 1}, ErrNotEstablished, ""},
		{"exclusive: stale term", exclusive, EstablishOwnership{Term: 9}, ErrStaleTerm, ""},
		{"exclusive: not so", nil, EstablishOwnership{Term: 1}, ErrWrongState, ""},
		{"exclusive: skip of an edge", func(w *world) {
			w.exclusive()
			w.do(EstablishOwnership{Term: 1, Since: w.s.Exclusive.Since})
			w.started(1)
			w.fence("c1", 0)
		}, SkipCheck{Cutover: "c1", Edge: "bj-1", Reason: "burnt"}, ErrNotAllowed, "edge"},
		{"exclusive: policy while a cutover runs", func(w *world) { w.started(1) },
			ApplyConfig{Base: 1, Config: Config{Namespace: "shop", Policy: &PolicyPatch{Ownership: ptr("exclusive")}}}, ErrCutoverOpen, "policy"},
	}
}

func run6(f func(i int) Hook) []Hook {
	out := make([]Hook, 6)
	for i := range out {
		out[i] = f(i)
	}
	return out
}

// By default a wave is so small that its eviction, on the busiest edge, takes less than half of the hold time.
func TestDefaultWaves(t *testing.T) {
	hold := Duration(5 * time.Second)
	for _, c := range []struct {
		largest int
		rate    Rate
		want    int
	}{{0, 1000, 1}, {2500, 1000, 1}, {2501, 1000, 2}, {10_000, 1000, 4}, {10_000, 0, 1}, {1_000_000, 1000, 100}, {5, 1, 3}} {
		if got := defaultWaves(c.largest, c.rate, hold); got != c.want {
			t.Errorf("%d sessions at %s/s: %d waves, want %d", c.largest, c.rate, got, c.want)
		}
	}
	w := shop(t)
	p := walk(0)
	p.Counted.Largest = 10_000
	if e := w.do(p).(CutoverProposed); len(e.Waves) != 4 {
		t.Errorf("%d waves", len(e.Waves))
	}
	p.Steps = []int{1, 10, 100}
	if e := w.do(p).(CutoverProposed); len(e.Waves) != 3 || e.Waves[0].SlotCount() != 3 {
		t.Errorf("%v", e.Waves)
	}
}

// A drain gives a unit's slots to the others in proportion, and its exact IDs to whoever owns their slots then.
func TestDrain(t *testing.T) {
	w := newWorld(t)
	cfg := shopConfig()
	cfg.Units = append(cfg.Units, Unit{ID: "third"})
	cfg.Clusters = append(cfg.Clusters, Cluster{ID: "ws-3", Unit: "third"})
	cfg.Domains[0].Units["third"] = DomainUnit{Cluster: "ws-3"}
	cfg.Domains[0].URIs[0].Origins["third"] = Origins{"10.2.0.1:9000"}
	cfg.Rules["unit_type"] = RulesConfig{
		Ranges: map[string][]routing.Range{"center": {{From: 0, To: 5999}}, "third": {{From: 6000, To: 7999}}, "unbj": {{From: 8000, To: 9999}}},
		Exact:  map[string][]string{"unbj": {"4001", "vip-7"}, "third": {"5"}},
	}
	w.do(ApplyConfig{Config: cfg})
	e := w.do(PreviewCutover{Drain: "unbj"}).(CutoverProposed)
	slots := map[string]int{}
	for unit, rs := range w.s.Cutovers[e.Cutover].To.Ranges() {
		for _, r := range rs {
			slots[unit] += r.Len()
		}
	}
	exact := w.s.Cutovers[e.Cutover].To.Exact()
	if slots["center"] != 7500 || slots["third"] != 2500 || slots["unbj"] != 0 || len(exact["unbj"]) != 0 || len(exact["third"]) != 1 {
		t.Errorf("slots %v, exact %v", slots, exact)
	}
	if len(e.ExactMoves) != 2 || e.ExactMoves[0].Target != "center" || e.Drain != "unbj" {
		t.Errorf("%+v", e.ExactMoves)
	}
	e = w.do(PreviewCutover{Drain: "unbj", DrainTo: "third"}).(CutoverProposed)
	to := w.s.Cutovers[e.Cutover].To
	if u, _ := to.Owner("4001"); u != "third" || to.SlotOwner(9000) != "third" || to.SlotOwner(0) != "center" {
		t.Errorf("to a named unit: %v", to.Ranges())
	}
}

// In an emergency failing prechecks are skipped by the start itself, each on record, and the driver does without the
// drained unit's edges only.
func TestEmergency(t *testing.T) {
	w := shop(t)
	w.do(PreviewCutover{Drain: "unbj", Emergency: true, Reason: "the region burns"})
	checks := w.checks(Pass)
	checks[2].State, checks[2].Message = Fail, "bj-1 does not answer"
	w.do(StartCutover{Cutover: "c1", Checks: checks})
	c := w.s.Cutovers["c1"]
	if c.State != Started || c.Checks[2].State != Skipped || c.Skips[checks[2].ID].Reason != "emergency: the region burns" || c.Skips[checks[2].ID].Actor != "alice" {
		t.Fatalf("%+v", c)
	}
	w.fence("c1", 0)
	w.refuse(SkipCheck{Cutover: "c1", Edge: "hz-1", Reason: "r", Term: 1}, ErrNotAllowed, "edge")
	w.refuse(SkipCheck{Cutover: "c1", Edge: "bj-1", Reason: "r", Term: 9}, ErrStaleTerm, "")
	w.do(SkipCheck{Cutover: "c1", Edge: "bj-1", Reason: "r", Term: 1})
	w.do(SkipCheck{Cutover: "c1", Edge: "bj-2", Reason: "r", Term: 1})
	w.do(CommitWave{Cutover: "c1", Term: 1, Edges: without(without(w.reports(), "bj-1"), "bj-2")})
}
