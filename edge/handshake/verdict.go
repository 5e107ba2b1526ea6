// Package handshake owns what an edge says to a WebSocket handshake: (bytes, View) -> Verdict.
//
// Parse reads the head of the request, Decide applies the View to it, AppendAnswer writes a refusal or a redirect,
// AppendOrigin the request as the origin gets it. All of it is pure: no I/O, no clock, no state; every function may
// be called concurrently.
package handshake

import (
	"crypto/subtle"
	"net/netip"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// Action is what to do with a handshake.
type Action uint8

// Answer: send AppendAnswer's bytes and close. Serve: dial one of URI's origins. Hold: keep the client waiting and decide
// again with every new View, at most View.Hold long. Accept: send AppendAccept's bytes, then a Close frame whose text is
// the Reason. Proxy: dial one of Edges.
const (
	Answer Action = iota
	Serve
	Hold
	Accept
	Proxy
)

// Verdict is the decision on one handshake.
type Verdict struct {
	Action Action
	Code   string // one machine word for metrics: "serve", "hold", "redirect", "bad_router_id", …

	// Of an Answer; of Accept only the first two.
	Status     int     // HTTP status
	Reason     string  // the body, one line without its line end; of Accept the URL that the client is to use
	Header     []Field // fields beside those that every answer has
	RetryAfter int     // seconds in Retry-After; 0: no such field. The caller may set or jitter it.

	ContentType string // of the body; "": plain text

	To string // the unit to which a client is sent that belongs to another one

	// Of Serve, Hold, Proxy and redirects.
	Type     *Type
	RouterID string         // the client's routerId; its address under "split"; empty for an unmarked client served here
	found    int            // number of the source that has RouterID, noSource for none
	said     bool           // the request says it there itself, and not only its ticket
	Slot     uint32         // of RouterID; 0 without one
	Route    *routing.Route // of RouterID; nil without one
	URI      *URI           // of Serve and Proxy: the view's; for Serve it has origins
	Domain   string         // of Serve and Proxy: the host name of the site's domain
	Edges    *Edges         // of Proxy: the view's, which has peers
}

// Key is what a session is registered under. The empty RouterID stands for the unmarked clients of the type.
type Key struct {
	Type     string
	Slot     uint32
	RouterID string
}

// Key is the key of a session that vd admits. Only Serve, Hold and Proxy have one.
func (vd *Verdict) Key() Key { return Key{vd.Type.Name, vd.Slot, vd.RouterID} }

// Unbound reports whether the key belongs to no user of the rules: no cutover moves such a session, and it is in no slot.
func (k *Key) Unbound() bool { return k.RouterID == "" || k.RouterID == ProbeID }

// ProbeID stands for the routerId of a handshake that the edge makes at itself to see whether sessions reach its origins
// (R14: such a handshake uses no real routerId). No client can have it, since a routerId has no control characters.
const ProbeID = "\x00probe"

// ProbeField is the header field by which the edge knows its own handshakes.
const ProbeField = "Unitgate-Probe"

// ProbeClosed is what ProbeField says in the answer to such a handshake if an origin was there and closed the connection
// without an answer. A server may do so that does not know the path, or wants parameters that its own clients send:
// whether it serves them, that does not tell.
const ProbeClosed = "closed"

// Decide says what to do with req from a client at peer, that came over TLS or not. The checks run from the
// connection inwards: does the edge admit at all, host, handshake, path, unit type, routerId, route; the first that
// fails answers. View may be nil: then the edge admits nothing.
func Decide(req *Request, v *View, peer netip.Addr, tls bool) Verdict {
	if v == nil || !v.Admits {
		vd := Refuse(503, "not_admitting", "this edge has not joined its unit yet, try again")
		vd.RetryAfter = 1
		return vd
	}
	if req.Path == HealthPath {
		return health(req)
	}
	if req.Marked() {
		hop, no := v.hop(req)
		if hop == nil {
			return no
		}
		peer, tls = hop.Client, hop.TLS
	}
	site := v.Sites[req.Host]
	if site == nil {
		site = v.Fallback
	}
	if site == nil {
		return Refuse(421, "unknown_host", "this host name is not served here")
	}
	if req.Path == LocatePath {
		return v.locate(req, site, peer, tls)
	}
	if vd, ok := checkUpgrade(req); !ok {
		return vd
	}
	uri := site.uri(req.Path)
	switch {
	case events.HasParameters(req.Path) && uri != site.uri(events.BarePath(req.Path)):
		return Refuse(400, "bad_path", `what this path names depends on whether its parameters (";") belong to it`)
	case uri == nil:
		return Refuse(404, "unknown_uri", "no service at this path")
	}
	typ, code, reason := v.unitType(req, site)
	if code != "" {
		return Refuse(400, code, reason)
	}
	if typ == nil || typ.Table == nil {
		return noRules()
	}
	if v.probes(req) {
		return serve(uri, Verdict{Type: typ, RouterID: ProbeID, Domain: site.Domain})
	}
	w, code, reason := routerID(req, typ, peer)
	if code != "" {
		return Refuse(400, code, reason)
	}
	return v.route(req, site, uri, Verdict{Type: typ, RouterID: w.id, found: w.source, said: w.said, Domain: site.Domain}, tls)
}

// route fills in what the rules say of vd's type and routerId.
func (v *View) route(req *Request, site *Site, uri *URI, vd Verdict, tls bool) Verdict {
	if vd.RouterID == "" {
		if !v.servesUnmarked(vd.Type) {
			return v.correct(vd, req, site, uri, v.Center, tls)
		}
	} else {
		vd.Route, vd.Slot = vd.Type.Table.Lookup(vd.RouterID), vd.Type.Table.Slot(vd.RouterID)
		switch {
		case vd.Route.Next != "":
			// Whichever edge the client came to: where it belongs is open until the wave is committed, and a third
			// unit's redirect to the losing one would have to be followed by a second.
			vd.Action, vd.Code = Hold, "hold"
			return vd
		case vd.Route.Unit != v.Unit:
			return v.correct(vd, req, site, uri, vd.Route.Unit, tls)
		}
	}
	return serve(uri, vd)
}

func serve(uri *URI, vd Verdict) Verdict {
	if len(uri.Origins) == 0 {
		return Refuse(502, "no_origins", "this unit has no origins for this path")
	}
	vd.Action, vd.Code, vd.URI = Serve, "serve", uri
	return vd
}

// probes reports whether req is one of the edge's own.
func (v *View) probes(req *Request) bool {
	secret, n := req.Get(ProbeField)
	return n == 1 && v.Probe != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(v.Probe)) == 1
}

