package reader_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fill writes a namespace of n events, a minute apart, and returns the states after each; states[0] is the empty one.
func fill(t *testing.T, j journal.Journal, n int) []*events.State {
	t.Helper()
	states := []*events.State{events.NewState()}
	for i := 1; i <= n; i++ {
		s := states[i-1]
		var c events.Command = events.PutUnit{Unit: events.Unit{ID: fmt.Sprintf("u%d", i)}}
		if i == 1 {
			c = events.CreateNamespace{}
		}
		env := events.Envelope{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Actor: "ops", Command: c}
		at := noon.Add(time.Duration(i) * time.Minute)
		if i == 4 {
			at = at.Add(-150 * time.Second) // decided by a controller whose clock is behind
		}
		e, err := events.Decide(s, "shop", env, at)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := events.NewRecord(s, env, e, at)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := j.Append(t.Context(), s.Seq, rec)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = events.Evolve(s, stored); err != nil {
			t.Fatal(err)
		}
		states = append(states, s)
	}
	return states
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func minutes(n float64) reader.Point {
	return reader.Point{Time: noon.Add(time.Duration(n * float64(time.Minute)))}
}

// TestAt: any point gives the state that was there, with and without snapshots, good or bad.
func TestAt(t *testing.T) {
	j := journal.NewMemory("shop")
	states := fill(t, j, 6)
	snapshot := func(at journal.Cursor, state []byte) journal.Snapshots {
		s := journal.NewMemorySnapshots()
		if err := s.Put(t.Context(), "shop", at, state); err != nil {
			t.Fatal(err)
		}
		return s
	}
	four := journal.Cursor{Epoch: j.Epoch(), Seq: 4, Hash: states[4].Chain}
	for name, snaps := range map[string]journal.Snapshots{
		"none":              nil,
		"empty":             journal.NewMemorySnapshots(),
		"good":              snapshot(four, states[4].Encode()),
		"of another epoch":  snapshot(journal.Cursor{Epoch: "00000000-0000-4000-8000-000000000000", Seq: 4, Hash: four.Hash}, states[4].Encode()),
		"of another state":  snapshot(four, states[3].Encode()),
		"not even a state":  snapshot(four, []byte("{")),
		"of a later moment": snapshot(journal.Cursor{Epoch: j.Epoch(), Seq: 6, Hash: states[6].Chain}, states[6].Encode()),
	} {
		t.Run(name, func(t *testing.T) {
			r := reader.New(j, snaps, quiet())
			for _, c := range []struct {
				at   reader.Point
				want int
			}{
				{reader.Point{}, 6}, {reader.Point{Seq: 1}, 1}, {reader.Point{Seq: 3}, 3}, {reader.Point{Seq: 4}, 4}, {reader.Point{Seq: 6}, 6},
				{minutes(1), 1}, {minutes(2.9), 2}, {minutes(3), 4}, {minutes(4.5), 4}, {minutes(5), 5}, {minutes(100), 6},
			} {
				s, err := r.At(t.Context(), c.at)
				if err != nil {
					t.Fatalf("%v: %v", c.at, err)
				}
				if s.Seq != uint64(c.want) || s.Hash() != states[c.want].Hash() {
					t.Errorf("%v: state at %d, want %d", c.at, s.Seq, c.want)
				}
			}
		})
	}
}

func TestNotInHistory(t *testing.T) {
	j := journal.NewMemory("shop")
	r := reader.New(j, nil, quiet())
	if _, err := r.State(t.Context()); !errors.Is(err, events.ErrUnknownNamespace) {
		t.Errorf("an empty journal: %v", err)
	}
	fill(t, j, 3)
	for at, want := range map[reader.Point]*events.Error{
		{Seq: 4}:                          reader.ErrBeyondHead,
		{Time: time.Now().Add(time.Hour)}: reader.ErrBeyondHead,
		minutes(0.5):                      reader.ErrBeforeBeginning,
	} {
		if _, err := r.At(t.Context(), at); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %s", at, err, want.Code)
		}
	}
	for _, bad := range []string{"", "0", "-1", "1.5", "yesterday", "2026-03-01", "0001-01-01T00:00:00Z"} {
		if p, err := reader.ParsePoint(bad); !errors.Is(err, reader.ErrBadPoint) {
			t.Errorf("%q is %v, %v", bad, p, err)
		}
	}
	for _, good := range []string{"1", "42", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.5+08:00"} {
		if p, err := reader.ParsePoint(good); err != nil || p.String() != good {
			t.Errorf("%q is %v, %v", good, p, err)
		}
	}
}

func TestWhen(t *testing.T) {
	j := journal.NewMemory("shop")
	fill(t, j, 5)
	var steps []uint64
	r := reader.New(j, nil, quiet())
	r.Progress = func(done, total uint64) { steps = append(steps, done, total) }
	s, err := r.When(t.Context(), func(s *events.State) bool { return len(s.Units) == 2 })
	if err != nil || s.Seq != 3 {
		t.Fatalf("at %d, %v", s.Seq, err)
	}
	if s, err = r.When(t.Context(), func(*events.State) bool { return false }); err != nil || s.Seq != 5 {
		t.Fatalf("never: at %d, %v", s.Seq, err)
	}
	if n := len(steps); n < 4 || steps[n-2] != 5 || steps[n-1] != 5 {
		t.Errorf("progress %v", steps)
	}
}

