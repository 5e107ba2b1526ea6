// Package telemetry decides where spans and measurements go. It is the only package that knows OpenTelemetry's SDK: all
// others emit by the API alone, with the providers that their configuration hands them, and there are no global ones.
//
// Where spans go is said by the standard variables (https://opentelemetry.io/docs/specs/otel/protocol/exporter/) or by
// Config.OTLP; without either nothing is sent, and the tracer provider is one that does nothing. A collector that is
// away, slow or silent costs spans: those that do not fit into the queue are dropped, and nobody waits for it.
package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Names of services, as OTEL_SERVICE_NAME overrides them.
const (
	Control = "unitgate-control"
	Edge    = "unitgate-edge"
)

// ShutdownWithin is how long a process that ends gives its last spans, see T.Shutdown.
const ShutdownWithin = 2 * time.Second

// Config says who emits, and where to.
type Config struct {
	Service    string               // Control or Edge
	OTLP       string               // URL of a collector, as OTEL_EXPORTER_OTLP_ENDPOINT; "": what the variables say
	Attributes []attribute.KeyValue // of the resource, besides those that every one has
	Log        *slog.Logger         // told when the collector goes away and comes back; nil: nobody
}

// T is the telemetry of one service. Its methods may be used by any goroutine.
type T struct {
	spans      *sdktrace.TracerProvider // nil: nothing is traced
	tracer     trace.TracerProvider
	meter      meters
	propagator propagation.TextMapPropagator
	handshakes float64
}

// Start makes the providers. It does not wait for a collector. An error says what is wrong with cfg; what is wrong with
// the environment is logged.
func Start(ctx context.Context, cfg Config) (*T, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	v := variables{cfg.Log}
	v.hearSDK()
	res := describe(ctx, cfg)
	t := &T{tracer: noop.NewTracerProvider(), propagator: propagators()}
	var err error
	if t.meter, err = startMeters(cfg, res); err != nil {
		return nil, err
	}
	e, err := exporter(ctx, cfg.OTLP, v)
	if err != nil || e == nil {
		return t, err
	}
	s := sampling(v)
	t.handshakes = s.handshakes
	t.spans = sdktrace.NewTracerProvider(
		sdktrace.WithResource(res), sdktrace.WithSampler(s.provider), sdktrace.WithIDGenerator(wanting{}),
		sdktrace.WithSpanProcessor(sdktrace.NewBatchSpanProcessor(&watched{SpanExporter: e, log: cfg.Log}, batching()...)))
	t.tracer = t.spans
	return t, nil
}

// TracerProvider never is nil.
func (t *T) TracerProvider() trace.TracerProvider { return t.tracer }

// MeterProvider never is nil.
func (t *T) MeterProvider() metric.MeterProvider { return t.meter.provider() }

// Metrics shows the measurements to Prometheus, on an admin listener.
func (t *T) Metrics() http.Handler { return t.meter.handler() }

// Propagator carries trace contexts in headers.
func (t *T) Propagator() propagation.TextMapPropagator { return t.propagator }

// Tracing reports whether spans go anywhere.
func (t *T) Tracing() bool { return t.spans != nil }

// Handshakes is the share of handshakes, 0 to 1, of which a span is to be made.
func (t *T) Handshakes() float64 { return t.handshakes }

// Flush sends the spans that wait, within ctx.
func (t *T) Flush(ctx context.Context) error {
	if t.spans == nil {
		return nil
	}
	return t.spans.ForceFlush(ctx)
}

// Shutdown sends the last spans, at most until ctx ends or ShutdownWithin is over. Later ones are lost.
func (t *T) Shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ShutdownWithin)
	defer cancel()
	err := t.meter.shutdown(ctx)
	if t.spans != nil {
		err = errors.Join(err, t.spans.Shutdown(ctx))
	}
	return err
}

// propagators are W3C Trace Context and Baggage. OTEL_PROPAGATORS=none turns both off, and no other list is offered: what
// stands in a journal has to be readable by everybody who ever follows it.
func propagators() propagation.TextMapPropagator {
	if strings.TrimSpace(os.Getenv("OTEL_PROPAGATORS")) == "none" {
		return propagation.NewCompositeTextMapPropagator()
	}
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}

// describe is the resource: who emits. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over what we say.
func describe(ctx context.Context, cfg Config) *resource.Resource {
	ours := append([]attribute.KeyValue{
		attribute.String("service.name", cfg.Service),
		attribute.String("service.namespace", "unitgate"),
		attribute.String("service.version", Version()),
		attribute.String("service.instance.id", uuid.NewString()),
	}, cfg.Attributes...)
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithAttributes(ours...), resource.WithFromEnv())
	if err != nil {
		cfg.Log.Warn("a part of what the environment says about who emits is ignored: see OTEL_RESOURCE_ATTRIBUTES (key=value,key=value)", "err", err)
	}
	if res == nil {
		return resource.NewSchemaless(ours...)
	}
	return res
}

// Version is this binary's: the module's, or the commit that it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "devel"
}
