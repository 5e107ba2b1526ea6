package command_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/command"
)

const (
	callerTrace = "0af7651916cd43dd8448eb211c80319c"
	callerSpan  = "b7ad6b7169203331"
	callers     = "00-" + callerTrace + "-" + callerSpan + "-01"
)

// recorder keeps spans at once.
func recorder() (*tracetest.InMemoryExporter, trace.TracerProvider) {
	spans := tracetest.NewInMemoryExporter()
	return spans, sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
}

// take are the spans since the last call: those of appends, then the command's.
func take(spans *tracetest.InMemoryExporter) (appends tracetest.SpanStubs, cmd tracetest.SpanStub) {
	list := spans.GetSpans()
	spans.Reset()
	if len(list) == 0 {
		return nil, cmd
	}
	return list[:len(list)-1], list[len(list)-1]
}

func about(s tracetest.SpanStub) map[string]string {
	out := map[string]string{}
	for _, kv := range s.Attributes {
		out[string(kv.Key)] = kv.Value.String()
	}
	return out
}

// split gives unbj the slots of a hundred from at on.
func split(at uint32) map[string][]routing.Range {
	return map[string][]routing.Range{"center": {{From: 0, To: at - 1}}, "unbj": {{From: at, To: 99}}}
}

// TestSpansOfCommands: below the caller, or below the cutover that the command is about.
func TestSpansOfCommands(t *testing.T) {
	spans, by := recorder()
	h := handlerOn(t, journal.NewMemory("shop")).Traced(by)
	env := withUnits()
	config := env.Command.(events.ApplyConfig)
	config.Config.Rules = map[string]events.RulesConfig{"unit_type": {Ranges: split(50)}}
	env.Command, env.Traceparent = config, callers
	if o := h.Do(t.Context(), env); !o.OK {
		t.Fatal(o.Error)
	}
	appends, s := take(spans)
	if s.Name != "config.apply" || s.SpanKind != trace.SpanKindInternal || s.SpanContext.TraceID().String() != callerTrace || s.Parent.SpanID().String() != callerSpan {
		t.Errorf("with a caller: %s %v below %v", s.Name, s.SpanContext, s.Parent)
	}
	if len(appends) != 1 || appends[0].SpanKind != trace.SpanKindProducer || appends[0].Parent.SpanID() != s.SpanContext.SpanID() || about(appends[0])["messaging.system"] != "nats" {
		t.Errorf("its append: %+v", appends)
	}
	if o := h.Do(t.Context(), env); !o.OK {
		t.Fatal(o.Error)
	}
	if appends, s = take(spans); len(appends) != 0 || about(s)["unitgate.command.repeated"] != "true" {
		t.Errorf("repeated: %d appends, %v", len(appends), about(s))
	}

	propose := events.Envelope{ID: uuid.NewString(), Actor: "test", Traceparent: callers, Command: events.PreviewCutover{Ranges: split(60)}}
	o := h.Do(t.Context(), propose)
	if !o.OK {
		t.Fatal(o.Error)
	}
	c := events.Cutover{ID: "c1", Traceparent: callers}
	tr, _ := c.Trace()
	if _, s = take(spans); s.SpanContext.TraceID() != trace.TraceID(tr.ID) || s.Parent.SpanID() != trace.SpanID(tr.Root) || about(s)["unitgate.cutover.id"] != "c1" || len(s.Links) != 0 {
		t.Errorf("a proposal is %v below %v, want below the root %x; links %v", s.SpanContext, s.Parent, tr.Root, s.Links)
	}

	const other = "4bf92f3577b34da6a3ce929d0e0e4736"
	abort := events.Envelope{ID: uuid.NewString(), Actor: "test", Traceparent: "00-" + other + "-00f067aa0ba902b7-01", Command: events.AbortCutover{Cutover: "c1"}}
	if o := h.Do(t.Context(), abort); !o.OK {
		t.Fatal(o.Error)
	}
	_, s = take(spans)
	if s.SpanContext.TraceID() != trace.TraceID(tr.ID) || s.Parent.SpanID() != trace.SpanID(tr.Root) || len(s.Links) != 1 || s.Links[0].SpanContext.TraceID().String() != other {
		t.Errorf("a command about it: %v below %v, links %v", s.SpanContext, s.Parent, s.Links)
	}
	abort.ID, abort.Traceparent = uuid.NewString(), command.NewTraceparent()
	if o := h.Do(t.Context(), abort); o.OK {
		t.Fatal("aborted twice")
	}
	if _, s = take(spans); about(s)["error.type"] == "" || s.Status.Code.String() != "Unset" || len(s.Links) != 0 {
		t.Errorf("a rejection: %v, %v, links %v", about(s), s.Status, s.Links)
	}
}

// TestSpansOfMessages: what came by the api is served, what came durably is consumed.
func TestSpansOfMessages(t *testing.T) {
	spans, by := recorder()
	c := control(t, journaltest.StartServer(t), func(c *controller) { c.traced = by })
	cl := command.NewClient(c.nc, "shop")
	config := withUnits().Command
	if o, err := cl.Do(t.Context(), "config", "apply", command.Request{Actor: "test", Traceparent: callers, Data: config}); err != nil || !o.OK {
		t.Fatalf("%+v, %v", o, err)
	}
	ticket := publish(t, cl, command.Request{Actor: "test", Data: events.Unit{ID: "third"}}, time.Minute)
	outcome(t, cl, ticket.ID)
	want := map[string]trace.SpanKind{
		"process unitgate.api.{namespace}.config.apply": trace.SpanKindServer,
		"process unitgate.cmd.{namespace}.unit.put":     trace.SpanKindConsumer,
	}
	for _, s := range spans.GetSpans() {
		kind, ok := want[s.Name]
		if !ok {
			continue
		}
		delete(want, s.Name)
		a := about(s)
		if s.SpanKind != kind || a["messaging.operation.type"] != "process" || a["messaging.message.id"] == "" || !slices.Contains([]string{"unitgate.api.shop.config.apply", "unitgate.cmd.shop.unit.put"}, a["messaging.destination.name"]) {
			t.Errorf("%s: %v, %v", s.Name, s.SpanKind, a)
		}
		if kind == trace.SpanKindServer && s.Parent.SpanID().String() != callerSpan {
			t.Errorf("%s is below %v", s.Name, s.Parent)
		}
	}
	if len(want) > 0 {
		t.Errorf("no spans %v among %d", want, len(spans.GetSpans()))
	}
}
