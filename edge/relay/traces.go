package relay

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events/routing"
)

// glimpses makes spans of a share of the handshakes: `edge.handshake`, from the client's connection to the 101 or our
// answer, never for as long as a session. The one that is drawn is drawn before anything is made, so that all others cost
// a comparison. Whether the client's own trace is recorded has no say: a client could have every handshake recorded. Its
// span is linked to where ours is made. An engine's poller owns it.
type glimpses struct {
	tracer trace.Tracer
	share  float64
	random *rand.Rand
}

// glimpse is a handshake that was drawn.
type glimpse struct{ began time.Time }

func newGlimpses(by trace.TracerProvider, share float64) glimpses {
	_, off := by.(noop.TracerProvider)
	if by == nil || off || share <= 0 {
		return glimpses{}
	}
	return glimpses{by.Tracer("github.com/unitgate/unitgate/edge/relay"), share, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
}

// draw is nil for a handshake that gets no span.
func (g *glimpses) draw() *glimpse {
	if g.share == 0 || g.random.Float64() >= g.share {
		return nil
	}
	return &glimpse{time.Now()}
}

// seen is what became of a handshake.
type seen struct {
	code   string // as it is counted, see verdict
	status int    // of the answer; 0: the client left before
	reason string
	unit   string // to an edge of which the client is passed on; "": none
	typ    *handshake.Type
	route  *routing.Route
}

// traceAnswer ends the span of a handshake that is answered here, if it has one.
func (e *engine) traceAnswer(s *session, vd *handshake.Verdict) {
	if s.hs == nil || s.hs.glimpse == nil {
		return
	}
	v := seen{code: vd.Code, status: vd.Status, typ: vd.Type, route: vd.Route}
	if vd.Status >= 400 { // a redirect's reason says no more than its code, and may hold what the client sent
		v.reason = vd.Reason
	}
	if vd.Action == handshake.Accept {
		v.status = http.StatusSwitchingProtocols
	}
	e.trace(s, v)
}

// traceServed ends the span of a handshake that an origin has answered, if it has one.
func (e *engine) traceServed(s *session, status int) {
	if s.hs == nil || s.hs.glimpse == nil {
		return
	}
	v := seen{code: verdictServed, status: status}
	switch {
	case status != http.StatusSwitchingProtocols:
		v.code = verdictPassedOn
	case s.via != 0: // by an edge of another unit, which makes a span of its own or not
		v.code, v.unit = "proxy", e.units[s.via]
	}
	if e.view != nil {
		v.typ = e.view.Types[s.entry.Key.Type]
	}
	if v.typ != nil && v.typ.Table != nil && !s.entry.Key.Unbound() {
		v.route = v.typ.Table.Lookup(s.entry.Key.RouterID)
	}
	e.trace(s, v)
}

// traceLeft ends the span of a handshake whose client left before it was answered, if it has one.
func (e *engine) traceLeft(s *session) {
	if s.hs != nil && s.hs.glimpse != nil {
		e.trace(s, seen{code: verdictLeft})
	}
}

func (e *engine) trace(s *session, v seen) {
	h := s.hs
	began := h.glimpse.began
	h.glimpse = nil
	about := []attribute.KeyValue{
		attribute.String("unitgate.verdict", v.code),
		attribute.Bool("unitgate.held", h.wasHeld),
		attribute.String("network.protocol.name", "http"),
	}
	if h.overTLS || h.secure {
		about = append(about, attribute.String("url.scheme", "https"))
	} else {
		about = append(about, attribute.String("url.scheme", "http"))
	}
	if v.status != 0 {
		about = append(about, attribute.Int("http.response.status_code", v.status))
	}
	if v.unit != "" {
		about = append(about, attribute.String("unitgate.proxied.unit", v.unit))
	}
	if v.reason != "" {
		about = append(about, attribute.String("unitgate.reason", v.reason))
	}
	opts := []trace.SpanStartOption{trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindServer)}
	if req := h.req; req != nil {
		// No path, no query: the routerId may stand there.
		about = append(about, attribute.String("http.request.method", req.Method), attribute.String("server.address", req.Host))
		if theirs := clientSpan(req); theirs.IsValid() {
			opts = append(opts, trace.WithLinks(trace.Link{SpanContext: theirs}))
		}
	}
	if v.typ != nil {
		about = append(about, attribute.String("unitgate.unit_type", v.typ.Name), attribute.Int64("unitgate.rule.version", int64(v.typ.VersionOf(v.route)))) //nolint:gosec // a version
		if v.route != nil && v.route.Moved && v.typ.Trace.ID != [16]byte{} {
			opts = append(opts, trace.WithLinks(trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: trace.TraceID(v.typ.Trace.ID), SpanID: trace.SpanID(v.typ.Trace.Root), TraceFlags: trace.FlagsSampled, Remote: true,
			})}))
		}
	}
	_, span := e.glimpses.tracer.Start(context.Background(), "edge.handshake", append(opts, trace.WithAttributes(about...))...)
	if v.status >= 500 {
		span.SetStatus(codes.Error, v.code)
	}
	span.End()
}

// clientSpan is the span that a client says its handshake belongs to, if it does.
func clientSpan(req *handshake.Request) trace.SpanContext {
	value, n := req.Get("traceparent")
	if n != 1 {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": value})
	return trace.SpanContextFromContext(ctx)
}
