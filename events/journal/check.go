package journal

import (
	"context"
	"fmt"
)

// Check implements [Journal].
func (s *Stream) Check(ctx context.Context, cur Cursor) error {
	if err := cur.check(); err != nil {
		return err
	}
	f := follower{s: s, chain: chain{ns: s.ns, epoch: cur.Epoch, seq: cur.Seq, hash: cur.Hash}}
	if f.chain.epoch == "" {
		f.chain.epoch = s.epoch
	}
	st, err := f.look(ctx, &f.chain)
	if err != nil || cur.Seq == 0 {
		return err
	}
	rec, ok, err := s.bySequence(ctx, cur.Seq)
	if err != nil {
		return err
	}
	if !ok {
		return f.chain.broken(BreakGap, cur.Seq, fmt.Sprint(cur.Seq), fmt.Sprintf("nothing, though it ends at %d", st.head))
	}
	return f.chain.recognize(&rec)
}

// Check implements [Journal].
func (m *Memory) Check(ctx context.Context, cur Cursor) error {
	if err := cur.check(); err != nil {
		return err
	}
	c := chain{ns: m.ns, epoch: cur.Epoch, seq: cur.Seq, hash: cur.Hash}
	records, _ := m.since(0)
	if err := c.enter(m.epoch, uint64(len(records))); err != nil || cur.Seq == 0 {
		return err
	}
	if err := c.recognize(&records[cur.Seq-1]); err != nil {
		return err
	}
	return ctx.Err()
}
