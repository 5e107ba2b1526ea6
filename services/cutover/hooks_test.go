package cutover

import (
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// hookedRig is a driver in office with c1 started in a namespace that has these hooks, and what it wanted then.
func hookedRig(t *testing.T, hooks ...events.Hook) (*rig, []Output) {
	r := newRig(t)
	r.serve()
	for i := range hooks {
		hooks[i].URL = "http://ops.example/"
	}
	r.do(t, events.ApplyConfig{Base: r.head.ConfigVersion, Config: events.Config{Namespace: testNamespace, Hooks: &hooks}})
	r.start(t, 1)
	return r, r.read()
}

func called(out []Output) (names []string) {
	for _, o := range out {
		if o, ok := o.(CallHook); ok {
			names = append(names, o.Hook.Name)
		}
	}
	return names
}

// answer tells the driver what became of a hook of c1.
func (r *rig) answer(on, name string, ok bool, code string) []Output {
	return r.d.Step(HookEnded{r.at(), "c1", events.HookResult{Name: name, On: on, OK: ok, Code: code, Message: "as measured"}})
}

func (r *rig) wantCalls(out []Output, names ...string) {
	r.t.Helper()
	got := called(out)
	if len(got) != len(names) {
		r.t.Fatalf("it calls %v, want %v", got, names)
	}
	for i := range names {
		if got[i] != names[i] {
			r.t.Fatalf("it calls %v, want %v", got, names)
		}
	}
}

// Pre hooks are called in their order, each once; one that is waited for holds up those behind it and the first fence.
func TestPreHooksComeFirst(t *testing.T) {
	r, out := hookedRig(t, events.Hook{Name: "tell", On: "pre", Wait: "none"}, events.Hook{Name: "ask", On: "pre"}, events.Hook{Name: "end", On: "pre", Wait: "end"})
	r.wantCalls(out, "tell", "ask")
	r.nothing(out, "nobody has answered")
	out = r.hold(2 * time.Second)
	r.wantCalls(out)
	r.nothing(out, "nobody has answered")
	out = r.accept(r.only(r.answer("pre", "ask", true, "")))
	r.wantCalls(out, "end")
	r.nothing(out, "hook end has not answered")
	out = r.accept(r.only(r.answer("pre", "end", false, events.HookTimeout))) // an end is an end
	if _, ok := r.only(out).Command.(events.FenceWave); !ok {
		t.Fatalf("after the hooks it wants %#v", out)
	}
	r.accept(r.only(out))
	out = r.answer("pre", "tell", true, "") // recorded whenever it comes
	if c, ok := r.only(out).Command.(events.RecordHook); !ok || c.Result.Name != "tell" {
		t.Fatalf("a late answer leads to %#v", out)
	}
	r.accept(r.only(out))
	r.wantCalls(r.hold(20*time.Second), []string{}...)
	if c := r.head.Cutovers["c1"]; len(c.Results) != 3 {
		t.Errorf("results %+v", c.Results)
	}
}

// A hook that had to succeed and did not ends the cutover before anything moved, with the hook's own code.
func TestPreHookFails(t *testing.T) {
	for _, code := range []string{events.HookTimeout, events.HookRefused, events.HookUnreachable, events.HookNoSecret} {
		r, _ := hookedRig(t, events.Hook{Name: "ask", On: "pre"})
		out := r.accept(r.only(r.answer("pre", "ask", false, code)))
		fail, ok := r.only(out).Command.(events.FailCutover)
		if !ok || fail.Why.Code != code {
			t.Fatalf("%s leads to %#v", code, out)
		}
		r.accept(r.only(out))
		if c := r.head.Cutovers["c1"]; c.State != events.Failed || c.Waves[0].FenceSeq != 0 {
			t.Errorf("c1 is %s", c.State)
		}
		r.nothing(r.hold(5*time.Second), "it has ended")
	}
}

// A call of which nothing is ever heard ends by itself, as a timeout.
func TestHookOfWhichNothingIsHeard(t *testing.T) {
	r, _ := hookedRig(t, events.Hook{Name: "ask", On: "pre", Timeout: events.Duration(time.Second)})
	r.nothing(r.hold(time.Second+hookGrace-100*time.Millisecond), "its time has not passed")
	out := r.hold(200 * time.Millisecond)
	if c, ok := r.only(out).Command.(events.RecordHook); !ok || c.Result.Code != events.HookTimeout {
		t.Fatalf("it wants %#v", out)
	}
}

// Post hooks are called once the cutover has ended, those of a failed one too, and of none that was never started.
func TestPostHooks(t *testing.T) {
	r, out := hookedRig(t, events.Hook{Name: "first", On: "post", Wait: "success"}, events.Hook{Name: "second", On: "post"})
	r.wantCalls(out)
	r.accept(r.only(out)) // the fence
	out = r.accept(r.only(r.hear(r.report("b1"), r.report("b2"), r.report("h1"), r.report("h2"))))
	out = r.accept(r.only(out)) // completed
	r.wantCalls(out, "first")
	out = r.accept(r.only(r.answer("post", "first", false, events.HookRefused)))
	r.wantCalls(out, "second")
	r.accept(r.only(r.answer("post", "second", true, "")))
	r.nothing(r.hold(5*time.Second), "all is done")

	r.do(t, events.PreviewCutover{Ranges: rangesOf("0-7", "8-15")})
	r.do(t, events.AbortCutover{Cutover: "c2"})
	r.wantCalls(r.read())
}

// Only an office calls, and a successor calls what its predecessor did not record.
func TestSuccessorCallsAgain(t *testing.T) {
	r, out := hookedRig(t, events.Hook{Name: "ask", On: "pre"})
	r.wantCalls(out, "ask")
	r.wait(Term + time.Second) // no renewal: out of office
	if r.d.Serving() {
		t.Fatal("it still serves")
	}
	r.nothing(r.answer("pre", "ask", true, ""), "it is not in office")
	next := newRig(t)
	next.ledger = r.ledger
	next.d = NewDriver(DriverConfig{Epoch: testEpoch, Holder: "next", ID: func(n uint64) string { return r.id() }})
	next.read()
	key := OfficeKey{Revision: 1, OfficeValue: OfficeValue{Holder: "", Term: 1}}
	out = next.d.Step(OfficeRead{At: next.at(), Key: key})
	next.wantCalls(out)
	next.rev = 1
	out = next.acknowledge(writes(out)[0])
	out = next.accept(next.only(out))
	next.wantCalls(out, "ask")
}
