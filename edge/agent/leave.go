package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/unitgate/unitgate/events"
)

const leaveEvery = 500 * time.Millisecond // between two tries to leave

// Leave ends the edge's membership for good: nothing waits for it any more, and its id and state directory never come
// back (R7). It is tried, as one command, until the control plane has accepted it or ctx ends; as long as a wave waits for
// this edge, it may not leave. Call it while Run runs, once no session is left; Run then ends with ErrGone.
func (r *Runner) Leave(ctx context.Context) error {
	r.joiner.leaving.Store(true)
	id := uuid.NewString()
	for {
		o, err := r.speaker.command(ctx, "leave", id, events.LeaveEdge{ID: r.self.ID, Directory: r.self.Directory})
		if e, known, _ := r.follower.member(r.self.ID); known && e.Gone != "" {
			r.joiner.left.Store(true)
			return nil // whatever became of the answer: Run may have closed the connection already
		}
		switch {
		case err != nil:
		case o.OK, o.Error.Code == events.ErrUnknownEdge.Code: // it never joined, or an operator retired it
			r.joiner.left.Store(true)
			return nil
		case final(o.Error):
			return o.Error
		default:
			err = o.Error
		}
		if pause(ctx, leaveEvery) != nil {
			return fmt.Errorf("edge %q has not left and stays a member: unitgate edge-retire ends that: %w", r.self.ID, err)
		}
	}
}

// Left reports whether Leave has succeeded.
func (r *Runner) Left() bool { return r.joiner.left.Load() }

// Predecessor is the edge whose listening sockets this one was given.
type Predecessor struct {
	ID        string // "": there is none
	Directory string // its state directory's identity
	Proof     string // its word that this one takes its place, see Home.Succession
}

// Succeeded says whether another process accepts in this one's place. As long as it does, this edge does not join again
// to get its address back.
func (r *Runner) Succeeded(yes bool) {
	r.joiner.succeeded.Store(yes)
	r.joiner.kick()
}

// lateJoin is how long a join may take effect after the process has ended that sent it.
const lateJoin = time.Minute

// LeaveFor ends the membership of the edge that a state directory belongs to, whose process is gone: its sockets are
// closed, as who has the directory locked knows. The error says why that cannot be yet.
func (r *Runner) LeaveFor(ctx context.Context, d *StateDir) error {
	e, known, caught := r.follower.member(d.ID())
	switch {
	case !caught:
		return errors.New("the journal is not read to its head yet")
	case known && (e.Gone != "" || e.Directory != d.Identity()):
		return nil
	case !known && time.Since(d.made()) < lateJoin:
		return fmt.Errorf("edge %q has not joined, and may still: its process ended a moment ago", d.ID())
	}
	self := Self{Namespace: r.self.Namespace, Unit: r.self.Unit, ID: d.ID()}
	o, err := speaker{r.nc, self, d.Signer()}.command(ctx, "leave", uuid.NewString(), events.LeaveEdge{ID: d.ID(), Directory: d.Identity()})
	switch {
	case err != nil:
		return err
	case o.OK, o.Error.Code == events.ErrUnknownEdge.Code:
		return nil
	}
	return fmt.Errorf("edge %q may not leave: %w", d.ID(), o.Error)
}
