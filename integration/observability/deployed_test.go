package observability_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// readStrict reads a YAML file that may have no key which into does not have.
func readStrict(t *testing.T, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(deployed, file))
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// alert is a rule of alerts.yml.
type alert struct {
	Alert       string
	Expr        string
	For         string
	Labels      struct{ Severity string }
	Annotations struct{ Summary string }
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	readStrict(t, "alerts.yml", &file)
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 10 {
		t.Fatalf("%d alerts only, so this test would prove little", len(all))
	}
	return all
}

// TestFilesOfPrometheus has Prometheus's own tool read config and rules, and run the rules' tests.
func TestFilesOfPrometheus(t *testing.T) {
	promtool(t, "", "check", "config", filepath.Join(deployed, "prometheus.yml"))
	promtool(t, "", "check", "rules", "--lint=all", "--lint-fatal", filepath.Join(deployed, "alerts.yml"))
	promtool(t, "", "test", "rules", filepath.Join(deployed, "alerts_test.yml"))
}

// TestAlerts: every alert names metrics that there are, is tested both ways, and has a line in the runbook.
func TestAlerts(t *testing.T) {
	var tests struct {
		RuleFiles          []string `yaml:"rule_files"`
		EvaluationInterval string   `yaml:"evaluation_interval"`
		Tests              []struct {
			Name, Interval string
			InputSeries    []struct{ Series, Values string } `yaml:"input_series"`
			AlertRuleTest  []struct {
				EvalTime  string           `yaml:"eval_time"`
				Alertname string           `yaml:"alertname"`
				ExpAlerts []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readStrict(t, "alerts_test.yml", &tests)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, s := range test.InputSeries {
			names(t, s.Series) // it must be of a metric that there is
		}
		for _, a := range test.AlertRuleTest {
			if len(a.ExpAlerts) > 0 {
				fires[a.Alertname] = true
			} else {
				quiet[a.Alertname] = true
			}
		}
	}
	book, err := os.ReadFile(filepath.Join(deployed, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^\| (Unitgate\w+) \| [^|]{20,} \| [^|]{20,} \|$`).FindAllStringSubmatch(string(book), -1)
	var described, have []string
	for _, l := range lines {
		described = append(described, l[1])
	}
	for _, a := range alerts(t) {
		have = append(have, a.Alert)
		if len(names(t, a.Expr)) == 0 {
			t.Errorf("%s asks for no metric", a.Alert)
		}
		if !fires[a.Alert] || !quiet[a.Alert] {
			t.Errorf("%s: tested to fire: %v, to stay quiet: %v", a.Alert, fires[a.Alert], quiet[a.Alert])
		}
		if a.Labels.Severity != "critical" && a.Labels.Severity != "warning" || a.Annotations.Summary == "" {
			t.Errorf("%s: %+v", a.Alert, a)
		}
	}
	slices.Sort(have)
	slices.Sort(described)
	if !slices.Equal(have, described) {
		t.Errorf("alerts %q, lines in the runbook %q", have, described)
	}
}

// others are metrics of Prometheus itself, of Go and of the process; TestMetrics looks that the latter are shown.
func others() []string {
	return []string{
		"up", "go_goroutines", "go_gc_duration_seconds",
		"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds",
	}
}

// known are the series that there are, by the table of metrics.
func known(t *testing.T) map[string]bool {
	t.Helper()
	b, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(unitgate_\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(string(b), -1) {
		if m[2] != "histogram" {
			out[m[1]] = true
			continue
		}
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			out[m[1]+part] = true
		}
	}
	for _, name := range others() {
		out[name] = true
	}
	return out
}

// names are the metrics of an expression; one that nobody shows fails the test.
func names(t *testing.T, expr string) []string {
	t.Helper()
	list, err := metricsOf(expr)
	if err != nil {
		t.Error(err)
	}
	is := known(t)
	for _, name := range list {
		if !is[name] {
			t.Errorf("nobody shows %s, which is asked for in %s", name, expr)
		}
	}
	return list
}

// dashboard is the part of Grafana's model that we rely on.
type dashboard struct {
	SchemaVersion int    `json:"schemaVersion"`
	UID           string `json:"uid"`
	Templating    struct {
		List []struct{ Name, Type string }
	}
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ H, W, X, Y int } `json:"gridPos"`
		Targets []struct {
			RefID string `json:"refId"`
			Expr  string
		}
	}
}

// TestDashboard: every query of it is one to Prometheus's parser, and asks for metrics that there are.
func TestDashboard(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(deployed, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	if d.SchemaVersion != 39 || d.UID != "unitgate" {
		t.Errorf("schema version %d, uid %q", d.SchemaVersion, d.UID)
	}
	ids, rules := map[int]bool{}, strings.Builder{}
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for _, p := range d.Panels {
		if ids[p.ID] || p.GridPos.W < 1 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q: an id twice, or %+v", p.ID, p.Title, p.GridPos)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		for _, q := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "1m", "$namespace", "shop", "$unit", "center").Replace(q.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("panel %q: %s has a variable that nobody sets", p.Title, q.Expr)
			}
			if len(names(t, expr)) == 0 {
				t.Errorf("panel %q: %s asks for no metric", p.Title, q.Expr)
			}
			fmt.Fprintf(&rules, "  - {record: 'panel:%d:%s', expr: %q}\n", p.ID, strings.ToLower(q.RefID), expr)
		}
	}
	file := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", file)
}
