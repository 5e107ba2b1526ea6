// Package journaltest holds the contract that every journal keeps, as a test suite, and an embedded NATS server for the
// tests of everything that uses one.
package journaltest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

// Record returns a record for the n-th command of a test, complete but for Seq and Prev.
func Record(n int) events.Record {
	return events.Record{
		Entity: "unit", Verb: "put", CommandID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n),
		Type: "UnitPut", Schema: 1, Time: time.Date(2026, 1, 2, 3, 4, 5, n, time.UTC), Actor: "tester",
		Data: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

// Fill appends records of the commands first to last to a journal that nobody else writes, and returns a cursor at its end.
func Fill(t testing.TB, j journal.Journal, c journal.Cursor, first, last int) journal.Cursor {
	t.Helper()
	for n := first; n <= last; n++ {
		rec := Record(n)
		rec.Prev = c.Hash
		stored, err := j.Append(t.Context(), c.Seq, rec)
		if err != nil {
			t.Fatalf("append %d: %v", n, err)
		}
		c = journal.Cursor{Epoch: j.Epoch(), Seq: stored.Seq, Hash: stored.Hash()}
	}
	return c
}

// Run checks one kind of journal. factory makes an empty one, for the test that it is given.
func Run(t *testing.T, factory func(t *testing.T) journal.Journal) {
	for name, test := range map[string]func(*testing.T, journal.Journal){
		"append":           testAppend,
		"guards":           testGuards,
		"wrong prev":       testWrongPrev,
		"invalid records":  testInvalid,
		"concurrent":       testConcurrent,
		"one command":      testOneCommand,
		"find":             testFind,
		"read":             testRead,
		"follow":           testFollow,
		"follow cursors":   testFollowCursors,
		"callback errors":  testCallbackErrors,
		"context":          testContext,
		"stored unchanged": testUnchanged,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, factory(t))
		})
	}
}

// Follower collects what a following delivers, for tests. Its goroutine ends with the test.
type Follower struct {
	t    testing.TB
	recs chan events.Record
	done chan error // the result of Follow, once
	stop context.CancelFunc
}

// Follow starts following.
func Follow(t testing.TB, j journal.Journal, c journal.Cursor) *Follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Follower{t: t, recs: make(chan events.Record, 4096), done: make(chan error, 1), stop: cancel}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.done <- j.Follow(ctx, c, func(rec events.Record) error {
			select {
			case f.recs <- rec:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return f
}

// Next returns the next record; the test fails when the following ends or nothing comes for 20 s.
func (f *Follower) Next() events.Record {
	f.t.Helper()
	select {
	case rec := <-f.recs:
		return rec
	case err := <-f.done:
		f.t.Fatalf("following ended: %v", err)
	case <-time.After(20 * time.Second):
		f.t.Fatal("nothing came for 20 s")
	}
	panic("unreachable")
}

// Until reads up to sequence last, checks that the sequences are dense from first, and returns the last record.
func (f *Follower) Until(first, last uint64) (rec events.Record) {
	f.t.Helper()
	for want := first; want <= last; want++ {
		if rec = f.Next(); rec.Seq != want {
			f.t.Fatalf("followed sequence %d, want %d", rec.Seq, want)
		}
	}
	return rec
}

// End waits for the end of the following and returns its error.
func (f *Follower) End() error {
	f.t.Helper()
	select {
	case err := <-f.done:
		return err
	case <-time.After(30 * time.Second):
		f.t.Fatal("following did not end in 30 s")
	}
	panic("unreachable")
}

// Stop ends the following and returns its error.
func (f *Follower) Stop() error { f.stop(); return f.End() }

// WantBreak checks that err is a break of the given kind at the given sequence, and returns it.
func WantBreak(t testing.TB, err error, kind journal.Break, seq uint64) *journal.BreakError {
	t.Helper()
	var b *journal.BreakError
	if !errors.As(err, &b) {
		t.Fatalf("error is %v, want a break %q at %d", err, kind, seq)
	}
	if b.Kind != kind || b.Seq != seq {
		t.Fatalf("break is %q at %d (%v), want %q at %d", b.Kind, b.Seq, b, kind, seq)
	}
	return b
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func wantHead(t testing.TB, j journal.Journal, want uint64) {
	t.Helper()
	if got, err := j.Head(t.Context()); err != nil || got != want {
		t.Fatalf("head is %d, %v; want %d", got, err, want)
	}
}

// All reads a whole journal and checks its chain by itself.
func All(t testing.TB, j journal.Journal) []events.Record {
	t.Helper()
	var all []events.Record
	prev := ""
	err := j.Read(t.Context(), 0, func(rec events.Record) error {
		if rec.Seq != uint64(len(all)+1) || rec.Prev != prev {
			t.Fatalf("read sequence %d with previous hash %q, want %d and %q", rec.Seq, rec.Prev, len(all)+1, prev)
		}
		prev, all = rec.Hash(), append(all, rec)
		return nil
	})
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return all
}
