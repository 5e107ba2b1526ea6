package cutover

import (
	"time"

	"github.com/unitgate/unitgate/events"
)

// simHooks are one hook of each kind.
func simHooks() *[]events.Hook {
	hook := func(name, on, wait string) events.Hook {
		return events.Hook{Name: name, On: on, Wait: wait, URL: "http://ops.example/", Timeout: events.Duration(2 * time.Second)}
	}
	return &[]events.Hook{
		hook("tell", "pre", "none"), hook("ask", "pre", "success"), hook("end", "pre", "end"),
		hook("after", "post", "success"), hook("last", "post", "none"),
	}
}

// callHook answers a call, mostly with yes; the answer may get lost, and its driver may be another one by then.
func (d *simDriver) callHook(o CallHook) {
	w := d.w
	if !d.serving() {
		w.bug("hook %s was called out of office", o.Hook.Name)
	}
	if c := w.head.Cutovers[o.Cutover.ID]; o.Hook.On == "post" && !c.State.Ended() {
		w.bug("post hook %s was called while %s is %s", o.Hook.Name, c.ID, c.State)
	}
	if w.faulty() && w.chance(0.1) {
		return
	}
	res := events.HookResult{Name: o.Hook.Name, On: o.Hook.On, OK: !w.chance(0.1), Message: "as simulated"}
	if !res.OK {
		res.Code = events.HookRefused
	}
	w.after(w.span(2*time.Second), d.alive(func() { d.step(HookEnded{d.at(), o.Cutover.ID, res}) }))
}
