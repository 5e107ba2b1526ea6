package events

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Gate says what must be true of a committed wave before the next one begins. The zero value looks at nothing.
type Gate struct {
	Landed          int      `json:"landed,omitempty"`          // percent of the evicted that must have landed; 0: not looked at
	HandshakeErrors int      `json:"handshakeErrors,omitempty"` // most percent of handshakes that gaining edges answered with an error of their own; 0: not looked at
	OriginErrors    int      `json:"originErrors,omitempty"`    // most percent of connects to origins that failed; 0: not looked at
	Window          Duration `json:"window,omitempty"`          // how long after the commit it is judged at the latest; 0: DefaultGateWindow
	Action          string   `json:"action,omitempty"`          // when it fails: "pause" or "rollback"; "": pause
}

// DefaultGateWindow is how long moved users have to come back.
const DefaultGateWindow = Duration(30 * time.Second)

// Set reports whether the gate looks at anything.
func (g Gate) Set() bool { return g.Landed > 0 || g.HandshakeErrors > 0 || g.OriginErrors > 0 }

// normalize fills in what a set gate leaves open. Errors are *Error.
func (g *Gate) normalize(field string) error {
	for _, p := range []struct {
		name  string
		value int
	}{{"landed", g.Landed}, {"handshakeErrors", g.HandshakeErrors}, {"originErrors", g.OriginErrors}} {
		if p.value < 0 || p.value > 100 {
			return ErrBadValue.With("want a percentage from 0 (not looked at) to 100").At(join(field, p.name))
		}
	}
	if !g.Set() {
		if *g != (Gate{}) {
			return ErrMissingField.With("say what is looked at: landed, handshakeErrors or originErrors").At(field)
		}
		return nil
	}
	if g.Window == 0 {
		g.Window = DefaultGateWindow
	}
	if g.Window < Duration(time.Second) || g.Window > Duration(10*time.Minute) {
		return ErrBadValue.With("want 1s to 10m").At(join(field, "window"))
	}
	return oneOf(&g.Action, join(field, "action"), "pause", "rollback")
}

// GateResult is what a gate measured of one wave.
type GateResult struct {
	OK              bool   `json:"ok"`
	Message         string `json:"message"`
	Evicted         int    `json:"evicted"`         // by the wave
	Compared        int    `json:"compared"`        // evicted sessions of which both sides are known: a sample where there are thousands
	Landed          int    `json:"landed"`          // of those compared: back, at their new owner
	Handshakes      int    `json:"handshakes"`      // at the gaining edges since the commit
	HandshakeErrors int    `json:"handshakeErrors"` // of those answered with an error of the edge's own
	Dials           int    `json:"dials"`           // connects to origins there
	DialErrors      int    `json:"dialErrors"`
	// Missing are edges whose part is not known, with the reason. A gate that lacks something cannot be passed, and does
	// not lead to a rollback by itself: that would be a guess.
	Missing []string `json:"missing,omitempty"`
}

// maxHooks bounds the hooks before a cutover, and those after it.
const maxHooks = 5

// Hook is an HTTP callback of a namespace's cutovers: a POST with the cutover's id, units and state.
type Hook struct {
	Name    string   `json:"name"`
	URL     string   `json:"url"`               // http or https, without credentials; {secret} in path or query stands for what the control plane alone knows
	On      string   `json:"on"`                // "pre": before the first fence; "post": after the end
	Wait    string   `json:"wait,omitempty"`    // "success": fails the cutover otherwise; "end": for any answer; "none"; "": success before, none after
	Timeout Duration `json:"timeout,omitempty"` // of one call; 0: 10 s
}

// HookResult is what became of a hook of one cutover.
type HookResult struct {
	Name    string   `json:"name"`
	On      string   `json:"on"`
	OK      bool     `json:"ok"`               // it answered 2xx in time
	Code    string   `json:"code,omitempty"`   // why not, one of the Hook codes; "" if OK
	Status  int      `json:"status,omitempty"` // of the answer, 0 without one
	Message string   `json:"message"`
	Took    Duration `json:"took"`
}

