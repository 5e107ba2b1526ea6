package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
	registry "github.com/unitgate/unitgate/edge/session"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// longest bounds what a poller does in a row at anybody's word, in time on a processor.
const longest = 5 * time.Millisecond

// slices are what the pollers of a relay tell of their slices.
type slicesSeen struct {
	mu    sync.Mutex
	n     int
	took  time.Duration // the longest
	steps int           // the most

	all   int // steps of all of them
	spent time.Duration
}

func (s *slicesSeen) see(took time.Duration, steps int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	s.took, s.steps = max(s.took, took), max(s.steps, steps)
	s.all, s.spent = s.all+steps, s.spent+took
}

// throng is a relay of one poller with many sessions that have no sockets: those would hide what everything else costs, and
// no process has so many.
type throng struct {
	*Relay
	t     testing.TB
	seen  slicesSeen
	seq   uint64
	slots uint32
}

func newThrong(t testing.TB, slots uint32) *throng {
	c := &throng{t: t, slots: slots}
	r, err := New(Config{Engines: 1, Observers: Observers{Slice: c.seen.see}})
	if err != nil {
		t.Fatal(err)
	}
	c.Relay = r
	t.Cleanup(func() {
		c.engines[0].do(func() {
			for s := range c.engines[0].all {
				s.deadline.stop()
				s.open = false
				c.engines[0].release(s)
			}
		})
		_ = r.Close(context.Background())
	})
	return c
}

// settle adds an open session of each of these users.
func (c *throng) settle(n int, routerID func(i int) string) {
	s := routing.Slotting{Slots: c.slots}
	e := c.engines[0]
	e.do(func() {
		for i := range n {
			v := e.newSession()
			v.state = stTunnel
			v.entry.Key = handshake.Key{Type: testType, RouterID: routerID(i)}
			v.entry.Key.Slot = s.Slot(v.entry.Key.RouterID)
			v.stats = e.statsOf(testType)
			e.registry.Add(&v.entry, s)
			e.opens(v)
		}
	})
}

