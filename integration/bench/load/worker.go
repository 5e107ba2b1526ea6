//go:build linux

// Package load is the load generator: WebSocket clients on one epoll loop. It opens sessions, makes them talk in open
// or closed loop, receives streams, and waits for Close frames. Latency in open loop counts from the moment at which a
// message was to be sent, whether or not the generator got round to it: whatever holds it up is not left out.
//
// A Worker does one thing at a time, on the goroutine that calls it; between two calls its sessions stand still.
package load

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/unitgate/unitgate/integration/bench/crew"
	"github.com/unitgate/unitgate/integration/bench/sock"
)

// Worker holds the sessions of one process.
type Worker struct {
	poll  *sock.Poller
	clock sock.Clock
	conns []*conn // by descriptor
	open  []*conn // sessions, in the order of their opening
	buf   []byte
}

type state uint8

const (
	connecting state = iota
	asked            // the request is sent
	session          // 101 came
	finishing        // our FIN is sent
)

type conn struct {
	fd    int
	state state
	index int    // place in Worker.open
	part  []byte // of a head or a frame that is not complete
	began int64  // of the handshake; clock
	got   int64  // bytes of a stream
	gone  bool   // a Close came
}

// New makes a Worker without sessions.
func New() (*Worker, error) {
	p, err := sock.NewPoller()
	if err != nil {
		return nil, err
	}
	clock, err := sock.NewClock()
	return &Worker{poll: p, clock: clock, buf: make([]byte, 256<<10)}, err
}

// Serve is the role of a load generator: it does what it is told until in ends.
func Serve(in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	debug.SetGCPercent(400)
	w, err := New()
	if err != nil {
		return err
	}
	s := &Secure{}
	return crew.Serve(in, out, crew.Handlers{
		"tls open":       crew.Handle(s.Open),
		"tls close":      crew.Handle(s.Close),
		"tls handshakes": crew.Handle(s.Handshakes),
		"tls alive":      crew.Handle(s.Alive),
		"tls ask":        crew.Handle(s.Ask),
		"tls receive":    crew.Handle(s.Receive),

		"open":       crew.Handle(w.Open),
		"close":      crew.Handle(w.Close),
		"handshakes": crew.Handle(w.Handshakes),
		"echo":       crew.Handle(w.Echo),
		"closed":     crew.Handle(w.Closed),
		"ask":        crew.Handle(w.Ask),
		"receive":    crew.Handle(w.Receive),
		"drain":      crew.Handle(w.Drain),
		"closes":     crew.Handle(w.Closes),
	})
}

// None is the argument or the result of what has none.
type None struct{}

// Close resets every session.
func (w *Worker) Close(None) (None, error) {
	for _, c := range w.open {
		w.forget(c)
		sock.Reset(c.fd)
	}
	w.open = nil
	return None{}, nil
}

func (w *Worker) forget(c *conn) { w.conns[c.fd] = nil }

func (w *Worker) remember(c *conn) {
	for c.fd >= len(w.conns) {
		w.conns = append(w.conns, make([]*conn, 1024)...)
	}
	w.conns[c.fd] = c
}

// events waits at most d and calls ready for every connection with something to do, until stop.
func (w *Worker) events(d time.Duration, ready func(c *conn, events uint32) error) error {
	events, err := w.poll.Wait(d)
	if err != nil {
		return err
	}
	for _, ev := range events {
		if c := w.conns[ev.Fd]; c != nil {
			if err := ready(c, ev.Events); err != nil {
				return err
			}
		}
	}
	return nil
}

// frames reads once and calls each for every whole frame.
func (w *Worker) frames(c *conn, each func(op byte, payload []byte) error) error {
	n, err := sock.Read(c.fd, w.buf)
	switch {
	case err != nil && sock.Again(err):
		return nil
	case err != nil:
		return fmt.Errorf("session %d: %w", c.index, err)
	case n == 0:
		return fmt.Errorf("session %d: %w", c.index, io.ErrUnexpectedEOF)
	}
	b := w.buf[:n]
	if c.part != nil {
		b = append(c.part, b...)
		c.part = nil
	}
	for {
		f, ok := sock.ParseFrame(b)
		if !ok || len(b) < f.Head+f.Size {
			break
		}
		if err := each(f.Op, b[f.Head:f.Head+f.Size]); err != nil {
			return fmt.Errorf("session %d: %w", c.index, err)
		}
		b = b[f.Head+f.Size:]
	}
	if len(b) > 0 {
		c.part = bytes.Clone(b)
	}
	return nil
}

// write sends all of b, which is short; that the kernel does not take it is an error.
func (w *Worker) write(c *conn, b []byte) error {
	n, err := sock.Write(c.fd, b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("session %d: write: %w", c.index, err)
	}
	return nil
}
