package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a running program. It dies with the test, and with the test process.
type Process struct {
	Name   string
	PID    int
	Temp   string // its directory for temporary files
	Stdout *Output
	Stderr *Output
	quiet  bool          // its user reports what it wrote
	exited chan struct{} // closed once code is set
	code   int           // exit code; -1 after a signal
}

// Output collects what a process writes. Use it from any goroutine.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// String returns everything written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Lines returns the complete lines written so far.
func (o *Output) Lines() []string {
	text := o.String()
	return strings.Split(text[:strings.LastIndexByte(text, '\n')+1], "\n")
}

// Start runs unitgate with these arguments.
func Start(t testing.TB, args ...string) *Process {
	t.Helper()
	return StartProgram(t, "", Binary(t), args...)
}

// StartProgram runs any program, in dir if given. Whoever does not wait for its end leaves it to the test's cleanup.
func StartProgram(t testing.TB, dir, program string, args ...string) *Process {
	t.Helper()
	return startProgram(t, dir, 0, program, args)
}

// StartInit runs unitgate as PID 1 of a pid namespace, as a container does. It needs root.
func StartInit(t testing.TB, args ...string) *Process {
	t.Helper()
	return startProgram(t, "", syscall.CLONE_NEWPID, Binary(t), args)
}

func startProgram(t testing.TB, dir string, cloneflags uintptr, program string, args []string) *Process {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	p := &Process{Name: strings.Join(args, " "), Temp: t.TempDir(), Stdout: &Output{}, Stderr: &Output{}, exited: make(chan struct{})}
	cmd.Env = append(environment(), "TMPDIR="+p.Temp)
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Cloneflags: cloneflags}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the starting thread ends: keep that thread for as long as the process lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // ExitCode says it all
		p.code = cmd.ProcessState.ExitCode()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	p.PID = cmd.Process.Pid
	t.Cleanup(func() {
		p.Kill()
		if strings.Contains(p.Stderr.String(), "WARNING: DATA RACE") {
			t.Errorf("unitgate %s: data race", p.Name)
		}
		if t.Failed() && !p.quiet {
			t.Logf("unitgate %s\n--- stdout\n%s\n--- stderr\n%s", p.Name, tail(p.Stdout.String()), tail(p.Stderr.String()))
		}
	})
	return p
}

// environment is the test's without what would lead unitgate elsewhere.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name != "NATS_URL" && !strings.HasPrefix(name, "UNITGATE_") {
			env = append(env, v)
		}
	}
	// Logs as people read them; --log-format wins over the variable.
	return append(env, "GORACE=atexit_sleep_ms=10", "UNITGATE_LOG_FORMAT=text")
}

func tail(text string) string {
	const most = 8000
	if len(text) <= most {
		return text
	}
	return "…" + text[len(text)-most:]
}

// Running says whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Signal sends a signal, if the process still runs.
func (p *Process) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.PID, s); p.Running() && err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("signalling unitgate %s: %v", p.Name, err)
	}
}

// Kill ends the process the hard way (SIGKILL) and waits until it is gone.
func (p *Process) Kill() {
	if p.Running() {
		_ = syscall.Kill(p.PID, syscall.SIGKILL) // it may have ended just now
		<-p.exited
	}
}

// Wait waits for the end and returns the exit code, -1 after a signal.
func (p *Process) Wait(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.code
	case <-time.After(within):
		t.Fatalf("unitgate %s still runs after %v", p.Name, within)
		return 0
	}
}

// Result is how a command ended.
type Result struct {
	Args   []string
	Code   int
	Stdout string
	Stderr string
}

// Run runs a unitgate command to its end.
func Run(t testing.TB, args ...string) Result {
	t.Helper()
	p := Start(t, args...)
	p.quiet = true
	code := p.Wait(t, time.Minute)
	return Result{Args: args, Code: code, Stdout: p.Stdout.String(), Stderr: p.Stderr.String()}
}

// OK fails the test unless the exit code is 0.
func (r Result) OK(t testing.TB) Result {
	t.Helper()
	return r.Exits(t, 0)
}

// Exits fails the test unless the exit code is code.
func (r Result) Exits(t testing.TB, code int) Result {
	t.Helper()
	if r.Code != code {
		t.Fatalf("unitgate %s: exit code %d instead of %d\n--- stdout\n%s\n--- stderr\n%s",
			strings.Join(r.Args, " "), r.Code, code, tail(r.Stdout), tail(r.Stderr))
	}
	return r
}

// JSON decodes the one document that stdout must be.
func (r Result) JSON(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.Stdout), into); err != nil {
		t.Fatalf("unitgate %s: stdout is not one JSON document: %v\n%s", strings.Join(r.Args, " "), err, tail(r.Stdout))
	}
}
