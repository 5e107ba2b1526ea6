package relay

import (
	"net/netip"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/edge/limit"
)

// Heads of requests. What a connection keeps of one up to shortHead bytes is its own, as its socket's buffers are:
// connections are bounded. What is beyond comes out of one budget for all of them, Config.LongHeads, from the moment on
// that it has arrived until the handshake is over: incomplete, held, or waiting for an origin. When the budget is used, the
// address that has the most of it gives way, its newest first, as held handshakes do (limit.Places).
const (
	shortHead = handshake.SmallestHead

	// headStep is how much is read of a client at a time. What does not fit stays in the kernel; so what follows a
	// complete head, which waits for the tunnel, is no more either.
	headStep = shortHead + 512

	longHeads = 64 << 20 // default of Config.LongHeads: 2,730 heads of 32 KiB
)

// longHead is what a handshake has of the budget. The poller of e owns it.
type longHead struct {
	e     *engine
	s     *session // whose handshake it is, see takeBack
	peer  netip.Addr
	bytes int
	place limit.Place[*longHead]
}

// headLimits bound the head of a request that comes to s.
func (e *engine) headLimits(s *session) handshake.Limits {
	return handshake.Limits{Head: e.r.cfg.MaxHead, Hop: s.hs.binding != nil}
}

// headRoom is how many bytes of a head are to be read next.
func (e *engine) headRoom(s *session) int {
	return min(headStep, e.headLimits(s).MaxRead()-len(s.hs.buf))
}

// keepsHead takes what s needs of the budget to keep so many bytes of a head, or refuses s.
func (e *engine) keepsHead(s *session, bytes int) bool {
	h := s.hs
	over := bytes - shortHead
	if over <= 0 {
		e.letHeadGo(h)
		return true
	}
	l := h.long
	if l != nil && l.bytes == over && l.peer == h.peer {
		return true
	}
	e.letHeadGo(h)
	l = &longHead{e: e, s: s, peer: h.peer, bytes: over}
	lost, ok := e.r.longHeads.Take(&l.place, l, h.peer, over, false)
	for _, other := range lost {
		other.e.post(func() { other.e.headGivesWay(other) })
	}
	if !ok {
		e.refuseBusy(s, "too_many_long_heads", "too many requests with heads of more than 8 KiB at a time, try again")
		return false
	}
	h.long = l
	return true
}

// letHeadGo gives back what a handshake has of the budget.
func (e *engine) letHeadGo(h *opening) {
	if h.long != nil {
		e.r.longHeads.Leave(&h.long.place)
		h.long = nil
	}
}

// headGivesWay refuses a client that has lost its part of the budget to one of another address.
func (e *engine) headGivesWay(l *longHead) {
	s := l.s
	if s.hs == nil || s.hs.long != l || e.r.longHeads.Has(&l.place) {
		return
	}
	switch s.state {
	case stHead:
	case stHeld:
		e.unhold(s)
	case stDial, stHop, stReply:
		s = e.takeBack(s)
	default:
		return
	}
	e.refuseBusy(s, "too_many_long_heads_from_address", "too many requests with heads of more than 8 KiB at a time from this address, try again")
}

// endOpening forgets what only the handshake of s has needed.
func (e *engine) endOpening(s *session) {
	if s.hs != nil {
		e.letHeadGo(s.hs)
		s.hs = nil
	}
}
