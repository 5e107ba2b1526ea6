package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

const (
	probesAtOnce     = 128             // dials of all probes together
	triesAtOnce      = 64              // sessions at our own door of all questions together
	probeTimeout     = 2 * time.Second // for one dial
	handshakeTimeout = 4 * time.Second // for one session at our own door
)

// answers are the edge's answers to questions, as long as Run lasts.
type answers struct {
	r    *Runner
	ctx  context.Context //nolint:containedctx // that of Run: a question has none of its own
	end  context.CancelFunc
	subs []*nats.Subscription
	work sync.WaitGroup // the desks' clerks
}

// newDesks makes those at which questions are answered. How long each waits for its turn is less than its askers wait for
// the answer: 2 s, to probes 5 s, to handshakes 8 s.
//
// Whoever may look may ask for sessions and status. So these rest, and one answer is for all who ask for the status; and the
// control plane, which cutovers wait for, has desks of its own for the same.
func (r *Runner) newDesks() []*desk {
	dials, tries := make(chan struct{}, probesAtOnce), make(chan struct{}, triesAtOnce)
	const soon = 2 * time.Second
	status := func(ctx context.Context, _ []byte) (any, error) { return r.Status(ctx), nil }
	probe := func(ctx context.Context, data []byte) (any, error) { return r.answerProbe(ctx, data, dials) }
	try := func(ctx context.Context, data []byte) (any, error) { return r.answerHandshake(ctx, data, tries) }
	return []*desk{
		{what: events.AskStatus, answer: status, shared: true, clerks: 1, room: 64, within: soon},
		{what: events.AskStanding, answer: status, shared: true, clerks: 1, room: 64, within: soon},
		{what: events.AskSessions, answer: r.answerSessions, clerks: 2, room: 64, within: soon, rest: 9, bulk: &desk{
			what: events.AskSessions, answer: r.answerSessions, clerks: 1, room: 1, within: soon, rest: 19,
		}},
		{what: events.AskCount, answer: r.answerSessions, clerks: 2, room: 8, within: soon, rest: 1},
		{what: events.AskEvict, answer: r.answerEvict, clerks: 4, room: 64, within: soon, rest: 1},
		{what: events.AskProbe, answer: probe, clerks: 4, room: 8, within: 4500 * time.Millisecond},
		{what: events.AskHandshake, answer: try, clerks: 2, room: 8, within: 7500 * time.Millisecond},
		{what: events.AskCutover, answer: r.answerCutover, clerks: 2, room: 8, within: soon, rest: 1},
	}
}

// answer begins to answer.
func (r *Runner) answer(ctx context.Context) (*answers, error) {
	a := &answers{r: r}
	a.ctx, a.end = context.WithCancel(ctx)
	for _, d := range r.desks {
		d.open(a.ctx, a)
		if d.bulk != nil {
			d.bulk.open(a.ctx, a)
		}
		sub, err := r.asks.Subscribe(subject(r.self, d.what), func(m *nats.Msg) { d.take(a, m) })
		if err == nil {
			a.subs = append(a.subs, sub)
			err = sub.SetPendingLimits(pendingQuestions, pendingBytes)
		}
		if err != nil {
			a.close()
			return nil, fmt.Errorf("listen on %s: %w", subject(r.self, d.what), err)
		}
	}
	return a, nil
}

// close ends answering and waits for it.
func (a *answers) close() {
	a.end()
	for _, s := range a.subs {
		_ = s.Unsubscribe() // fails only if the connection is closed
	}
	a.work.Wait()
}

// ours reports whether questions to this edge's id are for this process: for the edge that the journal knows. A process with
// its id and another state directory leaves them to it (R7).
func (a *answers) ours() bool {
	e, ok, _ := a.r.follower.member(a.r.self.ID)
	return ok && e.Directory == a.r.self.Directory
}

// Questions are how many of each kind came to each end, ever.
func (r *Runner) Questions() map[string]map[string]int64 {
	out := map[string]map[string]int64{}
	for _, d := range r.desks {
		ends := map[string]int64{}
		for i, result := range results {
			ends[result] = d.counts[i].Load()
			if d.bulk != nil {
				ends[result] += d.bulk.counts[i].Load()
			}
		}
		out[d.what] = ends
	}
	return out
}

// sessions answers an events.CountQuestion.
func (r *Runner) answerSessions(_ context.Context, data []byte) (any, error) {
	var q events.CountQuestion
	if err := events.DecodeStrict(data, &q); err != nil {
		return nil, err
	}
	if len(q.Domains) > 0 {
		return r.answerDomains(q.Domains)
	}
	q.UnitType = r.unitType(q.UnitType)
	if q.RouterID != "" {
		key, err := r.key(q.UnitType, q.RouterID)
		if err != nil {
			return nil, err
		}
		return events.CountAnswer{
			Sessions: r.cfg.Relay.CountRouter(q.UnitType, key), Proxied: r.cfg.Relay.CountProxied(q.UnitType, key),
		}, nil
	}
	slots, err := r.ranges(q.UnitType, q.Slots)
	if err != nil {
		return nil, err
	}
	return events.CountAnswer{Sessions: r.cfg.Relay.CountKeys(q.UnitType, routing.Keys{Slots: slots, Exact: q.Exact}, q.Except)}, nil
}

// key is the key of a routerId that a question names, as handshakes of the unit type have it.
func (r *Runner) key(unitType, id string) (string, error) {
	var t events.UnitType
	if s := r.shown.Load().state; s != nil {
		t, _ = s.UnitType(unitType)
	}
	return t.Key(id)
}

