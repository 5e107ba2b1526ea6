package sim

import (
	"time"

	"github.com/unitgate/unitgate/events"
)

// calm ends the faults: connections heal, processes go on and come back.
func (w *world) calm() {
	w.trace("calm from here on")
	clear(w.cuts)
	w.outage = 0
	clear(w.forced)
	w.aims = nil
	for _, e := range w.edges {
		e.slow, e.disk.broken = 0, 0
	}
}

const patienceOfUsers = 12 * time.Second

// ended checks that everything has converged: one driver, one state everywhere, no cutover under way, nothing to be
// closed, and every user served by the owner of their key.
func (w *world) ended() {
	head := w.journal.head()
	serving := 0
	for _, d := range w.drivers {
		if d.up && d.machine.Serving() {
			serving++
		}
	}
	if serving != 1 {
		w.bug("liveness", "%d drivers are in office", serving)
	}
	if c, ok := head.Running(unitType); ok {
		w.bug("liveness", "cutover %s is still %s: %+v, wave %d of %d fenced", c.ID, c.State, c.Why, c.FencedWave(), len(c.Waves))
	}
	live := map[string]bool{}
	for _, e := range w.edges {
		w.settled(head, e)
		live[e.unit] = live[e.unit] || e.up
	}
	for _, c := range w.clients {
		owner := head.Table(unitType).Lookup(keyID(c.key)).Unit
		switch {
		case !live[owner]:
		case c.session == nil && w.now-c.left > patienceOfUsers:
			w.bug("liveness", "%s, whom %s owns, has had no service since %s", keyID(c.key), owner, c.left)
		case c.session != nil && c.session.p.r.e.unit != owner && !c.session.p.r.e.isExcused():
			w.bug("liveness", "%s is served by %s and owned by %s", keyID(c.key), c.session.p.r.e.name, owner)
		}
	}
}

func (w *world) settled(head *events.State, e *edge) {
	if e.gone {
		return
	}
	have, ok := head.Edges[e.id]
	switch {
	case !e.up:
		w.bug("liveness", "%s has not come back", e.name)
	case !ok || have.Gone != "":
		w.bug("liveness", "%s runs and is %+v in the journal", e.name, have)
	case seqOf(e.installed) != head.Seq || seqOf(e.disk.synced) != head.Seq:
		w.bug("liveness", "%s decides by %d and has %d on disk; the journal is at %d", e.name, seqOf(e.installed), seqOf(e.disk.synced), head.Seq)
	case !e.leased():
		w.bug("liveness", "%s has no lease", e.name)
	case e.relay.counts.Victims != 0 || e.relay.counts.Held != 0:
		w.bug("liveness", "%s still has %+v", e.name, e.relay.counts)
	}
}
