package cutover

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/telemetry/wanted"
)

// spans emits what stands in the trace of a cutover. It holds no state: parents and ids follow from the journal.
type spans struct{ tracer trace.Tracer }

func spansBy(by trace.TracerProvider) spans {
	if by == nil {
		by = noop.NewTracerProvider()
	}
	return spans{by.Tracer("github.com/unitgate/unitgate/services/cutover")}
}

// traced reports whether anything becomes of spans.
func traced(by trace.TracerProvider) bool {
	_, off := by.(noop.TracerProvider)
	return by != nil && !off
}

// below is a context whose spans stand below one that the journal names.
func below(t events.TraceID, s events.SpanID) context.Context {
	return trace.ContextWithRemoteSpanContext(context.Background(), wanted.Span(t, s))
}

// precheck is one run of one precheck, just ended.
func (p spans) precheck(namespace string, c *events.Cutover, k *events.Check, began time.Time) {
	t, ok := c.Trace()
	if !ok {
		return
	}
	_, s := p.tracer.Start(below(t.ID, t.Root), "cutover.precheck", trace.WithTimestamp(began), trace.WithAttributes(
		attribute.String("unitgate.namespace", namespace),
		attribute.String("unitgate.cutover.id", c.ID),
		attribute.String("unitgate.check.id", k.ID),
		attribute.String("unitgate.check.verdict", string(k.State)),
		attribute.String("unitgate.check.measured", k.Measured),
		attribute.String("unitgate.check.message", k.Message),
	))
	if k.State == events.Fail {
		s.SetStatus(codes.Error, k.Message)
	}
	s.End()
}

// wave is a fence from its beginning to its end.
func (p spans) wave(namespace string, c *events.Cutover, t *events.Trace, i int, ended time.Time) {
	w := c.Waves[i]
	evicted := 0
	for _, r := range w.Results {
		evicted += r.Evicted
	}
	how := string(w.State)
	if w.State == events.PendingWave {
		how = "unfenced" // R11
	}
	ctx := wanted.With(below(t.ID, t.Root), wanted.Span(t.ID, t.Wave(w.FenceSeq)))
	_, s := p.tracer.Start(ctx, "cutover.wave", trace.WithTimestamp(w.FencedAt), trace.WithAttributes(
		attribute.String("unitgate.namespace", namespace),
		attribute.String("unitgate.cutover.id", c.ID),
		attribute.Int("unitgate.wave", i),
		attribute.String("unitgate.wave.state", how),
		attribute.Int64("unitgate.fence.seq", int64(w.FenceSeq)), //nolint:gosec // a sequence
		attribute.Int("unitgate.slots.moved", w.SlotCount()),
		attribute.Int("unitgate.sessions.evicted", evicted),
	))
	if w.State == events.PendingWave && c.Why != nil {
		s.SetStatus(codes.Error, c.Why.Message)
	}
	s.End(trace.WithTimestamp(notBefore(ended, w.FencedAt)))
}

// root is a cutover from its proposal to its end.
func (p spans) root(namespace string, c *events.Cutover, t *events.Trace, origin *events.Cutover) {
	ctx := context.Background()
	if t.Parent != (events.SpanID{}) {
		ctx = below(t.ID, t.Parent)
	}
	moved := 0
	for _, w := range c.Waves {
		if w.State == events.CommittedWave {
			moved += w.SlotCount()
		}
	}
	opts := []trace.SpanStartOption{trace.WithTimestamp(c.ProposedAt), trace.WithAttributes(
		attribute.String("unitgate.namespace", namespace),
		attribute.String("unitgate.cutover.id", c.ID),
		attribute.String("unitgate.cutover.state", string(c.State)),
		attribute.String("unitgate.unit_type", c.UnitType),
		attribute.Int64("unitgate.rule.from", int64(c.RuleFrom)), //nolint:gosec // a version
		attribute.Int64("unitgate.rule.to", int64(c.RuleTo)),     //nolint:gosec // a version
		attribute.Int("unitgate.slots.moved", moved),
		attribute.String("unitgate.actor", c.Actor),
	)}
	if origin != nil {
		if o, ok := origin.Trace(); ok {
			opts = append(opts, trace.WithAttributes(attribute.String("unitgate.cutover.rollback_of", origin.ID)),
				trace.WithLinks(trace.Link{SpanContext: wanted.Span(o.ID, o.Root)}))
		}
	}
	_, s := p.tracer.Start(wanted.With(ctx, wanted.Span(t.ID, t.Root)), "cutover", opts...)
	switch {
	case c.State == events.Completed:
		s.SetStatus(codes.Ok, "")
	case c.Why != nil:
		s.SetStatus(codes.Error, c.Why.Message)
	default:
		s.SetStatus(codes.Error, string(c.State))
	}
	s.End(trace.WithTimestamp(notBefore(c.EndedAt, c.ProposedAt)))
}

// CatchUp is the span of a controller's replay, in a trace of its own: what it finds running is linked to, since history
// that is read again is nobody's child.
func CatchUp(by trace.TracerProvider, s *events.State, began time.Time) {
	var links []trace.Link
	for _, c := range s.CutoverList() {
		if t, ok := c.Trace(); ok && c.State.Running() {
			links = append(links, trace.Link{SpanContext: wanted.Span(t.ID, t.Root)})
		}
	}
	_, span := spansBy(by).tracer.Start(context.Background(), "control.catchup", trace.WithTimestamp(began), trace.WithLinks(links...), trace.WithAttributes(
		attribute.String("unitgate.namespace", s.Namespace), attribute.Int64("unitgate.seq", int64(s.Seq)))) //nolint:gosec // a sequence
	span.End()
}

func notBefore(t, least time.Time) time.Time {
	if t.Before(least) {
		return least
	}
	return t
}
