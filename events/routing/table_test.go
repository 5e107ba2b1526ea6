package routing_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

// A world is two random rule sets over the same slots, and IDs to ask about: every slot's number, every listed ID.
type world struct {
	from, to *routing.Rules
	ids      []string
}

func newWorld(t testing.TB, seed uint64) world {
	r := rand.New(rand.NewPCG(seed, 7))
	slots := 1 + r.Uint32N(60)
	if seed%8 == 0 {
		slots = 1 + r.Uint32N(3)
	}
	pool := []string{"vip-7", "用户", "-5", "007", "0", "a", "b", "c", "99999999999999999999999"}
	for s := range slots {
		pool = append(pool, fmt.Sprint(s), fmt.Sprint(uint64(slots)*3+uint64(s)))
	}
	slices.Sort(pool)
	pool = slices.Compact(pool)
	w := world{ids: pool}
	w.from = randomRules(t, r, slots, pool)
	w.to = randomRules(t, r, slots, pool)
	if seed%5 == 0 { // differ a little only
		w.to = mustRules(t, slots, w.from.Ranges(), randomExact(r, pool))
	}
	return w
}

func randomRules(t testing.TB, r *rand.Rand, slots uint32, pool []string) *routing.Rules {
	units := []string{"a", "b", "c", "d"}[:1+r.IntN(4)]
	rs := ranges{}
	for s := uint32(0); s < slots; {
		n := min(1+r.Uint32N(1+slots/3), slots-s)
		u := units[r.IntN(len(units))]
		rs[u] = append(rs[u], routing.Range{From: s, To: s + n - 1})
		s += n
	}
	for _, list := range rs { // the order of writing does not matter
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	return mustRules(t, slots, rs, randomExact(r, pool))
}

func randomExact(r *rand.Rand, pool []string) exact {
	e := exact{}
	for _, id := range pool {
		if r.IntN(4) == 0 {
			u := []string{"a", "b", "c", "d"}[r.IntN(4)]
			e[u] = append(e[u], id)
		}
	}
	return e
}

func eachWorld(t *testing.T, check func(t *testing.T, w world, r *rand.Rand)) {
	t.Helper()
	for seed := range uint64(400) {
		check(t, newWorld(t, seed), rand.New(rand.NewPCG(seed, 8)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// ownerByHand is the owner as the contract's sentence says it: exact wins, else the range that holds the slot.
func ownerByHand(r *routing.Rules, id string) string {
	for unit, list := range r.Exact() {
		if slices.Contains(list, id) {
			return unit
		}
	}
	s := routing.Slot(id, r.Slots())
	for unit, list := range r.Ranges() {
		for _, rg := range list {
			if rg.From <= s && s <= rg.To {
				return unit
			}
		}
	}
	return ""
}

func TestLookupAgreesWithOwner(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world, _ *rand.Rand) {
		table := routing.Compile(w.from)
		for _, id := range w.ids {
			unit, isExact := w.from.Owner(id)
			if want := ownerByHand(w.from, id); unit != want {
				t.Errorf("Owner(%q) = %s, want %s", id, unit, want)
			}
			if got := *table.Lookup(id); got != (routing.Route{Unit: unit, Exact: isExact, Wave: -1}) {
				t.Errorf("Lookup(%q) = %+v, owner %s", id, got, unit)
			}
			if table.Slot(id) != routing.Slot(id, w.from.Slots()) || table.Slotting() != w.from.Slotting() {
				t.Errorf("slots of %q differ", id)
			}
		}
		for _, u := range w.from.Units() {
			if !table.Owns(u) {
				t.Errorf("%s owns something, the table says no", u)
			}
		}
		if table.Owns("nobody") {
			t.Error("nobody owns something")
		}
	})
}

func TestRulesRoundTrip(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world, r *rand.Rand) {
		b, err := json.Marshal(w.from)
		if err != nil {
			t.Fatal(err)
		}
		var back routing.Rules
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		again, _ := json.Marshal(&back)
		if !back.Equal(w.from) || string(again) != string(b) {
			t.Errorf("%s reads back as %s", b, again)
		}
		// The same rules written another way give the same bytes.
		split := ranges{}
		for _, a := range w.from.Assignments() {
			cut := a.From + r.Uint32N(uint32(a.Len()))
			split[a.Unit] = append(split[a.Unit], routing.Range{From: a.From, To: cut})
			if cut < a.To {
				split[a.Unit] = append(split[a.Unit], routing.Range{From: cut + 1, To: a.To})
			}
		}
		c, _ := json.Marshal(mustRules(t, w.from.Slots(), split, w.from.Exact()))
		if string(c) != string(b) {
			t.Errorf("%s and %s say the same", b, c)
		}
	})
}

func exactKeys(w world) []string {
	set := map[string]bool{}
	for _, r := range []*routing.Rules{w.from, w.to} {
		for _, list := range r.Exact() {
			for _, id := range list {
				set[id] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Compare lists exactly the keys whose owner differs.
func TestCompareAgainstBruteForce(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world, _ *rand.Rand) {
		d := routing.Compare(w.from, w.to)
		got := map[uint32]string{}
		for i, m := range d.Moves {
			if i > 0 && m.From <= d.Moves[i-1].To {
				t.Errorf("moves overlap or are unordered: %+v", d.Moves)
			}
			if i > 0 && m.From == d.Moves[i-1].To+1 && m.Source == d.Moves[i-1].Source && m.Target == d.Moves[i-1].Target {
				t.Errorf("moves are not merged: %+v", d.Moves)
			}
			for s := m.From; s <= m.To; s++ {
				got[s] = m.Source + ">" + m.Target
			}
		}
		want := map[uint32]string{}
		for s := range w.from.Slots() {
			if a, b := w.from.SlotOwner(s), w.to.SlotOwner(s); a != b {
				want[s] = a + ">" + b
			}
		}
		if !maps.Equal(got, want) || d.Slots() != len(want) {
			t.Errorf("got %v (%d), want %v", got, d.Slots(), want)
		}
		var moves []routing.ExactMove
		for _, id := range exactKeys(w) {
			if a, b := ownerByHand(w.from, id), ownerByHand(w.to, id); a != b {
				moves = append(moves, routing.ExactMove{ID: id, Source: a, Target: b})
			}
		}
		found := d.ExactMoves(d.Exact.Len())
		byID := func(a, b routing.ExactMove) int { return strings.Compare(a.ID, b.ID) }
		slices.SortFunc(moves, byID)
		slices.SortFunc(found, byID)
		if !slices.Equal(moves, found) || d.Keys() != len(moves)+len(want) || d.Empty() != (d.Keys() == 0) {
			t.Errorf("got %+v, want %+v", found, moves)
		}
		if !routing.Compare(w.from, w.from).Empty() {
			t.Error("rules differ from themselves")
		}
	})
}

// Split deals every moving key exactly once into waves whose sizes differ by one at most.
func TestSplit(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world, r *rand.Rand) {
		d := routing.Compare(w.from, w.to)
		for _, n := range []int{-1, 0, 1, 2, 3, 7, 1 + r.IntN(100), d.Keys(), d.Keys() + 1} {
			waves := d.Split(n)
			if want := max(1, min(n, d.Keys())); len(waves) != want {
				t.Fatalf("Split(%d) of %d keys gives %d waves", n, d.Keys(), len(waves))
			}
			least, most := 1<<30, 0
			for _, k := range waves {
				size := k.Exact.Len()
				for _, rg := range k.Slots {
					size += rg.Len()
				}
				least, most = min(least, size), max(most, size)
			}
			if most-least > 1 {
				t.Errorf("Split(%d): sizes from %d to %d", n, least, most)
			}
			if err := routing.CheckWaves(w.from, w.to, waves); err != nil {
				t.Errorf("Split(%d): %v", n, err) // every moving key once, no other
			}
		}
	})
}

// Keys of pending waves route as before, of committed ones as after, of fenced ones have both; a key that does not
// move routes the same whatever the waves do, also an ID that only one of the rule sets lists.
func TestCutoverTable(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world, r *rand.Rand) {
		d := routing.Compare(w.from, w.to)
		var waves []routing.Wave
		in := map[string]int{} // key -> wave
		for i, k := range d.Split(1 + r.IntN(5)) {
			waves = append(waves, routing.Wave{Keys: k, Phase: routing.Phase(r.IntN(3))})
			for _, rg := range k.Slots {
				for s := rg.From; s <= rg.To; s++ {
					in[fmt.Sprint("slot ", s)] = i
				}
			}
			for id := range k.Exact.All() {
				in["exact "+id] = i
			}
		}
		table := routing.CompileCutover(w.from, w.to, waves)
		listed := exactKeys(w)
		for _, id := range w.ids {
			before, after := ownerByHand(w.from, id), ownerByHand(w.to, id)
			key := fmt.Sprint("slot ", routing.Slot(id, w.from.Slots()))
			want := routing.Route{Unit: before, Wave: -1}
			if slices.Contains(listed, id) {
				key, want.Exact = "exact "+id, true
			}
			if i, moves := in[key]; moves {
				want.Wave = i
				switch waves[i].Phase {
				case routing.Fenced:
					want.Next = after
				case routing.Committed:
					want.Unit, want.Moved = after, true
				}
			} else if before != after {
				t.Errorf("%q moves and is in no wave", id)
			}
			if got := *table.Lookup(id); got != want {
				t.Errorf("Lookup(%q) = %+v, want %+v", id, got, want)
			}
		}
	})
}

