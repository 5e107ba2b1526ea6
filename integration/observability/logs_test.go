package observability_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// line is one line of a log.
type line struct {
	text   string
	fields map[string]any
}

func (l line) is(key, value string) bool { return l.fields[key] == value }

// logOf parses a process's log: one JSON object a line, with a time, a level and a text, no key twice.
func logOf(t *testing.T, p *harness.Process) (lines []line) {
	t.Helper()
	for text := range strings.Lines(p.Stderr.String()) {
		l := line{text: text}
		if err := json.Unmarshal([]byte(text), &l.fields); err != nil {
			t.Fatalf("not one JSON object: %s: %v", text, err)
		}
		for key := range l.fields {
			if strings.Count(text, `"`+key+`":`) != 1 {
				t.Errorf("%s stands twice in %s", key, text)
			}
		}
		for _, key := range []string{"time", "level", "msg"} {
			if s, ok := l.fields[key].(string); !ok || s == "" {
				t.Errorf("no %s in %s", key, text)
			}
		}
		lines = append(lines, l)
	}
	return lines
}

// TestLogs plays a cutover with all levels logged. The lines of controller and edges join by the cutover and its trace;
// what is said of single users is said at debug only; and no secret is in any of them.
func TestLogs(t *testing.T) {
	dir := t.TempDir()
	secret := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const password, hook, tsig = "pa55-of-the-bus", "hook-secret-of-32-bytes-or-more-0123", "c2VjcmV0LW9mLXRzaWctZm9yLXRlc3Rz"
	url := strings.Replace(harness.StartNATS(t), "nats://", "nats://someone:"+password+"@", 1)
	flags := []string{"--log-format", "json", "--log-level", "debug"}
	s := play(t, url, append([]string{
		"--hook-secret-file", secret("hook", hook),
		"--dns-rfc2136-server", "127.0.0.1:1", "--dns-rfc2136-key-file", secret("tsig", "hmac-sha256:unitgate.:"+tsig),
	}, flags...), flags)
	if len(s.cutover.TraceID) != 32 {
		t.Fatalf("trace id %q", s.cutover.TraceID)
	}
	logs := map[string][]line{"control": logOf(t, s.Control), "center": logOf(t, s.center.Process), "unbj": logOf(t, s.unbj.Process)}
	for who, lines := range logs {
		for _, l := range lines {
			for _, text := range []string{password, hook, tsig} {
				if strings.Contains(l.text, text) {
					t.Errorf("%s logs a secret: %s", who, l.text)
				}
			}
			if strings.Contains(l.text, mover) && !l.is("level", "DEBUG") {
				t.Errorf("%s logs a single user: %s", who, l.text)
			}
			if l.is("cutover", s.cutover.ID) != l.is("trace_id", s.cutover.TraceID) {
				t.Errorf("%s: cutover and trace do not go together: %s", who, l.text)
			}
		}
	}
	for _, want := range []struct{ who, key, value string }{
		{"control", "command", "cutover.preview"}, {"control", "command", "cutover.check"}, {"control", "command", "cutover.start"},
		{"control", "command", "wave.fence"}, {"control", "command", "wave.commit"}, {"control", "command", "cutover.complete"},
		{"center", "msg", "fence applied"}, {"center", "msg", "commit applied"},
		{"unbj", "msg", "fence applied"}, {"unbj", "msg", "drained"}, {"unbj", "msg", "commit applied"},
		{"unbj", "msg", "evicting sessions whose keys are not served here any more"},
	} {
		found := 0
		for _, l := range logs[want.who] {
			if !l.is(want.key, want.value) || !l.is("cutover", s.cutover.ID) {
				continue
			}
			found++
			if id, _ := l.fields["command_id"].(string); want.who == "control" && len(id) != 36 {
				t.Errorf("no command id: %s", l.text)
			}
		}
		if found == 0 || found > 1 && want.value[0] != 'e' { // each new state may order the evictions again
			t.Errorf("%s: %d lines about the cutover with %s=%q, want one", want.who, found, want.key, want.value)
		}
	}
	rejected := 0
	for _, l := range logs["control"] {
		if l.is("msg", "command rejected") && l.is("code", "range_overlap") && l.is("command", "cutover.preview") && l.is("level", "INFO") {
			rejected++
		}
	}
	if rejected != 1 {
		t.Errorf("%d rejections are logged, want one", rejected)
	}
}

// TestLogFlags: a level leaves out what is below it, and a format that does not exist is refused.
func TestLogFlags(t *testing.T) {
	url := harness.StartNATS(t)
	quiet := harness.Start(t, "control", "--nats", url, "--admin", "127.0.0.1:0", "--log-level", "error")
	loud := harness.Start(t, "control", "--nats", url, "--admin", "127.0.0.1:0", "--log-format", "auto")
	harness.Eventually(t, within, "the loud one serves", func() bool { return strings.Contains(loud.Stderr.String(), "control plane serves") })
	logOf(t, loud) // which is no terminal
	loud.Stop(t)
	quiet.Stop(t)
	if text := quiet.Stderr.String(); text != "" {
		t.Errorf("an error only? %s", text)
	}
	if r := harness.Run(t, "control", "--nats", url, "--log-format", "xml"); r.Code != 2 {
		t.Errorf("exit code %d: %s", r.Code, r.Stderr)
	}
}
