package routing

import "slices"

// Changes are the keys of which t says something else than old: another owner, or another unit that gains it. Whoever
// holds sessions by slot asks anew for those only. An ID counts as exact if either table lists it; exact IDs within a
// listed slot may or may not have changed. Both tables must have the same slotting.
func (t *Table) Changes(old *Table) Keys {
	var k Keys
	if t == old {
		return k
	}
	for s := range t.slots {
		if t.routes[t.slots[s]].sameUnits(&old.routes[old.slots[s]]) {
			continue
		}
		if n := len(k.Slots); n > 0 && k.Slots[n-1].To+1 == uint32(s) {
			k.Slots[n-1].To++
		} else {
			k.Slots = append(k.Slots, Range{uint32(s), uint32(s)})
		}
	}
	for id := range t.exact {
		if !t.Lookup(id).sameUnits(old.Lookup(id)) {
			k.Exact = append(k.Exact, id)
		}
	}
	for id := range old.exact {
		if _, both := t.exact[id]; !both && !t.Lookup(id).sameUnits(old.Lookup(id)) {
			k.Exact = append(k.Exact, id)
		}
	}
	slices.Sort(k.Exact)
	return k
}

func (r *Route) sameUnits(o *Route) bool { return r.Unit == o.Unit && r.Next == o.Next }

// Moving are the keys that the cutover moves which the table was compiled for, in whatever wave.
func (t *Table) Moving() Keys {
	var k Keys
	for s := range t.slots {
		if t.routes[t.slots[s]].Wave < 0 {
			continue
		}
		if n := len(k.Slots); n > 0 && k.Slots[n-1].To+1 == uint32(s) {
			k.Slots[n-1].To++
		} else {
			k.Slots = append(k.Slots, Range{uint32(s), uint32(s)})
		}
	}
	for id, i := range t.exact {
		if t.routes[i].Wave >= 0 {
			k.Exact = append(k.Exact, id)
		}
	}
	slices.Sort(k.Exact)
	return k
}