// Changes names every key of which the new table says something else, and no slot beyond those.
func TestChanges(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world, r *rand.Rand) {
		keys := routing.Compare(w.from, w.to).Split(3)
		phases := func() *routing.Table {
			var waves []routing.Wave
			for _, k := range keys {
				waves = append(waves, routing.Wave{Keys: k, Phase: routing.Phase(r.IntN(3))})
			}
			return routing.CompileCutover(w.from, w.to, waves)
		}
		tables := []*routing.Table{routing.Compile(w.from), routing.Compile(w.to), phases(), phases()}
		old, now := tables[r.IntN(len(tables))], tables[r.IntN(len(tables))]
		ch := now.Changes(old)
		listed := func(id string) bool {
			s := old.Slot(id)
			return ch.Exact.Has(id) || slices.ContainsFunc(ch.Slots, func(rg routing.Range) bool { return rg.From <= s && s <= rg.To })
		}
		for _, id := range w.ids {
			a, b := old.Lookup(id), now.Lookup(id)
			if (a.Unit != b.Unit || a.Next != b.Next) && !listed(id) {
				t.Errorf("%q goes from %+v to %+v and is not listed in %+v", id, a, b, ch)
			}
		}
		if c := now.Changes(now); len(c.Slots)+c.Exact.Len() > 0 {
			t.Errorf("a table differs from itself: %+v", c)
		}
	})
}
