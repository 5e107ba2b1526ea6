package command

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/unitgate/unitgate/events"
)

// Prefix is where the api's subjects begin: unitgate.api.<namespace>.<entity>.<verb>.
const Prefix = "unitgate.api"

// Bounds of the api.
const (
	maxInFlight    = 64               // requests that one process works on at a time
	requestTimeout = 30 * time.Second // for one request, prechecks included
)

// Query answers a question about a namespace; it changes nothing.
type Query func(ctx context.Context, data json.RawMessage) (any, error)

// Namespace is what the service needs of one.
type Namespace struct {
	Handler *Handler
	Queries map[string]Query // by "entity.verb"
}

// Namespaces finds and makes namespaces. Get's error is events.ErrUnknownNamespace where there is none.
type Namespaces interface {
	Get(ctx context.Context, name string) (Namespace, error)
	Create(ctx context.Context, name string) (Namespace, error)
}

// Service offers commands and queries as a request/reply service on NATS. Several processes share the work.
type Service struct {
	namespaces Namespaces
	log        *slog.Logger
	slots      chan struct{}
	work       sync.WaitGroup
	micro      micro.Service
	stop       context.CancelFunc
}

// Serve starts the service on a connection.
func Serve(nc *nats.Conn, n Namespaces, log *slog.Logger) (*Service, error) {
	ctx, stop := context.WithCancel(context.Background())
	s := &Service{namespaces: n, log: log, slots: make(chan struct{}, maxInFlight), stop: stop}
	svc, err := micro.AddService(nc, micro.Config{Name: "unitgate-control", Version: "0.1.0", Description: "commands and queries of unitgate"})
	if err == nil {
		s.micro = svc
		err = svc.AddEndpoint("api", micro.HandlerFunc(func(r micro.Request) { s.accept(ctx, r) }),
			micro.WithEndpointSubject(Prefix+".*.*.*"))
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("offer the api on NATS: %w", err)
	}
	return s, nil
}

// Close stops taking requests and waits for those under way, at most until ctx ends.
func (s *Service) Close(ctx context.Context) error {
	err := s.micro.Stop()
	done := make(chan struct{})
	go func() { s.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.stop()
	return err
}

// accept runs on the subscription's goroutine: it only waits for a free slot.
func (s *Service) accept(ctx context.Context, r micro.Request) {
	s.slots <- struct{}{}
	s.work.Go(func() {
		defer func() { <-s.slots }()
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		s.answer(r, s.do(ctx, r))
	})
}

func (s *Service) answer(r micro.Request, o Outcome) {
	b, err := json.Marshal(o)
	if err != nil {
		b, _ = json.Marshal(rejected(err))
	}
	if o.OK {
		err = r.Respond(b)
	} else {
		err = r.Error(o.Error.Code, o.Error.Message, b)
	}
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		s.log.Warn("answer not sent", "subject", r.Subject(), "err", err)
	}
}

// request is the envelope on the wire.
type request struct {
	ID     string          `json:"id,omitempty"`
	Actor  string          `json:"actor,omitempty"`
	Reason string          `json:"reason,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
}

func (s *Service) do(ctx context.Context, r micro.Request) Outcome {
	tokens := strings.Split(r.Subject(), ".")
	namespace, entity, verb := tokens[2], tokens[3], tokens[4] // the subscription's form
	if err := events.CheckID(namespace, "namespace"); err != nil {
		return rejected(err)
	}
	var req request
	if len(r.Data()) > 0 {
		if err := events.DecodeStrict(r.Data(), &req); err != nil {
			return rejected(err)
		}
	}
	if len(req.Data) == 0 {
		req.Data = json.RawMessage("{}")
	}
	ns, err := s.namespaces.Get(ctx, namespace)
	if err != nil && !errors.Is(err, events.ErrUnknownNamespace) {
		return rejected(err)
	}
	if q, ok := ns.Queries[entity+"."+verb]; ok {
		return query(ctx, q, req.Data)
	}
	c, cerr := events.DecodeCommand(entity, verb, req.Data)
	if err != nil && errors.Is(cerr, events.ErrBadCommand) {
		return rejected(err) // a query, or nothing that could create the namespace
	}
	if cerr != nil {
		return rejected(cerr)
	}
	env := events.Envelope{ID: req.ID, Actor: req.Actor, Reason: req.Reason, Traceparent: traceparent(r), Command: c}
	if err != nil {
		return s.create(ctx, namespace, env)
	}
	return ns.Handler.Do(ctx, env)
}

// create makes a journal only for a command that may be a namespace's first.
func (s *Service) create(ctx context.Context, namespace string, env events.Envelope) Outcome {
	trial := env
	if trial.ID == "" {
		trial.ID = "00000000-0000-0000-0000-000000000000"
	}
	e, err := events.Decide(events.NewState(), namespace, trial, time.Time{})
	if err == nil {
		_, err = events.NewRecord(events.NewState(), trial, e, time.Time{}) // it may be too large
	}
	if err != nil {
		return rejected(err)
	}
	ns, err := s.namespaces.Create(ctx, namespace)
	if err != nil {
		return rejected(ErrUnavailable.With("the journal of %q cannot be made: %v", namespace, err))
	}
	return ns.Handler.Do(ctx, env)
}

func query(ctx context.Context, q Query, data json.RawMessage) Outcome {
	v, err := q(ctx, data)
	if err != nil {
		return rejected(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return rejected(err)
	}
	return Outcome{OK: true, Data: b}
}

var traceparentForm = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// traceparent is the caller's W3C trace context, or a fresh root where there is none that the journal would take: every
// cutover has a trace.
func traceparent(r micro.Request) string {
	if v := r.Headers().Get("traceparent"); traceparentForm.MatchString(v) {
		return v
	}
	return NewTraceparent()
}

// NewTraceparent is a fresh, sampled root (https://www.w3.org/TR/trace-context/#traceparent-header).
func NewTraceparent() string {
	var b [24]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return fmt.Sprintf("00-%x-%x-01", b[:16], b[16:])
}
