package command

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

// refuse rejects a command, unless it has taken effect after all: someone else who got the same command may have come
// first, and the state that refuses it then holds its own effect.
func (h *Handler) refuse(ctx context.Context, env events.Envelope, w way, why error) Outcome {
	if w.again && pending(ctx, rejected(why)) == nil {
		if o, shut := h.shut(ctx, env, rejected(why)); !shut {
			return o
		}
	}
	if o, done := h.recall(ctx, events.NameOf(env.Command), env.ID); done {
		return o
	}
	return rejected(why)
}

// recall is what a command was answered when it took effect. It is not done if it did not; if nobody can say, the outcome
// does.
func (h *Handler) recall(ctx context.Context, name events.Name, id string) (o Outcome, done bool) {
	rec, ok, err := h.projector.Journal().Find(ctx, name.Entity, name.Past, id)
	switch {
	case err != nil:
		return rejected(ErrUnavailable.With("the journal cannot be read: %v; send the command again with the same id %s", err, id)), true
	case ok:
		return accepted(rec), true
	}
	return Outcome{}, false
}

// shut makes sure that no append of this command is on its way any more. A controller that was cut off, or stood still, may
// have sent one that arrives after all: the bus does not say how late. Each is guarded by the head as its sender saw it
// before the command was given to us, so a record beyond that head keeps them out for good, and what Find says then is
// final. Without it the refusal might be contradicted by the journal later. If it is not shut, the outcome says why.
func (h *Handler) shut(ctx context.Context, env events.Envelope, o Outcome) (Outcome, bool) {
	name := events.NameOf(env.Command)
	refusal := events.Envelope{
		ID: uuid.NewString(), Actor: env.Actor, Reason: env.Reason, Traceparent: env.Traceparent,
		Command: events.RefuseCommand{Entity: name.Entity, Verb: name.Verb, ID: env.ID, Code: o.Error.Code},
	}
	if err := h.takeTurn(ctx); err != nil {
		return h.unable(err), false
	}
	defer h.endTurn()
	for range attempts {
		s, err := h.projector.CatchUp(ctx)
		if err != nil {
			return h.unable(err), false
		}
		e, err := events.Decide(s, h.projector.Journal().Namespace(), refusal, h.now())
		if err != nil { // no event has opened the namespace: the first one, whosever it is, lets us go on
			return rejected(ErrUnavailable.With("%v", err)), false
		}
		rec, err := events.NewRecord(s, refusal, e, h.now())
		if err != nil {
			return rejected(err), false
		}
		_, err = h.append(ctx, s.Seq, rec)
		if err == nil {
			return o, true
		}
		if !errors.Is(err, journal.ErrConflict) {
			return rejected(ErrUnavailable.With("whether the command has taken effect is not clear yet: %v; send it again with the same id %s", err, env.ID)), false
		}
	}
	return rejected(ErrBusy.With("other commands came first %d times: send it again with the same id", attempts)), false
}
