package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// day is when every run happens.
var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is everything that one seed runs. One goroutine owns it.
type world struct {
	seed    uint64
	plan    plan
	rnd     *rand.Rand
	now     time.Duration // true time
	queue   queue
	nodes   []*node
	bus     *node
	cuts    map[link]time.Duration // parted until then
	outage  time.Duration          // the bus has no quorum until then
	journal *journal
	former  former
	ledger  ledger
	drivers []*driver
	edges   []*edge
	clients []*client
	units   []string
	reqs    [keyCount]*handshake.Request
	serving [keyCount]map[*edge]int // sessions by which an edge serves a key
	aims    []aim
	forger  *forger
	forced  map[Fault]bool // the next opportunity for it is taken
	ids     uint64
	term    uint64 // the highest by which a driver was serving
	where   Phase  // of the running cutover, as of the last thing that happened
	result  Result
	logf    func(format string, args ...any) // nil: no trace
}

// Result is what came of a run.
type Result struct {
	Seed    uint64
	Bugs    []string // what was violated, with the moment; a run ends with its first
	Hits    Table
	Commits int // waves
	Ended   int // cutovers
	Terms   int // of the office
	Steps   int // things that happened
	Served  int // sessions opened
	Evicted int
	Grants  int    // of leases
	Silent  int    // edges taken for silent
	Forged  int    // messages of the forger
	Head    string // hash of the state at the end: equal for equal seeds
}

// Options of a run. The zero value is what counts.
type Options struct {
	Exclusive bool                             // under exclusive ownership, whatever the seed would draw
	Logf      func(format string, args ...any) // nil: no trace
}

// Run plays a seed to its end.
func Run(seed uint64, o Options) Result {
	w := &world{
		seed: seed, rnd: rand.New(rand.NewPCG(seed, 0x5e1f)), cuts: map[link]time.Duration{}, forced: map[Fault]bool{}, logf: o.Logf,
	}
	w.plan = newPlan(w.rnd, o.Exclusive)
	w.aims = newAims(w.rnd)
	w.forger = newForger(w)
	w.trace("plan: %+v, aims %v", w.plan, w.aims)
	w.result.Seed = seed
	w.setUp()
	for len(w.result.Bugs) == 0 {
		next, ok := w.queue.next()
		if !ok || next.at > w.plan.end {
			break
		}
		w.now = next.at
		next.run()
		w.result.Steps++
		w.check()
	}
	if len(w.result.Bugs) == 0 {
		w.now = w.plan.end
		w.ended()
	}
	w.result.Head = w.journal.hash(w.journal.seq())
	return w.result
}

// setUp makes the namespace, its edges, drivers and clients.
func (w *world) setUp() {
	w.journal = &journal{w: w, ids: map[string]uint64{}}
	w.journal.know(events.NewState())
	w.units = []string{"center", "unbj", "szx"}[:w.plan.units]
	for k := range w.reqs {
		w.reqs[k] = requestOf(k)
		w.serving[k] = map[*edge]int{}
	}
	w.bus = w.newNode("bus")
	w.succeed()
	w.journal.do(events.ApplyConfig{Config: w.config()})
	for i := range w.plan.drivers {
		w.drivers = append(w.drivers, w.newDriver(fmt.Sprintf("d%d", i)))
	}
	for _, unit := range w.units {
		for i := range w.plan.edges {
			e := w.newEdge(fmt.Sprintf("%s-%d", unit, i), unit)
			w.journal.doAs(e.keys.signer, joinOf(e))
		}
	}
	for _, e := range w.edges {
		e.disk.synced = w.journal.head()
		e.boot()
	}
	for k := range keyCount + keyCount/3 { // some users have two devices
		c := &client{w: w, key: k % keyCount, req: w.reqs[k%keyCount], unit: w.units[w.rnd.IntN(len(w.units))]}
		w.clients = append(w.clients, c)
		c.later(time.Second)
	}
	w.operate()
	w.harm()
	w.forger.begin()
	w.after(w.plan.calm, w.calm)
}

func (w *world) newNode(name string) *node {
	n := &node{w: w, name: name, index: len(w.nodes), clock: clock{base: time.Hour + w.span(time.Hour), rate: w.drift()}}
	w.nodes = append(w.nodes, n)
	return n
}

// drift is a rate within the error that the times of the protocol allow for, more often than not at its borders.
func (w *world) drift() float64 {
	switch w.rnd.IntN(4) {
	case 0:
		return 1 - w.plan.drift
	case 1:
		return 1 + w.plan.drift
	case 2:
		return 1 + w.plan.drift*pick(w.rnd, -1.0, 1)
	default:
		return 1 + (w.rnd.Float64()*2-1)*w.plan.drift
	}
}

