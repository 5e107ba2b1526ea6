package projector

import (
	"context"

	"github.com/unitgate/unitgate/events"
)

// publishEvery is after how many records a replay shows how far it is. A clone costs as much as the state has parts, and
// nobody decides by a state that is known to be old.
const publishEvery = 10_000

// replay folds records: in place up to the target, where nobody needs each state, and after it one immutable state for
// each event. The callback of Follow owns it.
type replay struct {
	state  *events.State // published, and so never changed again, exactly when shared
	shared bool
	target uint64 // the head as it was when following began
}

// target is where the journal ends now; 0, which only costs time, if it cannot be asked.
func (p *Projector) target(ctx context.Context) uint64 {
	head, err := p.journal.Head(ctx)
	if err != nil {
		return 0
	}
	return head
}

// apply folds one record. It returns the state to be published, nil if this one need not be.
func (r *replay) apply(rec events.Record) (*events.State, error) {
	if r.shared {
		r.state, r.shared = r.state.Clone(), false
	}
	if err := r.state.Apply(rec); err != nil {
		return nil, err
	}
	if rec.Seq < r.target && rec.Seq%publishEvery != 0 {
		return nil, nil
	}
	r.shared = true
	return r.state, nil
}
