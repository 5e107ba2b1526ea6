package relay

import (
	"slices"

	registry "github.com/unitgate/unitgate/edge/session"
	"github.com/unitgate/unitgate/events/routing"
)

// census counts sessions as they were at one moment, although to come to each takes longer: one that closes before its turn
// is counted when it closes. Those that have opened since must be none that counts.
type census struct {
	walk  *registry.Walk[*session] // nil: it has not begun, and has come to nobody
	typ   string
	lists []routing.Range // those that have to be walked to come to each that counts
	is    func(*session) bool
	n     int
	done  func(n int)
}

// count begins a census of this moment.
func (e *engine) count(unitType string, lists []routing.Range, is func(*session) bool, done func(n int)) {
	e.censuses = append(e.censuses, &census{typ: unitType, lists: lists, is: is, done: done})
}

// takeCensuses ends those that have begun. It is part of a chore that walks.
func (e *engine) takeCensuses(steps *int) bool {
	for len(e.censuses) > 0 {
		c := e.censuses[0]
		if c.walk == nil {
			c.walk = e.registry.Walk(c.typ, c.lists)
		}
		for entry := c.walk.Next(steps); entry != nil; entry = c.walk.Next(steps) {
			if *steps -= stepLookup; c.is(entry.Value) {
				c.n++
			}
		}
		if !c.walk.Done() {
			return false
		}
		e.censuses = slices.Delete(e.censuses, 0, 1)
		c.done(c.n)
	}
	return true
}

// closes tells the census of a session that closes now.
func (c *census) closes(s *session) {
	if s.entry.Key.Type == c.typ && c.is(s) && (c.walk == nil || !c.walk.Passed(&s.entry)) {
		c.n++
	}
}
