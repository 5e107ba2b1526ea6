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
	events.Freshness
	asked time.Time // the head was last asked for then
	stale bool      // the log says so
	said  string    // the last complaint about a beacon: each is logged once
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

// hear takes a beacon. It tells what may be missing, which the journal is asked for, and how fresh the state is if it is
// from the office, and nothing else: a forged one changes no state.
func (f *follower) hear(b events.Beacon, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.journal == nil || f.broken != nil {
		return // nothing is known to be of which journal, or nothing is followed: staleness grows
	}
	before := f.Current
	if err := f.Hear(b, f.epoch, f.state, now); err != nil {
		f.complain(err, b)
		return
	}
	if b.Seq > f.state.Seq {
		f.journal.Notice(b.Seq)
	} else if f.Current.After(before) && !f.caught { // the journal looked shorter than the state for a moment, and does not any more
		f.caught = true
		f.tell()
	}
}

// complain logs what is new to say about a beacon. The mutex is held.
func (f *follower) complain(err error, b events.Beacon) {
	if f.said == err.Error() {
		return
	}
	f.said = err.Error()
	f.log.Error(err.Error()+": not believed", "namespace", f.namespace, "seq", b.Seq, "hash", b.Hash, "epoch", b.Epoch,
		"have_seq", f.state.Seq, "have_hash", f.state.Chain, "have_epoch", f.epoch)
}

// standing is the newest sequence that the journal told of, how long ago the edge last knew that it had all there was, and why it does
// not follow any more.
func (f *follower) standing(now time.Time) (head uint64, stale time.Duration, broken error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Head, f.Stale(now), f.broken
}

// proven is the newest state's sequence, and when it was last known to be the head.
func (f *follower) proven() (epoch string, seq uint64, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch, f.state.Seq, f.Current
}

// watch asks for the head while no beacon comes that can be believed, and at once if any says more than is known, and has the log say when it is not known any more, until ctx ends.
func (f *follower) watch(ctx context.Context) {
	for pause(ctx, time.Second) == nil {
		now := time.Now()
		f.mu.Lock()
		due := f.Hinted() || now.Sub(f.asked) > headEvery/2+rand.N(headEvery)
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
	stale := f.Stale(now)
	switch {
	case stale > staleAfter && !f.stale:
		var why error
		if t, ok := f.journal.(interface{ Trouble() error }); ok {
			why = t.Trouble()
		}
		f.log.Warn("it is not known whether this edge is at the head: it serves by its last good state",
			"namespace", f.namespace, "seq", f.state.Seq, "head", f.Head, "staleness", stale.Round(time.Millisecond), "connected", f.nc.IsConnected(), "err", why)
	case stale <= staleAfter && f.stale:
		f.log.Info("at the head again", "namespace", f.namespace, "seq", f.state.Seq)
	}
	f.stale = stale > staleAfter
}

// look asks for the head once, unless the office's beacons say that nothing is missing. The answer shows what is missing; it proves nothing, since a server
// that is cut off from its majority still answers.
func (f *follower) look(ctx context.Context) {
	f.mu.Lock()
	j, idle := f.journal, f.broken != nil || time.Since(f.Heard) < silence && !f.Hinted()
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
	f.Told(head)
	f.mu.Unlock()
	j.Notice(head)
}

// notice has the journal of that epoch asked for what it holds up to a sequence.
func (f *follower) notice(epoch string, seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.journal != nil && f.broken == nil && f.epoch == epoch {
		f.journal.Notice(seq)
	}
}
