package relay

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listenWithBacklog listens on every address with a queue of the given length.
func listenWithBacklog(t *testing.T, backlog int) (fd int, addr string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, backlog); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, net.JoinHostPort("127.0.0.1", strconv.Itoa(sa.(*syscall.SockaddrInet4).Port))
}

// fullBacklog is an address whose listener accepts nothing and whose queue is full: a connect hangs.
func fullBacklog(t *testing.T) string {
	t.Helper()
	fd, addr := listenWithBacklog(t, 0)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	for {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// Epoll has reported a hang-up of a connection; before the poller comes to it, the connection is closed, its descriptor
// is given to a new client or to a new connection to an origin, and the mailbox is looked at: the event must not hit
// the new connection.
func TestStaleEventDoesNotHitANewConnection(t *testing.T) {
	for _, anew := range []struct {
		what string
		open func(e *engine, waiting *session) (fd int)
	}{
		{"client", func(e *engine, _ *session) int {
			for len(e.fresh) == 0 {
				e.acceptFrom(e.listeners[0])
			}
			return e.fresh[0].c.Hash()
		}},
		{"origin", func(e *engine, waiting *session) int {
			for waiting.state != stDial {
				e.readable(waiting, client)
			}
			return waiting.hs.attempt.c.Hash()
		}},
	} {
		t.Run(anew.what, func(t *testing.T) { staleEvent(t, anew.open) })
	}
}

func staleEvent(t *testing.T, open func(e *engine, waiting *session) (fd int)) {
	b := newBackend(t)
	f := start(t, Config{Engines: 1}, b.addr())
	f.own()
	e := f.engines[0]
	for range 20 {
		c, _ := f.open(b, "7")
		p := f.connect(requestFor("8")[:100])
		f.waitState(stHead)
		held, gate, same := make(chan struct{}), make(chan struct{}), make(chan bool)
		e.post(func() { close(held); <-gate }) // hold the poller, so that what follows becomes one batch of events
		<-held
		e.post(func() {
			var closed, waiting *session
			for s := range e.all {
				if s.state == stTunnel {
					closed = s
				} else {
					waiting = s
				}
			}
			fd := closed.legs[client].c.Hash()
			e.reset(closed, client)
			e.reset(closed, origin)
			release := occupy(fd)
			fresh := open(e, waiting)
			release()
			e.onMail()
			same <- fresh == fd
		})
		another := f.connect(requestFor("9"))
		p.send([]byte(requestFor("8")[100:])...)
		_ = c.tcp().SetLinger(0)
		_ = c.Close()
		close(gate)
		hit := <-same
		var origins []*peer
		for range 2 {
			o, _ := b.next()
			o.send([]byte(switching)...)
			origins = append(origins, o)
		}
		for _, client := range []*peer{p, another} {
			client.want([]byte(switching)...)
			_ = client.Close()
		}
		for _, o := range origins {
			_ = o.Close()
		}
		f.waitCounts("they end", func(n Counts) bool { return n.Sessions == 0 })
		if hit {
			return
		}
	}
	t.Error("the descriptor was never given out again")
}

// occupy takes the free numbers below fd, so that it is given out next.
func occupy(fd int) (release func()) {
	var taken []int
	for {
		n, err := syscall.Dup(2)
		if err == nil && n < fd {
			taken = append(taken, n)
			continue
		}
		_ = syscall.Close(n)
		return func() {
			for _, n := range taken {
				_ = syscall.Close(n)
			}
		}
	}
}

// Out of descriptors, the accept loop waits instead of spinning, and goes on when there are some again.
func TestAcceptWaitsWhenOutOfDescriptors(t *testing.T) {
	logged := make(timesLogged, 100)
	f := start(t, Config{Engines: 1, Logger: slog.New(logged)})
	f.own()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	_, port, _ := net.SplitHostPort(f.Addrs()[0])
	n, _ := strconv.Atoi(port)

	release := exhaust(t)
	err = syscall.Connect(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: n})
	pauses := func(n int64) time.Time {
		eventually(t, "it pauses", func() bool { return f.Readings().AcceptPauses >= n })
		return time.Now()
	}
	first := pauses(1)
	last := pauses(5)
	release()
	if err != nil {
		t.Fatal(err)
	}
	if d := last.Sub(first); d < 3*acceptPause { // a poll of ours may be late by almost one
		t.Errorf("tried 4 times in %v", d)
	}
	if n := len(logged); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if _, err := syscall.Write(fd, []byte("nonsense\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 12)
	if _, err := syscall.Read(fd, b); err != nil || string(b) != "HTTP/1.1 400" {
		t.Errorf("%q %v", b, err)
	}
}

// exhaust takes every descriptor that the process may still open.
func exhaust(t *testing.T) (release func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 512
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var taken []int
	for {
		fd, err := syscall.Dup(2)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	return func() {
		for _, fd := range taken {
			_ = syscall.Close(fd)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}
}

// timesLogged is a log handler that tells when something was logged.
type timesLogged chan time.Time

func (timesLogged) Enabled(context.Context, slog.Level) bool { return true }
func (c timesLogged) Handle(_ context.Context, r slog.Record) error {
	select {
	case c <- r.Time:
	default:
	}
	return nil
}
func (c timesLogged) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c timesLogged) WithGroup(string) slog.Handler      { return c }

// nbio closes a connection by itself, on a hang-up or a failed flush, and tells later; by then the number of its
// descriptor can be somebody else's connection. Nothing meant for the old one may touch that.
func TestClosedDescriptorIsNotTouched(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 1}, b.addr())
	f.own()
	e := f.engines[0]
	for _, use := range []func(s *session){
		func(s *session) { e.write(s, client, []byte("another user's secret")) },
		func(s *session) { e.shutdown(s, client) },
		func(s *session) { e.rearm(&s.legs[client]) },
		func(s *session) { e.cut(s) },
		func(s *session) { s.state = stNotify; e.notify(s) },
	} {
		_, o := f.open(b, "7")
		f.sum(func(e *engine) int {
			for s := range e.all {
				old := s.legs[client].c
				fd := old.Hash()
				_ = old.Close() // as nbio does
				pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
				if err != nil || pair[0] != fd && pair[1] != fd {
					t.Errorf("the descriptor %d was not given out again: %v %v", fd, pair, err)
				}
				use(s)
				for _, end := range pair {
					if n, err := syscall.Read(end, make([]byte, 100)); !errors.Is(err, syscall.EAGAIN) {
						t.Errorf("read %d bytes and %v", n, err)
					}
					if l, err := unix.GetsockoptLinger(end, unix.SOL_SOCKET, unix.SO_LINGER); err != nil || l.Onoff != 0 {
						t.Errorf("SO_LINGER is %+v, %v", l, err)
					}
				}
				_, _ = syscall.Close(pair[0]), syscall.Close(pair[1])
			}
			return 0
		})
		_ = o.Close()
		f.waitCounts("it ends", func(n Counts) bool { return n.Sessions == 0 })
	}
}
