package routing

import (
	"cmp"
	"slices"
)

// Standing is the rule set that holds when a cutover from one rule set to another ends after some of its waves: the
// committed keys belong to their owner under to, all others to their owner under from. Every routerId has the owner that
// the table of CompileCutover gave it with these waves committed. The waves must have passed CheckWaves.
func Standing(from, to *Rules, committed []Keys) *Rules {
	r := &Rules{slotting: from.slotting, exact: map[string]string{}}
	var taken []Range
	moved := map[string]bool{}
	for _, k := range committed {
		taken = append(taken, k.Slots...)
		for _, id := range k.Exact {
			moved[id] = true
		}
	}
	slices.SortFunc(taken, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	next := uint32(0)
	for _, t := range taken {
		r.copyRange(from, next, t.From)
		r.copyRange(to, t.From, t.To+1)
		next = t.To + 1
	}
	r.copyRange(from, next, from.slotting.Slots)
	for _, side := range []*Rules{from, to} {
		for id := range side.exact {
			now := from
			if moved[id] {
				now = to
			}
			owner, listed := now.Owner(id)
			if listed || owner != r.SlotOwner(r.slotting.Slot(id)) {
				r.exact[id] = owner
			}
		}
	}
	return r
}

// copyRange appends the owners of the slots [begin, end) under src, merged with what stands before them.
func (r *Rules) copyRange(src *Rules, begin, end uint32) {
	if begin >= end {
		return
	}
	for i := src.find(begin); i < len(src.ranges) && src.ranges[i].From < end; i++ {
		a := src.ranges[i]
		a.From, a.To = max(a.From, begin), min(a.To, end-1)
		if n := len(r.ranges); n > 0 && r.ranges[n-1].Unit == a.Unit {
			r.ranges[n-1].To = a.To
			continue
		}
		r.ranges = append(r.ranges, a)
	}
}
