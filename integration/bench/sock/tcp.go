//go:build linux

package sock

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Addr is an IPv4 address in the form that the kernel takes.
type Addr = unix.SockaddrInet4

// ParseAddr reads "127.0.0.1:80".
func ParseAddr(s string) (*Addr, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || !a.Addr().Is4() {
		return nil, fmt.Errorf("address %q: want IPV4:PORT", s)
	}
	return &Addr{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
}

// ParseAddrs is ParseAddr for many.
func ParseAddrs(all []string) ([]*Addr, error) {
	var out []*Addr
	for _, s := range all {
		a, err := ParseAddr(s)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

const flags = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC

// Listen opens a listener; port 0 takes a free one, which is returned.
func Listen(a *Addr) (fd, port int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|flags, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, a)
	}
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	var bound unix.Sockaddr
	if err == nil {
		bound, err = unix.Getsockname(fd)
	}
	if err != nil {
		Close(fd)
		return -1, 0, fmt.Errorf("listen on port %d: %w", a.Port, err)
	}
	return fd, bound.(*Addr).Port, nil
}

// Accept takes one connection; unix.EAGAIN if none waits.
func Accept(listener int) (int, error) {
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, flags, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// Dial begins to connect, from an address of its own if source is not nil. Writable means connected, or failed.
func Dial(to, source *Addr, rcvBuf int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|flags, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if source != nil {
		if err = PortLate(fd); err == nil {
			err = unix.Bind(fd, source)
		}
	}
	if err == nil && rcvBuf > 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, rcvBuf)
	}
	if err == nil {
		err = NoDelay(fd)
	}
	if err == nil {
		if err = unix.Connect(fd, to); errors.Is(err, unix.EINPROGRESS) {
			err = nil
		}
	}
	if err != nil {
		Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// PortLate has connect choose the port of a socket that is bound to an address: it knows the other end. Else 28,000
// connections were the end of it.
func PortLate(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
}

// NoDelay sends what is written at once.
func NoDelay(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// SendBuffer bounds what the kernel keeps for a peer that does not read.
func SendBuffer(fd, bytes int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
}

// Read reads into b, which is not empty; 0 is the end of the stream.
func Read(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Discard takes up to n bytes off the socket without copying them (MSG_TRUNC, tcp(7)); 0 is the end of the stream.
func Discard(fd, n int) (int, error) {
	got, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), unix.MSG_TRUNC, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(got), nil
}

// Write writes what the kernel takes of b, which is not empty. A broken connection is an error, not a signal.
func Write(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Finish sends FIN; the other direction stays open.
func Finish(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0) }

// Close closes a descriptor.
func Close(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// Reset closes a connection with RST, which leaves nothing waiting in the kernel.
func Reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	Close(fd)
}

// Again says that the kernel has nothing, or takes nothing, at the moment.
func Again(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }
