// Package reader folds a namespace's journal once, up to its head or to a point in its past, for whoever has no control
// plane at hand. It is the same fold as everywhere else: events.State.Apply, record by record.
//
// A Reader keeps nothing between calls and may be used by any number of goroutines.
package reader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/command"
)

// stall is how long nothing may come of a journal before reading is given up. It bounds silence, not the length of a
// history.
const stall = 30 * time.Second

// Reader reads one namespace's journal. Make one with Open.
type Reader struct {
	journal journal.Journal
	snaps   journal.LatestSnapshot // nil: there are none
	log     *slog.Logger

	// Progress, if not nil, is told after each record how far a reading is: records done out of a total. When the reading
	// ends, wherever that is, done is total.
	Progress func(done, total uint64)
}

// Open opens a namespace's journal. The errors are events.ErrUnknownNamespace and command.ErrUnavailable.
func Open(ctx context.Context, js jetstream.JetStream, namespace string, log *slog.Logger) (*Reader, error) {
	j, err := journal.OpenAsking(ctx, js, namespace, journal.AskSubject(namespace))
	if errors.Is(err, journal.ErrNoJournal) {
		return nil, events.ErrUnknownNamespace.With("there is no namespace %q", namespace)
	}
	if err != nil {
		return nil, Unavailable(err)
	}
	return &Reader{journal: j, snaps: journal.ReadSnapshots(js), log: log}, nil
}

// New reads any journal; snaps may be nil.
func New(j journal.Journal, snaps journal.LatestSnapshot, log *slog.Logger) *Reader {
	return &Reader{journal: j, snaps: snaps, log: log}
}

// Journal is what is read.
func (r *Reader) Journal() journal.Journal { return r.journal }

// Head is the last sequence.
func (r *Reader) Head(ctx context.Context) (uint64, error) {
	head, err := r.journal.Head(ctx)
	if err != nil {
		return 0, Unavailable(err)
	}
	return head, nil
}

// State is the state at the head. The errors are events.ErrUnknownNamespace and command.ErrUnavailable.
func (r *Reader) State(ctx context.Context) (*events.State, error) {
	return r.At(ctx, Point{})
}

