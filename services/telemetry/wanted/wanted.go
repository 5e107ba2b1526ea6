// Package wanted lets the emitter of a span say which ids it has to have. A cutover's trace is written by many processes,
// some of which emit before others have begun: the ids of its root and its waves follow from the journal, so that every
// one can name its parent, and whoever ends the cutover can emit them.
package wanted

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/events"
)

// Span is the context of a span that the journal names. It is somebody's span, wherever he is, and recorded.
func Span(t events.TraceID, s events.SpanID) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(t), SpanID: trace.SpanID(s), TraceFlags: trace.FlagsSampled, Remote: true})
}

type key struct{}

// With says that the next span that is started with the context has these ids. What that span's context is handed on to
// must not start spans with it: they would have the same id.
func With(ctx context.Context, sc trace.SpanContext) context.Context {
	return context.WithValue(ctx, key{}, sc)
}

// In are the ids that a context wants.
func In(ctx context.Context) (trace.SpanContext, bool) {
	sc, ok := ctx.Value(key{}).(trace.SpanContext)
	return sc, ok && sc.IsValid()
}
