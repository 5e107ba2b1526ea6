package journaltest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

func testAppend(t *testing.T, j journal.Journal) {
	wantHead(t, j, 0)
	if j.Epoch() == "" || j.Namespace() == "" {
		t.Fatalf("epoch %q, namespace %q: want both", j.Epoch(), j.Namespace())
	}
	rec := Record(1)
	rec.Seq = 77 // Append fills it
	stored, err := j.Append(t.Context(), 0, rec)
	if err != nil || stored.Seq != 1 {
		t.Fatalf("stored as %d, %v; want 1", stored.Seq, err)
	}
	wantHead(t, j, 1)
	Fill(t, j, journal.Cursor{Seq: 1, Hash: stored.Hash()}, 2, 3)
	wantHead(t, j, 3)
	if got := All(t, j); len(got) != 3 || !reflect.DeepEqual(got[0], stored) {
		t.Fatalf("read %d records, first %+v; want 3, first %+v", len(got), got[0], stored)
	}
}

func testGuards(t *testing.T, j journal.Journal) {
	c := Fill(t, j, journal.Cursor{}, 1, 3)
	late := Record(4)
	late.Prev = All(t, j)[1].Hash()
	_, err := j.Append(t.Context(), 2, late)
	wantErr(t, err, journal.ErrConflict)
	late.Prev = c.Hash
	_, err = j.Append(t.Context(), 9, late)
	wantErr(t, err, journal.ErrConflict)
	_, err = j.Append(t.Context(), 0, Record(5))
	wantErr(t, err, journal.ErrConflict)

	again := Record(2)
	again.Prev, again.Data = c.Hash, []byte(`{"n":"decided anew"}`)
	_, err = j.Append(t.Context(), c.Seq, again)
	wantErr(t, err, journal.ErrDuplicate)
	if errors.Is(err, journal.ErrConflict) {
		t.Fatal("a duplicate is also a conflict: callers could not tell them apart")
	}
	again.Verb = "removed" // another verb is another command
	if _, err := j.Append(t.Context(), c.Seq, again); err != nil {
		t.Fatal(err)
	}
	wantHead(t, j, 4)
}

func testWrongPrev(t *testing.T, j journal.Journal) {
	c := Fill(t, j, journal.Cursor{}, 1, 2)
	for _, prev := range []string{"", strings.Repeat("0", 64), "nonsense"} {
		rec := Record(3)
		rec.Prev = prev
		_, err := j.Append(t.Context(), c.Seq, rec)
		wantErr(t, err, journal.ErrInvalid)
	}
	wantHead(t, j, 2)
}

func testInvalid(t *testing.T, j journal.Journal) {
	change := func(f func(*events.Record)) events.Record {
		rec := Record(1)
		f(&rec)
		return rec
	}
	for name, c := range map[string]struct {
		rec  events.Record
		want error
	}{
		"no entity":         {change(func(r *events.Record) { r.Entity = "" }), journal.ErrInvalid},
		"dot in entity":     {change(func(r *events.Record) { r.Entity = "unit.x" }), journal.ErrInvalid},
		"wildcard verb":     {change(func(r *events.Record) { r.Verb = ">" }), journal.ErrInvalid},
		"space in id":       {change(func(r *events.Record) { r.CommandID = "a b" }), journal.ErrInvalid},
		"upper-case id":     {change(func(r *events.Record) { r.CommandID = strings.ToUpper("00000000-0000-4000-8000-00000000abcd") }), journal.ErrInvalid},
		"long id":           {change(func(r *events.Record) { r.CommandID = strings.Repeat("a", 65) }), journal.ErrInvalid},
		"type with newline": {change(func(r *events.Record) { r.Type = "A\r\nNats-Rollup: all" }), journal.ErrInvalid},
		"no type":           {change(func(r *events.Record) { r.Type = "" }), journal.ErrInvalid},
		"no schema":         {change(func(r *events.Record) { r.Schema = 0 }), journal.ErrInvalid},
		"trace with CRLF":   {change(func(r *events.Record) { r.Traceparent = "00-\r\n-01" }), journal.ErrInvalid},
		"year 10000":        {change(func(r *events.Record) { r.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }), journal.ErrInvalid},
		"first with prev":   {change(func(r *events.Record) { r.Prev = strings.Repeat("a", 64) }), journal.ErrInvalid},
		"large data":        {change(func(r *events.Record) { r.Data = make([]byte, events.MaxEventSize+1) }), journal.ErrTooLarge},
		"large reason":      {change(func(r *events.Record) { r.Reason = strings.Repeat("\n", 6000) }), journal.ErrTooLarge},
	} {
		if _, err := j.Append(t.Context(), 0, c.rec); !errors.Is(err, c.want) {
			t.Errorf("%s: error is %v, want %v", name, err, c.want)
		}
	}
	wantHead(t, j, 0)
	largest := change(func(r *events.Record) { r.Data = bytes.Repeat([]byte("x"), events.MaxEventSize) })
	if _, err := j.Append(t.Context(), 0, largest); err != nil {
		t.Fatalf("the largest event: %v", err)
	}
}

