// Package session owns the registry of an edge's sessions by key, so that finding those that a change of rules touches
// costs as much as there are, not as much as there are sessions. It knows no sockets.
//
// A Registry belongs to one goroutine (in the relay: one poller); nothing here may be called concurrently.
package session

import (
	"iter"
	"slices"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events/routing"
)

// Entry is one session's place in a Registry. Embed or hold one per session; it must not be copied while registered.
type Entry[T any] struct {
	Key   handshake.Key // set it before Add, leave it alone until Remove
	Value T             // whose entry this is

	in         *index[T] // nil: not registered
	prev, next *Entry[T] // neighbours in the same slot
}

// Registered reports whether the entry is in a Registry.
func (e *Entry[T]) Registered() bool { return e.in != nil }

// Registry lists entries by unit type and slot. The zero value is ready to use.
type Registry[T any] struct {
	types map[string]*index[T]
}

// index holds the entries of one unit type. The last list is that of keys without a slot.
type index[T any] struct {
	slotting routing.Slotting
	heads    []*Entry[T]
	n        int // entries
}

func newIndex[T any](s routing.Slotting) *index[T] {
	return &index[T]{slotting: s, heads: make([]*Entry[T], s.Slots+1)}
}

// list is the place in heads for a key.
func (x *index[T]) list(k *handshake.Key) int {
	if k.Unbound() {
		return len(x.heads) - 1
	}
	return int(k.Slot)
}

// Add registers e under its key. s is the slotting of the key's unit type; if it is not what the type had before, the
// entries of that type are sorted anew.
func (r *Registry[T]) Add(e *Entry[T], s routing.Slotting) {
	if r.types == nil {
		r.types = map[string]*index[T]{}
	}
	r.Resort(e.Key.Type, s)
	x := r.types[e.Key.Type]
	if x == nil {
		x = newIndex[T](s)
		r.types[e.Key.Type] = x
	}
	x.add(e)
}

func (x *index[T]) add(e *Entry[T]) {
	head := &x.heads[x.list(&e.Key)]
	e.in, e.prev, e.next = x, nil, *head
	if e.next != nil {
		e.next.prev = e
	}
	*head = e
	x.n++
}

// Remove takes e out; it does nothing if e is not registered.
func (r *Registry[T]) Remove(e *Entry[T]) {
	x := e.in
	if x == nil {
		return
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		x.heads[x.list(&e.Key)] = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	e.in, e.prev, e.next = nil, nil, nil
	x.n--
}

// Resort sorts the entries of a unit type anew if its slotting is no longer what it was.
func (r *Registry[T]) Resort(unitType string, s routing.Slotting) {
	x := r.types[unitType]
	if x == nil || x.slotting == s {
		return
	}
	fresh := newIndex[T](s)
	for _, head := range x.heads {
		for e := head; e != nil; {
			next := e.next
			if !e.Key.Unbound() {
				e.Key.Slot = s.Slot(e.Key.RouterID)
			}
			fresh.add(e)
			e = next
		}
	}
	r.types[unitType] = fresh
}

// Len is the number of entries of a unit type.
func (r *Registry[T]) Len(unitType string) int {
	if x := r.types[unitType]; x != nil {
		return x.n
	}
	return 0
}

// lists yields the entries of lists [from, to] of x. Remove must not be called while it runs.
func (x *index[T]) lists(from, to int) iter.Seq[*Entry[T]] {
	return func(yield func(*Entry[T]) bool) {
		for i := from; i <= to && i < len(x.heads); i++ {
			for e := x.heads[i]; e != nil; e = e.next {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// Of lists a user's entries.
func (r *Registry[T]) Of(unitType, routerID string) []*Entry[T] {
	x := r.types[unitType]
	if x == nil || routerID == "" {
		return nil
	}
	slot := int(x.slotting.Slot(routerID))
	var out []*Entry[T]
	for e := range x.lists(slot, slot) {
		if e.Key.RouterID == routerID {
			out = append(out, e)
		}
	}
	return out
}

// All lists every entry of a unit type.
func (r *Registry[T]) All(unitType string) []*Entry[T] {
	x := r.types[unitType]
	if x == nil {
		return nil
	}
	return slices.AppendSeq(make([]*Entry[T], 0, x.n), x.lists(0, len(x.heads)-1))
}

// Count is the number of entries on keys: those in its slots for which exact says no, and those of its exact IDs.
// Only entries for which live says yes count.
func (r *Registry[T]) Count(unitType string, keys routing.Keys, exact func(routerID string) bool, live func(T) bool) int {
	x := r.types[unitType]
	if x == nil {
		return 0
	}
	n := 0
	for _, rg := range keys.Slots {
		for e := range x.lists(int(rg.From), min(int(rg.To), len(x.heads)-2)) {
			if live(e.Value) && !exact(e.Key.RouterID) {
				n++
			}
		}
	}
	for e := range x.withIDs(&keys.Exact) {
		if live(e.Value) {
			n++
		}
	}
	return n
}

// withIDs yields the entries of users in a set, at a cost of the smaller one: the set or the entries.
func (x *index[T]) withIDs(ids *routing.IDs) iter.Seq[*Entry[T]] {
	return func(yield func(*Entry[T]) bool) {
		if ids.Len() > x.n {
			for e := range x.lists(0, len(x.heads)-2) { // unmarked clients have no ID
				if ids.Has(e.Key.RouterID) && !yield(e) {
					return
				}
			}
			return
		}
		for id := range ids.All() {
			slot := int(x.slotting.Slot(id))
			for e := range x.lists(slot, slot) {
				if e.Key.RouterID == id && !yield(e) {
					return
				}
			}
		}
	}
}
