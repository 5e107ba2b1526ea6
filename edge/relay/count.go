package relay

import (
	registry "github.com/unitgate/unitgate/edge/session"
	"github.com/unitgate/unitgate/events/routing"
)

// inspect looks at a session that a walk has come to. What that costs beyond the walk itself it takes from steps.
type inspect func(s *session, steps *int) bool

// CountKeys is the number of open sessions on keys: those in its slots, but for the exact IDs of the view and those of
// except, which are keys of their own to whoever asks: the question may be about rules that nobody has yet; and those of
// its exact IDs. However the keys are put, each session is looked at once at most.
func (r *Relay) CountKeys(unitType string, keys routing.Keys, except routing.IDs) int {
	keys.Slots = routing.Merge(append([]routing.Range(nil), keys.Slots...))
	lists := registry.Everything()
	if s, ok := r.slotting(unitType); ok {
		lists = s.SlotsOf(keys)
	}
	return r.countWhere(unitType, lists, func(e *engine) inspect {
		own := e.exactIn(unitType)
		return func(s *session, steps *int) bool {
			k := &s.entry.Key
			if !s.served() || k.Unbound() {
				return false
			}
			*steps -= 3 * stepLookup
			return keys.Exact.Has(k.RouterID) || routing.Within(keys.Slots, k.Slot) && !except.Has(k.RouterID) && !own(k.RouterID)
		}
	})
}

// slotting is that of a unit type in the newest view; not known if that has no rules of it.
func (r *Relay) slotting(unitType string) (routing.Slotting, bool) {
	if v := r.newest.Load(); v != nil {
		if t := v.Types[unitType]; t != nil && t.Table != nil {
			return t.Table.Slotting(), true
		}
	}
	return routing.Slotting{}, false
}

// exactIn tells which routerIds of a unit type have an exact rule in the view.
func (e *engine) exactIn(unitType string) func(routerID string) bool {
	if e.view != nil { // else nothing is installed yet
		if t := e.view.Types[unitType]; t != nil && t.Table != nil {
			return func(id string) bool { return t.Table.Lookup(id).Exact }
		}
	}
	return func(string) bool { return false }
}

// CountRouter is the number of open sessions of one user.
func (r *Relay) CountRouter(unitType, routerID string) int {
	return r.countUser(unitType, routerID, func(s *session, _ *int) bool { return s.served() })
}

// CountProxied is the number of one user's sessions that are passed on to edges of other units.
func (r *Relay) CountProxied(unitType, routerID string) int {
	return r.countUser(unitType, routerID, func(s *session, _ *int) bool { return s.open && s.via != 0 })
}

// EvictRouter starts to close one user's open sessions with the text "evicted by operator" and returns how many they
// are. They are neither victims nor counted as evicted.
func (r *Relay) EvictRouter(unitType, routerID string) int {
	return r.countUser(unitType, routerID, func(s *session, steps *int) bool {
		if !s.open || s.why != notClosing {
			return false
		}
		*steps -= stepEnd
		s.e.evict(s, becauseOperator)
		return s.via == 0 // else the edge that serves it counts it
	})
}

// countUser is the number of a user's sessions of which is holds.
func (r *Relay) countUser(unitType, routerID string, is inspect) int {
	if routerID == "" {
		return 0 // unmarked clients are no user
	}
	lists := registry.Everything()
	if s, ok := r.slotting(unitType); ok {
		slot := s.Slot(routerID)
		lists = []routing.Range{{From: slot, To: slot}}
	}
	return r.countWhere(unitType, lists, func(*engine) inspect {
		return func(s *session, steps *int) bool { return s.entry.Key.RouterID == routerID && is(s, steps) }
	})
}

// countWhere is the number of sessions in some lists of a unit type of which is holds. That is made when a poller begins.
func (r *Relay) countWhere(unitType string, lists []routing.Range, is func(e *engine) inspect) int {
	sum := 0
	ask(r, func(e *engine, answer func(int)) chore {
		n := 0
		var holds inspect
		walk := e.walkThrough(unitType, lists, func(s *session, steps *int) {
			if holds(s, steps) {
				n++
			}
		})
		return func(steps *int) bool {
			if holds == nil {
				holds = is(e)
			}
			if !walk(steps) {
				return false
			}
			answer(n)
			return true
		}
	}, func(n int) { sum += n })
	return sum
}

// walkThrough visits the sessions in some lists of a unit type. It begins with its first slice.
func (e *engine) walkThrough(unitType string, lists []routing.Range, visit func(s *session, steps *int)) chore {
	var w *registry.Walk[*session]
	return func(steps *int) bool {
		if w == nil {
			w = e.registry.Walk(unitType, lists)
		}
		for entry := w.Next(steps); entry != nil; entry = w.Next(steps) {
			visit(entry.Value, steps)
		}
		return w.Done()
	}
}
