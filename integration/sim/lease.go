package sim

import (
	"slices"
	"time"

	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

// lease is what an edge's process does about its leases, between the agent, the pollers and the kernel.
type lease struct {
	bound bool      // no poller serves without one
	until time.Time // they serve until then; the zero time: there is none, or it was let go
	empty bool      // there is none, and every poller has let go of everything: a new one may begin (R3)
	kill  time.Time // the kernel's timer (R12); the zero time: disarmed
	timer int       // counts them

	asking func() // happens when it asks next; nil: nothing does
	tardy  bool   // the answer to what it has asked takes seconds
}

// leased reports whether the pollers may serve at this moment.
func (e *edge) leased() bool {
	l := &e.lease
	return !l.bound || !l.until.IsZero() && e.clock().Before(l.until)
}

// observe comes before a poller handles anything (R12): once the lease has ended, everything is let go of first.
func (p *poller) observe() {
	e := p.r.e
	if e.leased() {
		return
	}
	e.lease.until = time.Time{}
	p.letGo()
}

// letGo resets every session, drops every dial and sends held handshakes away (R3, R9).
func (p *poller) letGo() {
	for _, entry := range p.all() {
		c := entry.Value.c
		entry.Value.end()
		c.lost()
	}
	for _, s := range p.held {
		if s.phase == held {
			p.r.counts.Held--
			s.phase, s.c.session = ended, nil
			s.c.refused()
		}
	}
	p.held = nil
}

// hold arms the kernel's timer and lets the pollers serve.
func (e *edge) hold(h agent.Hold) {
	l := &e.lease
	l.kill = h.End
	e.arm()
	if l.bound && !e.leased() && !l.empty {
		e.w.after(0, e.mine(func() { e.step(agent.Lost{Now: e.clock()}) }))
		return
	}
	fresh := l.bound && !e.leased()
	l.bound, l.until, l.empty = true, h.Until, false
	if fresh {
		e.w.trace("%s serves again", e.name)
		for _, p := range e.relay.pollers {
			if len(p.all()) > 0 {
				e.w.bug("R3", "%s has a new lease and legs of the time before", e.name)
			}
		}
		e.w.viewed(e)
	}
}

// lapse ends the service: each poller lets go at its own moment.
func (e *edge) lapse() {
	l := &e.lease
	e.w.trace("%s has no lease", e.name)
	if e.w.now > e.w.plan.calm+settling {
		e.w.bug("liveness", "%s loses its lease although nothing has failed for %s", e.name, e.w.now-e.w.plan.calm)
	}
	l.bound, l.until, l.empty = true, time.Time{}, false
	left := len(e.relay.pollers)
	for _, p := range e.relay.pollers {
		e.w.after(e.w.span(3*time.Millisecond), e.mine(func() {
			p.observe()
			if left--; left == 0 {
				l.empty, l.kill = true, time.Time{}
				e.step(agent.Lapsed{Now: e.clock()})
			}
		}))
	}
}

// settling is how long after the last fault an edge may still lose its lease: an office has to be taken, and a driver found.
const settling = 25 * time.Second

func (e *edge) free() { e.lease = lease{timer: e.lease.timer} }

// arm has the kernel end the process when the lease ends, also a stopped one.
func (e *edge) arm() {
	l := &e.lease
	l.timer++
	timer, life := l.timer, e.life
	if l.kill.IsZero() {
		return
	}
	e.w.after(e.node.clock.until(max(0, l.kill.Sub(e.clock()))), func() {
		if l.timer != timer || e.life != life || !e.up || l.kill.IsZero() {
			return
		}
		e.w.trace("the kernel ends %s", e.name)
		e.crash(1 + e.w.span(3*time.Second))
	})
}

// ask sends a request for a lease to whoever drives.
func (e *edge) ask(r events.LeaseRequest) {
	w := e.w
	w.reported(e, r.EdgeReport)
	w.forger.overhear(overheard{ask: &r, report: r.EdgeReport, signer: e.keys.signer})
	life := e.life
	if then := e.lease.asking; then != nil {
		e.lease.asking = nil
		if w.faulty() {
			w.after(time.Millisecond, then)
		}
	}
	for _, d := range w.drivers {
		w.send(e.node, d.node, func() {
			d.asked(r, e.keys.signer, func(a events.LeaseAnswer) { w.answer(d, e, life, a) })
		})
	}
}

// answer carries what a driver says to the process that asked.
func (w *world) answer(d *driver, e *edge, life int, a events.LeaseAnswer) {
	signer := d.key()
	hear := func() {
		if e.life == life {
			e.step(agent.Answered{Now: e.clock(), Answer: a, Signer: signer})
		}
	}
	if e.lease.tardy && e.life == life {
		e.lease.tardy = false
		w.after(3*time.Second+w.span(9*time.Second), e.mine(hear))
		return
	}
	w.send(d.node, e.node, hear)
}

// asked gives a request to the driver; answer takes what it says.
func (d *driver) asked(r events.LeaseRequest, signer string, answer func(events.LeaseAnswer)) {
	d.replies++
	d.inbox[d.replies] = answer
	d.step(cutover.Asked{At: d.at(), Request: r, Reply: d.reply(), Signer: signer})
	delete(d.inbox, d.replies)
}

// granted: R4. The edge has the newest fence that its driver knows of on disk.
func (w *world) granted(d *driver, a *events.LeaseAnswer) {
	e := w.edgeOf(a.Edge, a.Incarnation)
	if a.Lease == 0 || e == nil {
		return
	}
	w.result.Grants++
	for seq := d.reader.seq(); seq > 0; seq-- {
		if _, ok := w.journal.events[seq-1].(events.WaveFenced); ok {
			if seqOf(e.disk.synced) < seq {
				w.bug("R4", "%s gets a lease with %d on disk; the fence at %d is known to %s", e.name, seqOf(e.disk.synced), seq, d.name)
			}
			return
		}
	}
}

// edgeOf is the edge whose process of that incarnation runs, nil if it does not any more.
func (w *world) edgeOf(id, incarnation string) *edge {
	for _, e := range w.edges {
		if e.id == id && e.up && e.self.Incarnation == incarnation {
			return e
		}
	}
	return nil
}

// silenced: R5. Who is taken for silent serves nobody by a state older than the fence, whatever its clock says, and may
// not begin to. It may have got a lease since, but only with the fence (R4), and after it had let go of everything (R3).
func (w *world) silenced(fence uint64, e events.WaveCommitted) {
	for _, res := range e.Edges {
		if !res.Silent {
			continue
		}
		w.result.Silent++
		for _, x := range w.edges {
			if x.id == res.ID && x.up && x.behind(fence) && (x.leased() || x.paused && x.relay.counts.Sessions > 0) {
				w.bug("R5", "%s is taken for silent and may serve for %s by its clock", x.name, x.lease.until.Sub(x.clock()))
			}
		}
	}
}

// behind reports whether a poller decides by a state older than that.
func (e *edge) behind(seq uint64) bool {
	return slices.ContainsFunc(e.relay.pollers, func(p *poller) bool { return p.view != nil && p.view.Seq < seq })
}
