package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
	"github.com/unitgate/unitgate/integration/otlp"
)

// jaegerProgram names a Jaeger; the PATH is searched without it.
const jaegerProgram = "UNITGATE_JAEGER_PROGRAM"

// jaeger is a running Jaeger.
type jaeger struct{ grpc, query string } // URLs

// startJaeger starts Jaeger with the configuration that the project ships.
func startJaeger(t *testing.T) jaeger {
	t.Helper()
	program := os.Getenv(jaegerProgram)
	if program == "" {
		var err error
		if program, err = exec.LookPath("jaeger"); err != nil {
			harness.Missing(t, fmt.Sprintf("there is no Jaeger: deployments/observability/build-jaeger FILE builds one, and %s=FILE names it", jaegerProgram))
		}
	}
	config, err := filepath.Abs("../deployments/observability/jaeger.yaml")
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for _, name := range []string{"JAEGER_OTLP_GRPC", "JAEGER_OTLP_HTTP", "JAEGER_QUERY_GRPC", "JAEGER_QUERY_HTTP"} {
		at[name] = "127.0.0.1:" + strconv.Itoa(harness.FreePort(t))
		t.Setenv(name, at[name])
	}
	j := jaeger{"http://" + at["JAEGER_OTLP_GRPC"], "http://" + at["JAEGER_QUERY_HTTP"]}
	p := harness.StartProgram(t, t.TempDir(), program, "--config", config)
	harness.Eventually(t, time.Minute, "Jaeger answers", func() bool {
		if !p.Running() {
			t.Fatalf("Jaeger has ended: %s", p.Stderr)
		}
		resp, err := http.Get(j.query + "/api/services")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return j
}

// trace asks Jaeger for a trace, as its web page does.
func (j jaeger) trace(t *testing.T, id string) []otlp.Span {
	t.Helper()
	resp, err := http.Get(j.query + "/api/traces/" + id)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusNotFound {
		return nil
	}
	var answer struct {
		Data []struct {
			TraceID   string
			Spans     []jaegerSpan
			Processes map[string]struct{ ServiceName string }
		}
	}
	if err := json.Unmarshal(b, &answer); err != nil || len(answer.Data) != 1 {
		t.Fatalf("Jaeger answers %s: %v", b, err)
	}
	var out []otlp.Span
	for _, s := range answer.Data[0].Spans {
		span := otlp.Span{
			Service: answer.Data[0].Processes[s.ProcessID].ServiceName, Name: s.OperationName, Trace: s.TraceID, ID: s.SpanID,
			Start: time.UnixMicro(s.StartTime), End: time.UnixMicro(s.StartTime + s.Duration), Attributes: map[string]string{},
		}
		for _, r := range s.References {
			if r.RefType == "CHILD_OF" {
				span.Parent = r.SpanID
			}
		}
		for _, tag := range s.Tags {
			span.Attributes[tag.Key] = fmt.Sprint(tag.Value)
		}
		span.Failed = span.Attributes["error"] == "true"
		out = append(out, span)
	}
	return out
}

type jaegerSpan struct {
	TraceID, SpanID, OperationName, ProcessID string
	References                                []struct{ RefType, SpanID string }
	StartTime, Duration                       int64 // µs
	Tags                                      []struct {
		Key   string
		Value any
	}
}

// TestTraceInJaeger: a cutover over two units and four edge processes, as Jaeger shows it.
func TestTraceInJaeger(t *testing.T) {
	j := startJaeger(t)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	s := startTraced(t, j.grpc)
	s.connect(t, 2)
	id := s.Cutover(t, append([]string{"preview", "--waves", "2", "--rate", "max"}, toCenter...)...).ID
	s.Cutover(t, "check", id)
	c := s.Cutover(t, "start", id, "--wait")
	harness.Eventually(t, within, "Jaeger has the whole trace", func() bool { return complete(j.trace(t, c.TraceID), 2) })
	shown := harness.Run(t, "cutover", "show", id, "--nats", s.NATS, "-n", s.Namespace, "--jaeger", j.query+"/").OK(t)
	if want := j.query + "/trace/" + c.TraceID; !strings.Contains(shown.Stdout, want) {
		t.Errorf("cutover show does not name %s:\n%s", want, shown.Stdout)
	}
	s.stop(t)
	harness.Eventually(t, within, "Jaeger has what came at the end", func() bool { return len(named(j.trace(t, c.TraceID), "cutover.complete")) == 1 })
	checkTrace(t, j.trace(t, c.TraceID), expected{cutover: c, waves: 2, checks: 8, evicted: 4, edges: fourEdges})
	t.Logf("the trace:\n%s", outline(j.trace(t, c.TraceID)))
}
