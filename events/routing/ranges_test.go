package routing

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMerge(t *testing.T) {
	for _, c := range []struct{ in, want []Range }{
		{nil, nil},
		{[]Range{{5, 9}, {0, 4}}, []Range{{0, 9}}},
		{[]Range{{0, 9}, {2, 3}, {11, 12}}, []Range{{0, 9}, {11, 12}}},
		{[]Range{{0, 9}, {0, 9}, {0, 9}}, []Range{{0, 9}}},
		{[]Range{{1, math.MaxUint32}, {3, 4}, {0, 0}}, []Range{{0, math.MaxUint32}}},
	} {
		if got := Merge(slices.Clone(c.in)); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.in, got, c.want)
		}
	}
}

// Merged ranges name the slots that the ranges name, each once and with a gap between two.
func TestMergeSaysTheSame(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		var in []Range
		named := map[uint32]bool{}
		for range rnd.IntN(20) {
			from := rnd.Uint32N(100)
			r := Range{from, from + rnd.Uint32N(8)}
			in = append(in, r)
			for s := r.From; s <= r.To; s++ {
				named[s] = true
			}
		}
		merged := Merge(slices.Clone(in))
		for i := 1; i < len(merged); i++ {
			if merged[i].From <= merged[i-1].To+1 {
				t.Fatalf("%v: %v", in, merged)
			}
		}
		for s := range uint32(120) {
			if Within(merged, s) != named[s] {
				t.Fatalf("%v: %v names slot %d: %v", in, merged, s, !named[s])
			}
		}
	}
}

func TestSlotsOf(t *testing.T) {
	s := Slotting{Slots: 10}
	got := s.SlotsOf(Keys{Slots: []Range{{7, 8}, {0, 1}}, Exact: MustIDs("12", "13", "104", "9")})
	if want := []Range{{0, 4}, {7, 9}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
