package relay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd is the role of many clients and of the origin that serves them.
type crowd struct {
	t       *testing.T
	clients []*member
}

// member is a client. It holds no buffer while it waits.
type member struct {
	*net.TCPConn
	id int
}

func (c *crowd) handle(what call) (answer, error) {
	switch what.Do {
	case "listen":
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return answer{}, err
		}
		c.t.Cleanup(func() { _ = ln.Close() })
		go serveCrowd(ln)
		return answer{Addr: ln.Addr().String()}, nil
	case "open":
		return answer{}, c.open(what)
	case "read":
		n, err := c.readAll(what)
		return answer{Bytes: n}, err
	case "leave":
		at, err := c.leave()
		return answer{At: at}, err
	case "hang up":
		for _, m := range c.clients {
			_ = m.Close()
		}
		c.clients = nil
		return answer{}, nil
	}
	return answer{}, fmt.Errorf("what is %q?", what.Do)
}

// each runs f for every client, so many at a time, and returns one of the errors.
func (c *crowd) each(parallel int, f func(i int, m *member) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	turns := make(chan struct{}, parallel)
	for i, m := range c.clients {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			if err := f(i, m); err != nil {
				mu.Lock()
				failed = fmt.Errorf("client %d: %w", m.id, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}

// open connects N clients to the relays in turn, with routerIds from First on, and reads their 101 but nothing behind it.
// With Split the routerIds have slots from there on.
func (c *crowd) open(what call) error {
	for i := range what.N {
		own := what.First + i
		if from := int(what.Split); from > 0 {
			own = own/(100-from)*100 + from + own%(100-from)
		}
		c.clients = append(c.clients, &member{id: own})
	}
	return c.each(32, func(i int, m *member) error {
		if m.TCPConn != nil {
			return nil
		}
		conn, err := net.Dial("tcp", what.Addrs[i%len(what.Addrs)])
		if err != nil {
			return err
		}
		m.TCPConn = conn.(*net.TCPConn)
		if err := m.SetReadBuffer(64 << 10); err != nil { // what waits is to wait in the relay and before it
			return err
		}
		request := strings.Replace(requestFor(id(m.id)), "/chat", what.Target, 1)
		if _, err := m.Write([]byte(request)); err != nil {
			return err
		}
		return expect(m, []byte(switching))
	})
}

// readAll has the clients read their floods, so many at a time, to the end, which is an orderly one.
func (c *crowd) readAll(what call) (total int64, err error) {
	var mu sync.Mutex
	err = c.each(what.Parallel, func(_ int, m *member) error {
		defer m.Close()
		n, err := checkFlood(m, m.id, what.Bytes)
		mu.Lock()
		total += n
		mu.Unlock()
		return err
	})
	return total, err
}

// leave waits until every client was told to go, answers, and sees the end. It returns when each was told.
func (c *crowd) leave() ([]time.Time, error) {
	at := make([]time.Time, len(c.clients))
	err := c.each(len(c.clients), func(i int, m *member) error {
		defer m.Close()
		told := make([]byte, 4+len("moved to there"))
		if _, err := io.ReadFull(m, told); err != nil {
			return err
		}
		at[i] = time.Now()
		if told[0] != 0x88 || binary.BigEndian.Uint16(told[2:]) != 1012 || string(told[4:]) != "moved to there" {
			return fmt.Errorf("got %q", told)
		}
		if _, err := m.Write(closeFrame(1012, true)); err != nil {
			return err
		}
		return expectEnd(m)
	})
	return at, err
}

func expect(r io.Reader, want []byte) error {
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("got %q and %v, want %q", got[:n], err, want)
	}
	return nil
}

func expectEnd(r io.Reader) error {
	var b [64]byte
	if n, err := r.Read(b[:]); n > 0 || err != io.EOF {
		return fmt.Errorf("got %q and %v, want the end of the stream", b[:n], err)
	}
	return nil
}

// The flood of a client is one binary message, whose payload is the same endless sequence for everybody, begun at
// another place. Neither end needs a buffer for it.
const floodPeriod = 1<<20 - 3 // a prime, so that nothing else has the same period

var floodTable = sync.OnceValue(func() []byte {
	rnd := rand.NewChaCha8([32]byte{1})
	b := make([]byte, floodPeriod+64<<10)
	_, _ = rnd.Read(b[:floodPeriod])
	copy(b[floodPeriod:], b)
	return b
})

// floodAt is a piece of a client's payload, from an offset on, of at most 64 KiB.
func floodAt(id int, offset, n int64) []byte {
	at := (int64(id)*4099 + offset) % floodPeriod
	return floodTable()[at : at+n]
}

func floodHead(n int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{0x82, 127}, uint64(n))
}

// writeFlood writes a flood in pieces of the given size.
func writeFlood(w io.Writer, id int, n, piece int64) error {
	if _, err := w.Write(floodHead(n)); err != nil {
		return err
	}
	for at := int64(0); at < n; {
		k, err := w.Write(floodAt(id, at, min(n-at, piece)))
		if err != nil {
			return err
		}
		at += int64(k)
	}
	return nil
}

var floodBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// checkFlood reads a flood and the end of the stream behind it.
func checkFlood(r io.Reader, id int, n int64) (read int64, err error) {
	if err := expect(r, floodHead(n)); err != nil {
		return 0, err
	}
	b := floodBuffers.Get().(*[64 << 10]byte)
	defer floodBuffers.Put(b)
	for read < n {
		k, err := r.Read(b[:min(n-read, int64(len(b)))])
		if !bytes.Equal(b[:k], floodAt(id, read, int64(k))) {
			return read, fmt.Errorf("other bytes behind offset %d", read)
		}
		if read += int64(k); err != nil {
			return read, fmt.Errorf("after %d of %d bytes: %w", read, n, err)
		}
	}
	return read, expectEnd(r)
}

// serveCrowd answers every handshake with 101. The target /flood/SIZE/PIECE asks for a flood and the end of the stream,
// /echo sends back what comes; for any other it waits for the client's end.
func serveCrowd(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = serveMember(conn.(*net.TCPConn))
		}()
	}
}

func serveMember(conn *net.TCPConn) error {
	br := bufio.NewReaderSize(conn, 512)
	target, id := "", 0
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = br.ReadString('\n'); err != nil {
			return err
		}
		if t, ok := strings.CutPrefix(line, "GET "); ok {
			target, _, _ = strings.Cut(t, " ")
		}
		if v, ok := strings.CutPrefix(line, "routerId: "); ok {
			id, _ = strconv.Atoi(strings.TrimSpace(v))
		}
	}
	if err := conn.SetWriteBuffer(64 << 10); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(switching)); err != nil {
		return err
	}
	var size, piece int64
	if _, err := fmt.Sscanf(target, "/flood/%d/%d", &size, &piece); err == nil {
		if err := writeFlood(conn, id, size, piece); err != nil {
			return err
		}
		return conn.CloseWrite()
	}
	to := io.Discard
	if target == "/echo" {
		to = conn
	}
	_, err := io.Copy(to, br)
	return err
}
