package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/unitgate/unitgate/events"
)

// Fault is something that goes wrong, or that an operator does in the middle of everything.
type Fault uint8

// The faults.
const (
	lost Fault = iota
	doubled
	late
	lateAppend  // stored after its caller gave it up
	parted      // two nodes, for a while
	quorumLost  // nobody reaches the bus
	edgeCrash   // back with the disk as fsync left it
	edgePause   // SIGSTOP
	edgeAlone   // reaches nobody for a while, perhaps after having been stopped
	edgeSlow    // takes seconds to take a state and to store it
	diskFull    // an edge cannot store
	edgeLost    // its machine is gone with the state directory; another id takes its place
	driverCrash //
	driverStop  // SIGTERM
	driverPause //
	drift       // a clock's rate turns from one border to the other
	clockStep   // a calendar jumps by hours
	opPause     //
	opAbort     //
	opRollback  //
	opSkip      // an edge for which the wave may wait
	opRetire    // an edge, alive or not
	opPolicy    // ownership, or the length of a lease
	faultCount
)

var faultNames = [faultCount]string{
	"message lost", "message doubled", "message late", "append late", "nodes parted", "quorum lost", "edge crash", "edge paused", "edge alone",
	"edge slow", "disk full", "edge lost", "driver crash", "driver stopped", "driver paused", "clock rate", "clock step",
	"operator: pause", "operator: abort", "operator: rollback", "operator: skip", "operator: retire", "operator: policy",
}

func (f Fault) String() string { return faultNames[f] }

// Phase is where the running cutover stands when a fault comes.
type Phase uint8

// The phases.
const (
	idle      Phase = iota // nothing proposed, or ended
	proposed               //
	started                // between two waves
	fenced                 // some needed edge has not applied and stored the fence
	draining               // all have, some has not drained
	drained                // all have, and the commit is not stored
	committed              // some edge has not applied the commit
	paused                 //
	phaseCount
)

var phaseNames = [phaseCount]string{"idle", "proposed", "started", "fenced", "draining", "drained", "committed", "paused"}

func (p Phase) String() string { return phaseNames[p] }

// Table counts faults by the phase in which they came.
type Table [faultCount][phaseCount]int

// Add adds another table.
func (t *Table) Add(o *Table) {
	for f := range t {
		for p := range t[f] {
			t[f][p] += o[f][p]
		}
	}
}

// Least is the emptiest cell.
func (t *Table) Least() (f Fault, p Phase, n int) {
	n = -1
	for i := range t {
		for j := range t[i] {
			if n < 0 || t[i][j] < n {
				f, p, n = Fault(i), Phase(j), t[i][j]
			}
		}
	}
	return f, p, n
}

func (t *Table) String() string {
	text := fmt.Sprintf("%-20s", "")
	for p := range phaseCount {
		text += fmt.Sprintf("%10s", p)
	}
	for f := range faultCount {
		text += fmt.Sprintf("\n%-20s", f)
		for p := range phaseCount {
			text += fmt.Sprintf("%10d", t[f][p])
		}
	}
	return text
}

func (w *world) hit(f Fault) {
	w.result.Hits[f][w.where]++
	if f > lateAppend {
		w.trace("fault: %s", f)
	}
}

// phase is where the running cutover stands.
func (w *world) phase() Phase {
	head := w.journal.head()
	c, ok := head.Running(unitType)
	switch {
	case !ok:
		if c, ok := head.Cutovers[fmt.Sprintf("c%d", head.CutoverCount)]; ok && !c.State.Ended() {
			return proposed
		}
		return idle
	case c.State == events.Paused:
		return paused
	}
	i := c.FencedWave()
	if i < 0 {
		if w.journal.commit > 0 && !w.everywhere(w.journal.commit) {
			return committed
		}
		return started
	}
	p := drained
	for _, e := range w.edges {
		if have := head.Edges[e.id]; have.Gone != "" || have.Directory != e.dir || !w.journal.moving[e.unit] {
			continue
		}
		switch {
		case !e.up || min(seqOf(e.installed), seqOf(e.disk.synced)) < c.Waves[i].FenceSeq:
			return fenced
		case e.relay.counts.Victims > 0:
			p = draining
		}
	}
	return p
}

