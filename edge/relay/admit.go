package relay

import (
	"math/rand/v2"
	"net/netip"

	"github.com/lesismal/nbio"

	"github.com/unitgate/unitgate/edge/front"
	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/edge/limit"
)

// arrival is a descriptor that is not in epoll yet: a client's, a listener's, or an origin's to which s connects.
type arrival struct {
	c      *nbio.Conn // of a client
	peer   netip.Addr // its address
	tls    bool       // it has to begin with that
	ln     *listener
	s      *session
	serial uint32 // of s's attempt
}

// take begins with an arrival.
func (e *engine) take(a *arrival) {
	switch {
	case a.s != nil:
		e.opened(a.s, a.serial)
	case a.ln != nil:
		e.beginAccepting(a.ln)
	case e.closing:
		_ = a.c.Close()
	default:
		e.welcome(a)
	}
}

// readHead reads until the request's head is complete.
func (e *engine) readHead(s *session) {
	for s.state == stHead && s.legs[client].c != nil {
		// What does not fit stays in the kernel. With TLS, which comes in records of 16 KiB, it may be one record more.
		n, err := s.legs[client].c.Read(e.buf[:e.headRoom(s)])
		if n <= 0 {
			again, later := readAgain(err)
			switch {
			case again:
				continue
			case !later:
				e.close(s, client)
			}
			return
		}
		if s.tls != nil {
			e.openHead(s, e.buf[:n])
		} else {
			e.takeHead(s, e.buf[:n])
		}
	}
}

// takeHead adds b to what was received of the request's head, and decides when that is complete.
func (e *engine) takeHead(s *session, b []byte) {
	h, before := s.hs, len(s.hs.buf)
	if e.hopBegins(s, b) {
		e.welcomeHop(s, b)
		return
	}
	if h.buf != nil {
		h.buf = append(h.buf, b...)
		b = h.buf
	}
	req, head, err := e.headLimits(s).ParseOn(b, before)
	if req != nil {
		e.recognize(s, req)
	}
	switch {
	case h.headless != nil && (req != nil || err != nil):
		e.refuseFront(s, b[0], h.headless)
	case h.refused != limit.Taken:
		h.req = req // what was asked for may show in the answer
		e.refuseByLimit(s)
	case err != nil:
		var vd handshake.Verdict
		vd, h.req = handshake.RefuseError(err)
		if front.Begins(b) {
			vd.Reason = "a PROXY header is taken only from addresses that --proxy-protocol lists"
		}
		e.answer(s, &vd)
	case req == nil:
		if h.buf == nil {
			h.buf = append([]byte(nil), b...)
		}
		e.keepsHead(s, cap(h.buf))
	default:
		h.req, h.kept = req, int32(len(b)+len(req.Fields)*fieldBytes)
		if !e.keepsHead(s, int(h.kept)) {
			return
		}
		if b = b[head:]; len(b) > 0 {
			b = append([]byte(nil), b...)
		}
		h.buf = b
		e.decide(s)
	}
}

// decide applies the view to a session's request, for the first time or again.
func (e *engine) decide(s *session) {
	s.deadline.stop()
	if e.closing || e.refusing {
		e.refuseBusy(s, "shutting_down", "this edge is shutting down, try again")
		return
	}
	if !e.leased() { // R9: not even a redirect
		e.refuseBusy(s, "no_lease", "this edge may not serve at this moment, try again")
		return
	}
	vd := handshake.Decide(s.hs.req, e.view, s.hs.peer, s.secure())
	switch vd.Action {
	case handshake.Hold:
		e.hold(s, &vd)
	case handshake.Accept:
		e.correct(s, &vd)
	case handshake.Serve:
		if e.admit(s) {
			e.register(s, &vd)
			s.hs.group, s.hs.tried, s.hs.answered, s.hs.bad = e.groups[vd.URI], nil, false, false
			e.dial(s)
		}
	case handshake.Proxy:
		if e.admit(s) {
			e.register(s, &vd)
			e.passOn(s, &vd)
		}
	default:
		if vd.RetryAfter > 0 {
			vd.RetryAfter = retryAfter()
		}
		vd.Vouch(e.view, e.r.clock())
		e.answer(s, &vd)
	}
}

