package journal_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// TestForged: records written past the guards, by someone who may write to the stream, are refused with their sequence.
func TestForged(t *testing.T) {
	for name, forge := range map[string]struct {
		kind  journal.Break
		write func(m *nats.Msg, third events.Record)
	}{
		"wrong prev":    {journal.BreakHash, func(m *nats.Msg, _ events.Record) { m.Header.Set("Unitgate-Prev", strings.Repeat("b", 64)) }},
		"no prev":       {journal.BreakMalformed, func(m *nats.Msg, _ events.Record) { m.Header.Del("Unitgate-Prev") }},
		"no type":       {journal.BreakMalformed, func(m *nats.Msg, _ events.Record) { m.Header.Del("Unitgate-Type") }},
		"no headers":    {journal.BreakMalformed, func(m *nats.Msg, _ events.Record) { m.Header = nil }},
		"two actors":    {journal.BreakMalformed, func(m *nats.Msg, _ events.Record) { m.Header.Add("Unitgate-Actor", "root") }},
		"bad time":      {journal.BreakMalformed, func(m *nats.Msg, _ events.Record) { m.Header.Set("Unitgate-Time", "yesterday") }},
		"bad schema":    {journal.BreakMalformed, func(m *nats.Msg, _ events.Record) { m.Header.Set("Unitgate-Schema", "one") }},
		"raw actor":     {journal.BreakMalformed, func(m *nats.Msg, _ events.Record) { m.Header.Set("Unitgate-Actor", "100%") }},
		"short subject": {journal.BreakMalformed, func(m *nats.Msg, _ events.Record) { m.Subject = "unitgate.evt.shop.unit" }},
		"long subject":  {journal.BreakMalformed, func(m *nats.Msg, _ events.Record) { m.Subject += ".more" }},
		"server's own": {journal.BreakHash, func(m *nats.Msg, _ events.Record) {
			m.Header.Set("Nats-Sequence", "3")
			m.Header.Set("Unitgate-Prev", strings.Repeat("b", 64))
		}},
		"doubled": {journal.BreakHash, func(m *nats.Msg, third events.Record) { *m = *journal.Encode("shop", third) }},
	} {
		eachWay(t, name, func(t *testing.T, way way) {
			srv := journaltest.StartServer(t)
			js := srv.JetStream()
			writer := newStream(t, js)
			j := way(t, srv, writer)
			end := journaltest.Fill(t, writer, journal.Cursor{}, 1, 3)
			live := journaltest.Follow(t, j, end)
			rec := journaltest.Record(4)
			rec.Prev = end.Hash
			m := journal.Encode("shop", rec)
			forge.write(m, journaltest.All(t, writer)[2])
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			n := 0
			err := j.Read(t.Context(), 1, func(events.Record) error { n++; return nil })
			journaltest.WantBreak(t, err, forge.kind, 4)
			journaltest.WantBreak(t, live.End(), forge.kind, 4)
			if n != 3 {
				t.Errorf("%d records came before the break, want 3", n)
			}
		})
	}
}

