package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/unitgate/unitgate/events"
)

// ErrGone: an operator retired this edge, or it left. Its id never comes back (R7): it needs a new state directory.
var ErrGone = errors.New("this edge is gone for good: start one with a new id and a new state directory")

const (
	// rejoinEvery is the pause after a rejection, which only an operator's doing can end, and after a join whose event
	// does not come.
	rejoinEvery = 3 * time.Second

	// A process's address and capacity never change. Where the journal says others all the same, someone else joins under
	// this id: they must not answer each other as fast as the bus carries it.
	maxRejoin = 5 * time.Minute
)

// joiner sees to it that the journal holds this edge's own join. Its run owns it.
type joiner struct {
	speaker  speaker
	want     events.JoinEdge
	follower *follower
	log      *slog.Logger
	leaving  atomic.Bool // this edge joins no more; set by Leave, from any goroutine
	left     atomic.Bool // Leave has succeeded

	said  string // the last complaint, so that each is logged once
	again rejoins

	succeeded atomic.Bool   // another process has the listeners: nothing is to be joined
	kicked    chan struct{} // one of these has changed
}

// rejoins spaces the joins of one process that were accepted and did not last.
type rejoins struct {
	last time.Time     // of the last one; zero: there was none
	gap  time.Duration // to the next one
}

// joined notes a join. One that lasted for ten gaps begins the row anew.
func (r *rejoins) joined(now time.Time) {
	if r.last.IsZero() || now.Sub(r.last) > 10*r.gap {
		r.gap = rejoinEvery
	} else {
		r.gap = min(2*r.gap, maxRejoin)
	}
	r.last = now
}

// wait is how long the next join has to wait.
func (r *rejoins) wait(now time.Time) time.Duration {
	if r.last.IsZero() {
		return 0
	}
	return max(r.gap-now.Sub(r.last), 0)
}

// run joins whenever the edge knows the newest state and that lacks the join. It returns nil when ctx ends, or an error
// with which the edge must stop: nothing that could happen would let it in.
func (j *joiner) run(ctx context.Context) error {
	id, wait := uuid.NewString(), minBackoff
	for {
		if err := j.awaitNeed(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		if j.leaving.Load() {
			<-ctx.Done()
			return nil
		}
		if wait := j.again.wait(time.Now()); wait > 0 && !j.returns() {
			j.contested(wait)
			j.rest(ctx, 2*wait) // at least wait
			continue
		}
		o, err := j.speaker.command(ctx, "join", id, j.join())
		switch {
		case err != nil: // nobody answered; the same id makes the next try the same command
			j.complain("cannot join yet, trying again", err)
			wait = min(2*wait, maxBackoff)
		case o.OK, o.Error.Code == events.ErrNothingChanges.Code:
			j.again.joined(time.Now())
			id, wait = uuid.NewString(), rejoinEvery // its event ends the pause
		case final(o.Error):
			return fmt.Errorf("edge %q may not join unit %q, cluster %q: %w", j.want.ID, j.want.Unit, j.want.Cluster, o.Error)
		default:
			j.complain("the control plane refuses this edge, trying again", o.Error)
			wait = rejoinEvery
		}
		j.rest(ctx, wait)
	}
}

// standing is how this edge stands in the newest state: joined as it wants to be, or nothing to be done before more of
// the journal was read; the error is ErrGone or events.ErrEdgeElsewhere.
func (j *joiner) standing() (settled bool, err error) {
	e, known, caught := j.follower.member(j.want.ID)
	if known && e.Gone != "" {
		return false, fmt.Errorf("edge %q has %s: %w", e.ID, e.Gone, ErrGone)
	}
	if known {
		if err := e.CheckDirectory(j.want.Directory); err != nil {
			return false, err
		}
	}
	if known && e.Successor != "" {
		next, _, _ := j.follower.member(e.Successor)
		if next.Gone == "" || j.succeeded.Load() {
			return true, nil
		}
	}
	want := j.want
	want.Succeeds, want.SucceedsDirectory, want.SucceedsProof = "", "", ""
	have := events.JoinEdge{ID: e.ID, Directory: e.Directory, Unit: e.Unit, Cluster: e.Cluster, Address: e.Address, Capacity: e.Capacity, Key: e.Key}
	return !caught || known && have == want, nil
}

// join is the command by which the edge becomes what it wants to be. The edge that it succeeds is named once, and only
// while it is a member.
func (j *joiner) join() events.JoinEdge {
	want := j.want
	_, joined, _ := j.follower.member(want.ID)
	old, known, _ := j.follower.member(want.Succeeds)
	if joined || !known || old.Gone != "" {
		want.Succeeds, want.SucceedsDirectory, want.SucceedsProof = "", "", ""
	}
	return want
}

// returns tells whether the edge takes its address back from a successor that is gone. That is nobody's contest.
func (j *joiner) returns() bool {
	e, _, _ := j.follower.member(j.want.ID)
	return e.Successor != ""
}

// kick has run look again at what is to be done.
func (j *joiner) kick() {
	select {
	case j.kicked <- struct{}{}:
	default:
	}
}

// awaitNeed waits until the edge must join, or ctx ends.
func (j *joiner) awaitNeed(ctx context.Context) error {
	for {
		changed := j.follower.wait()
		if settled, err := j.standing(); !settled || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-j.kicked:
		}
	}
}

// rest waits for about d, with jitter, or until the edge need not join any more, or ctx ends. Other changes do not
// shorten it: a thousand edges that join at once would all ask again at every event.
func (j *joiner) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	for {
		changed := j.follower.wait()
		if settled, err := j.standing(); settled || err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			return
		case <-changed:
		}
	}
}

// final tells whether a rejection stands for ever: it is about what this edge is, not about what is not there yet.
func final(e *events.Error) bool {
	switch e.Code {
	case events.ErrEdgeGone.Code, events.ErrEdgeMoved.Code,
		events.ErrEdgeElsewhere.Code, events.ErrBadName.Code, events.ErrBadValue.Code, events.ErrMissingField.Code:
		return true
	}
	return false
}

func (j *joiner) complain(what string, err error) {
	if err.Error() == j.said || errors.Is(err, context.Canceled) {
		return
	}
	j.said = err.Error()
	j.log.Warn(what, "unit", j.want.Unit, "cluster", j.want.Cluster, "err", err)
}

// contested says that the journal holds another address or capacity than this process joined with.
func (j *joiner) contested(wait time.Duration) {
	e, known, _ := j.follower.member(j.want.ID)
	if !known {
		return
	}
	j.log.Warn("this edge is registered with another address or capacity: does a second process use a copy of its state directory? Joining again",
		"registered", e.Address, "registered_capacity", e.Capacity, "address", j.want.Address, "capacity", j.want.Capacity, "wait", wait.Round(time.Millisecond))
}
