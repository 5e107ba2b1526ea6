package bench_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// BenchmarkAppend is one writer that waits for the acknowledgement of each append, with both guards, over TCP.
func BenchmarkAppend(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		b.Run(fmt.Sprintf("R%d", replicas), func(b *testing.B) {
			d := &bed{b: b}
			d.startServers(replicas)
			js, err := jetstream.New(d.connect())
			if err != nil {
				b.Fatal(err)
			}
			j, err := journal.Create(b.Context(), js, "shop", journal.Options{Replicas: replicas})
			if err != nil {
				b.Fatal(err)
			}
			var c journal.Cursor
			for n := 1; b.Loop(); n++ {
				c = journaltest.Fill(b, j, c, n, n)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
