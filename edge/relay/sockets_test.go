package relay

import (
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// listenWithBacklog listens on loopback with a queue of the given length.
func listenWithBacklog(t *testing.T, backlog int) (fd int, addr string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
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
// is given to a new client, and the mailbox is looked at: the event must not hit the new client.
func TestStaleEventDoesNotHitANewConnection(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 1}, b.addr())
	f.own()
	e := f.engines[0]
	for range 20 {
		c, _ := f.open(b, "7")
		gate, ready := make(chan struct{}), make(chan *peer, 1)
		same := false
		e.post(func() { <-gate }) // hold the poller, so that what follows becomes one batch of events
		e.post(func() {
			var fd int
			for s := range e.all {
				fd = s.legs[client].c.Hash()
				e.reset(s, client)
				e.reset(s, origin)
			}
			ready <- f.connect(requestFor("8"))
			eventually(t, "the new client has arrived", func() bool {
				e.mail.Lock()
				defer e.mail.Unlock()
				for i := range e.arrived {
					same = same || e.arrived[i].c.Hash() == fd
				}
				return len(e.arrived) > 0
			})
			e.onMail()
		})
		_ = c.tcp().SetLinger(0)
		_ = c.Close()
		close(gate)
		p := <-ready
		o, _ := b.next()
		o.send([]byte(switching)...)
		p.want([]byte(switching)...)
		_, _ = p.Close(), o.Close()
		f.waitCounts("it ends", func(n Counts) bool { return n.Sessions == 0 })
		if same {
			return
		}
	}
	t.Error("the descriptor was never given out again")
}
