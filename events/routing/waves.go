package routing

import (
	"errors"
	"fmt"
	"math"
)

// ErrWaves says that waves do not deal out what a cutover moves.
var ErrWaves = errors.New("bad waves")

// CheckWaves proves what CompileCutover relies on: both rule sets have the same slotting, and the waves hold
// every key that moves between them exactly once and no other key. Errors wrap ErrWaves or ErrSlots.
func CheckWaves(from, to *Rules, waves []Keys) error {
	if from.slotting != to.slotting {
		return fmt.Errorf("%w: %+v before and %+v after", ErrSlots, from.slotting, to.slotting)
	}
	if len(waves) == 0 {
		return fmt.Errorf("%w: there is none", ErrWaves)
	}
	d := Compare(from, to)
	c := dealer{slots: make([]uint32, from.slotting.Slots), exact: d.Exact, seen: make([]bool, d.Exact.Len()), flows: len(d.Flows), routes: 2 * len(from.Units())}
	for i, m := range d.Moves {
		for s := m.From; s <= m.To; s++ {
			c.slots[s] = uint32(i) + 1
		}
	}
	for w, k := range waves {
		if err := c.deal(k); err != nil {
			return fmt.Errorf("%w: wave %d: %w", ErrWaves, w, err)
		}
	}
	if c.dealt != d.Keys() {
		return fmt.Errorf("%w: %d of %d moving keys are in no wave", ErrWaves, d.Keys()-c.dealt, d.Keys())
	}
	if c.routes > math.MaxUint16 {
		return fmt.Errorf("%w: up to %d different routes, a table holds %d", ErrWaves, c.routes, math.MaxUint16)
	}
	return nil
}

// dealer holds the keys that have still to turn up in a wave.
type dealer struct {
	slots  []uint32 // 1 + index of the slot's move, or 0
	exact  IDs      // that move
	seen   []bool   // by index in exact: it has turned up
	dealt  int
	flows  int // pairs of units between which exact IDs move
	routes int // not less than the number of routes of the compiled table
}

func (c *dealer) deal(k Keys) error {
	for _, rg := range k.Slots {
		if rg.From > rg.To || rg.To >= uint32(len(c.slots)) {
			return fmt.Errorf("slots %s do not lie in 0-%d", rg, len(c.slots)-1)
		}
		last := uint32(0)
		for s := rg.From; s <= rg.To; s++ {
			m := c.slots[s]
			if m == 0 {
				return fmt.Errorf("slot %d does not move, or stands in a wave already", s)
			}
			if m != last {
				c.routes++
			}
			last, c.slots[s] = m, 0
		}
		c.dealt += rg.Len()
	}
	for id := range k.Exact.All() {
		i, ok := c.exact.find(id)
		if !ok || c.seen[i] {
			return fmt.Errorf("exact ID %q does not move, or stands in a wave already", id)
		}
		c.seen[i] = true
		c.dealt++
	}
	c.routes += min(k.Exact.Len(), c.flows)
	return nil
}
