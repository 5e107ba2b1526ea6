package command

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

// Meters take what becomes of commands. They may be used by any goroutine, by the handlers of all namespaces, by Service
// and by Durable.
type Meters struct {
	outcomes metric.Int64Counter
	refusals metric.Int64Counter
	appends  metric.Float64Histogram
}

// NewMeters registers them.
func NewMeters(m metric.Meter) (*Meters, error) {
	outcomes, err := m.Int64Counter("unitgate.commands", metric.WithUnit("{command}"),
		metric.WithDescription("Commands that this process has taken, by their entity and verb, the way they came (api, durable, driver) and what they were answered: ok, or the code of the error. A durable command that is put back counts each time."))
	refusals, rerr := m.Int64Counter("unitgate.requests.refused", metric.WithUnit("{request}"),
		metric.WithDescription("Requests that this process has refused unread, by what they are (command, bulk, edge, question, durable) and why: size (larger than such a one may be) or busy (as many were in work and waiting as it takes). They are in no other count."))
	appends, aerr := m.Float64Histogram("unitgate.journal.append", metric.WithUnit("s"),
		metric.WithDescription("How long the journal took to answer an append, by what it said: stored, conflict, duplicate, unknown (no answer), refused."))
	meters := &Meters{outcomes, refusals, appends}
	if err = errors.Join(err, rerr, aerr); err == nil {
		for _, k := range []kind{commands, bulk, edges, questions, durable} { // a rate needs a series that begins at nothing
			meters.refuse(0, k, refusedSize)
			meters.refuse(0, k, refusedBusy)
		}
	}
	return meters, err
}

// noMeters take nothing.
func noMeters() *Meters {
	m, _ := NewMeters(noop.Meter{}) // which never fails
	return m
}

// The ways of a command.
const (
	wayAPI     = "api"
	wayDurable = "durable"
	wayDriver  = "driver"
)

// took counts an outcome. A caller chooses namespace, entity and verb: they are labels only where they are known to exist.
func (m *Meters) took(namespace string, name events.Name, known bool, way string, o Outcome) {
	command, code := "unknown", "ok"
	if known {
		command = name.Entity + "." + name.Verb
	}
	if !o.OK {
		code = "internal"
		if o.Error != nil {
			code = o.Error.Code // one of this program's: no rejection takes its code from a command
		}
	}
	m.outcomes.Add(context.Background(), 1, metric.WithAttributeSet(attribute.NewSet(
		attribute.String("namespace", namespace), attribute.String("command", command), attribute.String("via", way), attribute.String("code", code))))
}

// Why a request is refused unread.
const (
	refusedSize = "size"
	refusedBusy = "busy"
)

// refused counts a request that was refused unread.
func (m *Meters) refused(k kind, why string) { m.refuse(1, k, why) }

func (m *Meters) refuse(n int64, k kind, why string) {
	m.refusals.Add(context.Background(), n, metric.WithAttributeSet(attribute.NewSet(attribute.String("kind", string(k)), attribute.String("reason", why))))
}

// appended records an append.
func (m *Meters) appended(namespace string, took time.Duration, err error) {
	m.appends.Record(context.Background(), took.Seconds(), metric.WithAttributeSet(attribute.NewSet(
		attribute.String("namespace", namespace), attribute.String("result", resultOf(err)))))
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return "stored"
	case errors.Is(err, journal.ErrConflict):
		return "conflict"
	case errors.Is(err, journal.ErrDuplicate):
		return "duplicate"
	case errors.Is(err, journal.ErrUnknown), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "unknown"
	}
	return "refused"
}
