package journal_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// A consumer that brings nothing, though it sends heartbeats: what was noticed is fetched by its sequence, long before the
// look after the idle time would find out, and what the consumer brings later comes once.
func TestNoticedRecordsAreFetched(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		js := srv.JetStream()
		j := newStream(t, js)
		c := journaltest.Fill(t, j, journal.Cursor{}, 1, 5)
		f := journaltest.Follow(t, j, journal.Cursor{})
		f.Until(1, 5)
		pauseConsumers(t, js, 700*time.Millisecond)
		c = journaltest.Fill(t, j, c, 6, 8)
		began := time.Now()
		j.Notice(8)
		f.Until(6, 8)
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		time.Sleep(time.Second) // virtual: the consumer goes on, with what was fetched
		journaltest.Fill(t, j, c, 9, 10)
		f.Until(9, 10)
	})
}

// pauseConsumers makes the stream's consumers bring nothing for a while, though they send heartbeats.
func pauseConsumers(t *testing.T, js jetstream.JetStream, d time.Duration) {
	t.Helper()
	st, err := js.Stream(t.Context(), "UNITGATE_shop")
	if err != nil {
		t.Fatal(err)
	}
	for name := range st.ConsumerNames(t.Context()).Name() {
		if _, err := st.PauseConsumer(t.Context(), name, time.Now().Add(d)); err != nil {
			t.Fatal(err)
		}
	}
}

// Wrong numbers, before a true one and together with it, do not keep what is missing from being fetched.
func TestWrongNoticesDisarmNothing(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		js := srv.JetStream()
		j := newStream(t, js)
		c := journaltest.Fill(t, j, journal.Cursor{}, 1, 5)
		f := journaltest.Follow(t, j, journal.Cursor{})
		f.Until(1, 5)
		for n := 6; n < 12; n += 2 {
			j.Notice(1 << 60)
			time.Sleep(time.Second) // virtual: it was looked for, and is not there
			pauseConsumers(t, js, 700*time.Millisecond)
			c = journaltest.Fill(t, j, c, n, n+1)
			began := time.Now()
			j.Notice(uint64(n + 1))
			j.Notice(1 << 50)
			f.Until(uint64(n), uint64(n+1))
			if took := time.Since(began); took > 500*time.Millisecond {
				t.Errorf("records %d and %d: it took %v", n, n+1, took)
			}
			time.Sleep(time.Second)
		}
	})
}

// A number that nobody has reached changes nothing.
func TestWrongNotice(t *testing.T) {
	eachWayInBubble(t, func(t *testing.T, srv *journaltest.Server, way way) {
		writer := newStream(t, srv.JetStream())
		j := way(t, srv, writer)
		c := journaltest.Fill(t, writer, journal.Cursor{}, 1, 2)
		f := journaltest.Follow(t, j, journal.Cursor{})
		j.Notice(1 << 60)
		f.Until(1, 2)
		time.Sleep(time.Minute)
		journaltest.Fill(t, writer, c, 3, 4)
		f.Until(3, 4)
	})
}

// What is fetched is checked like everything else.
func TestFetchedForgery(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		js := srv.JetStream()
		j := newStream(t, js)
		journaltest.Fill(t, j, journal.Cursor{}, 1, 2)
		f := journaltest.Follow(t, j, journal.Cursor{})
		f.Until(1, 2)
		forged := journaltest.Message("shop", journaltest.Record(3)) // it continues nothing
		if _, err := js.PublishMsg(t.Context(), forged); err != nil {
			t.Fatal(err)
		}
		j.Notice(3)
		journaltest.WantBreak(t, f.End(), journal.BreakHash, 3)
	})
}

// Every kind of tampering is named with its sequence by a reader from the start.
func TestTamperedHistory(t *testing.T) {
	for name, tampering := range journaltest.Tamperings() {
		eachWay(t, name, func(t *testing.T, way way) {
			srv := journaltest.StartServer(t)
			js := srv.JetStream()
			writer := newStream(t, js)
			j := way(t, srv, writer)
			journaltest.Fill(t, writer, journal.Cursor{}, 1, 8)
			journaltest.Rewrite(t, js, "shop", tampering.Change, tampering.Hole)
			kind := journal.BreakHash
			if tampering.Hole > 0 {
				kind = journal.BreakGap
			}
			journaltest.WantBreak(t, j.Read(t.Context(), 1, func(events.Record) error { return nil }), kind, tampering.Breaks)
		})
	}
}

// Check says of a cursor what following from it would.
func TestCheck(t *testing.T) {
	js := journaltest.StartServer(t).JetStream()
	for name, j := range map[string]journal.Journal{"memory": journal.NewMemory("shop"), "stream": newStream(t, js)} {
		end := journaltest.Fill(t, j, journal.Cursor{}, 1, 4)
		third := journal.Cursor{Epoch: j.Epoch(), Seq: 3, Hash: end.Hash}
		for _, good := range []journal.Cursor{{}, end, {Seq: end.Seq, Hash: end.Hash}} {
			if err := j.Check(t.Context(), good); err != nil {
				t.Errorf("%s: %+v: %v", name, good, err)
			}
		}
		journaltest.WantBreak(t, j.Check(t.Context(), third), journal.BreakHash, 3)
		beyond, other := end, end
		beyond.Seq, other.Epoch = 9, "another"
		journaltest.WantBreak(t, j.Check(t.Context(), beyond), journal.BreakTruncated, 9)
		journaltest.WantBreak(t, j.Check(t.Context(), other), journal.BreakEpoch, 4)
	}
	j := newStream(t, js)
	end := journal.Cursor{Epoch: j.Epoch(), Seq: 4, Hash: journaltest.All(t, j)[3].Hash()}
	journaltest.Rewrite(t, js, "shop", func(all []*nats.Msg) []*nats.Msg { return all }, 4)
	if err := j.Check(t.Context(), end); err == nil {
		t.Error("a deleted record is recognized")
	}
	if err := js.DeleteStream(t.Context(), "UNITGATE_shop"); err != nil {
		t.Fatal(err)
	}
	journaltest.WantBreak(t, j.Check(t.Context(), end), journal.BreakGone, 4)
}
