// Package pid1 moves a program out of the place of PID 1, which a container gives to its entry point. The kernel ignores
// SIGKILL there when it comes from inside, so the timer that has to end an edge with its lease could not (package
// edge/deadman, rule R12). The program runs itself once more, as a child that does the work; what stays behind as PID 1
// does what that place asks for: it hands signals on, reaps orphans, and ends as its child ended.
//
// Like the rest of the edge, it is made for Linux.
package pid1

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"
)

const (
	// self is this very program, also when its file has been replaced since.
	self = "/proc/self/exe"

	// behind tells the child what it is.
	behind = "UNITGATE_BEHIND_PID1"

	// signalled is what shells add to the number of the signal that ended a program.
	signalled = 128

	// grace is how long the end of a context may be ahead of the signal that is its cause.
	grace = 100 * time.Millisecond
)

// forwarded are the signals that mean the program. The others are left out because they mean one process: those that
// report a fault of its own, those of its terminal (a child in a group of its own gets none from there), and SIGCHLD.
var forwarded = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT, syscall.SIGWINCH,
}

// Is says whether this process is PID 1 of its pid namespace.
func Is() bool { return os.Getpid() == 1 }

// Ends is the pid namespace, as the kernel names it, that ends with this process: its PID 1 is in Run and waits for it; ""
// if there is none.
func Ends() string {
	if os.Getenv(behind) == "" || os.Getppid() != 1 {
		return ""
	}
	name, _ := os.Readlink("/proc/self/ns/pid")
	return name
}

// Run runs this program once more, with its arguments, environment and standard files, and returns the exit code of
// that; 128 and the signal's number if a signal ended it. When ctx ends, the child gets SIGTERM, if no signal that was
// handed on has told it already. While Run runs, nobody else may start or wait for processes: it reaps them all.
func Run(ctx context.Context, log *slog.Logger) (int, error) {
	signals := make(chan os.Signal, 2*len(forwarded))
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	c, err := start(log)
	if err != nil {
		return 0, fmt.Errorf("running %s again as a child: %w", os.Args[0], err)
	}
	log.Info("PID 1 cannot be killed by its own timer, so the work is done by a child", "child", c.pid)
	told := false
	stop, late := ctx.Done(), make(<-chan time.Time)
	for {
		select {
		case s := <-signals:
			told = told || slices.Contains([]os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT}, s)
			c.signal(s.(syscall.Signal))
		case <-stop:
			// The same signal may still be on its way to us, or have come before we listened.
			stop, late = nil, time.After(grace)
		case <-late:
			if !told {
				c.signal(syscall.SIGTERM)
			}
		case status := <-c.ended:
			return code(status, log), nil
		}
	}
}

// child is the program's second run.
type child struct {
	pid   int
	ended chan syscall.WaitStatus // gets one
	log   *slog.Logger
}

// start starts the child, and reaps processes from then on until the child is among them.
func start(log *slog.Logger) (*child, error) {
	c := &child{ended: make(chan syscall.WaitStatus, 1), log: log}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that started the child, not when the process does: this thread
		// stays with this goroutine, which stays until the child has ended.
		runtime.LockOSThread()
		var err error
		c.pid, err = syscall.ForkExec(self, os.Args, &syscall.ProcAttr{
			Env: append(os.Environ(), behind+"=1"), Files: []uintptr{0, 1, 2},
			// In a process group of its own, it gets a terminal's Ctrl-C once, from us.
			Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true},
		})
		started <- err
		if err == nil {
			c.ended <- reap(c.pid)
		}
	}()
	return c, <-started
}

// reap takes every process that ends off the kernel's table, until it is pid's turn. Orphans of a pid namespace become
// children of its PID 1.
func reap(pid int) syscall.WaitStatus {
	for {
		var status syscall.WaitStatus
		// The only errors are a signal, which is no reason to stop, and no child, while there is one.
		if ended, err := syscall.Wait4(-1, &status, 0, nil); err == nil && ended == pid {
			return status
		}
	}
}

// signal hands a signal on. The child may have ended just now; its number is not given to another process until the
// kernel has been once through all of them.
func (c *child) signal(s syscall.Signal) {
	if err := syscall.Kill(c.pid, s); err != nil {
		c.log.Warn("handing a signal on", "signal", s, "error", err)
	}
}

// code is what a shell would say of the status.
func code(status syscall.WaitStatus, log *slog.Logger) int {
	if !status.Signaled() {
		return status.ExitStatus()
	}
	log.Error("the child that did the work was ended by a signal", "signal", status.Signal())
	return signalled + int(status.Signal())
}
