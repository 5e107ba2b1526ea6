package relay

import (
	"net/http"
	"slices"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
	origins "github.com/unitgate/unitgate/edge/origin"
)

// Clients that are passed on to an edge of the unit that owns their key (R14).
//
// Such a session is a session like any other, with an edge in the place of the origin: the same tunnel, the same limits,
// and registered under its key, so that it becomes a victim when the key's owner changes and is closed here, too, also if
// the edge that serves it cannot be reached any more. Whichever of the two edges comes first, the client gets one Close:
// the other's finds the closing handshake under way. It counts as proxied and not as a session, nor for a cutover's
// evictions and landings: the edge that serves it counts it for these.
//
// Whether it may serve is the serving edge's affair (G2): it alone talks to an origin, under its own lease. This edge's
// lease is needed all the same, since without one it does not know whose key it is (R9), and lets go of everything (R3).

// Peers tells how the edges are to which clients are passed on.
func (r *Relay) Peers() []origins.Status { return r.peers.Status(r.now()) }

// edgesOf enters a view's edges of other units into the book. They are not probed: the handshakes tell.
func (r *Relay) edgesOf(v *handshake.View) map[*handshake.Edges]group {
	var all []*handshake.Edges
	var lists []origins.List
	seen := map[*handshake.Site]bool{nil: true}
	enter := func(site *handshake.Site) {
		if seen[site] {
			return
		}
		seen[site] = true
		for _, edges := range site.Edges {
			l := origins.List{}
			for _, p := range edges.Peers {
				l.Addresses = append(l.Addresses, p.Address)
			}
			all, lists = append(all, edges), append(lists, l)
		}
	}
	for _, site := range v.Sites {
		enter(site)
	}
	enter(v.Fallback)
	groups := make(map[*handshake.Edges]group, len(all))
	for i, g := range r.peers.Update(lists) {
		groups[all[i]] = group{Group: g, timeout: r.cfg.DialTimeout}
	}
	return groups
}

// passOn begins with a client of another unit, which is registered.
func (e *engine) passOn(s *session, vd *handshake.Verdict) {
	h := s.hs
	s.via, h.edges, h.group, h.tried, h.answered = e.numberOf(vd.Edges.Unit), vd.Edges, e.edgesFor(vd), nil, false
	h.hop = &hopDial{}
	e.dial(s)
}

// edgesFor are the edges to which a verdict passes a client on. One of them may hold the handshake and try several origins
// before it waits for an answer, and its own answer that there was none in time has to come first: the edge is not to be
// taken for the origin that is slow.
func (e *engine) edgesFor(vd *handshake.Verdict) group {
	g, there := e.edges[vd.Edges], e.r.groupOf(nil, vd.URI)
	before := e.view.Hold + e.r.cfg.DialBudget + there.timeout
	g.reply, g.replies, g.patience = before+there.reply, before+there.replies, there.patience
	return g
}

// numberOf is the number of another unit, by which a session knows it: its name would cost an idle one its size class.
// There are few units, and none is forgotten.
func (e *engine) numberOf(unit string) uint16 {
	if i := slices.Index(e.units, unit); i > 0 {
		return uint16(i)
	}
	e.units = append(e.units, unit)
	return uint16(len(e.units) - 1)
}

// noneAnswers: everybody to whom s could go was tried.
func (e *engine) noneAnswers(s *session) {
	if s.via != 0 {
		e.refuseBusy(s, "edges_down", "no edge of the unit that serves this user takes it, try again")
		return
	}
	if s.hs.bad {
		e.refuseBadReply(s)
		return
	}
	vd := handshake.Refuse(http.StatusBadGateway, "origins_down", "no origin of this unit answers")
	if s.hs.shut {
		vd.Reason = "an origin is there, and closes the connection of a handshake without parameters of a user's"
		vd.Header = []handshake.Field{{Name: handshake.ProbeField, Value: handshake.ProbeClosed}}
	}
	e.answer(s, &vd)
}

