package sim

import (
	"github.com/unitgate/unitgate/events"
)

// check is called after everything that happens. Most rules are checked where what they speak of changes; here is what
// depends on nothing but the moment.
func (w *world) check() {
	if p := w.phase(); p != w.where {
		w.where = p
		w.aimed(p)
	}
}

// serve: from now on a session serves its key: the first byte to the origin is handed over.
func (w *world) serve(s *session) {
	if s.served {
		return
	}
	s.served = true
	w.serving[s.c.key][s.p.r.e]++
	w.result.Served++
	w.exclusive(s.c.key)
}

func (w *world) unserve(s *session) {
	if !s.served {
		return
	}
	s.served = false
	m := w.serving[s.c.key]
	if m[s.p.r.e]--; m[s.p.r.e] == 0 {
		delete(m, s.p.r.e)
	}
}

// exclusive is G2, and more than that: whoever serves a key is its owner by the newest event, not only the same one as
// everybody else. Excepted is an edge without which an operator went on, until it has caught up with that.
func (w *world) exclusive(key int) {
	owner := w.journal.routes[w.journal.seq()][key].Unit
	for e := range w.serving[key] {
		if e.unit != owner && !e.isExcused() {
			w.bug("G2", "%s serves %s, whose owner is %s", e.name, keyID(key), owner)
		}
		w.meets(e, key)
	}
}

// isExcused reports whether an operator's recorded word stands for what this edge has not done yet.
func (e *edge) isExcused() bool {
	if e.excused == 0 {
		return false
	}
	if e.gone || seqOf(e.installed) < e.excused || e.relay.counts.Victims > 0 {
		return true
	}
	if have, ok := e.w.journal.head().Edges[e.id]; ok && have.Gone != "" {
		return true
	}
	e.excused = 0
	return false
}

// closes: G1. A session is closed by a rule only if its key was not served here at some sequence since its admission.
func (w *world) closes(s *session) {
	w.result.Evicted++
	for seq := s.since; seq <= s.p.view.Seq; seq++ {
		if r := w.journal.routes[seq][s.c.key]; r.Unit != s.p.r.e.unit || r.Next != "" {
			return
		}
	}
	w.bug("G1", "%s closes a session of %s, which has been its unit's since the session began at sequence %d", s.p.r.e.name, keyID(s.c.key), s.since)
}

// viewed: an edge has taken a view. No two edges may redirect one key at each other.
func (w *world) viewed(e *edge) {
	for _, o := range w.edges {
		if o == e || !o.up || o.unit == e.unit {
			continue
		}
		for k := range keyCount {
			if e.redirects(k, o.unit) && o.redirects(k, e.unit) && !e.isExcused() && !o.isExcused() {
				w.bug("bounce", "%s and %s redirect %s at each other", e.name, o.name, keyID(k))
				return
			}
		}
	}
}

// redirects reports whether a poller of the edge sends a key's clients to a unit.
func (e *edge) redirects(key int, unit string) bool {
	if !e.leased() {
		return false
	}
	for _, p := range e.relay.pollers {
		if p.answers != nil && p.answers.redirect[key] == unit {
			return true
		}
	}
	return false
}

// drives: R1. Once a driver was serving in a term, none serves in an earlier one.
func (w *world) drives(d *driver) {
	if !d.machine.Serving() {
		return
	}
	if t := d.machine.Term(); t < w.term {
		w.bug("R1", "%s acts in term %d after another acted in term %d", d.name, t, w.term)
	} else {
		w.term = t
	}
}

// reported: R6, R5 and G4. What a report says is on disk and true.
func (w *world) reported(e *edge, r events.EdgeReport) {
	if r.Applied == 0 {
		return
	}
	if r.Applied > seqOf(e.disk.synced) {
		w.bug("R6", "%s reports %d and has %d on disk", e.name, r.Applied, seqOf(e.disk.synced))
	}
	if r.StateHash != w.journal.hash(r.Applied) {
		w.bug("G4", "%s reports another state at %d than the journal's", e.name, r.Applied)
	}
	for _, f := range r.Fences {
		if f.Drained {
			w.drained(e, f)
		}
	}
}

func (w *world) drained(e *edge, f events.FenceReport) {
	for _, p := range e.relay.pollers {
		if p.view == nil || p.view.Seq < f.Fence {
			w.bug("R5", "%s reports drained for the fence at %d while a poller decides by an older state", e.name, f.Fence)
			return
		}
		for _, s := range p.all() {
			if r := w.journal.routes[f.Fence][s.Value.c.key]; r.Next != "" && r.Unit == e.unit {
				w.bug("R5", "%s reports drained for the fence at %d with a session or dial of %s", e.name, f.Fence, s.Key.RouterID)
				return
			}
		}
	}
}

