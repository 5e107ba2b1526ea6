package routing

import (
	"cmp"
	"slices"
)

// Standing is the rule set that holds when a cutover from one rule set to another ends after some of its waves: the
// committed keys belong to their owner under to, all others to their owner under from. Every routerId has the owner that
// the table of CompileCutover gave it with these waves committed. The waves must have passed CheckWaves.
func Standing(from, to *Rules, committed []Keys) *Rules {
	r := &Rules{slotting: from.slotting}
	var taken []Range
	for _, k := range committed {
		taken = append(taken, k.Slots...)
	}
	slices.SortFunc(taken, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	next := uint32(0)
	for _, t := range taken {
		r.copyRange(from, next, t.From)
		r.copyRange(to, t.From, t.To+1)
		next = t.To + 1
	}
	r.copyRange(from, next, from.slotting.Slots)
	r.exact = r.standing(from, to, committed)
	return r
}

// standing are the exact lists over the ranges of r.
func (r *Rules) standing(from, to *Rules, committed []Keys) *exactLists {
	if from.exact == to.exact {
		return from.exact
	}
	var sets []IDs
	for _, k := range committed {
		sets = append(sets, k.Exact)
	}
	moved := joined(sets)
	lists := map[string]*picker{}
	x, y := &from.exact.ids, &to.exact.ids
	walkBoth(x, y, func(i, j int) {
		ids, n := x, i
		if i < 0 {
			ids, n = y, j
		}
		id := ids.At(n)
		owner, listed := from.ownerAt(i, y, j), i >= 0
		if moved.Has(id) {
			owner, listed = to.ownerAt(j, x, i), j >= 0
		}
		if !listed && owner == r.SlotOwner(r.slotting.Slot(id)) {
			return
		}
		p := lists[owner]
		if p == nil {
			p = &picker{}
			lists[owner] = p
		}
		p.take(ids, n)
	})
	out, err := newExact(done(lists))
	if err != nil {
		panic(err) // each ID has one owner here, and there are no more than both sides have
	}
	return out
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

// joined are the IDs of several sets that have none in common.
func joined(sets []IDs) IDs {
	var all IDs
	var texts []string
	for _, s := range sets {
		all.nums = append(all.nums, s.nums...)
		for i := range s.ends {
			texts = append(texts, s.textAt(i))
		}
	}
	slices.Sort(all.nums)
	slices.Sort(texts)
	all.setTexts(texts)
	return all
}
