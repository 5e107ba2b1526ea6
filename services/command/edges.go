package command

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/unitgate/unitgate/events"
)

// What edges may ask of the control plane on subjects of their own, and what that may cost.
const (
	maxExpiry = 15 * time.Minute

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

// acceptEdge takes edge.join and edge.leave on unitgate.edge.<namespace>.<unit>.<id>.<verb>, where
// NATS lets only that unit's edges speak, beside the api's subjects. It never waits, so that one
// edge's flood delays no other edge's command: each unit has a lane, in which an edge has two places.
func (s *Service) acceptEdge(ctx context.Context, r asking, h nats.Header) {
	t := strings.Split(r.subject, ".") // the subscription's form
	c := call{namespace: t[2], entity: "edge", verb: t[5], about: &aboutEdge{unit: t[3], id: t[4]}}
	c.headers(h, true)
	lane := ""
	if s.cfg.Namespaces.Known(c.namespace) {
		lane = c.namespace + "/" + c.about.unit
	}
	if !s.rates.allow(c.namespace, c.about.unit, c.about.id) {
		s.refuse(r, edges, refusedBusy, ErrBusy.With("edge %s of unit %s asks too often: send it again in a second", c.about.id, c.about.unit))
		return
	}
	s.admit(ctx, r, c, routeOf(c.entity, c.verb, nil), lane, c.about.id)
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
	default: // edgeVerbs has no other
	}
	if unit != a.unit || id != a.id {
		return ErrEdgeSubject.With("this is about edge %q of unit %q, and came on the subject of edge %q of unit %q", id, unit, a.id, a.unit)
	}
	return nil
}

// edgeRates bound how often edges give commands. Its methods may be used by any goroutine.
type edgeRates struct {
	mu    sync.Mutex // guards rates
	rates map[string]*rate.Limiter
}

func newEdgeRates() *edgeRates { return &edgeRates{rates: map[string]*rate.Limiter{}} }

// allow counts a command against its edge's allowance and its unit's, which bounds what
// invented ids cost. Beyond maxRates edges without a full allowance, the unit's alone counts.
func (d *edgeRates) allow(namespace, unit, id string) bool {
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
func (d *edgeRates) limiter(key string, every rate.Limit, burst int) *rate.Limiter {
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
