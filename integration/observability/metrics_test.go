package observability_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/unitgate/unitgate/integration/harness"
)

const (
	deployed = "../../deployments/observability"
	table    = deployed + "/metrics.md"
)

var rewrite = flag.Bool("rewrite", false, "write the table of metrics anew from a scrape")

// families is one process's scrape.
type families map[string]*dto.MetricFamily

func parse(t *testing.T, text string) families {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	f, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("not the text format: %v", err)
	}
	return f
}

// value is that of the only series of a metric that has these labels (name=value), a histogram's its count.
func (f families) value(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	var found []float64
	for _, m := range f[name].GetMetric() {
		if !has(m, labels) {
			continue
		}
		switch f[name].GetType() {
		case dto.MetricType_COUNTER:
			found = append(found, m.GetCounter().GetValue())
		case dto.MetricType_HISTOGRAM:
			found = append(found, float64(m.GetHistogram().GetSampleCount()))
		default:
			found = append(found, m.GetGauge().GetValue())
		}
	}
	if len(found) != 1 {
		t.Errorf("%s%v: %d series, want one", name, labels, len(found))
		return -1
	}
	return found[0]
}

func has(m *dto.Metric, labels []string) bool {
	for _, l := range labels {
		if !slices.ContainsFunc(m.GetLabel(), func(p *dto.LabelPair) bool { return p.GetName()+"="+p.GetValue() == l }) {
			return false
		}
	}
	return true
}

// TestMetrics plays a cutover and looks at what the processes show then: right values, a format that promtool passes, no
// label that a client could choose, and nothing that the table of metrics does not have.
func TestMetrics(t *testing.T) {
	s := play(t, harness.StartNATS(t), nil, []string{"--capacity", "1000"})
	texts := map[string]string{"control": scrape(t, s.Control), "center": scrape(t, s.center.Process), "unbj": scrape(t, s.unbj.Process)}
	all := map[string]families{}
	for who, text := range texts {
		all[who] = parse(t, text)
		t.Run("promtool passes "+who, func(t *testing.T) { promtool(t, text, "check", "metrics") })
	}
	t.Run("values", func(t *testing.T) {
		values(t, all["control"], all["center"], all["unbj"])
		if fenced := s.fenced.value(t, "unitgate_control_cutover_fenced_seconds", "namespace=shop"); fenced <= 0 || fenced > within.Seconds() {
			t.Errorf("while the wave was fenced: for %v s", fenced)
		}
	})
	t.Run("labels", func(t *testing.T) {
		for who, text := range texts {
			for _, chosen := range []string{mover, stays, "127.0.0.1:5", "dGhlIHNhbXBsZSBub25jZQ"} {
				for line := range strings.Lines(text) {
					if strings.Contains(line, `="`+chosen) && !strings.Contains(line, "origin=") {
						t.Errorf("%s: a label takes a value of a client's: %s", who, line)
					}
				}
			}
		}
	})
	for _, name := range others()[1:] { // but for Prometheus's own
		for who, f := range all {
			if f[name] == nil {
				t.Errorf("%s does not show %s", who, name)
			}
		}
	}
	strict := s.strict(t)
	var leased families
	harness.Eventually(t, within, "the edge of the other namespace needs a lease", func() bool {
		leased = parse(t, scrape(t, strict.Process))
		return leased.value(t, "unitgate_edge_lease_needed") == 1
	})
	if left := leased.value(t, "unitgate_edge_lease_remaining_seconds"); left < 0 || left > 15 {
		t.Errorf("%v s of a lease of 15 s remain", left)
	}
	t.Run("table", func(t *testing.T) { checkTable(t, all["control"], all["center"], all["unbj"], leased) })
}

