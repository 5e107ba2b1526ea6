package routing

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// Changes lists every routerId of which the two tables say something else, by its slot or as an exact ID, and no slot
// and no exact ID without reason.
func TestChangesAgreeWithLookups(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	const slots = 40
	table := func() *Table {
		make1 := func() *Rules {
			cut := uint32(1 + rnd.IntN(slots-1))
			exact := map[string][]string{}
			for id := range 2 * slots {
				if rnd.IntN(8) == 0 {
					unit := fmt.Sprint("u", rnd.IntN(2))
					exact[unit] = append(exact[unit], fmt.Sprint(id))
				}
			}
			r, err := NewRules(slots, map[string][]Range{"u0": {{0, cut - 1}}, "u1": {{cut, slots - 1}}}, exact)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		from, to := make1(), make1()
		diff := Compare(from, to)
		if diff.Empty() {
			return Compile(from)
		}
		var waves []Wave
		for _, k := range diff.Split(3) {
			waves = append(waves, Wave{Keys: k, Phase: Phase(rnd.IntN(3))})
		}
		return CompileCutover(from, to, waves)
	}
	for range 200 {
		old, now := table(), table()
		got := now.Changes(old)
		inSlots := func(s uint32) bool {
			return slices.ContainsFunc(got.Slots, func(r Range) bool { return r.From <= s && s <= r.To })
		}
		for i := range 3 * slots { // beyond 2*slots there are no exact IDs
			id := fmt.Sprint(i)
			a, b := old.Lookup(id), now.Lookup(id)
			changed := a.Unit != b.Unit || a.Next != b.Next
			slot, exact := inSlots(Slot(id, slots)), got.Exact.Has(id)
			if changed && !slot && !exact {
				t.Fatalf("%s changed from %+v to %+v and is not listed", id, a, b)
			}
			if exact && !changed {
				t.Fatalf("%s is listed as exact and did not change", id)
			}
			if i >= 2*slots && slot != changed {
				t.Fatalf("slot %d: listed %v, changed %v", Slot(id, slots), slot, changed)
			}
		}
		if k := now.Changes(now); len(k.Slots)+k.Exact.Len() > 0 {
			t.Fatalf("a table differs from itself: %+v", k)
		}
	}
}

// Moving lists every key that some wave of the cutover moves, whatever phase it is in.
func TestMoving(t *testing.T) {
	from, err := NewRules(10, map[string][]Range{"a": {{0, 4}}, "b": {{5, 9}}}, map[string][]string{"a": {"7", "x"}})
	if err != nil {
		t.Fatal(err)
	}
	to, err := NewRules(10, map[string][]Range{"a": {{0, 7}}, "b": {{8, 9}}}, map[string][]string{"a": {"7"}, "b": {"x"}})
	if err != nil {
		t.Fatal(err)
	}
	waves := Compare(from, to).Split(3)
	for _, phases := range [][]Phase{{Pending, Pending, Pending}, {Committed, Fenced, Pending}} {
		var w []Wave
		for i, k := range waves {
			w = append(w, Wave{k, phases[i]})
		}
		k := CompileCutover(from, to, w).Moving()
		if !slices.Equal(k.Slots, []Range{{5, 7}}) || !k.Exact.Equal(MustIDs("x")) {
			t.Errorf("%v: %+v", phases, k)
		}
	}
	if k := Compile(from).Moving(); len(k.Slots)+k.Exact.Len() > 0 {
		t.Errorf("without a cutover: %+v", k)
	}
}
