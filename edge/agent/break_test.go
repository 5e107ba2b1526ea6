package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// joins appends n joins of other edges.
func (l *lab) joins(from, n int) *events.State {
	return l.history(func(w *world) {
		for i := range n {
			w.join(fmt.Sprintf("bj-%d", from+i), "unbj", "ws-bj", fmt.Sprintf("127.0.0.1:%d", 9000+from+i))
		}
	})
}

// stream is the journal's stream, with full rights.
func (l *lab) stream() (jetstream.JetStream, jetstream.StreamConfig) {
	l.t.Helper()
	js, err := jetstream.New(l.nc)
	if err != nil {
		l.t.Fatal(err)
	}
	st, err := js.Stream(l.t.Context(), "UNITGATE_demo")
	if err != nil {
		l.t.Fatal(err)
	}
	return js, st.CachedInfo().Config
}

// refuses waits until the edge does not follow any more, and checks that log, status and reports name the sequence while
// the edge serves by the last good state.
func (e *edge) refuses(good uint64, names ...string) {
	e.l.t.Helper()
	e.l.logged("cannot follow the journal any more")
	r := e.l.report("the last good state", at(good))
	var st Status
	e.ask("status", struct{}{}, &st)
	for _, name := range names {
		if !strings.Contains(st.Broken, name) {
			e.l.t.Errorf("broken: %q does not name %q", st.Broken, name)
		}
	}
	if st.Applied != good || st.Installed != good || !st.Joined || r.StateHash != st.StateHash {
		e.l.t.Errorf("%+v", st)
	}
}

// "A forged, re-ordered, doubled or deleted event (written past the guards by a test with full rights) is refused by …
// edge …, with the sequence": while the edge was away, history was changed beyond its stored state.
func TestTamperedHistory(t *testing.T) {
	for name, tampering := range journaltest.Tamperings() {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.admit()
			path := t.TempDir()
			e := l.start(path)
			l.report("the join", at(e.view("the join", admitting).Seq))
			e.stop()
			l.joins(1, 6)
			js, _ := l.stream()
			journaltest.Rewrite(t, js, "demo", tampering.Change, tampering.Hole)
			e = l.start(path)
			if tampering.Hole > 0 { // only a stream that lost its guarantee can have one: that is named before anything is read
				l.logged("it allows deletes")
				if v := e.view("the stored state", admitting); v.Seq != 2 {
					t.Errorf("serves by %d", v.Seq)
				}
				e.stop()
				return
			}
			e.refuses(2, fmt.Sprintf("sequence %d", tampering.Breaks)) // nothing newer is installed before the head is reached
			e.stop()

			fresh := l.start(t.TempDir()) // an edge that has never run has nothing to serve by
			l.logged("cannot follow the journal any more")
			if fresh.r.Ready() {
				t.Error("it serves by a state that nobody vouches for")
			}
			fresh.stop()
		})
	}
}

// A forged event under a running edge.
func TestForgedEvent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	seq := e.view("the join", admitting).Seq
	l.report("the join", at(seq))
	rec := journaltest.Record(int(seq) + 1)
	rec.Prev = strings.Repeat("b", 64)
	js, _ := l.stream()
	if _, err := js.PublishMsg(t.Context(), journaltest.Message("demo", rec)); err != nil {
		t.Fatal(err)
	}
	e.refuses(seq, fmt.Sprintf("sequence %d", seq+1), rec.Prev, l.w.state.Chain)
	e.stop()
}

// A journal that is shorter than the stored state, or another one at its sequence: the edge names it and serves on.
func TestStoredStateIsBeyondTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]*nats.Msg) []*nats.Msg
		kind   string
	}{
		"truncated": {func(all []*nats.Msg) []*nats.Msg { return all[:4] }, "it ends at 4"},
		"rewritten": {func(all []*nats.Msg) []*nats.Msg {
			all[7].Header.Set("Unitgate-Actor", "mallory")
			return all
		}, "hash chain"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.admit()
			path := t.TempDir()
			e := l.start(path)
			e.view("the join", admitting)
			s := l.joins(1, 6)
			l.report("the news", at(s.Seq))
			e.stop()
			js, _ := l.stream()
			journaltest.Rewrite(t, js, "demo", c.change, 0)
			e = l.start(path)
			e.refuses(s.Seq, "sequence 8", c.kind)
			e.stop()
		})
	}
}

// A journal that is created anew, or gets shorter, under a running edge.
func TestJournalChangesUnderTheEdge(t *testing.T) {
	for _, kind := range []journal.Break{journal.BreakEpoch, journal.BreakTruncated} {
		t.Run(string(kind), func(t *testing.T) {
			journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
				l := newLabOn(t, srv)
				l.admit()
				e := l.start(t.TempDir())
				e.view("the join", admitting)
				s := l.joins(1, 3)
				l.report("the news", at(s.Seq))
				js, cfg := l.stream()
				want := []string{fmt.Sprintf("sequence %d", s.Seq)}
				if kind == journal.BreakEpoch {
					want = append(want, l.journal.Epoch(), "another-epoch")
					cfg.Metadata["unitgate-epoch"] = "another-epoch"
					journaltest.Recreate(t, js, cfg)
				} else {
					want = append(want, "it ends at 3")
					journaltest.Rewrite(t, js, "demo", func(all []*nats.Msg) []*nats.Msg { return all[:3] }, 0)
				}
				e.refuses(s.Seq, want...)
				e.stop()
			})
		})
	}
}

// A snapshot that the journal contradicts is not served by an edge that has nothing else.
func TestContradictedSnapshot(t *testing.T) {
	l := newLab(t)
	l.admit()
	s := l.joins(1, 3)
	js, _ := l.stream()
	snaps, err := journal.CreateSnapshots(t.Context(), js, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Chain = strings.Repeat("c", 64)
	if err := snaps.Put(t.Context(), "demo", journal.Cursor{Epoch: l.journal.Epoch(), Seq: s.Seq, Hash: s.Chain}, s.Encode()); err != nil {
		t.Fatal(err)
	}
	e := l.start(t.TempDir())
	l.logged("cannot follow the journal any more")
	select {
	case v := <-e.relay.installs:
		t.Errorf("installed %d", v.Seq)
	default:
	}
	e.stop()
}