// config is a namespace in which the ranges of the units can move, and slots at their borders never do.
func (w *world) config() events.Config {
	c := events.Config{
		Namespace: namespace,
		Policy:    &events.PolicyPatch{EvictRate: &w.plan.evictRate, Ownership: &w.plan.ownership, Lease: &w.plan.lease},
		UnitTypes: []events.UnitType{{Name: unitType, Slots: slots}},
		Rules:     map[string]events.RulesConfig{unitType: {Ranges: w.ranges(w.rnd), Exact: map[string][]string{"unbj": {keyID(slots)}, "center": {keyID(slots + 1)}}}},
	}
	d := events.Domain{Host: host, Units: map[string]events.DomainUnit{}, URIs: []events.URI{{Path: "/", Origins: map[string]events.Origins{}}}}
	for i, u := range w.units {
		c.Units = append(c.Units, events.Unit{ID: u, Center: i == 0})
		c.Clusters = append(c.Clusters, events.Cluster{ID: "c-" + u, Unit: u})
		d.Units[u] = events.DomainUnit{Cluster: "c-" + u}
		d.URIs[0].Origins[u] = events.Origins{fmt.Sprintf("127.0.0.1:%d", 9001+i)}
	}
	c.Domains = []events.Domain{d}
	return c
}

// ranges draws who owns which slots. The first two are always the center's, 7 and 8 unbj's with three units, and the last
// two the last unit's.
func (w *world) ranges(r *rand.Rand) map[string][]routing.Range {
	a := 2 + r.Uint32N(5)
	if len(w.units) == 2 {
		a = 2 + r.Uint32N(12)
		return map[string][]routing.Range{w.units[0]: {{From: 0, To: a - 1}}, w.units[1]: {{From: a, To: slots - 1}}}
	}
	b := 9 + r.Uint32N(5)
	return map[string][]routing.Range{w.units[0]: {{From: 0, To: a - 1}}, w.units[1]: {{From: a, To: b - 1}}, w.units[2]: {{From: b, To: slots - 1}}}
}

func (w *world) after(d time.Duration, run func()) { w.queue.add(w.now+d, run) }

func (w *world) chance(p float64) bool { return w.rnd.Float64() < p }

func (w *world) span(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return time.Duration(w.rnd.Int64N(int64(limit)))
}

// faulty reports whether faults still come.
func (w *world) faulty() bool { return w.now < w.plan.calm }

// uuid is the next id of a kind.
func (w *world) uuid(kind int) string {
	w.ids++
	return fmt.Sprintf("00000000-0000-4000-8%03d-%012d", kind, w.ids)
}

// incarnation is the name of a process, different from every other's.
func (w *world) incarnation(n *node) string { return fmt.Sprintf("%s-%d", n.name, n.life) }

func (w *world) trace(format string, args ...any) {
	if w.logf != nil {
		w.logf("%12s %-9s "+format, append([]any{w.now.Round(time.Microsecond), w.where}, args...)...)
	}
}

// bug notes what was violated: rule is the guarantee or rule, in the words of the guarantees.
func (w *world) bug(rule, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.trace("VIOLATED %s: %s", rule, text)
	w.result.Bugs = append(w.result.Bugs, fmt.Sprintf("%s: %s (at %s, sequence %d)", rule, text, w.now, w.journal.seq()))
}

// routes are the routes of every key at one sequence.
type routes [keyCount]routing.Route

func routesOf(s *events.State) (r routes) {
	if t := s.Table(unitType); t != nil {
		for k := range r {
			r[k] = *t.Lookup(keyID(k))
		}
	}
	return r
}

// answers are what a view answers every key, so far as that is compared between edges.
type answers struct {
	seq      uint64
	redirect [keyCount]string // unit, "": it serves, holds or refuses
}

func (w *world) answersOf(v *handshake.View) *answers {
	a := &answers{seq: v.Seq}
	for k := range a.redirect {
		if vd := handshake.Decide(w.reqs[k], v, peer, false); vd.Code == "redirect" {
			a.redirect[k], _, _ = strings.Cut(strings.TrimPrefix(locationOf(&vd), "http://"), ".")
			if next := w.journal.routes[v.Seq][k].Next; next != "" {
				w.bug("hold", "at %d an edge of %s redirects %s, which is being handed over to %s", v.Seq, v.Unit, keyID(k), next)
			}
		}
	}
	return a
}

// running are the processes that can be harmed.
func running[T interface{ state() (up, paused bool) }](all []T) []T {
	return slices.DeleteFunc(slices.Clone(all), func(x T) bool { up, paused := x.state(); return !up || paused })
}

func (n *node) state() (up, paused bool) { return n.up, n.paused }
