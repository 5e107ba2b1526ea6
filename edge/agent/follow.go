package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

const (
	minBackoff, maxBackoff = 50 * time.Millisecond, 2 * time.Second
)

// follower follows the journal of one namespace. Its run owns the folding; the mutex guards what others read.
type follower struct {
	namespace string
	nc        *nats.Conn
	js        jetstream.JetStream
	asks      string // subject on which the control plane is asked about the journal; "": it is not
	saved     *Saved // what the state directory held; nil: nothing
	log       *slog.Logger

	mu      sync.Mutex
	journal journal.Journal // nil until it was reached
	epoch   string          // of state
	state   *events.State   // owned by run, cloned for others
	first   uint64          // head when the journal was reached
	caught  bool            // state has reached the head that there was when the journal was reached
	broken  error           // why following ended for good
	changed chan struct{}   // closed and replaced whenever one of these changes
	freshness
}

func newFollower(namespace string, nc *nats.Conn, js jetstream.JetStream, saved *Saved, log *slog.Logger) *follower {
	f := &follower{namespace: namespace, nc: nc, js: js, saved: saved, log: log, state: events.NewState(), changed: make(chan struct{})}
	f.Current = time.Now()
	if saved != nil {
		f.epoch, f.state, f.Head, f.Current = saved.Epoch, saved.State.Clone(), saved.State.Seq, saved.At
	}
	return f
}

// run follows until ctx ends. A break of the journal, or an event that this program does not understand, ends the
// following loudly and not the run: the edge goes on with its last good state, and never reports more than that.
func (f *follower) run(ctx context.Context) {
	if f.saved != nil {
		f.log.Info("starting from the stored state", "namespace", f.namespace, "seq", f.saved.State.Seq,
			"staleness", events.Elapsed(time.Now(), f.saved.At).Round(time.Millisecond), "connected", f.nc.IsConnected())
	}
	j, head, err := f.reach(ctx)
	if err != nil {
		return // ctx has ended
	}
	at := f.begin(ctx, j, head)
	err = j.Follow(ctx, at, f.apply)
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	f.broken = err
	seq := f.state.Seq
	f.tell()
	f.mu.Unlock()
	f.log.Error("cannot follow the journal any more: this edge goes on with its last good state until it is restarted",
		"namespace", f.namespace, "seq", seq, "err", err)
}

// reach waits until the journal can be read, and returns it with its head.
func (f *follower) reach(ctx context.Context) (journal.Journal, uint64, error) {
	wait, said := minBackoff, ""
	for {
		down := !f.nc.IsConnected()
		if err := awaitConnection(ctx, f.nc); err != nil && ctx.Err() != nil {
			return nil, 0, err
		}
		if down { // not all edges at once
			if err := pause(ctx, spread); err != nil {
				return nil, 0, err
			}
		}
		j, err := f.open(ctx)
		if err == nil {
			var head uint64
			if head, err = j.Head(ctx); err == nil {
				return j, head, nil
			}
		}
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		if err.Error() != said {
			said = err.Error()
			f.log.Warn("journal not reached yet, trying again", "namespace", f.namespace, "err", err)
		}
		if err := pause(ctx, wait); err != nil {
			return nil, 0, err
		}
		wait = min(2*wait, maxBackoff)
	}
}

// open opens the journal, by asking the control plane if the edge is one that may.
func (f *follower) open(ctx context.Context) (*journal.Stream, error) {
	if f.asks == "" {
		return journal.Open(ctx, f.js, f.namespace)
	}
	return journal.OpenAsking(ctx, f.js, f.namespace, f.asks)
}

