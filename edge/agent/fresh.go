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
	// silence is how long no beacon may come before the edge asks for the head itself.
	silence = 3 * time.Second

	// headEvery is how often it asks then. Every edge asks the journal's leader.
	headEvery = 5 * time.Second

	// staleAfter is from when on the log says that the edge does not know whether it is at the head.
	staleAfter = 10 * time.Second

	// spread is over how long edges come back to a bus that has returned: they all lost it in one moment.
	spread = time.Second
)

// freshness is what a follower knows of the head. The follower's mutex guards it.
type freshness struct {
	head    uint64    // newest sequence heard of
	current time.Time // the edge last knew then that it had all there was, see events.Beacon; at first when its state was stored
	heard   time.Time // the last beacon came then; zero: none has
	asked   time.Time // the head was last asked for then
	promise promise   // what a beacon said that the state has not reached yet
	stale   bool      // the log says so
	said    string    // the last complaint about a beacon: each is logged once
}

// promise is a proof that waits for the state to come to its sequence.
type promise struct {
	seq  uint64
	hash string
	at   time.Time // of the proof, on the edge's clock
}

// elapsed is how long ago something was: by the clock that goes on in suspend or by the one that nobody sets, whichever
// says more.
func elapsed(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)), 0)
}

// listen hears beacons until ctx ends.
func (f *follower) listen(ctx context.Context) error {
	sub, err := f.nc.Subscribe(events.BeaconSubject(f.namespace), func(m *nats.Msg) {
		var b events.Beacon
		if json.Unmarshal(m.Data, &b) == nil && b.Namespace == f.namespace {
			f.hear(b, time.Now())
		}
	})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() }) // fails only on a closed connection
	return nil
}

// hear takes a beacon. It tells what is missing and how fresh the state is, and nothing else: a forged one changes no state.
func (f *follower) hear(b events.Beacon, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.journal == nil || f.broken != nil {
		return // nothing is known to be of which journal, or nothing is followed: staleness grows
	}
	if b.Epoch != f.epoch {
		f.complain("a beacon is about another journal: not believed", "epoch", b.Epoch, "followed", f.epoch)
		return
	}
	f.heard, f.head = now, max(f.head, b.Seq)
	p := promise{b.Seq, b.Hash, now.Add(-max(time.Duration(b.Age), 0))}
	if b.Seq <= f.state.Seq {
		f.keep(p)
		return
	}
	if f.promise.seq <= f.state.Seq { // one that is not met yet stays: beacons may come faster than their events are applied
		f.promise = p
	}
	f.journal.Notice(b.Seq)
}

// keep notes that nothing beyond the promise's sequence was there at its time. The state has come so far; the mutex is held.
func (f *follower) keep(p promise) {
	if p.seq == f.state.Seq && p.hash != f.state.Chain {
		f.complain("a beacon names another event at this edge's sequence: not believed", "seq", p.seq, "hash", p.hash, "have", f.state.Chain)
		return
	}
	if p.at.After(f.current) {
		f.current = p.at
	}
	if !f.caught { // the journal looked shorter than the state for a moment, and does not any more
		f.caught = true
		f.tell()
	}
}

// complain logs what is new to say. The mutex is held.
func (f *follower) complain(what string, args ...any) {
	if f.said == what {
		return
	}
	f.said = what
	f.log.Error(what, append([]any{"namespace", f.namespace}, args...)...)
}

// standing is the newest sequence heard of, how long ago the edge last knew that it had all there was, and why it does
// not follow any more.
func (f *follower) standing(now time.Time) (head uint64, stale time.Duration, broken error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head, elapsed(now, f.current), f.broken
}

// proven is the newest state's sequence, and when it was last known to be the head.
func (f *follower) proven() (epoch string, seq uint64, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch, f.state.Seq, f.current
}

// watch asks for the head while no beacon comes, and has the log say when it is not known any more, until ctx ends.
func (f *follower) watch(ctx context.Context) {
	for pause(ctx, time.Second) == nil {
		now := time.Now()
		f.mu.Lock()
		due := now.Sub(f.asked) > headEvery/2+rand.N(headEvery)
		f.mu.Unlock()
		if due {
			f.look(ctx)
		}
		f.warn(now)
	}
}

// warn logs once that staleness has grown, and once that it is over.
func (f *follower) warn(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stale := elapsed(now, f.current)
	switch {
	case stale > staleAfter && !f.stale:
		f.log.Warn("it is not known whether this edge is at the head: it serves by its last good state",
			"namespace", f.namespace, "seq", f.state.Seq, "head", f.head, "staleness", stale.Round(time.Millisecond), "connected", f.nc.IsConnected())
	case stale <= staleAfter && f.stale:
		f.log.Info("at the head again", "namespace", f.namespace, "seq", f.state.Seq)
	}
	f.stale = stale > staleAfter
}

// look asks for the head once, unless beacons tell it. The answer shows what is missing; it proves nothing, since a server
// that is cut off from its majority still answers.
func (f *follower) look(ctx context.Context) {
	f.mu.Lock()
	j, idle := f.journal, f.broken != nil || time.Since(f.heard) < silence
	f.asked = time.Now()
	f.mu.Unlock()
	if j == nil || idle || !f.nc.IsConnected() {
		return
	}
	head, err := j.Head(ctx)
	if err != nil {
		return // that no answer comes shows as growing staleness
	}
	f.mu.Lock()
	f.head = max(f.head, head)
	f.mu.Unlock()
	j.Notice(head)
}