// everywhere reports whether every edge that runs decides by a sequence.
func (w *world) everywhere(seq uint64) bool {
	for _, e := range w.edges {
		if e.up && seqOf(e.installed) < seq {
			return false
		}
	}
	return true
}

// aim is a fault that is to come soon after a phase has begun.
type aim struct {
	f Fault
	p Phase
	d time.Duration
}

func newAims(r *rand.Rand) []aim {
	var out []aim
	for range 4 + r.IntN(8) {
		out = append(out, aim{Fault(r.IntN(int(faultCount))), Phase(r.IntN(int(phaseCount))), time.Duration(r.Int64N(int64(pick(r, 2*time.Millisecond, 20*time.Millisecond, 200*time.Millisecond))))})
	}
	return out
}

// aimed lets the aims at a phase that has just begun come.
func (w *world) aimed(p Phase) {
	for i, a := range w.aims {
		if a.p == p && w.faulty() {
			w.aims = append(w.aims[:i:i], w.aims[i+1:]...)
			if a.f <= lateAppend {
				w.forced[a.f] = true
				return
			}
			w.after(a.d, func() { w.cause(a.f) })
			return
		}
	}
}

// harm lets faults come at random.
func (w *world) harm() {
	w.after(w.span(2*w.plan.harmEvery), func() {
		if w.faulty() {
			w.cause(parted + Fault(w.rnd.IntN(int(faultCount-parted))))
			w.harm()
		}
	})
}

// until is how long a fault lasts: up to limit, and never into the calm.
func (w *world) until(limit time.Duration) time.Duration {
	return min(w.span(limit), max(0, w.plan.calm-w.now))
}

func (w *world) cause(f Fault) {
	if !w.faulty() {
		return
	}
	switch f {
	case parted, quorumLost:
		w.harmNet(f)
	case edgeCrash, edgePause, edgeAlone, edgeSlow, diskFull, edgeLost:
		w.harmEdge(f)
	case driverCrash, driverStop, driverPause:
		w.harmDriver(f)
	case drift:
		n := w.nodes[1+w.rnd.IntN(len(w.nodes)-1)]
		w.hit(f)
		rate := 1 + w.plan.drift
		if n.clock.rate > 1 {
			rate = 1 - w.plan.drift
		}
		n.clock.turn(w.now, rate)
		for _, e := range w.edges {
			if e.node == n {
				e.arm()
			}
		}
	case clockStep:
		n := w.nodes[1+w.rnd.IntN(len(w.nodes)-1)]
		w.hit(f)
		n.wall = w.span(48*time.Hour) - 24*time.Hour
	default:
		w.interfere(f)
	}
}

func (w *world) harmNet(f Fault) {
	w.hit(f)
	if f == quorumLost {
		w.outage = max(w.outage, w.now+w.until(12*time.Second))
		return
	}
	a, b := w.nodes[w.rnd.IntN(len(w.nodes))], w.nodes[w.rnd.IntN(len(w.nodes))]
	if w.chance(0.5) {
		a = w.bus
	}
	if lead := w.inCharge(); lead != nil && w.chance(0.3) {
		b = lead.node
	}
	if a != b {
		w.cut(a, b, w.until(15*time.Second))
	}
}

func (w *world) harmEdge(f Fault) {
	up := running(w.edges)
	if len(up) == 0 {
		return
	}
	e := up[w.rnd.IntN(len(up))]
	w.hit(f)
	switch f {
	case edgeCrash:
		e.crash(1 + w.until(6*time.Second))
	case edgePause:
		e.freeze(w.until(w.plan.pauses))
	case edgeAlone:
		w.isolate(e)
	case edgeSlow:
		e.slow = w.span(4 * time.Second)
	case diskFull:
		e.disk.broken = w.now + w.until(10*time.Second)
	default:
		w.lose(e)
	}
}

