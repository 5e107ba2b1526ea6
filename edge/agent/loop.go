package agent

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

const (
	tickEvery  = 100 * time.Millisecond // how fine the machine sees time
	countPause = 10 * time.Millisecond  // between two countings that the relay's signals cause
	markEvery  = 10 * time.Second       // how often the disk is told that its state was the newest one
)

// loop gives the machine its inputs and carries out its outputs. The goroutine of run owns it; what may block is done by
// others, which come back through done.
type loop struct {
	*Runner
	machine *Agent
	views   views                  // owned by the one Install under way
	types   map[string]bool        // unit types of all states that were to be installed: what is counted
	given   version                // the last state that the machine was given
	told    map[string]events.Rate // evictions under way that the log told of, by unit type
	marked  time.Time              // the last mark in the state directory
	done    chan finished
	inbox   string // where answers about leases come
	letGo   bool   // the last word was Lapse
	diary   diary
	traces  traces
}

// finished is an input whose time is not known yet.
type finished func(now time.Time) Input

// progress is what Status shows of the machine.
type progress struct {
	report events.EdgeReport
	state  *events.State // by which every poller decides; nil: none
	counts map[string]Counts
	lease  lease
	// commits are by unit type; the agent replaces the map as a whole.
	commits map[string]commit
}

func (l *loop) run(ctx context.Context) {
	connected := l.nc.StatusChanged(nats.CONNECTED)
	defer l.nc.RemoveStatusListener(connected)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	var rest <-chan time.Time  // not nil: counted a moment ago
	missed := false            // signalled meanwhile
	var greet <-chan time.Time // not nil: the bus has come back
	if s := l.saved; s != nil {
		l.given = version{epoch: s.Epoch, state: s.State}
		l.step(ctx, Restored{l.now(), s.Epoch, s.State, s.Hash})
	}
	for {
		changed := l.follower.wait()
		l.advance(ctx)
		select {
		case <-ctx.Done():
			l.mark(0)
			l.traces.end()
			return
		case <-changed:
		case f := <-l.done:
			l.step(ctx, f(l.now()))
			l.count(ctx) // after the install that may just have ended: what it left counts for drained
		case <-l.cfg.Relay.Changed():
			if missed = rest != nil; !missed {
				l.count(ctx)
				rest = time.After(countPause)
			}
		case <-rest:
			if rest = nil; missed {
				missed = false
				l.count(ctx)
			}
		case <-connected:
			greet = time.After(rand.N(spread)) // every edge is back at this moment
		case <-greet:
			greet = nil
			l.step(ctx, Connected{l.now()})
		case <-tick.C:
			l.count(ctx) // the number of sessions is not signalled
			l.step(ctx, Tick{l.now()})
			l.mark(markEvery)
		}
	}
}

// advance gives the machine the newest state, if there is a newer one.
func (l *loop) advance(ctx context.Context) {
	epoch, s := l.follower.newer(l.given.epoch, l.given.seq())
	if s == nil {
		return
	}
	l.count(ctx) // just before: what was evicted until now is not this state's doing
	l.given = version{epoch: epoch, state: s}
	history, _ := l.follower.history()
	l.traces.heard(s, history)
	l.step(ctx, Advanced{l.now(), epoch, s})
}

func (l *loop) count(ctx context.Context) {
	at := l.machine.installed
	counts := make(map[string]Counts, len(l.types))
	for t := range l.types {
		counts[t] = l.cfg.Relay.Counts(t)
		if counts[t].Victims == 0 {
			delete(l.told, t)
		}
	}
	l.step(ctx, Counted{l.now(), at.epoch, at.seq(), counts})
}

