package routing

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// IDs is a set of routerIds in a compact form: 8 bytes for a number, its own length and 4 bytes for anything else, and
// no pointer for each. The zero value is the empty set. Sets are equal if and only if their fields are.
//
// Its order is that of the numbers by their value, then that of all the others by their bytes.
type IDs struct {
	nums []uint64 // IDs that are numbers as decimal tells them, ascending; nil if there are none
	text string   // the others, one behind another, ascending
	ends []uint32 // where each of them ends in text; nil if there are none
}

// maxDigits is how long a number can be that fits into 64 bits whatever its digits are.
const maxDigits = 19

// decimal is the value of an ID that is a decimal number without leading zeros, and whether it is one. "007" is none: an
// exact ID is compared as a whole.
func decimal(id string) (v uint64, ok bool) {
	if len(id) == 0 || len(id) > maxDigits || id[0] == '0' && len(id) > 1 {
		return 0, false
	}
	for i := range len(id) {
		d := id[i] - '0'
		if d > 9 {
			return 0, false
		}
		v = v*10 + uint64(d)
	}
	return v, true
}

// NewIDs makes a set of a list in any order. Errors wrap ErrBadRouterID, ErrExactTwice or ErrTooMany.
func NewIDs(list []string) (IDs, error) {
	if len(list) > MaxExact {
		return IDs{}, fmt.Errorf("%w: %d in one list, at most %d are allowed", ErrTooMany, len(list), MaxExact)
	}
	var s IDs
	var others []string
	for _, id := range list {
		if v, ok := decimal(id); ok {
			s.nums = append(s.nums, v)
			continue
		}
		if err := CheckRouterID(id); err != nil {
			return IDs{}, fmt.Errorf("%w (%.300q)", err, id)
		}
		others = append(others, id)
	}
	slices.Sort(s.nums)
	slices.Sort(others)
	for i := 1; i < len(s.nums); i++ {
		if s.nums[i] == s.nums[i-1] {
			return IDs{}, fmt.Errorf("%w: %d stands in one list twice", ErrExactTwice, s.nums[i])
		}
	}
	for i := 1; i < len(others); i++ {
		if others[i] == others[i-1] {
			return IDs{}, fmt.Errorf("%w: %q stands in one list twice", ErrExactTwice, others[i])
		}
	}
	s.setTexts(others)
	return s, s.checkSize()
}

// MustIDs is NewIDs of IDs that are known to be good and different.
func MustIDs(list ...string) IDs {
	s, err := NewIDs(list)
	if err != nil {
		panic(err)
	}
	return s
}

// setTexts sets the IDs that are no numbers, which must be in order.
func (s *IDs) setTexts(sorted []string) {
	s.text, s.ends = strings.Join(sorted, ""), nil
	end := uint32(0)
	for _, id := range sorted {
		end += uint32(len(id))
		s.ends = append(s.ends, end)
	}
}

// checkSize keeps a set within what an edge can be asked to hold.
func (s *IDs) checkSize() error {
	if s.Len() > MaxExact {
		return fmt.Errorf("%w: %d, at most %d are allowed", ErrTooMany, s.Len(), MaxExact)
	}
	if len(s.text) > MaxExactText {
		return fmt.Errorf("%w: those that are no numbers have %d bytes, at most %d are allowed", ErrTooMany, len(s.text), MaxExactText)
	}
	return nil
}

// Len is the number of IDs.
func (s IDs) Len() int { return len(s.nums) + len(s.ends) }

// textAt is the i-th ID that is no number.
func (s *IDs) textAt(i int) string {
	begin := uint32(0)
	if i > 0 {
		begin = s.ends[i-1]
	}
	return s.text[begin:s.ends[i]]
}

// At is the i-th ID in order. A number's text is made anew.
func (s IDs) At(i int) string {
	if i < len(s.nums) {
		return strconv.FormatUint(s.nums[i], 10)
	}
	return s.textAt(i - len(s.nums))
}

// All are the IDs in order.
func (s IDs) All() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range s.Len() {
			if !yield(s.At(i)) {
				return
			}
		}
	}
}

// Strings are the IDs in order; nil if there are none.
func (s IDs) Strings() []string {
	if s.Len() == 0 {
		return nil
	}
	return slices.AppendSeq(make([]string, 0, s.Len()), s.All())
}