func noRules() Verdict {
	vd := Refuse(503, "no_rules", "the unit type has no routing rules yet, try again")
	vd.RetryAfter = 1
	return vd
}

// Serves tells whether this edge's unit may serve a key now: it owns the key, and no cutover has fenced it. The route
// is nil if there is no such type. Unmarked clients (routerID is empty) are bound to no key, so that no cutover moves
// them: they may stay as long as the unit takes unmarked clients of the type at all, and have no route. The edge's own probes may
// always. What is no key in the type's form belongs to a session of before it had that: its user has another key now.
func (v *View) Serves(typ, routerID string) (*routing.Route, bool) {
	t := v.Types[typ]
	if t == nil || t.Table == nil {
		return nil, false
	}
	switch routerID {
	case "":
		return nil, v.servesUnmarked(t)
	case ProbeID:
		return nil, true
	}
	r := t.Table.Lookup(routerID)
	return r, r.Unit == v.Unit && r.Next == "" && t.Form.Is(routerID)
}

// Outgrown reports whether a key that a request got as it was sent would not be read from the same request any more, though
// it looks like one: joined fields, parameters of a path, an address of a network. Its user has another key now.
func (v *View) Outgrown(k *Key) bool {
	t := v.Types[k.Type]
	if t == nil || !t.Form.Normal || k.Unbound() {
		return false
	}
	if strings.ContainsAny(k.RouterID, ",;") {
		return true
	}
	a, err := netip.ParseAddr(k.RouterID)
	return err == nil && t.Unmarked == "split" && addressID(a, true) != k.RouterID
}

// servesUnmarked: "A unit without slots redirects unmarked clients to the center", and the center has nobody to
// redirect them to.
func (v *View) servesUnmarked(t *Type) bool { return t.Local || v.Unit == v.Center }

// uri is the longest path that is a prefix of path and ends on a segment border. Both are in normal form.
func (s *Site) uri(path string) *URI {
	for i := range s.URIs {
		prefix := strings.TrimSuffix(s.URIs[i].Path, "/")
		if rest, ok := strings.CutPrefix(path, prefix); ok && (rest == "" || rest[0] == '/') {
			return &s.URIs[i]
		}
	}
	return nil
}
