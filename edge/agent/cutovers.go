package agent

import (
	"cmp"
	"maps"
	"slices"

	"github.com/unitgate/unitgate/events"
)

// movement is a cutover whose evictions and landings are counted: one for each unit type, the running one or else the
// one completed last. The relay's counters are the process's; what they stood at when the cutover came is not its doing.
type movement struct {
	cutover         string
	evicted, landed int // the relay's counters when the cutover was first seen
}

// fence is a wave that a state holds fenced.
type fence struct {
	cutover, unitType string
	wave              int
	seq               uint64
}

// fencesOf lists the fences of a state, the oldest first. It is asked at every step, also between cutovers.
func fencesOf(s *events.State) []fence {
	if s == nil {
		return nil
	}
	var out []fence
	for _, c := range s.Cutovers {
		if w := c.FencedWave(); w >= 0 && c.State.Running() {
			out = append(out, fence{c.ID, c.UnitType, w, c.Waves[w].FenceSeq})
		}
	}
	slices.SortFunc(out, func(a, b fence) int { return cmp.Compare(a.seq, b.seq) })
	return out
}

// track notes where the relay's counters stand for what is new in a state, and forgets what it does not hold any more.
// It is called just before the pollers get the state, which is the first moment at which they act on it.
func (a *Agent) track(s *events.State) {
	fences := map[uint64]int{}
	for _, f := range fencesOf(s) {
		base, ok := a.fences[f.seq]
		if !ok {
			base = a.counts[f.unitType].Evicted
		}
		fences[f.seq] = base
	}
	a.fences = fences
	moved := map[string]*movement{}
	for _, t := range s.UnitTypes {
		c, ok := s.InForce(t.Name)
		if !ok {
			continue
		}
		m := a.moved[t.Name]
		if m == nil || m.cutover != c.ID {
			m = &movement{c.ID, a.counts[t.Name].Evicted, a.counts[t.Name].Landed}
		}
		moved[t.Name] = m
	}
	a.moved = moved
	a.trackCommits(s)
}

// fenceReports says how far the edge is with each fence that it has applied. A fence that the newest known state does
// not hold any more is left out, whatever the pollers still do: its reports must not count (R11).
func (a *Agent) fenceReports(applied version) []events.FenceReport {
	out := []events.FenceReport{}
	if applied.state == nil || a.known.epoch != applied.epoch {
		return out
	}
	for _, f := range fencesOf(a.known.state) {
		if f.seq > applied.seq() {
			continue
		}
		n, counted := a.counts[f.unitType]
		// Only a counting that began after the fence was installed tells: before it, nobody was a victim.
		counted = counted && a.countsOf.epoch == applied.epoch && a.countsOf.seq() >= f.seq
		out = append(out, events.FenceReport{
			Cutover: f.cutover, Wave: f.wave, Fence: f.seq, Evicted: max(n.Evicted-a.fences[f.seq], 0),
			Drained: counted && n.Victims == 0,
		})
	}
	return out
}

func (a *Agent) movedReports() []events.MovedReport {
	out := []events.MovedReport{}
	for _, t := range slices.Sorted(maps.Keys(a.moved)) {
		m, n := a.moved[t], a.counts[t]
		out = append(out, events.MovedReport{Cutover: m.cutover, Evicted: max(n.Evicted-m.evicted, 0), Landed: max(n.Landed-m.landed, 0)})
	}
	return out
}

// evict orders the closing of victims, once for each install that left some and whenever the rate is another one.
//
// The rate is what the newest known state says: while its install is under way, a counting already finds victims that it
// has made on the pollers it has reached, and by the state before they would go at a rate that is not theirs.
func (a *Agent) evict() []Output {
	if a.countsOf.state == nil {
		return nil
	}
	var out []Output
	for _, t := range slices.Sorted(maps.Keys(a.counts)) {
		if a.counts[t].Victims == 0 {
			continue
		}
		want := order{a.countsOf.epoch, a.countsOf.seq(), rate(a.known.state, t)}
		if a.evicting[t] != want {
			a.evicting[t] = want
			out = append(out, Evict{t, want.rate})
		}
	}
	return out
}

// rate is the pace at which a unit type's victims are closed: that of the cutover to which they are due, else the policy's.
func rate(s *events.State, unitType string) events.Rate {
	if c, ok := s.InForce(unitType); ok {
		return c.Rate
	}
	return events.Rate(s.Policy.EvictRate)
}
