// Package projector folds a namespace's events into its current state and writes snapshots of it.
//
// A Projector follows one journal. Its goroutine (the one that calls Run) owns the state; everyone else reads
// immutable copies. An event that cannot be applied stops it loudly, with its sequence; the last good state stays
// readable. Where the process is in office, the projector also says so on `unitgate.beacon.<namespace>`: how far the journal
// is, and how old the proof of that is (Beacon). Everywhere it hears the office's beacons and so knows how stale it is (Listen).
package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

// SnapshotStore keeps the newest snapshot of each namespace. journal.Snapshots is one.
type SnapshotStore interface {
	Put(ctx context.Context, namespace string, at journal.Cursor, state []byte) error
	Latest(ctx context.Context, namespace string) (at journal.Cursor, state []byte, ok bool, err error)
}

// When snapshots are written: after so many events, or this long after the last event if there were any.
const (
	snapshotEvery = 1000
	snapshotIdle  = 2 * time.Second
)

// headAgain is how long CatchUp waits before it asks for the head again.
const headAgain = 100 * time.Millisecond

// Projector is the current state of one namespace. Make one with New; its methods may be used by any goroutine.
type Projector struct {
	journal journal.Journal
	snaps   SnapshotStore
	write   bool
	log     *slog.Logger

	mu      sync.Mutex
	state   *events.State // immutable once published
	changed chan struct{} // closed when state is replaced
	failed  error         // why Run ended, nil while it runs
	fresh   events.Freshness
	said    string // the last complaint about a beacon: each is logged once
}

// New makes a projector of a journal. snaps may be nil; with write, snapshots are stored as well as read.
func New(j journal.Journal, snaps SnapshotStore, write bool, log *slog.Logger) *Projector {
	return &Projector{
		journal: j, snaps: snaps, write: write && snaps != nil, log: log, state: events.NewState(), changed: make(chan struct{}),
		fresh: events.Freshness{Current: time.Now()},
	}
}

// Journal is what the projector follows.
func (p *Projector) Journal() journal.Journal { return p.journal }

// State is the newest state; it is never nil and never changes.
func (p *Projector) State() *events.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Changed returns a channel that is closed when the state is replaced or the projector stops.
func (p *Projector) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Err is why the projector stopped, nil while it follows.
func (p *Projector) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// Await waits until the state has reached a sequence. It returns ctx's error, or why the projector stopped.
func (p *Projector) Await(ctx context.Context, seq uint64) (*events.State, error) {
	for {
		p.mu.Lock()
		s, ch, err := p.state, p.changed, p.failed
		p.mu.Unlock()
		if s.Seq >= seq {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return s, fmt.Errorf("waiting for sequence %d, at %d: %w", seq, s.Seq, ctx.Err())
		}
	}
}

// CatchUp waits until the state has reached what the journal's server calls its head. A state that is beyond the head is
// of another history (a truncated journal): CatchUp waits until following has said so.
func (p *Projector) CatchUp(ctx context.Context) (*events.State, error) {
	for {
		before := p.State().Seq
		head, err := p.askHead(ctx)
		if err != nil {
			return p.State(), err
		}
		s, err := p.Await(ctx, head)
		if err == nil {
			err = p.Err()
		}
		if err != nil || before <= head {
			return s, err
		}
		if err := p.rest(ctx); err != nil {
			return s, fmt.Errorf("the state is at sequence %d, the journal of %s ends at %d: %w", s.Seq, p.journal.Namespace(), head, err)
		}
	}
}

