package routing

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// exactLists are the exact IDs of a rule set and whose they are: 10 bytes for a number. Rule sets share them where they
// have the same ones; nothing in them ever changes.
type exactLists struct {
	ids   IDs
	units []string // owners, sorted; each owns at least one ID
	owner []uint16 // by index in ids: index into units

	once sync.Once
	hash string // see sum; only after once
}

func noExact() *exactLists { return &exactLists{} }

// newExact joins the lists of units. Errors wrap ErrUnits, ErrExactTwice or ErrTooMany.
func newExact(lists map[string]IDs) (*exactLists, error) {
	if len(lists) > MaxUnits {
		return nil, fmt.Errorf("%w: %d, at most %d are allowed", ErrUnits, len(lists), MaxUnits)
	}
	x := noExact()
	total := 0
	for _, unit := range slices.Sorted(maps.Keys(lists)) {
		if n := lists[unit].Len(); n > 0 {
			x.units = append(x.units, unit)
			total += n
		}
	}
	if total > MaxExact {
		return nil, fmt.Errorf("%w: %d, at most %d are allowed", ErrTooMany, total, MaxExact)
	}
	if len(x.units) == 1 {
		x.ids = lists[x.units[0]]
		x.owner = make([]uint16, total)
		return x, x.ids.checkSize()
	}
	return x, x.merge(lists)
}

// merge fills in the IDs of several units.
func (x *exactLists) merge(lists map[string]IDs) error {
	type number struct {
		v    uint64
		unit uint16
	}
	type text struct {
		s    string
		unit uint16
	}
	var nums []number
	var texts []text
	for u, unit := range x.units {
		l := lists[unit]
		for _, v := range l.nums {
			nums = append(nums, number{v, uint16(u)})
		}
		for i := range l.ends {
			texts = append(texts, text{l.textAt(i), uint16(u)})
		}
	}
	slices.SortFunc(nums, func(a, b number) int { return cmp.Compare(a.v, b.v) })
	slices.SortFunc(texts, func(a, b text) int { return strings.Compare(a.s, b.s) })
	for i, n := range nums {
		if i > 0 && nums[i-1].v == n.v {
			return x.twice(fmt.Sprint(n.v), nums[i-1].unit, n.unit)
		}
		x.ids.nums = append(x.ids.nums, n.v)
		x.owner = append(x.owner, n.unit)
	}
	sorted := make([]string, len(texts))
	for i, t := range texts {
		if i > 0 && texts[i-1].s == t.s {
			return x.twice(t.s, texts[i-1].unit, t.unit)
		}
		sorted[i] = t.s
		x.owner = append(x.owner, t.unit)
	}
	x.ids.setTexts(sorted)
	return x.ids.checkSize()
}

func (x *exactLists) twice(id string, a, b uint16) error {
	return fmt.Errorf("%w: %q belongs to %s and %s", ErrExactTwice, id, x.units[min(a, b)], x.units[max(a, b)])
}

// unit is who owns an exact ID. It allocates nothing.
func (x *exactLists) unit(id string) (string, bool) {
	i, ok := x.ids.find(id)
	if !ok {
		return "", false
	}
	return x.units[x.owner[i]], true
}

// unitAt is who owns the i-th ID.
func (x *exactLists) unitAt(i int) string { return x.units[x.owner[i]] }

// lists are the IDs by unit.
func (x *exactLists) lists() map[string]IDs {
	out := make(map[string]IDs, len(x.units))
	if len(x.units) == 1 {
		out[x.units[0]] = x.ids
		return out
	}
	picks := make([]picker, len(x.units))
	for i, u := range x.owner {
		picks[u].take(&x.ids, i)
	}
	for u, unit := range x.units {
		out[unit] = picks[u].done()
	}
	return out
}

func (x *exactLists) equal(o *exactLists) bool {
	return x == o || x.ids.Equal(o.ids) && slices.Equal(x.units, o.units) && slices.Equal(x.owner, o.owner)
}

// long reports whether a list of them travels packed.
func (x *exactLists) long() bool {
	if x.ids.Len() <= ShortList {
		return false
	}
	count := make([]int, len(x.units))
	for _, u := range x.owner {
		if count[u]++; count[u] > ShortList {
			return true
		}
	}
	return false
}

// sum is the hex SHA-256 of what they say, made once.
func (x *exactLists) sum() string {
	x.once.Do(func() {
		h := sha256.New()
		lists := x.lists()
		for _, unit := range x.units {
			p := Pack(lists[unit])
			fmt.Fprintf(h, "%s %d\n", unit, len(p))
			h.Write(p) // a hash takes everything
		}
		x.hash = hex.EncodeToString(h.Sum(nil))
	})
	return x.hash
}

// SplitLists deals lists out to the two forms in which they are written: up to ShortList IDs as they are, more packed.
func SplitLists(lists map[string]IDs) (short map[string][]string, long map[string]Packed) {
	for unit, ids := range lists {
		if ids.Len() > ShortList {
			if long == nil {
				long = map[string]Packed{}
			}
			long[unit] = Pack(ids)
			continue
		}
		if short == nil {
			short = map[string][]string{}
		}
		short[unit] = ids.Strings()
	}
	return short, long
}

// JoinLists reads lists that stand in two forms, each unit's in one or both of them. Errors are *ListError.
func JoinLists(short map[string][]string, long map[string]Packed) (map[string]IDs, error) {
	out := make(map[string]IDs, len(short)+len(long))
	for _, unit := range slices.Sorted(maps.Keys(short)) {
		ids, err := NewIDs(short[unit])
		if err != nil {
			return nil, &ListError{Unit: unit, Err: err}
		}
		out[unit] = ids
	}
	for _, unit := range slices.Sorted(maps.Keys(long)) {
		ids, err := long[unit].IDs()
		if err == nil {
			ids, err = ids.union(out[unit])
		}
		if err != nil {
			return nil, &ListError{Unit: unit, Packed: true, Err: err}
		}
		out[unit] = ids
	}
	return out, nil
}

// ListError says in which list something is wrong.
type ListError struct {
	Unit   string
	Packed bool // it is the packed one
	Err    error
}

func (e *ListError) Error() string { return fmt.Sprintf("%v (exact list of %s)", e.Err, e.Unit) }

// Unwrap is what is wrong.
func (e *ListError) Unwrap() error { return e.Err }

// union is both sets, which must have no ID in common.
func (s IDs) union(o IDs) (IDs, error) {
	if o.Len() == 0 {
		return s, nil
	}
	if s.Len() == 0 {
		return o, nil
	}
	var p picker
	var err error
	walkBoth(&s, &o, func(i, j int) {
		switch {
		case i >= 0 && j >= 0:
			err = fmt.Errorf("%w: %q stands in both forms of the list", ErrExactTwice, s.At(i))
		case i >= 0:
			p.take(&s, i)
		default:
			p.take(&o, j)
		}
	})
	if err != nil {
		return IDs{}, err
	}
	out := p.done()
	return out, out.checkSize()
}
