package cutover

import (
	"fmt"
	"time"

	"github.com/unitgate/unitgate/events"
)

// hookGrace is how much longer than its timeout the driver waits for what became of a call.
const hookGrace = 5 * time.Second

// CallHook wants a hook called, and a HookEnded. A driver that takes over calls what its predecessor did not record
// again, so that a hook is called at least once; its deliveries of one cutover have one id.
type CallHook struct {
	Namespace string
	Cutover   events.Cutover // as it stands
	Hook      events.Hook
}

func (CallHook) isOutput() {}

// HookEnded answers CallHook.
type HookEnded struct {
	At
	Cutover string
	Result  events.HookResult
}

// call is a hook that was called and whose result the journal does not hold yet.
type call struct {
	hook   events.Hook
	when   time.Duration
	result *events.HookResult // nil: not known yet
}

// callKey names a hook of a cutover.
type callKey struct{ cutover, on, name string }

// hookEnded takes what became of a call. A second answer, or one of a call that was given up, changes nothing.
func (d *Driver) hookEnded(in HookEnded) {
	if k := d.calls[callKey{in.Cutover, in.Result.On, in.Result.Name}]; k != nil && k.result == nil {
		k.result = &in.Result
	}
}

// callPre calls the pre hooks of a started cutover of which nothing was ever fenced, in their order, and reports whether
// that holds it up. One that is waited for holds up the ones behind it; one that had to succeed and did not ends the
// cutover.
func (d *Driver) callPre(c *events.Cutover) (holds bool) {
	if c.Waves[0].FenceSeq > 0 {
		return false
	}
	for _, h := range c.Hooks {
		if h.On != "pre" {
			continue
		}
		switch r := c.Result(h); {
		case r == nil:
			if d.call(c, h); c.Awaits(h) {
				return true
			}
		case !r.OK && h.Wait == "success" && c.Awaits(h):
			d.want(c, wish{"fail", 0, 0}, events.FailCutover{Cutover: c.ID, Term: d.office.term, Why: events.Why{
				Code: r.Code, Message: fmt.Sprintf("hook %s said no before anything moved: %s", h.Name, r.Message),
			}})
			return true
		}
	}
	return false
}

// callPost calls the post hooks of a cutover that was started and has ended, in their order. There is nothing left to
// hold up or to end: one that is waited for only comes before the ones behind it.
func (d *Driver) callPost(c *events.Cutover) {
	for _, h := range c.Hooks {
		if h.On != "post" || c.Result(h) != nil {
			continue
		}
		if d.call(c, h); c.Awaits(h) {
			return
		}
	}
}

// call calls a hook once in this driver's time in office.
func (d *Driver) call(c *events.Cutover, h events.Hook) {
	key := callKey{c.ID, h.On, h.Name}
	if d.calls[key] == nil {
		d.calls[key] = &call{hook: h, when: d.now}
		d.out = append(d.out, CallHook{d.state.Namespace, *c, h})
	}
}

// record has the journal take what became of a cutover's hooks.
func (d *Driver) record(c *events.Cutover) {
	for _, h := range c.Hooks {
		key := callKey{c.ID, h.On, h.Name}
		k := d.calls[key]
		switch {
		case k == nil:
			continue
		case c.Result(h) != nil:
			delete(d.calls, key)
			continue
		case k.result == nil && d.now-k.when < time.Duration(h.Timeout)+hookGrace:
			continue
		case k.result == nil: // whoever called it has told nothing
			k.result = &events.HookResult{
				Name: h.Name, On: h.On, Code: events.HookTimeout, Took: h.Timeout, Message: "nothing is known of the call",
			}
		}
		d.want(c, wish{"hook " + h.On + " " + h.Name, 0, 0}, events.RecordHook{Cutover: c.ID, Term: d.office.term, Result: *k.result})
	}
}

// calling reports whether a hook of the cutover has still to be called or recorded.
func (d *Driver) calling(c *events.Cutover) bool {
	for _, h := range c.Hooks {
		if c.Result(h) == nil && (c.State.Ended() && h.On == "post" || d.calls[callKey{c.ID, h.On, h.Name}] != nil) {
			return true
		}
	}
	return false
}
