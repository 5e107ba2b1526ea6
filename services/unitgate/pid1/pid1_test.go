package pid1_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/services/unitgate/pid1"
)

const (
	role    = "UNITGATE_PID1_ROLE" // what this test binary plays instead of testing
	behind  = "UNITGATE_PID1_BEHIND"
	patient = 20 * time.Second // the machine may be busy
)

// TestMain plays the program: a first run that hands over to a second one, which does what the role says.
func TestMain(m *testing.M) {
	play, ok := roles[os.Getenv(role)]
	switch {
	case !ok:
		os.Exit(m.Run())
	case os.Getenv(behind) != "":
		play()
	default:
		os.Setenv(behind, strconv.Itoa(os.Getpid()))
		// As the main does it: a first signal ends the context.
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		code, err := pid1.Run(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		if err != nil {
			fmt.Println(err)
		}
		os.Exit(code)
	}
}

var roles = map[string]func(){
	"exit": func() {
		in, _ := io.ReadAll(os.Stdin)
		fmt.Printf("%s, %d arguments, init %v\n", in, len(os.Args), pid1.Is())
		fmt.Fprintln(os.Stderr, "to standard error")
		os.Exit(7)
	},
	// Counts what it is told; ends with the third signal.
	"signals": func() {
		told := make(chan os.Signal, 10)
		signal.Notify(told)
		fmt.Println("ready")
		for s := range told {
			switch s {
			case syscall.SIGURG, syscall.SIGCONT: // Go's own; and what a group gets that became an orphan
			case syscall.SIGUSR2:
				os.Exit(0)
			default:
				fmt.Println(s)
			}
		}
	},
	"wait": func() {
		fmt.Println(os.Getpid())
		time.Sleep(time.Hour)
	},
	// Leaves orphans behind, and asks whether they are reaped.
	"orphans": func() {
		for range 20 {
			if err := exec.Command("sh", "-c", "(exit 3) & (exit 4) &").Run(); err != nil {
				fmt.Println(err)
			}
		}
		fmt.Println("left")
		time.Sleep(time.Hour)
	},
	"killed": func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	},
}

// program is this test binary in a role, as PID 1 of a pid namespace if isInit.
type program struct {
	*exec.Cmd
	out *bufio.Scanner
	err *bufio.Scanner
}

func start(t *testing.T, name string, isInit bool, stdin string) *program {
	t.Helper()
	p := &program{Cmd: exec.Command(os.Args[0], "one", "two")}
	p.Env = append(os.Environ(), role+"="+name)
	p.Stdin = strings.NewReader(stdin)
	p.SysProcAttr = &syscall.SysProcAttr{}
	if isInit {
		if os.Geteuid() != 0 {
			missing(t, "a pid namespace needs root")
		}
		p.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	text, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() }) // its second run dies with it
	p.out, p.err = bufio.NewScanner(out), bufio.NewScanner(text)
	return p
}

// missing skips a test that lacks a part, or fails it where every part is required.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("UNITGATE_REQUIRE_ALL") != "" {
		t.Fatal("UNITGATE_REQUIRE_ALL is set, and " + what)
	}
	t.Skip(what)
}

func (p *program) says(t *testing.T, want string) {
	t.Helper()
	if got := p.line(t); got != want {
		t.Fatalf("the program said %q, want %q", got, want)
	}
}

func (p *program) line(t *testing.T) string {
	t.Helper()
	overdue := time.AfterFunc(patient, func() { _ = p.Process.Kill() })
	defer overdue.Stop()
	if !p.out.Scan() {
		t.Fatalf("the program said nothing more: %v", p.out.Err())
	}
	return p.out.Text()
}

// ends waits for the end, with this exit code.
func (p *program) ends(t *testing.T, code int) (stderr string) {
	t.Helper()
	overdue := time.AfterFunc(patient, func() { _ = p.Process.Kill() })
	defer overdue.Stop()
	for p.out.Scan() {
		t.Errorf("the program also said %q", p.out.Text())
	}
	for p.err.Scan() {
		stderr += p.err.Text() + "\n"
	}
	_ = p.Wait()
	if got := p.ProcessState.ExitCode(); got != code {
		t.Fatalf("the program ended with %d, want %d\n%s", got, code, stderr)
	}
	return stderr
}

// TestPassesEverythingOn: arguments, standard files and the exit code are the child's.
func TestPassesEverythingOn(t *testing.T) {
	t.Parallel()
	p := start(t, "exit", true, "from standard input")
	p.says(t, "from standard input, 3 arguments, init false")
	text := p.ends(t, 7)
	if !strings.Contains(text, "to standard error") || !strings.Contains(text, "PID 1 cannot be killed by its own timer") {
		t.Errorf("standard error is %q", text)
	}
}

// TestEndBySignal: a child that was killed is no success.
func TestEndBySignal(t *testing.T) {
	t.Parallel()
	if text := start(t, "killed", true, "").ends(t, 128+9); !strings.Contains(text, "ended by a signal") {
		t.Errorf("the log is %q", text)
	}
}

// TestHandsSignalsOn: each comes once, also the first SIGTERM, of which the context tells too, and a second one.
func TestHandsSignalsOn(t *testing.T) {
	t.Parallel()
	p := start(t, "signals", true, "")
	p.says(t, "ready")
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1} {
		if err := p.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		p.says(t, s.String())
	}
	time.Sleep(200 * time.Millisecond) // what came twice would have come by now
	if err := p.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	p.ends(t, 0)
}

// TestReapsOrphans: what the second run leaves behind does not stay on the kernel's table.
func TestReapsOrphans(t *testing.T) {
	t.Parallel()
	p := start(t, "orphans", true, "")
	p.says(t, "left")
	var left []string
	for deadline := time.Now().Add(patient); ; time.Sleep(10 * time.Millisecond) {
		if left = children(t, p.Process.Pid); len(left) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("PID 1 has the children %q", left)
		}
	}
}

// children lists a process's children, dead ones that nobody waited for included.
func children(t *testing.T, pid int) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // the process may have gone
		_, rest, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			found = append(found, string(text))
		}
	}
	return found
}

// TestChildDiesWithIt needs no namespace, whose end would kill the child anyway: only Pdeathsig does it here.
func TestChildDiesWithIt(t *testing.T) {
	t.Parallel()
	p := start(t, "wait", false, "")
	pid, err := strconv.Atoi(p.line(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	for deadline := time.Now().Add(patient); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if state := stateOf(pid); state == "Z" {
			return // dead, and whoever inherited it has not looked yet
		}
		if time.Now().After(deadline) {
			t.Fatal("the child outlives its parent")
		}
	}
}

func stateOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}
