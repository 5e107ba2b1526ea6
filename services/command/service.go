package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/unitgate/unitgate/events"
)

// Prefix is where the api's subjects begin: unitgate.api.<namespace>.<entity>.<verb>.
const Prefix = "unitgate.api"

// Config is what the api needs.
type Config struct {
	NC         *nats.Conn // answers commands
	Edges      *nats.Conn // answers what edges say of themselves; nil: NC
	Questions  *nats.Conn // answers questions; nil: NC
	Namespaces Namespaces
	Asked      []string          // the questions that namespaces answer, as "entity.verb"
	Budget     *Budget           // nil: one of its own
	Signatures events.Signatures // what is demanded of edges
	Meters     *Meters           // nil: nothing is counted
	Log        *slog.Logger
}

func (c *Config) conn(k kind) *nats.Conn {
	switch {
	case k == edges && c.Edges != nil:
		return c.Edges
	case k == questions && c.Questions != nil:
		return c.Questions
	}
	return c.NC
}

// Service offers commands and queries as a request/reply service on NATS. Several processes share the work.
type Service struct {
	cfg   Config
	taker taker
	asked map[string]bool
	lanes map[kind]*lanes
	rates *edgeRates
	work  sync.WaitGroup
	micro []micro.Service
	stop  context.CancelFunc
}

// Serve starts the service on its connections.
func Serve(cfg Config) (*Service, error) {
	ctx, stop := context.WithCancel(context.Background())
	if cfg.Budget == nil {
		cfg.Budget = NewBudget()
	}
	s := &Service{cfg: cfg, taker: newTaker(cfg.Namespaces, cfg.Meters, cfg.Signatures), rates: newEdgeRates(), asked: map[string]bool{}, lanes: map[kind]*lanes{}, stop: stop}
	for _, q := range cfg.Asked {
		s.asked[q] = true
	}
	for _, k := range []kind{commands, bulk, edges, questions} {
		s.lanes[k] = newLanes(classOf(k), &s.work)
	}
	if err := s.offer(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("offer the api on NATS: %w", err), s.Close(ctx))
	}
	return s, nil
}

// offer makes a service of each connection's endpoints.
func (s *Service) offer(ctx context.Context) error {
	services := map[*nats.Conn]micro.Service{}
	for _, e := range endpoints(s.cfg.Asked) {
		nc, take := s.cfg.conn(e.kind), s.accept
		if e.own {
			take = s.acceptEdge
		}
		if services[nc] == nil {
			svc, err := micro.AddService(nc, micro.Config{Name: "unitgate-control", Version: "0.2.0", Description: "commands and queries of unitgate"})
			if err != nil {
				return err
			}
			services[nc], s.micro = svc, append(s.micro, svc)
		}
		handler := micro.HandlerFunc(func(r micro.Request) {
			take(ctx, asking{r.Subject(), r.Reply(), r.Data(), nc}, nats.Header(r.Headers()))
		})
		if err := services[nc].AddEndpoint(e.name, handler, e.options()...); err != nil {
			return err
		}
	}
	return nil
}

// Close stops taking requests and waits for those under way, at most until ctx ends.
func (s *Service) Close(ctx context.Context) error {
	var err error
	for _, svc := range s.micro {
		err = errors.Join(err, svc.Stop())
	}
	done := make(chan struct{})
	go func() { s.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.stop()
	return err
}

// asking is what is kept of a request: of its headers, which may be a megabyte and many times that in memory, nothing.
type asking struct {
	subject, reply string
	body           []byte
	nc             *nats.Conn // that it came on: NATS lets only that one write to its reply subject
}

// accept runs on a subscription's goroutine and never waits: what is too large, or finds no room, is refused by what its
// subject and size say, before anything of it is read.
func (s *Service) accept(ctx context.Context, r asking, h nats.Header) {
	tokens := strings.Split(r.subject, ".") // the subscriptions' form
	c := call{namespace: tokens[2], entity: tokens[3], verb: tokens[4]}
	way := routeOf(c.entity, c.verb, s.asked)
	c.headers(h, way.kind == edges)
	s.admit(ctx, r, c, way, s.laneOf(way, c), "")
}

// laneOf is the lane of a call: its namespace's, and of questions each one's. Those about namespaces that this process does
// not know, which may be any names at all, share one.
func (s *Service) laneOf(way route, c call) string {
	if !s.cfg.Namespaces.Known(c.namespace) {
		return ""
	}
	if way.kind == questions {
		return c.namespace + " " + c.entity + "." + c.verb
	}
	return c.namespace
}

// admit has a call worked on when there is room for it in its lane, and refuses it else.
func (s *Service) admit(ctx context.Context, r asking, c call, way route, lane, sender string) {
	if err := way.bound.CheckSize(c.entity, c.verb, len(r.body)); err != nil {
		s.refuse(r, way.kind, refusedSize, err)
		return
	}
	cost := costOf(way.bound, r.body)
	if way.kind == bulk && cost == 0 {
		way.kind = commands
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	taken := s.lanes[way.kind].take(lane, sender, len(r.body), func() {
		defer cancel()
		s.answer(r, s.do(ctx, r, c, cost))
	})
	if !taken {
		cancel()
		s.refuse(r, way.kind, refusedBusy, ErrBusy.With("as many are in work and waiting here as this control plane takes: send it again with the same id in a moment"))
	}
}

// refuse answers what was not read.
func (s *Service) refuse(r asking, k kind, reason string, err error) {
	s.taker.meters.refused(k, reason)
	s.answer(r, rejected(err))
}

// do answers a call that has a slot, once it has its part of the budget, too.
func (s *Service) do(ctx context.Context, r asking, c call, cost int) Outcome {
	err := s.cfg.Budget.take(ctx, cost)
	if err != nil {
		return rejected(err)
	}
	defer s.cfg.Budget.give(cost)
	if ctx.Err() != nil {
		return rejected(ErrBusy.With("it has waited here for %v: send it again with the same id", requestTimeout))
	}
	if c.request, err = decodeRequest(r.body); err != nil {
		return rejected(err)
	}
	if c.signed != nil { // also on the api's subject, where versions send it that do not know acceptEdge's
		if c.signer, err = signerOf(c.signed, r.subject, r.body, time.Now()); err != nil {
			return rejected(err)
		}
	}
	return s.taker.take(ctx, c)
}

// answer replies by hand: the request's own methods write what micro reads for its statistics as soon as its handler has
// returned, which ours does while the work goes on.
func (s *Service) answer(r asking, o Outcome) {
	if r.reply == "" {
		return // nobody waits
	}
	b, err := json.Marshal(o)
	if err != nil {
		o = rejected(err)
		b, _ = json.Marshal(o)
	}
	m := nats.NewMsg(r.reply)
	m.Data = b
	if !o.OK {
		m.Header.Set(micro.ErrorCodeHeader, o.Error.Code)
		m.Header.Set(micro.ErrorHeader, o.Error.Message)
	}
	if err := r.nc.PublishMsg(m); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		s.cfg.Log.Warn("answer not sent", "subject", r.subject, "err", err)
	}
}
