package cutover

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// The simulation: two drivers, a journal (Decide, then an append that only succeeds if the head is still there), the
// office key, four edges and users who keep dialling, on a network that loses, delays, doubles and reorders. Everything
// happens in one goroutine in the order of a seeded queue, so a seed replays exactly:
//
//	go test ./services/cutover -run 'TestSimulation/seed-17$' -v
const (
	simFaults   = 45 * time.Second // then nothing is lost any more
	simEnd      = 90 * time.Second
	simPatience = 8 * time.Second
	simUsers    = 16 // one for each slot
)

type happening struct {
	at  time.Duration
	n   int // breaks ties, so that the order is the seed's
	run func()
}

type queue []happening

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(happening)) }
func (q *queue) Pop() any {
	x := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return x
}

// world is everything that one seed runs.
type world struct {
	*ledger
	t       *testing.T
	rnd     *rand.Rand
	now     time.Duration // true time
	queue   queue
	n       int
	states  []*events.State           // by sequence
	routes  [][simUsers]routing.Route // of every user, by sequence
	key     OfficeKey
	drivers []*simDriver
	edges   []*simEdge
	dead    string // an edge that never comes back, "" if none
	bugs    []string
	stats   simStats
}

// simStats count what a simulation is for.
type simStats struct{ committed, deadlines, terms, ghosts, hooks, refused, passed, failed, unknown, wentBack, reported int }

func (s *simStats) add(o simStats) {
	s.committed, s.deadlines, s.terms = s.committed+o.committed, s.deadlines+o.deadlines, s.terms+o.terms
	s.ghosts, s.hooks, s.refused = s.ghosts+o.ghosts, s.hooks+o.hooks, s.refused+o.refused
	s.passed, s.failed, s.unknown = s.passed+o.passed, s.failed+o.failed, s.unknown+o.unknown
	s.wentBack, s.reported = s.wentBack+o.wentBack, s.reported+o.reported
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{ledger: newLedger(t), t: t, rnd: rand.New(rand.NewPCG(seed, 1))}
	if seed%3 == 0 {
		w.do(t, events.ApplyConfig{Base: w.head.ConfigVersion, Config: events.Config{Namespace: testNamespace, Hooks: simHooks()}})
	}
	s := events.NewState()
	w.know(s)
	for _, rec := range w.recs {
		next, err := events.Evolve(s, rec)
		if err != nil {
			t.Fatal(err)
		}
		s = next
		w.know(s)
	}
	for i := range 2 {
		d := &simDriver{w: w, name: fmt.Sprintf("d%d", i), rate: 1 + (w.rnd.Float64()-0.5)*0.12} // clocks are up to 6 % off
		w.drivers = append(w.drivers, d)
		d.boot()
		d.tick()
	}
	for _, e := range w.head.LiveEdges() {
		edge := &simEdge{w: w, id: e.ID, unit: e.Unit, disk: w.head.Seq, applied: w.head.Seq, up: true, process: 1}
		w.edges = append(w.edges, edge)
		edge.live()
	}
	if seed%4 == 0 {
		w.after(w.span(simFaults), func() { w.kill() })
	}
	w.operate()
	return w
}

// know adds the next state.
func (w *world) know(s *events.State) {
	var routes [simUsers]routing.Route
	if t := s.Table("user"); t != nil {
		for u := range routes {
			routes[u] = *t.Lookup(fmt.Sprint(u))
		}
	}
	w.states, w.routes = append(w.states, s), append(w.routes, routes)
}

func (w *world) faulty() bool { return w.now < simFaults }

func (w *world) chance(p float64) bool { return w.rnd.Float64() < p }

func (w *world) span(limit time.Duration) time.Duration {
	return time.Duration(w.rnd.Int64N(int64(limit)))
}

func (w *world) after(d time.Duration, run func()) {
	w.n++
	heap.Push(&w.queue, happening{w.now + d, w.n, run})
}

// send delivers something later, never, or twice.
func (w *world) send(deliver func()) {
	delay := time.Millisecond + w.span(20*time.Millisecond)
	if w.faulty() {
		switch {
		case w.chance(0.15):
			return
		case w.chance(0.15):
			delay = w.span(8 * time.Second)
		}
		if w.chance(0.1) {
			w.after(w.span(10*time.Second), deliver)
		}
	}
	w.after(delay, deliver)
}

// append stores a command's event if Decide allows it at the head.
func (w *world) append(env events.Envelope, base uint64) (uint64, error) {
	if base != w.head.Seq {
		return 0, fmt.Errorf("conflict")
	}
	if err := w.try(env.ID, env.Command); err != nil {
		return 0, err
	}
	w.know(w.head)
	switch w.recs[len(w.recs)-1].Type {
	case "WaveCommitted":
		w.stats.committed++
	case "DriverTookOffice":
		w.stats.terms++
	case "HookCalled":
		w.stats.hooks++
	case "CutoverFailed":
		w.stats.refused++
	case "WaveJudged", "CutoverReported", "CutoverRolledBack":
		w.judged(w.recs[len(w.recs)-1])
	}
	return w.head.Seq, nil
}

