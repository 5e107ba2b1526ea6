package events

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

// burning is a namespace of three units; one has 60,000 exact IDs in which nothing repeats, given in four cutovers, and
// some that others had. No event could list them.
func burning(t *testing.T) (w *world, ids []string) {
	cfg := shopConfig()
	cfg.Units = append(cfg.Units, Unit{ID: "unsh"})
	cfg.Clusters = append(cfg.Clusters, Cluster{ID: "ws-sh-2", Unit: "unsh"})
	cfg.Domains[0].Units["unsh"] = DomainUnit{Cluster: "ws-sh-2"}
	cfg.Rules["unit_type"] = RulesConfig{
		Ranges: map[string][]routing.Range{"center": {{From: 0, To: 4999}}, "unsh": {{From: 5000, To: 7499}}, "unbj": {{From: 7500, To: 9999}}},
		Exact:  map[string][]string{"center": run(100, func(i int) string { return fmt.Sprintf("vip-%d", i) })},
	}
	w = newWorld(t)
	w.large = true
	w.do(ApplyConfig{Config: cfg})
	joinAll(w)
	w.do(JoinEdge{ID: "sh-1", Directory: directoryOf("sh-1"), Unit: "unsh", Cluster: "ws-sh-2", Address: "sh-1.example:7101", Capacity: 1000})
	r := rand.New(rand.NewPCG(5, 5))
	for batch := range 4 {
		more := run(15_000, func(int) string { return randomID(r) })
		if batch == 3 {
			more[0] = "vip-7"
		}
		p := w.do(PreviewCutover{ExactAddDelta: map[string]routing.Packed{"unbj": packed(more...)}}).(CutoverProposed)
		runCutover(w, p.Cutover)
		ids = append(ids, more...)
	}
	return w, ids
}

