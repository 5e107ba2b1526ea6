package routing_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// numericIDs are random routerIds of 4 to 12 digits, in an order that no cache predicts.
func numericIDs(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	ids := make([]string, n)
	for i := range ids {
		ids[i] = strconv.FormatInt(1000+r.Int64N(999_999_999_000), 10)
	}
	return ids
}

// exactTable is the walkthrough's table with n exact IDs of 11 digits, as phone numbers are.
func exactTable(t testing.TB, n int) (*routing.Table, []string) {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("138%08d", i*7)
	}
	rules, err := routing.NewRules(10000, walkRanges(), map[string][]string{"unbj": ids})
	if err != nil {
		t.Fatal(err)
	}
	return routing.Compile(rules), ids
}

func walkRanges() map[string][]routing.Range {
	return map[string][]routing.Range{"center": {{From: 0, To: 5997}}, "unbj": {{From: 5998, To: 9999}}}
}

var sink *routing.Route // keeps the compiler from dropping lookups

// The goal is at most 10 ns and no allocation.
func BenchmarkLookup(b *testing.B) {
	rules, err := routing.NewRules(10000, walkRanges(), nil)
	if err != nil {
		b.Fatal(err)
	}
	table := routing.Compile(rules)
	for _, set := range []struct {
		name string
		ids  []string
	}{{"short", []string{"1111", "6249", "8330", "42"}}, {"random", numericIDs(1024)}} {
		b.Run(set.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				sink = table.Lookup(set.ids[i])
				if i++; i == len(set.ids) {
					i = 0
				}
			}
		})
	}
}

// Some 100 ns and no allocation, for IDs that are listed and for IDs that are not.
func BenchmarkLookupExact100k(b *testing.B) {
	table, listed := exactTable(b, 100_000)
	r := rand.New(rand.NewPCG(3, 4))
	hits := make([]string, 1<<14)
	for i := range hits {
		hits[i] = string([]byte(listed[r.IntN(len(listed))])) // a copy, as a parsed handshake is
	}
	for _, set := range []struct {
		name string
		ids  []string
	}{{"listed", hits}, {"other", numericIDs(1 << 14)}} {
		b.Run(set.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				sink = table.Lookup(set.ids[i])
				i = (i + 1) & (1<<14 - 1)
			}
		})
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	table, listed := exactTable(t, 1000)
	for _, id := range []string{"1111", listed[500], "vip-7", ""} {
		if n := testing.AllocsPerRun(100, func() { sink = table.Lookup(id) }); n != 0 {
			t.Errorf("Lookup(%q): %v allocations", id, n)
		}
	}
}

// What 100,000 exact IDs cost is logged, not asserted: machines differ.
func TestCost100kExact(t *testing.T) {
	var before, after runtime.MemStats
	_, ids := exactTable(t, 100_000)
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	rules, err := routing.NewRules(10000, walkRanges(), map[string][]string{"unbj": ids})
	if err != nil {
		t.Fatal(err)
	}
	built := time.Now()
	table := routing.Compile(rules)
	compiled := time.Now()
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("NewRules %v, Compile %v, %d KiB held besides the IDs' bytes",
		built.Sub(start), compiled.Sub(built), (after.HeapAlloc-before.HeapAlloc)>>10)
	runtime.KeepAlive(rules)
	runtime.KeepAlive(table)
}
