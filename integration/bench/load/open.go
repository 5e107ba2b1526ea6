//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/unitgate/unitgate/integration/bench/sock"
)

// Host is the Host header of every handshake.
const Host = "bench.example"

// Target says where sessions go and what they ask for.
type Target struct {
	Addrs    []string `json:"addrs"`             // HOST:PORT, in turn
	Sources  []string `json:"sources,omitempty"` // IP:0 to connect from, in turn; none: the kernel chooses
	Path     string   `json:"path"`
	FirstID  int      `json:"firstId"`  // routerIds count from here
	IDs      int      `json:"ids"`      // and begin again after so many
	Inflight int      `json:"inflight"` // handshakes under way at a time
	RcvBuf   int      `json:"rcvBuf"`   // 0: the kernel's
}

// OpenArgs says how many sessions to open.
type OpenArgs struct {
	Target
	N      int           `json:"n"`
	Within time.Duration `json:"within"`
}

// Opened is what Open did.
type Opened struct {
	Elapsed time.Duration `json:"elapsed"`
}

// dialer makes the handshakes of a Target.
type dialer struct {
	*Worker
	Target
	to, from []*sock.Addr
	request  []byte
	idAt     int // where the five digits of the routerId stand
	made     int
}

const idDigits = 5

func (w *Worker) dialer(t Target) (*dialer, error) {
	if len(t.Addrs) == 0 || t.Inflight <= 0 || t.IDs <= 0 {
		return nil, errors.New("handshakes need an address, a routerId, and at least one under way")
	}
	d := &dialer{Worker: w, Target: t}
	var err error
	if d.to, err = sock.ParseAddrs(t.Addrs); err != nil {
		return nil, err
	}
	if d.from, err = sock.ParseAddrs(t.Sources); err != nil {
		return nil, err
	}
	text := requestText(t.Path, 0)
	d.request = []byte(text)
	d.idAt = strings.Index(text, "00000")
	return d, nil
}

// requestText is what a browser sends, in its order, for a routerId of five digits.
func requestText(path string, id int) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + Host + "\r\nConnection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n" +
		"Upgrade: websocket\r\nOrigin: http://" + Host + "\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\n" +
		fmt.Sprintf("Accept-Language: en-US,en;q=0.9\r\nrouterId: %0*d\r\n", idDigits, id) +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
}

// dial begins the next handshake.
func (d *dialer) dial() error {
	var from *sock.Addr
	if len(d.from) > 0 {
		from = d.from[d.made%len(d.from)]
	}
	began := d.clock.Now()
	fd, err := sock.Dial(d.to[d.made%len(d.to)], from, d.RcvBuf)
	if err != nil {
		return err
	}
	id := d.FirstID + d.made%d.IDs
	for i := d.idAt + idDigits - 1; i >= d.idAt; i-- {
		d.request[i] = byte('0' + id%10)
		id /= 10
	}
	d.made++
	c := &conn{fd: fd, began: began}
	d.remember(c)
	// On loopback the connection mostly stands already.
	if n, err := sock.Write(fd, d.request); err == nil && n == len(d.request) {
		c.state = asked
		return d.poll.Add(fd, sock.In)
	}
	c.part = bytes.Clone(d.request)
	return d.poll.Add(fd, sock.Out)
}

// step goes on with a handshake; done once 101 came.
func (d *dialer) step(c *conn) (done bool, err error) {
	if c.state == connecting {
		if n, err := sock.Write(c.fd, c.part); err != nil || n < len(c.part) {
			return false, fmt.Errorf("handshake: connect: %w", err)
		}
		c.state, c.part = asked, nil
		return false, d.poll.Change(c.fd, sock.In)
	}
	n, err := sock.Read(c.fd, d.buf)
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		if sock.Again(err) {
			return false, nil
		}
		return false, fmt.Errorf("handshake: no answer: %w", err)
	}
	b := slices.Concat(c.part, d.buf[:n])
	c.part = nil
	end := bytes.Index(b, []byte("\r\n\r\n"))
	switch {
	case end < 0:
		c.part = b
		return false, nil
	case !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")):
		return false, fmt.Errorf("handshake: answered %q", b[:min(len(b), 200)])
	case len(b) > end+4:
		c.part = bytes.Clone(b[end+4:])
	}
	c.state = session
	return true, nil
}

