package agent

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/unitgate/unitgate/events"
)

// traces emits what this edge does for a wave: `edge.apply` from the moment at which it hears of the fence until every
// poller decides by it and it is on disk, and `edge.evict` from when the pollers do until no session of the fenced keys is
// left here. Both stand below the wave's span, whose id follows from the journal.
//
// A fence that was there before this process is history: it gets no spans but a link from `edge.catchup`, the span of the
// edge's start. The goroutine of loop owns it.
type traces struct {
	tracer trace.Tracer
	on     bool
	self   Self
	began  time.Time
	caught bool // edge.catchup is emitted
	fences map[uint64]*fenceSpans
}

// fenceSpans are those of one fence; a nil span has not begun, or has ended.
type fenceSpans struct {
	ctx          context.Context //nolint:containedctx // of the wave's span
	about        []attribute.KeyValue
	apply, evict trace.Span
	evicting     bool // evict has begun
}

func newTraces(by trace.TracerProvider, self Self) traces {
	_, off := by.(noop.TracerProvider)
	if by == nil || off {
		return traces{}
	}
	return traces{tracer: by.Tracer("github.com/unitgate/unitgate/edge/agent"), on: true, self: self, began: time.Now(), fences: map[uint64]*fenceSpans{}}
}

// heard notes a state that the machine is about to be given. Fences up to the sequence history are none of this process's.
func (t *traces) heard(s *events.State, history uint64) {
	if !t.on {
		return
	}
	for _, f := range fencesOf(s) {
		c := s.Cutovers[f.cutover]
		ids, ok := c.Trace()
		if _, known := t.fences[f.seq]; known || !ok || f.seq <= history {
			continue
		}
		spans := &fenceSpans{
			ctx: trace.ContextWithRemoteSpanContext(context.Background(), spanContext(ids.ID, ids.Wave(f.seq))),
			about: append(t.about(),
				attribute.String("unitgate.cutover.id", f.cutover), attribute.Int("unitgate.wave", f.wave),
				attribute.Int64("unitgate.fence.seq", int64(f.seq))), //nolint:gosec // a sequence
		}
		_, spans.apply = t.tracer.Start(spans.ctx, "edge.apply", trace.WithAttributes(spans.about...))
		t.fences[f.seq] = spans
	}
}

func (t *traces) about() []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("unitgate.namespace", t.self.Namespace),
		attribute.String("unitgate.edge.id", t.self.ID),
		attribute.String("unitgate.unit", t.self.Unit),
	}
}

// progressed looks at what the machine says of its fences after a step.
func (t *traces) progressed(known *events.State, installed uint64, r *events.EdgeReport) {
	if !t.on || len(t.fences) == 0 {
		return
	}
	for seq, f := range t.fences {
		if installed >= seq && !f.evicting {
			f.evicting = true
			_, f.evict = t.tracer.Start(f.ctx, "edge.evict", trace.WithAttributes(f.about...))
		}
	}
	for _, rep := range r.Fences {
		f := t.fences[rep.Fence]
		if f == nil {
			continue
		}
		if f.apply != nil {
			f.apply.SetAttributes(attribute.Int64("unitgate.seq", int64(r.Applied))) //nolint:gosec // a sequence
			f.apply.End()
			f.apply = nil
		}
		if f.evict != nil {
			f.evict.SetAttributes(attribute.Int("unitgate.sessions.evicted", rep.Evicted))
			if rep.Drained {
				f.evict.End()
				f.evict = nil
			}
		}
	}
	t.forget(known)
}

// forget ends the spans of fences that the newest state does not hold any more.
func (t *traces) forget(known *events.State) {
	held := map[uint64]bool{}
	for _, f := range fencesOf(known) {
		held[f.seq] = true
	}
	for seq, f := range t.fences {
		if held[seq] {
			continue
		}
		for _, s := range []trace.Span{f.apply, f.evict} {
			if s != nil {
				s.SetStatus(codes.Error, "the fence ended before this edge had finished")
				s.End()
			}
		}
		delete(t.fences, seq)
	}
}

// catchUp emits the span of the edge's start once it decides by what the journal held then.
func (t *traces) catchUp(installed *events.State, history uint64, read bool) {
	if !t.on || t.caught || !read || installed == nil || installed.Seq < history {
		return
	}
	t.caught = true
	var links []trace.Link
	for _, c := range installed.CutoverList() {
		ids, ok := c.Trace()
		if !ok || !c.State.Running() {
			continue
		}
		links = append(links, trace.Link{SpanContext: spanContext(ids.ID, ids.Root)})
		if w := c.FencedWave(); w >= 0 {
			links = append(links, trace.Link{SpanContext: spanContext(ids.ID, ids.Wave(c.Waves[w].FenceSeq))})
		}
	}
	_, s := t.tracer.Start(context.Background(), "edge.catchup", trace.WithTimestamp(t.began), trace.WithLinks(links...),
		trace.WithAttributes(append(t.about(), attribute.Int64("unitgate.seq", int64(installed.Seq)))...)) //nolint:gosec // a sequence
	s.End()
}

// end ends what is under way: the process stops.
func (t *traces) end() {
	t.forget(nil)
}

// spanContext is that of a span which the journal names.
func spanContext(id events.TraceID, span events.SpanID) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(id), SpanID: trace.SpanID(span), TraceFlags: trace.FlagsSampled, Remote: true})
}
