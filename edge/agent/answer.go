package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

const (
	maxProbes        = 1024            // origins in one question
	probesAtOnce     = 128             // dials of all questions together
	probeTimeout     = 2 * time.Second // for one dial
	handshakeTimeout = 4 * time.Second // for one session at our own door
	maxQuestions     = 16              // answered at the same time; the others wait
)

// answers are the edge's answers to questions of the control plane, as long as Run lasts.
type answers struct {
	r     *Runner
	ctx   context.Context //nolint:containedctx // that of Run: a question has none of its own
	slots chan struct{}
	dials chan struct{}
	subs  []*nats.Subscription

	mu     sync.Mutex // guards closed, and work against a Wait that has begun
	closed bool
	work   sync.WaitGroup
}

// answer begins to answer.
func (r *Runner) answer(ctx context.Context) (*answers, error) {
	a := &answers{r: r, ctx: ctx, slots: make(chan struct{}, maxQuestions), dials: make(chan struct{}, probesAtOnce)}
	for what, f := range map[string]func([]byte) (any, error){
		"status":    func([]byte) (any, error) { return r.Status(ctx), nil },
		"sessions":  a.sessions,
		"evict":     a.evict,
		"probe":     a.probe,
		"handshake": a.handshake,
		"cutover":   a.cutover,
	} {
		sub, err := r.nc.Subscribe(subject(r.self, what), func(m *nats.Msg) { a.take(m, f) })
		if err != nil {
			a.close()
			return nil, fmt.Errorf("listen on %s: %w", subject(r.self, what), err)
		}
		a.subs = append(a.subs, sub)
	}
	return a, nil
}

// close ends answering, which ctx's end has hurried, and waits for it.
func (a *answers) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	defer a.work.Wait()
	for _, s := range a.subs {
		_ = s.Unsubscribe() // fails only if the connection is closed
	}
}

