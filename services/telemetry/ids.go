package telemetry

import (
	"context"
	"crypto/rand"

	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/services/telemetry/wanted"
)

// wanting makes random ids, unless the context says which ones are wanted (package wanted).
type wanting struct{}

// NewIDs is for a span without a parent.
func (wanting) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if sc, ok := wanted.In(ctx); ok {
		return sc.TraceID(), sc.SpanID()
	}
	var t trace.TraceID
	rand.Read(t[:]) // never fails, see crypto/rand
	return t, randomSpan()
}

// NewSpanID is for a span that has a parent, whose trace it is in.
func (wanting) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if sc, ok := wanted.In(ctx); ok {
		return sc.SpanID()
	}
	return randomSpan()
}

func randomSpan() (s trace.SpanID) {
	for !s.IsValid() { // all zeroes are no id
		rand.Read(s[:])
	}
	return s
}
