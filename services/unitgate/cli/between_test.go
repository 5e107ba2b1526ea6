package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unitgate/unitgate/services/unitgate/cli"
	"github.com/unitgate/unitgate/services/unitgate/dev"
)

// system is a dev whose commands are run in this process.
type system struct {
	t    *testing.T
	nats string
}

func startSystem(t *testing.T) system {
	t.Helper()
	d, err := dev.Start(t.Context(), dev.Options{FreePorts: true, Edges: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return system{t, d.Ready().NATS}
}

// run runs a command that has nobody to ask.
func (s system) run(args ...string) (exit int, stdout, stderr string) {
	s.t.Helper()
	var out, errs bytes.Buffer
	exit = cli.Run(s.t.Context(), append(args, "--nats", s.nats), strings.NewReader(""), &out, &errs)
	return exit, out.String(), errs.String()
}

// must is run of what has to succeed.
func (s system) must(args ...string) string {
	s.t.Helper()
	exit, stdout, stderr := s.run(args...)
	if exit != 0 {
		s.t.Fatalf("unitgate %s ended with %d: %s%s", strings.Join(args, " "), exit, stdout, stderr)
	}
	return stdout
}

// file writes a file for a command.
func (s system) file(text string) string {
	s.t.Helper()
	name := filepath.Join(s.t.TempDir(), "config.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return name
}

// terminal is a pseudo terminal: what is written to keyboard is read from file.
func terminal(t *testing.T) (keyboard, file *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	file, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return keyboard, file
}

// asked is where a command writes: the first question it asks is told of.
type asked struct {
	mu       sync.Mutex
	text     bytes.Buffer
	question chan struct{}
	once     sync.Once
}

func (a *asked) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.Write(b)
	if strings.Contains(a.text.String(), "[y/N]") {
		a.once.Do(func() { close(a.question) })
	}
	return len(b), nil
}

// between runs `apply -f file`, and meanwhile, when its plan was shown and it asks, does what somebody else does; then it says yes.
func (s system) between(file string, meanwhile func()) (exit int, stdout, stderr string) {
	s.t.Helper()
	keyboard, tty := terminal(s.t)
	out, errs, ended := &asked{question: make(chan struct{})}, bytes.Buffer{}, make(chan int, 1)
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	go func() { ended <- cli.Run(ctx, []string{"apply", "-f", file, "--nats", s.nats}, tty, out, &errs) }()
	select {
	case <-out.question:
	case exit := <-ended:
		s.t.Fatalf("ended with %d before it asked: %s%s", exit, out.text.String(), errs.String())
	}
	meanwhile()
	if _, err := keyboard.WriteString("y\n"); err != nil {
		s.t.Fatal(err)
	}
	exit = <-ended
	return exit, out.text.String(), errs.String()
}

// What was planned against a version of the configuration is not laid over another one: whoever changed it in between is
// not overwritten, and it does not matter whether the two changes touch each other.
func TestApplyRefusesWhatChangedMeanwhile(t *testing.T) {
	s := startSystem(t)
	file := s.file("namespace: shop\npolicy: {hold: 7s}\nunits: [{id: center, center: true}]\n")
	s.must("apply", "-f", file, "--yes")
	mine := s.file("namespace: shop\npolicy: {hold: 9s}\n")
	for name, theirs := range map[string][]string{
		"the same value":  {"apply", "--yes", "-f", s.file("namespace: shop\npolicy: {hold: 8s}\n")},
		"another value":   {"apply", "--yes", "-f", s.file("namespace: shop\nunits: [{id: center, name: Center}]\n")},
		"a single change": {"queue", "-n", "shop", "--wait", "unit.put", `{"id":"unbj"}`},
	} {
		var after string
		exit, stdout, stderr := s.between(mine, func() {
			s.must(theirs...)
			after = s.must("export", "-n", "shop")
		})
		if exit != 3 || !strings.Contains(stderr, "unitgate: stale_version: ") || !strings.Contains(stdout, "~ policy") {
			t.Errorf("%s: ended with %d: %s%s", name, exit, stdout, stderr)
		}
		if now := s.must("export", "-n", "shop"); now != after {
			t.Errorf("%s: the refused apply left\n%s\ninstead of\n%s", name, now, after)
		}
	}
	// Nobody in between: the same file is applied.
	if exit, _, stderr := s.between(mine, func() {}); exit != 0 {
		t.Errorf("ended with %d: %s", exit, stderr)
	}
}

// Namespaces of one file are independent: when the second one is refused, the first one is applied, the third one not tried,
// and both are said, with exit code 1. The same file again does what is left.
func TestApplyOfSeveralSaysHowFarItCame(t *testing.T) {
	s := startSystem(t)
	const three = "namespace: one\nunits: [{id: a}]\n---\nnamespace: two\nunits: [{id: a}]\n---\nnamespace: three\nunits: [{id: a}]\n"
	file := s.file(three)
	exit, stdout, stderr := s.between(file, func() { s.must("queue", "-n", "two", "--wait", "namespace.create", "{}") })
	if exit != 1 || !strings.Contains(stdout, "apply this to 3 namespaces?") || !strings.Contains(stdout, "one: applied at sequence 1\n") || strings.Contains(stdout, "three: applied") {
		t.Errorf("ended with %d: %s", exit, stdout)
	}
	want := regexp.MustCompile(`(?m)^unitgate: partly_applied: .*config.yaml: applied: one; failed: two \(stale_version: .*\); not tried: three$`)
	if !want.MatchString(stderr) || !strings.Contains(stderr, "leaves alone what was applied") {
		t.Errorf("stderr: %s", stderr)
	}
	if exit, _, stderr := s.run("get", "units", "-n", "three"); exit != 3 || !strings.Contains(stderr, "unknown_namespace") {
		t.Errorf("three was touched: %d, %s", exit, stderr)
	}
	var list struct {
		Namespaces []struct {
			Namespace string
			Changes   []string
			Applied   bool
			Seq       uint64
		}
	}
	if err := json.Unmarshal([]byte(s.must("apply", "-f", file, "--yes", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if n := list.Namespaces; len(n) != 3 || n[0].Applied || len(n[0].Changes) != 0 || !n[1].Applied || n[1].Seq < 2 || !n[2].Applied || n[2].Seq != 1 {
		t.Errorf("the same file again: %+v", n)
	}
	// If it is the first one that is refused, nothing was applied: the error is the one that a single namespace gets.
	other := s.file(strings.ReplaceAll(three, "[{id: a}]", "[{id: a}, {id: b}]"))
	exit, stdout, stderr = s.between(other, func() { s.must("queue", "-n", "one", "--wait", "unit.put", `{"id":"c"}`) })
	if exit != 3 || !strings.Contains(stderr, "unitgate: stale_version: ") || strings.Contains(stdout, "applied at") {
		t.Errorf("the first one refused: ended with %d: %s%s", exit, stdout, stderr)
	}
}
