package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// heartbeat is how often the server must show that the consumer lives; after two missed ones the session ends.
	heartbeat = 500 * time.Millisecond

	// What one pull may bring, so that a fast server can not flood a slow reader. The bytes must exceed the largest message.
	pullMessages, pullBytes = 8192, 8 << 20

	// forgetConsumer is when the server drops a consumer whose session could not delete it.
	forgetConsumer = 30 * time.Second
)

// tooManyConsumers is NATS's code for a stream that may have no further consumer; by default it may have 1,000.
const tooManyConsumers = 10026

// ErrConsumers: the journal's stream can be read by nobody else at this moment.
var ErrConsumers = errors.New("no consumer is left")

// session is one consumer's part of a following. Its handler runs on a goroutine of the NATS client, one message after
// another; the mutex makes close wait for it, so that fn never runs after Follow has returned.
type session struct {
	*follower
	verify  bool       // the next record is the one at the cursor, for its hash
	trouble chan error // first trouble of the consumer; one slot
	over    chan struct{}
	wanted  uint64        // noticed, and not looked for yet; the watching goroutine's
	reached atomic.Uint64 // follower.chain.seq, for the watching goroutine

	mu        sync.Mutex
	delivered uint64 // messages the consumer has sent; a hole in their numbers is a lost delivery, not a broken journal
	fetched   uint64 // last record that did not come by the consumer, see Notice
	failed    error  // why the handler takes no more
}

var errClosed = errors.New("session closed")

// consume makes the consumer and starts it. stop ends it and asks the server to drop it, without waiting.
func (x *session) consume(ctx context.Context) (stop func(), err error) {
	var cons jetstream.Consumer
	err = x.s.ask(ctx, requestTimeout, func(ctx context.Context) (err error) {
		cons, err = x.s.js.CreateConsumer(ctx, x.s.name(), jetstream.ConsumerConfig{
			DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
			OptStartSeq:       max(x.chain.seq, 1), // the record at the cursor once more
			AckPolicy:         jetstream.AckNonePolicy,
			Replicas:          1,
			MemoryStorage:     true,
			InactiveThreshold: forgetConsumer,
		})
		return err
	})
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == tooManyConsumers {
		return nil, fmt.Errorf("%w: stream %s has as many as NATS allows: delete those that are left over (nats consumer ls %[2]s), "+
			"and have readers ask the control plane, as with the accounts of deployments/nats: %[3]w", ErrConsumers, x.s.name(), err)
	}
	if err != nil {
		return nil, err
	}
	cc, err := cons.Consume(x.handle,
		jetstream.PullHeartbeat(heartbeat),
		jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { x.troubled(err) }))
	if err != nil {
		return nil, err
	}
	return func() {
		cc.Stop()
		// Best effort: the server forgets the consumer by itself after forgetConsumer.
		_ = x.s.conn().Publish(x.s.api("CONSUMER.DELETE")+"."+cons.CachedInfo().Name, nil)
	}, nil
}

func (x *session) troubled(err error) {
	select {
	case x.trouble <- err:
	default: // one is enough to end the session
	}
}

// handle takes one message. It is called by the NATS client.
func (x *session) handle(m jetstream.Msg) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed != nil {
		return
	}
	if x.failed = x.take(m); x.failed != nil {
		close(x.over)
	}
}

// take checks one message and hands its record to fn.
func (x *session) take(m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	if x.delivered++; meta.Sequence.Consumer != x.delivered {
		return fmt.Errorf("%w: delivery %d came where %d was due", errAgain, meta.Sequence.Consumer, x.delivered)
	}
	seq := meta.Sequence.Stream
	if !x.verify && seq <= min(x.fetched, x.chain.seq) {
		return nil // fetched already, as a part of the chain
	}
	return x.record(m.Subject(), m.Headers(), m.Data(), seq)
}

// record decodes and checks one stored message and hands its record to fn.
func (x *session) record(subject string, header nats.Header, data []byte, seq uint64) error {
	rec, err := decode(x.chain.ns, subject, header, data, seq)
	if err != nil {
		return &BreakError{Namespace: x.chain.ns, Kind: BreakMalformed, Seq: seq, Err: err}
	}
	if x.verify {
		x.verify = false
		return x.chain.recognize(&rec)
	}
	hash, err := x.chain.admit(&rec)
	if err != nil {
		return err
	}
	if err := x.fn(rec); err != nil {
		return err
	}
	x.chain.advance(seq, hash)
	x.reached.Store(seq)
	x.s.saw(seq, hash)
	if seq == x.until {
		return errDone
	}
	return nil
}

// watch waits for the end of the session, and looks after the journal while nothing comes. c is the chain as it stood at
// the session's start.
func (x *session) watch(ctx context.Context, c chain) error {
	tick := time.NewTicker(idleCheck)
	defer tick.Stop()
	var late <-chan time.Time // not nil: what was noticed has not come yet
	for {
		head, news := x.s.noticedHead()
		x.wanted = max(x.wanted, head)
		if late == nil && x.wanted > x.reached.Load() {
			late = time.After(noticeGrace)
		}
		select {
		case <-news:
			continue
		case <-late:
			late = nil
			x.seek(ctx)
			continue
		case <-ctx.Done():
			return ctx.Err()
		case <-x.over:
			return nil
		case err := <-x.trouble:
			if errors.Is(err, nats.ErrConnectionClosed) {
				return fmt.Errorf("follow journal %s: %w", x.s.name(), nats.ErrConnectionClosed)
			}
			return fmt.Errorf("%w: %w", errAgain, err)
		case <-tick.C:
		}
		if at := x.reached.Load(); at != c.seq {
			c.seq = at // it moves
		} else if x.s.conn().IsConnected() {
			if err := x.idle(ctx, &c); err != nil {
				return err
			}
		}
	}
}

// idle ends the session when the server says that the journal is another one, is shorter, or holds records that the
// consumer should have brought. Without an answer nothing is concluded: the heartbeats tell whether the consumer lives.
func (x *session) idle(ctx context.Context, c *chain) error {
	st, err := x.look(ctx, c)
	if errors.Is(err, errAgain) {
		return nil
	}
	if err == nil && st.head > c.seq && x.reached.Load() == c.seq && !x.busy() {
		return fmt.Errorf("%w: nothing came, though the journal has %d", errAgain, st.head)
	}
	return err
}

// busy tells whether the handler is at work: then nothing arrives because fn takes its time.
func (x *session) busy() bool {
	if x.mu.TryLock() {
		x.mu.Unlock()
		return false
	}
	return true
}

// close makes sure that no message is handled any more and returns why the handler stopped by itself, nil if it did not.
func (x *session) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	failed := x.failed
	if failed == nil {
		x.failed = errClosed
	}
	return failed
}