// admit counts the session against the capacity, or refuses it.
func (e *engine) admit(s *session) bool {
	if e.hasRoom(s) {
		return true
	}
	e.refuseAtCapacity(s)
	return false
}

func (e *engine) refuseAtCapacity(s *session) {
	e.refuseBusy(s, "at_capacity", "this edge is at capacity, try again")
}

// hasRoom counts the session against the capacity, if that has room for it.
func (e *engine) hasRoom(s *session) bool {
	if s.admitted {
		return true
	}
	if n := e.r.admitted.Add(1); e.r.cfg.Capacity > 0 && n > int64(e.r.cfg.Capacity) {
		e.r.admitted.Add(-1)
		return false
	}
	s.admitted = true
	return true
}

// makeRoom ends what hasRoom has counted.
func (e *engine) makeRoom(s *session) {
	if s.admitted {
		s.admitted = false
		e.r.admitted.Add(-1)
	}
}

// fieldBytes is what a request takes for each header line, beside the line: see handshake.MaxFields.
const fieldBytes = 50

// hold keeps the client waiting for the next view.
func (e *engine) hold(s *session, vd *handshake.Verdict) {
	if !e.takePlace(s) {
		return
	}
	if !s.hs.wasHeld { // a client that was let in and out again waits no longer than any other
		s.hs.wasHeld, s.hs.since = true, e.now()
	}
	s.state = stHeld
	s.stats = e.statsOf(vd.Type.Name)
	s.stats.held.Add(1)
	e.held.timeout = e.view.Hold
	e.held.start(&s.deadline, s.hs.since)
	e.schedule(s.deadline.at)
	// The FIN of a client that left already came with the event that brought its request.
	e.checkLeft(s)
}

// takePlace gives s a place among the held, and one in the capacity, or refuses it. Where there is none of either, one of
// the address that has the most of the held gives way, if that has more than the client's.
func (e *engine) takePlace(s *session) bool {
	room := e.hasRoom(s)
	p := &limit.Place[*session]{}
	lost, ok := e.r.places.Take(p, s, s.hs.peer, int(s.hs.kept), !room)
	for _, o := range lost {
		o.e.post(func() { o.e.giveWay(o) })
	}
	switch {
	case !ok && !room:
		e.refuseAtCapacity(s)
		return false
	case !ok:
		e.refuseBusy(s, "too_many_held", "this user is moving to another unit and too many wait already, try again")
		return false
	case !room: // that of the one that gives way, which it leaves in a moment
		s.admitted = true
		e.r.admitted.Add(1)
	}
	s.hs.place = p
	e.r.gate.Opened(&s.pass) // its address's share is that of the places
	return true
}

// giveWay refuses a held client that has lost its place to one of another address.
func (e *engine) giveWay(s *session) {
	if s.state == stHeld && !e.r.places.Has(s.hs.place) { // else it is let go, or held anew, already
		e.unhold(s)
		e.refuseBusy(s, "too_many_held_from_address", "this user is moving to another unit and too many wait from this address, try again")
	}
}

// unhold takes a session out of the held ones, if it is one.
func (e *engine) unhold(s *session) {
	if s.state != stHeld {
		return
	}
	s.state = stHead
	s.deadline.stop()
	observe(e.r.cfg.Observers.Held, e.now()-s.hs.since)
	s.stats.held.Add(-1)
	e.r.places.Leave(s.hs.place)
	s.hs.place = nil
}

// decideHeld decides every held session again, those that waited longest first.
func (e *engine) decideHeld() {
	var held []*session
	for d := e.held.first; d != nil; d = d.next {
		held = append(held, d.s)
	}
	if len(held) == 0 {
		return
	}
	e.takeTurns(func(steps *int) bool {
		for ; len(held) > 0 && *steps > 0; held = held[1:] {
			if s := held[0]; s.state == stHeld {
				*steps -= stepRedecide
				e.decideOn(s, steps)
			}
		}
		return len(held) == 0
	})
}

