package routing

import (
	"fmt"
	"slices"
	"strings"
)

// Move is a run of slots that changes its owner from one unit to one other.
type Move struct {
	From   uint32 `json:"from"`
	To     uint32 `json:"to"`
	Source string `json:"source"`
	Target string `json:"target"`
}

// ExactMove is an exact ID that changes its owner. An ID counts as exact if either rule set lists it.
type ExactMove struct {
	ID     string `json:"id"`
	Source string `json:"source"`
	Target string `json:"target"`
}

// Flow is how many exact IDs go from one unit to another one.
type Flow struct {
	Source string `json:"source"`
	Target string `json:"target"`
	IDs    int    `json:"ids"`
}

// MaxShown is how many exact IDs are shown where people look at a difference: the first ones.
const MaxShown = 100

// Diff is what changes its owner between two rule sets.
type Diff struct {
	Moves []Move
	Exact IDs    // the exact IDs that change their owner
	Flows []Flow // between whom, by source and target

	from, to *Rules
}

// Compare finds the keys whose owner differs, in slot and ID order. Both must have the same slotting.
func Compare(from, to *Rules) Diff {
	d := Diff{from: from, to: to}
	i, j := 0, 0
	for s := uint32(0); s < from.slotting.Slots; {
		a, b := from.ranges[i], to.ranges[j]
		end := min(a.To, b.To)
		if a.Unit != b.Unit {
			d.add(Move{s, end, a.Unit, b.Unit})
		}
		if a.To == end {
			i++
		}
		if b.To == end {
			j++
		}
		s = end + 1
	}
	d.compareExact()
	return d
}

// compareExact finds the exact IDs whose owner differs.
func (d *Diff) compareExact() {
	if d.from.exact == d.to.exact {
		return // an exact rule wins over ranges
	}
	a, b := &d.from.exact.ids, &d.to.exact.ids
	flows := map[Flow]int{}
	var moving picker
	walkBoth(a, b, func(i, j int) {
		source, target := d.from.ownerAt(i, b, j), d.to.ownerAt(j, a, i)
		if source == target {
			return
		}
		flows[Flow{Source: source, Target: target}]++
		if i >= 0 {
			moving.take(a, i)
		} else {
			moving.take(b, j)
		}
	})
	d.Exact = moving.done()
	for f, n := range flows {
		f.IDs = n
		d.Flows = append(d.Flows, f)
	}
	slices.SortFunc(d.Flows, func(x, y Flow) int {
		if c := strings.Compare(x.Source, y.Source); c != 0 {
			return c
		}
		return strings.Compare(x.Target, y.Target)
	})
}

// ownerAt is the owner of the i-th exact ID; if i is -1, that of the j-th ID of another set, by its slot.
func (r *Rules) ownerAt(i int, other *IDs, j int) string {
	if i >= 0 {
		return r.exact.unitAt(i)
	}
	return r.SlotOwner(r.slotting.Slot(other.At(j)))
}

func (d *Diff) add(m Move) {
	if n := len(d.Moves); n > 0 {
		if p := &d.Moves[n-1]; p.To+1 == m.From && p.Source == m.Source && p.Target == m.Target {
			p.To = m.To
			return
		}
	}
	d.Moves = append(d.Moves, m)
}

// Empty reports whether nothing moves.
func (d Diff) Empty() bool { return len(d.Moves) == 0 && d.Exact.Len() == 0 }

// Slots is the number of slots that move.
func (d Diff) Slots() int {
	n := 0
	for _, m := range d.Moves {
		n += Range{m.From, m.To}.Len()
	}
	return n
}

// Keys is the number of keys that move.
func (d Diff) Keys() int { return d.Slots() + d.Exact.Len() }

// ExactMoves are the first exact IDs that move, at most that many, and between whom.
func (d Diff) ExactMoves(most int) []ExactMove {
	out := []ExactMove{}
	for id := range d.Exact.Slice(0, min(most, d.Exact.Len())).All() {
		source, _ := d.from.Owner(id)
		target, _ := d.to.Owner(id)
		out = append(out, ExactMove{id, source, target})
	}
	return out
}

// Sides calls f for each pair of units between which keys move, once or more often.
func (d Diff) Sides(f func(source, target string)) {
	for _, m := range d.Moves {
		f(m.Source, m.Target)
	}
	for _, m := range d.Flows {
		f(m.Source, m.Target)
	}
}

// ExactFrom are the exact IDs that move to a unit that counts, by the unit that loses them.
func (d Diff) ExactFrom(counts func(target string) bool) map[string]IDs {
	lost := map[string]*picker{}
	for i := range d.Exact.Len() {
		id := d.Exact.At(i)
		if target, _ := d.to.Owner(id); !counts(target) {
			continue
		}
		source, _ := d.from.Owner(id)
		if lost[source] == nil {
			lost[source] = &picker{}
		}
		lost[source].take(&d.Exact, i)
	}
	return done(lost)
}