// rulesOf are rules by which "here" owns the slots up to split, and "there" has exact IDs.
func (c *throng) rulesOf(split uint32, there routing.IDs) *routing.Rules {
	c.t.Helper()
	ranges := map[string][]routing.Range{"here": {{From: 0, To: split - 1}}}
	if split < c.slots {
		ranges["there"] = []routing.Range{{From: split, To: c.slots - 1}}
	}
	r, err := routing.Slotting{Slots: c.slots}.RulesOf(ranges, map[string]routing.IDs{"there": there})
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// install installs a table of a cutover, which has fenced its first wave if fence is not 0.
func (c *throng) install(table *routing.Table, cutover string, fence uint64) {
	c.t.Helper()
	c.seq++
	typ := &handshake.Type{Name: testType, Table: table, Local: true, Cutover: cutover}
	if cutover != "" {
		typ.Fences = []uint64{fence}
	}
	v := &handshake.View{
		Seq: c.seq, Unit: "here", Center: "there", Types: map[string]*handshake.Type{testType: typ}, Default: typ, Hold: time.Hour,
		Cuts: map[string]uint64{},
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Install(ctx, v); err != nil {
		c.t.Fatal(err)
	}
}

// cutover installs a cutover from rules to others in a phase.
func (c *throng) cutover(from, to *routing.Rules, id string, phase routing.Phase) {
	c.t.Helper()
	wave := routing.Wave{Keys: routing.Compare(from, to).Split(1)[0], Phase: phase}
	fence := uint64(7)
	if phase == routing.Pending {
		fence = 0
	}
	c.install(routing.CompileCutover(from, to, []routing.Wave{wave}), id, fence)
}

// idle waits until the poller has no chore left.
func (c *throng) idle() {
	c.t.Helper()
	e := c.engines[0]
	eventually(c.t, "the poller has nothing left to do", func() (idle bool) {
		e.do(func() { idle = e.chores.idle() })
		return idle
	})
}

// manyIDs are so many IDs that are no numbers, whose search takes longest, from a number on.
func manyIDs(t testing.TB, from, n int) routing.IDs {
	t.Helper()
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("a-user-with-a-long-name-%012d", from+i)
	}
	ids, err := routing.NewIDs(list)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// everyOther are half of the slots, as ranges of which no two can be joined.
func everyOther(slots uint32) (out []routing.Range) {
	for s := uint32(0); s < slots; s += 2 {
		out = append(out, routing.Range{From: s, To: s})
	}
	return out
}

// TestNothingTakesAPollerLong asks everything that may be asked of a relay, at its largest, of one that holds 30,000
// sessions: of all of them, of one user's 10,000, with 100,000 exact IDs, with as many ranges as there are slots. No slice
// takes more steps than one may, plus one thing; and none takes 5 ms of a processor's time. A processor that is shared may
// take its time once, so that a slice counts as long if it is so in each of three rounds.
func TestNothingTakesAPollerLong(t *testing.T) {
	for name, slots := range map[string]uint32{"many slots": 10_000, "one slot": 1, "as many slots as there can be": routing.MaxSlots} {
		t.Run(name, func(t *testing.T) {
			best := time.Hour
			for round := 0; round < 3 && best > longest; round++ {
				c := newThrong(t, slots)
				c.askEverything()
				c.seen.mu.Lock()
				if most := 2*sliceSteps + stepDecide + 3*stepLookup + registry.EntryStep; c.seen.steps > most {
					t.Errorf("a slice of %d steps, at most %d are allowed", c.seen.steps, most)
				}
				t.Logf("%d slices, the longest %v, at most %d steps", c.seen.n, c.seen.took, c.seen.steps)
				best = min(best, c.seen.took)
				c.seen.mu.Unlock()
			}
			if best > longest && !underRace {
				t.Errorf("a poller was busy for %v in a row", best)
			}
		})
	}
}

func (c *throng) askEverything() {
	t := c.t
	const sessions, oneUser, exact = 20_000, 10_000, routing.MaxExact
	listed, others := manyIDs(t, 0, exact), manyIDs(t, exact, exact)
	split := max(c.slots/2, 1)
	from, to := c.rulesOf(c.slots, routing.IDs{}), c.rulesOf(split, listed)
	c.install(routing.Compile(from), "", 0)
	c.settle(sessions, func(i int) string {
		if i%2 == 0 {
			return listed.At(exact - 1 - i)
		}
		return fmt.Sprint(i)
	})
	stays := "one"
	for to.Slotting().Slot(stays) >= split {
		stays += "1"
	}
	c.settle(oneUser, func(int) string { return stays })

	// What a preview asks, and a lot more.
	for range 3 {
		all := c.CountKeys(testType, routing.Keys{Slots: []routing.Range{{From: 0, To: c.slots - 1}}}, others)
		if all != sessions+oneUser {
			t.Errorf("counted %d", all)
		}
		if n := c.CountKeys(testType, routing.Keys{Exact: listed}, routing.IDs{}); n != sessions/2 {
			t.Errorf("counted %d of exact IDs", n)
		}
		c.CountKeys(testType, routing.Keys{Slots: slices.Repeat(everyOther(min(c.slots, 1<<18)), 2), Exact: others}, listed)
		if n := c.CountRouter(testType, stays); n != oneUser {
			t.Errorf("counted %d of one user", n)
		}
		c.CountProxied(testType, stays)
		c.CountDomains(make([]string, events.MaxDomains))
	}
	// A cutover that moves half of everything, exact IDs included.
	c.cutover(from, to, "c1", routing.Pending)
	c.cutover(from, to, "c1", routing.Fenced)
	q := events.CutoverQuestion{Cutover: "c1", UnitType: testType, Fences: []uint64{7}, Users: 8192}
	if a := c.Passage(q); !a.Known || a.Untouched.Before != a.Untouched.After {
		t.Errorf("%+v", a.Untouched)
	}
	c.Evict(testType, 0)
	c.idle()
	c.cutover(from, to, "c1", routing.Committed)
	c.Passage(q)
	c.install(routing.Compile(to), "", 0)
	c.install(routing.Compile(from), "", 0)
	if n := c.EvictRouter(testType, stays); n != oneUser {
		t.Errorf("%d of one user are evicted", n)
	}
	c.idle()
}

// Between two slices the poller does what else there is to do: an install that has a long way to go does not keep a
// handshake waiting, and does not end before it has been all the way.
func TestPollersLookUpBetweenSlices(t *testing.T) {
	c := newThrong(t, 100)
	from, to := c.rulesOf(100, routing.IDs{}), c.rulesOf(50, routing.IDs{})
	c.install(routing.Compile(from), "", 0)
	const n = 50_000
	c.settle(n, func(i int) string { return fmt.Sprint(i) })
	e := c.engines[0]
	looks, between := 0, 0
	stop := false
	var look func()
	look = func() {
		if looks++; e.chores.walk != nil {
			between++
		}
		if !stop {
			e.post(look)
		}
	}
	e.do(look)
	c.install(routing.Compile(to), "", 0)
	e.do(func() { stop = true })
	if got := c.Counts(testType).Victims; got != n/2 {
		t.Errorf("%d victims when the install is done, want %d", got, n/2)
	}
	if want := n / 2 * (registry.EntryStep + stepLookup) / sliceSteps; between < want/2 {
		t.Errorf("%d of %d looks in the middle of the install, want about %d", between, looks, want)
	}
}

// A census says how many there were at one moment, however many close while it is taken, whether it has come to them or
// not; who comes meanwhile is not counted.
func TestCensusIsOfOneMoment(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		c := newThrong(t, 10)
		from := c.rulesOf(10, routing.IDs{})
		c.install(routing.Compile(from), "", 0)
		c.settle(300, func(int) string { return fmt.Sprint(rnd.IntN(40)) })
		e := c.engines[0]
		e.do(func() {
			want, got := 0, -1
			counts := func(s *session) bool { return s.served() && s.gen == 0 && s.entry.Key.Slot%2 == 0 }
			var list []*session
			for s := range e.all {
				list = append(list, s)
				if counts(s) {
					want++
				}
			}
			e.gen++ // those that open from now on are none of them
			e.count(testType, registry.Everything(), counts, func(n int) { got = n })
			for taken := false; !taken; {
				steps := 1 + rnd.IntN(200)
				taken = e.takeCensuses(&steps)
				for range rnd.IntN(8) {
					i := rnd.IntN(len(list))
					if _, there := e.all[list[i]]; there {
						e.release(list[i])
					}
				}
			}
			if got != want {
				t.Errorf("seed %d: %d, want %d", seed, got, want)
			}
			e.gen = 0
		})
	}
}

// Deadlines that pass together are handled some at a time.
func TestManyDeadlinesPassTogether(t *testing.T) {
	c := newThrong(t, 10)
	c.install(routing.Compile(c.rulesOf(10, routing.IDs{})), "", 0)
	const n = 1000
	c.settle(n, func(i int) string { return fmt.Sprint(i) })
	e := c.engines[0]
	e.do(func() {
		for s := range e.all {
			s.state = stEnding // has evicting's deadline, and nobody to wait for
			e.evicting.start(&s.deadline, e.now()-time.Hour)
		}
		left := func() (left int) {
			for d := e.evicting.first; d != nil && d.at < e.now(); d = d.next {
				left++
			}
			return left
		}
		for before := left(); before > 0; {
			e.tick()
			now := left()
			if most := tickSteps / stepEnd; before-now > most || before == now {
				t.Fatalf("%d of %d were handled in a row, want 1 to %d", before-now, before, most)
			}
			before = now
		}
	})
}

// BenchmarkSteps shows what steps are worth: of a walk that looks every session up in 100,000 exact IDs and the table, of an
// install that reviews them all, and of evicting them.
func BenchmarkSteps(b *testing.B) {
	const sessions = 100_000
	c := newThrong(b, 10_000)
	listed := manyIDs(b, 0, routing.MaxExact)
	from, to := c.rulesOf(c.slots, listed), c.rulesOf(1, listed)
	c.install(routing.Compile(from), "", 0)
	c.settle(sessions, func(i int) string { return fmt.Sprint(i) })
	for name, do := range map[string]func(){
		"count": func() {
			c.CountKeys(testType, routing.Keys{Slots: everyOther(c.slots), Exact: listed}, listed)
		},
		"review": func() {
			c.install(routing.Compile(to), "", 0)
			c.install(routing.Compile(from), "", 0)
		},
		"evict": func() {
			c.install(routing.Compile(to), "", 0)
			c.Evict(testType, 0)
			c.idle()
			c.engines[0].do(func() { // without sockets they do not end: back to where they were
				for s := range c.engines[0].all {
					s.deadline.stop()
					s.state, s.counted = stTunnel, false
					c.engines[0].because(s, notClosing)
				}
			})
			c.install(routing.Compile(from), "", 0)
		},
	} {
		b.Run(name, func(b *testing.B) {
			c.seen.mu.Lock()
			c.seen.all, c.seen.spent = 0, 0
			c.seen.mu.Unlock()
			for b.Loop() {
				do()
			}
			c.seen.mu.Lock()
			defer c.seen.mu.Unlock()
			b.ReportMetric(float64(c.seen.spent.Nanoseconds())/float64(c.seen.all), "ns/step")
			b.ReportMetric(float64(c.seen.spent.Microseconds())/float64(c.seen.all)*sliceSteps, "µs/slice")
		})
	}
}
