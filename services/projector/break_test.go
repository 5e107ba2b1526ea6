package projector_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/projector"
)

// history makes a journal of real events on a real server; state is what they lead to.
func history(t *testing.T, n int) (js jetstream.JetStream, j *journal.Stream, state *events.State) {
	t.Helper()
	js = journaltest.StartServer(t).JetStream()
	j, err := journal.Create(t.Context(), js, "shop", journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	state = events.NewState()
	journaltest.Bulk(t, js, "shop", state, n)
	return js, j, state
}

func broken(t *testing.T, err error, log *bytes.Buffer, kind journal.Break, seq uint64) {
	t.Helper()
	b := journaltest.WantBreak(t, err, kind, seq)
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), fmt.Sprintf("sequence %d", b.Seq)) {
		t.Errorf("the log does not say so: %s", log)
	}
}

// A controller that starts refuses every kind of tampered history with its sequence; what came before stays readable.
func TestRefusesTamperedHistory(t *testing.T) {
	for name, tampering := range journaltest.Tamperings() {
		t.Run(name, func(t *testing.T) {
			js, j, _ := history(t, 8)
			journaltest.Rewrite(t, js, "shop", tampering.Change, tampering.Hole)
			var log bytes.Buffer
			p := projector.New(j, nil, false, slog.New(slog.NewTextHandler(&log, nil)))
			kind := journal.BreakHash
			if tampering.Hole > 0 {
				kind = journal.BreakGap
			}
			broken(t, p.Run(t.Context()), &log, kind, tampering.Breaks)
			if got, want := p.State().Seq, tampering.Breaks-1; got != want && tampering.Hole == 0 {
				t.Errorf("the last good state is of sequence %d, want %d", got, want)
			}
			if _, err := p.CatchUp(t.Context()); err == nil {
				t.Error("it claims to be at the head")
			}
		})
	}
}

// A controller that runs refuses what is written past the guards, and keeps its last good state.
func TestRefusesForgedEvent(t *testing.T) {
	for name, forge := range map[string]func(next *nats.Msg, s *events.State){
		"wrong predecessor": func(m *nats.Msg, _ *events.State) { m.Header.Set("Unitgate-Prev", strings.Repeat("b", 64)) },
		"unknown event":     func(m *nats.Msg, _ *events.State) { m.Header.Set("Unitgate-Type", "UnitExploded") },
		"no body":           func(m *nats.Msg, _ *events.State) { m.Data = nil },
	} {
		t.Run(name, func(t *testing.T) {
			js, j, s := history(t, 5)
			var log bytes.Buffer
			p := projector.New(j, nil, false, slog.New(slog.NewTextHandler(&log, nil)))
			done := make(chan error, 1)
			go func() { done <- p.Run(t.Context()) }()
			if _, err := p.Await(t.Context(), 5); err != nil {
				t.Fatal(err)
			}
			rec := journaltest.Record(6)
			rec.Prev, rec.Data = s.Chain, []byte(`{"id":"u1"}`)
			m := journaltest.Message("shop", rec)
			forge(m, s)
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err == nil || !strings.Contains(err.Error(), " 6") {
				t.Errorf("Run: %v, want sequence 6 named", err)
			}
			if got := p.State(); got.Hash() != s.Hash() {
				t.Error("the last good state is gone")
			}
			if !strings.Contains(log.String(), "level=ERROR") {
				t.Error("it stopped silently")
			}
		})
	}
}

// A snapshot that the journal contradicts is never shown as the current state: the break is named, with both hashes.
func TestSnapshotOfAnotherHistory(t *testing.T) {
	for name, c := range map[string]struct {
		kind journal.Break
		keep int // events of the journal; the snapshot is at 8
	}{
		"truncated": {journal.BreakTruncated, 5},
		"rewritten": {journal.BreakHash, 8},
		"longer":    {journal.BreakHash, 12},
	} {
		t.Run(name, func(t *testing.T) {
			_, j, s := history(t, c.keep)
			old := events.NewState()
			old.Namespace, old.Seq, old.Chain = "shop", 8, strings.Repeat("c", 64)
			snaps := &snapshots{at: journal.Cursor{Epoch: j.Epoch(), Seq: 8, Hash: old.Chain}, state: old.Encode()}
			var log bytes.Buffer
			p := projector.New(j, snaps, false, slog.New(slog.NewTextHandler(&log, nil)))
			done := make(chan error, 1)
			go func() { done <- p.Run(t.Context()) }()
			if got, err := p.CatchUp(t.Context()); err == nil {
				t.Errorf("it claims to be at the head, %d; the journal is at %d", got.Seq, s.Seq)
			}
			broken(t, <-done, &log, c.kind, 8)
			if p.State().Seq != 8 {
				t.Error("the last good state is not readable")
			}
		})
	}
}

// A journal that is created anew, or cut, under a running controller.
func TestRecreatedAndTruncated(t *testing.T) {
	for _, kind := range []journal.Break{journal.BreakEpoch, journal.BreakTruncated} {
		t.Run(string(kind), func(t *testing.T) {
			js, j, s := history(t, 6)
			var log bytes.Buffer
			p := projector.New(j, nil, false, slog.New(slog.NewTextHandler(&log, nil)))
			done := make(chan error, 1)
			go func() { done <- p.Run(t.Context()) }()
			if _, err := p.Await(t.Context(), 6); err != nil {
				t.Fatal(err)
			}
			if kind == journal.BreakEpoch {
				st, err := js.Stream(t.Context(), "UNITGATE_shop")
				if err != nil {
					t.Fatal(err)
				}
				cfg := st.CachedInfo().Config
				cfg.Metadata["unitgate-epoch"] = "another"
				journaltest.Recreate(t, js, cfg)
				journaltest.Bulk(t, js, "shop", events.NewState(), 9)
			} else {
				journaltest.Rewrite(t, js, "shop", func(all []*nats.Msg) []*nats.Msg { return all[:4] }, 0)
			}
			broken(t, <-done, &log, kind, 6)
			if p.State().Hash() != s.Hash() {
				t.Error("the last good state is gone")
			}
		})
	}
}

// office vouches as the test says.
type office struct {
	at    time.Time
	in    bool
	newer chan struct{}
}

func (o *office) Vouched() (time.Time, bool, <-chan struct{}) { return o.at, o.in, o.newer }

// Sign does what the test does not look at.
func (o *office) Sign(b events.Beacon) events.Beacon { b.Sign = []byte("signed"); return b }

// The beacon of the process in office tells head, hash and the age of the proof, at once after an event.
func TestBeacon(t *testing.T) {
	js, j, s := history(t, 3)
	p := projector.New(j, nil, false, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- p.Run(ctx) }()
	nc := js.Conn()
	sub, err := nc.SubscribeSync("unitgate.beacon.shop")
	if err != nil {
		t.Fatal(err)
	}
	o := &office{at: time.Now().Add(-10 * time.Second), in: true}
	go func() { p.Beacon(ctx, nc, o); done <- nil }()
	for want := uint64(3); want <= 5; want++ {
		var b events.Beacon
		for b.Seq < want {
			m, err := sub.NextMsg(10 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(m.Data, &b); err != nil {
				t.Fatal(err)
			}
		}
		if b.Hash != s.Chain || b.Epoch != j.Epoch() || b.Namespace != "shop" || time.Duration(b.Age) < 10*time.Second || b.Seq != want || string(b.Sign) != "signed" {
			t.Errorf("%+v", b)
		}
		journaltest.Bulk(t, js, "shop", s, 1)
	}
	stop()
	<-done
	<-done
	out := projector.New(j, nil, false, slog.New(slog.DiscardHandler))
	ctx, stop = context.WithCancel(t.Context())
	defer stop()
	go func() { done <- out.Run(ctx) }()
	go func() { out.Beacon(ctx, nc, &office{}); done <- nil }()
	if _, err := out.Await(ctx, s.Seq); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.NextMsg(200 * time.Millisecond); err == nil {
		t.Errorf("out of office it says %s", m.Data)
	}
	stop()
	<-done
	<-done
}
