package sim

import (
	"math/rand/v2"
	"time"

	"github.com/unitgate/unitgate/services/cutover"
)

// former is the time before this journal: a journal of another epoch, of which nobody here knows anything, and whose edges
// are cut off and serve by the leases that they got there.
type former struct {
	until time.Duration    // in true time; 0: the journal is as old as the namespace
	unit  [keyCount]string // who serves a key by those rules
}

// succeed draws whether the journal is one that was made anew while the edges of another one run. The draws are its own:
// the rest of a seed's plan does not depend on them.
func (w *world) succeed() {
	r := rand.New(rand.NewPCG(w.seed, 0xe90c))
	key := cutover.OfficeKey{Revision: 1, OfficeValue: cutover.OfficeValue{Epoch: epoch}}
	if w.plan.ownership == "exclusive" && r.IntN(4) == 0 {
		key.OfficeValue = cutover.OfficeValue{Term: r.Uint64N(3), Epoch: pick(r, "", "epoch-0")}
		// The driver of that journal granted to its last moment in office, to an edge with the slowest clock there may be.
		w.former.until = time.Duration(float64(w.plan.lease) / (1 - w.plan.drift))
		for k := range w.former.unit {
			w.former.unit[k] = pick(r, w.units...)
		}
		w.trace("a new journal: until %s edges of the old one serve %v", w.former.until, w.former.unit)
	}
	w.journal.key, w.journal.past = key, key
}

// meets is G2 across epochs: who serves a key here does it beside whoever serves it by the journal before. Once somebody
// was served under available ownership nothing is promised of that journal any more.
func (w *world) meets(e *edge, key int) {
	if w.journal.head().Policy.Ownership != "exclusive" {
		w.former.until = 0
	}
	if was := w.former.unit[key]; w.now < w.former.until && e.unit != was {
		w.bug("G2", "%s serves %s, which an edge of %s serves by a lease of the journal before", e.name, keyID(key), was)
	}
}
