package control

import (
	"context"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/command"
)

// questions is what reading.Service asks of the control plane.
type questions struct{ *Control }

func (q questions) Pages(ctx context.Context, name string) (*journal.Pages, error) {
	n, err := q.open(ctx, name)
	if err != nil {
		return nil, err
	}
	return n.pages, nil
}

func (q questions) Member(namespace, unit, edge string) bool {
	s := q.State(namespace)
	if s == nil {
		return false
	}
	e, ok := s.Edges[edge]
	return ok && e.Unit == unit && e.Gone == ""
}

func (q questions) List(ctx context.Context) ([]journal.Listed, error) {
	return journal.List(ctx, q.js)
}

func (q questions) Outcome(ctx context.Context, namespace, id string) ([]byte, error) {
	return command.StoredOutcome(ctx, q.js, namespace, id)
}
