package agent

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/events"
)

// fencedAt is a state in which wave 0 of c1 is fenced since a sequence.
func fencedAt(seq uint64) *events.State {
	s := events.NewState()
	s.Seq = seq
	s.Cutovers["c1"] = events.Cutover{
		ID: "c1", Number: 1, State: events.Started, Traceparent: events.RootTraceparent(events.TraceID{5}),
		Waves: []events.Wave{{State: events.FencedWave, FenceSeq: seq}},
	}
	return s
}

func reporting(applied uint64, f ...events.FenceReport) *events.EdgeReport {
	return &events.EdgeReport{Applied: applied, Fences: f}
}

// TestSpansOfAFence: applied once it is stored, evicted once it is drained; one that ends before is said to have failed,
// and one from before the process is nobody's.
func TestSpansOfAFence(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	tr := newTraces(provider, Self{Namespace: "shop", Unit: "unbj", ID: "unbj-1"})
	ended := func() (out []string) {
		for _, s := range spans.GetSpans() {
			out = append(out, s.Name+" "+s.Status.Code.String())
			c := events.Cutover{ID: "c1", Traceparent: events.RootTraceparent(events.TraceID{5})}
			ids, _ := c.Trace()
			if s.Name != "edge.catchup" && (s.SpanContext.TraceID() != trace.TraceID(ids.ID) || s.Parent.SpanID() != trace.SpanID(ids.Wave(12)) && s.Parent.SpanID() != trace.SpanID(ids.Wave(20))) {
				t.Errorf("%s is below %v", s.Name, s.Parent)
			}
		}
		spans.Reset()
		return out
	}
	expect := func(when string, want ...string) {
		t.Helper()
		got := ended()
		if len(got) != len(want) {
			t.Fatalf("%s: %v, want %v", when, got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
	}
	tr.heard(fencedAt(8), 10)
	tr.progressed(fencedAt(8), 8, reporting(8, events.FenceReport{Cutover: "c1", Fence: 8, Drained: true}))
	expect("history")
	tr.catchUp(fencedAt(8), 10, true)
	expect("not caught up")
	caught := fencedAt(8)
	caught.Seq = 10
	tr.catchUp(caught, 10, true)
	if list := spans.GetSpans(); len(list) != 1 || len(list[0].Links) != 2 || list[0].Parent.IsValid() {
		t.Errorf("the start: %+v, want links to root and wave", list)
	}
	expect("caught up", "edge.catchup Unset")
	tr.catchUp(caught, 10, true)

	tr.heard(fencedAt(12), 10)
	tr.heard(fencedAt(12), 10)
	tr.progressed(fencedAt(12), 11, reporting(11))
	tr.progressed(fencedAt(12), 12, reporting(11))
	expect("installed, not stored")
	tr.progressed(fencedAt(12), 12, reporting(12, events.FenceReport{Cutover: "c1", Fence: 12, Evicted: 3}))
	expect("stored, not drained", "edge.apply Unset")
	tr.progressed(fencedAt(12), 12, reporting(12, events.FenceReport{Cutover: "c1", Fence: 12, Evicted: 7, Drained: true}))
	if list := spans.GetSpans(); len(list) == 1 {
		for _, kv := range list[0].Attributes {
			if kv.Key == "unitgate.sessions.evicted" && kv.Value.AsInt64() != 7 {
				t.Errorf("evicted %d, want 7", kv.Value.AsInt64())
			}
		}
	}
	expect("drained", "edge.evict Unset")
	tr.progressed(fencedAt(12), 12, reporting(12, events.FenceReport{Cutover: "c1", Fence: 12, Evicted: 7, Drained: true}))
	expect("again")

	tr.heard(fencedAt(20), 10)
	tr.progressed(fencedAt(20), 20, reporting(12))
	tr.progressed(events.NewState(), 21, reporting(21))
	expect("lifted before it was drained", "edge.apply Error", "edge.evict Error")
}

// An edge that nobody traces does nothing for it.
func TestNoSpansUntraced(t *testing.T) {
	tr := newTraces(nil, Self{})
	tr.heard(fencedAt(12), 0)
	tr.progressed(fencedAt(12), 12, reporting(12))
	tr.catchUp(fencedAt(12), 0, true)
	tr.end()
	if tr.on || tr.fences != nil {
		t.Errorf("%+v", tr)
	}
}
