package session

import (
	"math"
	"slices"

	"github.com/unitgate/unitgate/events/routing"
)

// What a walk does, in steps of ten nanoseconds at most: by them whoever walks divides a long way into short pieces.
// BenchmarkWalk shows what a step is worth.
const (
	ListStep  = 1  // to look at a list that is empty
	EntryStep = 16 // to come to an entry, which is hardly ever in the processor's caches
)

// Everything is every list of a unit type.
func Everything() []routing.Range { return []routing.Range{{From: 0, To: math.MaxUint32}} }

// Walk goes through lists of one unit type, a piece at a time: between two pieces entries may be added and removed. It
// comes to every entry once that was there when it began and still is when its turn has come; to one that was added
// meanwhile it comes once or not at all. One that has begun has to be brought to its end.
type Walk[T any] struct {
	x     *index[T]
	to    *index[T]       // where the entries belong now; nil: they stay, see Resort
	left  []routing.Range // lists to come, those of the current range from list on
	list  int             // the current one
	at    *Entry[T]       // the next entry in it
	met   []*Entry[T]     // those in it to which the walk has come
	ended bool
}

// Walk begins one through these lists of a unit type, which must be merged. A list has its slot's number; the one behind the
// last slot is that of keys without a slot.
func (r *Registry[T]) Walk(unitType string, lists []routing.Range) *Walk[T] {
	w := &Walk[T]{x: r.types[unitType], left: lists, ended: true}
	if w.x == nil {
		return w
	}
	if old := w.x.old; old != nil { // then all of it has to be walked, whatever was asked for
		w.x, w.to, w.left = old, w.x, Everything()
	}
	w.x.walks, w.ended = append(w.x.walks, w), false
	if len(w.left) > 0 {
		w.enter(int(w.left[0].From))
	}
	return w
}

// enter makes a list the current one. It may be behind the last.
func (w *Walk[T]) enter(list int) {
	clear(w.met)
	w.list, w.at, w.met = list, nil, w.met[:0]
	if list < len(w.x.heads) {
		w.at = w.x.heads[list]
	}
}

// Next is the next entry, nil if there is none or if steps, from which it takes what it does, are used up: Done tells.
func (w *Walk[T]) Next(steps *int) *Entry[T] {
	for !w.ended && *steps > 0 {
		if e := w.at; e != nil {
			*steps -= EntryStep
			w.at, w.met = e.next, append(w.met, e)
			if w.to != nil {
				w.move(e)
			}
			return e
		}
		*steps -= ListStep
		w.advance()
	}
	return nil
}

// advance goes to the next list.
func (w *Walk[T]) advance() {
	switch {
	case len(w.left) == 0 || w.list >= len(w.x.heads)-1:
		w.end()
	case w.list < int(w.left[0].To):
		w.enter(w.list + 1)
	default:
		if w.left = w.left[1:]; len(w.left) > 0 {
			w.enter(int(w.left[0].From))
		}
	}
}

func (w *Walk[T]) end() {
	w.ended, w.at, w.met = true, nil, nil
	w.x.walks = slices.DeleteFunc(w.x.walks, func(other *Walk[T]) bool { return other == w })
	if w.to != nil {
		w.to.old = nil
	}
}

// move takes an entry to where it belongs since the slotting has changed.
func (w *Walk[T]) move(e *Entry[T]) {
	e.leave()
	if !e.Key.Unbound() {
		e.Key.Slot = w.to.slotting.Slot(e.Key.RouterID)
	}
	w.to.add(e)
}

// Done reports whether the walk is at its end.
func (w *Walk[T]) Done() bool { return w.ended }

// Passed reports whether the walk has come to a registered entry of its unit type, or has left its list behind.
func (w *Walk[T]) Passed(e *Entry[T]) bool {
	if w.ended || e.in != w.x {
		return true
	}
	list := w.x.list(&e.Key)
	return list < w.list || list == w.list && slices.Contains(w.met, e)
}