// Open opens sessions and keeps them. One that fails is an error, and ends all of them.
func (w *Worker) Open(a OpenArgs) (Opened, error) {
	d, err := w.dialer(a.Target)
	if err != nil {
		return Opened{}, err
	}
	began := w.clock.Now()
	want := len(w.open) + a.N
	for err == nil && len(w.open) < want {
		for d.made < a.N && d.made-a.N+want-len(w.open) < a.Inflight && err == nil {
			err = d.dial()
		}
		if err == nil {
			err = w.events(100*time.Millisecond, func(c *conn, _ uint32) error {
				done, err := d.step(c)
				if done {
					c.index = len(w.open)
					w.open = append(w.open, c)
				}
				return err
			})
		}
		if err == nil && w.clock.Now()-began > int64(a.Within) {
			err = fmt.Errorf("%d of %d handshakes after %v", len(w.open)-want+a.N, a.N, a.Within)
		}
	}
	if err != nil {
		w.dropAll()
	}
	return Opened{time.Duration(w.clock.Now() - began)}, err
}

// dropAll resets everything, handshakes under way included.
func (w *Worker) dropAll() {
	for fd, c := range w.conns {
		if c != nil {
			w.forget(c)
			sock.Reset(fd)
		}
	}
	w.open = nil
}

// HandshakeArgs says for how long to open and end sessions.
type HandshakeArgs struct {
	Target
	Duration time.Duration `json:"duration"`
}

// Handshaken is what Handshakes did. A handshake counts once its session has ended on both sides: 101, our FIN, and
// the FIN that answers it.
type Handshaken struct {
	Done    int           `json:"done"`
	Elapsed time.Duration `json:"elapsed"`
	Open    Latency       `json:"open"` // from connect to 101
}

// Handshakes opens and ends sessions, Inflight at a time. One that fails is an error.
func (w *Worker) Handshakes(a HandshakeArgs) (Handshaken, error) {
	d, err := w.dialer(a.Target)
	if err != nil {
		return Handshaken{}, err
	}
	var out Handshaken
	opened := make([]int64, 0, 1<<17)
	began := w.clock.Now()
	end := began + int64(a.Duration)
	last := end
	ready := func(c *conn, _ uint32) error {
		if c.state != finishing {
			done, err := d.step(c)
			if done {
				opened = append(opened, w.clock.Now()-c.began)
				sock.Finish(c.fd)
				c.state = finishing
			}
			return err
		}
		n, err := sock.Read(c.fd, w.buf)
		if n > 0 || err != nil {
			if sock.Again(err) {
				return nil
			}
			return fmt.Errorf("handshake: after our FIN came %d bytes, %w", n, err)
		}
		w.forget(c)
		sock.Close(c.fd)
		out.Done++
		last = max(end, w.clock.Now())
		return nil
	}
	for err == nil {
		now := w.clock.Now()
		for now < end && d.made-out.Done < a.Inflight && err == nil {
			err = d.dial()
		}
		if now >= end && d.made == out.Done {
			break
		}
		if err == nil {
			err = w.events(10*time.Millisecond, ready)
		}
		if err == nil && now > end+int64(patience) {
			err = fmt.Errorf("%d sessions do not end, %v after the last handshake", d.made-out.Done, patience)
		}
	}
	if err != nil {
		w.dropAll()
	}
	out.Elapsed, out.Open = time.Duration(last-began), latencyOf(opened)
	return out, err
}
