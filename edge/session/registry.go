// Package session owns the registry of an edge's sessions by key, so that finding those that a change of rules touches
// costs as much as there are, not as much as there are sessions. It knows no sockets.
//
// A Registry belongs to one goroutine (in the relay: one poller); nothing here may be called concurrently.
package session

import (
	"maps"
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
	n        int        // entries
	walks    []*Walk[T] // those under way
	old      *index[T]  // entries sorted by the slotting of before, which the next Walk brings here; nil: there are none
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

// Add registers e under its key. s is the slotting of the key's unit type: what Resort was told last.
func (r *Registry[T]) Add(e *Entry[T], s routing.Slotting) {
	x := r.types[e.Key.Type]
	if x == nil {
		if r.types == nil {
			r.types = map[string]*index[T]{}
		}
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
	if e.in != nil {
		e.leave()
	}
}

// leave takes a registered entry out of its list.
func (e *Entry[T]) leave() {
	x := e.in
	for _, w := range x.walks {
		if w.at == e {
			w.at = e.next
		}
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

// Resort has the entries of a unit type sorted anew if its slotting is no longer what it was: by a Walk, which has to come
// next. No Walk may be under way.
func (r *Registry[T]) Resort(unitType string, s routing.Slotting) {
	x := r.types[unitType]
	if x == nil || x.slotting == s {
		return
	}
	fresh := newIndex[T](s)
	if x.n > 0 {
		fresh.old = x
	}
	r.types[unitType] = fresh
}

// Types are the unit types that have had entries.
func (r *Registry[T]) Types() []string { return slices.Collect(maps.Keys(r.types)) }

// Len is the number of entries of a unit type.
func (r *Registry[T]) Len(unitType string) int {
	n := 0
	for x := r.types[unitType]; x != nil; x = x.old {
		n += x.n
	}
	return n
}
