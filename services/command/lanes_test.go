package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/unitgate/unitgate/events"
)

// crowd puts calls into lanes that stay in work until they are told to end.
type crowd struct {
	*lanes
	mu   sync.Mutex
	in   []string // in work, in the order of their beginning
	work sync.WaitGroup
	ends map[string]chan struct{}
}

func newCrowd(c class) *crowd {
	w := &crowd{ends: map[string]chan struct{}{}}
	w.lanes = newLanes(c, &w.work)
	return w
}

// put names a call after its lane: "shop 1" is in lane shop.
func (w *crowd) put(name, sender string, size int) bool {
	lane, _, _ := strings.Cut(name, " ")
	end := make(chan struct{})
	w.ends[name] = end
	return w.take(lane, sender, size, func() {
		w.mu.Lock()
		w.in = append(w.in, name)
		w.mu.Unlock()
		<-end
		w.mu.Lock()
		w.in = slices.DeleteFunc(w.in, func(n string) bool { return n == name })
		w.mu.Unlock()
	})
}

// end ends a call, and waits until whoever was waiting for it has begun.
func (w *crowd) end(name string) { close(w.ends[name]); synctest.Wait() }

func (w *crowd) inWork(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := slices.Sorted(slices.Values(w.in)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Fatalf("in work are %v, want %v", got, want)
	}
}

// One lane that is full keeps no other one from its slots, and lanes take turns.
func TestLanesAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCrowd(class{slots: 2, total: 3, queue: 3, bytes: 100})
		for i := range 5 {
			if !w.put(fmt.Sprintf("a %d", i), "", 1) {
				t.Fatalf("call %d of lane a is refused", i)
			}
		}
		if w.put("a 5", "", 1) {
			t.Fatal("a full queue takes one more")
		}
		w.inWork(t, "a 0", "a 1")
		for _, name := range []string{"b 0", "b 1", "c 0", "c 1"} { // beyond the total, each lane has its first slot
			if !w.put(name, "", 1) {
				t.Fatalf("%s is refused", name)
			}
		}
		w.inWork(t, "a 0", "a 1", "b 0", "c 0")
		w.end("a 0") // four in work were one too many
		w.inWork(t, "a 1", "b 0", "c 0")
		w.end("a 1") // lane a has none left: its first slot is its own
		w.inWork(t, "a 2", "b 0", "c 0")
		w.end("b 0")
		w.inWork(t, "a 2", "b 1", "c 0")
		w.end("c 0")
		w.inWork(t, "a 2", "b 1", "c 1")
		w.end("c 1") // c has no more: a, which has waited for longest
		w.inWork(t, "a 2", "a 3", "b 1")
		for _, name := range []string{"a 2", "a 3", "a 4", "b 1"} {
			w.end(name)
		}
		w.inWork(t)
		if w.working != 0 || len(w.lanes.lanes) != 0 || len(w.waiting) != 0 {
			t.Errorf("%d in work, lanes %v, waiting %v", w.working, w.lanes.lanes, w.waiting)
		}
	})
}

// What waits is bounded by its bytes and by its sender, too; and there are never more lanes than memory is meant for.
func TestLanesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCrowd(class{slots: 1, total: 1, queue: 10, bytes: 100, sender: 2})
		if !w.put("a 0", "x", 1000) || !w.put("a 1", "y", 60) || w.put("a 2", "z", 41) || !w.put("a 3", "z", 40) {
			t.Error("the queue is not what its bytes allow")
		}
		if !w.put("a 4", "y", 0) || w.put("a 5", "y", 0) || !w.put("b 0", "y", 0) {
			t.Error("a sender has not two calls in a lane")
		}
		w.inWork(t, "a 0", "b 0")
		w.end("a 0")
		w.end("a 1")
		if !w.put("a 6", "y", 0) { // one of its two has ended
			t.Error("a sender stays refused")
		}
		w.end("a 3")
		w.end("a 4")
		w.end("a 6")
		w.end("b 0")

		w = newCrowd(class{slots: 1, total: 1, queue: 1, bytes: 1})
		for i := range maxLanes {
			w.put(fmt.Sprintf("lane%d", i), "", 0)
		}
		if !w.put("more 0", "", 0) || !w.put("more 1", "", 0) || w.put("others 0", "", 0) {
			t.Error("lanes beyond the bound do not share one")
		}
		synctest.Wait()
		if len(w.lanes.lanes) != maxLanes+1 {
			t.Errorf("%d lanes", len(w.lanes.lanes))
		}
		for _, end := range w.ends {
			select {
			case <-end:
			default:
				close(end)
			}
		}
		w.work.Wait()
	})
}

