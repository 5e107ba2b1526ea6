package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/integration/otlp"
	"github.com/unitgate/unitgate/services/telemetry"
	"github.com/unitgate/unitgate/services/telemetry/wanted"
)

// clean takes every variable away that would decide in a test's place.
func clean(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
		"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_PROPAGATORS",
	} {
		t.Setenv(name, "")
	}
}

func start(t *testing.T, cfg telemetry.Config) *telemetry.T {
	t.Helper()
	tel, err := telemetry.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.WithoutCancel(t.Context())) })
	return tel
}

func receiver(t *testing.T) *otlp.Receiver {
	t.Helper()
	r, err := otlp.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestNothingIsTracedUnlessAskedFor(t *testing.T) {
	for name, set := range map[string]map[string]string{
		"unset":       {},
		"disabled":    {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
		"no exporter": {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
	} {
		t.Run(name, func(t *testing.T) {
			clean(t)
			for k, v := range set {
				t.Setenv(k, v)
			}
			tel := start(t, telemetry.Config{Service: telemetry.Edge})
			_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "x")
			if tel.Tracing() || span.IsRecording() || tel.Handshakes() != 0 {
				t.Errorf("tracing %t, recording %t, handshakes %v: want nothing", tel.Tracing(), span.IsRecording(), tel.Handshakes())
			}
		})
	}
}

func TestSpansArriveByEveryWay(t *testing.T) {
	r := receiver(t)
	for _, c := range []struct {
		name, flag string
		env        map[string]string
	}{
		{"flag, HTTP", r.HTTP(), nil},
		{"flag, gRPC", r.GRPC(), map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}},
		{"endpoint, HTTP", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": r.HTTP()}},
		{"endpoint, gRPC", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": r.GRPC(), "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}},
		{"traces endpoint", "", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": r.HTTP() + "/v1/traces", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}},
		{"flag wins", r.HTTP(), map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}},
		{"flag wins over a signal's", r.HTTP(), map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t)
			t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop")
			t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab")
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			tel := start(t, telemetry.Config{Service: telemetry.Edge, OTLP: c.flag, Attributes: []attribute.KeyValue{attribute.String("unitgate.unit", "unbj")}})
			_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), c.name)
			span.End()
			if err := tel.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got *otlp.Span
			for _, s := range r.Spans() {
				if s.Name == c.name {
					got = &s
				}
			}
			switch {
			case got == nil:
				t.Fatal("the span has not arrived")
			case got.ID != span.SpanContext().SpanID().String() || got.Service != "unitgate-edge" || got.Header["x-tenant"] != "shop":
				t.Errorf("got %+v", got)
			}
			for k, want := range map[string]string{"unitgate.unit": "unbj", "deployment.environment.name": "lab", "service.namespace": "unitgate"} {
				if got.Resource[k] != want {
					t.Errorf("resource %s is %q, want %q", k, got.Resource[k], want)
				}
			}
			if got.Resource["service.instance.id"] == "" || got.Resource["service.version"] == "" {
				t.Errorf("resource %v does not say which process of which version it is", got.Resource)
			}
		})
	}
}

