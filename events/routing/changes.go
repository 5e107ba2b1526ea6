package routing

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
	k.Exact = t.changedIDs(old)
	return k
}

func (t *Table) changedIDs(old *Table) IDs {
	var changed picker
	walkBoth(&t.ids.ids, &old.ids.ids, func(i, j int) {
		now, before := t.routeAt(i, &old.ids.ids, j), old.routeAt(j, &t.ids.ids, i)
		switch {
		case now.sameUnits(before):
		case i >= 0:
			changed.take(&t.ids.ids, i)
		default:
			changed.take(&old.ids.ids, j)
		}
	})
	return changed.done()
}

// routeAt says what holds for the i-th exact ID; if i is -1, for the j-th ID of another set, by its slot.
func (t *Table) routeAt(i int, other *IDs, j int) *Route {
	if i >= 0 {
		return t.exactRoute(i)
	}
	return &t.routes[t.slots[t.Slot(other.At(j))]]
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
	var moving picker
	for i := range t.kind {
		if t.exactRoute(i).Wave >= 0 {
			moving.take(&t.ids.ids, i)
		}
	}
	k.Exact = moving.done()
	return k
}