// unansweredInTime: an origin, or an edge, has not answered a handshake.
func (e *engine) unansweredInTime(s *session) {
	e.blameSlow(s, "no answer to a handshake in "+(e.r.now()-s.hs.sent).Round(time.Millisecond).String())
	if s.via != 0 {
		e.refuseBusy(s, "edge_silent", "the edge that serves this user did not answer in time, try again")
		return
	}
	e.refuse(s, http.StatusGatewayTimeout, "origin_slow", "the origin did not answer in time") // RFC 9110 section 15.6.5
}

// turnedDown reports whether an edge has refused a handshake for a reason that need not be another edge's. What else it
// says is passed on like an origin's answer: that the unit's origins are down, say, or that the routerId is bad.
func turnedDown(r *reply) bool {
	switch r.refused {
	case handshake.CodeNotOwner, handshake.CodeBadHop, handshake.CodeClockSkew, "not_admitting", "no_lease", "shutting_down", "at_capacity",
		"too_many_held", "too_many_held_from_address", "too_many_connections", "too_fast", "unknown_host", "unknown_uri", "no_rules":
		return r.status >= http.StatusBadRequest
	}
	return false
}

// tryElsewhere goes on after such a refusal. An edge that knows more of the journal than this one is waited up with: the
// handshake is held until the next view, or for as long as handshakes are held. Nobody is bounced.
func (e *engine) tryElsewhere(s *session, r *reply) {
	h, edge := s.hs, s.origin
	h.reply, h.answered = nil, false
	e.r.log.Debug("another unit's edge turned a handshake down", "edge", edge.Address(), "why", r.refused)
	if r.refused == handshake.CodeNotOwner && r.sequence > e.view.Seq {
		fresh := e.takeBack(s)
		if vd := handshake.Decide(h.req, e.view, h.peer, fresh.secure()); vd.Action == handshake.Proxy {
			e.hold(fresh, &vd)
			return
		}
		e.decide(fresh)
		return
	}
	p, sealed := s.reaches(), h.hop.to != nil
	if r.refused == handshake.CodeClockSkew {
		e.blame(s, "its clock and this one's are more than 30 s apart")
		e.r.sayClockSkew(p, r.time)
	}
	s.deadline.stop()
	e.close(s, origin)
	if r.refused == handshake.CodeBadHop && p != nil && !sealed {
		e.r.hops.ask(p)
		if p.Before != nil && !slices.Contains(h.hop.before, edge) {
			// An edge that takes another one's sockets over joins before it accepts: until then the other one answers there.
			h.hop.before = append(h.hop.before, edge)
			e.tryAgain(s)
			return
		}
	}
	e.tryAfter(s, edge)
}

// sayClockSkew tells an operator why clients are not passed on to an edge whose Unix time is another one, once a minute.
func (r *Relay) sayClockSkew(p *handshake.Peer, theirs int64) {
	now := r.now()
	if last := r.skewSaid.Load(); p == nil || last != 0 && now-time.Duration(last) < time.Minute || !r.skewSaid.CompareAndSwap(last, int64(now)) {
		return
	}
	ours := r.clock()
	r.log.Warn("another unit's edge does not take what this one passes on: the clocks of the two are more than 30 s apart; synchronize them",
		"code", handshake.CodeClockSkew, "edge", p.ID, "its", time.Unix(theirs, 0).UTC(), "ours", ours.UTC().Truncate(time.Second))
}

// recognize takes the address of a client whom another edge has passed on from that edge's word, if it is one's of the
// namespace. Limits count such a connection for its client: the edge's address would soon have too many.
func (e *engine) recognize(s *session, req *handshake.Request) {
	hop := req.Recognize(e.view, s.hs.binding, e.r.clock())
	if hop == nil {
		return
	}
	h := s.hs
	h.peer, h.secure = hop.Client, hop.TLS
	if h.headless != nil { // it has not entered yet; it has asked, so that it can be answered whatever becomes of it
		h.headless = nil
		h.refused, _ = e.r.gate.Enter(&s.pass, hop.Client, e.epoch.Add(e.now()))
		return
	}
	h.refused = e.r.gate.Reenter(&s.pass, h.refused, hop.Client, e.epoch.Add(e.now()))
}