// isolate parts an edge from everybody. It may have been stopped just before, as soon as it asks for its next lease where it
// does; and an operator may take it for gone.
func (w *world) isolate(e *edge) {
	cut := func() {
		deaf := w.chance(0.7) // or it still hears, and nobody hears it
		for _, n := range w.nodes {
			if n == e.node {
				continue
			}
			d := w.until(w.plan.pauses)
			w.cuts[link{e.node.index, n.index}] = w.now + d
			if deaf {
				w.cuts[link{n.index, e.node.index}] = w.now + d
			}
		}
		w.trace("%s is alone; deaf: %v", e.name, deaf)
	}
	switch {
	case w.chance(0.4):
		cut()
	case e.lease.bound:
		e.lease.asking = func() {
			if w.chance(0.4) { // the answer comes seconds later, and nothing that the edge says in between arrives
				e.lease.tardy = true
				w.after(100*time.Millisecond, func() { w.mute(e) })
				return
			}
			e.freeze(w.until(12 * time.Second))
			w.after(500*time.Millisecond, cut) // what was under way still arrives
		}
	default:
		e.freeze(w.until(12 * time.Second))
		w.after(500*time.Millisecond, cut)
	}
	if w.chance(0.4) {
		w.after(w.span(8*time.Second), func() { w.retire(e) })
	}
}

// mute lets an edge hear and not be heard.
func (w *world) mute(e *edge) {
	w.trace("nobody hears %s", e.name)
	for _, n := range w.nodes {
		w.cuts[link{e.node.index, n.index}] = w.now + w.until(w.plan.pauses)
	}
}

// lose takes an edge's machine away with its state directory. Another one takes its place, under a new id; and sometimes
// a careless one under the old id, with a new directory, which must not pass for it (R7).
func (w *world) lose(e *edge) {
	e.gone = true
	e.crash(0)
	if len(w.edges) > 16 {
		return
	}
	fresh := w.newEdge(fmt.Sprintf("%s-%d", e.unit, len(w.edges)), e.unit)
	w.after(w.span(4*time.Second), fresh.boot)
	if w.chance(0.3) {
		again := w.newEdge(e.id, e.unit)
		again.name += "'"
		w.after(w.span(4*time.Second), again.boot)
	}
}

func (w *world) harmDriver(f Fault) {
	up := running(w.drivers)
	if len(up) == 0 {
		return
	}
	d := up[w.rnd.IntN(len(up))]
	if lead := w.inCharge(); lead != nil && w.chance(0.6) {
		d = lead
	}
	w.hit(f)
	switch f {
	case driverCrash:
		d.crash(1 + w.until(6*time.Second))
	case driverStop:
		d.retire()
	default:
		d.freeze(w.until(12 * time.Second))
	}
}

// inCharge is the driver in office, nil if there is none that runs.
func (w *world) inCharge() *driver {
	for _, d := range running(w.drivers) {
		if d.machine.Serving() {
			return d
		}
	}
	return nil
}

// interfere is what an operator does, fitting or not.
func (w *world) interfere(f Fault) {
	w.hit(f)
	id := w.current()
	switch f {
	case opPause:
		w.command(events.PauseCutover{Cutover: id})
	case opAbort:
		w.command(events.AbortCutover{Cutover: id})
	case opRollback:
		w.command(events.RollbackCutover{Cutover: id})
	case opSkip:
		e := w.edges[w.rnd.IntN(len(w.edges))]
		w.command(events.SkipCheck{Cutover: id, Edge: e.id})
	case opPolicy:
		w.changePolicy()
	default:
		w.retire(w.edges[w.rnd.IntN(len(w.edges))])
	}
}

// retire is an operator's word that an edge is gone, unless it is the last one of its unit.
func (w *world) retire(e *edge) {
	for _, o := range w.journal.head().LiveEdges() {
		if o.Unit == e.unit && o.ID != e.id {
			w.command(events.RetireEdge{ID: e.id})
			return
		}
	}
}

// changePolicy is possible only with no cutover open (R13). Where leases are not to come into play, it is another value.
func (w *world) changePolicy() {
	p := &events.PolicyPatch{}
	hold := events.Duration(4+w.rnd.IntN(3)) * events.Duration(time.Second)
	length := events.Duration(15+5*w.rnd.IntN(3)) * events.Duration(time.Second)
	switch {
	case !w.plan.changes:
		p.Hold = &hold
	case w.chance(0.5):
		p.Ownership = &[]string{"available", "exclusive"}[w.rnd.IntN(2)]
	default:
		p.Lease = &length
	}
	w.command(events.ApplyConfig{Base: w.journal.head().ConfigVersion, Config: events.Config{Namespace: namespace, Policy: p}})
}
