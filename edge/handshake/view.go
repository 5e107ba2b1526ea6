package handshake

import (
	"crypto/ed25519"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// View is everything an edge decides handshakes with: a pure function of the journal's state and of who the edge is.
// It is immutable and swapped as a whole.
type View struct {
	Seq       uint64                       // journal sequence it was made from
	Epoch     string                       // of the journal that Seq counts in
	Unit      string                       // the unit of this edge
	Center    string                       // the center unit
	Admits    bool                         // the state holds this edge's own join (R7); until then every handshake gets 503
	Types     map[string]*Type             // unit types by wire name
	Default   *Type                        // the first unit type
	Sites     map[string]*Site             // active domains and their unit sub-domains by lower-case host name without port
	Fallback  *Site                        // answers for unknown hosts (only in dev), nil otherwise
	Hold      time.Duration                // longest time a handshake of a fenced key is held
	CloseCode uint16                       // close code of an eviction
	Cuts      map[string]uint64            // by domain: sequence of the newest event that closes its sessions of before
	Probe     string                       // what a handshake of the edge's own carries in ProbeField; "": it makes none
	ID        string                       // this edge's id
	Signer    ed25519.PrivateKey           // by which this edge vouches for clients that it sends away; nil: it does not
	Signers   map[string]ed25519.PublicKey // by edge: whose word counts for such clients
	Peers     map[string]*Peer             // by id: the other edges, if some site passes handshakes on
}

// Type is what a unit type says of its clients.
type Type struct {
	Name      string
	Table     *routing.Table
	Version   uint64       // of the rules, as operators count them
	Moved     uint64       // of the rules by which keys have their owner that a cutover has moved already; Version but while one runs
	Form      routing.Form // what counts as one routerId
	Sources   []Source     // where the routerId is looked for, in this order
	Cutover   string       // that the table was compiled for; "": none, or one of which nothing is to be remembered any more
	Trace     events.Trace // Cutover's; zero: none
	Committed int          // waves of Cutover that are committed: they come first
	Fences    []uint64     // by wave of Cutover: sequence of its newest fence, 0 before the first
	Unmarked  string       // clients without one: "local", "reject" or "split"
	Local     bool         // this edge's unit owns slots of the type, so that it may serve unmarked clients itself
}

// VersionOf is the version of the rules that made a route's owner the owner: higher for each of a key's owners, also
// while a cutover has moved some keys and not yet the others. No route is that of an unmarked client.
func (t *Type) VersionOf(r *routing.Route) uint64 {
	if r != nil && r.Moved {
		return max(t.Version, t.Moved)
	}
	return t.Version
}

// Source is one place to look for the routerId: From is "header", "cookie", "query", "path" or "subprotocol".
type Source struct {
	From   string
	Name   string // of the header field, the cookie or the parameter
	Number int    // of the path's segment, from 1
}

// Site is an active domain as one edge sees it.
type Site struct {
	Domain     string // its own host name
	Type       *Type
	Scheme     string            // of Location: auto, http, https, ws, wss, protocol-relative
	Correction string            // how clients of other units are corrected: redirect, close or proxy; "": redirect
	Edges      map[string]*Edges // of correction proxy: unit -> where its clients are passed on; none for units without edges
	Locations  map[string]string // unit -> host[:port] that a redirect names
	URIs       []URI             // longest path first
}

// URI gives the origins of this edge's unit for a path prefix that ends on a segment border.
type URI struct {
	Path           string
	Origins        []string       // HOST:PORT of this unit; empty: the unit has none
	ConnectTimeout time.Duration  // for one of them to accept; 0: as the edge is set
	ReplyTimeout   time.Duration  // for one of them to answer a handshake; 0: as the edge is set
	Health         *events.Health // nil: they are not probed
}