// imitate replaces the journal by a stream of the same epoch that allows deletes, with the first n of records.
func imitate(t *testing.T, js jetstream.JetStream, j *journal.Stream, records []events.Record) jetstream.Stream {
	t.Helper()
	st := foreign(t, js, jetstream.StreamConfig{
		Name: "UNITGATE_shop", Subjects: []string{"unitgate.evt.shop.>"},
		Metadata: map[string]string{"unitgate-epoch": j.Epoch(), "unitgate-schema": "1"},
	})
	for _, rec := range records {
		if _, err := js.PublishMsg(t.Context(), journal.Encode("shop", rec)); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

func TestDeletedRecord(t *testing.T) { eachWay(t, "", testDeletedRecord) }

func testDeletedRecord(t *testing.T, way way) {
	srv := journaltest.StartServer(t)
	js := srv.JetStream()
	writer := newStream(t, js)
	journaltest.Fill(t, writer, journal.Cursor{}, 1, 6)
	records := journaltest.All(t, writer)
	j := way(t, srv, writer)
	st := imitate(t, js, writer, records)
	if err := st.DeleteMsg(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	ignore := func(events.Record) error { return nil }
	journaltest.WantBreak(t, j.Read(t.Context(), 1, ignore), journal.BreakGap, 5)
	journaltest.WantBreak(t, j.Follow(t.Context(), journal.Cursor{}, ignore), journal.BreakGap, 5)
	at4 := journal.Cursor{Epoch: j.Epoch(), Seq: 4, Hash: records[3].Hash()}
	journaltest.WantBreak(t, j.Follow(t.Context(), at4, ignore), journal.BreakGap, 5)
	journaltest.WantBreak(t, j.Read(t.Context(), 5, ignore), journal.BreakGap, 4)

	if err := st.Purge(t.Context(), jetstream.WithPurgeSequence(3)); err != nil {
		t.Fatal(err)
	}
	journaltest.WantBreak(t, j.Read(t.Context(), 1, ignore), journal.BreakGap, 3)
}

func TestRecreatedUnderFollower(t *testing.T) {
	eachWayInBubble(t, func(t *testing.T, srv *journaltest.Server, way way) {
		js := srv.JetStream()
		writer := newStream(t, js)
		j := way(t, srv, writer)
		journaltest.Fill(t, writer, journal.Cursor{}, 1, 5)
		f := journaltest.Follow(t, j, journal.Cursor{})
		f.Until(1, 5)
		if err := js.DeleteStream(t.Context(), "UNITGATE_shop"); err != nil {
			t.Fatal(err)
		}
		again := newStream(t, js)
		journaltest.Fill(t, again, journal.Cursor{}, 1, 9) // longer than before: the sequences alone look fine
		start := time.Now()
		b := journaltest.WantBreak(t, f.End(), journal.BreakEpoch, 5)
		if b.Want != j.Epoch() || b.Got != again.Epoch() {
			t.Errorf("break: %v", b)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it was noticed after %v", took)
		}
		if _, err := j.Head(t.Context()); err == nil {
			t.Error("the old handle takes the new journal for its own")
		}
	})
}

func TestDeletedUnderFollower(t *testing.T) {
	eachWayInBubble(t, func(t *testing.T, srv *journaltest.Server, way way) {
		js := srv.JetStream()
		writer := newStream(t, js)
		j := way(t, srv, writer)
		end := journaltest.Fill(t, writer, journal.Cursor{}, 1, 5)
		f := journaltest.Follow(t, j, end)
		synctest.Wait()
		if err := js.DeleteStream(t.Context(), "UNITGATE_shop"); err != nil {
			t.Fatal(err)
		}
		journaltest.WantBreak(t, f.End(), journal.BreakGone, 5)
	})
}

func TestTruncatedUnderFollower(t *testing.T) {
	eachWayInBubble(t, func(t *testing.T, srv *journaltest.Server, way way) {
		js := srv.JetStream()
		writer := newStream(t, js)
		j := way(t, srv, writer)
		end := journaltest.Fill(t, writer, journal.Cursor{}, 1, 5)
		f := journaltest.Follow(t, j, end)
		synctest.Wait()
		imitate(t, js, writer, journaltest.All(t, writer)[:3])
		b := journaltest.WantBreak(t, f.End(), journal.BreakTruncated, 5)
		if b.Got != "3" {
			t.Errorf("break: %v", b)
		}
	})
}

func TestServerRestartUnderFollower(t *testing.T) {
	eachWayInBubble(t, func(t *testing.T, srv *journaltest.Server, way way) {
		writer := newStream(t, srv.JetStream())
		j := way(t, srv, writer)
		c := journaltest.Fill(t, writer, journal.Cursor{}, 1, 10)
		f := journaltest.Follow(t, j, journal.Cursor{})
		f.Until(1, 10)
		for n := uint64(1); n <= 5; n++ {
			srv.Stop()
			srv.Start()
			start := time.Now()
			again, err := journal.Open(t.Context(), srv.JetStream(), "shop")
			if err != nil {
				t.Fatal(err)
			}
			if again.Epoch() != j.Epoch() {
				t.Fatalf("epoch is %s after a restart, was %s", again.Epoch(), j.Epoch())
			}
			c = journaltest.Fill(t, again, c, int(10*n+1), int(10*n+10))
			f.Until(10*n+1, 10*n+10)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("restart %d: it took %v after the server was back", n, took)
			}
		}
	})
}

// TestPartition: a day without a link; then everything comes, once and in order.
func TestPartition(t *testing.T) {
	eachWayInBubble(t, func(t *testing.T, srv *journaltest.Server, way way) {
		writer := newStream(t, srv.JetStream(srv.Uncut()))
		reader := way(t, srv, writer, nats.ReconnectWait(2*time.Second))
		c := journaltest.Fill(t, writer, journal.Cursor{}, 1, 5)
		f := journaltest.Follow(t, reader, journal.Cursor{})
		f.Until(1, 5)
		srv.Cut()
		c = journaltest.Fill(t, writer, c, 6, 40)
		time.Sleep(24 * time.Hour)
		srv.Heal()
		start := time.Now()
		f.Until(6, 40)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %v after the link was back", took)
		}
		journaltest.Fill(t, writer, c, 41, 42)
		f.Until(41, 42)
	})
}

// TestSlowCallback: a callback that takes its time is no trouble of the consumer, and nothing is delivered twice.
func TestSlowCallback(t *testing.T) {
	eachWayInBubble(t, func(t *testing.T, srv *journaltest.Server, way way) {
		writer := newStream(t, srv.JetStream())
		j := way(t, srv, writer)
		journaltest.Fill(t, writer, journal.Cursor{}, 1, 20)
		want := uint64(1)
		err := j.Read(t.Context(), 1, func(rec events.Record) error {
			if rec.Seq != want {
				t.Errorf("sequence %d, want %d", rec.Seq, want)
			}
			want++
			time.Sleep(time.Minute)
			return nil
		})
		if err != nil || want != 21 {
			t.Errorf("read up to %d: %v", want-1, err)
		}
	})
}

// TestConsumersAreDropped: what a following made on the server is gone when it ends.
func TestConsumersAreDropped(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		js := srv.JetStream()
		j := newStream(t, js)
		end := journaltest.Fill(t, j, journal.Cursor{}, 1, 3)
		for range 5 {
			journaltest.All(t, j)
		}
		f := journaltest.Follow(t, j, end)
		synctest.Wait()
		if n := consumers(t, js); n != 1 {
			t.Errorf("%d consumers while one follows", n)
		}
		if err := f.Stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		if n := consumers(t, js); n != 0 {
			t.Errorf("%d consumers are left", n)
		}
	})
}

