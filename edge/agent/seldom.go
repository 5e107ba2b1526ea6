package agent

import (
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// seldomEvery is how often the log tells of what can happen as often as somebody else likes.
const seldomEvery = time.Minute

// seldom keeps complaints that repeat out of the log. The zero value is ready to use; any goroutine may use it.
type seldom struct {
	mu   sync.Mutex // guards what follows
	last map[string]*unsaid
}

type unsaid struct {
	at time.Time // of the last line
	n  int       // times since
}

// due reports whether it is time for a line about something, and how often it happened since the last one.
func (s *seldom) due(about string, now time.Time) (before int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = map[string]*unsaid{}
	}
	u := s.last[about]
	if u == nil {
		u = &unsaid{}
		s.last[about] = u
	}
	if now.Sub(u.at) < seldomEvery {
		u.n++
		return 0, false
	}
	before, u.at, u.n = u.n, now, 0
	return before, true
}

// complain logs what goes wrong, once a minute, with how often it did since the last line.
func (r *Runner) complain(what string, about ...any) {
	if before, due := r.seldom.due(what, time.Now()); due {
		r.log.Warn(what, append(about, "unlogged_before", before)...)
	}
}

// natsError takes what the NATS client complains of.
func (r *Runner) natsError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if sub != nil && errors.Is(err, nats.ErrSlowConsumer) {
		r.complain("more messages come than this edge can take: some are dropped", "subject", sub.Subject, "err", err)
		return
	}
	r.log.Warn("NATS", "err", err)
}