// decideOn decides a held session again. One that goes on waiting keeps its place: to be sorted in anew among thousands
// costs more than the decision.
func (e *engine) decideOn(s *session, steps *int) {
	if !e.closing && !e.refusing && e.leased() {
		vd := handshake.Decide(s.hs.req, e.view, s.hs.peer, s.secure())
		if vd.Action == handshake.Hold {
			e.holdOn(s, &vd)
			return
		}
	}
	*steps -= stepDecide
	e.unhold(s)
	e.decide(s)
}

// holdOn has a held session go on waiting, as long as the view says.
func (e *engine) holdOn(s *session, vd *handshake.Verdict) {
	if st := e.statsOf(vd.Type.Name); st != s.stats {
		s.stats.held.Add(-1)
		st.held.Add(1)
		s.stats = st
	}
	e.held.timeout = e.view.Hold
	s.deadline.at = s.hs.since + e.held.timeout // in the order of the others, who all get the same
	e.schedule(s.deadline.at)
}

// retryAfter spreads clients that were sent away together, in seconds.
func retryAfter() int { return 1 + rand.IntN(5) }

func (e *engine) refuse(s *session, status int, code, reason string) {
	vd := handshake.Refuse(status, code, reason)
	e.answer(s, &vd)
}

func (e *engine) refuseBusy(s *session, code, reason string) {
	vd := handshake.Refuse(503, code, reason)
	vd.RetryAfter = retryAfter()
	e.answer(s, &vd)
}

// answer sends the client a response of our own and ends the session with it.
func (e *engine) answer(s *session, vd *handshake.Verdict) {
	e.countAnswer(s, vd)
	e.traceAnswer(s, vd)
	e.part(s)
	e.out = handshake.AppendAnswer(e.out[:0], s.asked(), vd)
	e.write(s, client, e.out)
	e.linger(s)
}

// correct opens the client's WebSocket connection just to close it with the address where it belongs. What follows is the
// end of an evicted session that has no origin; the client has a little more time, since nobody waits for it.
func (e *engine) correct(s *session, vd *handshake.Verdict) {
	e.countAnswer(s, vd)
	e.traceAnswer(s, vd)
	e.out = appendClose(handshake.AppendAccept(e.out[:0], s.hs.req), closeElsewhere, vd.Reason)
	early := s.hs.buf
	s.state = stAnswer
	e.endOpening(s)
	e.start(&e.lingering, s)
	e.write(s, client, e.out)
	e.relayAnswer(s, early)
	e.rearm(&s.legs[client]) // what it sends after its request waits in the kernel
}

// asked is the client's request; nil if it was not read, or is answered already.
func (s *session) asked() *handshake.Request {
	if s.hs == nil {
		return nil
	}
	return s.hs.req
}

// countAnswer counts an answer of our own to a handshake. One of which no unit type is known counts for the default one.
func (e *engine) countAnswer(s *session, vd *handshake.Verdict) {
	switch vd.Code {
	case "located", "locate_preflight", "healthy": // no handshakes
		return
	}
	st := s.stats
	v := verdict{code: vd.Code, to: vd.To}
	switch {
	case st != nil:
	case vd.Type != nil:
		st = e.statsOf(vd.Type.Name)
	case e.view != nil && e.view.Default != nil:
		st = e.statsOf(e.view.Default.Name)
	default:
		e.counter(v).Add(1)
		return
	}
	v.unitType = st.name
	e.counter(v).Add(1)
	dealt := &st.own
	if s.via != 0 {
		dealt = &st.proxied
	}
	dealt.handshakes.Add(1)
	if vd.Status >= 500 && !e.closing && !s.probe() { // an edge that stops sends its clients to another one
		dealt.handshakeErrors.Add(1)
	}
}
