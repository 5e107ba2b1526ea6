package events

import (
	"testing"
	"time"
)

// hookedShop is a shop whose namespace has these hooks, with a started cutover c1.
func hookedShop(t *testing.T, hooks ...Hook) *world {
	w := shop(t)
	w.do(ApplyConfig{Base: w.s.ConfigVersion, Config: Config{Namespace: "shop", Hooks: &hooks}})
	w.started(1)
	return w
}

func result(name, on string, ok bool) RecordHook {
	return RecordHook{Cutover: "c1", Term: 1, Result: HookResult{Name: name, On: on, OK: ok, Message: "as measured"}}
}

// What a namespace's hooks leave open is filled in, and a cutover has those that its namespace had at its start.
func TestHooksOfACutover(t *testing.T) {
	w := hookedShop(t, Hook{Name: "ask", URL: "https://ops.example/a", On: "pre"}, Hook{Name: "tell", URL: "https://ops.example/b", On: "post"})
	w.do(ApplyConfig{Base: w.s.ConfigVersion, Config: Config{Namespace: "shop", Hooks: &[]Hook{{Name: "late", URL: "http://a/", On: "pre"}}}})
	c := w.s.Cutovers["c1"]
	if len(c.Hooks) != 2 || c.Hooks[0].Wait != "success" || c.Hooks[0].Timeout != Duration(10*time.Second) || c.Hooks[1].Wait != "none" {
		t.Errorf("hooks of c1: %+v", c.Hooks)
	}
	w.refuse(result("late", "pre", true), ErrWrongState, "")
	w.do(result("ask", "pre", true))
	w.refuse(result("ask", "pre", true), ErrWrongState, "") // once
	w.refuse(result("tell", "post", true), ErrWrongState, "")
	w.fence("c1", 0)
	w.commit("c1", 0)
	w.do(CompleteCutover{Cutover: "c1", Term: 1})
	w.do(result("tell", "post", false))
	if c := w.s.Cutovers["c1"]; c.State != Completed || c.Result(c.Hooks[1]).OK {
		t.Errorf("after its end a hook changes nothing: %+v", c)
	}
}

// Nothing is fenced before the pre hooks that are waited for were called, nor after one that had to succeed has failed.
func TestPreHooksHoldTheFence(t *testing.T) {
	fence := FenceWave{Cutover: "c1", Wave: 0, Term: 1}
	for wait, want := range map[string]struct{ before, failed bool }{"success": {}, "end": {failed: true}, "none": {true, true}} {
		t.Run(wait, func(t *testing.T) {
			hook := Hook{Name: "ask", URL: "http://a/", On: "pre", Wait: wait}
			try := func(why string, allowed bool, results ...RecordHook) {
				w := hookedShop(t, hook)
				for _, r := range results {
					w.do(r)
				}
				if _, err := w.try(fence); (err == nil) != allowed {
					t.Errorf("%s: %v", why, err)
				}
			}
			try("before the call", want.before)
			try("after a failed call", want.failed, result("ask", "pre", false))
			try("after a good one", true, result("ask", "pre", true))
		})
	}
	e := shop(t)
	e.do(ApplyConfig{Base: e.s.ConfigVersion, Config: Config{Namespace: "shop", Hooks: &[]Hook{{Name: "ask", URL: "http://a/", On: "pre"}}, Policy: &PolicyPatch{Gate: &Gate{Landed: 90}}}})
	e.do(PreviewCutover{Drain: "unbj", Emergency: true, Reason: "it burns", Waves: 1})
	if e.s.Cutovers["c1"].Gate.Set() {
		t.Error("an emergency has the policy's gate")
	}
	e.do(StartCutover{Cutover: "c1", Checks: e.checks(Pass)})
	e.do(result("ask", "pre", false))
	e.do(fence) // an emergency waits for nobody

	w := hookedShop(t, Hook{Name: "ask", URL: "http://a/", On: "pre"})
	w.do(result("ask", "pre", false))
	w.do(FailCutover{Cutover: "c1", Term: 1, Why: Why{HookRefused, "no"}})
	if c := w.s.Cutovers["c1"]; c.State != Failed || c.Why.Code != HookRefused || w.route("6249") != "unbj" {
		t.Errorf("%+v", c)
	}
}

// A hook's URL says where it goes, whatever part of it is secret, and holds no credentials.
func TestURLsOfHooks(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://ops.example/a": true, "https://chat.example/hooks/{secret}": true, "https://chat.example/?a={secret}&b": true,
		"https://{secret}/": false, "https://chat.example:{secret}/": false, "https://chat.example?a={secret}": false, "{secret}": false, "{secret}://a/": false,
		"https://chat.example/{secret}/{secret}": false, "https://chat.example/#{secret}": false, "https://me:{secret}@chat.example/": false,
		"https://me@chat.example/": false, "ftp://ops.example/": false, "https:///a": false, "https://ops.example/\n": false,
	} {
		err := checkHooks([]Hook{{Name: "ask", URL: url, On: "pre"}}, "hooks")
		if (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
}