// String lists the IDs for people, of many the first ones.
func (s IDs) String() string {
	list := fmt.Sprint(s.Slice(0, min(s.Len(), ShortList)).Strings())
	if more := s.Len() - ShortList; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// Has reports whether the set holds an ID. It allocates nothing.
func (s *IDs) Has(id string) bool {
	_, ok := s.find(id)
	return ok
}

// find is where At has an ID, and whether it is there at all. It allocates nothing.
func (s *IDs) find(id string) (int, bool) {
	if v, ok := decimal(id); ok {
		return slices.BinarySearch(s.nums, v)
	}
	lo, hi := 0, len(s.ends)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := strings.Compare(s.textAt(mid), id); {
		case c < 0:
			lo = mid + 1
		case c > 0:
			hi = mid
		default:
			return len(s.nums) + mid, true
		}
	}
	return len(s.nums) + lo, false
}

// Equal reports whether both hold the same IDs.
func (s IDs) Equal(o IDs) bool {
	return s.text == o.text && slices.Equal(s.nums, o.nums) && slices.Equal(s.ends, o.ends)
}

// Slice are the IDs that At has from one index to before another one.
func (s IDs) Slice(from, to int) IDs {
	var out IDs
	n := len(s.nums)
	if from < n && from < to {
		out.nums = s.nums[from:min(to, n):min(to, n)]
	}
	from, to = max(from-n, 0), max(to-n, 0)
	if from >= to {
		return out
	}
	begin := uint32(0)
	if from > 0 {
		begin = s.ends[from-1]
	}
	out.text = s.text[begin:s.ends[to-1]]
	out.ends = slices.Clone(s.ends[from:to])
	for i := range out.ends {
		out.ends[i] -= begin
	}
	return out
}

// walkBoth yields every ID that one of two sets has, in order, by its index in each; -1: that one does not have it.
func walkBoth(a, b *IDs, yield func(i, j int)) {
	walkSorted(len(a.nums), len(b.nums), 0, 0, func(i, j int) int {
		switch x, y := a.nums[i], b.nums[j]; {
		case x < y:
			return -1
		case x > y:
			return 1
		default:
			return 0
		}
	}, yield)
	walkSorted(len(a.ends), len(b.ends), len(a.nums), len(b.nums), func(i, j int) int {
		return strings.Compare(a.textAt(i), b.textAt(j))
	}, yield)
}

// walkSorted merges two sorted lists of n and m elements; what it yields is counted from offsets on.
func walkSorted(n, m, ioff, joff int, compare func(i, j int) int, yield func(i, j int)) {
	i, j := 0, 0
	for i < n || j < m {
		var c int
		switch {
		case j == m:
			c = -1
		case i == n:
			c = 1
		default:
			c = compare(i, j)
		}
		switch {
		case c < 0:
			yield(ioff+i, -1)
			i++
		case c > 0:
			yield(-1, joff+j)
			j++
		default:
			yield(ioff+i, joff+j)
			i, j = i+1, j+1
		}
	}
}

// picker builds a set of IDs that come in order.
type picker struct {
	set  IDs
	text strings.Builder
}

// take appends the i-th ID of s.
func (p *picker) take(s *IDs, i int) {
	if i < len(s.nums) {
		p.set.nums = append(p.set.nums, s.nums[i])
		return
	}
	p.text.WriteString(s.textAt(i - len(s.nums)))
	p.set.ends = append(p.set.ends, uint32(p.text.Len()))
}

// done is the set. The picker is spent.
func (p *picker) done() IDs {
	p.set.text = p.text.String()
	return p.set
}

// MarshalJSON writes a short set as the list of its IDs, and a longer one as the text of its packed form.
func (s IDs) MarshalJSON() ([]byte, error) {
	if s.Len() <= ShortList {
		return json.Marshal(append([]string{}, s.Strings()...))
	}
	return json.Marshal(Pack(s))
}

// UnmarshalJSON reads both.
func (s *IDs) UnmarshalJSON(b []byte) (err error) {
	if len(b) > 0 && b[0] == '"' {
		var p Packed
		if err := json.Unmarshal(b, &p); err != nil {
			return err
		}
		*s, err = p.IDs()
		return err
	}
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*s, err = NewIDs(list)
	return err
}

// With are the IDs of both sets.
func (s IDs) With(o IDs) IDs {
	var p picker
	walkBoth(&s, &o, func(i, j int) {
		if i >= 0 {
			p.take(&s, i)
		} else {
			p.take(&o, j)
		}
	})
	return p.done()
}

// Without are the IDs of s that o does not have.
func (s IDs) Without(o IDs) IDs {
	if s.Len() == 0 || o.Len() == 0 {
		return s
	}
	var p picker
	walkBoth(&s, &o, func(i, j int) {
		if i >= 0 && j < 0 {
			p.take(&s, i)
		}
	})
	return p.done()
}

// IsZero reports whether the set is empty.
func (s IDs) IsZero() bool { return s.Len() == 0 }