func (l *loop) step(ctx context.Context, in Input) {
	out := l.machine.Step(in)
	// Before anything is done: who has a report finds nothing older when he asks.
	report := l.machine.compose()
	l.shown.Store(&progress{report, l.machine.installed.state, l.machine.counts, l.machine.lease, l.machine.commits})
	l.trace(&report)
	l.write(&report)
	for _, out := range out {
		switch out := out.(type) {
		case Install:
			l.install(ctx, out)
		case Store:
			l.store(ctx, out)
		case Evict:
			if rate, known := l.told[out.UnitType]; !known || rate != out.Rate { // each new state orders it again
				l.told[out.UnitType] = out.Rate
				l.log.Info("evicting sessions whose keys are not served here any more", l.aboutType(out.UnitType, "unitType", out.UnitType, "rate", out.Rate.String())...)
			}
			l.cfg.Relay.Evict(out.UnitType, int(out.Rate))
		case Report:
			l.publish(out)
		case Ask:
			l.ask(out)
		case CatchUp:
			l.follower.notice(out.Epoch, out.Seq)
		case Hold:
			l.hold(ctx, out)
		case Lapse:
			l.lapse(ctx)
		case Free:
			l.free()
		}
	}
}

// trace lets the spans follow a step.
func (l *loop) trace(r *events.EdgeReport) {
	l.traces.progressed(l.machine.known.state, l.machine.installed.seq(), r)
	if l.traces.on && !l.traces.caught {
		history, read := l.follower.history()
		l.traces.catchUp(l.machine.installed.state, history, read)
	}
}

func (l *loop) install(ctx context.Context, o Install) {
	for _, t := range o.State.UnitTypes {
		l.types[t.Name] = true
	}
	l.work.Go(func() {
		view := l.views.build(o.State)
		view.Epoch = o.Epoch
		err := l.cfg.Relay.Install(ctx, view)
		if err != nil && ctx.Err() == nil {
			l.log.Error("the relay did not take a state", "seq", o.State.Seq, "err", err)
		}
		l.finish(ctx, func(now time.Time) Input {
			if err != nil {
				return Failed{now, o}
			}
			return Installed{now, o.Epoch, o.State.Seq}
		})
	})
}

func (l *loop) store(ctx context.Context, o Store) {
	l.work.Go(func() {
		hash, err := l.cfg.Dir.Save(o.Epoch, o.State)
		if err != nil {
			l.log.Error("a state could not be stored: this edge serves by it and cannot report it", "seq", o.State.Seq, "err", err)
		}
		l.finish(ctx, func(now time.Time) Input {
			if err != nil {
				return Failed{now, o}
			}
			return Stored{now, o.Epoch, o.State.Seq, hash}
		})
	})
}

func (l *loop) finish(ctx context.Context, f finished) {
	select {
	case l.done <- f:
	case <-ctx.Done():
	}
}

// mark notes on disk since when the stored state is known to have been the newest one, so that an edge which starts
// without the bus can say how stale it is.
func (l *loop) mark(every time.Duration) {
	epoch, seq, at := l.follower.proven()
	if at.Sub(l.marked) < every || l.machine.storing.state != nil || !l.machine.applied().is(epoch, seq) {
		return
	}
	if err := l.cfg.Dir.Mark(at); err != nil {
		l.log.Warn("the stored state will look older than it is", "err", err)
	}
	l.marked = at
}

// publish sends a report. While the bus is out of reach nothing is queued: what it would bring later is old by then, and
// Connected asks for a new one.
func (l *loop) publish(r Report) {
	if !l.nc.IsConnected() {
		return
	}
	head, stale, broken := l.follower.standing(time.Now())
	st := events.EdgeStatus{EdgeReport: r.EdgeReport, Head: head, Staleness: seconds(stale), Lease: l.machine.lease.left(l.now())}
	if broken != nil {
		st.Broken = broken.Error()
	}
	b, err := json.Marshal(st)
	if err == nil {
		err = l.speaker.say("report", "", b)
	}
	if err != nil {
		l.log.Warn("report not sent", "err", err)
	}
}

// subject is where an edge talks to the control plane: unitgate.edge.<namespace>.<unit>.<edge id>.<what>.
func subject(s Self, what string) string {
	return events.EdgeSubject(s.Namespace, s.Unit, s.ID, what)
}
