package relay

import (
	"encoding/binary"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver reads from sockets and is told at the same time whether more is there.
//
// An edge-triggered epoll reports a socket once; whoever stops reading before everything is taken hears no more of it. So
// without being told, each message costs a second read that finds nothing. With TCP_INQ the kernel says in a control
// message how many bytes are left, and at least one if a FIN is there. That FINs count is in Linux since 5.1; newReceiver
// tries it out, and where it is not so nothing is believed.
//
// The system calls are bare ones, which do not tell the scheduler: the sockets are non-blocking, so that they take no
// longer than a copy. recvmsg and sendto also spare the kernel's way through the file system that read and write take.
//
// One goroutine uses it. This file and adopt.go are the only ones with unsafe code.
type receiver struct {
	msg   unix.Msghdr
	iov   unix.Iovec
	inq   [2 * unix.SizeofCmsghdr]byte // one control message with an int
	tells bool
}

// newReceiver knows whether the kernel tells the rest if tells, see tellsTheRest.
func newReceiver(tells bool) *receiver {
	r := &receiver{tells: tells}
	r.msg.Iov, r.msg.Iovlen = &r.iov, 1
	if tells {
		r.msg.Control = &r.inq[0]
	}
	return r
}

// receive reads into b, which is not empty. With last nothing was left behind these bytes, not even a FIN: whatever comes
// next has an event of its own.
func (r *receiver) receive(fd int, b []byte) (n int, last bool, err error) {
	r.iov.Base = &b[0]
	r.iov.SetLen(len(b))
	if r.tells {
		r.msg.SetControllen(len(r.inq))
	}
	got, _, errno := syscall.RawSyscall6(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.msg)), 0, 0, 0, 0)
	r.iov.Base = nil
	if errno != 0 {
		return 0, false, errno
	}
	return int(got), r.nothingLeft(), nil
}

// nothingLeft reads the control message: length, level, type, value.
func (r *receiver) nothingLeft() bool {
	if !r.tells || int(r.msg.Controllen) < unix.CmsgLen(4) {
		return false
	}
	kind := (*unix.Cmsghdr)(unsafe.Pointer(&r.inq[0]))
	return kind.Level == unix.IPPROTO_TCP && kind.Type == unix.TCP_INQ && binary.NativeEndian.Uint32(r.inq[unix.CmsgLen(0):]) == 0
}

// send writes what the kernel takes of b, which is not empty.
func send(fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// tellsTheRest tries out whether the kernel says that something is left when that is a FIN alone.
func tellsTheRest() bool {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return false
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return false
	}
	defer c.Close()
	s, err := ln.Accept()
	if err != nil {
		return false
	}
	defer s.Close()
	rc, err := s.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	// One byte, of which nothing is left; then one with a FIN.
	without, err1 := toldOf(rc, unix.POLLIN, func() error { return sendByte(c) })
	with, err2 := toldOf(rc, unix.POLLRDHUP, func() error { return sendLast(c) })
	return err1 == nil && err2 == nil && without && !with
}

func sendByte(c net.Conn) error {
	_, err := c.Write([]byte{1})
	return err
}

func sendLast(c net.Conn) error {
	if err := sendByte(c); err != nil {
		return err
	}
	return c.(*net.TCPConn).CloseWrite()
}

// toldOf does something at the other end, waits for its sign here, reads a byte, and returns what receive says of the
// rest.
func toldOf(rc syscall.RawConn, sign int16, do func() error) (last bool, err error) {
	if err := do(); err != nil {
		return false, err
	}
	err = control(rc, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_INQ, 1); err != nil {
			return err
		}
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: sign}}, 1000); n != 1 {
			return err
		}
		var b [16]byte
		_, last, err = newReceiver(true).receive(fd, b[:])
		return err
	})
	return last, err
}