// NewlyExact are the IDs that only the new rules list and whose slots move to a unit that counts, by the unit that loses
// these slots: they do not move with them.
func (d Diff) NewlyExact(counts func(target string) bool) map[string]IDs {
	out := map[string]*picker{}
	if d.from.exact == d.to.exact || len(d.Moves) == 0 {
		return nil
	}
	x, y := &d.from.exact.ids, &d.to.exact.ids
	walkBoth(x, y, func(i, j int) {
		if i >= 0 {
			return
		}
		slot := d.from.slotting.Slot(y.At(j))
		source, target := d.from.SlotOwner(slot), d.to.SlotOwner(slot)
		if source == target || !counts(target) {
			return
		}
		if out[source] == nil {
			out[source] = &picker{}
		}
		out[source].take(y, j)
	})
	return done(out)
}

func done(picks map[string]*picker) map[string]IDs {
	sets := make(map[string]IDs, len(picks))
	for unit, p := range picks {
		sets[unit] = p.done()
	}
	return sets
}

// Split deals the moving keys into n waves of nearly equal size, in slot order, exact IDs last.
// n is cut to the number of keys.
func (d Diff) Split(n int) []Keys {
	total := d.Keys()
	n = max(1, min(n, total))
	ends := make([]int, n)
	for w := range ends {
		ends[w] = (w + 1) * total / n
	}
	return d.deal(ends)
}

// SplitAt deals the moving keys into waves that end where the given percentages of the keys have moved, in the same
// order as Split. The percentages must rise and end at 100; one that adds no whole key makes no wave.
func (d Diff) SplitAt(percent []int) []Keys {
	total := d.Keys()
	var ends []int
	for i, p := range percent {
		end := total * p / 100
		if i == 0 && p > 0 {
			end = max(end, 1) // "1 %" of a few keys is a first try with one of them
		}
		if end > 0 && (len(ends) == 0 || end > ends[len(ends)-1]) {
			ends = append(ends, end)
		}
	}
	return d.deal(ends)
}

// deal gives wave w the keys up to the ends[w]-th. The ends rise and the last one is the number of keys.
func (d Diff) deal(ends []int) []Keys {
	waves := make([]Keys, len(ends))
	at, w := 0, 0 // keys dealt so far, wave that takes the next one
	wave := func() int {
		for ends[w] <= at {
			w++
		}
		return w
	}
	for _, m := range d.Moves {
		for s := m.From; s <= m.To; {
			w := wave()
			take := min(uint32(ends[w]-at), m.To-s+1)
			waves[w].Slots = append(waves[w].Slots, Range{s, s + take - 1})
			s += take
			at += int(take)
		}
	}
	slots := at
	for i := 0; i < d.Exact.Len(); i = at - slots {
		w := wave()
		at = min(ends[w], slots+d.Exact.Len())
		waves[w].Exact = d.Exact.Slice(i, at-slots)
	}
	return waves
}

// DiffText shows two rule sets as text: the old ranges in slot order, those that the new rules lack marked "-", then
// the ranges that only the new rules have, marked "+". Of the exact IDs only those that change are listed, likewise, the
// first MaxShown of each.
func DiffText(from, to *Rules) string {
	var b strings.Builder
	old, new := rangeSet(from), rangeSet(to)
	for _, a := range from.ranges {
		mark := "-"
		if new[a] {
			mark = " "
		}
		fmt.Fprintf(&b, "%s %s %s\n", mark, a.Range, a.Unit)
	}
	for _, a := range to.ranges {
		if !old[a] {
			fmt.Fprintf(&b, "+ %s %s\n", a.Range, a.Unit)
		}
	}
	exactLines(&b, "-", from, to)
	exactLines(&b, "+", to, from)
	return b.String()
}

func rangeSet(r *Rules) map[Assignment]bool {
	set := make(map[Assignment]bool, len(r.ranges))
	for _, a := range r.ranges {
		set[a] = true
	}
	return set
}

// exactLines lists the exact IDs that a gives to another unit than b does, or that b does not list.
func exactLines(b *strings.Builder, mark string, a, other *Rules) {
	if a.exact == other.exact {
		return
	}
	shown, more := 0, 0
	walkBoth(&a.exact.ids, &other.exact.ids, func(i, j int) {
		switch {
		case i < 0 || j >= 0 && a.exact.unitAt(i) == other.exact.unitAt(j):
		case shown == MaxShown:
			more++
		default:
			shown++
			fmt.Fprintf(b, "%s exact %s %s\n", mark, a.exact.ids.At(i), a.exact.unitAt(i))
		}
	})
	if more > 0 {
		fmt.Fprintf(b, "%s exact IDs: %d more\n", mark, more)
	}
}
