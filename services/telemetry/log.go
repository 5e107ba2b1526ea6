package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// NewLogger logs lines at a level and above to w, as text for people or as one JSON object a line. A line that is logged
// within a span carries its ids, as OpenTelemetry names them (trace_id, span_id), unless it says itself which trace it
// belongs to.
func NewLogger(w io.Writer, level slog.Level, asJSON bool) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if asJSON {
		return slog.New(&tracedHandler{Handler: slog.NewJSONHandler(w, opts)})
	}
	return slog.New(&tracedHandler{Handler: slog.NewTextHandler(w, opts)})
}

// ParseLevel reads debug, info, warn or error.
func ParseLevel(name string) (slog.Level, error) {
	var l slog.Level
	switch name {
	case "debug", "info", "warn", "error":
		err := l.UnmarshalText([]byte(name))
		return l, err
	}
	return l, fmt.Errorf("log level %q: want debug, info, warn or error", name)
}

// TraceKey is the attribute of a line that names its trace.
const TraceKey = "trace_id"

// tracedHandler adds the ids of the context's span.
type tracedHandler struct {
	slog.Handler
	named bool // every line of it names its trace
}

// Handle implements slog.Handler.
func (h *tracedHandler) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() && !h.named && !names(r) {
		r = r.Clone()
		r.AddAttrs(slog.String(TraceKey, sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func names(r slog.Record) (found bool) {
	r.Attrs(func(a slog.Attr) bool { found = a.Key == TraceKey; return !found })
	return found
}

// WithAttrs implements slog.Handler.
func (h *tracedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	named := h.named
	for _, a := range attrs {
		named = named || a.Key == TraceKey
	}
	return &tracedHandler{h.Handler.WithAttrs(attrs), named}
}

// WithGroup implements slog.Handler. Nobody here groups: the ids would be in the group.
func (h *tracedHandler) WithGroup(name string) slog.Handler {
	return &tracedHandler{h.Handler.WithGroup(name), h.named}
}
