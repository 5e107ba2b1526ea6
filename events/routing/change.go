package routing

import (
	"fmt"
	"slices"
)

// Change makes one rule set of another one. It costs what changes, not what there is.
type Change struct {
	Ranges     map[string][]Range  `json:"ranges,omitempty"`     // all of them, if they change
	Exact      map[string][]string `json:"exact,omitempty"`      // by unit: IDs that it gets by an exact rule from now on
	ExactDelta map[string]Packed   `json:"exactDelta,omitempty"` // likewise, longer lists
	Drop       []string            `json:"drop,omitempty"`       // IDs of which no exact rule speaks any more
	DropDelta  Packed              `json:"dropDelta,omitempty"`  // likewise, a longer list
}

// ChangeOf is what makes to of from. Both must have the same slotting.
func ChangeOf(from, to *Rules) Change {
	var c Change
	if !slices.Equal(from.ranges, to.ranges) {
		c.Ranges = to.Ranges()
	}
	if from.exact == to.exact {
		return c
	}
	set := map[string]*picker{}
	var drop picker
	x, y := &from.exact.ids, &to.exact.ids
	walkBoth(x, y, func(i, j int) {
		switch {
		case j < 0:
			drop.take(x, i)
		case i < 0 || from.exact.unitAt(i) != to.exact.unitAt(j):
			unit := to.exact.unitAt(j)
			if set[unit] == nil {
				set[unit] = &picker{}
			}
			set[unit].take(y, j)
		}
	})
	c.Exact, c.ExactDelta = SplitLists(done(set))
	if gone := drop.done(); gone.Len() > ShortList {
		c.DropDelta = Pack(gone)
	} else {
		c.Drop = gone.Strings()
	}
	return c
}

// With is r changed. Errors wrap those of Slotting.RulesOf and of lists; what is dropped must be there.
func (r *Rules) With(c Change) (*Rules, error) {
	ranges := c.Ranges
	if ranges == nil {
		ranges = r.Ranges()
	}
	set, err := JoinLists(c.Exact, c.ExactDelta)
	if err != nil {
		return nil, err
	}
	drop, err := JoinList(c.Drop, c.DropDelta)
	if err != nil {
		return nil, err
	}
	out, err := r.slotting.RulesOf(ranges, nil)
	if err != nil {
		return nil, err
	}
	out.exact, err = r.exact.with(set, drop)
	return out, err
}

// JoinList reads a list that stands in one of two forms, or in both.
func JoinList(short []string, long Packed) (IDs, error) {
	s, err := NewIDs(short)
	if err != nil || long == nil {
		return s, err
	}
	l, err := long.IDs()
	if err != nil {
		return IDs{}, err
	}
	return l.union(s)
}

// with are the lists after IDs got a unit, or another one, and others were dropped.
func (x *exactLists) with(set map[string]IDs, drop IDs) (*exactLists, error) {
	if len(set) == 0 && drop.Len() == 0 {
		return x, nil
	}
	given, err := newExact(set)
	if err != nil {
		return nil, err
	}
	dropped := 0
	picks := map[string]*picker{}
	pick := func(unit string, s *IDs, i int) {
		if picks[unit] == nil {
			picks[unit] = &picker{}
		}
		picks[unit].take(s, i)
	}
	walkBoth(&x.ids, &given.ids, func(i, j int) {
		switch {
		case j >= 0:
			if drop.Has(given.ids.At(j)) {
				err = fmt.Errorf("%w: %q is given to %s and dropped", ErrExactTwice, given.ids.At(j), given.unitAt(j))
			}
			pick(given.unitAt(j), &given.ids, j)
		case drop.Len() > 0 && drop.Has(x.ids.At(i)):
			dropped++
		default:
			pick(x.unitAt(i), &x.ids, i)
		}
	})
	if err != nil {
		return nil, err
	}
	if dropped != drop.Len() {
		return nil, fmt.Errorf("%w: %d of %d IDs to drop have no exact rule", ErrNotListed, drop.Len()-dropped, drop.Len())
	}
	return newExact(done(picks))
}

// WithRanges is r with other ranges and the same exact IDs.
func (r *Rules) WithRanges(ranges map[string][]Range) (*Rules, error) {
	out, err := r.slotting.RulesOf(ranges, nil)
	if err == nil {
		out.exact = r.exact
	}
	return out, err
}

// WithExact is r with other exact IDs and the same ranges. Those that are the same ones are shared.
func (r *Rules) WithExact(lists map[string]IDs) (*Rules, error) {
	x, err := newExact(lists)
	if err != nil {
		return nil, err
	}
	if x.equal(r.exact) {
		x = r.exact
	}
	return &Rules{slotting: r.slotting, ranges: r.ranges, exact: x}, nil
}
