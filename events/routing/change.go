package routing

import (
	"fmt"
	"slices"
)

// Change makes one rule set of another one. It costs what changes, not what there is, and a long list that goes as a whole
// costs nothing: a unit can be emptied however many exact IDs it has.
type Change struct {
	Ranges     map[string][]Range  `json:"ranges,omitempty"`     // all of them, if they change
	Whole      map[string]string   `json:"exactWhole,omitempty"` // by unit with a list of more than ShortList: who gets it as it is; "": it is dropped
	Restore    bool                `json:"restore,omitempty"`    // the exact lists are those of an earlier rule set; then nothing else is said of them
	Exact      map[string][]string `json:"exact,omitempty"`      // by unit: IDs that it gets by an exact rule from now on
	ExactDelta map[string]Packed   `json:"exactDelta,omitempty"` // likewise, longer lists
	Drop       []string            `json:"drop,omitempty"`       // IDs of which no exact rule speaks any more
	DropDelta  Packed              `json:"dropDelta,omitempty"`  // likewise, a longer list
}

// ChangeOf is what makes to of from. Both must have the same slotting. There is one form of each change.
func ChangeOf(from, to *Rules) Change {
	var c Change
	if !slices.Equal(from.ranges, to.ranges) {
		c.Ranges = to.Ranges()
	}
	if from.exact == to.exact {
		return c
	}
	c.Whole = wholeLists(from.exact, to.exact)
	set := map[string]*picker{}
	var drop picker
	x, y := &from.exact.ids, &to.exact.ids
	walkBoth(x, y, func(i, j int) {
		if i >= 0 {
			if _, ok := c.Whole[from.exact.unitAt(i)]; ok {
				return
			}
		}
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

// ChangeBack is ChangeOf where to is a rule set that whoever reads the change has: it has one size, however long the lists
// are. Few exact IDs are listed all the same.
func ChangeBack(from, to *Rules) Change {
	var c Change
	if from.differing(to) <= ShortList {
		return ChangeOf(from, to)
	}
	if !slices.Equal(from.ranges, to.ranges) {
		c.Ranges = to.Ranges()
	}
	c.Restore = true
	return c
}

// differing is the number of exact IDs of which two rule sets do not say the same.
func (r *Rules) differing(o *Rules) int {
	if r.exact == o.exact {
		return 0
	}
	n := 0
	walkBoth(&r.exact.ids, &o.exact.ids, func(i, j int) {
		if i < 0 || j < 0 || r.exact.unitAt(i) != o.exact.unitAt(j) {
			n++
		}
	})
	return n
}

// wholeLists are the units of which a long list goes to one other unit, ID by ID, or nowhere (""), with where it goes.
func wholeLists(from, to *exactLists) map[string]string {
	type fate struct {
		to    string
		ids   int
		mixed bool
	}
	fates := make([]fate, len(from.units))
	walkBoth(&from.ids, &to.ids, func(i, j int) {
		if i < 0 {
			return
		}
		target := ""
		if j >= 0 {
			target = to.unitAt(j)
		}
		f := &fates[from.owner[i]]
		f.mixed = f.mixed || target == from.unitAt(i) || f.ids > 0 && f.to != target
		f.to, f.ids = target, f.ids+1
	})
	var out map[string]string
	for u, f := range fates {
		if f.mixed || f.ids <= ShortList {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[from.units[u]] = f.to
	}
	return out
}

// With is r changed. before is the rule set that a change with Restore means, nil if there is none. Errors wrap those of
// Slotting.RulesOf and of lists; what is dropped or goes as a whole must be there.
func (r *Rules) With(c Change, before *Rules) (*Rules, error) {
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
	if c.Restore {
		if before == nil || len(c.Whole) > 0 || len(set) > 0 || drop.Len() > 0 {
			return nil, fmt.Errorf("%w: the exact lists are those of before, of which nothing is known or more is said", ErrNotListed)
		}
		out.exact = before.exact
		return out, nil
	}
	out.exact, err = r.exact.with(c.Whole, set, drop)
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

// with are the lists after some went as a whole, IDs got a unit, or another one, and others were dropped.
func (x *exactLists) with(whole map[string]string, set map[string]IDs, drop IDs) (*exactLists, error) {
	if len(whole) == 0 && len(set) == 0 && drop.Len() == 0 {
		return x, nil
	}
	given, err := newExact(set)
	if err != nil {
		return nil, err
	}
	bequests, err := x.bequests(whole)
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
			if i >= 0 && bequests[x.owner[i]].whole {
				err = fmt.Errorf("%w: %q is given to %s and goes with the list of %s", ErrExactTwice, given.ids.At(j), given.unitAt(j), x.unitAt(i))
			}
			pick(given.unitAt(j), &given.ids, j)
		case bequests[x.owner[i]].whole:
			if heir := bequests[x.owner[i]].heir; heir != "" {
				pick(heir, &x.ids, i)
			}
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

// bequest is what becomes of a unit's list.
type bequest struct {
	whole bool   // it goes as a whole
	heir  string // then to this unit; "": to nobody
}

// bequests are those of all lists, by index in units.
func (x *exactLists) bequests(whole map[string]string) ([]bequest, error) {
	out := make([]bequest, len(x.units))
	for unit, heir := range whole {
		u, ok := slices.BinarySearch(x.units, unit)
		if !ok || unit == heir {
			return nil, fmt.Errorf("%w: %q has no list that could go to %q as a whole", ErrNotListed, unit, heir)
		}
		out[u] = bequest{true, heir}
	}
	return out, nil
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
