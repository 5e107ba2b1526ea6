package agent

import (
	"context"
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
		o, err := command(ctx, r.nc, r.self, "leave", id, events.LeaveEdge{ID: r.self.ID, Directory: r.self.Directory})
		if e, known, _ := r.follower.member(r.self.ID); known && e.Gone != "" {
			return nil // whatever became of the answer: Run may have closed the connection already
		}
		switch {
		case err != nil:
		case o.OK, o.Error.Code == events.ErrUnknownEdge.Code: // it never joined, or an operator retired it
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
