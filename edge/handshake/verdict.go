// Package handshake owns what an edge says to a WebSocket handshake: (bytes, View) -> Verdict.
//
// Parse reads the head of the request, Decide applies the View to it, AppendAnswer writes a refusal or a redirect,
// AppendOrigin the request as the origin gets it. All of it is pure: no I/O, no clock, no state; every function may
// be called concurrently.
package handshake

import (
	"net/netip"

	"github.com/unitgate/unitgate/events/routing"
)

// Action is what to do with a handshake.
type Action uint8

// Answer: send AppendAnswer's bytes and close. Serve: dial one of Origins. Hold: keep the client waiting and decide
// again with every new View, at most View.Hold long.
const (
	Answer Action = iota
	Serve
	Hold
)

// Verdict is the decision on one handshake.
type Verdict struct {
	Action Action
	Code   string // one machine word for metrics: "serve", "hold", "redirect", "bad_router_id", …

	// Of an Answer.
	Status     int     // HTTP status
	Reason     string  // the plain-text body, one line without its line end
	Header     []Field // fields beside those that every answer has
	RetryAfter int     // seconds in Retry-After; 0: no such field. The caller may set or jitter it.

	// Of Serve and Hold.
	Type     *Type
	RouterID string         // the client's routerId; its address under "split"; empty for an unmarked client served here
	Slot     uint32         // of RouterID; 0 without one
	Route    *routing.Route // of RouterID; nil without one
	Origins  []string       // of Serve: HOST:PORT, never empty. Shared: do not change it.
}

// Key is what a session is registered under. The zero RouterID stands for the unmarked clients of the type.
type Key struct {
	Type     string
	Slot     uint32
	RouterID string
}

// Key is the key of a session that was admitted by vd. It is meaningful for Serve and Hold only.
func (vd *Verdict) Key() Key { return Key{vd.Type.Name, vd.Slot, vd.RouterID} }

// Decide says what to do with req from a client at peer, that came over TLS or not.
func Decide(req *Request, v *View, peer netip.Addr, tls bool) Verdict {
	return Refuse(503, "not_admitting", "this edge has not joined yet")
}

// Serves tells whether this edge's unit may serve a key of a unit type now, and the key's route (nil if there is none).
func (v *View) Serves(typ, routerID string) (*routing.Route, bool) { return nil, false }