// take answers one question on a goroutine of its own, since some take a while. Questions are for the edge that the
// journal knows: a process with its id and another state directory leaves them to it (R7).
func (a *answers) take(m *nats.Msg, f func([]byte) (any, error)) {
	if e, ok, _ := a.r.follower.member(a.r.self.ID); !ok || e.Directory != a.r.self.Directory {
		return
	}
	select {
	case a.slots <- struct{}{}:
	case <-a.ctx.Done():
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.work.Go(func() {
		defer func() { <-a.slots }()
		var v any
		data, err := events.Unpack(m.Data)
		if err == nil {
			v, err = f(data)
		}
		reply := nats.NewMsg(m.Reply)
		if err != nil {
			e := &events.Error{Code: "internal", Message: err.Error()}
			errors.As(err, &e)
			reply.Header.Set(micro.ErrorCodeHeader, e.Code)
			reply.Header.Set(micro.ErrorHeader, e.Message)
			v = map[string]any{"error": e}
		}
		if reply.Data, err = json.Marshal(v); err == nil {
			a.r.speaker.sign(reply, m)
			err = m.RespondMsg(reply)
		}
		if err != nil && a.ctx.Err() == nil {
			a.r.log.Warn("question not answered", "subject", m.Subject, "err", err)
		}
	})
}

// sessions answers an events.CountQuestion.
func (a *answers) sessions(data []byte) (any, error) {
	var q events.CountQuestion
	if err := events.DecodeStrict(data, &q); err != nil {
		return nil, err
	}
	if len(q.Domains) > 0 {
		return a.domains(q.Domains)
	}
	q.UnitType = a.unitType(q.UnitType)
	if q.RouterID != "" {
		return events.CountAnswer{
			Sessions: a.r.cfg.Relay.CountRouter(q.UnitType, q.RouterID), Proxied: a.r.cfg.Relay.CountProxied(q.UnitType, q.RouterID),
		}, nil
	}
	keys := routing.Keys{Exact: q.Exact}
	for _, s := range q.Slots {
		rg, err := routing.ParseRange(s)
		if err != nil {
			return nil, events.ErrBadRange.With("%v", err).At("slots")
		}
		keys.Slots = append(keys.Slots, rg)
	}
	return events.CountAnswer{Sessions: a.r.cfg.Relay.CountKeys(q.UnitType, keys, q.Except)}, nil
}

func (a *answers) domains(hosts []string) (any, error) {
	if len(hosts) > events.MaxDomains {
		return nil, events.ErrBadValue.With("%d domains, at most %d are allowed", len(hosts), events.MaxDomains).At("domains")
	}
	answer := events.CountAnswer{Domains: a.r.cfg.Relay.CountDomains(hosts)}
	for _, n := range answer.Domains {
		answer.Sessions += n
	}
	return answer, nil
}

// unitType is the default one for "".
func (a *answers) unitType(name string) string {
	if s := a.r.shown.Load().state; name == "" && s != nil {
		t, _ := s.UnitType("")
		return t.Name
	}
	return name
}

// evict answers an events.EvictQuestion. It stands in no journal, so the log says who asked for it, also when nobody was
// there to be closed.
func (a *answers) evict(data []byte) (any, error) {
	var q events.EvictQuestion
	if err := events.DecodeStrict(data, &q); err != nil {
		return nil, err
	}
	if err := q.Check(); err != nil {
		return nil, err
	}
	q.UnitType = a.unitType(q.UnitType)
	n := a.r.cfg.Relay.EvictRouter(q.UnitType, q.RouterID)
	level := slog.LevelInfo
	if n > 0 {
		level = slog.LevelWarn
	}
	a.r.log.Log(a.ctx, level, "user evicted by an operator", "routerId", q.RouterID, "unitType", q.UnitType, "sessions", n, "actor", q.Actor, "reason", q.Reason)
	return events.EvictAnswer{Sessions: n}, nil
}

// probe answers an events.ProbeQuestion: it connects to the origins and closes the connections again.
func (a *answers) probe(data []byte) (any, error) {
	var q events.ProbeQuestion
	if err := events.DecodeStrict(data, &q); err != nil {
		return nil, err
	}
	if len(q.Origins) > maxProbes {
		return nil, events.ErrBadValue.With("%d origins, at most %d are allowed", len(q.Origins), maxProbes).At("origins")
	}
	answer := events.ProbeAnswer{Failed: map[string]string{}}
	var mu sync.Mutex // guards answer
	var dials sync.WaitGroup
	for _, origin := range q.Origins {
		a.dials <- struct{}{}
		dials.Go(func() {
			defer func() { <-a.dials }()
			d := net.Dialer{Timeout: probeTimeout}
			c, err := d.DialContext(a.ctx, "tcp", origin)
			if err == nil {
				_ = c.Close()
				return
			}
			mu.Lock()
			answer.Failed[origin] = err.Error()
			mu.Unlock()
		})
	}
	dials.Wait()
	return answer, nil
}

// handshake answers an events.HandshakeQuestion.
func (a *answers) handshake(data []byte) (any, error) {
	var q events.HandshakeQuestion
	if err := events.DecodeStrict(data, &q); err != nil {
		return nil, err
	}
	if len(q.Services) > events.MaxHandshakes {
		return nil, events.ErrBadValue.With("%d services, at most %d are allowed", len(q.Services), events.MaxHandshakes).At("services")
	}
	answer := events.HandshakeAnswer{Sessions: make([]events.TriedSession, len(q.Services))}
	var tries sync.WaitGroup
	for i, s := range q.Services {
		a.dials <- struct{}{}
		tries.Go(func() {
			defer func() { <-a.dials }()
			ctx, cancel := context.WithTimeout(a.ctx, handshakeTimeout)
			defer cancel()
			answer.Sessions[i] = a.r.cfg.Try(ctx, a.r.secret, s)
		})
	}
	tries.Wait()
	return answer, nil
}
