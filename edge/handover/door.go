package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

const (
	// maxSilent is how many processes may have connected without a word. The one that has been silent for longest gives
	// way to the next.
	maxSilent = 16

	// lastLook is the time to read what has come already.
	lastLook = 10 * time.Millisecond

	// acceptPause is how long the door rests when it cannot accept, for want of descriptors say.
	acceptPause = 100 * time.Millisecond
)

// Why a process is given up that may still want to take over.
var (
	errNewer  = errors.New("another process takes over instead")
	errTaken  = errors.New("another process has taken over just now: try again")
	errStops  = errors.New("this edge stops")
	errSilent = errors.New("it says nothing, and others wait")
)

// Terms are those on which a Door hands over. Each of the functions is called once at a time.
type Terms struct {
	Offer  func() (*Offer, error) // what a process is offered that has said hello
	Within time.Duration          // until it commits, from then on
	Failed func(error)            // is told why a process does not take over
}

// HandOver waits until another process has taken over, and returns that one with the rate at which this one is to close
// its sessions, 0 for not at all. It ends with ctx, with its error.
//
// No process can keep the door from the others. Each has its time: answerWithin to say hello, Terms.Within from there to
// its commit. And the newest one wins: a process that says hello takes the place of the one that was offered the sockets
// and has not committed. That one is told so, and must not accept.
func (d *Door) HandOver(ctx context.Context, terms Terms) (next *Taker, rate int, err error) {
	ctx, end := context.WithCancelCause(ctx)
	q := &queue{terms: terms, steps: make(chan step)}
	defer q.running.Wait()
	defer end(errTaken)
	q.running.Go(func() { d.accept(ctx, q) })
	for {
		select {
		case s := <-q.steps:
			if q.take(ctx, s) {
				return s.t, s.rate, nil
			}
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// queue are the processes at a door. The goroutine of HandOver owns it, but for what says otherwise.
type queue struct {
	terms   Terms
	silent  []*Taker // have not said hello, oldest first
	offered *Taker   // may take over; nil: there is none
	waiting *Taker   // has said hello since, and is offered the sockets once the former one has said its last; nil: there is none

	steps   chan step
	running sync.WaitGroup
}

// step is something that a process has done, or failed to do.
type step struct {
	t    *Taker // nil: the door has failed, or refused a stranger
	at   stage
	rate int
	err  error
}

type stage uint8

const (
	connected stage = iota
	greeted
	committed
	failed
)

// take handles a step; true: the sockets are handed over.
func (q *queue) take(ctx context.Context, s step) bool {
	switch s.at {
	case connected:
		if q.silent = append(q.silent, s.t); len(q.silent) > maxSilent {
			q.silent[0].giveUp(errSilent)
			q.silent = slices.Delete(q.silent, 0, 1)
		}
		q.hear(ctx, s.t)
	case greeted:
		q.leave(s.t)
		if q.waiting != nil {
			q.waiting.giveUp(errNewer)
		}
		if q.waiting = s.t; q.offered != nil {
			q.offered.giveUp(errNewer)
		}
	case committed:
		return true
	case failed:
		if s.t != nil {
			q.leave(s.t)
		}
		q.terms.Failed(s.err)
	}
	if q.offered == nil && q.waiting != nil {
		q.offered, q.waiting = q.waiting, nil
		close(q.offered.turn)
	}
	return false
}

// leave takes a process out of the queue.
func (q *queue) leave(t *Taker) {
	if i := slices.Index(q.silent, t); i >= 0 {
		q.silent = slices.Delete(q.silent, i, i+1)
	}
	if q.offered == t {
		q.offered = nil
	}
	if q.waiting == t {
		q.waiting = nil
	}
}

// hear has a goroutine talk to a process, to its commit or until it is given up.
func (q *queue) hear(ctx context.Context, t *Taker) {
	mine, giveUp := context.WithCancelCause(ctx)
	t.giveUp, t.turn = giveUp, make(chan struct{})
	q.running.Go(func() {
		defer giveUp(nil)
		rate, err := t.talk(mine, q)
		switch {
		case err == nil && q.tell(ctx, step{t: t, at: committed, rate: rate}):
			return
		case errors.Is(context.Cause(mine), context.Canceled):
			err = errStops
		case mine.Err() != nil:
			err = context.Cause(mine)
		}
		go t.refuse(err) // in its own time, which the others do not wait for
		q.tell(ctx, step{t: t, at: failed, err: fmt.Errorf("the process that wanted to take over (pid %d): %w", t.pid, err)})
	})
}

// talk is what is said until the commit.
func (t *Taker) talk(ctx context.Context, q *queue) (rate int, err error) {
	if _, err := t.wantWithin(ctx, answerWithin, isHello); err != nil {
		return 0, err
	}
	q.tell(ctx, step{t: t, at: greeted})
	select {
	case <-t.turn:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	o, err := q.terms.Offer() // nobody else is offered anything before this one has said its last
	if err != nil {
		return 0, err
	}
	if err := t.offer(o); err != nil {
		return 0, err
	}
	m, err := t.wantWithin(ctx, q.terms.Within, isCommit)
	if err == nil && m.Rate < 0 {
		err = fmt.Errorf("a rate of %d", m.Rate)
	}
	return m.Rate, err
}

// wantWithin waits for what t has to say within a time. What has come by the end of that counts, however late it is read:
// this process may have stood still, and the other one have gone on.
func (t *Taker) wantWithin(ctx context.Context, within time.Duration, is string) (message, error) {
	timed, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	m, err := t.want(timed, is)
	if timed.Err() != nil {
		last, cancel := context.WithTimeout(context.Background(), lastLook)
		defer cancel()
		if m, err := t.want(last, is); err == nil {
			return m, nil
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no %s within %v; end it, it may have the sockets", is, within)
	case errors.Is(err, io.EOF):
		err = errors.New("it has ended")
	}
	return m, err
}

// tell reports false if nobody listens any more.
func (q *queue) tell(ctx context.Context, s step) bool {
	select {
	case q.steps <- s:
		return true
	case <-ctx.Done():
		return false
	}
}

// accept lets processes in until ctx ends.
func (d *Door) accept(ctx context.Context, q *queue) {
	_ = d.ln.SetDeadline(time.Time{})
	defer context.AfterFunc(ctx, func() { _ = d.ln.SetDeadline(time.Unix(1, 0)) })()
	for ctx.Err() == nil {
		c, err := d.ln.AcceptUnix()
		if err != nil {
			if q.tell(ctx, step{at: failed, err: err}) {
				rest(ctx)
			}
			continue
		}
		t, err := newTaker(c)
		switch {
		case err != nil:
			q.tell(ctx, step{at: failed, err: err})
		case !q.tell(ctx, step{t: t, at: connected}):
			t.Close()
		}
	}
}

func rest(ctx context.Context) {
	timer := time.NewTimer(acceptPause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
