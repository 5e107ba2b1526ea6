//go:build linux

package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/unitgate/unitgate/integration/bench/sock"
)

// AskArgs says what to ask the origin for.
type AskArgs struct {
	Frames int `json:"frames"` // of every session's stream; 0: no end
}

// Ask asks the origin for a stream on every session, and reads nothing of it.
func (w *Worker) Ask(a AskArgs) (None, error) {
	frame := sock.AppendFrame(nil, sock.OpBinary, true, []byte(strconv.Itoa(a.Frames)))
	for _, c := range w.open {
		if err := w.write(c, frame); err != nil {
			return None{}, err
		}
	}
	return None{}, nil
}

// ReceiveArgs says for how long to read.
type ReceiveArgs struct {
	Duration time.Duration `json:"duration"`
}

// Received is what was read of streams.
type Received struct {
	Bytes   int64         `json:"bytes"`
	Elapsed time.Duration `json:"elapsed"`
}

const gulp = 1 << 20 // bytes taken off a socket at once

// take takes bytes of a stream off a session's socket. They are not copied: a client that is slower than the proxy
// would measure itself.
func (w *Worker) take(c *conn) (int, error) {
	n, err := sock.Discard(c.fd, gulp)
	switch {
	case err != nil && sock.Again(err):
		return 0, nil
	case err == nil && n == 0:
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, fmt.Errorf("session %d, after %d bytes: %w", c.index, c.got, err)
	}
	c.got += int64(n)
	return n, nil
}

// Receive reads streams on all sessions as fast as they come.
func (w *Worker) Receive(a ReceiveArgs) (Received, error) {
	var out Received
	began := w.clock.Now()
	for w.clock.Now() < began+int64(a.Duration) {
		err := w.events(10*time.Millisecond, func(c *conn, _ uint32) error {
			n, err := w.take(c)
			out.Bytes += int64(n)
			return err
		})
		if err != nil {
			return out, err
		}
	}
	out.Elapsed = time.Duration(w.clock.Now() - began)
	return out, nil
}

// DrainArgs says how much every session is to get.
type DrainArgs struct {
	Bytes  int64         `json:"bytes"`
	Within time.Duration `json:"within"`
}

// Drain reads until every session has got its bytes since it was opened. More, less, or an end of the session is an
// error.
func (w *Worker) Drain(a DrainArgs) (Received, error) {
	var out Received
	missing := len(w.open)
	began := w.clock.Now()
	for missing > 0 {
		err := w.events(100*time.Millisecond, func(c *conn, _ uint32) error {
			n, err := w.take(c)
			out.Bytes += int64(n)
			switch {
			case err != nil:
			case c.got > a.Bytes:
				err = fmt.Errorf("session %d: %d bytes came, %d were asked for", c.index, c.got, a.Bytes)
			case c.got == a.Bytes && n > 0:
				missing--
			}
			return err
		})
		if err == nil && w.clock.Now()-began > int64(a.Within) {
			err = fmt.Errorf("%d sessions did not get their bytes within %v", missing, a.Within)
		}
		if err != nil {
			return out, err
		}
	}
	out.Elapsed = time.Duration(w.clock.Now() - began)
	return out, nil
}

// ClosesArgs says how many sessions are going to be closed by the other side.
type ClosesArgs struct {
	N      int           `json:"n"`
	Within time.Duration `json:"within"`
}

// Closes says when sessions were closed, in nanoseconds of CLOCK_MONOTONIC.
type Closes struct {
	First int64 `json:"first"` // Close frame
	Last  int64 `json:"last"`  // Close frame
	End   int64 `json:"end"`   // the last of them had also its FIN
}

var errNoClose = errors.New("ended without a Close")

// Closes waits until N sessions got a Close frame, answers each, and waits for their ends. They are sessions no more.
func (w *Worker) Closes(a ClosesArgs) (Closes, error) {
	var out Closes
	closes, ends := 0, 0
	began := w.clock.Now()
	ready := func(c *conn, _ uint32) error {
		if !c.gone {
			return w.frames(c, func(op byte, payload []byte) error {
				if op != sock.OpClose || len(payload) < 2 || closes == a.N {
					return fmt.Errorf("opcode %d came unexpectedly", op)
				}
				c.gone = true
				if closes++; closes == 1 {
					out.First = w.clock.Now()
				}
				out.Last = w.clock.Now()
				code := binary.BigEndian.AppendUint16(nil, binary.BigEndian.Uint16(payload))
				return w.write(c, sock.AppendFrame(nil, sock.OpClose, true, code))
			})
		}
		if n, err := sock.Read(c.fd, w.buf); n > 0 || sock.Again(err) {
			return nil // what follows a Close has no meaning
		}
		w.forget(c)
		sock.Close(c.fd)
		ends++
		out.End = w.clock.Now()
		return nil
	}
	for ends < a.N {
		err := w.events(100*time.Millisecond, ready)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.Join(errNoClose, err)
		}
		if err == nil && w.clock.Now()-began > int64(a.Within) {
			err = fmt.Errorf("%d Close frames and %d ends of %d within %v", closes, ends, a.N, a.Within)
		}
		if err != nil {
			return out, err
		}
	}
	left := w.open[:0]
	for _, c := range w.open {
		if !c.gone {
			c.index = len(left)
			left = append(left, c)
		}
	}
	w.open = left
	return out, nil
}
