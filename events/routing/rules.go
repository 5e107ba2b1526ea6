// Package routing owns the rules that say which unit serves a routerId.
//
// Rules is a complete, validated rule set: every slot belongs to exactly one
// unit, exact IDs win over slots. Table is its compiled form, in which a lookup
// is an array index; it also knows which keys an open cutover has fenced.
// A key is what a cutover moves: a slot without its exact IDs, or one exact ID.
//
// Everything here is immutable after construction and safe for concurrent use.
package routing

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a rule set.
const (
	// MaxSlots bounds the slots of one unit type, and with them the size of a Table.
	MaxSlots = 1 << 20
	// MaxRouterID is the longest routerId, in bytes.
	MaxRouterID = 256
	// MaxUnits bounds the units that ranges may name, and those that exact IDs may name.
	MaxUnits = 1024
	// MaxExact bounds the exact IDs of one rule set.
	MaxExact = 100_000
	// MaxExactText bounds those of them that are no numbers, in bytes together.
	MaxExactText = 8 << 20
)

// What can be wrong with a rule set. Errors wrap one of these and say where.
var (
	ErrSlots       = errors.New("bad number of slots")
	ErrBadPart     = errors.New("bad part of the routerId")
	ErrUnits       = errors.New("too many units")
	ErrBadRange    = errors.New("bad range")
	ErrGap         = errors.New("range gap")
	ErrOverlap     = errors.New("range overlap")
	ErrBadRouterID = errors.New("bad routerId")
	ErrExactTwice  = errors.New("exact ID given twice")
	ErrTooMany     = errors.New("too many exact IDs")
	ErrNotListed   = errors.New("no exact rule")
)

// Range is an inclusive range of slots; its text form is "5998-9999", or "7" for one slot.
type Range struct{ From, To uint32 }

// Len is the number of slots in r.
func (r Range) Len() int { return int(r.To-r.From) + 1 }

// String is the text form of r.
func (r Range) String() string {
	if r.From == r.To {
		return strconv.FormatUint(uint64(r.From), 10)
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}

// ParseRange reads the text form. The error wraps ErrBadRange.
func ParseRange(s string) (Range, error) {
	from, to, dash := strings.Cut(s, "-")
	if !dash {
		to = from
	}
	f, err1 := strconv.ParseUint(from, 10, 32)
	t, err2 := strconv.ParseUint(to, 10, 32)
	if err1 != nil || err2 != nil || f > t {
		return Range{}, fmt.Errorf("%w %q: want FROM-TO with FROM not above TO", ErrBadRange, s)
	}
	return Range{uint32(f), uint32(t)}, nil
}

// MarshalText and UnmarshalText make the text form the JSON form.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the text form.
func (r *Range) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRange(string(b))
	return err
}

// Assignment gives a range of slots to a unit.
type Assignment struct {
	Range
	Unit string
}

// Rules is a complete rule set of one unit type. The zero value is unusable: make one with Slotting.Rules.
type Rules struct {
	slotting Slotting
	ranges   []Assignment // sorted, merged, covering [0, slots) exactly once
	exact    *exactLists
	outline  string // hash of the exact lists that stand elsewhere, see Lists; then there are none here. "": they are here
}

// NewRules is Slotting.Rules of whole routerIds.
func NewRules(slots uint32, ranges map[string][]Range, exact map[string][]string) (*Rules, error) {
	return Slotting{Slots: slots}.Rules(ranges, exact)
}

