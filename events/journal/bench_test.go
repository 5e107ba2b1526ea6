package journal_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

func newStream(t testing.TB, js jetstream.JetStream) *journal.Stream {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond) // the server may still be removing a deleted one's files
	defer again.Stop()
	for range 250 {
		j, err := journal.Create(t.Context(), js, "shop", journal.Options{})
		if err == nil {
			return j
		}
		var api *jetstream.APIError
		if !errors.As(err, &api) || api.ErrorCode != 10049 { // "error creating store for stream"
			t.Fatal(err)
		}
		<-again.C
	}
	t.Fatal("the stream cannot be made anew")
	return nil
}

// BenchmarkAppend measures one writer that waits for each acknowledgement, on one embedded replica.
func BenchmarkAppend(b *testing.B) {
	j := newStream(b, journaltest.StartServer(b).JetStream())
	var c journal.Cursor
	for n := 0; b.Loop(); n++ {
		c = journaltest.Fill(b, j, c, n, n)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkRead replays 100,000 small events per iteration.
func BenchmarkRead(b *testing.B) {
	const events100k = 100_000
	js := journaltest.StartServer(b).JetStream()
	j := newStream(b, js)
	fillAsync(b, js, j, events100k)
	b.ReportAllocs()
	spent := cpu(b)
	for b.Loop() {
		n := 0
		if err := j.Read(b.Context(), 1, func(events.Record) error { n++; return nil }); err != nil || n != events100k {
			b.Fatalf("read %d records: %v", n, err)
		}
	}
	b.ReportMetric(events100k*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64((cpu(b)-spent).Nanoseconds())/(events100k*float64(b.N)), "cpu-ns/event")
}

// BenchmarkReadAsking replays as many as BenchmarkRead, asked for page by page.
func BenchmarkReadAsking(b *testing.B) {
	const events100k = 100_000
	srv := journaltest.StartServer(b)
	js := srv.JetStream()
	j := newStream(b, js)
	fillAsync(b, js, j, events100k)
	journaltest.Answer(b.Context(), b, srv.Connect(), j)
	asking := journaltest.OpenAsking(b, js)
	b.ReportAllocs()
	spent := cpu(b)
	for b.Loop() {
		n := 0
		if err := asking.Read(b.Context(), 1, func(events.Record) error { n++; return nil }); err != nil || n != events100k {
			b.Fatalf("read %d records: %v", n, err)
		}
	}
	b.ReportMetric(events100k*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64((cpu(b)-spent).Nanoseconds())/(events100k*float64(b.N)), "cpu-ns/event")
}

// BenchmarkFollowMemory shows what checking the chain alone costs.
func BenchmarkFollowMemory(b *testing.B) {
	j := journal.NewMemory("shop")
	journaltest.Fill(b, j, journal.Cursor{}, 1, 10_000)
	for b.Loop() {
		if err := j.Read(b.Context(), 1, func(events.Record) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(10_000*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// fillAsync writes n records without waiting for each, with the wire format but past the journal's own guards, which
// would need a round trip each.
func fillAsync(t testing.TB, js jetstream.JetStream, j *journal.Stream, n int) {
	t.Helper()
	prev := ""
	for i := 1; i <= n; i++ {
		rec := journaltest.Record(i)
		rec.Seq, rec.Prev = uint64(i), prev
		prev = rec.Hash()
		if _, err := js.PublishMsgAsync(journal.Encode(j.Namespace(), rec), jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	if head, err := j.Head(t.Context()); err != nil || head != uint64(n) {
		t.Fatalf("head is %d, %v; want %d", head, err, n)
	}
}
