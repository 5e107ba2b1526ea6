package routing

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// randomRules are valid rules of a few units, with exact IDs.
func randomRules(t *testing.T, rnd *rand.Rand, slots uint32) *Rules {
	t.Helper()
	ranges, exact := map[string][]Range{}, map[string][]string{}
	for s := uint32(0); s < slots; {
		n := 1 + uint32(rnd.IntN(int(slots)/3))
		u := fmt.Sprint("u", rnd.IntN(3))
		ranges[u] = append(ranges[u], Range{s, min(s+n, slots) - 1})
		s += n
	}
	for id := range 2 * slots {
		if rnd.IntN(6) == 0 {
			u := fmt.Sprint("u", rnd.IntN(3))
			exact[u] = append(exact[u], fmt.Sprint(id))
		}
	}
	r, err := NewRules(slots, ranges, exact)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The rules that stand after some waves say of every routerId what the cutover's table said, and are valid rules.
func TestStandingAgreesWithTheTable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	const slots = 30
	for range 300 {
		from, to := randomRules(t, rnd, slots), randomRules(t, rnd, slots)
		d := Compare(from, to)
		if d.Empty() {
			continue
		}
		keys := d.Split(1 + rnd.IntN(5))
		if rnd.IntN(2) == 0 {
			keys = d.SplitAt([]int{1, 10, 50, 100})
		}
		if err := CheckWaves(from, to, keys); err != nil {
			t.Fatal(err)
		}
		done := rnd.IntN(len(keys) + 1)
		waves := make([]Wave, len(keys))
		for i := range keys {
			waves[i].Keys = keys[i]
			if i < done {
				waves[i].Phase = Committed
			}
		}
		table, got := CompileCutover(from, to, waves), Standing(from, to, keys[:done])
		for id := range 4 * slots {
			id := fmt.Sprint(id)
			if unit, _ := got.Owner(id); unit != table.Lookup(id).Unit {
				t.Fatalf("%s belongs to %s, the table says %s", id, unit, table.Lookup(id).Unit)
			}
		}
		b, err := got.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var again Rules
		if err := again.UnmarshalJSON(b); err != nil || !again.Equal(got) {
			t.Fatalf("%s: %v", b, err)
		}
		if done == 0 && !got.Equal(from) {
			t.Fatal("nothing is committed and the rules are others")
		}
	}
}

// Percentages of the moving keys, of which the first makes a wave of at least one key.
func TestSplitAt(t *testing.T) {
	d := Diff{Moves: []Move{{From: 0, To: 199, Source: "a", Target: "b"}}}
	for _, c := range []struct {
		percent []int
		want    []int
	}{
		{[]int{1, 10, 50, 100}, []int{2, 18, 80, 100}},
		{[]int{100}, []int{200}},
		{[]int{50, 50, 100}, []int{100, 100}},
	} {
		var got []int
		for _, k := range d.SplitAt(c.percent) {
			got = append(got, k.SlotCount())
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%v: waves of %v slots, want %v", c.percent, got, c.want)
		}
	}
	few := Diff{Moves: []Move{{From: 0, To: 2, Source: "a", Target: "b"}}}
	if got := few.SplitAt([]int{1, 10, 100}); len(got) != 2 || got[0].SlotCount() != 1 || got[1].SlotCount() != 2 {
		t.Errorf("three keys: %v", got)
	}
}