func TestServiceNameIsTheOperators(t *testing.T) {
	clean(t)
	r := receiver(t)
	t.Setenv("OTEL_SERVICE_NAME", "gate")
	tel := start(t, telemetry.Config{Service: telemetry.Control, OTLP: r.HTTP()})
	_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "x")
	span.End()
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := r.Spans(); len(s) != 1 || s[0].Service != "gate" {
		t.Errorf("spans %+v: want one of service gate, sent by the shutdown", s)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	for _, at := range []string{"collector", "ftp://collector:4317"} {
		clean(t)
		if _, err := telemetry.Start(t.Context(), telemetry.Config{Service: telemetry.Edge, OTLP: at}); err == nil || !strings.Contains(err.Error(), at) {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// What a host has in its environment keeps nothing from serving: it is ignored, with a warning that names it, and the rest
// is as if it were not there.
func TestEnvironmentStopsNothing(t *testing.T) {
	const collector = "http://127.0.0.1:4318"
	for _, c := range []struct {
		flag, name, value string
		traces            bool
	}{
		{"", "OTEL_TRACES_EXPORTER", "console", false},
		{"", "OTEL_TRACES_EXPORTER", "zipkin", false},
		{collector, "OTEL_TRACES_EXPORTER", "otlp,console", true},
		{collector, "OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", true},
		{collector, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "kafka", true},
		{collector, "OTEL_TRACES_SAMPLER", "jaeger_remote", true},
		{collector, "OTEL_TRACES_SAMPLER_ARG", "1.5", true},
		{collector, "OTEL_TRACES_SAMPLER_ARG", "NaN", true},
		{collector, "OTEL_RESOURCE_ATTRIBUTES", "nonsense", true},
		{"", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1", true},
		{collector, "OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem", true},
		{"http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/nowhere/ca.pem", true},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			clean(t)
			t.Setenv(c.name, c.value)
			var said bytes.Buffer
			log := slog.New(slog.NewJSONHandler(&said, nil))
			tel := start(t, telemetry.Config{Service: telemetry.Edge, OTLP: c.flag, Log: log})
			if tel.Tracing() != c.traces {
				t.Errorf("it traces: %t", tel.Tracing())
			}
			name := c.name
			if strings.Contains(name, "CERTIFICATE") || strings.Contains(name, "ENDPOINT") {
				name = "" // the SDK names the file or the value
			}
			if !strings.Contains(said.String(), name) || said.Len() == 0 {
				t.Errorf("it says %s", said.String())
			}
			for line := range strings.Lines(said.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("no JSON: %s", line)
				}
			}
		})
	}
}

func TestShareOfHandshakes(t *testing.T) {
	for _, c := range []struct {
		sampler, arg string
		want         float64
		commands     bool
	}{
		{"", "", 0.01, true},
		{"", "0.25", 0.25, true},
		{"traceidratio", "0.5", 0.5, true},
		{"parentbased_traceidratio", "0", 0, true},
		{"always_on", "", 1, true},
		{"parentbased_always_on", "0.1", 1, true},
		{"always_off", "", 0, false},
	} {
		t.Run(c.sampler+" "+c.arg, func(t *testing.T) {
			clean(t)
			t.Setenv("OTEL_TRACES_SAMPLER", c.sampler)
			t.Setenv("OTEL_TRACES_SAMPLER_ARG", c.arg)
			tel := start(t, telemetry.Config{Service: telemetry.Edge, OTLP: "http://127.0.0.1:1"})
			_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "x")
			if tel.Handshakes() != c.want || span.SpanContext().IsSampled() != c.commands {
				t.Errorf("handshakes %v, commands %t; want %v, %t", tel.Handshakes(), span.SpanContext().IsSampled(), c.want, c.commands)
			}
		})
	}
}

func TestWantedIDs(t *testing.T) {
	clean(t)
	tel := start(t, telemetry.Config{Service: telemetry.Control, OTLP: "http://127.0.0.1:1"})
	tracer := tel.TracerProvider().Tracer("test")
	want := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3, 4}})

	_, root := tracer.Start(wanted.With(t.Context(), want), "root")
	if sc := root.SpanContext(); sc.TraceID() != want.TraceID() || sc.SpanID() != want.SpanID() {
		t.Errorf("root has %v %v", sc.TraceID(), sc.SpanID())
	}
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{5}, TraceFlags: trace.FlagsSampled, Remote: true})
	_, child := tracer.Start(wanted.With(trace.ContextWithRemoteSpanContext(t.Context(), parent), want), "child")
	if sc := child.SpanContext(); sc.TraceID() != want.TraceID() || sc.SpanID() != want.SpanID() {
		t.Errorf("child has %v %v", sc.TraceID(), sc.SpanID())
	}
	_, a := tracer.Start(t.Context(), "a")
	_, b := tracer.Start(t.Context(), "b")
	if a.SpanContext().TraceID() == b.SpanContext().TraceID() || a.SpanContext().SpanID() == b.SpanContext().SpanID() {
		t.Error("two spans that want nothing have the same ids")
	}
}

// A caller that does not record its own work does not want ours either.
func TestCallersThatDoNotSampleAreHeard(t *testing.T) {
	clean(t)
	tel := start(t, telemetry.Config{Service: telemetry.Control, OTLP: "http://127.0.0.1:1"})
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{5}, Remote: true})
	_, span := tel.TracerProvider().Tracer("test").Start(trace.ContextWithRemoteSpanContext(t.Context(), parent), "x")
	if span.IsRecording() {
		t.Error("recorded")
	}
}

func TestShutdownIsBounded(t *testing.T) {
	clean(t)
	tel := start(t, telemetry.Config{Service: telemetry.Edge, OTLP: blackHole(t)})
	_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "x")
	span.End()
	began := time.Now()
	_ = tel.Shutdown(t.Context())
	if d := time.Since(began); d > telemetry.ShutdownWithin+5*time.Second { // under load; without the bound it takes 10 s and more
		t.Errorf("took %s", d)
	}
}
