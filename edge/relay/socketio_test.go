package relay

import (
	"bytes"
	"errors"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tcpPair is a connection: one end as a net.Conn, the other one as a descriptor.
func tcpPair(t *testing.T) (net.Conn, int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	fd, _, err := acceptRaw(ln)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_INQ, 1); err != nil {
		t.Fatal(err)
	}
	return c, fd
}

func acceptRaw(ln net.Listener) (fd int, sa unix.Sockaddr, err error) {
	rc, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return -1, nil, err
	}
	err = control(rc, func(l int) error {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(l), Events: unix.POLLIN}}, int(patience.Milliseconds())); err != nil {
			return err
		}
		fd, sa, err = unix.Accept4(l, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return err
	})
	return fd, sa, err
}

func await(t *testing.T, fd int, events int16) {
	t.Helper()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(patience.Milliseconds())); n != 1 || err != nil {
		t.Fatalf("poll: %d, %v", n, err)
	}
}

// What receive says of the rest is what epoll's silence is built on: never "last" while a byte or a FIN is there.
func TestReceiveTellsTheRest(t *testing.T) {
	if !tellsTheRest() {
		t.Skip("this kernel does not tell what is left behind a read (Linux 5.1 does)")
	}
	c, fd := tcpPair(t)
	in, b := newReceiver(true), make([]byte, 4)
	want := func(n int, last bool, err error) {
		t.Helper()
		k, l, e := in.receive(fd, b)
		if k != n || l != last || !errors.Is(e, err) {
			t.Fatalf("receive: %d, %v, %v; want %d, %v, %v", k, l, e, n, last, err)
		}
	}
	want(0, false, syscall.EAGAIN)
	if _, err := c.Write([]byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	await(t, fd, unix.POLLIN)
	want(4, false, nil)
	if !bytes.Equal(b, []byte("abcd")) {
		t.Fatalf("%q", b)
	}
	want(2, true, nil)
	if err := sendLast(c); err != nil {
		t.Fatal(err)
	}
	await(t, fd, unix.POLLRDHUP)
	want(1, false, nil)
	want(0, false, nil)
}

// Without the kernel's word nothing is the last: everything is read until the socket has nothing more.
func TestReceiveWithoutTheKernelsWord(t *testing.T) {
	c, fd := tcpPair(t)
	if err := sendByte(c); err != nil {
		t.Fatal(err)
	}
	await(t, fd, unix.POLLIN)
	for _, tells := range []bool{false, true} {
		if tells {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_INQ, 0); err != nil { // so that no control message comes
				t.Fatal(err)
			}
			if err := sendByte(c); err != nil {
				t.Fatal(err)
			}
			await(t, fd, unix.POLLIN)
		}
		if n, last, err := newReceiver(tells).receive(fd, make([]byte, 4)); n != 1 || last || err != nil {
			t.Fatalf("receive: %d, %v, %v", n, last, err)
		}
	}
}

// A whole relay that is told nothing works all the same.
func TestRelayWithoutTheKernelsWord(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	for _, e := range f.engines {
		e.post(func() { e.in = newReceiver(false) })
	}
	f.own()
	c, o := f.open(b, "7")
	text := frameOf(0x82, bytes.Repeat([]byte("x"), 300_000), true)
	go func() { _, _ = c.Write(text); _ = c.tcp().CloseWrite() }()
	o.want(text...)
	o.wantEnd()
	_ = o.Close()
	c.wantEnd()
}
