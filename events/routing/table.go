package routing

import "slices"

// Phase of a wave, as far as routing is concerned.
type Phase uint8

// A wave's keys belong to the old owner, are being handed over, or belong to the new owner.
const (
	Pending Phase = iota
	Fenced
	Committed
)

// Keys are the keys of one wave: slots without their exact IDs, and exact IDs.
type Keys struct {
	Slots []Range `json:"slots,omitempty"`
	Exact IDs     `json:"exact,omitzero"`
}

// SlotCount is the number of slots among the keys.
func (k Keys) SlotCount() int {
	n := 0
	for _, r := range k.Slots {
		n += r.Len()
	}
	return n
}

// Wave is one step of a cutover, as far as routing is concerned.
type Wave struct {
	Keys
	Phase Phase
}

// Route is what the rules say of one key at this moment. Routes are shared: do not change one.
type Route struct {
	Unit  string // the owner
	Next  string // the unit that gains the key while it is fenced, else ""
	Exact bool   // an exact rule decided
	Wave  int    // index of the wave that moves the key in the cutover the table was compiled for, -1 if none does
	Moved bool   // that wave is committed: Unit is the new owner
}

// Table is the compiled form of a rule set with at most one cutover in progress.
// A lookup is an array index (and a binary search where exact IDs exist) and allocates nothing. Exact IDs that no cutover
// touches are those of the rule set: the table has nothing of its own for them.
type Table struct {
	routes []Route
	slots  []uint16 // slot -> index into routes
	part   Part     // of a routerId that counts for its slot
	ids    finder   // exact IDs
	kind   []uint16 // by index in ids: index into kinds
	kinds  []uint16 // indexes into routes
}

// Compile builds the lookup form of rules.
func Compile(rules *Rules) *Table { return CompileCutover(rules, rules, nil) }

// CompileCutover builds the lookup form of a cutover from one rule set to another: keys of committed waves belong to
// their owner under to, all others to their owner under from; keys of fenced waves have Next set. The waves must have
// passed CheckWaves.
func CompileCutover(from, to *Rules, waves []Wave) *Table {
	b := builder{index: map[Route]uint16{}}
	t := &b.Table
	t.slots, t.part = make([]uint16, from.slotting.Slots), from.slotting.Part
	for _, a := range from.ranges {
		i := b.route(Route{Unit: a.Unit, Wave: -1})
		for s := a.From; s <= a.To; s++ {
			t.slots[s] = i
		}
	}
	b.exact(from, to, waves)
	for w, wave := range waves {
		for _, rg := range wave.Slots {
			for s := rg.From; s <= rg.To; s++ {
				t.slots[s] = b.route(moving(from.SlotOwner(s), to.SlotOwner(s), wave.Phase, w))
			}
		}
	}
	return t
}

// exact fills in the exact IDs. While a cutover runs, an ID is a key of its own even if only the new rules name it.
func (b *builder) exact(from, to *Rules, waves []Wave) {
	if from.exact == to.exact {
		b.ids, b.kind = newFinder(from.exact.ids), from.exact.owner
		for _, unit := range from.exact.units {
			b.kinds = append(b.kinds, b.route(Route{Unit: unit, Exact: true, Wave: -1}))
		}
		return
	}
	kind := func(r Route) uint16 {
		r.Exact = true
		i := b.route(r)
		for len(b.kinds) <= int(i) {
			b.kinds = append(b.kinds, uint16(len(b.kinds))) // a kind is the index of its route
		}
		return i
	}
	var all picker
	x, y := &from.exact.ids, &to.exact.ids
	walkBoth(x, y, func(i, j int) {
		if i >= 0 {
			all.take(x, i)
		} else {
			all.take(y, j)
		}
		b.kind = append(b.kind, kind(Route{Unit: from.ownerAt(i, y, j), Wave: -1}))
	})
	b.ids = newFinder(all.done())
	for w, wave := range waves {
		for id := range wave.Exact.All() {
			f, _ := from.Owner(id)
			n, _ := to.Owner(id)
			i, ok := b.ids.find(id)
			if ok { // CheckWaves has seen that it is there
				b.kind[i] = kind(moving(f, n, wave.Phase, w))
			}
		}
	}
}

func moving(from, to string, p Phase, wave int) Route {
	switch p {
	case Fenced:
		return Route{Unit: from, Next: to, Wave: wave}
	case Committed:
		return Route{Unit: to, Wave: wave, Moved: true}
	default:
		return Route{Unit: from, Wave: wave}
	}
}

type builder struct {
	Table
	index map[Route]uint16
}

func (b *builder) route(r Route) uint16 {
	i, ok := b.index[r]
	if !ok {
		i = uint16(len(b.routes))
		b.routes = append(b.routes, r)
		b.index[r] = i
	}
	return i
}

// Lookup says what holds for a routerId.
func (t *Table) Lookup(id string) *Route {
	if len(t.kind) > 0 {
		if i, ok := t.ids.find(id); ok {
			return t.exactRoute(i)
		}
	}
	return &t.routes[t.slots[t.Slot(id)]]
}

// exactRoute says what holds for the i-th exact ID.
func (t *Table) exactRoute(i int) *Route { return &t.routes[t.kinds[t.kind[i]]] }

// Slot is the slot of a routerId.
func (t *Table) Slot(id string) uint32 {
	if t.part != (Part{}) {
		id = t.part.Of(id)
	}
	return Slot(id, uint32(len(t.slots)))
}

// Slotting is how routerIds are dealt out to the slots.
func (t *Table) Slotting() Slotting { return Slotting{uint32(len(t.slots)), t.part} }

// Owns reports whether unit owns a slot or an exact ID, fenced ones included.
func (t *Table) Owns(unit string) bool {
	own := func(i uint16) bool { return t.routes[i].Unit == unit }
	if slices.ContainsFunc(t.slots, own) {
		return true
	}
	for _, k := range t.kind {
		if own(t.kinds[k]) {
			return true
		}
	}
	return false
}
