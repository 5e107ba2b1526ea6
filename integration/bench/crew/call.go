//go:build linux

package crew

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// RoleArg is the first argument of a process of the crew; its role's name follows. The program's main looks for it.
const RoleArg = "bench-role"

// Handlers are what a role can be told, by name.
type Handlers map[string]func(args json.RawMessage) (any, error)

// Handle makes a handler of a function with typed arguments.
func Handle[A, R any](f func(A) (R, error)) func(json.RawMessage) (any, error) {
	return func(raw json.RawMessage) (any, error) {
		var a A
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, err
		}
		return f(a)
	}
}

type call struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args"`
}

type answer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// Serve answers calls on the calling goroutine, one after the other, until in ends.
func Serve(in io.Reader, out io.Writer, handlers Handlers) error {
	d, e := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var c call
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var a answer
		handler := handlers[c.Op]
		if handler == nil {
			a.Error = "nobody knows how to " + c.Op
		} else if result, err := handler(c.Args); err != nil {
			a.Error = err.Error()
		} else if a.Result, err = json.Marshal(result); err != nil {
			a.Error = err.Error()
		}
		if err := e.Encode(a); err != nil {
			return err
		}
	}
}

// Member is a role's process. Its calls may come from any goroutine; they are answered one after the other.
type Member struct {
	*Process
	mu  sync.Mutex
	out *bufio.Reader
}

// Enlist starts this program in a role.
func Enlist(name, role string, args ...string) (*Member, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := Start(Spec{Name: name, Program: program, Args: append([]string{RoleArg, role}, args...), Talks: true})
	if err != nil {
		return nil, err
	}
	return &Member{Process: p, out: bufio.NewReader(p.stdout)}, nil
}

// Call tells the member to do something and waits for the result. When ctx ends, so does the member: what it was doing
// has no use any more.
func (m *Member) Call(ctx context.Context, op string, args, result any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { m.Stop(0) })()
	var a answer
	if err = json.NewEncoder(m.stdin).Encode(call{op, raw}); err == nil {
		var line []byte
		if line, err = m.out.ReadBytes('\n'); err == nil {
			err = json.Unmarshal(line, &a)
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%s: %s: %w: %w", m.Name, op, err, m.Failure())
	case a.Error != "":
		return fmt.Errorf("%s: %s: %s", m.Name, op, a.Error)
	}
	return json.Unmarshal(a.Result, result)
}
