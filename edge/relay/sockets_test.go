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