// stored: an event was stored. It is checked by what the rules say, independent of Decide.
func (w *world) stored(was, now *events.State, rec events.Record, e events.Event) {
	switch e := e.(type) {
	case events.DriverTookOffice:
		w.result.Terms++
		if e.Term <= was.Office.Term {
			w.bug("R1", "term %d is taken after term %d", e.Term, was.Office.Term)
		}
	case events.EdgeRetired:
		if was.Policy.Ownership == "available" { // else its lease is waited for (R7)
			w.excuse(e.ID, rec.Seq)
		}
	case events.OwnershipEstablished:
		w.inOffice(was, e.Term)
		w.established()
	case events.WaveFenced:
		w.inOffice(was, e.Term)
	case events.CutoverCompleted:
		w.inOffice(was, e.Term)
	case events.WaveCommitted:
		w.inOffice(was, e.Term)
		w.committed(was, rec, e)
	default: // the rest is about nothing that these rules speak of
	}
	w.membership(was, now)
	w.ownership(was, rec, e)
	running := 0
	for _, c := range now.CutoverList() {
		if c.State != events.Started && c.FencedWave() >= 0 {
			w.bug("R11", "%s is %s with wave %d fenced", c.ID, c.State, c.FencedWave())
		}
		if c.State.Running() {
			running++
		}
		if old := was.Cutovers[c.ID]; c.State.Ended() && old.State.Running() {
			w.result.Ended++
		}
	}
	if running > 1 {
		w.bug("one cutover", "%d cutovers of one unit type run", running)
	}
	for k := range keyCount {
		w.exclusive(k)
	}
	w.push()
}

func (w *world) inOffice(s *events.State, term uint64) {
	if term != s.Office.Term {
		w.bug("R1", "an event of term %d is stored while term %d holds the office", term, s.Office.Term)
	}
}

// membership is R7: who is gone stays gone, and an id stays with its state directory.
func (w *world) membership(was, now *events.State) {
	for id, e := range was.Edges {
		if n := now.Edges[id]; e.Gone != "" && n.Gone == "" || n.Directory != e.Directory {
			w.bug("R7", "edge %s was %+v and is %+v", id, e, n)
		}
	}
}

// ownership: the product's tables say of every key what the plain reading of the events says.
func (w *world) ownership(was *events.State, rec events.Record, e events.Event) {
	now := &w.journal.routes[rec.Seq]
	w.ledger.follow(was, now, e)
	for k := range keyCount {
		if r := &now[k]; r.Unit != w.ledger.owner[k] || r.Next != w.ledger.next[k] {
			w.bug("ownership", "after %s the table gives %s to %q, next %q; the events give it to %q, next %q",
				rec.Type, keyID(k), r.Unit, r.Next, w.ledger.owner[k], w.ledger.next[k])
			return
		}
	}
}

// committed: every registered edge of the units between which keys move has the fence on disk, or an operator's word
// stands for it (R6, R7, R8).
func (w *world) committed(was *events.State, rec events.Record, e events.WaveCommitted) {
	w.result.Commits++
	c := was.Cutovers[e.Cutover]
	wave := c.Waves[e.Wave]
	w.silenced(wave.FenceSeq, e)
	units, gaining := map[string]bool{}, map[string]bool{}
	for k, r := range w.journal.routes[was.Seq] {
		if r.Next != "" && w.journal.routes[rec.Seq][k].Unit == r.Next {
			units[r.Unit], units[r.Next], gaining[r.Next] = true, true, true
		}
	}
	for _, have := range was.LiveEdges() {
		delete(gaining, have.Unit)
	}
	if len(gaining) > 0 {
		w.bug("served", "wave %d of %s is committed to %v, which has no edge", e.Wave, c.ID, gaining)
	}
	for _, x := range w.edges {
		have, ok := was.Edges[x.id]
		if ok && have.Gone == "retired" && was.Policy.Ownership == "exclusive" && units[x.unit] && x.up && x.behind(wave.FenceSeq) && x.leased() {
			w.bug("R7", "wave %d of %s is committed while the lease of %s runs, which was retired", e.Wave, c.ID, x.name)
		}
		if !ok || have.Gone != "" || !units[x.unit] || have.Directory != x.dir {
			continue
		}
		if _, skipped := wave.SkipEdges[x.id]; skipped {
			w.excuse(x.id, rec.Seq)
		} else if seqOf(x.disk.synced) < wave.FenceSeq && !silent(e.Edges, x.id) {
			w.bug("R6", "wave %d of %s is committed, its fence is %d, and %s has %d on disk", e.Wave, c.ID, wave.FenceSeq, x.name, seqOf(x.disk.synced))
		}
	}
}

func silent(results []events.EdgeResult, id string) bool {
	for _, r := range results {
		if r.ID == id {
			return r.Silent
		}
	}
	return false
}

// established: R13. Every registered edge that may serve does so by a lease.
func (w *world) established() {
	for _, x := range w.edges {
		have, ok := w.journal.head().Edges[x.id]
		if ok && have.Gone == "" && have.Directory == x.dir && x.up && x.installed != nil && !x.lease.bound {
			w.bug("R13", "exclusive ownership counts, and %s serves without a lease", x.name)
		}
	}
}

func (w *world) excuse(id string, seq uint64) {
	for _, e := range w.edges {
		if e.id == id {
			e.excused = seq
		}
	}
}

// push tells everybody that there is something to read.
func (w *world) push() {
	for _, d := range w.drivers {
		w.after(w.latency(), d.mine(d.read))
	}
	for _, e := range w.edges {
		w.after(w.latency(), e.mine(e.read))
	}
}