// Rules is RulesOf with exact IDs as they are written by hand. Errors of a list are *ListError.
func (s Slotting) Rules(ranges map[string][]Range, exact map[string][]string) (*Rules, error) {
	r, err := s.RulesOf(ranges, nil) // what is wrong with the ranges comes first
	if err != nil || len(exact) == 0 {
		return r, err
	}
	lists, err := JoinLists(exact, nil)
	if err == nil {
		r.exact, err = newExact(lists)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// RulesOf builds a rule set. ranges must cover [0, slots) exactly once; an exact ID may belong to one unit only.
// Errors wrap the Err values of this package.
func (s Slotting) RulesOf(ranges map[string][]Range, exact map[string]IDs) (*Rules, error) {
	slots := s.Slots
	if slots == 0 || slots > MaxSlots {
		return nil, fmt.Errorf("%w: %d is not in 1-%d", ErrSlots, slots, MaxSlots)
	}
	if len(ranges) > MaxUnits {
		return nil, fmt.Errorf("%w: %d, at most %d are allowed", ErrUnits, len(ranges), MaxUnits)
	}
	if err := s.Part.Check(); err != nil {
		return nil, err
	}
	r := &Rules{slotting: s}
	for _, unit := range slices.Sorted(maps.Keys(ranges)) {
		for _, rg := range ranges[unit] {
			if rg.To >= slots || rg.From > rg.To {
				return nil, fmt.Errorf("%w: %s of %s does not lie in 0-%d", ErrBadRange, rg, unit, slots-1)
			}
			r.ranges = append(r.ranges, Assignment{rg, unit})
		}
	}
	if err := r.cover(); err != nil {
		return nil, err
	}
	var err error
	if r.exact, err = newExact(exact); err != nil {
		return nil, err
	}
	return r, nil
}

// cover sorts the ranges, proves that they cover every slot exactly once, and merges neighbours of one unit.
func (r *Rules) cover() error {
	slices.SortFunc(r.ranges, func(a, b Assignment) int { return cmp.Compare(a.From, b.From) })
	next := uint32(0)
	merged := r.ranges[:0:0]
	for _, a := range r.ranges {
		if a.From > next {
			return fmt.Errorf("%w: slots %s belong to no unit", ErrGap, Range{next, a.From - 1})
		}
		if a.From < next {
			other := merged[len(merged)-1]
			return fmt.Errorf("%w: slots %s belong to %s and %s", ErrOverlap, Range{a.From, min(a.To, next-1)}, other.Unit, a.Unit)
		}
		if n := len(merged); n > 0 && merged[n-1].Unit == a.Unit {
			merged[n-1].To = a.To
		} else {
			merged = append(merged, a)
		}
		next = a.To + 1
	}
	if next < r.slotting.Slots {
		return fmt.Errorf("%w: slots %s belong to no unit", ErrGap, Range{next, r.slotting.Slots - 1})
	}
	r.ranges = merged
	return nil
}

// CheckRouterID tells whether id may be a routerId: 1 to 256 bytes of UTF-8 without spaces and control characters.
// The error wraps ErrBadRouterID.
func CheckRouterID(id string) error {
	if id == "" || len(id) > MaxRouterID {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrBadRouterID, len(id), MaxRouterID)
	}
	for i, c := range id {
		switch {
		case c == utf8.RuneError:
			return fmt.Errorf("%w: byte %d is no UTF-8", ErrBadRouterID, i)
		case unicode.IsSpace(c):
			return fmt.Errorf("%w: byte %d is a space", ErrBadRouterID, i)
		case unicode.IsControl(c):
			return fmt.Errorf("%w: byte %d is a control character", ErrBadRouterID, i)
		}
	}
	return nil
}

// Slots is the number of slots.
func (r *Rules) Slots() uint32 { return r.slotting.Slots }

// Slotting is how routerIds are dealt out to the slots.
func (r *Rules) Slotting() Slotting { return r.slotting }

// Assignments are the merged ranges in slot order. The caller must not change them.
func (r *Rules) Assignments() []Assignment { return r.ranges }

// Ranges are the merged ranges by unit, a fresh copy.
func (r *Rules) Ranges() map[string][]Range {
	m := map[string][]Range{}
	for _, a := range r.ranges {
		m[a.Unit] = append(m[a.Unit], a.Range)
	}
	return m
}

// Exact are the exact IDs by unit, a fresh copy. Each list is in the order of IDs.
func (r *Rules) Exact() map[string][]string {
	m := map[string][]string{}
	for unit, ids := range r.exact.lists() {
		m[unit] = ids.Strings()
	}
	return m
}

// ExactIDs are the exact IDs by unit in their compact form. The map is a fresh one.
func (r *Rules) ExactIDs() map[string]IDs { return r.exact.lists() }

// ExactCount is the number of exact IDs.
func (r *Rules) ExactCount() int { return r.exact.ids.Len() }

// Units are the units that own a slot or an exact ID, sorted.
func (r *Rules) Units() []string {
	set := map[string]bool{}
	for _, a := range r.ranges {
		set[a.Unit] = true
	}
	for _, u := range r.exact.units {
		set[u] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// Owner is the unit that serves id, and whether an exact rule says so.
func (r *Rules) Owner(id string) (unit string, exact bool) {
	if u, ok := r.exact.unit(id); ok {
		return u, true
	}
	return r.SlotOwner(r.slotting.Slot(id)), false
}

// SlotOwner is the unit that owns a slot, which must be below Slots.
func (r *Rules) SlotOwner(slot uint32) string { return r.ranges[r.find(slot)].Unit }

// UnitsIn are the units that own the slots of rg, in slot order; a unit that owns several runs of them stands there
// more than once.
func (r *Rules) UnitsIn(rg Range) []string {
	var units []string
	for i := r.find(rg.From); i < len(r.ranges) && r.ranges[i].From <= rg.To; i++ {
		units = append(units, r.ranges[i].Unit)
	}
	return units
}

// find is the index of the range that holds slot.
func (r *Rules) find(slot uint32) int {
	i, _ := slices.BinarySearchFunc(r.ranges, slot, func(a Assignment, s uint32) int { return cmp.Compare(a.To, s) })
	return i
}

// Equal reports whether both rule sets say the same of every routerId and list the same exact IDs.
func (r *Rules) Equal(o *Rules) bool {
	return r.slotting == o.slotting && slices.Equal(r.ranges, o.ranges) && r.exact.equal(o.exact)
}