// run plays until the end and checks the properties after everything that happens.
func (w *world) run() {
	for len(w.queue) > 0 && len(w.bugs) == 0 {
		next := heap.Pop(&w.queue).(happening)
		if next.at > simEnd {
			break
		}
		w.now = next.at
		next.run()
		w.check()
	}
}

func (w *world) bug(format string, args ...any) {
	w.bugs = append(w.bugs, fmt.Sprintf("%s at sequence %d: ", w.now, w.head.Seq)+fmt.Sprintf(format, args...))
}

func (w *world) check() {
	serving := 0
	for _, d := range w.drivers {
		if d.machine != nil && d.serving() {
			serving++
		}
	}
	if serving > 1 {
		w.bug("R1: two drivers serve")
	}
	for u := range simUsers {
		owner := w.routes[w.head.Seq][u].Unit
		for _, e := range w.edges {
			if e.sessions[u] && e.unit != owner {
				w.bug("edge %s serves user %d, who belongs to %s", e.id, u, owner)
			}
			to := e.redirects(u)
			for _, o := range w.edges {
				if to != "" && e.up && o.up && to == o.unit && o.redirects(u) == e.unit {
					w.bug("edges %s and %s redirect user %d at each other", e.id, o.id, u)
				}
			}
		}
	}
}

// kill stops an edge for good.
func (w *world) kill() {
	e := w.edges[w.rnd.IntN(len(w.edges))]
	w.dead = e.id
	e.crash()
}

// operate is an operator who cuts over there and back, pauses, resumes and aborts.
func (w *world) operate() {
	w.after(200*time.Millisecond+w.span(3*time.Second), func() {
		w.operate()
		c, running := w.head.Running("user")
		var cmd events.Command
		switch {
		case !running && w.now < simEnd*2/3:
			to := rangesOf("0-11", "12-15")
			if w.head.Rules["user"].Version%2 == 0 {
				to = rangesOf("0-7", "8-15")
			}
			w.command(events.PreviewCutover{Ranges: to, Waves: 1 + w.rnd.IntN(3), Gate: w.gate()})
			cmd = events.StartCutover{Cutover: fmt.Sprintf("c%d", w.head.CutoverCount), Checks: allPassed()}
		case !running:
			return
		case c.State == events.Paused:
			if c.Why.Code == "deadline" {
				w.stats.deadlines++
			}
			cmd = events.ResumeCutover{Cutover: c.ID}
		case w.faulty() && w.chance(0.1):
			cmd = events.PauseCutover{Cutover: c.ID}
		case w.faulty() && w.chance(0.05):
			cmd = events.AbortCutover{Cutover: c.ID}
		default:
			return
		}
		w.command(cmd)
	})
}

func (w *world) command(cmd events.Command) {
	_, _ = w.append(events.Envelope{ID: w.id(), Actor: "operator", Command: cmd}, w.head.Seq) // refused in the wrong state
}

// ended checks what became of the cutovers once nothing has failed for a long time.
func (w *world) ended() {
	serving := slices.ContainsFunc(w.drivers, func(d *simDriver) bool { return d.serving() })
	if !serving {
		w.bug("nobody drives")
	}
	for _, c := range w.head.CutoverList() {
		for _, h := range c.Hooks {
			if c.State.Ended() && h.On == "post" && c.Result(h) == nil {
				w.bug("cutover %s has ended and nothing is on record of its hook %s", c.ID, h.Name)
			}
		}
		w.converged(&c)
		if c.State.Ended() || c.State == events.Proposed {
			continue
		}
		i := c.FencedWave()
		named := i >= 0 && slices.Contains(waitingFor(w.head, &c, i, w.heard()), w.dead)
		if w.dead == "" || !named && c.State != events.Paused && i >= 0 {
			w.bug("cutover %s is %s, wave %d fenced, and waits for %q", c.ID, c.State, i, w.dead)
		}
		if c.State == events.Paused && c.Why.Code == "deadline" && !slices.Contains([]string{w.dead}, lastWord(c.Why.Message)) {
			w.bug("paused because of %q, but it is %q that is dead", c.Why.Message, w.dead)
		}
	}
}

func lastWord(s string) string { return s[len(s)-2:] } // edge ids have two letters

func (w *world) heard() map[string]Report {
	out := map[string]Report{}
	for _, e := range w.edges {
		if e.up {
			out[e.id] = Report{EdgeReport: e.report()}
		}
	}
	return out
}

func TestSimulation(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 50
	}
	var sum simStats
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			w.run()
			if len(w.bugs) == 0 {
				w.ended()
			}
			for _, b := range w.bugs {
				t.Error(b)
			}
			if t.Failed() {
				for _, rec := range w.recs[5:] {
					t.Logf("%3d %s %.200s", rec.Seq, rec.Type, rec.Data)
				}
			}
			sum.add(w.stats)
		})
	}
	t.Logf("%d seeds: %+v", seeds, sum)
	if !t.Failed() && (sum.committed < int(seeds) || sum.deadlines == 0 || sum.terms < 2*int(seeds) || sum.ghosts == 0 || sum.hooks < int(seeds) || sum.refused == 0 ||
		sum.passed < int(seeds) || sum.failed == 0 || sum.unknown == 0 || sum.wentBack == 0 || sum.reported < int(seeds)) {
		t.Errorf("the simulation does not reach what it is for: %+v", sum)
	}
}
