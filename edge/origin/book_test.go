package origin

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

func one(b *Book, addrs ...string) *Group { return b.Update([]List{{Addresses: addrs}})[0] }

func eject(o *Origin, now time.Duration) {
	for range failuresToEject {
		o.Failed(now, "refused")
	}
}

func TestLeastConnectionsAndTurns(t *testing.T) {
	var b Book
	g := one(&b, "a:1", "b:1", "c:1", "a:1") // one origin is listed twice: it is one all the same
	var got []string
	var picked []*Origin
	for turn := range uint32(6) {
		o := g.Pick(0, turn, nil)
		got, picked = append(got, o.Address()), append(picked, o)
	}
	if want := []string{"a:1", "b:1", "c:1", "a:1", "b:1", "c:1"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	picked[1].Release()
	for turn := range uint32(3) { // whose turn it is does not matter: b has the fewest
		if o := g.Pick(0, turn, nil); o.Address() != "b:1" {
			t.Errorf("turn %d: %s", turn, o.Address())
		}
		g.origins[1].Release()
	}
	if o := g.Pick(0, 0, g.origins); o != nil {
		t.Errorf("%s was tried already", o.Address())
	}
	if o := one(&b).Pick(0, 7, nil); o != nil {
		t.Errorf("%s is in no list", o.Address())
	}
}

func TestEjectedAreLeftOutButNeverAll(t *testing.T) {
	var b Book
	g := one(&b, "a:1", "b:1")
	a, c := g.origins[0], g.origins[1]
	eject(a, 0)
	for turn := range uint32(5) {
		if o := g.Pick(time.Second, turn, nil); o != c {
			t.Errorf("%s is ejected", o.Address())
		}
	}
	if o := g.Pick(time.Second, 0, []*Origin{c}); o != a {
		t.Error("the client is sent away before everything was tried")
	}
	a.Release()
	eject(c, time.Second)
	if o := g.Pick(2*time.Second, 0, nil); o != a {
		t.Error("all are ejected: the one with the fewest connections is to be tried")
	}
}

// When an ejection is over, one session finds out whether the origin is back; the others do not wait for it.
func TestTrial(t *testing.T) {
	var b Book
	g := one(&b, "a:1", "b:1")
	a, c := g.origins[0], g.origins[1]
	for range 9 {
		c.load.n.Add(1)
	}
	eject(a, 0)
	now := firstEjection
	if o := g.Pick(now, 0, nil); o != a {
		t.Fatal("nobody tries it")
	}
	if o := g.Pick(now, 0, nil); o != c {
		t.Error("two try it")
	}
	if o := g.Pick(now+trialTime, 0, nil); o != a {
		t.Error("the first one came to no result, and nobody else tries")
	}
	a.Answered(now + trialTime)
	for range 3 {
		if o := g.Pick(now+trialTime, 0, nil); o != a {
			t.Error("it is back, and not chosen")
		}
	}
}

func states(b *Book, now time.Duration) string { return fmt.Sprint(b.Status(now)) }

// Origins that stay keep what is known of them; those that go keep their connections, which count if they come back.
func TestUpdate(t *testing.T) {
	var b Book
	g := one(&b, "a:1", "b:1", "c:1")
	for turn := range uint32(6) {
		g.Pick(0, turn, nil)
	}
	eject(g.origins[1], 0)
	a, bb := g.origins[0], g.origins[1]

	if g = one(&b, "b:1", "d:1"); g.origins[0] != bb {
		t.Error("b was there before")
	}
	if got := states(&b, 1); got != "[a:1 removed 2 b:1 ejected 2 c:1 removed 2 d:1 healthy 0]" {
		t.Error(got)
	}
	a.Release()
	if g = one(&b, "a:1", "b:1"); g.origins[0].load != a.load {
		t.Error("the connection that a still has does not count")
	}
	a.Release()
	if got := states(&b, 1); got != "[a:1 healthy 0 b:1 ejected 2 c:1 removed 2]" {
		t.Error(got)
	}
	b.Update([]List{{Addresses: []string{"b:1"}}, {Addresses: []string{"b:1"}, Check: Check{Probe: "tcp"}}})
	if got := states(&b, 1); got != "[b:1 ejected 2 b:1 healthy 2 c:1 removed 2]" {
		t.Error(got)
	}
	for range 2 {
		bb.Release()
	}
	b.loads["c:1"].n.Store(0)
	one(&b)
	one(&b)
	if got := states(&b, 1); got != "[]" || len(b.loads)+len(b.removed)+len(b.origins) != 0 {
		t.Errorf("%s: %v %v", got, b.loads, b.removed)
	}
}

// Whatever happens in whatever order: an untried origin is always found; one that is not free is chosen only if no free one
// is left, and one on trial by one session at a time; of several free ones one with the fewest connections; counts are exact.
func TestPickProperties(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var b Book
		var addrs []string
		for i := range 1 + r.IntN(6) {
			addrs = append(addrs, fmt.Sprint("o:", i+1))
		}
		g := b.Update([]List{{Addresses: addrs, Check: Check{Probe: "tcp", Rise: 2, Fall: 3}}})[0]
		open := map[*Origin]int64{}
		var now time.Duration
		var tried []*Origin
		for turn := range uint32(400) {
			now += time.Duration(r.IntN(2000)) * time.Millisecond
			o := g.origins[r.IntN(len(g.origins))]
			switch r.IntN(8) {
			case 0, 1:
				was := o.status(now)
				ejected := o.Failed(now, "refused")
				if is := o.status(now); ejected > longestEjection || was.State == "ejected" && (ejected != 0 || is.Ejected > was.Ejected) {
					t.Fatalf("seed %d: %+v became %+v for %s", seed, was, is, ejected)
				}
			case 2:
				o.Answered(now)
			case 3:
				o.Probed(now, [...]string{"", "timeout"}[r.IntN(2)])
			case 4:
				if open[o] > 0 {
					o.Release()
					open[o]--
				}
			default:
				if r.IntN(2) == 0 {
					tried = nil
				}
				o := checkPick(t, g, now, turn, tried)
				if o == nil {
					tried = nil
					continue
				}
				open[o]++
				tried = append(tried, o)
			}
			for o, n := range open {
				if o.load.n.Load() != n {
					t.Fatalf("seed %d: %s has %d connections, counted are %d", seed, o.addr, n, o.load.n.Load())
				}
			}
		}
	}
}

