package cutover

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
)

const (
	chronicleWait = 2 * time.Second // for the collector and the bucket, after something was emitted
	chronicleTick = 250 * time.Millisecond
	staleRoot     = time.Hour // what ended earlier was nobody's to emit: tracing was off

	// settling is how long a commit is looked at before its wave's span is emitted, unless something comes after it: that
	// may have been decided, at a moment that bounds the span, when the commit was seen.
	settling = time.Second
)

// chronicle emits the spans of a cutover that have no process of their own: its waves and its root. The process in office
// does, from the state alone, so that a successor goes on where another one ended.
//
// So that it neither does twice what was done nor leaves out what was not, a mark in the office's bucket says how far the
// spans are that a collector was given. It is written after they were flushed: a process that dies between the two leaves
// its successor to emit them again, under the same ids. One goroutine, that of run, owns it.
type chronicle struct {
	*Manager
	bucket func() (jetstream.KeyValue, error)
	spans  spans

	loaded bool // mark and rev are the bucket's; valid while in office
	rev    uint64
	mark   mark
	saved  bool                 // the bucket holds mark
	seen   map[uint64]time.Time // when the commits that settle were seen, by fence
}

// mark is how far the spans of a namespace's cutovers are.
type mark struct {
	Next uint64            `json:"next"` // number of the first cutover that was not looked at
	Open map[string]uint64 `json:"open"` // of those before that had not ended: the newest fence whose span was emitted
}

func newChronicle(m *Manager, l *loop) *chronicle {
	return &chronicle{Manager: m, bucket: l.bucket, spans: spansBy(m.cfg.Tracing)}
}

func (c *chronicle) run(ctx context.Context) {
	tick := time.NewTicker(chronicleTick) // the office is not signalled
	defer tick.Stop()
	for {
		changed := c.cfg.States.Changed()
		c.look(ctx)
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			c.look(ctx) // the office is given back after this
			return
		}
	}
}

// look emits what is due.
func (c *chronicle) look(ctx context.Context) {
	if !c.Leading() {
		c.loaded = false
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), chronicleWait)
	defer cancel()
	s := c.cfg.States.State()
	if !c.loaded && !c.load(ctx, s) {
		return
	}
	if c.tell(s, time.Now()) {
		c.saved = false
		if f, ok := c.cfg.Tracing.(interface {
			ForceFlush(ctx context.Context) error
		}); ok {
			_ = f.ForceFlush(ctx) // a collector that does not take them in time does not get them
		}
	}
	if !c.saved {
		c.save(ctx)
	}
}

// load reads the mark. Without one tracing begins here: cutovers that have ended were somebody else's.
func (c *chronicle) load(ctx context.Context, s *events.State) bool {
	kv, err := c.bucket()
	if err != nil {
		return false
	}
	c.mark, c.rev, c.saved, c.seen = mark{}, 0, true, nil
	e, err := kv.Get(ctx, c.key())
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		c.mark.Next, c.saved = s.CutoverCount+1, false
		for _, cut := range s.CutoverList() {
			if !cut.State.Ended() {
				c.open(cut.ID, 0)
			}
		}
	case err != nil:
		return false
	default:
		c.rev = e.Revision()
		if err := json.Unmarshal(e.Value(), &c.mark); err != nil {
			c.cfg.Logger.Warn("the mark of the traces cannot be read: some spans may be emitted twice", "namespace", c.cfg.Namespace, "err", err)
		}
	}
	c.loaded = true
	return true
}

// save stores the mark. One that somebody else has written since is read again, if this process is in office still.
func (c *chronicle) save(ctx context.Context) {
	kv, err := c.bucket()
	if err != nil {
		return // the next look tries again
	}
	b, err := c.mark.encode()
	if err != nil {
		return
	}
	rev, err := kv.Update(ctx, c.key(), b, c.rev)
	var api *jetstream.APIError
	switch {
	case err == nil:
		c.rev, c.saved = rev, true
	case errors.Is(err, jetstream.ErrKeyExists), errors.As(err, &api) && conflict(api):
		c.loaded = false
	}
}

// maxMark keeps a mark within the bucket's values.
const maxMark = 1000

// encode writes the mark. Where very many proposals stand open, the oldest that were never fenced lose their place: they
// will have no root.
func (m mark) encode() ([]byte, error) {
	ids := slices.SortedFunc(maps.Keys(m.Open), func(a, b string) int { // c9 before c10; the fenced ones last
		return cmp.Or(cmp.Compare(min(m.Open[a], 1), min(m.Open[b], 1)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	m.Open = maps.Clone(m.Open)
	for {
		b, err := json.Marshal(m)
		if err != nil || len(b) <= maxMark || len(ids) == 0 {
			return b, err
		}
		delete(m.Open, ids[0])
		ids = ids[1:]
	}
}

func (c *chronicle) key() string { return c.cfg.Namespace + ".traced" }

func (c *chronicle) open(id string, fence uint64) {
	if c.mark.Open == nil {
		c.mark.Open = map[string]uint64{}
	}
	c.mark.Open[id] = fence
}

// tell emits what the mark does not have yet, and reports whether that was anything.
func (c *chronicle) tell(s *events.State, now time.Time) (told bool) {
	list := s.CutoverList()
	for _, cut := range list {
		fence, open := c.mark.Open[cut.ID]
		if cut.Number < c.mark.Next && !open {
			continue
		}
		told = c.tellOf(s, &cut, fence, now) || told
	}
	c.mark.Next = s.CutoverCount + 1
	maps.DeleteFunc(c.mark.Open, func(id string, _ uint64) bool { // the state forgets old proposals
		_, ok := s.Cutovers[id]
		return !ok
	})
	return told
}

func (c *chronicle) tellOf(s *events.State, cut *events.Cutover, fence uint64, now time.Time) (told bool) {
	t, ok := cut.Trace()
	fresh := ok && (!cut.State.Ended() || now.Sub(cut.EndedAt) < staleRoot)
	last := fence
	for i, w := range cut.Waves {
		if w.FenceSeq <= fence || w.State == events.FencedWave {
			continue
		}
		end, settled := c.settled(cut, i, now)
		if !settled {
			continue
		}
		last = max(last, w.FenceSeq)
		if fresh {
			c.spans.wave(c.cfg.Namespace, cut, &t, i, fenceEnd(cut, i, end))
			told = true
		}
	}
	if !cut.State.Ended() {
		c.open(cut.ID, last)
		return told
	}
	delete(c.mark.Open, cut.ID)
	if fresh {
		var origin *events.Cutover
		if o, ok := s.Cutovers[cut.RollbackOf]; ok {
			origin = &o
		}
		c.spans.root(c.cfg.Namespace, cut, &t, origin)
		told = true
	}
	return told
}

// settled is when the end of a fence was seen, and whether its span may be emitted.
func (c *chronicle) settled(cut *events.Cutover, i int, now time.Time) (seen time.Time, settled bool) {
	w := cut.Waves[i]
	seen, known := c.seen[w.FenceSeq]
	if !known {
		seen = now
	}
	settled = w.State != events.CommittedWave || cut.State.Ended() || now.Sub(seen) >= settling ||
		slices.ContainsFunc(cut.Waves, func(later events.Wave) bool { return later.FenceSeq > w.FenceSeq })
	if settled {
		delete(c.seen, w.FenceSeq)
	} else if !known {
		if c.seen == nil {
			c.seen = map[uint64]time.Time{}
		}
		c.seen[w.FenceSeq] = now
	}
	return seen, settled
}

// fenceEnd is when the fence of a wave has ended that is not fenced any more: the state holds no time of it, so now, or
// the earliest moment of something that came after.
func fenceEnd(cut *events.Cutover, i int, now time.Time) time.Time {
	end := now
	if cut.State.Ended() && cut.EndedAt.Before(end) {
		end = cut.EndedAt
	}
	for _, w := range cut.Waves[i+1:] {
		if w.FenceSeq > cut.Waves[i].FenceSeq && w.FencedAt.Before(end) {
			end = w.FencedAt
		}
	}
	return end
}