// begin chooses where to start: at the stored state if it is of this journal, else at a snapshot, else at the beginning.
func (f *follower) begin(ctx context.Context, j journal.Journal, head uint64) journal.Cursor {
	state := events.NewState()
	switch {
	case f.saved != nil && f.saved.Epoch == j.Epoch():
		state = f.saved.State.Clone()
	case f.saved != nil:
		f.log.Warn("the journal was created anew since this edge last ran: starting from it, not from the stored state",
			"namespace", f.namespace, "epoch", j.Epoch(), "stored", f.saved.Epoch)
		fallthrough
	default:
		if s := f.snapshot(ctx, j); s != nil {
			state = s
		}
	}
	at := journal.Cursor{Epoch: j.Epoch(), Seq: state.Seq, Hash: state.Chain}
	var contradicted *journal.BreakError
	sound := !errors.As(j.Check(ctx, at), &contradicted) // if not, following from there names the break
	f.mu.Lock()
	defer f.mu.Unlock()
	f.journal, f.epoch, f.state, f.Head, f.first = j, j.Epoch(), state, head, head
	if sound {
		f.reached()
	}
	return at
}

// snapshot is the state of the newest snapshot; nil if there is no usable one. It only saves time, so that a bad one is
// reported and passed over.
func (f *follower) snapshot(ctx context.Context, j journal.Journal) *events.State {
	at, s, err := f.latest(ctx)
	if err == nil && (at.Epoch != j.Epoch() || s.Seq != at.Seq || s.Chain != at.Hash) {
		err = fmt.Errorf("it is of epoch %s and says sequence %d; the journal is of epoch %s, the state at %d", at.Epoch, at.Seq, j.Epoch(), s.Seq)
	}
	if err != nil {
		if !errors.Is(err, journal.ErrNoSnapshots) {
			f.log.Warn("snapshot is unusable, replaying from the start", "namespace", f.namespace, "err", err)
		}
		return nil
	}
	return s
}

func (f *follower) latest(ctx context.Context) (journal.Cursor, *events.State, error) {
	at, b, ok, err := journal.ReadSnapshots(f.js).Latest(ctx, f.namespace)
	if err == nil && !ok {
		err = journal.ErrNoSnapshots
	}
	if err != nil {
		return at, nil, err
	}
	s, err := events.DecodeState(b)
	return at, s, err
}

// apply folds one record into the state.
func (f *follower) apply(rec events.Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.state.Apply(rec); err != nil {
		return err
	}
	f.reached()
	return nil
}

// reached notes that state moved. The mutex is held.
func (f *follower) reached() {
	if err := f.Reached(f.state); err != nil {
		f.complain(err, events.Beacon{Seq: f.state.Seq})
	}
	if f.state.Seq >= f.Head {
		f.caught = true
	}
	if f.caught { // before, nobody wants a state: a replay of a million events installs one
		f.tell()
	}
}

// tell wakes those who wait. The mutex is held.
func (f *follower) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// wait returns a channel that is closed at the next change. Fetch it before looking.
func (f *follower) wait() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// newer is a copy of the newest state, if it is not the one named, once the journal was read up to its head; nil before,
// and while the journal is empty.
func (f *follower) newer(epoch string, seq uint64) (string, *events.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.caught || f.state.Seq == 0 || f.epoch == epoch && f.state.Seq == seq {
		return "", nil
	}
	return f.epoch, f.state.Clone()
}

// history is the sequence up to which events are older than this process, as far as it knows, and whether the journal has
// been asked.
func (f *follower) history() (seq uint64, read bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seq = f.first
	if f.saved != nil && (f.journal == nil || f.saved.Epoch == f.epoch) {
		seq = max(seq, f.saved.State.Seq)
	}
	return seq, f.journal != nil
}

// member is what the newest state says of an edge, and whether the journal was read up to its head.
func (f *follower) member(id string) (e events.Edge, ok, caught bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok = f.state.Edges[id]
	return e, ok, f.caught
}

// awaitConnection waits until the client is connected. What is sent earlier would only queue up in it.
func awaitConnection(ctx context.Context, nc *nats.Conn) error {
	changed := nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(changed)
	for {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case nc.IsConnected():
			return nil
		case nc.IsClosed():
			return fmt.Errorf("nats: %w", nats.ErrConnectionClosed)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// pause waits for about d, with jitter: a thousand edges lose one server together.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
