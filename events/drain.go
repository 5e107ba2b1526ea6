package events

import (
	"cmp"
	"slices"

	"github.com/unitgate/unitgate/events/routing"
)

// drained are the rules without a unit: its slots go to the unit that was named, or to the others in proportion to the
// slots they have; its exact IDs to the named one, or to whoever owns their slot then.
func (s *State) drained(have *routing.Rules, c PreviewCutover) (*routing.Rules, error) {
	if c.Ranges != nil || c.given() {
		return nil, ErrBadValue.With("a drain says by itself what moves: leave ranges and exact out").At("drain")
	}
	if _, ok := s.Units[c.Drain]; !ok {
		return nil, ErrUnknownUnit.With("there is no unit %q; known are %v", c.Drain, sortedKeys(s.Units)).At("drain")
	}
	if _, ok := s.Units[c.DrainTo]; !ok && c.DrainTo != "" {
		return nil, ErrUnknownUnit.With("there is no unit %q; known are %v", c.DrainTo, sortedKeys(s.Units)).At("drainTo")
	}
	if c.Drain == c.DrainTo {
		return nil, ErrBadValue.With("unit %q cannot take over from itself", c.Drain).At("drainTo")
	}
	ranges, exact := have.Ranges(), have.ExactIDs()
	lost, ids := ranges[c.Drain], exact[c.Drain]
	delete(ranges, c.Drain)
	delete(exact, c.Drain)
	heirs := heirsOf(ranges)
	if c.DrainTo != "" {
		heirs = []heir{{unit: c.DrainTo, slots: 1}}
		exact[c.DrainTo] = exact[c.DrainTo].With(ids)
	}
	if len(heirs) == 0 && len(lost) > 0 {
		return nil, ErrMissingField.With("no other unit has slots: say which one takes over").At("drainTo")
	}
	inherit(ranges, lost, heirs)
	rules, err := have.WithRanges(ranges)
	if err == nil {
		rules, err = rules.WithExact(exact)
	}
	if err != nil {
		return nil, fromRouting(err, "drain", "drain")
	}
	return rules, nil
}

// heir is a unit with slots of its own.
type heir struct {
	unit  string
	slots int // that it has
	share int // of what is given away
}

// heirsOf are the units with slots, sorted.
func heirsOf(ranges map[string][]routing.Range) []heir {
	var out []heir
	for _, unit := range sortedKeys(ranges) {
		n := 0
		for _, r := range ranges[unit] {
			n += r.Len()
		}
		if n > 0 {
			out = append(out, heir{unit: unit, slots: n})
		}
	}
	return out
}

// inherit gives the lost slots to the heirs, in slot order and in proportion to what they have: the whole parts first,
// what is left over to the largest remainders.
func inherit(ranges map[string][]routing.Range, lost []routing.Range, heirs []heir) {
	total, weight := 0, 0
	for _, r := range lost {
		total += r.Len()
	}
	for _, h := range heirs {
		weight += h.slots
	}
	if total == 0 {
		return
	}
	left := total
	order := make([]int, len(heirs))
	for i := range heirs {
		heirs[i].share = total * heirs[i].slots / weight
		left -= heirs[i].share
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(total*heirs[b].slots%weight, total*heirs[a].slots%weight)
	})
	for _, i := range order[:left] {
		heirs[i].share++
	}
	h := 0
	for _, r := range lost {
		for from := r.From; from <= r.To; {
			for heirs[h].share == 0 {
				h++
			}
			n := min(uint32(heirs[h].share), r.To-from+1)
			ranges[heirs[h].unit] = append(ranges[heirs[h].unit], routing.Range{From: from, To: from + n - 1})
			heirs[h].share -= int(n)
			from += n
		}
	}
}
