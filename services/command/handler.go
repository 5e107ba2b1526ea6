package command

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/projector"
)

// Preparer measures what a command needs from the outside world before it can be decided (live sessions, prechecks),
// and returns the envelope with the measurements in it. It changes nothing. Errors become the command's outcome.
type Preparer interface {
	Prepare(ctx context.Context, s *events.State, env events.Envelope) (events.Envelope, error)
}

// attempts bounds how often a command is decided anew because someone else's event came first.
const attempts = 16

// Handler takes the commands of one namespace.
type Handler struct {
	projector *projector.Projector
	prepare   Preparer
	now       func() time.Time
	log       *slog.Logger
	tracer    trace.Tracer
	meters    *Meters
	turn      chan struct{} // of size 1; full: a command of this process is being decided and appended
}

// NewHandler makes a handler over a running projector. prepare may be nil where no cutovers are taken.
func NewHandler(p *projector.Projector, prepare Preparer, now func() time.Time, log *slog.Logger) *Handler {
	return &Handler{projector: p, prepare: prepare, now: now, log: log, tracer: tracerOf(noop.NewTracerProvider()), meters: noMeters(), turn: make(chan struct{}, 1)}
}

// Traced makes the handler emit spans of commands and appends. It is called before the first command comes.
func (h *Handler) Traced(by trace.TracerProvider) *Handler {
	h.tracer = tracerOf(by)
	return h
}

// Measure has what becomes of commands counted, before the handler is used.
func (h *Handler) Measure(m *Meters) { h.meters = m }

// Do takes one command: measure, decide, append, and the same again if someone else's event came first. A command
// whose id took effect before answers what it answered then. Without an id it gets a fresh one.
func (h *Handler) Do(ctx context.Context, env events.Envelope) Outcome {
	o := h.do(ctx, env, way{})
	h.meters.took(h.projector.Journal().Namespace(), events.NameOf(env.Command), true, wayDriver, o)
	return o
}

// way is what the way that a command came imposes on its handling. The zero way imposes nothing.
type way struct {
	notAfter time.Time // it must not be decided later than this on this process's clock; zero: it may be at any time
	message  message   // that it came in; zero: it came from this process
	again    bool      // another controller had it before, or this one, and what came of it is not known, see shut
}

func (h *Handler) do(ctx context.Context, env events.Envelope, w way) Outcome {
	if env.ID == "" {
		env.ID = uuid.NewString()
	}
	t := taken{began: time.Now()}
	o := h.take(ctx, env, w, &t)
	h.trace(env, w, &t, o)
	h.tell(env, w, o)
	return o
}

func (h *Handler) take(ctx context.Context, env events.Envelope, w way, t *taken) Outcome {
	if err := events.CheckEnvelope(env); err != nil {
		return rejected(err)
	}
	if o, done := h.recall(ctx, events.NameOf(env.Command), env.ID); done {
		return o // also of a command that has expired since
	}
	if err := h.expired(w); err != nil {
		return h.refuse(ctx, env, w, err)
	}
	s, err := h.projector.CatchUp(ctx)
	if err != nil {
		return h.unable(err)
	}
	if h.prepare != nil {
		if env, err = h.prepare.Prepare(ctx, s, env); err != nil {
			return h.refuse(ctx, env, w, err)
		}
	}
	return h.settle(ctx, env, w, t)
}

// settle has a command decided and appended, or refused.
func (h *Handler) settle(ctx context.Context, env events.Envelope, w way, t *taken) Outcome {
	o, why := h.decide(ctx, env, w, t)
	if why != nil {
		return h.refuse(ctx, env, w, why)
	}
	return o
}

// decide decides and appends until the event is stored, or the journal does not answer. If the command must
// be refused it says why.
//
// The commands of this process take turns. Each append is guarded by the head, so of all that compete for a
// head one wins, and the others decide anew: sixteen at a time would mostly defeat each other, and a large
// command, slow to decide, would lose to small ones for as long as they come. With turns only another
// process can come first.
func (h *Handler) decide(ctx context.Context, env events.Envelope, w way, t *taken) (o Outcome, why error) {
	if err := h.takeTurn(ctx); err != nil {
		return h.unable(err), nil
	}
	defer h.endTurn()
	s := h.projector.State()
	for range attempts {
		if err := h.expired(w); err != nil { // measuring and other commands take time
			return Outcome{}, err
		}
		e, err := events.Decide(s, h.projector.Journal().Namespace(), env, h.now())
		if err == nil && w.message.subject != "" { // who it is comes last: what could not be done anyway says why
			err = events.CheckActor(env.Actor, env.Command)
		}
		if err != nil {
			return Outcome{}, err
		}
		rec, err := events.NewRecord(s, env, e, h.now())
		if err != nil {
			return rejected(err), nil
		}
		t.appending(rec)
		stored, err := h.append(ctx, s.Seq, rec)
		t.appended(stored, err)
		switch {
		case err == nil:
			if _, err := h.projector.Await(ctx, stored.Seq); err != nil { // so that the caller can read its own write
				h.log.Warn("stored but not yet applied here", "seq", stored.Seq, "err", err)
			}
			return accepted(stored), nil
		case errors.Is(err, journal.ErrDuplicate):
			return h.found(ctx, env, err), nil
		case errors.Is(err, journal.ErrConflict):
			if s, err = h.projector.CatchUp(ctx); err != nil {
				return h.unable(err), nil
			}
		case errors.Is(err, journal.ErrTooLarge):
			return rejected(events.ErrTooLarge.With("%v", err)), nil
		case errors.Is(err, journal.ErrInvalid):
			return rejected(events.ErrBadCommand.With("%v", err)), nil
		default:
			return h.found(ctx, env, err), nil
		}
	}
	return rejected(ErrBusy.With("other commands came first %d times: send it again with the same id", attempts)), nil
}

func (h *Handler) takeTurn(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *Handler) endTurn() { <-h.turn }

// append measures how long the journal takes.
func (h *Handler) append(ctx context.Context, after uint64, rec events.Record) (events.Record, error) {
	began := time.Now()
	stored, err := h.projector.Journal().Append(ctx, after, rec)
	h.meters.appended(h.projector.Journal().Namespace(), time.Since(began), err)
	return stored, err
}

func (h *Handler) expired(w way) error {
	if now := h.now(); !w.notAfter.IsZero() && now.After(w.notAfter) {
		return ErrExpired.With("it expired at %s, and it is %s: nothing was done; send it again if it is still wanted",
			w.notAfter.UTC().Format(time.RFC3339Nano), now.UTC().Format(time.RFC3339Nano))
	}
	return nil
}

// found answers from the journal when an append ended unclear.
func (h *Handler) found(ctx context.Context, env events.Envelope, cause error) Outcome {
	name := events.NameOf(env.Command)
	rec, ok, err := h.projector.Journal().Find(ctx, name.Entity, name.Past, env.ID)
	if err == nil && ok {
		return accepted(rec)
	}
	return rejected(ErrUnavailable.With("%v; send the command again with the same id %s", cause, env.ID))
}

func (h *Handler) unable(err error) Outcome {
	if stopped := h.projector.Err(); stopped != nil {
		return rejected(ErrStopped.With("the state cannot follow the journal: %v; edges serve on by the last good state; find out who could write to the journal, and restore it from a backup", stopped))
	}
	return rejected(ErrUnavailable.With("%v; try again", err))
}
