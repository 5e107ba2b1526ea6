package cutover

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
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
	control   bool // it is the control plane's, which has places of its own at the edges
}

// NewFleet makes a Fleet for whoever may look.
func NewFleet(nc *nats.Conn, namespace string) *Fleet { return &Fleet{nc: nc, namespace: namespace} }

// ForControl is a Fleet for the control plane. What it asks does not stand in line with what others ask.
func (f *Fleet) ForControl() *Fleet { return &Fleet{nc: f.nc, namespace: f.namespace, control: true} }

// Answer is what one edge answered.
type Answer[T any] struct {
	Edge  events.Edge
	Value T
	Err   error // it did not answer, or not properly: Value says nothing
}

// Status asks edges how they are.
func (f *Fleet) Status(ctx context.Context, edges []events.Edge) []Answer[events.EdgeStatus] {
	return ask[events.EdgeStatus](ctx, f, edges, events.AskStatus, askWait, func(events.Edge) any { return struct{}{} })
}

// Count asks each edge how many live sessions there are on the keys that the question to its unit names. One that no message
// holds is asked in parts; the edge that answers not all of them has not answered.
func (f *Fleet) Count(ctx context.Context, edges []events.Edge, question func(unit string) events.CountQuestion) []Answer[events.CountAnswer] {
	asked := map[string][][]byte{}
	for _, e := range edges {
		if _, ok := asked[e.Unit]; !ok { // once and before the clock runs: long lists take a while
			asked[e.Unit] = parts(question(e.Unit))
		}
	}
	return each(ctx, edges, askWait, func(ctx context.Context, e events.Edge, sum *events.CountAnswer) error {
		for _, b := range asked[e.Unit] {
			var a events.CountAnswer
			if err := f.one(ctx, e, events.AskSessions, b, &a); err != nil {
				return err
			}
			sum.Sessions, sum.Proxied = sum.Sessions+a.Sessions, sum.Proxied+a.Proxied
			if a.Domains != nil {
				sum.Domains = a.Domains // of which one part asks at most
			}
		}
		return nil
	})
}

// parts are the messages by which a question is asked: one, if it is not larger than an event may be, which every message
// holds. Else its exact IDs are asked about by themselves, as many at a time as a message holds.
func parts(q events.CountQuestion) [][]byte {
	b := message(q)
	n := q.Exact.Len()
	rest := q
	rest.Exact = routing.IDs{}
	switch {
	case len(b) <= events.MaxEventSize || n == 0:
		return [][]byte{b}
	case len(q.Slots) > 0:
		return append(parts(rest), parts(events.CountQuestion{UnitType: q.UnitType, Exact: q.Exact})...)
	case n == 1:
		return [][]byte{b}
	}
	low, high := q, q
	low.Exact, high.Exact = q.Exact.Slice(0, n/2), q.Exact.Slice(n/2, n)
	return append(parts(low), parts(high)...)
}

// message is a question as it travels.
func message(question any) []byte {
	b, err := json.Marshal(question)
	if err != nil {
		panic(err) // every type of question marshals
	}
	return events.Pack(b)
}

// Evict asks edges to close the sessions of one user.
func (f *Fleet) Evict(ctx context.Context, edges []events.Edge, q events.EvictQuestion) []Answer[events.EvictAnswer] {
	return ask[events.EvictAnswer](ctx, f, edges, events.AskEvict, askWait, func(events.Edge) any { return q })
}

// Probe asks edges to connect to origins, at most events.MaxProbes.
func (f *Fleet) Probe(ctx context.Context, edges []events.Edge, origins []string) []Answer[events.ProbeAnswer] {
	return ask[events.ProbeAnswer](ctx, f, edges, events.AskProbe, probeWait, func(events.Edge) any { return events.ProbeQuestion{Origins: origins} })
}

