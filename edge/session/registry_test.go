package session

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events/routing"
)

const slots = 20

func key(id string) handshake.Key {
	k := handshake.Key{Type: "t", RouterID: id}
	if id != "" {
		k.Slot = routing.Slot(id, slots)
	}
	return k
}

func ids(entries []*Entry[string]) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Value)
	}
	slices.Sort(out)
	return out
}

// The registry agrees with a plain list under random use.
func TestRegistryAgreesWithAList(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	var r Registry[string]
	var list []*Entry[string]
	for step := range 5000 {
		if rnd.IntN(3) > 0 || len(list) == 0 {
			id := fmt.Sprint(rnd.IntN(60))
			if rnd.IntN(10) == 0 {
				id = ""
			}
			e := &Entry[string]{Key: key(id), Value: fmt.Sprint(id, "#", step)}
			r.Add(e, routing.Slotting{Slots: slots})
			list = append(list, e)
		} else {
			i := rnd.IntN(len(list))
			r.Remove(list[i])
			r.Remove(list[i]) // does nothing
			if list[i].Registered() {
				t.Fatal("still registered")
			}
			list = slices.Delete(list, i, i+1)
		}
		if step%50 > 0 {
			continue
		}
		if r.Len("t") != len(list) || len(walked(&r, "t", Everything())) != len(list) {
			t.Fatalf("%d entries, want %d", r.Len("t"), len(list))
		}
		id := fmt.Sprint(rnd.IntN(60))
		slot := routing.Slot(id, slots)
		check(t, list, ids(walked(&r, "t", []routing.Range{{From: slot, To: slot}})), func(e *Entry[string]) bool {
			return e.Key.RouterID != "" && e.Key.Slot == slot
		})
		c := Change{Type: "t", Slotting: routing.Slotting{Slots: slots}, Unmarked: rnd.IntN(2) == 0, Keys: routing.Keys{
			Slots: []routing.Range{{From: 3, To: 5}, {From: 19, To: 19}}, Exact: routing.MustIDs("7", "27")}}
		check(t, list, ids(walked(&r, "t", c.Lists())), func(e *Entry[string]) bool {
			s := e.Key.Slot
			if e.Key.RouterID == "" {
				return c.Unmarked
			}
			return s >= 3 && s <= 5 || s == 19 || s == 7 // that of 7 and of 27
		})
	}
	if walked(&r, "other", Everything()) != nil || walked(&r, "t", nil) != nil || r.Len("other") != 0 {
		t.Error("a type without entries")
	}
}

// walked are the entries to which a walk comes that goes all the way at once.
func walked(r *Registry[string], unitType string, lists []routing.Range) (out []*Entry[string]) {
	for w := r.Walk(unitType, lists); !w.Done(); {
		steps := math.MaxInt
		if e := w.Next(&steps); e != nil {
			out = append(out, e)
		}
	}
	return out
}

func check(t *testing.T, list []*Entry[string], got []string, in func(*Entry[string]) bool) {
	t.Helper()
	var want []string
	for _, e := range list {
		if in(e) {
			want = append(want, e.Value)
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestResort(t *testing.T) {
	var r Registry[string]
	entries := map[string]*Entry[string]{}
	for i := range 100 {
		id := fmt.Sprint(i)
		entries[id] = &Entry[string]{Key: key(id), Value: id}
		r.Add(entries[id], routing.Slotting{Slots: slots})
	}
	unmarked := &Entry[string]{Key: key(""), Value: "unmarked"}
	r.Add(unmarked, routing.Slotting{Slots: slots})
	r.Resort("t", routing.Slotting{Slots: 64})
	if r.Len("t") != 101 {
		t.Errorf("%d entries while they wait", r.Len("t"))
	}
	gone := entries["99"]
	r.Remove(gone) // while it waits to be sorted
	delete(entries, "99")
	late := &Entry[string]{Key: handshake.Key{Type: "t", RouterID: "163", Slot: 35}, Value: "163"}
	r.Add(late, routing.Slotting{Slots: 64})
	if got := walked(&r, "t", []routing.Range{{From: 3, To: 3}}); len(got) != 100 {
		t.Errorf("the walk that sorts comes to %d", len(got))
	}
	got := walked(&r, "t", []routing.Range{{From: 35, To: 35}})
	if !slices.Equal(ids(got), []string{"163", "35"}) {
		t.Errorf("got %v", ids(got))
	}
	r.Remove(late)
	for id, e := range entries {
		if e.Key.Slot != routing.Slot(id, 64) {
			t.Errorf("%s is in slot %d", id, e.Key.Slot)
		}
		r.Remove(e)
	}
	if r.Remove(unmarked); r.Len("t") != 0 {
		t.Errorf("%d entries are left", r.Len("t"))
	}
}

func view(unit string, r *routing.Rules, hold time.Duration) *handshake.View {
	v := &handshake.View{Unit: unit, Center: "c", Types: map[string]*handshake.Type{}, Hold: hold}
	if r != nil {
		table := routing.Compile(r)
		v.Types["t"] = &handshake.Type{Name: "t", Table: table, Local: table.Owns(unit)}
	}
	return v
}

func inForm(v *handshake.View) *handshake.View {
	v.Types["t"].Form = routing.Form{Normal: true}
	return v
}

func TestChanges(t *testing.T) {
	make1 := func(n, cut uint32) *routing.Rules {
		r, err := routing.NewRules(n, map[string][]routing.Range{"a": {{From: 0, To: cut - 1}}, "b": {{From: cut, To: n - 1}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	onlyB, err := routing.NewRules(10, map[string][]routing.Range{"b": {{From: 0, To: 9}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	base := view("a", make1(10, 5), 0)
	for name, c := range map[string]struct {
		old, new *handshake.View
		want     string
	}{
		"first view":      {nil, base, "[]"},
		"nothing":         {base, view("a", make1(10, 5), time.Second), "[]"},
		"slots":           {base, view("a", make1(10, 7), 0), "[{t {10 {0 0}} false {[5-6] []} false}]"},
		"no slots left":   {base, view("a", onlyB, 0), "[{t {10 {0 0}} false {[0-4] []} true}]"},
		"number of slots": {base, view("a", make1(20, 5), 0), "[{t {20 {0 0}} true {[] []} false}]"},
		"another form":    {base, inForm(view("a", make1(10, 5), 0)), "[{t {10 {0 0}} true {[] []} false}]"},
		"another unit":    {base, view("b", make1(10, 5), 0), "[{t {10 {0 0}} true {[] []} false}]"},
		"type gone":       {base, view("a", nil, 0), "[{t {0 {0 0}} true {[] []} false}]"},
		"type without table": {base, &handshake.View{Unit: "a", Center: "c", Types: map[string]*handshake.Type{"t": {Name: "t"}}},
			"[{t {0 {0 0}} true {[] []} true}]"},
	} {
		if got := fmt.Sprint(Changes(c.old, c.new)); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
