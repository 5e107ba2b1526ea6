//go:build linux

package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/unitgate/unitgate/integration/bench/sock"
)

// Payload is the number of bytes of a message; the first eight count the messages.
const Payload = 64

// EchoArgs says how fast to send in open loop.
type EchoArgs struct {
	Rate     int           `json:"rate"` // messages a second, evenly spaced, one session after the other
	Duration time.Duration `json:"duration"`
}

// Echoed is what came back.
type Echoed struct {
	Messages int           `json:"messages"`
	Elapsed  time.Duration `json:"elapsed"`
	Latency  Latency       `json:"latency"` // from the moment at which the message was to be sent
	Late     Latency       `json:"late"`    // of the sending itself: the generator's own share
}

// messages makes and checks messages.
type messages struct {
	*Worker
	frame   []byte
	payload []byte
}

func (w *Worker) messages() *messages {
	m := &messages{Worker: w, payload: make([]byte, Payload)}
	for i := range m.payload {
		m.payload[i] = byte('a' + i%26)
	}
	return m
}

// send sends message n.
func (m *messages) send(c *conn, n int) error {
	binary.BigEndian.PutUint64(m.payload, uint64(n))
	m.frame = sock.AppendFrame(m.frame[:0], sock.OpBinary, true, m.payload)
	return m.write(c, m.frame)
}

// number checks an echo and returns its message's number.
func (m *messages) number(c *conn, op byte, payload []byte) (int, error) {
	if op != sock.OpBinary || len(payload) != Payload || !bytes.Equal(payload[8:], m.payload[8:]) {
		return 0, fmt.Errorf("opcode %d with %d bytes %.60q is no echo", op, len(payload), payload)
	}
	n := int(binary.BigEndian.Uint64(payload))
	if n%len(m.open) != c.index {
		return 0, fmt.Errorf("the echo of message %d belongs to session %d", n, n%len(m.open))
	}
	return n, nil
}

const patience = 5 * time.Second // for the last echoes

// Echo sends on all sessions in open loop. A message that is lost, doubled or changed is an error.
func (w *Worker) Echo(a EchoArgs) (Echoed, error) {
	total := int(float64(a.Rate) * a.Duration.Seconds())
	if len(w.open) == 0 || total <= 0 {
		return Echoed{}, errors.New("echo needs sessions, a rate and a duration")
	}
	m := w.messages()
	took, late := make([]int64, total), make([]int64, total)
	began := w.clock.Now() + int64(time.Millisecond)
	due := func(n int) int64 { return began + int64(float64(n)*1e9/float64(a.Rate)) }
	sent, back := 0, 0
	ready := func(c *conn, _ uint32) error {
		return w.frames(c, func(op byte, payload []byte) error {
			n, err := m.number(c, op, payload)
			if err != nil {
				return err
			}
			if n >= sent || took[n] != 0 {
				return fmt.Errorf("message %d came twice, or was never sent", n)
			}
			took[n] = w.clock.Now() - due(n)
			back++
			return nil
		})
	}
	for back < total {
		now := w.clock.Now()
		for burst := 0; sent < total && due(sent) <= now && burst < 64; burst++ {
			late[sent] = w.clock.Now() - due(sent)
			if err := m.send(w.open[sent%len(w.open)], sent); err != nil {
				return Echoed{}, err
			}
			sent++
		}
		wait := 100 * time.Millisecond
		if sent < total {
			wait = time.Duration(due(sent) - w.clock.Now())
		}
		if err := w.events(wait, ready); err != nil {
			return Echoed{}, err
		}
		if now > due(total)+int64(patience) {
			return Echoed{}, fmt.Errorf("%d of %d messages did not come back, %v after the last one was due", total-back, total, patience)
		}
	}
	return Echoed{total, time.Duration(w.clock.Now() - began), latencyOf(took), latencyOf(late)}, nil
}

// ClosedArgs says for how long every session sends its next message when the one before has come back.
type ClosedArgs struct {
	Duration time.Duration `json:"duration"`
}

// Closed is a closed loop on all sessions: one message of each is under way. Late has no meaning here.
func (w *Worker) Closed(a ClosedArgs) (Echoed, error) {
	if len(w.open) == 0 {
		return Echoed{}, errors.New("a closed loop needs sessions")
	}
	m := w.messages()
	var took []int64
	sentAt := make([]int64, len(w.open))
	began := w.clock.Now()
	end := began + int64(a.Duration)
	under, last := len(w.open), began
	send := func(c *conn) error {
		sentAt[c.index] = w.clock.Now()
		return m.send(c, c.index)
	}
	ready := func(c *conn, _ uint32) error {
		return w.frames(c, func(op byte, payload []byte) error {
			if _, err := m.number(c, op, payload); err != nil {
				return err
			}
			last = w.clock.Now()
			took = append(took, last-sentAt[c.index])
			if last < end {
				return send(c)
			}
			under--
			return nil
		})
	}
	for _, c := range w.open {
		if err := send(c); err != nil {
			return Echoed{}, err
		}
	}
	for under > 0 {
		if err := w.events(100*time.Millisecond, ready); err != nil {
			return Echoed{}, err
		}
		if w.clock.Now() > end+int64(patience) {
			return Echoed{}, fmt.Errorf("%d messages did not come back in %v", under, patience)
		}
	}
	return Echoed{Messages: len(took), Elapsed: time.Duration(last - began), Latency: latencyOf(took)}, nil
}