// testConcurrent: eight writers, each retrying its commands until they are in; each record must have been decided on the
// state that it follows, which the hash chain proves.
func testConcurrent(t *testing.T, j journal.Journal) {
	const writers, each = 8, 25
	var wg sync.WaitGroup
	var conflicts atomic.Int64
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				n, err := appendRetrying(t, j, w*each+i)
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				conflicts.Add(int64(n))
			}
		})
	}
	wg.Wait()
	all := All(t, j)
	if len(all) != writers*each {
		t.Fatalf("%d records, want %d", len(all), writers*each)
	}
	seen := map[string]bool{}
	for _, rec := range all {
		if seen[rec.CommandID] {
			t.Fatalf("command %s took effect twice", rec.CommandID)
		}
		seen[rec.CommandID] = true
	}
	t.Logf("%d records, %d conflicts", len(all), conflicts.Load())
}

// appendRetrying does what a command service does: catch up, decide, append, and again when the head has moved.
func appendRetrying(t *testing.T, j journal.Journal, n int) (conflicts int, err error) {
	var c journal.Cursor
	for {
		err := j.Read(t.Context(), c.Seq+1, func(rec events.Record) error {
			c.Seq, c.Hash = rec.Seq, rec.Hash()
			return nil
		})
		if err != nil {
			return conflicts, fmt.Errorf("catch up: %w", err)
		}
		rec := Record(n)
		rec.Prev = c.Hash
		_, err = j.Append(t.Context(), c.Seq, rec)
		if !errors.Is(err, journal.ErrConflict) {
			return conflicts, err
		}
		conflicts++
	}
}

// testOneCommand: ten callers give the same command at once; one takes effect, the others learn so.
func testOneCommand(t *testing.T, j journal.Journal) {
	const callers = 10
	var stored, duplicate atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			switch _, err := appendRetrying(t, j, 1); {
			case err == nil:
				stored.Add(1) // all may say so: the records are identical
			case errors.Is(err, journal.ErrDuplicate):
				duplicate.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if stored.Load() < 1 || stored.Load()+duplicate.Load() != callers {
		t.Fatalf("%d stored, %d duplicates", stored.Load(), duplicate.Load())
	}
	wantHead(t, j, 1)
}

func testFind(t *testing.T, j journal.Journal) {
	Fill(t, j, journal.Cursor{}, 1, 3)
	want := Record(2)
	got, ok, err := j.Find(t.Context(), want.Entity, want.Verb, want.CommandID)
	if err != nil || !ok || got.Seq != 2 || string(got.Data) != string(want.Data) {
		t.Fatalf("found %+v, %v, %v", got, ok, err)
	}
	if got.Hash() != All(t, j)[1].Hash() {
		t.Fatal("found and read records differ")
	}
	for _, key := range [][3]string{{"unit", "put", Record(9).CommandID}, {"unit", "removed", want.CommandID}, {"domain", "put", want.CommandID}} {
		if _, ok, err := j.Find(t.Context(), key[0], key[1], key[2]); ok || err != nil {
			t.Fatalf("%v: found %v, %v", key, ok, err)
		}
	}
	_, _, err = j.Find(t.Context(), "unit", "*", want.CommandID)
	wantErr(t, err, journal.ErrInvalid)
}

// testUnchanged: what users write comes back byte by byte, in memory as from the wire.
func testUnchanged(t *testing.T, j journal.Journal) {
	texts := []string{
		"", " ", "  both  ", "杭州 → 北京", "100% sure", "%0A", "a\r\nNats-Rollup: all", "tab\tnul\x00", "\xff\xfe", "\u202egnp.exe",
		"trailing\u00a0", "\u2028", "\ufffd", "quote \" back \\ colon: x",
	}
	var c journal.Cursor
	for i, text := range texts {
		rec := Record(i)
		rec.Actor, rec.Reason, rec.Prev = text, texts[len(texts)-1-i], c.Hash
		rec.Time = time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.FixedZone("x", 3600))
		rec.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		rec.Data = []byte("\x00\xff not even JSON \r\n")
		stored, err := j.Append(t.Context(), c.Seq, rec)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		c = journal.Cursor{Seq: stored.Seq, Hash: stored.Hash()}
	}
	for i, rec := range All(t, j) {
		if rec.Actor != texts[i] || rec.Reason != texts[len(texts)-1-i] || string(rec.Data) != "\x00\xff not even JSON \r\n" {
			t.Errorf("record %d came back as %q, %q, %q", i, rec.Actor, rec.Reason, rec.Data)
		}
		if want := time.Date(2026, 1, 2, 2, 4, 5, 123456789, time.UTC); rec.Time != want {
			t.Errorf("time came back as %v, want %v", rec.Time, want)
		}
	}
}
