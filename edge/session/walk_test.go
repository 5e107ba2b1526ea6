package session

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

// While a walk goes on in small pieces, entries come and go, in the lists ahead of it, behind it and in the one where it
// is. It comes once to each that was there and stays, to none twice, and Passed says of each to which it has come.
func TestWalkWhileEntriesComeAndGo(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		w := walker{t: t, rnd: rnd, met: map[*Entry[string]]bool{}}
		for range 200 {
			w.add()
		}
		lists := []routing.Range{{From: 0, To: 4}, {From: 7, To: 7}, {From: 12, To: slots}}
		if seed%2 == 0 {
			lists = Everything()
		}
		if seed%3 == 0 { // and they are sorted anew meanwhile
			lists = Everything()
			w.r.Resort("t", routing.Slotting{Slots: 2 * slots})
			w.slots = 2 * slots
		}
		w.walk(lists)
	}
}

type walker struct {
	t     *testing.T
	rnd   *rand.Rand
	r     Registry[string]
	list  []*Entry[string]
	met   map[*Entry[string]]bool
	slots uint32
}

// add registers an entry, of one user in three so that some lists are long.
func (w *walker) add() {
	id := fmt.Sprint(w.rnd.IntN(60))
	switch w.rnd.IntN(6) {
	case 0, 1:
		id = "7"
	case 2:
		id = ""
	}
	if w.slots == 0 {
		w.slots = slots
	}
	e := &Entry[string]{Key: key(id), Value: id}
	if id != "" {
		e.Key.Slot = routing.Slot(id, w.slots)
	}
	w.r.Add(e, routing.Slotting{Slots: w.slots})
	w.list = append(w.list, e)
}

func (w *walker) walk(lists []routing.Range) {
	asked := func(e *Entry[string]) bool {
		if e.Key.Unbound() {
			return routing.Within(lists, w.slots)
		}
		return routing.Within(lists, e.Key.Slot)
	}
	before := append([]*Entry[string]{}, w.list...)
	removed := map[*Entry[string]]bool{}
	walk := w.r.Walk("t", lists)
	for !walk.Done() {
		steps := 1 + w.rnd.IntN(6*EntryStep)
		for e := walk.Next(&steps); e != nil; e = walk.Next(&steps) {
			if w.met[e] || removed[e] {
				w.t.Fatalf("the walk comes to %q again, or after it was removed", e.Value)
			}
			w.met[e] = true
		}
		for _, e := range before {
			if !removed[e] && asked(e) && !walk.Done() && walk.Passed(e) != w.met[e] {
				w.t.Fatalf("passed %q: %v", e.Value, walk.Passed(e))
			}
		}
		for range w.rnd.IntN(3) {
			w.add()
			i := w.rnd.IntN(len(w.list))
			removed[w.list[i]] = true
			w.r.Remove(w.list[i])
			w.list[i] = w.list[len(w.list)-1]
			w.list = w.list[:len(w.list)-1]
		}
	}
	for _, e := range before {
		if !removed[e] && w.met[e] != asked(e) {
			w.t.Fatalf("asked for %q: %v, met: %v", e.Value, asked(e), w.met[e])
		}
	}
	if w.r.Len("t") != len(w.list) {
		w.t.Fatalf("%d entries, want %d", w.r.Len("t"), len(w.list))
	}
}

// BenchmarkWalk shows what steps cost: a million entries, in one list for ten of them or one for each ten thousand, and a
// million empty lists.
func BenchmarkWalk(b *testing.B) {
	for _, c := range []struct{ entries, slots uint32 }{{1_000_000, 100_000}, {1_000_000, 100}, {1, routing.MaxSlots}} {
		b.Run(fmt.Sprintf("%d entries in %d lists", c.entries, c.slots), func(b *testing.B) {
			var r Registry[int]
			for _, i := range rand.Perm(int(c.entries)) {
				id := fmt.Sprint(i)
				e := &Entry[int]{Key: key(id)}
				e.Key.Slot = routing.Slot(id, c.slots)
				r.Add(e, routing.Slotting{Slots: c.slots})
			}
			const all = 1 << 40
			steps, met := all, 0
			for b.Loop() {
				for w := r.Walk("t", Everything()); !w.Done(); {
					if e := w.Next(&steps); e != nil && e.Registered() {
						met++
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(all-steps), "ns/step")
			if met != b.N*int(c.entries) {
				b.Errorf("met %d", met)
			}
		})
	}
}
