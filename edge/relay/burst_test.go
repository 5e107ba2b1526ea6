package relay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// burst is what no buffer between origin and client holds.
var burst = bytes.Repeat([]byte("a burst that waits! "), 24<<20/20)

// An origin that sends 24 MB and ends, to clients that do not read yet: every byte arrives, and what waits, waits in
// the origin and in the kernel.
func TestBurstAndEndForClientsThatReadLater(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	clients := 40
	if overTLS(t) || throughAnEdge(t) {
		clients = 6 // they have to decrypt it
	}
	conns := make([]*peer, clients)
	sent := make(chan error, clients)
	before := memory()
	for i := range conns {
		c, o := f.open(b, id(i))
		conns[i] = c
		_ = c.tcp().SetReadBuffer(64 << 10)
		go func() {
			_, err := o.Write(burst)
			_ = o.Close()
			sent <- err
		}()
	}
	eventually(t, "all readers are too slow", func() bool { return f.pausedLegs() == clients })
	if each := int64(memory()-before) / int64(clients); each > 512<<10 {
		t.Errorf("a waiting burst costs %d KiB, want less than 512", each>>10)
	} else {
		t.Logf("a waiting burst costs %d KiB", each>>10)
	}
	want := sha256.Sum256(burst)
	results := make(chan error, clients)
	for _, c := range conns {
		go func() {
			h := sha256.New()
			_, err := io.Copy(h, c.br)
			if err == nil && [32]byte(h.Sum(nil)) != want {
				err = errors.New("other bytes")
			}
			_ = c.Close()
			results <- err
		}()
	}
	for range clients {
		if err := <-results; err != nil {
			t.Error(err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
	f.waitCounts("the sessions end", func(n Counts) bool { return n.Sessions == 0 })
}

// memory is what this process holds of the heap, goroutine stacks included.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func TestSlowReaderPausesItsOwnOriginOnly(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 1}, b.addr())
	f.own()
	slow, flooding := f.open(b, "1")
	go func() { _, _ = io.Copy(flooding, endless{}) }()
	f.waitPaused()
	c, o := f.open(b, "2")
	go echo(o)
	for range 200 {
		c.send([]byte("ping")...)
		c.want([]byte("ping")...)
	}
	_ = slow.tcp().SetLinger(0)
	_ = slow.Close()
	f.waitCounts("only the other session is left", func(n Counts) bool { return n.Sessions == 1 })
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// A flood in both directions at once, into readers that read only after writing: no deadlock, and bounded memory.
func TestFloodBothWays(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "7")
	results := make(chan error, 4)
	for _, p := range []*peer{c, o} {
		go func() {
			_, err := p.Write(burst)
			if err == nil {
				err = p.tcp().CloseWrite()
			}
			results <- err
		}()
		go func() {
			n, err := io.Copy(io.Discard, p.br)
			if err == nil && n != int64(len(burst)) {
				err = errors.New("bytes are missing")
			}
			results <- err
		}()
	}
	for range 4 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestIdleSessionMemory(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	const n = 500
	f.open(b, "0")
	before := memory()
	fds := make([]net.Conn, 0, 2*n)
	for i := range n {
		c, o := f.open(b, id(i))
		c.br, o.br = nil, nil
		fds = append(fds, c.Conn, o.Conn)
	}
	each := int64(memory()-before) / n
	t.Logf("an idle session and both its peers in the test cost %d bytes", each)
	if each > 8<<10 {
		t.Errorf("%d bytes", each)
	}
	runtime.KeepAlive(fds)
}

// Many sessions that come and go at once, so that descriptors are given out again all the time: nobody's connection is
// hit by somebody else's end.
func TestChurn(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case o := <-b.conns:
				go func() {
					o.head()
					o.send([]byte(switching)...)
					echo(o)
					_ = o.Close()
				}()
			case <-stop:
				return
			}
		}
	}()
	const workers, rounds = 16, 40
	results := make(chan error, workers)
	for w := range workers {
		go func() {
			for i := range rounds {
				if err := churn(f, w*rounds+i); err != nil {
					results <- err
					return
				}
			}
			results <- nil
		}()
	}
	for range workers {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	close(stop)
	f.waitCounts("the sessions end", func(n Counts) bool { return n.Sessions == 0 })
}

func churn(f *fixture, n int) error {
	c, err := f.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	msg := bytes.Repeat([]byte{byte(n)}, 1+n%3000)
	if _, err := c.Write(append([]byte(requestFor(id(n))), msg...)); err != nil {
		return err
	}
	got := make([]byte, len(switching)+len(msg))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got[len(switching):], msg) {
		return errors.New("other bytes came back")
	}
	switch n % 3 {
	case 0:
		return c.SetLinger(0)
	case 1:
		_ = c.CloseWrite()
		if _, err := io.ReadAll(c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			return err
		}
	}
	return nil
}
