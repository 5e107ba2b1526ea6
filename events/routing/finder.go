package routing

import (
	"math/bits"
	"slices"
)

// finder finds the IDs of a set that has numbers in two steps instead of as many as the set has digits in binary: one to a
// stretch of values, and a short search in it. Numbers that lie evenly, as users' numbers do, have some four in a stretch.
// It costs a byte for each number, and allocates nothing when it is asked.
type finder struct {
	ids   IDs
	shift uint     // a stretch is 1<<shift values, from the first number on
	start []uint32 // by stretch: index of its first number; one more at the end
}

func newFinder(ids IDs) finder {
	f := finder{ids: ids}
	n := len(ids.nums)
	if n < 32 {
		return f // a plain search is as fast
	}
	span := ids.nums[n-1] - ids.nums[0]
	f.shift = uint(max(0, bits.Len64(span)-bits.Len(uint(n/4))))
	f.start = make([]uint32, span>>f.shift+2)
	at := 0
	for i := range f.start {
		for at < n && (ids.nums[at]-ids.nums[0])>>f.shift < uint64(i) {
			at++
		}
		f.start[i] = uint32(at)
	}
	return f
}

// find is IDs.find.
func (f *finder) find(id string) (int, bool) {
	if f.start == nil {
		return f.ids.find(id)
	}
	v, ok := decimal(id)
	if !ok {
		return f.ids.find(id)
	}
	nums := f.ids.nums
	if v < nums[0] || v > nums[len(nums)-1] {
		return 0, false
	}
	stretch := (v - nums[0]) >> f.shift
	from, to := int(f.start[stretch]), int(f.start[stretch+1])
	if to-from > 16 {
		i, ok := slices.BinarySearch(nums[from:to], v)
		return from + i, ok
	}
	for i := from; i < to; i++ {
		if nums[i] >= v {
			return i, nums[i] == v
		}
	}
	return to, false
}
