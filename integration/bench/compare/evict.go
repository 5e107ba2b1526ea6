//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/unitgate/unitgate/integration/bench/load"
	"github.com/unitgate/unitgate/integration/bench/sock"
	"github.com/unitgate/unitgate/services/command"
)

var evictMetrics = []metric{
	{"first", "command to the first Close frame", "ms", false},
	{"close", "command to the last Close frame", "ms", false},
	{"end", "command to the last end", "ms", false},
	{"done", "command to the end of the cutover", "ms", false},
}

// eviction says who is to go.
type eviction struct {
	realm string
	edges int // of the losing unit
	ids   int // routerIds, from 0; one slot each
	each  int // sessions of each routerId
	gone  int // routerIds that go
}

// evictNinth evicts a ninth of the sessions of one edge.
func evictNinth(ctx context.Context, b *bench, m *measurement) (values, error) {
	return b.evict(ctx, m, eviction{realm: "evict", edges: 1, ids: m.evict, each: 1, gone: m.evict / 9})
}

// evictFromTwo evicts five of six sessions of two edges.
func evictFromTwo(ctx context.Context, b *bench, m *measurement) (values, error) {
	return b.evict(ctx, m, eviction{realm: "evict2", edges: 2, ids: m.evictBoth / 2 * 6 / 5, each: 2, gone: m.evictBoth / 2})
}

// evict moves routerIds to the other unit, as fast as it goes, and times it from the command on.
func (b *bench) evict(ctx context.Context, m *measurement, e eviction) (values, error) {
	r, err := b.system.enter(e.realm)
	if err != nil {
		return nil, err
	}
	defer r.leave()
	if err := r.apply(ctx, b.addrs); err != nil {
		return nil, err
	}
	m.site = &site{}
	defer func() { m.site.stop() }()
	for i := range e.edges {
		if err := r.edge(ctx, m.site, fmt.Sprintf("here-%d", i+1), unitHere); err != nil {
			return nil, err
		}
	}
	crowded := m.site.addrs
	if err := r.edge(ctx, m.site, "there-1", unitThere); err != nil {
		return nil, err
	}
	err = m.open(ctx, e.ids*e.each, func(int) load.Target {
		return load.Target{Addrs: crowded, Sources: sources(), Path: "/", IDs: e.ids, Inflight: 256}
	})
	if err != nil {
		return nil, err
	}
	v, err := r.timed(ctx, m, e)
	if err != nil {
		return nil, err
	}
	var alive load.Echoed // whoever stayed is served as before
	if err := m.loads[0].Call(ctx, "echo", load.EchoArgs{Rate: 2000, Duration: m.warmUp()}, &alive); err != nil {
		return nil, err
	}
	var none load.None
	if err := m.loads[0].Call(ctx, "close", none, &none); err != nil {
		return nil, err
	}
	return v, r.back(ctx)
}

// timed moves the routerIds that go, while the load generator waits for their ends.
func (r *realm) timed(ctx context.Context, m *measurement, e eviction) (values, error) {
	clock, err := sock.NewClock()
	if err != nil {
		return nil, err
	}
	id, err := r.propose(ctx, map[string][]string{unitHere: {slots(e.gone, ownIDs-1)}, unitThere: {slots(0, e.gone-1), slots(ownIDs, ownIDs)}})
	if err != nil {
		return nil, err
	}
	var seen load.Closes
	over := make(chan error, 1)
	go func() {
		over <- m.loads[0].Call(ctx, "closes", load.ClosesArgs{N: e.gone * e.each, Within: time.Minute}, &seen)
	}()
	began := clock.Now()
	err = r.do(ctx, "start", which{id}, nil)
	if err := errors.Join(err, <-over); err != nil {
		return nil, err
	}
	if err := r.completed(ctx, id); err != nil {
		return nil, err
	}
	ms := func(at int64) float64 { return float64(at-began) / 1e6 }
	return values{"first": ms(seen.First), "close": ms(seen.Last), "end": ms(seen.End), "done": ms(clock.Now())}, nil
}

// back undoes the move, for the next round.
func (r *realm) back(ctx context.Context) error {
	id, err := r.propose(ctx, map[string][]string{unitHere: {slots(0, ownIDs-1)}, unitThere: {slots(ownIDs, ownIDs)}})
	if err != nil {
		return err
	}
	if err := r.do(ctx, "start", which{id}, nil); err != nil {
		return err
	}
	return r.completed(ctx, id)
}

func slots(from, to int) string { return fmt.Sprintf("%d-%d", from, to) }

// which is the data of commands about a cutover.
type which struct {
	Cutover string `json:"cutover"`
}

// propose makes a cutover to these ranges, and has it checked.
func (r *realm) propose(ctx context.Context, ranges map[string][]string) (string, error) {
	var proposed struct {
		ID string `json:"id"`
	}
	err := r.do(ctx, "preview", map[string]any{"ranges": ranges, "rate": "max", "waves": 1}, &proposed)
	if err != nil {
		return "", err
	}
	return proposed.ID, r.do(ctx, "check", which{proposed.ID}, nil)
}

// completed waits until a cutover is.
func (r *realm) completed(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var shown struct {
			State string `json:"state"`
		}
		if err := r.do(ctx, "show", which{id}, &shown); err != nil || shown.State == "completed" {
			return err
		}
		if err := rest(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("cutover %s is %s: %w", id, shown.State, err)
		}
	}
}

func (r *realm) do(ctx context.Context, verb string, data, into any) error {
	o, err := command.NewClient(r.nc, r.name).Do(ctx, "cutover", verb, command.Request{Actor: "bench", Data: data})
	if err == nil && !o.OK {
		err = o.Error
	}
	if err == nil && into != nil {
		err = json.Unmarshal(o.Data, into)
	}
	if err != nil {
		return fmt.Errorf("cutover %s: %w", verb, err)
	}
	return nil
}
