package relay

import (
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/deadman"
)

// What a poller pays for each event to look at the lease (R12).
func BenchmarkObserveLease(b *testing.B) {
	for name, until := range map[string]time.Duration{"available": 0, "exclusive": deadman.Now() + time.Hour} {
		b.Run(name, func(b *testing.B) {
			r := &Relay{}
			r.until.Store(int64(until))
			e := &engine{r: r}
			b.ReportAllocs()
			for b.Loop() {
				e.observeLease()
			}
		})
	}
}