// copied writes another journal with the records of j as edit leaves them, past all guards.
func copied(t *testing.T, edit func([]*nats.Msg) []*nats.Msg) *reader.Reader {
	t.Helper()
	from := journaltest.StartServer(t).JetStream()
	j, err := journal.Create(t.Context(), from, "shop", journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, j, 6)
	stream, err := from.Stream(t.Context(), "UNITGATE_shop")
	if err != nil {
		t.Fatal(err)
	}
	var msgs []*nats.Msg
	for seq := uint64(1); seq <= 6; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		c := &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}
		c.Header.Del(jetstream.ExpectedLastSeqHeader)
		c.Header.Del(jetstream.ExpectedLastSubjSeqHeader)
		msgs = append(msgs, c)
	}
	to := journaltest.StartServer(t).JetStream()
	if _, err := journal.Create(t.Context(), to, "shop", journal.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, m := range edit(msgs) {
		if _, err := to.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	r, err := reader.Open(t.Context(), to, "shop", quiet())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestVerifyForged: "a forged, re-ordered, doubled or deleted event is refused, each with the sequence", and both hashes.
func TestVerifyForged(t *testing.T) {
	for name, c := range map[string]struct {
		edit   func([]*nats.Msg) []*nats.Msg
		kind   string
		seq    uint64
		hashes bool
	}{
		"none":       {func(m []*nats.Msg) []*nats.Msg { return m }, "", 0, false},
		"forged":     {func(m []*nats.Msg) []*nats.Msg { m[2].Data = []byte(`{"id":"evil"}`); return m }, "hash", 4, true},
		"re-ordered": {func(m []*nats.Msg) []*nats.Msg { m[2], m[3] = m[3], m[2]; return m }, "hash", 3, true},
		"doubled":    {func(m []*nats.Msg) []*nats.Msg { return append(m[:3:3], m[2:]...) }, "hash", 4, true},
		"deleted":    {func(m []*nats.Msg) []*nats.Msg { return append(m[:3:3], m[4:]...) }, "hash", 4, true},
		"beginning":  {func(m []*nats.Msg) []*nats.Msg { return m[1:] }, "hash", 1, true},
		"malformed":  {func(m []*nats.Msg) []*nats.Msg { m[4].Header.Del("Unitgate-Type"); return m }, "malformed", 5, false},
		"unknown":    {func(m []*nats.Msg) []*nats.Msg { m[5].Header.Set("Unitgate-Type", "TeaMade"); return m }, "apply", 6, false},
		"no JSON":    {func(m []*nats.Msg) []*nats.Msg { m[5].Data = []byte("{"); return m }, "apply", 6, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := copied(t, c.edit)
			v, err := r.Verify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c.kind == "" {
				if !v.OK || v.Records != 6 || v.Head != 6 || len(v.Hash) != 64 || v.Break != nil {
					t.Errorf("%+v", v)
				}
				return
			}
			if v.OK || v.Break == nil || v.Break.Kind != c.kind || v.Break.Seq != c.seq || v.Records != c.seq-1 {
				t.Fatalf("%+v, %+v", v, v.Break)
			}
			if c.hashes && (v.Break.Want == v.Break.Got || len(v.Break.Want)+len(v.Break.Got) < 64) {
				t.Errorf("hashes %q and %q", v.Break.Want, v.Break.Got)
			}
			if _, err := r.State(t.Context()); !errors.Is(err, reader.ErrBroken) {
				t.Errorf("the state of it: %v", err)
			}
		})
	}
}

// TestVerifySnapshot: a snapshot that differs shows what the chain alone cannot: a rewritten end.
func TestVerifySnapshot(t *testing.T) {
	j := journal.NewMemory("shop")
	states := fill(t, j, 5)
	verify := func(at journal.Cursor, state []byte) reader.Verdict {
		snaps := journal.NewMemorySnapshots()
		if err := snaps.Put(t.Context(), "shop", at, state); err != nil {
			t.Fatal(err)
		}
		v, err := reader.New(j, snaps, quiet()).Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	at := func(seq uint64) journal.Cursor {
		return journal.Cursor{Epoch: j.Epoch(), Seq: seq, Hash: states[1].Chain}
	}
	other := states[4].Clone()
	other.Units = map[string]events.Unit{"evil": {ID: "evil"}}
	if v := verify(at(4), states[4].Encode()); !v.OK || v.Snapshot.State != "equal" || v.StateHash != states[5].Hash() {
		t.Errorf("equal: %+v", v)
	}
	if v := verify(at(4), other.Encode()); v.OK || v.Snapshot.State != "different" || v.Break.Seq != 4 || v.Break.Want == v.Break.Got {
		t.Errorf("different: %+v", v)
	}
	if v := verify(at(9), states[4].Encode()); v.OK || v.Break.Kind != "truncated" || v.Break.Seq != 5 {
		t.Errorf("ahead: %+v", v)
	}
	if v := verify(at(4), []byte("x")); !v.OK || v.Snapshot.State != "unreadable" {
		t.Errorf("unreadable: %+v", v)
	}
	if v := verify(journal.Cursor{Epoch: "another", Seq: 9, Hash: states[1].Chain}, []byte("x")); !v.OK || v.Snapshot.State != "other epoch" {
		t.Errorf("other epoch: %+v", v)
	}
}

func TestUnavailable(t *testing.T) {
	js := journaltest.StartServer(t).JetStream()
	if _, err := reader.Open(t.Context(), js, "shop", quiet()); !errors.Is(err, events.ErrUnknownNamespace) {
		t.Errorf("no journal: %v", err)
	}
	js.Conn().Close()
	if _, err := reader.Open(t.Context(), js, "shop", quiet()); !errors.Is(err, command.ErrUnavailable) {
		t.Errorf("no connection: %v", err)
	}
}
