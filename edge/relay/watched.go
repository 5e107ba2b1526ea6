package relay

import (
	"errors"
	"net"
	"syscall"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

// watched is a descriptor that is no connection: a listener, the mailbox, a set of connects under way. nbio's poller
// tells when it is readable, and that is all: nbio takes it for a net.Conn of a kind that it does not know, and neither
// reads, writes nor closes those.
type watched struct {
	net.Conn // nil: nothing more is asked of it
	fd       int
}

func (w *watched) SyscallConn() (syscall.RawConn, error) { return rawFd(w.fd), nil }
func (w *watched) LocalAddr() net.Addr                   { return nil }
func (w *watched) RemoteAddr() net.Addr                  { return nil }
func (w *watched) Close() error                          { return unix.Close(w.fd) }

type rawFd int

func (fd rawFd) Control(f func(fd uintptr)) error  { f(uintptr(fd)); return nil }
func (fd rawFd) Read(func(fd uintptr) bool) error  { return errors.ErrUnsupported }
func (fd rawFd) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }

// watchable prepares a descriptor for AddConn, after which onRead is called with that session whenever it becomes
// readable. It owns fd from here on, also if it fails; what is watched is another descriptor, to be closed by unwatch.
func watchable(fd int, session any) (*nbio.Conn, error) {
	c, err := duplicate(&watched{fd: fd})
	if err == nil {
		c.SetSession(session)
	}
	return c, err
}

func unwatch(c *nbio.Conn) {
	c.SetSession(nil)
	_ = c.Close()
	_ = unix.Close(c.Hash())
}
