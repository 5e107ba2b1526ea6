package relay

import (
	"context"
	"math/rand/v2"
	"time"
)

// Drain stops accepting and closes the sessions with 1001, one after the other, evenly spread over a time, each at a
// random moment of its share of it. It returns when nothing is left of any client, or when ctx ends, with its error.
// Close follows, and ends what is left.
//
// Handshakes are refused from the beginning: those that wait for the commit of a fence, those whose origin has not
// answered, and all that are still to come from clients that were accepted. Install, Evict and Counts work as ever:
// a cutover does not wait for a session's turn.
func (r *Relay) Drain(ctx context.Context, over time.Duration) error {
	left := r.sum(func(e *engine) int { e.refuseAll(); return e.toPart() })
	p := newSpread(max(left, 1), over, time.Since(r.epoch), rand.N[time.Duration])
	if err := r.partAll(ctx, left, &p, r.emptied); err != nil {
		return err
	}
	return r.AwaitEmpty(ctx)
}

// Dismiss closes the sessions with 1001, rate of them a second, in a relay that accepts nobody and has a successor who
// does. Handshakes under way are served, and their sessions closed like the others. It ends with ctx.
func (r *Relay) Dismiss(ctx context.Context, rate int) {
	p := newPacer(rate, time.Since(r.epoch), rand.N[time.Duration])
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		left := r.sum(func(e *engine) int { e.partFrom(); return e.toPart() })
		if r.partAll(ctx, left, &p, nil) != nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// partAll begins to close the sessions that are listed, as the pacer says. emptied, if there is one, tells that it is time
// to look whether there are any left.
func (r *Relay) partAll(ctx context.Context, left int, p *pacer, emptied <-chan struct{}) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for left > 0 {
		now := time.Since(r.epoch)
		if left = r.part(p.take(now)); left == 0 {
			break
		}
		timer.Reset(p.next - now)
		select {
		case <-timer.C:
		case <-emptied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// part begins to close n sessions, each on the engine that has the most of them to close, and returns how many are left.
func (r *Relay) part(n int) int {
	left := make([]int64, len(r.engines))
	for i, e := range r.engines {
		e.do(func() { left[i] = int64(e.toPart()) })
	}
	sum := 0
	for i, k := range portions(left, n) {
		r.engines[i].do(func() { r.engines[i].partSome(k); sum += r.engines[i].toPart() })
	}
	return sum
}

// refuseAll begins a drain on one poller.
func (e *engine) refuseAll() {
	if e.refusing || e.closing {
		return
	}
	e.refusing = true
	e.emptyQueues()
	e.stopAccepting()
	sessions := make([]*session, 0, len(e.all))
	for s := range e.all {
		sessions = append(sessions, s)
	}
	for _, s := range sessions {
		switch s.state {
		case stFront, stTLS, stHead: // it is answered when it has asked
		case stHeld:
			e.unhold(s)
			e.decide(s)
		case stDial, stHop, stReply:
			e.decideAgain(s)
		}
	}
	e.partFrom()
}

// partFrom lists the sessions that are to be closed.
func (e *engine) partFrom() {
	e.parting = e.parting[:0]
	for s := range e.all {
		if s.why == notClosing && s.evictable() {
			e.parting = append(e.parting, s)
		}
	}
}

// emptyQueues accepts everybody who is connected already: closing a listening socket resets them.
func (e *engine) emptyQueues() {
	for _, l := range e.listeners {
		for n := -1; l.watched && e.accepting && n != len(e.fresh) && e.resting.in == nil; {
			n = len(e.fresh)
			e.acceptFrom(l)
		}
	}
}

// toPart is how many sessions Drain has to come to, at most.
func (e *engine) toPart() int {
	if len(e.all) == 0 {
		e.parting = nil
	}
	return len(e.parting)
}

// partSome begins to close n sessions, and forgets those on the way that have ended or are ending.
func (e *engine) partSome(n int) {
	list := e.parting
	for n > 0 && len(list) > 0 {
		last := len(list) - 1
		s := list[last]
		list[last], list = nil, list[:last]
		if _, there := e.all[s]; there && s.why == notClosing {
			e.evict(s, becauseShutdown)
			n--
		}
	}
	e.parting = list
}
