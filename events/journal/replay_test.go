package journal_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// BenchmarkReplay reads 200,000 small events per iteration from an embedded server and folds them: what a controller, an
// edge or the CLI does that starts without a snapshot. Server, client and fold share the machine's cores; what all three
// spend on an event, other processes hardly change.
func BenchmarkReplay(b *testing.B) {
	const n = 200_000
	js := journaltest.StartServer(b).JetStream()
	j := newStream(b, js)
	want := events.NewState()
	journaltest.Bulk(b, js, "shop", want, n)
	b.ReportAllocs()
	best, spent := 0.0, cpu(b)
	for b.Loop() {
		before := b.Elapsed()
		s := events.NewState()
		if err := j.Read(b.Context(), 1, s.Apply); err != nil || s.Hash() != want.Hash() {
			b.Fatalf("replayed to %d: %v", s.Seq, err)
		}
		best = max(best, n/(b.Elapsed()-before).Seconds())
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(best, "events/s(best)")
	b.ReportMetric(float64((cpu(b)-spent).Nanoseconds())/(n*float64(b.N)), "cpu-ns/event")
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkApply folds without any journal.
func BenchmarkApply(b *testing.B) {
	rec := journaltest.Record(1)
	rec.Data = []byte(`{"id":"u1","name":"unit at 1"}`)
	s := events.NewState()
	s.Namespace = "shop"
	b.ReportAllocs()
	for b.Loop() {
		rec.Seq, rec.Prev = s.Seq+1, s.Chain
		if err := s.Apply(rec); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
