//go:build linux

// Package crew runs the processes of a comparison: proxies under test, and this program itself in other roles (load
// generator, origin), which are told what to do by lines of JSON. A process never outlives the one that started it.
package crew

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is a running program, its children included. Use it from any goroutine.
type Process struct {
	Name   string
	PID    int
	stdin  io.WriteCloser
	stdout io.Reader // nil unless asked for
	log    *tail
	exited chan struct{} // closed once state is set
	state  string
}

// Spec says what to run.
type Spec struct {
	Name    string
	Program string
	Args    []string
	Env     []string // nil: this process's
	Talks   bool     // its standard input and output are for Call; else output is kept for messages
}

// Start starts a program.
func Start(s Spec) (*Process, error) {
	cmd := exec.Command(s.Program, s.Args...)
	cmd.Env = s.Env
	p := &Process{Name: s.Name, log: &tail{}, exited: make(chan struct{})}
	cmd.Stderr = p.log
	// A group of its own keeps the terminal's Ctrl-C from it: whoever started it stops it, in good order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if s.Talks {
		var err error
		if p.stdin, err = cmd.StdinPipe(); err == nil {
			p.stdout, err = cmd.StdoutPipe()
		}
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", s.Name, err)
		}
	} else {
		cmd.Stdout = p.log
	}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the starting thread ends: keep that thread for as long as the process lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			state, _ := cmd.Process.Wait() // cmd.Wait would close stdout before it is read
			p.state = fmt.Sprint(state)
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	p.PID = cmd.Process.Pid
	return p, nil
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Failure says how the process ended and what it wrote last.
func (p *Process) Failure() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s has ended (%s): %s", p.Name, p.state, p.log)
	default:
		return fmt.Errorf("%s: %s", p.Name, p.log)
	}
}

// Stop ends the process with SIGTERM, and its whole group with SIGKILL once patience is over.
func (p *Process) Stop(patience time.Duration) {
	if p.stdin != nil {
		_ = p.stdin.Close() // a role ends with its input
	}
	_ = syscall.Kill(p.PID, syscall.SIGTERM) // gone already: all the better
	select {
	case <-p.exited:
	case <-time.After(patience):
	}
	_ = syscall.Kill(-p.PID, syscall.SIGKILL)
	<-p.exited
}

// AwaitReady polls until ready says yes.
func (p *Process) AwaitReady(ctx context.Context, ready func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !ready() {
		select {
		case <-p.exited:
			return p.Failure()
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("not ready after 30 s: %w", p.Failure())
		case <-tick.C:
		}
	}
	return nil
}

// tail keeps the last that was written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const keep = 4000

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text = append(t.text, b...); len(t.text) > 2*keep {
		t.text = append(t.text[:0], t.text[len(t.text)-keep:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := bytes.TrimSpace(t.text)
	return string(text[max(0, len(text)-keep):])
}
