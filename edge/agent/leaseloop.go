package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// now is the machine's clock.
func (l *loop) now() time.Time { return fromBoot(l.cfg.Clock()) }

// hearLeases listens to the answers of drivers until it is told to stop.
func (l *loop) hearLeases(ctx context.Context) (stop func(), err error) {
	l.inbox = l.nc.NewInbox()
	sub, err := l.nc.Subscribe(l.inbox, func(m *nats.Msg) {
		var a events.LeaseAnswer
		if json.Unmarshal(m.Data, &a) != nil { // nobody listens: an empty message says so
			return
		}
		signer, err := events.VerifySigner(m.Header, events.LeaseAnswerSubject(l.self.Namespace, l.self.ID), m.Data)
		if err != nil {
			l.log.Warn("an answer about a lease is not what its sender signed", "err", err)
			return
		}
		l.finish(ctx, func(now time.Time) Input { return Answered{now, a, signer} })
	})
	if err != nil {
		return nil, fmt.Errorf("listen to the answers about leases: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only on a closed connection
}

// ask sends a request for a lease. Nothing is queued while the bus is out of reach, see publish.
func (l *loop) ask(r Ask) {
	if !l.nc.IsConnected() {
		return
	}
	b, err := json.Marshal(r.LeaseRequest)
	if err == nil {
		err = l.speaker.say("lease", l.inbox, b)
	}
	if err != nil {
		l.log.Warn("a lease could not be asked for", "err", err)
	}
}

// hold prolongs the service by a lease. The kernel's timer comes first: nothing is served by a lease that would not end a
// process which stands still (R12).
func (l *loop) hold(ctx context.Context, h Hold) {
	var err error
	if d := l.cfg.Deadman; d != nil {
		err = d.Arm(sinceBoot(h.End))
	}
	if err != nil {
		l.log.Error("the kernel takes no timer that ends this process with its lease: it serves nobody", "err", err)
	}
	if err != nil || !l.cfg.Relay.Serve(sinceBoot(h.Until)) {
		l.work.Go(func() { l.finish(ctx, func(now time.Time) Input { return Lost{now} }) })
		return
	}
	if l.letGo {
		l.letGo = false
		l.log.Info("a lease: serving again", "for", (sinceBoot(h.Until) - l.cfg.Clock()).Round(time.Millisecond))
	}
}

// lapse ends the service and comes back when no leg is left. Until then the kernel's timer stands.
func (l *loop) lapse(ctx context.Context) {
	done := l.cfg.Relay.Forbid()
	l.letGo = true
	l.log.Warn("no lease: nobody is served until there is one; sessions are reset, handshakes get 503", "connected", l.nc.IsConnected())
	l.work.Go(func() {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
		l.disarm()
		l.finish(ctx, func(now time.Time) Input { return Lapsed{now} })
	})
}

// free: ownership is available.
func (l *loop) free() {
	l.letGo = false
	l.cfg.Relay.ServeFreely()
	l.disarm()
}

func (l *loop) disarm() {
	if d := l.cfg.Deadman; d != nil {
		if err := d.Disarm(); err != nil {
			l.log.Error("the kernel's timer of the last lease stands: this process will be ended", "err", err)
		}
	}
}