func consumers(t *testing.T, js jetstream.JetStream) int {
	t.Helper()
	st, err := js.Stream(t.Context(), "UNITGATE_shop")
	if err != nil {
		t.Fatal(err)
	}
	return st.CachedInfo().State.Consumers
}

// TestClosedConnection: a connection that its owner closed never comes back, so following ends and says so.
func TestClosedConnection(t *testing.T) { eachWay(t, "", testClosedConnection) }

func testClosedConnection(t *testing.T, way way) {
	srv := journaltest.StartServer(t)
	writer := newStream(t, srv.JetStream())
	j := way(t, srv, writer)
	end := journaltest.Fill(t, writer, journal.Cursor{}, 1, 1)
	before := journal.Cursor{}
	f := journaltest.Follow(t, j, before)
	f.Until(1, 1)
	j.Conn().Close()
	if err := f.End(); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Fatalf("following ended with %v", err)
	}
	if err := journaltest.Follow(t, j, end).End(); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Fatalf("following on a closed connection ended with %v", err)
	}
}

// TestLargeEvents: many events of the largest size pass the bounded buffer.
func TestLargeEvents(t *testing.T) { eachWay(t, "", testLargeEvents) }

func testLargeEvents(t *testing.T, way way) {
	srv := journaltest.StartServer(t)
	writer := newStream(t, srv.JetStream())
	j := way(t, srv, writer)
	var c journal.Cursor
	const n = 24 // 12 MiB: more than one pull may bring
	for i := range n {
		rec := journaltest.Record(i)
		rec.Prev, rec.Data = c.Hash, make([]byte, events.MaxEventSize)
		stored, err := writer.Append(t.Context(), c.Seq, rec)
		if err != nil {
			t.Fatal(err)
		}
		c = journal.Cursor{Seq: stored.Seq, Hash: stored.Hash()}
	}
	if got := len(journaltest.All(t, j)); got != n {
		t.Fatalf("read %d, want %d", got, n)
	}
}
