package command

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/time/rate"

	"github.com/unitgate/unitgate/events"
)

// What edges may ask of the control plane on subjects of their own, and what that may cost.
const (
	maxEdgeCommand = 4 << 10 // bytes: a join has ten short fields
	edgesAtOnce    = 16      // commands of all edges that one process works on
	maxExpiry      = 15 * time.Minute

	// An edge joins when it starts, and again only when something about it has changed. A
	// whole unit may start at once.
	edgeBurst, edgeEvery = 4, time.Second
	unitBurst, unitEvery = 2 * events.MaxEdges, 50 * time.Millisecond
	maxRates             = 16 * events.MaxEdges
)

// edgeVerbs are the commands that an edge gives about itself.
func edgeVerbs() []string { return []string{"join", "leave"} }

// ErrEdgeSubject says that an edge's command is about another edge than its subject.
var ErrEdgeSubject = &events.Error{Code: "wrong_subject"}

// serveEdges offers edge.join and edge.leave on unitgate.edge.<namespace>.<unit>.<id>.<verb>,
// where NATS lets only that unit's edges speak, beside the api's subjects.
func (s *Service) serveEdges(ctx context.Context) error {
	s.edges = &edgeDesk{slots: make(chan struct{}, edgesAtOnce), rates: map[string]*rate.Limiter{}}
	for _, verb := range edgeVerbs() {
		err := s.micro.AddEndpoint("edge-"+verb, micro.HandlerFunc(func(r micro.Request) { s.acceptEdge(ctx, r) }),
			micro.WithEndpointSubject(events.EdgeSubject("*", "*", "*", verb)))
		if err != nil {
			return err
		}
	}
	return nil
}

// acceptEdge runs on the subscription's goroutine: it never waits, so that one edge's flood
// delays no other edge's command.
func (s *Service) acceptEdge(ctx context.Context, r micro.Request) {
	t := strings.Split(r.Subject(), ".") // the subscription's form
	switch {
	case len(r.Data()) > maxEdgeCommand:
		s.answer(r, rejected(events.ErrTooLarge.With("a command about an edge has at most %d bytes, this one %d", maxEdgeCommand, len(r.Data()))))
		return
	case !s.edges.allow(t[2], t[3], t[4]):
		s.answer(r, rejected(ErrBusy.With("edge %s of unit %s asks too often: send it again in a second", t[4], t[3])))
		return
	}
	select {
	case s.edges.slots <- struct{}{}:
	default:
		s.answer(r, rejected(ErrBusy.With("%d commands of edges are under way: send it again in a second", edgesAtOnce)))
		return
	}
	s.work.Go(func() {
		defer func() { <-s.edges.slots }()
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		s.answer(r, s.doEdge(ctx, r, t[2], t[3], t[4], t[5]))
	})
}

func (s *Service) doEdge(ctx context.Context, r micro.Request, namespace, unit, id, verb string) Outcome {
	req, err := decodeRequest(r.Data())
	if err != nil {
		return rejected(err)
	}
	c := call{namespace: namespace, entity: "edge", verb: verb, request: req, header: nats.Header(r.Headers())}
	c.about = &aboutEdge{unit: unit, id: id}
	if c.signer, err = signerOf(c.header, r.Subject(), r.Data(), time.Now()); err != nil {
		return rejected(err)
	}
	return s.taker.take(ctx, c)
}

// signerOf is the key that has signed a message which has not expired; "" if it is not signed.
func signerOf(h nats.Header, subject string, body []byte, now time.Time) (string, error) {
	signer, err := events.VerifySigner(h, subject, body)
	if err != nil || signer == "" {
		return "", err
	}
	at, err := time.Parse(time.RFC3339, h.Get(events.HeaderExpires))
	switch {
	case err != nil:
		return "", events.ErrBadValue.With("a signed command says until when it is good, in RFC 3339").At(events.HeaderExpires)
	case now.After(at):
		return "", ErrExpired.With("it expired at %s, and it is %s here: is the clock of its sender right?", at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case at.After(now.Add(maxExpiry)):
		return "", events.ErrBadValue.With("good until %s, more than %s from now: is the clock of its sender right?", at.UTC().Format(time.RFC3339), maxExpiry).At(events.HeaderExpires)
	}
	return signer, nil
}

// aboutEdge is the edge that a command's subject names.
type aboutEdge struct{ unit, id string }

// check refuses a command about another edge, or of another unit.
func (a *aboutEdge) check(c events.Command, s *events.State) error {
	unit, id := a.unit, ""
	switch c := c.(type) {
	case events.JoinEdge:
		unit, id = c.Unit, c.ID
	case events.LeaveEdge:
		id = c.ID
		if e, ok := s.Edges[id]; ok {
			unit = e.Unit
		}
	}
	if unit != a.unit || id != a.id {
		return ErrEdgeSubject.With("this is about edge %q of unit %q, and came on the subject of edge %q of unit %q", id, unit, a.id, a.unit)
	}
	return nil
}

// edgeDesk bounds what the commands of edges cost. Its methods may be used by any goroutine.
type edgeDesk struct {
	slots chan struct{}
	mu    sync.Mutex // guards rates
	rates map[string]*rate.Limiter
}

// allow counts a command against its edge's allowance and its unit's, which bounds what
// invented ids cost. Beyond maxRates edges without a full allowance, the unit's alone counts.
func (d *edgeDesk) allow(namespace, unit, id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := namespace + "." + unit
	edge := d.limiter(key+"."+id, rate.Every(edgeEvery), edgeBurst)
	if edge != nil && !edge.Allow() {
		return false
	}
	whole := d.limiter(key, rate.Every(unitEvery), unitBurst)
	return whole != nil && whole.Allow()
}

// limiter is the allowance by that name, full at first; nil where there is no place for one.
func (d *edgeDesk) limiter(key string, every rate.Limit, burst int) *rate.Limiter {
	if l := d.rates[key]; l != nil {
		return l
	}
	if len(d.rates) >= maxRates {
		for k, l := range d.rates {
			if l.Tokens() >= float64(l.Burst()) {
				delete(d.rates, k)
			}
		}
		if len(d.rates) >= maxRates {
			return nil
		}
	}
	l := rate.NewLimiter(every, burst)
	d.rates[key] = l
	return l
}
