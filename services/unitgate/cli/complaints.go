package cli

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// sayEvery is how often one complaint is logged: what a peer can cause must not fill the log.
const sayEvery = time.Minute

// complaints log and count what the NATS client says of a connection outside of any call: messages that it dropped because
// nobody read them fast enough, and what the server refuses. Its methods may be used by any goroutine.
type complaints struct {
	log     *slog.Logger
	dropped metric.Int64Counter
	now     func() time.Time

	mu   sync.Mutex
	said map[string]*saying
	lost map[*nats.Subscription]int // messages that were dropped, as far as counted
}

// saying is one complaint.
type saying struct {
	at   time.Time // when it was logged
	more int       // times that it came since
}

func newComplaints(log *slog.Logger, m metric.MeterProvider) (*complaints, error) {
	if m == nil {
		m = noop.NewMeterProvider()
	}
	dropped, err := m.Meter("github.com/unitgate/unitgate/services").Int64Counter("unitgate.nats.dropped", metric.WithUnit("{message}"),
		metric.WithDescription("Messages from NATS that this process has dropped unread because more came than it took, by the connection that they came on: main (journal, office, reports and leases), commands, edges, questions."))
	return &complaints{log: log, dropped: dropped, now: time.Now, said: map[string]*saying{}, lost: map[*nats.Subscription]int{}}, err
}

// on is the handler of a connection's errors.
func (c *complaints) on(connection string) nats.ErrHandler {
	at := metric.WithAttributeSet(attribute.NewSet(attribute.String("connection", connection)))
	c.dropped.Add(context.Background(), 0, at)
	log := c.log.With("connection", connection)
	return func(_ *nats.Conn, sub *nats.Subscription, err error) {
		if !errors.Is(err, nats.ErrSlowConsumer) || sub == nil {
			c.say(log, connection+err.Error(), "NATS", "err", err)
			return
		}
		lost, _ := sub.Dropped() // fails once it is closed
		c.mu.Lock()
		more := lost - c.lost[sub]
		if c.lost[sub] = lost; !sub.IsValid() {
			delete(c.lost, sub)
		}
		c.mu.Unlock()
		c.dropped.Add(context.Background(), int64(max(more, 0)), at)
		c.say(log, connection+"dropped", "NATS", "err", err, "subject", sub.Subject, "dropped", lost)
	}
}

// away is the handler of a connection's ends. A server cuts one off, again and again, on which more comes than is read.
func (c *complaints) away(connection string) nats.ConnErrHandler {
	log := c.log.With("connection", connection)
	return func(nc *nats.Conn, err error) {
		if !nc.IsClosed() {
			c.say(log, connection+"away", "NATS is out of reach", "err", err)
		}
	}
}

// back is the handler of a connection that is there again.
func (c *complaints) back(connection string) nats.ConnHandler {
	return func(nc *nats.Conn) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if s := c.said[connection+"away"]; s == nil || s.more == 0 { // else its end was not said either
			c.log.Info("NATS is back", "connection", connection, "url", redact(nc.ConnectedUrl()))
		}
	}
}

// say logs a complaint, at most once in sayEvery.
func (c *complaints) say(log *slog.Logger, key, what string, about ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, now := c.said[key], c.now()
	if s != nil && now.Sub(s.at) < sayEvery {
		s.more++
		return
	}
	if s != nil && s.more > 0 {
		about = append(about, "unsaid", s.more)
	}
	for k, old := range c.said { // texts may name subjects, of which there is no end
		if now.Sub(old.at) >= sayEvery {
			delete(c.said, k)
		}
	}
	c.said[key] = &saying{at: now}
	log.Warn(what, about...)
}
