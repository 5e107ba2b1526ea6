package sim

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seedFlag      = flag.Uint64("seed", 0, "TestSeed replays this seed")
	fromFlag      = flag.Uint64("from", 1, "the first seed of TestSeeds")
	exclusiveFlag = flag.Bool("exclusive", false, "every seed under exclusive ownership")
	firstFlag     = flag.Bool("first", false, "TestSeeds ends with the first seed that fails")
)

// runs is how many seeds are played: 120, 300 in CI, or what the record asks for.
func runs(t *testing.T) uint64 {
	text := os.Getenv("UNITGATE_SIM_RUNS")
	if text == "" {
		if testing.Short() {
			return 50
		}
		if os.Getenv("UNITGATE_REQUIRE_ALL") == "" {
			return 120
		}
		return 300
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("UNITGATE_SIM_RUNS: %v", err)
	}
	return n
}

// TestSeeds plays many seeds and checks that they reach what they are for.
func TestSeeds(t *testing.T) {
	n, began := runs(t), time.Now()
	var sum Result
	var mu sync.Mutex
	var next atomic.Uint64
	var all sync.WaitGroup
	failed := 0
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				r := Run(*fromFlag+i-1, Options{Exclusive: *exclusiveFlag})
				mu.Lock()
				sum.Hits.Add(&r.Hits)
				sum.Commits += r.Commits
				sum.Ended += r.Ended
				sum.Terms += r.Terms
				sum.Steps += r.Steps
				sum.Served += r.Served
				sum.Evicted += r.Evicted
				sum.Grants += r.Grants
				sum.Silent += r.Silent
				sum.Forged += r.Forged
				for _, bug := range r.Bugs {
					t.Errorf("seed %d: %s", r.Seed, bug)
					failed++
				}
				enough := failed > 20 || failed > 0 && *firstFlag
				mu.Unlock()
				if enough {
					return
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	t.Logf("%d seeds in %.1f s: %d waves committed, %d cutovers ended, %d terms of office, %d sessions, %d evicted, %d leases, %d edges taken for silent, %d messages forged or sent once more, %d steps",
		n, took.Seconds(), sum.Commits, sum.Ended, sum.Terms, sum.Served, sum.Evicted, sum.Grants, sum.Silent, sum.Forged, sum.Steps)
	t.Logf("faults by the phase in which they came:\n%s", &sum.Hits)
	if t.Failed() {
		return
	}
	if runs := int(n); sum.Commits < runs || sum.Ended < runs || sum.Terms < 2*runs || sum.Forged < 2*runs {
		t.Error("the simulation does not reach what it is for")
	}
	if f, p, least := sum.Hits.Least(); n >= 10000 && least < 50 {
		t.Errorf("only %d times %q in phase %q", least, f, p)
	}
}

// TestSeed replays one seed with its trace.
func TestSeed(t *testing.T) {
	if *seedFlag == 0 {
		t.Skip("give -seed N")
	}
	r := Run(*seedFlag, Options{Exclusive: *exclusiveFlag, Logf: t.Logf})
	for _, bug := range r.Bugs {
		t.Error(bug)
	}
}

// TestReplay: the same seed gives the same run.
func TestReplay(t *testing.T) {
	for seed := range uint64(5) {
		a, b := Run(seed, Options{}), Run(seed, Options{})
		if a.Head != b.Head || a.Steps != b.Steps || a.Hits != b.Hits {
			t.Errorf("seed %d: %d steps to %s, then %d steps to %s", seed, a.Steps, a.Head, b.Steps, b.Head)
		}
	}
}
