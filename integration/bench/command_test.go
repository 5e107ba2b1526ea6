package bench_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkCommandToApplied is from the sending of a command until the last of four edges has reported that every poller
// decides by its event and that the state is on disk; and until the command's outcome came.
func BenchmarkCommandToApplied(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		b.Run(fmt.Sprintf("R%d", replicas), func(b *testing.B) {
			d := newBed(b, replicas)
			var outcome, applied []time.Duration
			for b.Loop() {
				began := time.Now()
				seq := d.do("unit", "put", map[string]string{"id": "extra", "name": fmt.Sprint(len(applied))})
				outcome = append(outcome, time.Since(began))
				d.await(seq)
				applied = append(applied, time.Since(began))
			}
			report(b, "outcome", outcome)
			report(b, "applied", applied)
		})
	}
}

func report(b *testing.B, what string, all []time.Duration) {
	slices.Sort(all)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(all[(len(all)-1)*p/100].Microseconds())/1000, fmt.Sprintf("%s-p%d-ms", what, p))
	}
}
