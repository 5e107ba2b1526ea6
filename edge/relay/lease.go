package relay

import (
	"time"

	"github.com/unitgate/unitgate/edge/deadman"
)

// Values of Relay.until beside a moment on deadman.Now's clock.
const (
	untilever int64 = 0  // no lease is needed
	never     int64 = -1 // there is none
)

// Serve lets the relay serve until a moment on deadman.Now's clock and no longer, unless it is told so again in time. It
// is false if a poller has come to the end of what was allowed before: a lease that ended is never renewed, only Forbid
// and a new one help (R3).
func (r *Relay) Serve(until time.Duration) bool {
	for {
		was := r.until.Load()
		if was == never && !r.forbidden.CompareAndSwap(true, false) {
			return false
		}
		if r.until.CompareAndSwap(was, int64(until)) {
			return true
		}
	}
}

// ServeFreely lets the relay serve without a lease, as it does from the start.
func (r *Relay) ServeFreely() {
	r.forbidden.Store(false)
	r.until.Store(untilever)
}

// Forbid ends the service at once. The channel is closed when every poller has reset every leg of every session and
// dropped every dial (R3); their clients, where nothing of an origin reached them yet, get 503 (R9). Serve begins anew.
func (r *Relay) Forbid() <-chan struct{} {
	r.forbidden.Store(false)
	r.until.Store(never)
	all := make(chan struct{}, len(r.engines))
	asked := 0
	for _, e := range r.engines {
		if e.post(func() { e.observeLease(); all <- struct{}{} }) {
			asked++
		}
	}
	done := make(chan struct{})
	go func() {
		for range asked {
			<-all
		}
		r.forbidden.Store(true)
		close(done)
	}()
	return done
}

// leased reports whether the lease, if one is needed, has not ended. It is asked before a handshake is admitted (R9),
// before the first byte to an origin and before the 101 (R10).
func (e *engine) leased() bool {
	until := e.r.until.Load()
	return until == untilever || until > 0 && int64(deadman.Now()) < until
}

// observeLease comes after each wake-up of the poller before it handles an event (R12): if the lease has ended, everything
// is let go of before anything else happens. Without leases it costs the load of one word.
func (e *engine) observeLease() {
	until := e.r.until.Load()
	switch {
	case until == untilever || until > 0 && int64(deadman.Now()) < until:
		e.lapsed = false
	case until > 0 && !e.r.until.CompareAndSwap(until, never):
		e.observeLease() // it was prolonged at this very moment
	case !e.lapsed:
		e.lapsed = true
		e.letGoOfAll()
	}
}

// letGoOfAll resets every session, drops every dial, and decides again, with 503, who has no session yet.
func (e *engine) letGoOfAll() {
	sessions := make([]*session, 0, len(e.all))
	for s := range e.all {
		sessions = append(sessions, s)
	}
	for _, s := range sessions {
		switch s.state {
		case stFront, stTLS, stHead: // nothing is served there
		case stDropped:
			e.withhold(s)
		case stHeld:
			e.unhold(s)
			e.decide(s)
		case stDial, stHop, stReply:
			e.decideAgain(s)
		case stLinger, stAnswer, stFinish:
			if s.open { // else it is only told something
				e.cutOff(s)
			}
		default:
			e.cutOff(s)
		}
	}
}

// cutOff resets both legs of a session, whatever it was doing.
func (e *engine) cutOff(s *session) {
	e.because(s, becauseNoLease)
	e.reset(s, origin)
	e.reset(s, client)
}
