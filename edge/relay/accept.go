package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

const (
	// acceptPause is how long an engine does not accept when the process is out of descriptors, but for the reserve, or the
	// kernel out of memory: what is queued stays queued, and the poller does not spin on an error that only a closed
	// connection can end.
	acceptPause = 100 * time.Millisecond

	// acceptBatch bounds what one event of a listener may take of the poller's time.
	acceptBatch = 64
)

// listener is a listening socket that one engine's poller accepts from. It is the nbio session of c.
type listener struct {
	c       *nbio.Conn
	addr    string // with the port that was taken for 0
	tls     bool   // who comes here has to speak it
	watched bool   // it is in epoll
}

// listen binds addr once for each engine; with tls, its clients have to speak it. The first binding decides the port if
// addr leaves it open. Sockets that another process has left for addr are listened on instead.
//
// The first listener must get the address for itself, so it asks without SO_REUSEPORT: with it, it would be let in beside
// another relay's listeners, and the kernel would deal the clients out to both. Once it listens, it is opened for the
// other engines' listeners. Of two relays that start at the same moment only one comes to listen; there is no window in
// between. SO_REUSEADDR, which net sets, lets a successor in whose predecessor left connections in TIME_WAIT.
func (r *Relay) listen(addr string, tls bool) (string, error) {
	if left := r.leftFor(addr, tls); left != nil {
		return r.inherit(left)
	}
	lc := net.ListenConfig{KeepAlive: -1, Control: r.tuneListener}
	bound := addr
	for i, e := range r.engines {
		ln, err := bind(&lc, bound)
		if err != nil {
			return "", err
		}
		if i == 0 {
			bound = ln.Addr().String()
			if err := share(ln); err != nil {
				_ = ln.Close()
				return "", err
			}
			lc.Control = r.tuneSharedListener
		}
		if err := e.listenOn(ln, tls); err != nil {
			return "", err
		}
	}
	return bound, nil
}

func bind(lc *net.ListenConfig, addr string) (*net.TCPListener, error) {
	lc.SetMultipathTCP(false) // its sockets ignore several of our options
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: stop whatever listens there, or choose another address", syscall.EADDRINUSE)
	}
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// share lets further listeners of this user bind ln's address that ask for it with SO_REUSEPORT.
func share(ln *net.TCPListener) error {
	rc, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	return control(rc, reusePort)
}

// listenOn has the poller accept from ln's socket, which it takes out of Go's own poller: a connection that Go accepts
// costs a goroutine's wake-up, a registration and two address objects.
func (e *engine) listenOn(ln *net.TCPListener, tls bool) error {
	addr, fd := ln.Addr().String(), -1
	rc, err := ln.SyscallConn()
	if err == nil {
		err = control(rc, func(from int) (err error) { fd, err = another(from); return err })
	}
	_ = ln.Close() // the duplicate keeps the socket listening
	if err != nil {
		return err
	}
	return e.listenOnSocket(fd, addr, tls)
}

// another is a second descriptor of fd's socket.
func another(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// listenOnSocket has the poller accept from a listening socket; it owns fd from here on, also if it fails.
func (e *engine) listenOnSocket(fd int, addr string, tls bool) error {
	l := &listener{addr: addr, tls: tls}
	var err error
	if l.c, err = watchable(fd, l); err != nil {
		return err
	}
	if !e.post(func() { e.listeners = append(e.listeners, l); e.arrive(arrival{ln: l}) }) {
		unwatch(l.c)
	}
	return nil
}

func (e *engine) beginAccepting(l *listener) {
	if !slices.Contains(e.listeners, l) {
		return // closed meanwhile
	}
	if _, err := e.nb.AddConn(l.c); err != nil {
		e.r.log.Error("cannot watch a listener", "address", l.addr, "error", err)
		return
	}
	l.watched = true
	e.heed(l)
}

// heed has the poller told of clients at l, or not: as long as the queue is not empty, not once.
func (e *engine) heed(l *listener) {
	switch {
	case !l.watched:
	case e.accepting && e.resting.in == nil:
		e.setInterest(l.c.Hash(), unix.EPOLLIN)
	default:
		e.setInterest(l.c.Hash(), 0)
	}
}

// acceptFrom takes in clients that wait at l. What is left is reported again by epoll.
func (e *engine) acceptFrom(l *listener) {
	if !e.accepting {
		return // not any more, since this event
	}
	for range acceptBatch {
		fd, sa, err := unix.Accept4(l.c.Hash(), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if fd, err = e.below(e.r.ceilings.clients.Load(), fd, err); err == nil {
			err = e.accepted(l, fd, sa)
		}
		switch {
		case err == nil, errors.Is(err, syscall.EINTR), errors.Is(err, syscall.ECONNABORTED):
		case errors.Is(err, syscall.EAGAIN):
			return
		default:
			e.rest(l, err)
			return
		}
	}
}

// rest has nobody accepted for a while, and says so, but not every time.
func (e *engine) rest(l *listener, err error) {
	if now := e.now(); now >= e.silentUntil {
		e.silentUntil = now + time.Minute
		e.r.log.Warn("accept failed, pausing", "address", l.addr, "error", err)
	}
	if e.resting.in == nil {
		e.pause()
	}
	e.heed(l)
}

func (e *engine) pause() {
	e.tally.rests.Add(1)
	e.pauses.start(&e.resting, e.now())
	e.schedule(e.resting.at)
}

func (e *engine) accepted(l *listener, fd int, sa unix.Sockaddr) error {
	c, err := e.adopt.conn(fd)
	if err != nil {
		return err
	}
	e.arrive(arrival{c: c, peer: addrOf(sa), tls: l.tls})
	return nil
}

// rested follows a pause: another one, if there is still no room.
func (e *engine) rested() {
	if e.roomy() {
		e.acceptAgain()
	} else {
		e.pause()
	}
}

// acceptAgain looks at the listeners again.
func (e *engine) acceptAgain() {
	for _, l := range e.listeners {
		e.heed(l)
	}
}

// stopAccepting closes the listeners. Who is queued there is reset by the kernel, unless another process has the socket,
// too: then epoll would report it for ever if it were only closed.
func (e *engine) stopAccepting() {
	e.accepting = false
	for _, l := range e.listeners {
		if l.watched {
			_ = unix.EpollCtl(e.epfd, unix.EPOLL_CTL_DEL, l.c.Hash(), nil)
		}
		unwatch(l.c)
	}
	e.listeners = nil
	e.resting.stop()
}

func addrOf(sa unix.Sockaddr) netip.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr).Unmap()
	}
	return netip.Addr{}
}
