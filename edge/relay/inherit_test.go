package relay

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// One relay after the other takes the sockets over, with more or fewer engines than the one before, while clients come
// without a pause: every one of them is answered, by the relays that accept, and every session stays where it is.
func TestListenersAreHandedOn(t *testing.T) {
	b := newEchoes(t)
	old := start(t, Config{Engines: 2}, b)
	old.own()
	addr := old.Addrs()[0]
	stop, wait := hammer(t, addr, 4)
	standing := []*peer{old.connect(requestFor("7"))}
	standing[0].head()
	for _, engines := range []int{2, 3, 1, 2} {
		left, err := old.Listeners()
		if err != nil {
			t.Fatal(err)
		}
		next := start(t, Config{Addrs: old.cfg.Addrs, Engines: engines, Inherited: left, Wait: true}, b)
		next.own()
		if got := next.Addrs()[0]; got != addr {
			t.Fatalf("listens on %s instead of %s", got, addr)
		}
		next.Accept()
		old.Pause()
		p := next.connect(requestFor("7"))
		p.head()
		if next.CountRouter(testType, "7") != 1 {
			t.Error("the paused relay has accepted a client")
		}
		old.LetGo()
		standing = append(standing, p)
		old = next
	}
	close(stop)
	wait()
	for _, p := range standing {
		p.send([]byte("to the end")...)
		p.want([]byte("to the end")...)
		_ = p.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	old.Pause()
	if err := old.AwaitEmpty(ctx); err != nil {
		t.Error(err)
	}
}

// A relay that has handed its sockets on and kept them accepts again when the other one is gone, and whoever queued
// meanwhile is served.
func TestAcceptAgain(t *testing.T) {
	b := newEchoes(t)
	first := start(t, Config{}, b)
	first.own()
	left, err := first.Listeners()
	if err != nil {
		t.Fatal(err)
	}
	second, err := New(Config{Addrs: first.cfg.Addrs, Engines: 1, Inherited: left, Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Install(t.Context(), first.view(first.Relay.view.Default.Table)); err != nil {
		t.Fatal(err)
	}
	second.Accept()
	first.Pause()
	p := first.connect(requestFor("1"))
	if h := p.head(); h != switching {
		t.Fatal(h)
	}
	if n := first.counts().Sessions; n != 0 {
		t.Errorf("the paused relay has %d sessions", n)
	}
	_ = p.Close()
	second.Pause()
	queued := first.connect(requestFor("2"))
	if err := second.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.Accept()
	if h := queued.head(); h != switching {
		t.Fatal(h)
	}
	queued.send([]byte("hello")...)
	queued.want([]byte("hello")...)
	_ = queued.Close()
}

// What is not a listener of ours is refused, and the descriptor closed.
func TestInheritedFilesAreChecked(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_, err = New(Config{Addrs: []string{"127.0.0.1:0"}, Engines: 1, Inherited: []Listener{{Addr: "127.0.0.1:0", Sockets: []*os.File{r}}}})
	if err == nil || !strings.Contains(err.Error(), "inherited socket") {
		t.Error(err)
	}
	_ = r.Close()
}

// hammer has clients come one after the other until stop is closed. Each must get its 101 and an echo.
func hammer(t *testing.T, addr string, clients int) (stop chan struct{}, wait func()) {
	t.Helper()
	stop = make(chan struct{})
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					if n == 0 {
						t.Error("a client never came")
					}
					return
				default:
				}
				if err := visit(addr, fmt.Sprint(i)); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	return stop, all.Wait
}

func visit(addr, routerID string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0) // no port is kept in TIME_WAIT
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err = io.WriteString(c, requestFor(routerID)); err != nil {
		return err
	}
	want := switching
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		return fmt.Errorf("%q, %w", got, err)
	}
	if _, err = io.WriteString(c, "hello"); err == nil {
		_, err = io.ReadFull(c, got[:5])
	}
	return err
}

// newEchoes is an origin that switches protocols and echoes.
func newEchoes(t *testing.T) string {
	t.Helper()
	b := newBackend(t)
	var all sync.WaitGroup
	done := make(chan struct{})
	all.Go(func() {
		for {
			select {
			case p := <-b.conns:
				all.Go(func() {
					defer p.Close()
					for line := ""; line != "\r\n"; {
						var err error
						if line, err = p.br.ReadString('\n'); err != nil {
							return
						}
					}
					_, _ = io.WriteString(p, switching)
					_, _ = io.Copy(p, p.br)
				})
			case <-done:
				return
			}
		}
	})
	t.Cleanup(func() { close(done); all.Wait() })
	return b.addr()
}
