package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

func TestLoggerNamesTheTrace(t *testing.T) {
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	within := trace.ContextWithSpanContext(context.Background(), span)
	var b bytes.Buffer
	log := NewLogger(&b, slog.LevelInfo, true)
	log.InfoContext(within, "within")
	log.InfoContext(within, "its own", TraceKey, "x")
	log.With(TraceKey, "y").InfoContext(within, "its own, too")
	log.With("edge", "e").Info("outside", "n", 1)
	log.DebugContext(within, "not shown")
	var got []string
	for line := range strings.Lines(b.String()) {
		var l struct {
			Msg   string `json:"msg"`
			Trace string `json:"trace_id"`
			Span  string `json:"span_id"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || strings.Count(line, TraceKey) > 1 {
			t.Fatalf("%s: %v", line, err)
		}
		got = append(got, l.Msg+" "+l.Trace+" "+l.Span)
	}
	want := "within " + span.TraceID().String() + " " + span.SpanID().String() + "\nits own x \nits own, too y \noutside  "
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	b.Reset()
	NewLogger(&b, slog.LevelDebug, false).DebugContext(within, "text")
	if s := b.String(); !strings.HasPrefix(s, "time=") || !strings.Contains(s, "level=DEBUG msg=text trace_id="+span.TraceID().String()) {
		t.Error(s)
	}
	for _, name := range []string{"debug", "info", "warn", "error"} {
		if l, err := ParseLevel(name); err != nil || !strings.EqualFold(l.String(), name) {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
	if _, err := ParseLevel("INFO+2"); err == nil {
		t.Error("another level is taken")
	}
}
