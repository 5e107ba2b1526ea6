package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Variables that the exporters read themselves, but for what they do not decide: whether to send at all, and how.
const (
	endpointVar       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	tracesEndpointVar = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	protocolVar       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	tracesProtocolVar = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	exporterVar       = "OTEL_TRACES_EXPORTER"
	disabledVar       = "OTEL_SDK_DISABLED"
	delayVar          = "OTEL_BSP_SCHEDULE_DELAY"
)

// hearSDK has what OpenTelemetry's SDK complains of, which else goes to stderr as plain text, in the process's log. The
// SDK has one place for it in a process.
func (v variables) hearSDK() {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { v.log.Warn("OpenTelemetry", "err", err) }))
	otel.SetLogger(logr.FromSlogHandler(v.log.Handler()))
}

// Protocols of OTLP.
const (
	overGRPC = "grpc"
	overHTTP = "http/protobuf"
	grpcPort = "4317" // registered for OTLP/gRPC
)

func env(name string) string { return strings.TrimSpace(os.Getenv(name)) }

// variables are those of the environment. One that cannot be used is ignored with a warning, as
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ has it: they are often set for a
// whole host, and traffic does not wait for traces.
type variables struct{ log *slog.Logger }

func (v variables) ignored(name, value, want string) {
	v.log.Warn("a variable of the environment is ignored", "name", name, "value", value, "err", want)
}

// exporter makes what sends spans, nil if nothing is to be sent. at is a collector's URL that wins over the variables';
// an error says what is wrong with it. Neither exporter connects before there is something to send.
func exporter(ctx context.Context, at string, v variables) (sdktrace.SpanExporter, error) {
	var u *url.URL
	if at != "" {
		var err error
		if u, err = parseEndpoint(at); err != nil {
			return nil, err
		}
	}
	kind := env(exporterVar)
	if kind != "" && kind != "otlp" && kind != "none" {
		v.ignored(exporterVar, kind, "want otlp or none")
		kind = ""
	}
	switch {
	case strings.EqualFold(env(disabledVar), "true"), kind == "none":
		return nil, nil //nolint:nilnil // nothing is to be sent
	case at == "" && kind == "" && env(endpointVar) == "" && env(tracesEndpointVar) == "":
		return nil, nil //nolint:nilnil // nothing is to be sent
	}
	e, err := dial(ctx, u, protocolFor(u, v))
	if err != nil { // what the flag says was looked at before: it is a file or a header of the variables
		v.log.Warn("nothing is traced: the variables of the environment that begin with OTEL_EXPORTER_OTLP_ cannot be used", "err", err)
		return nil, nil //nolint:nilnil // nothing is to be sent
	}
	return e, nil
}

func dial(ctx context.Context, u *url.URL, protocol string) (sdktrace.SpanExporter, error) {
	if protocol == overGRPC {
		var o []otlptracegrpc.Option
		if u != nil {
			o = append(o, otlptracegrpc.WithEndpointURL(u.String()))
		}
		return otlptracegrpc.New(ctx, o...)
	}
	var o []otlptracehttp.Option
	if u != nil {
		base := *u
		base.Path = path.Join("/", u.Path, "v1/traces")
		o = append(o, otlptracehttp.WithEndpointURL(base.String()))
	}
	return otlptracehttp.New(ctx, o...)
}

func parseEndpoint(at string) (*url.URL, error) {
	u, err := url.Parse(at)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("telemetry: collector %q: want a URL such as http://127.0.0.1:4317 (gRPC) or http://127.0.0.1:4318 (HTTP)", at)
	}
	return u, nil
}

// protocolFor is the protocol that the variables name; without one, gRPC on the port that is registered for it, and HTTP,
// the specification's default, elsewhere.
func protocolFor(u *url.URL, v variables) string {
	name, protocol := tracesProtocolVar, env(tracesProtocolVar)
	if protocol == "" {
		name, protocol = protocolVar, env(protocolVar)
	}
	switch protocol {
	case overGRPC, overHTTP:
		return protocol
	case "":
	default:
		v.ignored(name, protocol, "want "+overGRPC+" or "+overHTTP)
	}
	if u == nil {
		at := env(tracesEndpointVar)
		if at == "" {
			at = env(endpointVar)
		}
		u, _ = url.Parse(at) // the exporter says what is wrong with it
	}
	if u != nil && u.Port() == grpcPort {
		return overGRPC
	}
	return overHTTP
}

// batching keeps to the standard variables, and to a shorter delay where they say nothing: a cutover is looked at while
// it runs.
func batching() []sdktrace.BatchSpanProcessorOption {
	if env(delayVar) != "" {
		return nil
	}
	return []sdktrace.BatchSpanProcessorOption{sdktrace.WithBatchTimeout(time.Second)}
}

// watched says when the collector goes away and when it is back, once each: a log line for every batch that is lost would
// help nobody. Spans that the full queue has dropped before are not in its count.
type watched struct {
	sdktrace.SpanExporter
	log *slog.Logger

	mu   sync.Mutex
	lost int // spans since it went away; guarded by mu
	away bool
}

// ExportSpans never returns an error: there is no one else to tell.
func (w *watched) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := w.SpanExporter.ExportSpans(ctx, spans)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil && !w.away:
		w.away, w.lost = true, len(spans)
		w.log.Warn("the collector takes no spans: they are dropped until it does", "err", err)
	case err != nil:
		w.lost += len(spans)
	case w.away:
		w.away = false
		w.log.Info("the collector takes spans again", "lost", w.lost)
	}
	return nil
}
