package routing

import (
	"fmt"
	"maps"
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

// Diff is what changes its owner between two rule sets.
type Diff struct {
	Moves      []Move
	ExactMoves []ExactMove
}

// Compare lists the keys whose owner differs, in slot and ID order. Both must have the same slotting.
func Compare(from, to *Rules) Diff {
	var d Diff
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
	ids := map[string]bool{}
	for id := range from.exact {
		ids[id] = true
	}
	for id := range to.exact {
		ids[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		a, _ := from.Owner(id)
		b, _ := to.Owner(id)
		if a != b {
			d.ExactMoves = append(d.ExactMoves, ExactMove{id, a, b})
		}
	}
	return d
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
func (d Diff) Empty() bool { return len(d.Moves) == 0 && len(d.ExactMoves) == 0 }

// Slots is the number of slots that move.
func (d Diff) Slots() int {
	n := 0
	for _, m := range d.Moves {
		n += Range{m.From, m.To}.Len()
	}
	return n
}

// Keys is the number of keys that move.
func (d Diff) Keys() int { return d.Slots() + len(d.ExactMoves) }

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
	for _, m := range d.ExactMoves {
		w := wave()
		waves[w].Exact = append(waves[w].Exact, m.ID)
		at++
	}
	return waves
}

// DiffText shows two rule sets as text: the old ranges in slot order, those that the new rules lack marked "-", then
// the ranges that only the new rules have, marked "+". Of the exact IDs only those that change are listed, likewise.
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
	for _, id := range slices.Sorted(maps.Keys(a.exact)) {
		if other.exact[id] != a.exact[id] {
			fmt.Fprintf(b, "%s exact %s %s\n", mark, id, a.exact[id])
		}
	}
}
