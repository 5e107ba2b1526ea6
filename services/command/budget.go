package command

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/unitgate/unitgate/events"
)

// Sizes of large commands.
const (
	largeFrom   = 64 << 10 // from here on a command waits for its share of the budget; most have a few hundred bytes
	budgetBytes = 16 << 20 // two packed commands at their largest, or sixteen messages of 1 MiB
)

// Budget bounds the memory of the large commands that one process has in progress, whichever way they came: in bytes of
// their data once it is unpacked, of which decoding and deciding take a small multiple. The first to come is the first to
// be served. Its methods may be used by any goroutine.
type Budget struct {
	mu      sync.Mutex
	free    int
	waiting []*claim // those that found too little
}

// claim is a part of the budget that somebody waits for.
type claim struct {
	bytes int
	given chan struct{} // closed once it is given
}

// NewBudget makes a budget.
func NewBudget() *Budget { return &Budget{free: budgetBytes} }

// take waits for a part of the budget. The error is ErrBusy: ctx ended before.
func (b *Budget) take(ctx context.Context, bytes int) error {
	if bytes == 0 {
		return nil
	}
	c := &claim{min(bytes, budgetBytes), make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, c)
	b.serve()
	b.mu.Unlock()
	select {
	case <-c.given:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting, c); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
		b.serve() // who waits behind it may need less
		return ErrBusy.With("other large commands are in progress: send it again with the same id in a moment")
	}
	return nil // it was given meanwhile
}

// give gives back what take took.
func (b *Budget) give(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += min(bytes, budgetBytes)
	b.serve()
}

// serve gives those in front what they wait for. b.mu is held.
func (b *Budget) serve() {
	for len(b.waiting) > 0 && b.waiting[0].bytes <= b.free {
		b.free -= b.waiting[0].bytes
		close(b.waiting[0].given)
		b.waiting = slices.Delete(b.waiting, 0, 1)
	}
}

// costOf is what a command's message may take of the budget, told by its bytes alone; 0: nothing.
func costOf(bound events.Bound, body []byte) int {
	switch {
	case bound.Unpacked > 0 && bytes.Contains(body, []byte(`"packed"`)): // in whichever place
		return bound.Unpacked
	case len(body) >= largeFrom:
		return len(body)
	}
	return 0
}