// rest waits until something changes, or for a moment.
func (p *Projector) rest(ctx context.Context) error {
	t := time.NewTimer(headAgain)
	defer t.Stop()
	select {
	case <-p.Changed():
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Run loads the newest usable snapshot and follows the journal until ctx ends (nil) or an event cannot be applied.
func (p *Projector) Run(ctx context.Context) error {
	s, at := p.load(ctx)
	var fitting sync.WaitGroup
	fit, stopFitting := context.WithCancel(ctx)
	if p.fits(fit, at) {
		p.publish(s)
	} else {
		fitting.Go(func() { p.publishFitting(fit, s, at) })
	}
	r := &replay{state: s, shared: true, target: p.target(ctx)}
	applied := make(chan *events.State, 1)
	var writer sync.WaitGroup
	if p.write {
		writer.Go(func() { p.writeSnapshots(ctx, applied) })
	}
	err := p.journal.Follow(ctx, at, func(rec events.Record) error {
		s, err := r.apply(rec)
		if s != nil {
			p.publish(s)
			offer(applied, s)
		}
		return err
	})
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil
	}
	stopFitting()
	fitting.Wait()
	close(applied)
	writer.Wait()
	p.stop(r.state, err)
	return err
}

// offer leaves the newest state for the writer and never waits for it.
func offer(ch chan *events.State, s *events.State) {
	select {
	case <-ch:
	default:
	}
	ch <- s
}

func (p *Projector) publish(s *events.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show(s)
}

// publishNewer publishes s unless a newer state is there.
func (p *Projector) publishNewer(s *events.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.Seq > p.state.Seq {
		p.show(s)
	}
}

// show replaces the state. The mutex is held.
func (p *Projector) show(s *events.State) {
	p.state = s
	if err := p.fresh.Reached(s); err != nil {
		p.doubt(err, s.Seq)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// stop publishes the last good state, and why there is no newer one.
func (p *Projector) stop(last *events.State, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last.Seq != p.state.Seq {
		p.state = last
	}
	if err == nil {
		err = errors.New("the projector has been stopped")
	} else {
		p.log.Error("projector stopped: the last good state stays, commands are refused", "namespace", p.journal.Namespace(), "seq", p.state.Seq, "err", err)
	}
	p.failed = err
	close(p.changed)
	p.changed = make(chan struct{})
}

// load returns the state of the newest snapshot, or the empty state: a snapshot only saves time, so a bad one is
// reported and passed over. One of this journal's epoch that the journal contradicts (it is shorter, or its record at the
// snapshot's sequence is another one) is no bad snapshot: history was changed. Following from it names the break.
func (p *Projector) load(ctx context.Context) (*events.State, journal.Cursor) {
	none := journal.Cursor{Epoch: p.journal.Epoch()}
	if p.snaps == nil {
		return events.NewState(), none
	}
	at, b, ok, err := p.snaps.Latest(ctx, p.journal.Namespace())
	if err == nil && !ok {
		return events.NewState(), none
	}
	s, err := decode(at, b, p.journal.Epoch(), err)
	if err != nil {
		p.log.Warn("snapshot is unusable, replaying from the start", "namespace", p.journal.Namespace(), "err", err)
		return events.NewState(), none
	}
	return s, at
}

// fits tells whether the journal does not contradict a cursor. A question without an answer contradicts nothing: following
// begins with the same look.
func (p *Projector) fits(ctx context.Context, at journal.Cursor) bool {
	var broken *journal.BreakError
	return !errors.As(p.journal.Check(ctx, at), &broken)
}

// publishFitting shows a snapshot's state if the journal agrees with it after all: a server that is starting says for a
// moment that the journal is shorter than it is.
func (p *Projector) publishFitting(ctx context.Context, s *events.State, at journal.Cursor) {
	for p.rest(ctx) == nil {
		if p.State().Seq >= s.Seq {
			return
		}
		if p.fits(ctx, at) && ctx.Err() == nil {
			p.publishNewer(s)
			return
		}
	}
}

func decode(at journal.Cursor, b []byte, epoch string, err error) (*events.State, error) {
	if err != nil {
		return nil, err
	}
	if at.Epoch != epoch {
		return nil, fmt.Errorf("snapshot is of epoch %s, the journal of %s", at.Epoch, epoch)
	}
	s, err := events.DecodeState(b)
	if err != nil {
		return nil, err
	}
	if s.Seq != at.Seq || s.Chain != at.Hash {
		return nil, fmt.Errorf("snapshot says sequence %d, its state %d", at.Seq, s.Seq)
	}
	return s, nil
}

// writeSnapshots stores a snapshot after many events, or when the journal has become quiet. A snapshot that could not
// be stored is tried again with the next one: nothing depends on it. One of a history that the journal does not confirm
// at this moment is not stored: where an older journal was restored under this process, a newer snapshot would name a
// break at every start.
func (p *Projector) writeSnapshots(ctx context.Context, applied <-chan *events.State) {
	var newest *events.State
	var written uint64
	idle := time.NewTimer(snapshotIdle)
	defer idle.Stop()
	for {
		select {
		case s, ok := <-applied:
			if !ok {
				return
			}
			newest = s
			if written == 0 {
				written = s.Seq - 1
			}
			if s.Seq-written < snapshotEvery {
				idle.Reset(snapshotIdle)
				continue
			}
		case <-idle.C:
		}
		if newest == nil || newest.Seq == written {
			continue
		}
		at := journal.Cursor{Epoch: p.journal.Epoch(), Seq: newest.Seq, Hash: newest.Chain}
		if err := p.journal.Check(ctx, at); err != nil {
			p.log.Warn("snapshot not stored: the journal does not confirm it", "namespace", p.journal.Namespace(), "seq", newest.Seq, "err", err)
			continue
		}
		if err := p.snaps.Put(ctx, p.journal.Namespace(), at, newest.Encode()); err != nil {
			p.log.Warn("snapshot not stored", "namespace", p.journal.Namespace(), "seq", newest.Seq, "err", err)
			continue
		}
		written = newest.Seq
	}
}
