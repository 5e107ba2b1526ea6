package command

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
)

// Bounds of taking durable commands.
const (
	durableWorkers = 16                             // commands that one process works on at a time
	ackWait        = requestTimeout + 5*time.Second // a controller that is silent for so long has lost its command to another
	progressEvery  = ackWait / 4                    // how often a working controller says that it still is
	reopenFirst    = 100 * time.Millisecond         // after the stream could not be read; doubled up to reopenMax
	reopenMax      = 5 * time.Second                //
)

// DurableConfig is what Durable needs.
type DurableConfig struct {
	JS         jetstream.JetStream
	Namespaces Namespaces
	Replicas   int              // of both streams, when this process makes them; 0 counts as 1
	Now        func() time.Time // decides about expiry; nil: time.Now
	Log        *slog.Logger
	Meters     *Meters           // nil: nothing is counted
	Signatures events.Signatures // what is demanded of edges
	Budget     *Budget           // of large commands, shared with the api; nil: one of its own
}

// Durable takes commands from the stream UNITGATE_CMD and leaves their outcomes in UNITGATE_OUTCOME. Any number of
// processes share the work. There is no order among commands: who needs one waits for an outcome before the next command.
//
//	stored ──delivered──▶ in work ──decided──▶ outcome stored ──▶ acked (gone from the stream)
//	   ▲                     │
//	   └── journal away, ────┘   and after AckWait, where a controller died
//	       others too fast
//
// A command is settled at the moment its outcome is stored. Whoever gets it once more, because a controller died before
// the ack, finds its own sequence in the outcome and only acks; one that died before the outcome is decided anew, and
// answers from the journal if its event was stored.
//
// Its methods may be used by any goroutine.
type Durable struct {
	cfg     DurableConfig
	taker   taker
	hands   chan struct{}  // one token for each command in work
	work    sync.WaitGroup // commands in work
	pulling sync.WaitGroup

	stopPulling, stopWork context.CancelFunc
	working               context.Context // of the commands in work
}

// ServeDurable makes the streams, if they are missing, and begins to take commands.
func ServeDurable(ctx context.Context, cfg DurableConfig) (*Durable, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Budget == nil {
		cfg.Budget = NewBudget()
	}
	q, err := openQueue(ctx, cfg.JS, cfg.Replicas)
	if err != nil {
		return nil, fmt.Errorf("take durable commands: %w", err)
	}
	d := &Durable{cfg: cfg, taker: newTaker(cfg.Namespaces, cfg.Meters, cfg.Signatures), hands: make(chan struct{}, durableWorkers)}
	d.working, d.stopWork = context.WithCancel(context.WithoutCancel(ctx))
	pulling, stop := context.WithCancel(d.working)
	d.stopPulling = stop
	d.pulling.Go(func() { d.run(pulling, q) })
	return d, nil
}

// Close takes no more commands, lets those in work end until ctx ends, and gives the rest back to the other controllers.
func (d *Durable) Close(ctx context.Context) error {
	d.stopPulling()
	done := make(chan struct{})
	go func() {
		d.pulling.Wait()
		d.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	d.stopWork()
	<-done // what was interrupted gives itself back, in bounded time
	if nc := d.cfg.JS.Conn(); nc.IsConnected() {
		fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWait)
		defer cancel()
		_ = nc.FlushWithContext(fctx) // acks that get lost only cost time
	}
	return nil
}

// run pulls until ctx ends, and opens the stream again whenever it does not answer.
func (d *Durable) run(ctx context.Context, q *queue) {
	pause := reopenFirst
	for {
		err := d.pullFrom(ctx, q, func() { pause = reopenFirst })
		for err != nil {
			if ctx.Err() != nil {
				return
			}
			d.cfg.Log.Warn("durable commands cannot be read, trying again", "err", err, "in", pause)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, reopenMax)
			q, err = openQueue(ctx, d.cfg.JS, d.cfg.Replicas)
		}
	}
}

// pullFrom hands out commands until an error, which may be ctx's.
func (d *Durable) pullFrom(ctx context.Context, q *queue, alive func()) error {
	p, err := q.pull()
	if err != nil {
		return err
	}
	defer p.close()
	for {
		select {
		case d.hands <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		m, err := p.next(ctx, alive)
		if err != nil {
			<-d.hands
			return err
		}
		d.work.Go(func() {
			defer func() { <-d.hands }()
			d.settle(d.working, q, m)
		})
	}
}

// progress tells the server that a command is in work, until the returned function is called.
func (d *Durable) progress(m *nats.Msg) (stop func()) {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = d.cfg.JS.Conn().Publish(m.Reply, []byte("+WPI")) // else the command comes again: no harm
			}
		}
	}()
	return stop
}
