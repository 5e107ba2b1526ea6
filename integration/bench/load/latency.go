//go:build linux

package load

import (
	"slices"
	"time"
)

// Latency is a distribution.
type Latency struct {
	P50  time.Duration `json:"p50"`
	P99  time.Duration `json:"p99"`
	P999 time.Duration `json:"p999"`
	Max  time.Duration `json:"max"`
}

// latencyOf sorts all, in nanoseconds.
func latencyOf(all []int64) Latency {
	if len(all) == 0 {
		return Latency{}
	}
	slices.Sort(all)
	at := func(part float64) time.Duration {
		return time.Duration(all[min(len(all)-1, int(part*float64(len(all))))])
	}
	return Latency{P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1)}
}
