package cli

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/cutover"
)

const (
	pollEvery = 200 * time.Millisecond

	// deafFor is how long a watcher bears that no control plane answers: longer than a leader's election and a driver's change.
	deafFor = 30 * time.Second
)

// errEnded: the cutover that was waited for has stopped without being completed.
var errEnded = &events.Error{Code: "not_completed"}

// start starts a cutover, and with --wait waits until it is completed, or paused or ended otherwise.
func (x *cutoverCmd) start(ctx context.Context) error {
	if !x.wait {
		return x.change(ctx, "start", idOnly{x.id})
	}
	b, ns, err := x.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	if _, err := b.do(ctx, ns, "cutover", "start", x.reason, idOnly{x.id}); err != nil {
		return err
	}
	progress := ""
	raw, v, err := x.until(ctx, b, ns, stopped, func(_ json.RawMessage, v cutover.View) error {
		if line := summary(v); line != progress {
			progress = line
			x.say("%s", line)
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.say("")
	if err := x.present(raw); err != nil {
		return err
	}
	if v.State != events.Completed {
		why := ""
		if v.Reason != nil {
			why = ": " + v.Reason.Message
		}
		return shown{errEnded.With("cutover %s is %s%s", v.ID, v.State, why)}
	}
	return nil
}

// stopped: nothing goes on by itself. A start that this observer does not know of yet counts as going on.
func stopped(v cutover.View) bool {
	switch v.State {
	case events.Proposed, events.Checked, events.Started:
		return false
	}
	return true
}

// over: a watcher has seen everything.
func over(v cutover.View) bool { return v.State.Ended() }

func (x *cutoverCmd) show(ctx context.Context) error {
	b, ns, err := x.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	if !x.watch {
		raw, _, err := x.look(ctx, b, ns)
		if err != nil {
			return err
		}
		return x.present(raw)
	}
	last := ""
	_, _, err = x.until(ctx, b, ns, over, func(raw json.RawMessage, v cutover.View) error {
		now := summary(v)
		if x.json() {
			now = string(raw)
		}
		if now == last {
			return nil
		}
		last = now
		if x.json() {
			return x.line(raw)
		}
		x.say("%s", now)
		return nil
	})
	if errors.Is(err, context.Canceled) {
		return nil // whoever watched has seen enough
	}
	return err
}

// until looks at the cutover again and again, until done or ctx ends. A control plane that is away for a while is borne.
func (x *cutoverCmd) until(ctx context.Context, b *bus, ns string, done func(cutover.View) bool, see func(json.RawMessage, cutover.View) error) (json.RawMessage, cutover.View, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	heard := time.Now()
	for {
		raw, v, err := x.look(ctx, b, ns)
		switch {
		case err == nil:
			heard = time.Now()
			if err := see(raw, v); err != nil || done(v) {
				return raw, v, err
			}
		case ctx.Err() != nil:
			return nil, v, ctx.Err()
		case !away(err) || time.Since(heard) > deafFor:
			return nil, v, err
		}
		select {
		case <-ctx.Done():
			return nil, v, ctx.Err()
		case <-tick.C:
		}
	}
}

// away reports whether nobody answered, or nobody who knows.
func away(err error) bool {
	for _, e := range []error{command.ErrNoController, command.ErrNoAnswer, command.ErrUnavailable} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
