package relay

import (
	"context"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// traced is a relay that makes spans of this share of its handshakes.
func traced(t *testing.T, share float64, origins ...string) (*fixture, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	return start(t, Config{Tracing: provider, TraceShare: share}, origins...), spans
}

func attributesOf(s tracetest.SpanStub) map[string]string {
	out := map[string]string{}
	for _, kv := range s.Attributes {
		out[string(kv.Key)] = kv.Value.String()
	}
	return out
}

// span waits for the span of the next handshake and forgets it.
func span(t *testing.T, spans *tracetest.InMemoryExporter) (tracetest.SpanStub, map[string]string) {
	t.Helper()
	eventually(t, "the handshake's span", func() bool { return len(spans.GetSpans()) > 0 })
	list := spans.GetSpans()
	spans.Reset()
	if len(list) != 1 || list[0].Name != "edge.handshake" || list[0].SpanKind != trace.SpanKindServer {
		t.Fatalf("spans %+v", list)
	}
	return list[0], attributesOf(list[0])
}

const clients = "4bf92f3577b34da6a3ce929d0e0e4736"

// TestSpansOfHandshakes: what became of each, and none that lasts as long as a session.
func TestSpansOfHandshakes(t *testing.T) {
	b := newBackend(t)
	f, spans := traced(t, 1, b.addr())
	f.move(50, routing.Committed)

	client, _ := f.open(b, "7")
	s, a := span(t, spans)
	if a["unitgate.verdict"] != "served" || a["http.response.status_code"] != "101" || a["unitgate.unit_type"] != testType || len(s.Links) != 0 {
		t.Errorf("served: %v, links %v", a, s.Links)
	}
	if s.EndTime.Before(s.StartTime) || s.EndTime.After(time.Now()) {
		t.Errorf("from %s to %s", s.StartTime, s.EndTime)
	}
	_ = client.Close()

	f.connect(requestFor("60")).head()
	if s, a = span(t, spans); a["unitgate.verdict"] != "redirect" || a["http.response.status_code"] != "302" || a["unitgate.reason"] != "" {
		t.Errorf("redirected: %v", a)
	}
	for k, v := range a {
		if v == "60" {
			t.Errorf("the routerId stands in %s", k)
		}
	}
	f.connect(with("7", "Sec-WebSocket-Protocol: a", "routerId: 8\t9")).head()
	if _, a = span(t, spans); a["http.response.status_code"] != "400" || a["unitgate.reason"] == "" {
		t.Errorf("refused: %v", a)
	}
	left := f.connect(requestFor("7"))
	_, _ = b.next()
	_ = left.Close()
	if _, a = span(t, spans); a["unitgate.verdict"] != "client_left" || a["http.response.status_code"] != "" {
		t.Errorf("left: %v", a)
	}
	silent := f.connect("")
	_ = silent.Close()
	if _, a = span(t, spans); a["unitgate.verdict"] != "client_left" {
		t.Errorf("never asked: %v", a)
	}
	refused := f.connect(requestFor("7"))
	o, _ := b.next()
	o.send([]byte("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")...)
	refused.head()
	if s, a = span(t, spans); a["unitgate.verdict"] != "passed_on" || a["http.response.status_code"] != "503" || s.Status.Code.String() != "Error" {
		t.Errorf("refused by the origin: %v, %v", a, s.Status)
	}
}

// TestMovedUsersLinkToTheirCutover, whether they come to the old unit or to the new one; a client's own trace is linked to,
// and cannot make itself heard.
func TestMovedUsersLinkToTheirCutover(t *testing.T) {
	b := newBackend(t)
	f, spans := traced(t, 1, b.addr())
	c := events.Cutover{ID: "c1", Traceparent: events.RootTraceparent(events.TraceID{7})}
	ids, _ := c.Trace()
	from, to := rules(t, 50), rules(t, 100)
	wave := routing.Compare(from, to).Split(1)[0]
	install := func(from, to *routing.Rules, wave routing.Keys) {
		v := f.view(routing.CompileCutover(from, to, []routing.Wave{{Keys: wave, Phase: routing.Committed}}))
		v.Types[testType].Trace = ids
		if err := f.Install(context.Background(), v); err != nil {
			t.Fatal(err)
		}
	}
	linked := func(s tracetest.SpanStub) bool {
		return len(s.Links) > 0 && s.Links[len(s.Links)-1].SpanContext.TraceID() == trace.TraceID(ids.ID) && s.Links[len(s.Links)-1].SpanContext.SpanID() == trace.SpanID(ids.Root)
	}
	install(from, to, wave)
	f.open(b, "60")
	if s, a := span(t, spans); !linked(s) || s.Parent.IsValid() || s.SpanContext.TraceID() == trace.TraceID(ids.ID) {
		t.Errorf("moved here: %v, links %v, parent %v", a, s.Links, s.Parent)
	}
	f.open(b, "10")
	if s, a := span(t, spans); len(s.Links) != 0 {
		t.Errorf("stays: %v, links %v", a, s.Links)
	}
	install(to, from, routing.Compare(to, from).Split(1)[0])
	f.connect(requestFor("60")).head()
	if s, a := span(t, spans); !linked(s) {
		t.Errorf("moved away: %v, links %v", a, s.Links)
	}
	f.connect(with("60", "traceparent: 00-"+clients+"-00f067aa0ba902b7-01")).head()
	s, a := span(t, spans)
	if len(s.Links) != 2 || s.Links[0].SpanContext.TraceID().String() != clients || s.Parent.IsValid() || !linked(s) {
		t.Errorf("with a trace of its own: %v, links %v, parent %v", a, s.Links, s.Parent)
	}
}

// TestNobodyForcesASpan: a client that wants its trace recorded is drawn like any other.
func TestNobodyForcesASpan(t *testing.T) {
	b := newBackend(t)
	f, spans := traced(t, 1e-12, b.addr())
	f.own()
	for range 50 {
		c := f.connect(with("7", "traceparent: 00-"+clients+"-00f067aa0ba902b7-01"))
		_, _ = b.next()
		_ = c.Close()
	}
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("%d spans of 50 handshakes, of which none is to have one", n)
	}
}

// TestShareOfSpans holds the draw against its share, and against its price.
func TestShareOfSpans(t *testing.T) {
	g := newGlimpses(sdktrace.NewTracerProvider(), 0.01)
	const n = 100_000
	drawn := 0
	for range n {
		if g.draw() != nil {
			drawn++
		}
	}
	if drawn < n/200 || drawn > n/50 { // nine deviations off are half of it
		t.Errorf("%d of %d are drawn, want about %d", drawn, n, n/100)
	}
	g = newGlimpses(sdktrace.NewTracerProvider(), 1e-12)
	var h *glimpse
	if cost := testing.AllocsPerRun(1000, func() { h = g.draw() }); cost != 0 || h != nil {
		t.Errorf("a handshake without a span costs %v allocations", cost)
	}
	if g = newGlimpses(nil, 1); g.draw() != nil {
		t.Error("drawn, and nobody traces")
	}
}

// TestSpanOfAPassedOnHandshake: the edge that passes on says so, the one that serves says that.
func TestSpanOfAPassedOnHandshake(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	p := startPair(t, Config{Tracing: provider, TraceShare: 1}, Config{})
	p.open("70")
	if _, a := span(t, spans); a["unitgate.verdict"] != "proxy" || a["unitgate.proxied.unit"] != "there" || a["http.response.status_code"] != "101" {
		t.Errorf("passed on: %v", a)
	}
}