// Handshake asks edges to open sessions through their own front door, at most events.MaxHandshakes.
func (f *Fleet) Handshake(ctx context.Context, edges []events.Edge, services []events.Service) []Answer[events.HandshakeAnswer] {
	return ask[events.HandshakeAnswer](ctx, f, edges, events.AskHandshake, handshakeWait, func(events.Edge) any { return events.HandshakeQuestion{Services: services} })
}

// ask puts a question to all the edges at once and returns their answers in the same order, in bounded time. Where
// nobody listens the server says so at once.
func ask[T any](ctx context.Context, f *Fleet, edges []events.Edge, what string, wait time.Duration, question func(events.Edge) any) []Answer[T] {
	return each(ctx, edges, wait, func(ctx context.Context, e events.Edge, answer *T) error {
		return f.one(ctx, e, what, message(question(e)), answer)
	})
}

// each lets put ask every edge, all at once, and returns their answers in the same order.
func each[T any](ctx context.Context, edges []events.Edge, wait time.Duration, put func(ctx context.Context, e events.Edge, answer *T) error) []Answer[T] {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	out := make([]Answer[T], len(edges))
	var all sync.WaitGroup
	for i, e := range edges {
		out[i].Edge = e
		all.Go(func() { out[i].Err = put(ctx, e, &out[i].Value) })
	}
	all.Wait()
	return out
}

// busyPause is until an edge is asked again that is busy.
const busyPause = 200 * time.Millisecond

// one puts a question to an edge until it has an answer, or ctx ends. An edge that is busy is asked again.
func (f *Fleet) one(ctx context.Context, e events.Edge, what string, question []byte, answer any) error {
	for {
		m, err := f.request(ctx, e, what, question)
		if err != nil {
			return err
		}
		code, why := m.Header.Get(micro.ErrorCodeHeader), m.Header.Get(micro.ErrorHeader)
		if why == "" {
			if err := json.Unmarshal(m.Data, answer); err != nil {
				return fmt.Errorf("edge %s answers %q: %w", e.ID, what, err)
			}
			return nil
		}
		if code != "busy" || !rests(ctx, busyPause) {
			return fmt.Errorf("edge %s: %s", e.ID, why)
		}
	}
}

// rests waits, and reports whether ctx goes on.
func rests(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// request asks an edge where the control plane has its own place. Edges of before do not answer there, and NATS as it was
// configured before does not let it through: then it is asked where everybody asks.
func (f *Fleet) request(ctx context.Context, e events.Edge, what string, question []byte) (*nats.Msg, error) {
	places := []string{what}
	if f.control {
		switch what {
		case events.AskStatus:
			places = []string{events.AskStanding, what}
		case events.AskSessions:
			places = []string{events.AskCount, what}
		}
	}
	for _, place := range places {
		m, err := f.requestAt(ctx, e, place, question)
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			continue
		case errors.Is(err, events.ErrBadSignature):
			return nil, fmt.Errorf("edge %s: %w", e.ID, err)
		case err != nil:
			return nil, fmt.Errorf("edge %s does not answer: %w", e.ID, err)
		}
		return m, nil
	}
	return nil, fmt.Errorf("edge %s is not connected", e.ID)
}

// requestAt is the answer, if it is the edge's own or says that there is none.
func (f *Fleet) requestAt(ctx context.Context, e events.Edge, what string, question []byte) (*nats.Msg, error) {
	subject, number := events.EdgeSubject(f.namespace, e.Unit, e.ID, what), rand.Text()
	m, err := f.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Data: question, Header: nats.Header{events.HeaderQuestion: {number}}})
	if err != nil || m.Header.Get(micro.ErrorHeader) != "" {
		return m, err
	}
	signer, err := events.VerifySigner(m.Header, events.AnswerSubject(subject, number), m.Data)
	if err == nil && (signer != "" || e.Signs()) && signer != e.Signer() {
		err = events.ErrBadSignature.With("the answer is not signed by its key: another process answers in its name, or it runs a version before signatures from a newer state directory")
	}
	return m, err
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
