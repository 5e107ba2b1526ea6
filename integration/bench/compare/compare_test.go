//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/bench/crew"
	"github.com/unitgate/unitgate/integration/harness"
)

// TestMain makes the test binary the crew of the comparisons that its tests start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == crew.RoleArg {
		os.Exit(start())
	}
	os.Exit(harness.Main(m))
}

// tiny is a comparison that takes seconds and proves that all of it works, not how fast anything is.
func tiny(t *testing.T, args ...string) []string {
	return append([]string{"-targets", "unitgate,direct", "-unitgate", harness.Binary(t), "-rounds", "1", "-duration", "200ms", "-settle", "10ms",
		"-idle", "60", "-crowd", "70", "-tls-idle", "50", "-sessions", "40", "-slow", "10", "-evict", "90", "-evict-both", "100"}, args...)
}

func TestSmoke(t *testing.T) {
	harness.Long(t, "it runs every phase")
	t.Setenv("TMPDIR", t.TempDir())
	file := filepath.Join(t.TempDir(), "report.json")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), tiny(t, "-json", file), &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &stdout, &stderr)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	for _, p := range phases() {
		for _, m := range p.metrics {
			if c := r.cell(p.name, m.key, targetUnitgate); c == nil || len(c.Values) != 1 {
				t.Errorf("no value for %s: %+v", p.title(m), c)
			}
			if !strings.Contains(stdout.String(), "| "+p.name+" | "+m.title) {
				t.Errorf("the table has no row for %s", p.title(m))
			}
		}
	}
	if t.Failed() {
		t.Logf("%s%s", &stdout, &stderr)
	}
	left(t)
}

// TestObserved: the edge that is observed is measured beside the one that is not.
func TestObserved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), tiny(t, "-targets", "unitgate,observed", "-phases", "handshake,evict", "-duration", "1500ms"), &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &stdout, &stderr)
	}
	seen := regexp.MustCompile(`observed: \d+ spans, [1-9]\d* readings`)
	if !seen.MatchString(stderr.String()) || !strings.Contains(stdout.String(), "× observed") {
		t.Errorf("%s%s", &stdout, &stderr)
	}
	left(t)
}

// TestInterrupted: nothing stays behind when a comparison is stopped in the middle of a measurement.
func TestInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan int)
	var stdout, stderr bytes.Buffer
	go func() { ended <- run(ctx, tiny(t, "-phases", "echo5k", "-duration", "1m"), &stdout, &stderr) }()
	// NATS and the test are one process; a control plane, an edge, a load generator and an origin make five.
	harness.Eventually(t, time.Minute, "everything runs", func() bool {
		all, err := family(os.Getpid())
		return err == nil && len(all) == 5
	})
	interrupt()
	select {
	case code := <-ended:
		if code != 130 {
			t.Errorf("exit code %d instead of 130: %s", code, &stderr)
		}
	case <-time.After(time.Minute):
		t.Fatal("it runs on")
	}
	left(t)
}

// left fails the test if a process or a file is left.
func left(t *testing.T) {
	t.Helper()
	if all, err := family(os.Getpid()); err != nil || len(all) != 1 {
		t.Errorf("processes are left: %v, %v", all, err)
	}
	if files, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*")); err != nil || len(files) != 0 {
		t.Errorf("files are left: %v, %v", files, err)
	}
}

// TestRivalConfigs: nginx and HAProxy accept what they are compared with.
func TestRivalConfigs(t *testing.T) {
	o, err := parse(nil, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := newCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*rival{newNginx(o, cert, t.TempDir()), newHAProxy(o, cert, t.TempDir())} {
		t.Run(r.name, func(t *testing.T) {
			if r.program == "" {
				harness.Missing(t, r.name+" is not installed")
			}
			if err := r.verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"-phases echo", `there is no phase "echo", only idle`},
		{"-targets envoy", `there is no target "envoy", only unitgate`},
		{"-phases idle100k", "the phase idle100k needs a number of sessions"},
		{"-crowd 300000", "-crowd 300000: want 1 to 200000"},
		{"-tls-idle 30000", "-tls-idle 30000: want 9000 or less"},
		{"-rounds 0", "-rounds 0: want 1 or more"},
		{"-duration 1ms", "-duration 1ms"},
		{"fast", `what is "fast"? See -help`},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(test.args), &stdout, &stderr); code != 2 || !strings.Contains(stderr.String(), test.want) {
			t.Errorf("%s: exit code %d, %s", test.args, code, &stderr)
		}
	}
}
