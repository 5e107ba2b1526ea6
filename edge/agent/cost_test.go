package agent

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// What an edge holds for 100,000 exact IDs, state and table together: under 10 MB, also while a cutover of all of them
// runs, and after a restart from its state directory.
func TestCostOf100kExactIDs(t *testing.T) {
	const bound = 10_000_000
	for name, id := range map[string]func(i int) string{
		"numbers": func(i int) string { return fmt.Sprintf("1%010d", uint64(i)*7_919_317_331%10_000_000_000) },
		"texts":   func(i int) string { return fmt.Sprintf("shop-user-%07d-vip", i*17) },
	} {
		t.Run(name, func(t *testing.T) {
			list := make([]string, routing.MaxExact)
			for i := range list {
				list[i] = id(i)
			}
			ids := routing.MustIDs(list...)
			w := newWorld(t, nil)
			self := Self{Namespace: "demo", Unit: "center", Cluster: "ws-hz", ID: "hz-1"}
			dir, err := OpenStateDir(t.TempDir(), "hz-1")
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			vs := &views{self: self}

			before := heap()
			w.do(events.InitRules{UnitType: "shop", RulesConfig: events.RulesConfig{
				Ranges: map[string][]routing.Range{"center": {{From: 0, To: 4}}, "unbj": {{From: 5, To: 9}}}, ExactDelta: map[string]routing.Packed{"unbj": routing.Pack(ids)},
			}})
			vs.build(w.state)
			rules := heap() - before
			w.do(events.PreviewCutover{UnitType: "shop", Drain: "unbj", DrainTo: "center", Waves: 10})
			v := vs.build(w.state)
			if got := v.Types["shop"].Table.Lookup(list[7]).Unit; got != "unbj" {
				t.Errorf("%s is at %s", list[7], got)
			}
			both := heap() - before
			if _, err := dir.Save("epoch", w.state); err != nil {
				t.Fatal(err)
			}
			w.state, v, vs = nil, nil, nil
			saved, err := dir.Load()
			if err != nil {
				t.Fatal(err)
			}
			v = BuildView(saved.State, self, Dev{})
			restarted := heap() - before
			t.Logf("rules %d KB, with a cutover of all of them %d KB, after a restart %d KB", rules/1000, both/1000, restarted/1000)
			if max(rules, both, restarted) > bound {
				t.Errorf("an edge may hold %d bytes for them", bound)
			}
			if n := testing.AllocsPerRun(100, func() { v.Types["shop"].Table.Lookup(list[7]) }); n > 0 {
				t.Errorf("a lookup allocates %v times", n)
			}
			runtime.KeepAlive(saved)
			runtime.KeepAlive(list)
			runtime.KeepAlive(ids)
		})
	}
}

// heap is what is in use, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one finalized
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
