package journal

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"github.com/unitgate/unitgate/events"
)

// Memory is a journal in memory, for tests and simulation. It keeps the same promises as [Stream] except durability.
// The mutex guards all of its fields but ns and epoch, which never change.
type Memory struct {
	ns, epoch string

	mu      sync.Mutex
	records []events.Record // record i has sequence i+1
	hashes  []string        // hash of record i
	byKey   map[string]uint64
	changed chan struct{} // closed and replaced by every append
}

var _ Journal = (*Memory)(nil)

// NewMemory returns an empty journal of a new epoch.
func NewMemory(ns string) *Memory {
	return &Memory{ns: ns, epoch: uuid.NewString(), byKey: map[string]uint64{}, changed: make(chan struct{})}
}

// Namespace implements [Journal].
func (m *Memory) Namespace() string { return m.ns }

// Epoch implements [Journal].
func (m *Memory) Epoch() string { return m.epoch }

// Head implements [Journal].
func (m *Memory) Head(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.records)), nil
}

// Append implements [Journal].
func (m *Memory) Append(ctx context.Context, after uint64, rec events.Record) (events.Record, error) {
	if err := ctx.Err(); err != nil {
		return rec, err
	}
	rec, err := prepare(after, rec)
	if err != nil {
		return rec, err
	}
	rec.Data = bytes.Clone(rec.Data)
	m.mu.Lock()
	defer m.mu.Unlock()
	key := subject(m.ns, rec.Entity, rec.Verb, rec.CommandID)
	if seq := m.byKey[key]; seq != 0 {
		return rec, fmt.Errorf("%s.%s %s: %w: sequence %d", rec.Entity, rec.Verb, rec.CommandID, ErrDuplicate, seq)
	}
	if head := uint64(len(m.records)); after != head {
		return rec, fmt.Errorf("append after %d, head is %d: %w", after, head, ErrConflict)
	}
	if after > 0 && rec.Prev != m.hashes[after-1] {
		return rec, fmt.Errorf("%w: previous hash is %s, record %d has %s", ErrInvalid, rec.Prev, after, m.hashes[after-1])
	}
	m.records, m.hashes = append(m.records, rec), append(m.hashes, rec.Hash())
	m.byKey[key] = rec.Seq
	close(m.changed)
	m.changed = make(chan struct{})
	rec.Data = bytes.Clone(rec.Data)
	return rec, nil
}

// Find implements [Journal].
func (m *Memory) Find(ctx context.Context, entity, verb, commandID string) (events.Record, bool, error) {
	if err := ctx.Err(); err != nil {
		return events.Record{}, false, err
	}
	if err := checkKey(entity, verb, commandID); err != nil {
		return events.Record{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	seq := m.byKey[subject(m.ns, entity, verb, commandID)]
	if seq == 0 {
		return events.Record{}, false, nil
	}
	rec := m.records[seq-1]
	rec.Data = bytes.Clone(rec.Data)
	return rec, true, nil
}

// Read implements [Journal].
func (m *Memory) Read(ctx context.Context, from uint64, fn func(events.Record) error) error {
	records, _ := m.since(0)
	c := chain{ns: m.ns, epoch: m.epoch}
	if from = max(from, 1); from > 1 {
		if last := uint64(len(records)); from > last+1 {
			c.seq = from - 1
			return c.enter(m.epoch, last)
		}
		c.advance(from-1, records[from-2].Hash())
	}
	return m.deliver(ctx, &c, records[from-1:], fn)
}

// Follow implements [Journal].
func (m *Memory) Follow(ctx context.Context, cur Cursor, fn func(events.Record) error) error {
	if err := cur.check(); err != nil {
		return err
	}
	c := chain{ns: m.ns, epoch: cur.Epoch, seq: cur.Seq, hash: cur.Hash}
	records, _ := m.since(0)
	if err := c.enter(m.epoch, uint64(len(records))); err != nil {
		return err
	}
	if c.seq > 0 {
		if err := c.recognize(&records[c.seq-1]); err != nil {
			return err
		}
	}
	for {
		records, changed := m.since(c.seq)
		if err := m.deliver(ctx, &c, records, fn); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// since returns the records after seq, and a channel that closes when there are more.
func (m *Memory) since(seq uint64) ([]events.Record, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[seq:len(m.records):len(m.records)], m.changed
}

func (m *Memory) deliver(ctx context.Context, c *chain, records []events.Record, fn func(events.Record) error) error {
	for _, rec := range records {
		if err := ctx.Err(); err != nil {
			return err
		}
		hash, err := c.admit(&rec)
		if err != nil {
			return err
		}
		rec.Data = bytes.Clone(rec.Data)
		if err := fn(rec); err != nil {
			return err
		}
		c.advance(rec.Seq, hash)
	}
	return ctx.Err()
}