func checkPick(t *testing.T, g *Group, now time.Duration, turn uint32, tried []*Origin) *Origin {
	t.Helper()
	free, fewest, left := map[*Origin]bool{}, int64(1<<62), 0
	barred := map[*Origin]int64{}
	for _, o := range g.origins {
		barred[o] = o.barred.Load()
		if slices.Contains(tried, o) {
			continue
		}
		left++
		if barred[o] <= int64(now) {
			free[o] = true
			fewest = min(fewest, o.load.n.Load())
		}
	}
	before := map[*Origin]int64{}
	for _, o := range g.origins {
		before[o] = o.load.n.Load()
	}
	o := g.Pick(now, turn, tried)
	switch {
	case o == nil && left == 0:
	case o == nil:
		t.Fatalf("nil with %d origins left", left)
	case slices.Contains(tried, o):
		t.Fatalf("%s was tried", o.addr)
	case len(free) > 0 && (!free[o] || before[o] != fewest):
		t.Fatalf("%s has %d connections and is barred until %d at %d; the fewest of %d free ones are %d", o.addr, before[o], barred[o], now, len(free), fewest)
	case free[o] && barred[o] != 0 && o.barred.Load() <= int64(now):
		t.Fatalf("%s is on trial and others may try it, too", o.addr)
	}
	return o
}

// Engines share a book: nothing is lost between them, and counting costs no allocation.
func TestConcurrently(t *testing.T) {
	var b Book
	addrs := []string{"a:1", "b:1", "c:1"}
	g := one(&b, addrs...)
	var engines sync.WaitGroup
	for e := range 4 {
		engines.Go(func() {
			for turn := range uint32(2000) {
				now := time.Duration(turn) * 10 * time.Millisecond
				o := g.Pick(now, turn, nil)
				if (turn+uint32(e))%3 == 0 {
					o.Failed(now, "refused")
				} else {
					o.Answered(now)
				}
				if e == 0 && turn%100 == 0 {
					b.Update([]List{{Addresses: addrs[:1+turn/100%3]}})
					b.Status(now)
				}
				o.Release()
			}
		})
	}
	engines.Wait()
	for _, o := range g.origins {
		if n := o.load.n.Load(); n != 0 {
			t.Errorf("%s: %d connections are left", o.addr, n)
		}
	}
}

func TestPickingAllocatesNothing(t *testing.T) {
	var b Book
	g := one(&b, "a:1", "b:1", "c:1", "d:1")
	turn := uint32(0)
	if n := testing.AllocsPerRun(1000, func() {
		turn++
		o := g.Pick(time.Second, turn, nil)
		o.Answered(time.Second)
		o.Release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPick(bench *testing.B) {
	var b Book
	g := one(&b, "a:1", "b:1", "c:1", "d:1")
	bench.RunParallel(func(pb *testing.PB) {
		for turn := uint32(0); pb.Next(); turn++ {
			o := g.Pick(time.Second, turn, nil)
			o.Answered(time.Second)
			o.Release()
		}
	})
}

// What an address has had so far never goes down while it is known, however its URIs and their probes change: to whoever
// scrapes it, a counter that falls has begun anew.
func TestCountsOfAnAddressNeverGoDown(t *testing.T) {
	var b Book
	two := List{Addresses: []string{"a:1"}, Check: Check{Probe: "tcp"}}
	groups := b.Update([]List{{Addresses: []string{"a:1"}}, two})
	for _, g := range groups {
		o := g.Pick(0, 0, nil)
		o.Connected(time.Second)
		o.Failed(0, "refused")
		o.Release()
	}
	want := func(n int) {
		t.Helper()
		list := b.Status(0)
		if len(list) != n {
			t.Fatalf("%+v", list)
		}
		for _, s := range list {
			if s.Connects != 2 || s.ConnectTime != 2*time.Second || s.Failed != 2 {
				t.Errorf("%+v", s)
			}
		}
	}
	want(2)
	b.Update([]List{two})
	want(1)
	two.Check.Interval = time.Minute
	b.Update([]List{two})
	want(1)
}
