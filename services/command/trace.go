package command

import (
	"context"
	"encoding/json"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/telemetry/wanted"
)

func tracerOf(by trace.TracerProvider) trace.Tracer {
	return by.Tracer("github.com/unitgate/unitgate/services/command")
}

// message is what a command came in.
type message struct {
	prefix, subject string
	queued          bool // durably
}

// taken is what happened to a command, for its spans. They are made at its end, when it is known which cutover it belongs
// to: only then a proposal has one.
type taken struct {
	began   time.Time
	appends []attempt // every attempt
}

// attempt is one attempt to store the command's event.
type attempt struct {
	rec          events.Record
	began, ended time.Time
	err          error
}

func (t *taken) appending(rec events.Record) {
	t.appends = append(t.appends, attempt{rec: rec, began: time.Now()})
}

func (t *taken) appended(rec events.Record, err error) {
	a := &t.appends[len(t.appends)-1]
	if a.ended, a.err = time.Now(), err; err == nil {
		a.rec = rec
	}
}

// trace emits a command's spans. A command about a cutover stands below the cutover's root, and links to the span of its
// caller. Another one stands below its caller's; if that has none, it takes the ids that its traceparent names.
func (h *Handler) trace(env events.Envelope, w way, t *taken, o Outcome) {
	ctx := context.Background() // the spans outlive the command's
	ended := trace.WithTimestamp(time.Now())
	name := events.NameOf(env.Command)
	said := name.Entity + "." + name.Verb
	opts := []trace.SpanStartOption{trace.WithTimestamp(t.began), trace.WithAttributes(
		attribute.String("unitgate.namespace", h.projector.Journal().Namespace()),
		attribute.String("unitgate.command", said),
		attribute.String("unitgate.command.id", env.ID),
		attribute.String("unitgate.actor", env.Actor),
	)}
	if m := w.message; m.subject != "" {
		kind, template := trace.SpanKindServer, m.prefix+".{namespace}."+said
		if m.queued {
			kind = trace.SpanKindConsumer
		}
		said = "process " + template
		opts = append(opts, trace.WithSpanKind(kind), trace.WithAttributes(append(messaging("process", m.subject, template),
			attribute.String("messaging.message.id", env.ID))...))
	}
	id, span, caller := events.ParseTraceparent(env.Traceparent)
	c := h.cutoverOf(env, o)
	tr, belongs := c.Trace()
	switch {
	case belongs:
		ctx = trace.ContextWithRemoteSpanContext(ctx, wanted.Span(tr.ID, tr.Root))
		opts = append(opts, trace.WithAttributes(attribute.String("unitgate.cutover.id", c.ID)))
		if caller && env.Traceparent != c.Traceparent && env.Traceparent != events.RootTraceparent(id) {
			opts = append(opts, trace.WithLinks(trace.Link{SpanContext: wanted.Span(id, span)}))
		}
	case caller && env.Traceparent == events.RootTraceparent(id):
		ctx = wanted.With(ctx, wanted.Span(id, span))
	case caller:
		ctx = remote(env.Traceparent)
	}
	_, s := h.tracer.Start(ctx, said, opts...)
	if s.IsRecording() {
		for _, a := range t.appends {
			h.traceAppend(trace.ContextWithSpan(context.Background(), s), a)
		}
		if o.OK {
			s.SetAttributes(attribute.Int64("unitgate.seq", int64(o.Seq)), attribute.Bool("unitgate.command.repeated", len(t.appends) == 0)) //nolint:gosec // a sequence
		} else if o.Error != nil {
			s.SetAttributes(attribute.String("error.type", o.Error.Code))
			if pending(ctx, o) != nil { // a rejection by a rule is no failure of ours
				s.SetStatus(codes.Error, o.Error.Error())
			}
		}
	}
	s.End(ended)
}

// traceAppend emits what it took to store an event, or not to.
func (h *Handler) traceAppend(ctx context.Context, a attempt) {
	template := "unitgate.evt.{namespace}." + a.rec.Entity + "." + a.rec.Verb
	_, s := h.tracer.Start(ctx, "send "+template, trace.WithTimestamp(a.began), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(messaging("send", "unitgate.evt."+h.projector.Journal().Namespace()+"."+a.rec.Entity+"."+a.rec.Verb+"."+a.rec.CommandID, template)...),
		trace.WithAttributes(attribute.String("messaging.message.id", a.rec.CommandID), attribute.Int("messaging.message.body.size", len(a.rec.Data))))
	if a.err != nil {
		s.SetStatus(codes.Error, a.err.Error())
	} else {
		s.SetAttributes(attribute.Int64("unitgate.seq", int64(a.rec.Seq))) //nolint:gosec // a sequence
	}
	s.End(trace.WithTimestamp(a.ended))
}

// messaging are the attributes that OpenTelemetry's conventions for messaging ask for.
func messaging(operation, subject, template string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", operation),
		attribute.String("messaging.operation.type", operation),
		attribute.String("messaging.destination.name", subject),
		attribute.String("messaging.destination.template", template),
	}
}

// remote is the caller's span, with the caller's word on whether it is recorded.
func remote(traceparent string) context.Context {
	return propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": traceparent})
}

// cutoverOf is the cutover that a command is about, or has made.
func (h *Handler) cutoverOf(env events.Envelope, o Outcome) events.Cutover {
	id := events.CutoverOf(env.Command)
	switch env.Command.(type) {
	case events.PreviewCutover, events.RollbackCutover:
		var made struct{ ID string }
		_ = json.Unmarshal(o.Data, &made) // a rejection has none
		id = made.ID
	default:
	}
	return h.projector.State().Cutovers[id]
}
