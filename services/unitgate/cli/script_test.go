package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/unitgate/unitgate/services/unitgate/cli"
	"github.com/unitgate/unitgate/services/unitgate/dev"
)

// TestMain lets scripts run `unitgate`, which is this test binary under another name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"unitgate": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}})
}

// params are for scripts with commands of their own: `code N unitgate …` runs a command that must end with that exit code,
// `eventually PATTERN unitgate …` runs one until its output matches, `document` wants the last output to be exactly one
// JSON document, `expand FILE` replaces $VARIABLES in a file, `sequence VAR TYPE` sets VAR to the sequence of the demo's first event of that type.
func params(dir string, setup func(*testscript.Env) error) testscript.Params {
	return testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", "atexit_sleep_ms=10") // else each command takes a second under the race detector
			return setup(e)
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":       code,
			"eventually": eventually,
			"document":   document,
			"expand":     expand,
			"sequence":   sequence,
		},
	}
}

func code(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s ended with %d, want %d\n%s", strings.Join(args[1:], " "), got, want, ts.ReadFile("stderr"))
	}
}

// patience is for what a script waits for; far longer than it takes.
const patience = 20 * time.Second

func eventually(ts *testscript.TestScript, _ bool, args []string) {
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if ts.Exec(args[1], args[2:]...) == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("no %s in %v, but\n%s%s", args[0], patience, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
}

func sequence(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("unitgate", "log", "-n", "demo", "-o", "json"))
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		var e struct {
			Seq  uint64
			Type string
		}
		ts.Check(json.Unmarshal([]byte(line), &e))
		if e.Type == args[1] {
			ts.Setenv(args[0], strconv.FormatUint(e.Seq, 10))
			return
		}
	}
	ts.Fatalf("there was no %s", args[1])
}

func document(ts *testscript.TestScript, _ bool, _ []string) {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	var v any
	if err := dec.Decode(&v); err != nil {
		ts.Fatalf("no JSON: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		ts.Fatalf("something follows the JSON document")
	}
}

// TestOffline are the cases that need no system.
func TestOffline(t *testing.T) {
	testscript.Run(t, params("testdata/offline", func(e *testscript.Env) error {
		e.Setenv("NATS_URL", "nats://127.0.0.1:1")
		return nil
	}))
}

// TestDev runs each script against a dev of its own.
func TestDev(t *testing.T) {
	testscript.Run(t, params("testdata/dev", func(e *testscript.Env) error {
		log, err := os.Create(filepath.Join(e.WorkDir, "dev.log"))
		if err != nil {
			return err
		}
		e.Defer(func() { _ = log.Close() })
		hooks := receiver()
		e.Defer(hooks.Close)
		e.Setenv("HOOKS", hooks.URL)
		caller, err := hookCaller(hooks.URL)
		if err != nil {
			return err
		}
		d, err := dev.Start(t.Context(), dev.Options{FreePorts: true, Edges: 1, Log: slog.New(slog.NewTextHandler(log, nil)), Hooks: caller})
		if err != nil {
			return err
		}
		e.Defer(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := kubeAPI(e); err != nil {
			return err
		}
		e.Setenv("NATS_URL", d.Ready().NATS)
		e.Setenv("USER", "ops")
		for _, u := range d.Ready().Units {
			e.Setenv(strings.ToUpper(u.ID), u.Edges[0])
		}
		return nil
	}))
}
