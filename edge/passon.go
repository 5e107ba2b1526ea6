package edge

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/unitgate/unitgate/edge/handover"
)

const (
	// sweepEvery is how often the process that accepts looks for what others have left.
	sweepEvery = 5 * time.Second

	// farewellWithin is how long an edge that stops tries to leave, where leaving is due.
	farewellWithin = 3 * time.Second
)

// passOn is an edge's life between the processes before and after it:
//
//	take over ──serves──▶ accepting ──another one has committed──▶ in reserve ──released──▶ ending
//	    │                     ▲                                         │  │                  │
//	    │ not in time         └──────── the other one has died ─────────┘  │ no client is left │
//	    ▼                                                                  ▼                  ▼
//	  error                                                             left              left
//
// It returns nil when ctx ends, or when this edge has left.
func (e *Edge) passOn(ctx context.Context) error {
	if err := e.takeOver(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		next, rate := e.holdDoor(ctx)
		if next == nil {
			return nil
		}
		again := e.stepBack(ctx, next, rate)
		next.Close()
		if !again {
			return nil
		}
	}
	return nil
}

// holdDoor accepts until another process has taken over, and cleans up meanwhile; nil when ctx ends.
func (e *Edge) holdDoor(ctx context.Context) (next *handover.Taker, rate int) {
	ctx, cancel := context.WithCancel(ctx)
	tidy := make(chan struct{}, 1)
	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	defer cancel()
	sweeping.Go(func() { e.sweep(ctx, tidy) })
	door, err := handover.Open(e.home.Path())
	if err != nil {
		e.log.Warn("no other process can take over from this edge", "err", err)
		<-ctx.Done()
		return nil, 0
	}
	defer door.Close()
	next, rate, err = door.HandOver(ctx, handover.Terms{Offer: e.offer, Within: commitWithin, Failed: func(err error) {
		e.log.Warn("not taken over: this edge goes on", "err", err)
		select { // what the other process has left
		case tidy <- struct{}{}:
		default:
		}
	}})
	if err != nil {
		return nil, 0 // the error is ctx's
	}
	return next, rate
}

// stepBack accepts nobody any more and serves the sessions to their end, closing them at a rate if there is one. again
// says that the other process has died: this one accepts again. Else the edge has left, or ctx has ended.
func (e *Edge) stepBack(ctx context.Context, next *handover.Taker, rate int) (again bool) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	e.handed.Store(true)
	e.agent.Succeeded(true)
	e.relay.Pause()
	e.admin.pause()
	if err := next.Stopped(); err != nil {
		e.log.Warn("the process that has taken over does not listen", "err", err)
	}
	e.log.Info("another process has taken over: serving the sessions to their end", "edge", e.ID(), "closing", rate)
	empty, released := make(chan struct{}), make(chan error, 1)
	all.Go(func() {
		if e.relay.AwaitEmpty(ctx) == nil {
			close(empty)
		}
	})
	all.Go(func() { released <- next.Released(ctx) })
	if rate > 0 {
		all.Go(func() { e.relay.Dismiss(ctx, rate) })
	}
	for {
		select {
		case err := <-released:
			if errors.Is(err, io.EOF) {
				e.log.Warn("the process that had taken over has died: accepting again", "edge", e.ID())
				e.relay.Accept()
				e.handed.Store(false)
				e.agent.Succeeded(false)
				e.admin.resume(e)
				return true
			}
			e.letGo()
		case <-empty:
			e.letGo()
			_ = e.agent.Leave(ctx) // the error is ctx's
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// letGo closes the sockets that were kept in reserve.
func (e *Edge) letGo() {
	e.relay.LetGo()
	e.admin.letGo()
	if err := e.home.Unlock(); err != nil {
		e.log.Warn("lock of the state directory", "err", err)
	}
}

// passes reports whether this edge will not come back: it has a successor, or has not become one.
func (e *Edge) passes() bool { return e.handed.Load() || !e.serving.Load() }

// farewell leaves for an edge that passes. Where that is not
// possible now, the process that accepts does it (sweep).
func (e *Edge) farewell(ctx context.Context) {
	if e.agent.Left() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellWithin)
	defer cancel()
	_ = e.agent.Leave(ctx) // the error is ctx's
}

// sweep ends the memberships of edges whose processes have died in this home, a successor's that failed or a
// predecessor's, so that no cutover waits for them, and removes their directories.
func (e *Edge) sweep(ctx context.Context, tidy <-chan struct{}) {
	again := time.NewTicker(sweepEvery)
	defer again.Stop()
	said := ""
	for {
		if err := e.sweepOnce(ctx); err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			e.log.Warn("a former edge of this state directory cannot be removed yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		case <-tidy:
		}
	}
}

func (e *Edge) sweepOnce(ctx context.Context) error {
	dirs, err := e.home.Leftovers(e.ID())
	for _, d := range dirs {
		lerr := e.agent.LeaveFor(ctx, d)
		if lerr == nil {
			e.log.Info("a former edge of this state directory has left", "edge", d.ID())
			lerr = d.Remove()
		} else {
			lerr = errors.Join(lerr, d.Close())
		}
		err = errors.Join(err, lerr)
	}
	return err
}
