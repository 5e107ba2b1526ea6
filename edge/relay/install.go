package relay

import (
	"context"
	"fmt"
	"slices"

	"github.com/unitgate/unitgate/edge/handshake"
	registry "github.com/unitgate/unitgate/edge/session"
	"github.com/unitgate/unitgate/events/routing"
)

// installation is a view on its way to the pollers, with all that can be known of it before a poller sees it.
type installation struct {
	view     *handshake.View
	groups   map[*handshake.URI]group
	edges    map[*handshake.Edges]group
	changes  []registry.Change
	lists    [][]routing.Range // of each change, those that it touches
	cutovers map[string]typeCutover
	passages map[string][]*passage
	cuts     []string // domains that have been cut since the view before; see endTenures
	anew     bool     // it is of another journal
}

// prepare does what needs no poller. Installs are made one after the other, in the order of their views.
func (r *Relay) prepare(v *handshake.View) *installation {
	r.keepNames(v)
	in := &installation{
		view: v, groups: r.groupsOf(v), edges: r.edgesOf(v),
		changes: registry.Changes(r.view, v), cutovers: cutoversOf(v),
		anew: r.view != nil && r.view.Epoch != v.Epoch,
	}
	for i := range in.changes {
		in.lists = append(in.lists, in.changes[i].Lists())
	}
	in.passages = r.passagesOf(in.cutovers, r.view == nil)
	if r.view != nil && !in.anew {
		for domain, cut := range v.Cuts {
			if cut > r.view.Cuts[domain] {
				in.cuts = append(in.cuts, domain)
			}
		}
	}
	return in
}

// Install makes v what every poller decides by, and returns when each one does. Held handshakes are decided again;
// dials whose key v does not serve are dropped and their clients decided again; open sessions whose key v does not
// serve become victims, which stay open until Evict. v must not be changed any more.
//
// The invariant that cutovers rest on (G2): once Install has returned nil, Victims of Counts includes every session from
// its 101 on, every dial and every connection to an origin on a key that v does not serve here, in whatever state it is,
// until its descriptors are closed. That holds also while Close runs, and for sessions that were being ended when the
// fence came, by an operator or by their own peers. So 0 victims mean that nothing here still talks to the old unit's
// origins. Only v's successor takes it back.
//
// An error means that ctx ended first: v arrives all the same, but nobody knows when. Or it is ErrClosed: Close has come
// to the end of every session, and nothing is left to decide.
func (r *Relay) Install(ctx context.Context, v *handshake.View) error {
	r.installing.Lock()
	defer r.installing.Unlock()
	in := r.prepare(v)
	r.hops.install(v)
	r.view = v
	r.newest.Store(v)
	r.mu.Lock()
	r.passages = in.passages
	r.mu.Unlock()
	done := make(chan struct{}, len(r.engines))
	for _, e := range r.engines {
		if !e.queue(installs, e.install(in, func() { done <- struct{}{} })) {
			return ErrClosed
		}
	}
	for range r.engines {
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("install view of sequence %d: %w", v.Seq, ctx.Err())
		}
	}
	return nil
}

// install is Install on one poller. It is done when every session that the view touches has been reviewed; what nobody
// waits for follows.
//
// From its first slice on everything is decided by the view: who comes is registered by it, and who was registered before
// and has not been reviewed yet is asked again before anything of an origin reaches it, see connected and establish.
//
// A closing engine takes views like any other. It admits nobody by them, see decide; but what it still has to end counts
// for victims, because the agent reports by these until the last session is gone.
func (e *engine) install(in *installation, done func()) chore {
	var parts []chore
	return func(steps *int) bool {
		if parts == nil {
			parts = append(e.adoptView(in), func(*int) bool { done(); e.decideHeld(); return true }, e.takeCensuses)
		}
		for len(parts) > 0 {
			if !parts[0](steps) {
				return false
			}
			parts = parts[1:]
		}
		return true
	}
}

// adoptView makes a view the one that the poller decides by. What is left to do are walks.
func (e *engine) adoptView(in *installation) (reviews []chore) {
	e.beginCohorts(in.cutovers, in.passages) // before anything of the fence is felt
	cut := e.endTenures(in)
	e.view, e.groups, e.edges = in.view, in.groups, in.edges
	e.replies = slices.DeleteFunc(e.replies, func(q *fifo) bool { return q.first == nil })
	for typ := range e.victims {
		if e.statsOf(typ).waiting[e.index].Load() == 0 {
			delete(e.victims, typ) // all of them have ended by themselves, or were let go
		}
	}
	for i, c := range in.changes {
		if c.Slotting.Slots > 0 {
			e.registry.Resort(c.Type, c.Slotting)
		}
		reviews = append(reviews, e.walkThrough(c.Type, in.lists[i], func(s *session, steps *int) {
			*steps -= stepLookup
			e.review(s, steps)
		}))
	}
	if cut {
		reviews = append(reviews, e.reviewCutOff()...)
	}
	return reviews
}

// review asks the new view about one session.
func (e *engine) review(s *session, steps *int) {
	if e.stillServed(s) {
		e.pardon(s)
		if s.why == becauseMoved && !e.closing { // a closing engine has to end it in any case
			e.spare(s)
		}
		return
	}
	e.accuse(s)
	if s.state == stDial || s.state == stHop || s.state == stReply {
		*steps -= stepDecide
		e.decideAgain(s)
	}
}
