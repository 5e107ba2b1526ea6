package relay

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events/routing"
)

// BenchmarkFenceAndEvict: fencing and evicting 100 sessions costs the same among a thousand sessions and among a million:
// it is proportional to the evicted. The sessions have no sockets, whose cost would hide everything else.
func BenchmarkFenceAndEvict(b *testing.B) {
	for _, all := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("100 of %d", all), func(b *testing.B) { benchmarkEvict(b, all, 100) })
	}
}

func benchmarkEvict(b *testing.B, all, victims int) {
	const slots = 10_000
	r, err := New(Config{Engines: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		r.sum(func(e *engine) int {
			for s := range e.all {
				e.release(s)
			}
			return 0
		})
		_ = r.Close(context.Background())
	}()
	split := uint32(slots - slots*victims/all)
	rulesOf := func(split uint32) *routing.Rules {
		ranges := map[string][]routing.Range{"here": {{From: 0, To: split - 1}}}
		if split < slots {
			ranges["there"] = []routing.Range{{From: split, To: slots - 1}}
		}
		rules, err := routing.NewRules(slots, ranges, nil)
		if err != nil {
			b.Fatal(err)
		}
		return rules
	}
	before, after := rulesOf(slots), rulesOf(split)
	viewOf := func(t *routing.Table) *handshake.View {
		typ := &handshake.Type{Name: testType, Table: t, Local: true}
		return &handshake.View{Unit: "here", Center: "there", Types: map[string]*handshake.Type{testType: typ}, Default: typ}
	}
	own := viewOf(routing.Compile(before))
	wave := routing.Wave{Keys: routing.Compare(before, after).Split(1)[0], Phase: routing.Fenced}
	fenced := viewOf(routing.CompileCutover(before, after, []routing.Wave{wave}))

	ctx := context.Background()
	var sessions []*session
	r.sum(func(e *engine) int {
		for i := range all {
			s := e.newSession()
			s.state = stTunnel
			slot := i * slots / all
			s.entry.Key = handshake.Key{Type: testType, Slot: uint32(slot), RouterID: id(i*slots + slot)}
			s.stats = e.statsOf(testType)
			e.registry.Add(&s.entry, routing.Slotting{Slots: slots})
			if s.entry.Key.Slot >= split {
				sessions = append(sessions, s)
			}
		}
		return 0
	})
	if err := r.Install(ctx, own); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := r.Install(ctx, fenced); err != nil {
			b.Fatal(err)
		}
		if n := r.Counts(testType).Victims; n != victims {
			b.Fatalf("%d victims", n)
		}
		r.sum(func(e *engine) int {
			e.due[testType] = everyVictim
			steps := math.MaxInt
			e.evictSome(testType, &steps)
			return 0
		})
		// Without sockets nobody ends them: back to where they were.
		r.sum(func(e *engine) int {
			for _, s := range sessions {
				if s.state != stAnswer {
					b.Errorf("a victim is in state %d", s.state)
				}
				s.deadline.stop()
				s.state, s.why, s.counted = stTunnel, notClosing, false
			}
			return 0
		})
		if err := r.Install(ctx, own); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEvictTenThousand evicts 10,000 sessions of two edge processes, 5,000 each, all at once; the clients answer
// their Close and the origin ends. It reports how long it takes until the last client was told, and until the edges hold
// nothing of any of them any more, in ms, and what CPU they took for it. Run it with -benchtime=1x.
func BenchmarkEvictTenThousand(b *testing.B) {
	const n = 10_000
	for b.Loop() {
		b.StopTimer()
		edges := []*role{startRole(b, "edge"), startRole(b, "edge")}
		origins, clients := startRole(b, "crowd"), startRole(b, "crowd")
		origin := origins.do(call{Do: "listen"}).Addr
		var addrs []string
		for _, e := range edges {
			addrs = append(addrs, e.do(call{Do: "start", Addrs: []string{origin}}).Addr)
		}
		clients.do(call{Do: "open", Addrs: addrs, Target: "/wait", N: n})
		b.StartTimer()
		clients.begin(call{Do: "leave"})
		began := time.Now()
		fenced := all(edges, call{Do: "fence"})
		all(edges, call{Do: "evict"})
		drained := all(edges, call{Do: "drain"})
		told := slices.MaxFunc(clients.end().At, time.Time.Compare)
		b.ReportMetric(float64(told.Sub(began).Milliseconds()), "ms-told")
		var last time.Time
		evicted, used := 0, time.Duration(0)
		for i, a := range drained {
			evicted += a.Counts.Evicted
			used += a.CPU - fenced[i].CPU
			last = slices.MaxFunc([]time.Time{last, a.At[0]}, time.Time.Compare)
		}
		if evicted != n {
			b.Errorf("%d evicted", evicted)
		}
		b.ReportMetric(float64(last.Sub(began).Milliseconds()), "ms-drained")
		b.ReportMetric(float64(used.Milliseconds()), "ms-CPU-of-edges")
	}
}

// all has every one of some roles do the same at the same time.
func all(roles []*role, c call) []answer {
	for _, r := range roles {
		r.begin(c)
	}
	var out []answer
	for _, r := range roles {
		out = append(out, r.end())
	}
	return out
}