// ranges are those of a question, merged: whatever it names often is looked at once.
func (r *Runner) ranges(unitType string, texts []string) ([]routing.Range, error) {
	most := routing.MaxSlots
	if s := r.shown.Load().state; s != nil {
		if t, ok := s.UnitType(unitType); ok {
			most = int(t.Slots)
		}
	}
	if len(texts) > most {
		return nil, events.ErrTooLarge.With("%d ranges, of %d slots: name each slot once", len(texts), most).At("slots")
	}
	ranges := make([]routing.Range, 0, len(texts))
	for _, s := range texts {
		rg, err := routing.ParseRange(s)
		if err != nil {
			return nil, events.ErrBadRange.With("%v", err).At("slots")
		}
		ranges = append(ranges, rg)
	}
	return routing.Merge(ranges), nil
}

func (r *Runner) answerDomains(hosts []string) (any, error) {
	if len(hosts) > events.MaxDomains {
		return nil, events.ErrBadValue.With("%d domains, at most %d are allowed", len(hosts), events.MaxDomains).At("domains")
	}
	answer := events.CountAnswer{Domains: r.cfg.Relay.CountDomains(hosts)}
	for _, n := range answer.Domains {
		answer.Sessions += n
	}
	return answer, nil
}

// unitType is the default one for "".
func (r *Runner) unitType(name string) string {
	if s := r.shown.Load().state; name == "" && s != nil {
		t, _ := s.UnitType("")
		return t.Name
	}
	return name
}

// evict answers an events.EvictQuestion. It stands in no journal, so the log says who asked for it, also when nobody was
// there to be closed.
func (r *Runner) answerEvict(ctx context.Context, data []byte) (any, error) {
	var q events.EvictQuestion
	if err := events.DecodeStrict(data, &q); err != nil {
		return nil, err
	}
	if err := q.Check(); err != nil {
		return nil, err
	}
	q.UnitType = r.unitType(q.UnitType)
	key, err := r.key(q.UnitType, q.RouterID)
	if err != nil {
		return nil, err
	}
	n := r.cfg.Relay.EvictRouter(q.UnitType, key)
	r.logEviction(ctx, &q, n)
	return events.EvictAnswer{Sessions: n}, nil
}

// maxIdleEvictions is how many lines in a second tell of evictions that met nobody: these cost their sender nothing.
const maxIdleEvictions = 20

func (r *Runner) logEviction(ctx context.Context, q *events.EvictQuestion, n int) {
	level := slog.LevelWarn
	if n == 0 {
		if !r.idleEvictions.take(time.Now(), maxIdleEvictions) {
			r.complain("evictions that met nobody are not logged one by one: there are too many", "actor", q.Actor)
			return
		}
		level = slog.LevelInfo
	}
	r.log.Log(ctx, level, "user evicted by an operator", "routerId", q.RouterID, "unitType", q.UnitType, "sessions", n, "actor", q.Actor, "reason", q.Reason)
}

// answerProbe answers an events.ProbeQuestion: it connects to the origins and closes the connections again. Each dial takes
// one of places; an origin that gets none in time failed, too. So has one that the edge's own probes hold for down, whatever
// its port says: no session would be given to it.
func (r *Runner) answerProbe(ctx context.Context, data []byte, places chan struct{}) (any, error) {
	var q events.ProbeQuestion
	if err := events.DecodeStrict(data, &q); err != nil {
		return nil, err
	}
	if len(q.Origins) > events.MaxProbes {
		return nil, events.ErrBadValue.With("%d origins, at most %d are allowed", len(q.Origins), events.MaxProbes).At("origins")
	}
	answer := events.ProbeAnswer{Failed: map[string]string{}}
	var mu sync.Mutex // guards answer
	slices.Sort(q.Origins)
	origins := slices.Compact(q.Origins)
	down := r.cfg.Relay.Down(origins)
	atOnce(ctx, places, len(origins), func(i int) {
		origin, err := origins[i], ctx.Err()
		if err == nil {
			d := net.Dialer{Timeout: probeTimeout}
			var c net.Conn
			if c, err = d.DialContext(ctx, "tcp", origin); err == nil {
				_ = c.Close()
				why, is := down[origin]
				if !is {
					return
				}
				err = fmt.Errorf("its probes find it down: %s", why)
			}
		}
		mu.Lock()
		answer.Failed[origin] = err.Error()
		mu.Unlock()
	})
	return answer, nil
}

// atOnce does something n times, as many of them at once as there are places. Those for which there is none until ctx ends
// are done all the same: they have to look.
func atOnce(ctx context.Context, places chan struct{}, n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		select {
		case places <- struct{}{}:
			all.Go(func() {
				defer func() { <-places }()
				do(i)
			})
		case <-ctx.Done():
			do(i)
		}
	}
	all.Wait()
}

// answerHandshake answers an events.HandshakeQuestion.
func (r *Runner) answerHandshake(ctx context.Context, data []byte, places chan struct{}) (any, error) {
	var q events.HandshakeQuestion
	if err := events.DecodeStrict(data, &q); err != nil {
		return nil, err
	}
	if len(q.Services) > events.MaxHandshakes {
		return nil, events.ErrBadValue.With("%d services, at most %d are allowed", len(q.Services), events.MaxHandshakes).At("services")
	}
	answer := events.HandshakeAnswer{Sessions: make([]events.TriedSession, len(q.Services))}
	atOnce(ctx, places, len(q.Services), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		answer.Sessions[i] = r.cfg.Try(ctx, r.secret, q.Services[i])
	})
	return answer, nil
}