// At is the state at a point, which is not in the future. The errors are those of State, ErrBeyondHead and
// ErrBeforeBeginning.
func (r *Reader) At(ctx context.Context, p Point) (*events.State, error) {
	head, err := r.Head(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.Check(head); err != nil {
		return nil, err
	}
	if head == 0 {
		return nil, events.ErrUnknownNamespace.With("namespace %q has a journal, but nothing stands in it yet", r.journal.Namespace())
	}
	s, err := r.snapshot(ctx, p)
	if err != nil {
		return nil, Unavailable(err)
	}
	last := head
	if p.Seq > 0 {
		last = p.Seq
	}
	if s.Seq < last {
		err = r.read(ctx, s.Seq+1, last, func(rec events.Record) error {
			if p.before(rec) {
				return errEnough
			}
			return applied(s, rec)
		})
	}
	if err != nil {
		return nil, Unavailable(err)
	}
	if s.Seq == 0 {
		return nil, ErrBeforeBeginning.With("%s lies before the first event of namespace %q: see unitgate log", p, r.journal.Namespace())
	}
	return s, nil
}

// When is the state after the first event that makes fits true; the state at the head if none does. fits must not keep
// the state it gets. The errors are those of Records.
func (r *Reader) When(ctx context.Context, fits func(*events.State) bool) (*events.State, error) {
	s := events.NewState()
	err := r.Records(ctx, 1, func(rec events.Record) error {
		if err := applied(s, rec); err != nil {
			return err
		}
		if fits(s) {
			return errEnough
		}
		return nil
	})
	if err == nil && s.Seq == 0 {
		err = events.ErrUnknownNamespace.With("namespace %q has a journal, but nothing stands in it yet", r.journal.Namespace())
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Records calls fn for the records from one sequence on, up to the head at the time of the call. At the end it compares
// the journal with the newest snapshot: that its end was cut off or written anew shows in nothing else. The errors are
// those of State, and fn's.
func (r *Reader) Records(ctx context.Context, from uint64, fn func(events.Record) error) error {
	head, err := r.Head(ctx)
	if err != nil {
		return err
	}
	if from = max(from, 1); from <= head {
		err = r.read(ctx, from, head, fn)
	}
	if err == nil {
		err = r.remembered(ctx)
	}
	return Unavailable(err)
}

// remembered tells whether the journal still knows the last event of the newest snapshot.
func (r *Reader) remembered(ctx context.Context) error {
	if r.snaps == nil {
		return nil
	}
	at, _, ok, err := r.snaps.Latest(ctx, r.journal.Namespace())
	if usable := err == nil && ok && at.Epoch == r.journal.Epoch(); !usable {
		return nil
	}
	return r.journal.Check(ctx, at)
}

// State is the state at the head of a namespace. The errors are those of Open and of Reader.State.
func State(ctx context.Context, js jetstream.JetStream, namespace string, log *slog.Logger) (*events.State, error) {
	r, err := Open(ctx, js, namespace, log)
	if err != nil {
		return nil, err
	}
	return r.State(ctx)
}

// applied applies a record; its error names the record as the journal's break.
func applied(s *events.State, rec events.Record) error {
	if err := s.Apply(rec); err != nil {
		return &applyError{rec.Seq, err}
	}
	return nil
}

// errEnough ends a reading early.
var errEnough = errors.New("read far enough")

// read calls fn for the records from..last, and gives up when nothing comes for a while.
func (r *Reader) read(ctx context.Context, from, last uint64, fn func(events.Record) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if r.Progress != nil {
		defer r.Progress(last-from+1, last-from+1)
	}
	silence := time.AfterFunc(stall, func() { cancel(r.silent()) })
	defer silence.Stop()
	err := r.journal.Read(ctx, from, func(rec events.Record) error {
		silence.Reset(stall)
		if rec.Seq > last {
			return errEnough // it came after the head was asked for
		}
		if err := fn(rec); err != nil {
			return err
		}
		if r.Progress != nil && rec.Seq < last {
			r.Progress(rec.Seq-from+1, last-from+1)
		}
		if rec.Seq == last {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return err
}

// silent says that nothing comes, and why if the journal knows.
func (r *Reader) silent() error {
	if t, ok := r.journal.(interface{ Trouble() error }); ok && t.Trouble() != nil {
		return fmt.Errorf("nothing came for %v: %w", stall, t.Trouble())
	}
	return fmt.Errorf("nothing came for %v", stall)
}

// snapshot is the state of the newest snapshot if it helps on the way to a point, else the empty state. A moment in time
// is looked for from the start: a snapshot does not say when its events were.
//
// The journal must know the snapshot's last event: otherwise its history was cut or written anew, and the error says so.
func (r *Reader) snapshot(ctx context.Context, p Point) (*events.State, error) {
	s := r.usable(ctx, p)
	if s.Seq == 0 {
		return s, nil
	}
	return s, r.journal.Check(ctx, journal.Cursor{Epoch: r.journal.Epoch(), Seq: s.Seq, Hash: s.Chain})
}

// usable is the newest snapshot's state, or the empty one.
func (r *Reader) usable(ctx context.Context, p Point) *events.State {
	if r.snaps == nil || !p.Time.IsZero() {
		return events.NewState()
	}
	at, b, ok, err := r.snaps.Latest(ctx, r.journal.Namespace())
	if errors.Is(err, journal.ErrNoSnapshots) || err == nil && !ok || p.Seq > 0 && at.Seq > p.Seq {
		return events.NewState()
	}
	if err == nil && at.Epoch != r.journal.Epoch() {
		err = fmt.Errorf("it is of epoch %s, the journal of %s", at.Epoch, r.journal.Epoch())
	}
	var s *events.State
	if err == nil {
		s, err = events.DecodeState(b)
	}
	if err == nil && (s.Seq != at.Seq || s.Chain != at.Hash) {
		err = fmt.Errorf("it says sequence %d, its state %d", at.Seq, s.Seq)
	}
	if err != nil {
		r.log.Warn("snapshot is unusable, replaying from the start", "namespace", r.journal.Namespace(), "err", err)
		return events.NewState()
	}
	return s
}

// Unavailable is a failure of the way to the journal, or ErrBroken. Rejections, and what the caller ended, stay as they are.
func Unavailable(err error) error {
	var rejected *events.Error
	switch {
	case err == nil || errors.As(err, &rejected) || errors.Is(err, context.Canceled):
		return err
	case errors.As(err, new(*journal.BreakError)) || errors.As(err, new(*applyError)):
		return ErrBroken.With("%v", err)
	}
	for _, none := range []error{jetstream.ErrJetStreamNotEnabled, jetstream.ErrJetStreamNotEnabledForAccount, nats.ErrNoResponders} {
		if errors.Is(err, none) {
			return command.ErrUnavailable.With("this NATS server has no JetStream, where the journal lives: %v", err)
		}
	}
	return command.ErrUnavailable.With("the journal cannot be read: %v", err)
}