// The budget is given in the order of the asking, never beyond its size, and not lost when the asker gives up.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget()
		ctx := t.Context()
		for range 2 {
			if err := b.take(ctx, budgetBytes/2); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.take(ctx, 0); err != nil {
			t.Errorf("who needs nothing waits: %v", err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var order []int
		var mu sync.Mutex
		served := func() []int { mu.Lock(); defer mu.Unlock(); return slices.Clone(order) }
		var all sync.WaitGroup
		claimed := func(ctx context.Context, i, n int) {
			all.Go(func() {
				if err := b.take(ctx, n); err != nil {
					if !errors.Is(err, ErrBusy) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			})
			synctest.Wait()
		}
		claimed(short, 0, budgetBytes*2) // more than there is: all of it
		claimed(ctx, 1, budgetBytes/2)
		claimed(ctx, 2, 1)
		b.give(budgetBytes / 2)
		if synctest.Wait(); len(served()) != 0 {
			t.Errorf("%v came before the first in the row", order)
		}
		time.Sleep(time.Second) // the first one gives up
		if synctest.Wait(); !slices.Equal(served(), []int{1}) {
			t.Errorf("%v were served", order)
		}
		b.give(budgetBytes / 2)
		b.give(budgetBytes / 2)
		all.Wait()
		if b.free != budgetBytes-1 || len(b.waiting) != 0 || !slices.Equal(order, []int{1, 2}) {
			t.Errorf("%d bytes are free, %d wait, the order was %v", b.free, len(b.waiting), order)
		}
	})
}

func TestCost(t *testing.T) {
	packs, plain := events.Bound{Wire: 1 << 20, Unpacked: 8 << 20}, events.Bound{Wire: 1 << 20}
	for _, c := range []struct {
		bound events.Bound
		body  string
		want  int
	}{
		{packs, `{"data":{}}`, 0}, {packs, `{"data":{ "packed" :"x"}}`, 8 << 20}, {packs, `{"packed":1}`, 8 << 20}, {plain, `{"data":{"packed":"x"}}`, 0},
		{plain, strings.Repeat(" ", largeFrom-1), 0}, {plain, strings.Repeat(" ", largeFrom), largeFrom},
	} {
		if got := costOf(c.bound, []byte(c.body)); got != c.want {
			t.Errorf("%.40s… of %d bytes costs %d, want %d", c.body, len(c.body), got, c.want)
		}
	}
}

// Each command and question has exactly one subscription, of its own kind; NATS would deal it out among several.
func TestEndpoints(t *testing.T) {
	asked := []string{"cutover.show", "dns.show"}
	list := endpoints(asked)
	kinds := map[string]kind{"edge.join": edges, "edge.leave": edges, "cutover.show": questions, "dns.show": questions, "config.apply": bulk, "rules.init": bulk, "cutover.preview": bulk}
	names := slices.Clone(asked)
	for _, e := range events.Catalogue() {
		names = append(names, e.Entity+"."+e.Verb)
	}
	for _, name := range append(names, "unit.explode", "wave.explode", "dns.explode") {
		entity, verb, _ := strings.Cut(name, ".")
		var at []endpoint
		for _, e := range list {
			if e.subject == name || e.subject == entity+".*" {
				at = append(at, e)
			}
		}
		if len(at) != 1 {
			t.Errorf("%s has endpoints %+v", name, at)
			continue
		}
		want, ok := kinds[name]
		if !ok {
			want = commands
		}
		r := routeOf(entity, verb, map[string]bool{asked[0]: true, asked[1]: true})
		if r.kind != want || at[0].kind != want && at[0].kind != kinds["dns.show"] {
			t.Errorf("%s is taken as %s at %s of %s", name, r.kind, at[0].name, at[0].kind)
		}
		if at[0].wire < r.bound.Wire && !strings.HasSuffix(name, "explode") {
			t.Errorf("%s: %d bytes are let through at %s, it has %d", name, at[0].wire, at[0].name, r.bound.Wire)
		}
	}
	if len(list) > 40 {
		t.Errorf("%d endpoints: that many stand in each answer to $SRV.INFO", len(list))
	}
}
