package routing

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// Merge joins ranges that overlap or touch, in place: the result is sorted, and names each slot once.
func Merge(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	merged := ranges[:0]
	for _, r := range ranges {
		if n := len(merged); n > 0 && (merged[n-1].To == math.MaxUint32 || r.From <= merged[n-1].To+1) {
			merged[n-1].To = max(merged[n-1].To, r.To)
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

// Within reports whether merged ranges name a slot.
func Within(merged []Range, slot uint32) bool {
	i := sort.Search(len(merged), func(i int) bool { return merged[i].To >= slot })
	return i < len(merged) && merged[i].From <= slot
}

// SlotsOf are the slots in which keys lie, those of its exact IDs included, merged.
func (s Slotting) SlotsOf(k Keys) []Range {
	out := slices.Clone(k.Slots)
	for id := range k.Exact.All() {
		slot := s.Slot(id)
		if n := len(out); n > 0 && out[n-1].To+1 == slot {
			out[n-1].To++ // users' numbers often follow each other
			continue
		}
		out = append(out, Range{slot, slot})
	}
	return Merge(out)
}
