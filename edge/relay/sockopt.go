package relay

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// What a socket may keep in the kernel. With the kernel's autotuning 200 slow readers were measured to take 7.6 MB each.
// The kernel doubles both sizes to account for its overhead.
const (
	// Half of it made a stream cost 0.44 s of CPU per GB instead of 0.27: the poller was woken twice as often.
	rcvBuf = 256 << 10
	sndBuf = 128 << 10
	// notSent is the most that may wait unsent in a send buffer: enough to keep the line busy until the next wake-up,
	// and what a Close frame has to stand behind.
	notSent = 64 << 10
)

// tune sets the options of a listener, whose connections inherit them all, or of a socket about to be connected: the
// window scale depends on the receive buffer at the moment of the SYN.
func (r *Relay) tune(fd int) error {
	for _, o := range [...]struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_RCVBUF, rcvBuf},
		{unix.SOL_SOCKET, unix.SO_SNDBUF, sndBuf},
		{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_INQ, 1) // where it is refused, receiver does without
	return r.cfg.silence.keepalive(fd)
}

func (r *Relay) tuneListener(_, _ string, rc syscall.RawConn) error { return control(rc, r.tune) }

// tuneSharedListener lets every engine bind the same port: the kernel deals the connections out.
func (r *Relay) tuneSharedListener(_, _ string, rc syscall.RawConn) error {
	if err := control(rc, reusePort); err != nil {
		return err
	}
	return control(rc, r.tune)
}

func reusePort(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }

func control(rc syscall.RawConn, f func(fd int) error) error {
	var err error
	if e := rc.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// poll asks the kernel about a socket, without waiting; hang-ups and errors are reported unasked.
func (e *engine) poll(fd int, events int16) int16 {
	e.pollFd[0] = unix.PollFd{Fd: int32(fd), Events: events}
	for {
		_, err := unix.Poll(e.pollFd[:], 0)
		if err != unix.EINTR {
			return e.pollFd[0].Revents
		}
	}
}

// hungUp reports that nothing more can arrive at fd: both directions are shut, or the connection is broken.
func (e *engine) hungUp(fd int) bool { return e.poll(fd, 0)&(unix.POLLHUP|unix.POLLERR) != 0 }

// left reports that the peer of fd has sent a FIN or a RST, though bytes may stand before it.
func (e *engine) left(fd int) bool {
	return e.poll(fd, unix.POLLRDHUP)&(unix.POLLHUP|unix.POLLERR|unix.POLLRDHUP) != 0
}

// unsent is the number of bytes that the peer's kernel has not acknowledged.
func unsent(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// queued is the number of bytes that wait in the kernel for the peer to have room for them.
func queued(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQNSD)
	if err != nil {
		return 0
	}
	return n
}
