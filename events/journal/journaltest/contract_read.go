package journaltest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

func testRead(t *testing.T, j journal.Journal) {
	if got := All(t, j); len(got) != 0 {
		t.Fatalf("an empty journal holds %d records", len(got))
	}
	Fill(t, j, journal.Cursor{}, 1, 20)
	for from, want := range map[uint64]int{0: 20, 1: 20, 2: 19, 20: 1, 21: 0} {
		next, n := max(from, 1), 0
		err := j.Read(t.Context(), from, func(rec events.Record) error {
			if rec.Seq != next {
				t.Errorf("from %d: sequence %d, want %d", from, rec.Seq, next)
			}
			next, n = next+1, n+1
			return nil
		})
		if err != nil || n != want {
			t.Errorf("from %d: %d records, %v; want %d", from, n, err, want)
		}
	}
	err := j.Read(t.Context(), 23, func(events.Record) error { t.Error("a record from beyond the end"); return nil })
	WantBreak(t, err, journal.BreakTruncated, 22)
}

func testFollow(t *testing.T, j journal.Journal) {
	c := Fill(t, j, journal.Cursor{}, 1, 10)
	early, zero := Follow(t, j, journal.Cursor{}), Follow(t, j, journal.Cursor{Epoch: j.Epoch()})
	early.Until(1, 10)
	Fill(t, j, c, 11, 300)
	if rec := early.Until(11, 300); string(rec.Data) != `{"n":300}` {
		t.Fatalf("last record is %s", rec.Data)
	}
	zero.Until(1, 300)
	wantErr(t, early.Stop(), context.Canceled)
}

func testFollowCursors(t *testing.T, j journal.Journal) {
	end := Fill(t, j, journal.Cursor{}, 1, 10)
	all := All(t, j)
	at := func(seq uint64) journal.Cursor {
		return journal.Cursor{Epoch: j.Epoch(), Seq: seq, Hash: all[seq-1].Hash()}
	}
	middle, atEnd := Follow(t, j, at(4)), Follow(t, j, end)
	middle.Until(5, 10)
	noEpoch := at(9)
	noEpoch.Epoch = ""
	Follow(t, j, noEpoch).Until(10, 10)
	Fill(t, j, end, 11, 12)
	middle.Until(11, 12)
	atEnd.Until(11, 12)

	beyond := journal.Cursor{Epoch: j.Epoch(), Seq: 50, Hash: strings.Repeat("a", 64)}
	b := WantBreak(t, Follow(t, j, beyond).End(), journal.BreakTruncated, 50)
	if b.Want != "50" || b.Got != "12" {
		t.Errorf("beyond the end: want %q, got %q", b.Want, b.Got)
	}
	other := at(4)
	other.Hash = at(5).Hash
	b = WantBreak(t, Follow(t, j, other).End(), journal.BreakHash, 4)
	if b.Want != other.Hash || b.Got != at(4).Hash {
		t.Errorf("wrong hash: %v", b)
	}
	foreign := at(4)
	foreign.Epoch = "00000000-0000-4000-8000-000000000000"
	b = WantBreak(t, Follow(t, j, foreign).End(), journal.BreakEpoch, 4)
	if b.Want != foreign.Epoch || b.Got != j.Epoch() {
		t.Errorf("foreign epoch: %v", b)
	}
	wantErr(t, Follow(t, j, journal.Cursor{Seq: 3}).End(), journal.ErrInvalid)
	wantErr(t, Follow(t, j, journal.Cursor{Hash: end.Hash}).End(), journal.ErrInvalid)
}

// testCallbackErrors: an error of the callback ends the reading at once and is returned as it is, and the record that it
// was about comes again when reading goes on.
func testCallbackErrors(t *testing.T, j journal.Journal) {
	Fill(t, j, journal.Cursor{}, 1, 10)
	boom := errors.New("boom")
	var got uint64
	fail := func(rec events.Record) error {
		if got = rec.Seq; got == 5 {
			return boom
		}
		return nil
	}
	wantErr(t, j.Read(t.Context(), 1, fail), boom)
	if got != 5 {
		t.Fatalf("read went on to %d after the error at 5", got)
	}
	wantErr(t, j.Follow(t.Context(), journal.Cursor{}, fail), boom)
	if got != 5 {
		t.Fatalf("following went on to %d after the error at 5", got)
	}
}

func testContext(t *testing.T, j journal.Journal) {
	end := Fill(t, j, journal.Cursor{}, 1, 10)
	f := Follow(t, j, end) // idle
	wantErr(t, f.Stop(), context.Canceled)

	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := j.Follow(ctx, journal.Cursor{}, func(events.Record) error {
		if n++; n == 3 {
			cancel()
		}
		return nil
	})
	wantErr(t, err, context.Canceled)
	if after := n; after < 3 {
		t.Fatalf("ended after %d records", after)
	}
	_, err = j.Append(ctx, end.Seq, Record(11))
	if err == nil {
		t.Fatal("append with an ended context")
	}
	wantErr(t, j.Read(ctx, 1, func(events.Record) error { return nil }), context.Canceled)
	wantHead(t, j, 10)
}
