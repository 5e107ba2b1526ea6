package cutover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// Bounds of one round of questions.
const (
	askWait   = 2 * time.Second
	probeWait = 5 * time.Second // an edge that probes waits for origins that do not answer

	handshakeWait = 8 * time.Second // longer than an edge waits for one session
)

// Fleet asks the edges of a namespace. It may be used by any number of goroutines.
type Fleet struct {
	nc        *nats.Conn
	namespace string
}

// NewFleet makes a Fleet.
func NewFleet(nc *nats.Conn, namespace string) *Fleet { return &Fleet{nc: nc, namespace: namespace} }

// Answer is what one edge answered.
type Answer[T any] struct {
	Edge  events.Edge
	Value T
	Err   error // it did not answer, or not properly: Value says nothing
}

// Status asks edges how they are.
func (f *Fleet) Status(ctx context.Context, edges []events.Edge) []Answer[events.EdgeStatus] {
	return ask[events.EdgeStatus](ctx, f, edges, "status", askWait, func(events.Edge) any { return struct{}{} })
}

// Count asks each edge how many live sessions there are on the keys that its question names.
func (f *Fleet) Count(ctx context.Context, edges []events.Edge, question func(events.Edge) events.CountQuestion) []Answer[events.CountAnswer] {
	return ask[events.CountAnswer](ctx, f, edges, "sessions", askWait, func(e events.Edge) any { return question(e) })
}

// Evict asks edges to close the sessions of one user.
func (f *Fleet) Evict(ctx context.Context, edges []events.Edge, q events.EvictQuestion) []Answer[events.EvictAnswer] {
	return ask[events.EvictAnswer](ctx, f, edges, "evict", askWait, func(events.Edge) any { return q })
}

// Probe asks edges to connect to origins, at most 1024.
func (f *Fleet) Probe(ctx context.Context, edges []events.Edge, origins []string) []Answer[events.ProbeAnswer] {
	return ask[events.ProbeAnswer](ctx, f, edges, "probe", probeWait, func(events.Edge) any { return events.ProbeQuestion{Origins: origins} })
}

// Handshake asks edges to open sessions through their own front door, at most events.MaxHandshakes.
func (f *Fleet) Handshake(ctx context.Context, edges []events.Edge, services []events.Service) []Answer[events.HandshakeAnswer] {
	return ask[events.HandshakeAnswer](ctx, f, edges, "handshake", handshakeWait, func(events.Edge) any { return events.HandshakeQuestion{Services: services} })
}

// ask puts a question to all the edges at once and returns their answers in the same order, in bounded time. Where
// nobody listens the server says so at once.
func ask[T any](ctx context.Context, f *Fleet, edges []events.Edge, what string, wait time.Duration, question func(events.Edge) any) []Answer[T] {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	out := make([]Answer[T], len(edges))
	var all sync.WaitGroup
	for i, e := range edges {
		out[i].Edge = e
		all.Go(func() { out[i].Err = f.one(ctx, e, what, question(e), &out[i].Value) })
	}
	all.Wait()
	return out
}

func (f *Fleet) one(ctx context.Context, e events.Edge, what string, question, answer any) error {
	b, err := json.Marshal(question)
	if err != nil {
		return err
	}
	m, err := f.nc.RequestWithContext(ctx, fmt.Sprintf("unitgate.edge.%s.%s.%s.%s", f.namespace, e.Unit, e.ID, what), events.Pack(b)) // a cutover may move more exact IDs than a message holds
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("edge %s is not connected", e.ID)
	case err != nil:
		return fmt.Errorf("edge %s does not answer: %w", e.ID, err)
	case m.Header.Get("Nats-Service-Error") != "":
		return fmt.Errorf("edge %s: %s", e.ID, m.Header.Get("Nats-Service-Error"))
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("edge %s answers %q: %w", e.ID, what, err)
	}
	return nil
}

// silent are the edges that did not answer.
func silent[T any](answers []Answer[T]) []string {
	out := []string{}
	for _, a := range answers {
		if a.Err != nil {
			out = append(out, a.Edge.ID)
		}
	}
	return out
}
