package events

import (
	"fmt"
	"net/url"
	"slices"
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
	Landed          int    `json:"landed"`          // on its keys, at their new owner
	Handshakes      int    `json:"handshakes"`      // at the gaining edges since the commit
	HandshakeErrors int    `json:"handshakeErrors"` // of those answered with an error of the edge's own
	Dials           int    `json:"dials"`           // connects to origins there
	DialErrors      int    `json:"dialErrors"`
}

// maxHooks bounds the hooks before a cutover, and those after it.
const maxHooks = 5

// Hook is an HTTP callback of a namespace's cutovers: a POST with the cutover's id, units and state.
type Hook struct {
	Name    string   `json:"name"`
	URL     string   `json:"url"`               // http or https, without credentials
	On      string   `json:"on"`                // "pre": before the first fence; "post": after the end
	Wait    string   `json:"wait,omitempty"`    // "success": fails the cutover otherwise; "end": for any answer; "none"; "": success before, none after
	Timeout Duration `json:"timeout,omitempty"` // of one call; 0: 10 s
}

// HookResult is what became of a hook of one cutover.
type HookResult struct {
	Name    string   `json:"name"`
	On      string   `json:"on"`
	OK      bool     `json:"ok"`               // it answered 2xx in time
	Status  int      `json:"status,omitempty"` // of the answer, 0 without one
	Message string   `json:"message"`
	Took    Duration `json:"took"`
}

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

func (h *Hook) check(at string) error {
	u, err := url.Parse(h.URL)
	if err != nil || len(h.URL) > 1024 || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return ErrBadValue.With("want an http or https URL of at most 1024 bytes").At(join(at, "url"))
	}
	if u.User != nil {
		return ErrBadValue.With("credentials have no place in the journal: the call is signed instead").At(join(at, "url"))
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
