package sim

import (
	"math/rand/v2"
	"time"

	"github.com/unitgate/unitgate/events"
)

// plan is what a seed draws before anything happens.
type plan struct {
	units, edges, drivers int // edges: of each unit
	evictRate             int // a second, 0: all at once
	ownership             string
	lease                 events.Duration // L
	changes               bool            // an operator may change the policy
	pauses                time.Duration   // of edges, at most
	drift                 float64
	lose, late, double    float64       // of messages
	lateness              time.Duration // at most
	harmEvery             time.Duration // between two faults, about
	patience              time.Duration
	calm                  time.Duration // from then on nothing fails
	end                   time.Duration
}

func newPlan(r *rand.Rand, exclusive bool) plan {
	p := plan{
		units: 2 + r.IntN(2), edges: 1 + r.IntN(3), drivers: 2 + r.IntN(2),
		evictRate: pick(r, 0, 0, 5, 50), drift: pick(r, 0, 0.07, 0.07),
		lose: pick(r, 0, 0.03, 0.15), late: pick(r, 0, 0.05, 0.2), double: pick(r, 0, 0.1),
		lateness: pick(r, time.Second, 5*time.Second, 12*time.Second), harmEvery: pick(r, 2*time.Second, 5*time.Second, 15*time.Second),
		patience: 8 * time.Second, calm: 40 * time.Second, end: 85 * time.Second,
	}
	p.ownership, p.lease, p.pauses = "available", events.Duration(15*time.Second), 20*time.Second
	switch n := r.IntN(5); {
	case n < 3 && !exclusive:
		return p
	case n == 3 && !exclusive:
		p.changes = true
	default:
		p.ownership = "exclusive"
		p.changes = r.IntN(4) == 0
	}
	// The margins of leases allow for less than those of the office; and everything takes longer.
	p.drift, p.pauses = pick(r, 0, 0.015, 0.03), 40*time.Second
	p.calm, p.end = 60*time.Second, 170*time.Second
	return p
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }
