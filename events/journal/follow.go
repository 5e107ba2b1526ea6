package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

const (
	// idleCheck is how often a follower that receives nothing asks whether the journal is still the same, and whether
	// there is something that it should have received.
	idleCheck = 2 * time.Second

	// confirm is how long a journal must look gone or truncated, at every look, before it is believed. A server that has
	// just restarted or just become the leader says so for a moment, while it loads what it has.
	confirm = 3 * time.Second

	minBackoff, maxBackoff = 50 * time.Millisecond, 2 * time.Second

	// spread is over how long those whose connection was lost meanwhile come back with a new consumer: a thousand edges that make their consumers
	// in one moment would keep a server that has just started from everything else.
	spread = time.Second
)

var (
	errDone  = errors.New("read up to the wanted record")
	errAgain = errors.New("resume")
)

// Read implements [Journal].
func (s *Stream) Read(ctx context.Context, from uint64, fn func(events.Record) error) error {
	head, err := s.Head(ctx)
	if err != nil {
		return err
	}
	c := chain{ns: s.ns, epoch: s.epoch}
	f := follower{s: s, chain: c, until: head, fn: fn}
	if from = max(from, 1); from > 1 {
		c.seq = from - 1
		if _, err := f.look(ctx, &c); err != nil {
			return err
		}
		base, ok, err := s.bySequence(ctx, c.seq)
		if err != nil {
			return err
		}
		if !ok {
			return c.broken(BreakGap, c.seq, fmt.Sprint(c.seq), "nothing")
		}
		c.hash = base.Hash()
	}
	if head <= c.seq {
		return ctx.Err()
	}
	f.chain = c
	return f.run(ctx)
}

// Follow implements [Journal].
func (s *Stream) Follow(ctx context.Context, cur Cursor, fn func(events.Record) error) error {
	if err := cur.check(); err != nil {
		return err
	}
	c := chain{ns: s.ns, epoch: cur.Epoch, seq: cur.Seq, hash: cur.Hash}
	if c.epoch == "" {
		c.epoch = s.epoch
	}
	f := follower{s: s, chain: c, fn: fn}
	return f.run(ctx)
}

// follower is one reading of the journal: a row of sessions, each with a consumer of its own, that go on where the last
// one ended.
//
// It is an ordered consumer by hand. The client library's one starts silently at a later record than asked for, waits
// silently for a start beyond the end, and goes on at its old cursor in a stream that was created anew. Here every session
// begins with a look at epoch and last sequence and with the record at the cursor once more, whose hash must be the known one.
type follower struct {
	s     *Stream
	chain chain  // owned by the session's handler while there is one, else by run
	doubt doubt  // of run's goroutine
	until uint64 // last record wanted; 0: follow for ever
	fn    func(events.Record) error
}

// run holds sessions until one ends for good.
func (f *follower) run(ctx context.Context) error {
	backoff := minBackoff
	reconnects := f.s.conn().Stats().Reconnects
	for {
		if err := f.s.awaitConnection(ctx); err != nil {
			return err
		}
		if now := f.s.conn().Stats().Reconnects; now != reconnects {
			reconnects = now
			if err := pause(ctx, rand.N(spread)); err != nil {
				return err
			}
		}
		before := f.chain.seq
		err := f.session(ctx)
		var broken *BreakError
		switch {
		case ctx.Err() != nil && (err == nil || errors.Is(err, errAgain)):
			return ctx.Err()
		case errors.Is(err, errDone):
			return nil
		case errors.As(err, &broken) && f.doubt.remains(broken):
		case !errors.Is(err, errAgain):
			return err
		default:
			f.doubt.clear()
		}
		if f.s.troubled(err); f.chain.seq > before {
			backoff = minBackoff
		}
		if err := pause(ctx, backoff/2+rand.N(backoff)); err != nil { // jitter: a thousand edges lose one server together
			return err
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// doubt remembers since when every look shows the journal gone or truncated.
type doubt struct {
	kind  Break
	since time.Time
}

// remains tells whether a break may still be a passing look of a starting server.
func (d *doubt) remains(b *BreakError) bool {
	if b.Kind != BreakGone && b.Kind != BreakTruncated {
		return false
	}
	if d.kind != b.Kind {
		d.kind, d.since = b.Kind, time.Now()
	}
	return time.Since(d.since) < confirm
}

func (d *doubt) clear() { d.kind = "" }

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// awaitConnection waits until the client is connected. Requests made earlier would only queue up in it.
func (s *Stream) awaitConnection(ctx context.Context) error {
	nc := s.conn()
	if nc.IsConnected() {
		return ctx.Err()
	}
	changed := nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(changed)
	for {
		switch {
		case nc.IsClosed():
			return fmt.Errorf("follow journal %s: %w", s.name(), nats.ErrConnectionClosed)
		case nc.IsConnected():
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// look compares what is said of the journal with the chain's place in it, and returns where it stands.
// An unanswered question is errAgain, and so is an answer that proves nothing.
func (f *follower) look(ctx context.Context, c *chain) (standing, error) {
	st, err := f.s.standing(ctx)
	switch {
	case errors.Is(err, ErrNoJournal):
		return st, c.broken(BreakGone, c.seq, c.epoch, "")
	case err != nil:
		return st, fmt.Errorf("%w: %w", errAgain, err)
	}
	return st, f.place(st, c)
}

// place compares where the journal stands with the chain's place in it.
func (f *follower) place(st standing, c *chain) error {
	err := c.enter(st.epoch, st.head)
	var broken *BreakError
	if errors.As(err, &broken) && broken.Kind == BreakTruncated && st.unproven != nil {
		return fmt.Errorf("%w: %w", errAgain, st.unproven)
	}
	return err
}

// session follows by one way, pages of the control plane or a consumer, until ctx ends, the records wanted are read,
// something is wrong with the journal or with fn, or the way is in trouble (errAgain).
func (f *follower) session(ctx context.Context) error {
	st, err := f.look(ctx, &f.chain)
	if err != nil {
		return err
	}
	f.doubt.clear() // it is itself again
	if st.asked {
		return f.pages(ctx)
	}
	x := &session{follower: f, verify: f.chain.seq > 0, trouble: make(chan error, 1), over: make(chan struct{})}
	x.reached.Store(f.chain.seq)
	start := f.chain // a copy: the chain itself is the handler's from here on
	stop, err := x.consume(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	err = x.watch(ctx, start)
	stop()
	if failed := x.close(); failed != nil {
		return failed
	}
	return err
}