// randomID has 21 bytes in which nothing can be saved.
func randomID(r *rand.Rand) string {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
	b := make([]byte, 21)
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

// fork is the same state, to go on from in another way; its records are those from here on.
func (w *world) fork(t *testing.T) *world {
	f := *w
	f.t, f.s, f.records = t, w.s.Clone(), nil
	return &f
}

// readsBack checks that the state is the fold of the records since was, and reads back from what it encodes to.
func (w *world) readsBack(was *State) {
	w.t.Helper()
	b := w.s.Encode()
	s, err := DecodeState(b)
	if err != nil {
		w.t.Fatalf("the state does not read back: %v", err)
	}
	again := was.Clone()
	for _, rec := range w.records {
		if err := again.Apply(rec); err != nil {
			w.t.Fatal(err)
		}
	}
	if !bytes.Equal(again.Encode(), b) {
		w.t.Error("two folds differ")
	}
	w.s = s // and it goes on with this one
}

// A unit that burns is evacuated in one step however long its lists are, and the way back is as short.
func TestDrainOfLongLists(t *testing.T) {
	base, ids := burning(t)
	for name, c := range map[string]PreviewCutover{
		"to the others":              {Drain: "unbj"},
		"to one":                     {Drain: "unbj", DrainTo: "center"},
		"to one with no list":        {Drain: "unbj", DrainTo: "unsh"},
		"emergency":                  {Drain: "unbj", Emergency: true, Reason: "it burns"},
		"emergency to one with some": {Drain: "unbj", DrainTo: "center", Emergency: true, Reason: "it burns"},
	} {
		t.Run(name, func(t *testing.T) {
			w := base.fork(t)
			was := w.s.Rules["unit_type"].Current
			c.Waves = 3
			p := w.do(c).(CutoverProposed)
			if n := len(w.records[len(w.records)-1].Data); n > 32<<10 {
				t.Errorf("the drain takes %d bytes", n)
			}
			owner := func(id string) string {
				if c.DrainTo != "" {
					return c.DrainTo
				}
				for unit, list := range p.Change.Ranges {
					for _, rg := range list {
						if slot := routing.Slot(id, 10_000); rg.From <= slot && slot <= rg.To {
							return unit
						}
					}
				}
				return "nobody"
			}
			w.drains(p, ids, owner)
			if c.DrainTo == "unsh" { // once is enough of what takes long: a way back from the middle
				w.do(StartCutover{Cutover: p.Cutover, Checks: w.checks(Pass)})
				for i := range 2 {
					w.fence(p.Cutover, i)
					w.commit(p.Cutover, i)
				}
				w.readsBack(base.s)
				w.goesBack(p.Cutover, was)
				return
			}
			runCutover(w, p.Cutover)
			table := w.s.Table("unit_type")
			for _, id := range ids {
				if got := table.Lookup(id); got.Unit != owner(id) {
					t.Fatalf("%s belongs to %+v, want %s", id, got, owner(id))
				}
			}
			if table.Owns("unbj") || w.route("vip-8") != "center" {
				t.Error("unbj still owns something, or center lost something")
			}
			if c.DrainTo == "" && !c.Emergency {
				w.readsBack(base.s)
			}
			w.goesBack(p.Cutover, was)
		})
	}
}

// drains checks what a proposal of a drain of unbj says of the IDs, which are all that it has.
func (w *world) drains(p CutoverProposed, ids []string, owner func(id string) string) {
	w.t.Helper()
	moving := routing.MustIDs(ids...)
	if p.ExactIDs() != len(ids) || len(p.ExactMoves) != routing.MaxShown || p.Slots() != 2500 {
		w.t.Errorf("%d exact IDs and %d slots move, %d are shown", p.ExactIDs(), p.Slots(), len(p.ExactMoves))
	}
	for i, m := range p.ExactMoves {
		if m != (routing.ExactMove{ID: moving.At(i), Source: "unbj", Target: owner(m.ID)}) {
			w.t.Errorf("move %d is %+v", i, m)
		}
	}
	at := 0
	for _, wave := range w.s.Cutovers[p.Cutover].Waves { // in order, each once
		end := at + wave.Exact.Len()
		if !wave.Exact.Equal(moving.Slice(at, end)) {
			w.t.Errorf("a wave moves other IDs than those from %d to %d", at, end)
		}
		at = end
	}
	if at != moving.Len() {
		w.t.Errorf("the waves move %d of %d IDs", at, moving.Len())
	}
	units := slices.Sorted(maps.Keys(p.Change.Whole))
	if !slices.Equal(units, []string{"unbj"}) || p.Change.Exact != nil || p.Change.ExactDelta != nil || p.Change.Drop != nil || p.Change.DropDelta != nil {
		w.t.Errorf("the change lists IDs, or other lists than that of unbj: %v", units)
	}
}

// goesBack rolls a cutover back and checks that the rules are what they were.
func (w *world) goesBack(cutover string, was *routing.Rules) {
	w.t.Helper()
	back := w.do(RollbackCutover{Cutover: cutover}).(CutoverRolledBack).Back
	if n := len(w.records[len(w.records)-1].Data); n > 32<<10 || !back.Change.Restore {
		w.t.Errorf("the way back takes %d bytes: %+v", n, back.Change)
	}
	runCutover(w, back.Cutover)
	if !w.s.Rules["unit_type"].Current.Equal(was) {
		w.t.Error("it leads to other rules than there were")
	}
}

// What a list of the state can be said to be is not listed by any other cutover either, and few IDs are always listed.
func TestWholeListsOfPreviews(t *testing.T) {
	base, ids := burning(t)
	w := base.fork(t)
	w.do(PreviewCutover{ExactAddDelta: map[string]routing.Packed{"unsh": packed(ids...)}})
	w.do(PreviewCutover{Exact: map[string][]string{"unbj": {}}})
	for _, rec := range w.records[len(w.records)-2:] {
		if len(rec.Data) > 32<<10 {
			t.Errorf("%d bytes", len(rec.Data))
		}
	}
	p := w.do(PreviewCutover{ExactAdd: map[string][]string{"unsh": ids[:2]}}).(CutoverProposed)
	runCutover(w, p.Cutover)
	back := w.do(RollbackCutover{Cutover: p.Cutover}).(CutoverRolledBack).Back
	if len(p.Change.Exact["unsh"]) != 2 || len(back.Change.Exact["unbj"]) != 2 || p.Change.Whole != nil || back.Change.Restore {
		t.Errorf("there %+v, back %+v", p.Change, back.Change)
	}
	_, err := base.try(PreviewCutover{ExactAddDelta: map[string]routing.Packed{"unsh": packed(ids[1:]...)}})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("a list but for one ID: %v", err)
	}
}

// A way back that refers to rules which are not there, or to a cutover of another unit type, is no event.
func TestWayBackToNothing(t *testing.T) {
	w := shop(t)
	p := w.do(walk(1)).(CutoverProposed)
	for _, of := range []string{"", "c9"} {
		forged := p
		forged.Cutover, forged.RollbackOf, forged.Change = "c2", of, routing.Change{Ranges: p.Change.Ranges, Restore: true}
		rec, err := NewRecord(w.s, w.envelope(walk(1)), forged, w.now)
		if err == nil {
			_, err = Evolve(w.s, rec)
		}
		if !errors.Is(err, routing.ErrNotListed) {
			t.Errorf("a rollback of %q: %v", of, err)
		}
	}
}
