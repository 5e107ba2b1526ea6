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

// Bounds of the api.
const (
	maxInFlight    = 64               // requests that one process works on at a time
	requestTimeout = 30 * time.Second // for one request, prechecks included
)

// Service offers commands and queries as a request/reply service on NATS. Several processes share the work.
type Service struct {
	nc    *nats.Conn
	taker taker
	log   *slog.Logger
	slots chan struct{}
	edges *edgeDesk
	work  sync.WaitGroup
	micro micro.Service
	stop  context.CancelFunc
}

// Serve starts the service on a connection. m may be nil. signatures is what is demanded of edges.
func Serve(nc *nats.Conn, n Namespaces, m *Meters, signatures events.Signatures, log *slog.Logger) (*Service, error) {
	ctx, stop := context.WithCancel(context.Background())
	s := &Service{nc: nc, taker: newTaker(n, m, signatures), log: log, slots: make(chan struct{}, maxInFlight), stop: stop}
	svc, err := micro.AddService(nc, micro.Config{Name: "unitgate-control", Version: "0.1.0", Description: "commands and queries of unitgate"})
	if err == nil {
		s.micro = svc
		err = svc.AddEndpoint("api", micro.HandlerFunc(func(r micro.Request) { s.accept(ctx, r) }),
			micro.WithEndpointSubject(Prefix+".*.*.*"))
	}
	if err == nil {
		err = s.serveEdges(ctx)
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

// answer replies by hand: the request's own methods write what micro reads for its statistics as soon as its handler has
// returned, which ours does while the work goes on.
func (s *Service) answer(r micro.Request, o Outcome) {
	b, err := json.Marshal(o)
	if err != nil {
		o = rejected(err)
		b, _ = json.Marshal(o)
	}
	m := nats.NewMsg(r.Reply())
	m.Data = b
	if !o.OK {
		m.Header.Set(micro.ErrorCodeHeader, o.Error.Code)
		m.Header.Set(micro.ErrorHeader, o.Error.Message)
	}
	if r.Reply() == "" {
		return // nobody waits
	}
	if err := s.nc.PublishMsg(m); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		s.log.Warn("answer not sent", "subject", r.Subject(), "err", err)
	}
}

func (s *Service) do(ctx context.Context, r micro.Request) Outcome {
	req, err := decodeRequest(r.Data())
	if err != nil {
		return rejected(err)
	}
	tokens := strings.Split(r.Subject(), ".") // the subscription's form
	c := call{namespace: tokens[2], entity: tokens[3], verb: tokens[4], request: req, header: nats.Header(r.Headers())}
	if c.entity == "edge" { // a version that does not know the subjects of acceptEdge
		if c.signer, err = signerOf(c.header, r.Subject(), r.Data(), time.Now()); err != nil {
			return rejected(err)
		}
	}
	return s.taker.take(ctx, c)
}