// Why a hook is not OK.
const (
	HookTimeout     = "hook_timeout"     // it did not answer in time
	HookUnreachable = "hook_unreachable" // it could not be connected to, or broke off
	HookRefused     = "hook_refused"     // it answered with something else than 2xx; redirects are not followed
	HookNoSecret    = "hook_no_secret"   // it was not called: the control plane has nothing to sign the call with, or not its secret URL
	HookNotAllowed  = "hook_not_allowed" // it was not called: the control plane may not connect to its address
)

// HookSecret stands in a hook's URL for the part that is no business of those who read the
// journal: the control plane has it from a file of its own.
const HookSecret = "{secret}"

// checkHooks validates a namespace's hooks and fills in what they leave open. Errors are *Error.
func checkHooks(hooks []Hook, field string) error {
	names, count := map[string]bool{}, map[string]int{}
	for i := range hooks {
		h, at := &hooks[i], fmt.Sprintf("%s[%d]", field, i)
		if err := CheckID(h.Name, join(at, "name")); err != nil {
			return err
		}
		if names[h.Name] {
			return ErrDuplicateName.With("hook %q stands here twice", h.Name).At(at)
		}
		names[h.Name] = true
		if !slices.Contains([]string{"pre", "post"}, h.On) {
			return ErrBadValue.With("%q: want pre or post", h.On).At(join(at, "on"))
		}
		if count[h.On]++; count[h.On] > maxHooks {
			return ErrBadValue.With("at most %d hooks %s a cutover are allowed", maxHooks, map[string]string{"pre": "before", "post": "after"}[h.On]).At(field)
		}
		if err := h.check(at); err != nil {
			return err
		}
	}
	return nil
}

// Result is what became of one of the hooks that a cutover has, nil until that is known.
func (c *Cutover) Result(h Hook) *HookResult {
	i := slices.IndexFunc(c.Results, func(r HookResult) bool { return r.Name == h.Name && r.On == h.On })
	if i < 0 {
		return nil
	}
	return &c.Results[i]
}

// Awaits reports whether the cutover waits for one of its hooks. An emergency waits for none.
func (c *Cutover) Awaits(h Hook) bool { return h.Wait != "none" && !c.Emergency }

// called refuses to begin before every pre hook that is waited for has been called, and has not failed where it must
// succeed.
func (c *Cutover) called() error {
	if c.Waves[0].FenceSeq > 0 {
		return nil
	}
	for _, h := range c.Hooks {
		if h.On != "pre" || !c.Awaits(h) {
			continue
		}
		switch r := c.Result(h); {
		case r == nil:
			return ErrWrongState.With("hook %s of %s has not been called yet", h.Name, c.ID)
		case !r.OK && h.Wait == "success":
			return ErrWrongState.With("hook %s of %s failed: %s", h.Name, c.ID, r.Message)
		}
	}
	return nil
}

func (h *Hook) check(at string) error {
	u, err := url.Parse(h.URL)
	if err != nil || len(h.URL) > 1024 || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return ErrBadValue.With("want an http or https URL of at most 1024 bytes").At(join(at, "url"))
	}
	if u.User != nil {
		return ErrBadValue.With("credentials have no place in the journal: the call is signed instead").At(join(at, "url"))
	}
	if i := strings.Index(h.URL, HookSecret); i >= 0 {
		// Behind the host, so that the journal says where the secret goes.
		if begin := strings.Index(h.URL, "://") + len("://"); !strings.Contains(h.URL[begin:i], "/") || strings.Contains(h.URL, "#") || strings.Count(h.URL, HookSecret) > 1 {
			return ErrBadValue.With("want %s once, in the path or the query", HookSecret).At(join(at, "url"))
		}
	}
	if h.Timeout == 0 {
		h.Timeout = Duration(10 * time.Second)
	}
	if h.Timeout < Duration(100*time.Millisecond) || h.Timeout > Duration(time.Minute) {
		return ErrBadValue.With("want 100ms to 1m").At(join(at, "timeout"))
	}
	if h.Wait == "" && h.On == "post" {
		h.Wait = "none"
	}
	return oneOf(&h.Wait, join(at, "wait"), "success", "end", "none")
}
