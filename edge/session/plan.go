package session

import (
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
			was.Table.Slotting() != t.Table.Slotting() || was.Form != t.Form:
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

// Lists are those that a Walk has to go through to come to every session that c asks about. It comes to others as well: of
// an exact ID the whole slot is walked.
func (c *Change) Lists() []routing.Range {
	if c.All || c.Slotting.Slots == 0 {
		return Everything()
	}
	lists := c.Slotting.SlotsOf(c.Keys)
	if c.Unmarked {
		lists = append(lists, routing.Range{From: c.Slotting.Slots, To: c.Slotting.Slots})
	}
	return lists
}
