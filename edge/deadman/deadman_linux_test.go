package deadman

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	roleEnv = "UNITGATE_DEADMAN_ROLE" // makes this test binary play a part instead of testing
	soon    = 200 * time.Millisecond
	later   = time.Hour
	late    = 10 * time.Second // the machine may be busy; without a timer nobody would ever end
)

func TestMain(m *testing.M) {
	role, ok := roles[os.Getenv(roleEnv)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := role(); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // for as long as the test lives
}

// roles are what a process does before it waits for its end. Each prints the moment at which that should come, last.
var roles = map[string]func() error{
	"arm": func() error {
		t, err := New()
		if err != nil {
			return err
		}
		return endAt(t, Now()+soon)
	},
	"stop": func() error {
		t, err := New()
		if err != nil {
			return err
		}
		if err := endAt(t, Now()+5*soon); err != nil {
			return err
		}
		return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	},
	"move": func() error {
		t, err := New()
		if err != nil {
			return err
		}
		first := Now() + soon
		if err := errors.Join(t.Arm(first), t.Arm(first+later)); err != nil {
			return err
		}
		pass(first)
		fmt.Println("alive")
		return endAt(t, Now()+soon)
	},
	"disarm": func() error {
		t, err := New()
		if err != nil {
			return err
		}
		first := Now() + soon
		if err := errors.Join(t.Arm(first), t.Disarm()); err != nil {
			return err
		}
		pass(first)
		fmt.Println("alive")
		return endAt(t, Now()+soon)
	},
	"close": func() error {
		t, err := New()
		if err != nil {
			return err
		}
		first := Now() + soon
		if err := errors.Join(t.Arm(first), t.Close(), t.Close()); err != nil {
			return err
		}
		if err := t.Arm(Now()); !errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("Arm after Close: %v", err)
		}
		pass(first)
		fmt.Println("alive")
		if t, err = New(); err != nil {
			return err
		}
		return endAt(t, Now()+soon)
	},
	"zero": func() error {
		t, err := New()
		if err != nil {
			return err
		}
		return endAt(t, 0)
	},
	"init": func() error {
		if _, err := New(); !errors.Is(err, ErrInit) {
			return fmt.Errorf("PID %d got %v instead of a refusal", os.Getpid(), err)
		}
		t, err := create()
		if err != nil {
			return err
		}
		at := Now() + soon
		if err := t.Arm(at); err != nil {
			return err
		}
		pass(at)
		fmt.Println("alive")
		os.Exit(0)
		return nil
	},
}

func endAt(t *Timer, at time.Duration) error {
	fmt.Println(int64(at))
	return t.Arm(at)
}

// pass waits until a moment lies behind, and a timer that was to fire then has had time to.
func pass(at time.Duration) {
	for Now() < at+soon/2 {
		time.Sleep(soon / 10)
	}
}

// actor is this test binary in a role.
type actor struct {
	*exec.Cmd
	out   *bufio.Scanner
	stdin io.Closer
}

func play(t *testing.T, role string, attr *syscall.SysProcAttr) *actor {
	t.Helper()
	a := &actor{Cmd: exec.Command(os.Args[0])}
	a.Env = append(os.Environ(), roleEnv+"="+role)
	a.SysProcAttr = attr
	out, err := a.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if a.stdin, err = a.StdinPipe(); err != nil { // ends the actor if this process dies
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Process.Kill() })
	a.out = bufio.NewScanner(out)
	return a
}

func (a *actor) line(t *testing.T) string {
	t.Helper()
	if !a.out.Scan() {
		t.Fatalf("the process said nothing more (%v, %v)", a.out.Err(), a.Wait())
	}
	return a.out.Text()
}

// endsAt waits for the end by SIGKILL, which must not come before the moment that the process announced.
func (a *actor) endsAt(t *testing.T) {
	t.Helper()
	line := a.line(t)
	at, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		t.Fatalf("the process said %q", line)
	}
	failed := time.AfterFunc(late, func() { _ = a.Process.Signal(syscall.SIGTERM) })
	for a.out.Scan() { // Wait must not close the pipe before it is read
		t.Errorf("the process went on to say %q", a.out.Text())
	}
	_ = a.Wait()
	failed.Stop()
	over := Now() - time.Duration(at)
	status := a.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signal() != syscall.SIGKILL || over < 0 {
		t.Fatalf("the process ended %v after the moment it set, %v", over, a.ProcessState)
	}
	if at > 0 {
		t.Logf("ended %v after the moment it had set", over)
	}
}

// TestEnds has processes set a moment in every way, and expects their end then and not before.
func TestEnds(t *testing.T) {
	for _, role := range []string{"arm", "move", "disarm", "close", "zero"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			a := play(t, role, nil)
			if role == "move" || role == "disarm" || role == "close" {
				if line := a.line(t); line != "alive" {
					t.Fatalf("the process said %q", line)
				}
			}
			a.endsAt(t)
		})
	}
}

// TestEndsAStoppedProcess is what the timer is for: a process that no longer runs ends all the same.
func TestEndsAStoppedProcess(t *testing.T) {
	t.Parallel()
	a := play(t, "stop", nil)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(a.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("the process has not stopped: %v, status %#x", err, status)
	}
	a.endsAt(t)
}

// TestInitIsRefused shows why: PID 1 of a pid namespace outlives its own timer.
func TestInitIsRefused(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		missing(t, "a pid namespace needs root")
	}
	a := play(t, "init", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID})
	if line := a.line(t); line != "alive" {
		t.Fatalf("the process said %q", line)
	}
	if err := a.Wait(); err != nil {
		t.Fatal(err)
	}
}

// missing skips a test that lacks a part, or fails it where every part is required.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("UNITGATE_REQUIRE_ALL") != "" {
		t.Fatal("UNITGATE_REQUIRE_ALL is set, and " + what)
	}
	t.Skip(what)
}

// TestNow holds the clock against the kernel's own word.
func TestNow(t *testing.T) {
	read := func() time.Duration {
		text, err := os.ReadFile("/proc/uptime")
		if err != nil {
			t.Fatal(err)
		}
		uptime, err := time.ParseDuration(strings.Fields(string(text))[0] + "s")
		if err != nil {
			t.Fatal(err)
		}
		return uptime
	}
	before, now, after := read(), Now(), read()
	if now < before || now > after+10*time.Millisecond { // uptime is cut to hundredths
		t.Errorf("Now says %v, the kernel %v before and %v after", now, before, after)
	}
	if n := testing.AllocsPerRun(100, func() { _ = Now() }); n != 0 {
		t.Errorf("Now allocates %v times", n)
	}
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		_ = Now()
	}
}