func values(t *testing.T, control, center, unbj families) {
	const shop, typ = "namespace=shop", "unit_type=unit_type"
	for _, c := range []struct {
		of     families
		want   float64
		name   string
		labels []string
	}{
		{unbj, 1, "unitgate_edge_sessions", []string{typ, "state=open"}},
		{unbj, 0, "unitgate_edge_sessions", []string{typ, "state=closing"}},
		{center, 1, "unitgate_edge_sessions", []string{typ, "state=open"}},
		{unbj, 0, "unitgate_edge_victims", []string{typ}},
		{unbj, 1, "unitgate_edge_evictions_total", []string{typ, "reason=moved"}},
		{unbj, 0, "unitgate_edge_evictions_total", []string{typ, "reason=operator"}},
		{center, 1, "unitgate_edge_landed_total", []string{typ}},
		{center, 1, "unitgate_edge_landing_seconds", nil},
		{unbj, 2, "unitgate_edge_handshakes_total", []string{typ, "verdict=served"}},
		{unbj, 1, "unitgate_edge_handshakes_total", []string{typ, "verdict=redirect"}},
		{unbj, 1, "unitgate_edge_redirects_total", []string{typ, "to=center"}},
		{unbj, 0, "unitgate_edge_handshakes_held", []string{typ}},
		{unbj, 0, "unitgate_edge_handshake_errors_total", []string{typ}},
		{unbj, 2, "unitgate_edge_origin_connect_seconds", nil},
		{unbj, 2, "unitgate_edge_origin_connects_total", nil},
		{unbj, 1, "unitgate_edge_handshake_held_seconds", nil},
		{center, 1, "unitgate_edge_origin_up", nil},
		{center, 1, "unitgate_edge_origin_connections", nil},
		{center, 0, "unitgate_edge_reads_paused", []string{"from=origin"}},
		{center, 1, "unitgate_edge_ready", nil},
		{center, 0, "unitgate_edge_lease_needed", nil},
		{center, 1000, "unitgate_edge_capacity_sessions", nil},
		{center, 2, "unitgate_rule_version", []string{shop, typ}},
		{control, 2, "unitgate_rule_version", []string{shop, typ}},
		{control, 1, "unitgate_driver_in_office", []string{shop}},
		{control, 1, "unitgate_control_following", []string{shop}},
		{control, 2, "unitgate_control_edges", []string{shop}},
		{control, 0, "unitgate_control_edges_silent", []string{shop}},
		{control, 1, "unitgate_control_cutovers", []string{shop, "state=completed"}},
		{control, 0, "unitgate_control_cutover_fenced_seconds", []string{shop}},
		{control, 1, "unitgate_cutover_blackout_seconds", []string{shop}},
		{control, 1, "unitgate_cutover_phase_seconds", []string{shop, "phase=fenced"}},
		{control, 1, "unitgate_cutover_phase_seconds", []string{shop, "phase=start"}},
		{control, 1, "unitgate_cutover_phase_seconds", []string{shop, "phase=whole"}},
		{control, 1, "unitgate_commands_total", []string{shop, "command=cutover.preview", "via=api", "code=ok"}},
		{control, 1, "unitgate_commands_total", []string{shop, "command=cutover.preview", "via=api", "code=range_overlap"}},
		{control, 1, "unitgate_commands_total", []string{shop, "command=wave.fence", "via=driver", "code=ok"}},
	} {
		if got := c.of.value(t, c.name, c.labels...); got != c.want {
			t.Errorf("%s%v is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	for _, at := range []string{"applied", "head"} {
		name := "unitgate_" + at + "_sequence"
		if c, e := control.value(t, name, shop), unbj.value(t, name, shop); c < 10 || c != e {
			t.Errorf("%s: %v of the controller, %v of an edge", name, c, e)
		}
	}
	for who, f := range map[string]families{"control": control, "center": center} {
		if stale := f.value(t, "unitgate_staleness_seconds", shop); stale < 0 || stale > within.Seconds() {
			t.Errorf("%s: stale for %v s", who, stale)
		}
	}
	if sent := center.value(t, "unitgate_edge_relayed_bytes_total", "to=client"); sent < 200 {
		t.Errorf("%v bytes to clients", sent)
	}
	if n := control.value(t, "unitgate_journal_append_seconds", shop, "result=stored"); n < 10 {
		t.Errorf("%v appends", n)
	}
}

// checkTable compares the table of metrics with what processes show.
func checkTable(t *testing.T, control families, edges ...families) {
	type row struct {
		family *dto.MetricFamily
		labels map[string]bool
		on     map[string]bool
	}
	rows := map[string]*row{}
	add := func(on string, f families) {
		for name, family := range f {
			if !strings.HasPrefix(name, "unitgate_") {
				continue
			}
			r := rows[name]
			if r == nil {
				r = &row{family, map[string]bool{}, map[string]bool{}}
				rows[name] = r
			}
			r.on[on] = true
			for _, m := range family.GetMetric() {
				for _, l := range m.GetLabel() {
					r.labels[l.GetName()] = true
				}
			}
		}
	}
	add("control", control)
	for _, e := range edges {
		add("edge", e)
	}
	var b strings.Builder
	b.WriteString("# Metrics\n" +
		"Everything that `/metrics` of `unitgate control` and `unitgate edge` shows beside Go's and the process's own (`go_*`, `process_*`, `target_info`). This file is made from a scrape: `go test ./integration/observability -run TestMetrics -rewrite`; the same test fails when it differs.\n\n" +
		"No label takes a value that a client can choose: units, unit types, namespaces and origins come from the configuration, all other values from the program. A metric has at most 2,000 series; what is beyond is added up in one with the label `otel_metric_overflow`.\n\n" +
		"| metric | type | labels | on | meaning |\n|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		r := rows[name]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, strings.ToLower(r.family.GetType().String()),
			strings.Join(slices.Sorted(maps.Keys(r.labels)), ", "), strings.Join(slices.Sorted(maps.Keys(r.on)), ", "), r.family.GetHelp())
	}
	if *rewrite {
		if err := os.WriteFile(table, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s differs from what is shown; -rewrite makes it anew. It should be:\n%s", filepath.Base(table), b.String())
	}
}

// promtool runs Prometheus's own tool, and fails the test if that complains, even if it does not call it an error.
func promtool(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		harness.Missing(t, "there is no promtool: go build -C deployments/tools/promtool -o DIR github.com/prometheus/prometheus/cmd/promtool, with DIR on the PATH")
	}
	cmd := exec.Command(tool, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "error while linting") {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
