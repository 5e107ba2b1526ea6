package session

import (
	"slices"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events/routing"
)

// Change says of which sessions of a unit type one has to ask again whether they are served.
type Change struct {
	Type     string
	Slotting routing.Slotting // of the type from now on; zero: the type is gone
	All      bool             // every session of the type
	Keys     routing.Keys     // else: the sessions in these slots and of these exact IDs
	Unmarked bool             // and the unmarked clients
}

// Changes compares two views, of which old may be nil, and leaves out the unit types for which nothing changed.
// Its result may be used by several registries.
func Changes(old, new *handshake.View) []Change {
	if old == nil {
		return nil // nothing was served, so there are no sessions
	}
	var out []Change
	for name, t := range new.Types {
		c := Change{Type: name}
		if t.Table != nil {
			c.Slotting = t.Table.Slotting()
		}
		was := old.Types[name]
		switch {
		case old.Unit != new.Unit || t.Table == nil || was == nil || was.Table == nil ||
			was.Table.Slotting() != t.Table.Slotting():
			c.All = true
		default:
			c.Keys = t.Table.Changes(was.Table)
		}
		_, before := old.Serves(name, "")
		_, now := new.Serves(name, "")
		c.Unmarked = before != now
		if c.All || c.Unmarked || len(c.Keys.Slots)+c.Keys.Exact.Len() > 0 {
			out = append(out, c)
		}
	}
	for name := range old.Types {
		if new.Types[name] == nil {
			out = append(out, Change{Type: name, All: true})
		}
	}
	return out
}

// Touched lists the entries that c asks about, each at least once. It sorts the type anew first if its slotting
// changed.
func (r *Registry[T]) Touched(c *Change) []*Entry[T] {
	if c.Slotting.Slots > 0 {
		r.Resort(c.Type, c.Slotting)
	}
	if c.All {
		return r.All(c.Type)
	}
	x := r.types[c.Type]
	if x == nil {
		return nil
	}
	var out []*Entry[T]
	for _, rg := range c.Keys.Slots {
		out = slices.AppendSeq(out, x.lists(int(rg.From), int(rg.To)))
	}
	out = slices.AppendSeq(out, x.withIDs(&c.Keys.Exact))
	if c.Unmarked {
		out = slices.AppendSeq(out, x.lists(len(x.heads)-1, len(x.heads)-1))
	}
	return out
}
