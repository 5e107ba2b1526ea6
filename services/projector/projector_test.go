package projector_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/projector"
)

// snapshots is a store in memory that remembers one snapshot.
type snapshots struct {
	mu    sync.Mutex
	at    journal.Cursor
	state []byte
	puts  int
}

func (s *snapshots) Put(_ context.Context, _ string, at journal.Cursor, state []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.state, s.puts = at, state, s.puts+1
	return nil
}

func (s *snapshots) Latest(context.Context, string) (journal.Cursor, []byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at, s.state, s.state != nil, nil
}

// add appends the event of one more unit and returns the state after it.
func add(t *testing.T, j journal.Journal, s *events.State) *events.State {
	t.Helper()
	var c events.Command = events.PutUnit{Unit: events.Unit{ID: fmt.Sprintf("u%d", s.Seq)}}
	if s.Seq == 0 {
		c = events.CreateNamespace{UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 10}}}
	}
	env := events.Envelope{ID: uuid.NewString(), Command: c}
	e, err := events.Decide(s, j.Namespace(), env, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := events.NewRecord(s, env, e, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if rec, err = j.Append(t.Context(), s.Seq, rec); err != nil {
		t.Fatal(err)
	}
	next, err := events.Evolve(s, rec)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func run(ctx context.Context, j journal.Journal, snaps projector.SnapshotStore, log *slog.Logger) (*projector.Projector, func() error) {
	p := projector.New(j, snaps, true, log)
	return p, running(ctx, p)
}

// running runs a projector until the function that it returns is called.
func running(ctx context.Context, p *projector.Projector) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

func TestFollowsAndSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, snaps, log := journal.NewMemory("shop"), &snapshots{}, slog.New(slog.DiscardHandler)
		want := events.NewState()
		for range 3 {
			want = add(t, j, want)
		}
		p, stop := run(t.Context(), j, snaps, log)
		want = add(t, j, want)
		got, err := p.Await(t.Context(), 4)
		if err != nil || got.Hash() != want.Hash() {
			t.Fatalf("state at %d differs (%v)", got.Seq, err)
		}
		time.Sleep(3 * time.Second) // virtual: the journal is quiet, so a snapshot is due
		synctest.Wait()
		if snaps.at.Seq != 4 || snaps.at.Hash != want.Chain || snaps.puts != 1 {
			t.Errorf("snapshot at %+v after %d puts", snaps.at, snaps.puts)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		want = add(t, j, want)
		p, stop = run(t.Context(), j, snaps, log) // from the snapshot and the tail
		if got, err = p.Await(t.Context(), 5); err != nil || got.Hash() != want.Hash() {
			t.Errorf("state from the snapshot differs (%v)", err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// restored is a journal that an older one has taken the place of.
type restored struct {
	journal.Journal
	older atomic.Bool
}

func (r *restored) Check(ctx context.Context, c journal.Cursor) error {
	if r.older.Load() {
		return &journal.BreakError{Namespace: "shop", Kind: journal.BreakTruncated, Seq: c.Seq}
	}
	return r.Journal.Check(ctx, c)
}

// What a journal does not hold any more gets into no snapshot, before following has found that out.
func TestNoSnapshotOfWhatWasCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, snaps, s := &restored{Journal: journal.NewMemory("shop")}, &snapshots{}, events.NewState()
		for range 3 {
			s = add(t, j, s)
		}
		p, stop := run(t.Context(), j, snaps, slog.New(slog.DiscardHandler))
		add(t, j, s)
		if _, err := p.Await(t.Context(), 4); err != nil {
			t.Fatal(err)
		}
		j.older.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if snaps.puts > 0 {
			t.Errorf("a snapshot at %+v", snaps.at)
		}
		j.older.Store(false)
		add(t, j, p.State())
		time.Sleep(time.Minute)
		synctest.Wait()
		if snaps.at.Seq != 5 {
			t.Errorf("the last snapshot is at %+v", snaps.at)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestBadSnapshotIsPassedOver(t *testing.T) {
	j := journal.NewMemory("shop")
	want := add(t, j, add(t, j, events.NewState()))
	good := journal.Cursor{Epoch: j.Epoch(), Seq: want.Seq, Hash: want.Chain}
	other := good
	other.Epoch = "another"
	for name, s := range map[string]*snapshots{
		"no state":      {at: good, state: []byte("{")},
		"another epoch": {at: other, state: want.Encode()},
		"another state": {at: good, state: events.NewState().Encode()},
	} {
		var log bytes.Buffer
		p, stop := run(t.Context(), j, s, slog.New(slog.NewTextHandler(&log, nil)))
		if got, err := p.Await(t.Context(), want.Seq); err != nil || got.Hash() != want.Hash() {
			t.Errorf("%s: state differs (%v)", name, err)
		}
		if err := stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(log.String(), "snapshot is unusable") {
			t.Errorf("%s: nothing in the log", name)
		}
	}
}

// "An event that cannot be applied stops the projector loudly, with its sequence"; the last good state stays.
func TestStopsLoudlyAtWhatItCannotApply(t *testing.T) {
	j := journal.NewMemory("shop")
	s := add(t, j, events.NewState())
	rec := events.Record{Entity: "unit", Verb: "put", CommandID: uuid.NewString(), Type: "UnitExploded", Schema: 1, Time: time.Now(), Prev: s.Chain, Data: []byte("{}")}
	if _, err := j.Append(t.Context(), s.Seq, rec); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	p := projector.New(j, nil, false, slog.New(slog.NewTextHandler(&log, nil)))
	err := p.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "record 2") {
		t.Fatalf("Run: %v, want record 2 named", err)
	}
	if got := p.State(); got.Hash() != s.Hash() {
		t.Error("the last good state is gone")
	}
	if _, err := p.Await(t.Context(), 2); err == nil || p.Err() == nil {
		t.Error("waiting for what cannot come succeeded")
	}
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Error("it stopped silently")
	}
}
