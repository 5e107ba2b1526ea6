package events

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

// What is stored can be read: an event that packs well is too large if nobody would unpack it. Here an outage, in which
// many domains are removed by force while many edges do not answer.
func TestEventThatNobodyWouldUnpack(t *testing.T) {
	w := shop(t)
	silent := run(400, func(i int) string { return fmt.Sprintf("edge-in-a-region-%d", i) })
	e := ConfigApplied{Namespace: "shop"}
	for i := range 1000 {
		e.Ended = append(e.Ended, DomainEnd{DomainSessions{Host: fmt.Sprintf("shop-%d.example", i), SilentEdges: silent}, true})
	}
	rec, err := NewRecord(w.s, w.envelope(PutUnit{}), e, w.now)
	if err == nil {
		_, err = rec.Event()
		t.Fatalf("an event of %d bytes is stored, and whoever reads it says: %v", len(rec.Data), err)
	}
	if !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// mails are IDs with much in common that front coding does not find, but DEFLATE does.
func mails(from, n int) []string {
	return run(n, func(i int) string { return fmt.Sprintf("%d@customers.mail.example.com", from+i) })
}

// Lists that became long step by step are read back like any others: from the state, and from the event of a drain.
func TestListsOfManyBytes(t *testing.T) {
	cfg := shopConfig()
	r := cfg.Rules["unit_type"]
	r.Exact, r.ExactDelta = nil, map[string]routing.Packed{"unbj": packed(mails(100_000, 30_000)...)}
	cfg.Rules["unit_type"] = r
	w := newWorld(t)
	w.do(ApplyConfig{Config: cfg})
	joinAll(w)
	p := w.do(PreviewCutover{ExactAddDelta: map[string]routing.Packed{"unbj": packed(mails(200_000, 30_000)...)}}).(CutoverProposed)
	runCutover(w, p.Cutover)
	s, err := DecodeState(w.s.Encode())
	if err != nil {
		t.Fatalf("the state does not read back: %v", err)
	}
	if s.Hash() != w.s.Hash() {
		t.Error("it reads back as another one")
	}
	w.do(PreviewCutover{Drain: "unbj", DrainTo: "center"})
	if got := w.records[len(w.records)-1]; len(got.Data) > MaxEventSize {
		t.Errorf("%d bytes", len(got.Data))
	}
}

// What can be done can be undone: the IDs of many lists take no room on their way back to them.
func TestWayBackOfManyLists(t *testing.T) {
	cfg := shopConfig()
	lists := map[string][]string{}
	for i := range 60 {
		u := fmt.Sprintf("u%d", i)
		lists[u] = nil
		cfg.Units = append(cfg.Units, Unit{ID: u})
		cfg.Clusters = append(cfg.Clusters, Cluster{ID: "c-" + u, Unit: u})
		cfg.Domains[0].Units[u] = DomainUnit{Cluster: "c-" + u}
	}
	w := newWorld(t)
	w.large = true
	w.do(ApplyConfig{Config: cfg})
	joinAll(w)
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[string]bool{}
	var all []string
	for len(all) < 95_000 {
		id := fmt.Sprintf("1%012d", r.Uint64N(1_000_000_000_000))
		if seen[id] {
			continue
		}
		seen[id] = true
		u := fmt.Sprintf("u%d", r.IntN(60))
		all, lists[u] = append(all, id), append(lists[u], id)
	}
	sets := map[string]routing.IDs{}
	for u, l := range lists {
		sets[u] = routing.MustIDs(l...)
	}
	have := w.s.Rules["unit_type"]
	var err error
	if have.Current, err = have.Current.WithExact(sets); err != nil {
		t.Fatal(err)
	}
	w.s.Rules["unit_type"] = have // as many cutovers have left it
	for _, n := range []int{len(all), len(all) / 2} {
		f := w.fork(t)
		p := f.do(PreviewCutover{ExactAddDelta: map[string]routing.Packed{"center": packed(all[:n]...)}}).(CutoverProposed)
		runCutover(f, p.Cutover)
		f.do(RollbackCutover{Cutover: p.Cutover})
		back := f.s.Cutovers["c2"]
		if size := len(f.records[len(f.records)-1].Data); size > 32<<10 || !back.To.Equal(have.Current) {
			t.Errorf("the way back of %d IDs takes %d bytes", n, size)
		}
	}
}

// A cutover that could not be undone is not begun: few ranges take less room than the many on the way back to them.
func TestWayBackFits(t *testing.T) {
	const slots = 1 << 20
	cfg := shopConfig()
	cfg.UnitTypes[0].Slots = slots
	cfg.Rules["unit_type"] = RulesConfig{Ranges: map[string][]routing.Range{"center": {{From: 0, To: slots - 1}}}}
	base := newWorld(t)
	base.do(ApplyConfig{Config: cfg})
	joinAll(base)
	for n, fits := range map[uint32]bool{7500: true, 14_000: false} {
		w := base.fork(t)
		w.large = true
		have := w.s.Rules["unit_type"]
		var err error
		if have.Current, err = have.Current.WithRanges(scattered(slots, n)); err != nil {
			t.Fatal(err)
		}
		w.s.Rules["unit_type"] = have // as many cutovers have left it
		_, err = w.try(PreviewCutover{Ranges: cfg.Rules["unit_type"].Ranges})
		if fits && err != nil || !fits && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d pairs of ranges: %v", n, err)
		}
		if err == nil {
			runCutover(w, "c1")
			w.do(RollbackCutover{Cutover: "c1"})
		}
	}
}

// scattered are 2n ranges of random lengths that two units have by turns.
func scattered(slots, n uint32) map[string][]routing.Range {
	r := rand.New(rand.NewPCG(1, 2))
	out := map[string][]routing.Range{}
	units := []string{"center", "unbj"}
	for i := range n {
		mid := i*(slots/n) + 1 + r.Uint32N(slots/n-1)
		begin, end := i*(slots/n), (i+1)*(slots/n)-1
		if i == n-1 {
			end = slots - 1
		}
		out[units[0]] = append(out[units[0]], routing.Range{From: begin, To: mid - 1})
		out[units[1]] = append(out[units[1]], routing.Range{From: mid, To: end})
	}
	return out
}
