package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// acceptPause is how long an accept loop waits when the process is out of descriptors or the kernel out of memory:
// what is queued stays queued, and the loop does not spin on an error that only a closed connection can end.
const acceptPause = 100 * time.Millisecond

// listen binds addr once for each engine. The first binding decides the port if addr leaves it open.
//
// The first listener must get the address for itself, so it asks without SO_REUSEPORT: with it, it would be let in beside
// another relay's listeners, and the kernel would deal the clients out to both. Once it listens, it is opened for the
// other engines' listeners. Of two relays that start at the same moment only one comes to listen; there is no window in
// between. SO_REUSEADDR, which net sets, lets a successor in whose predecessor left connections in TIME_WAIT.
func (r *Relay) listen(addr string) (string, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: tuneListener}
	bound := addr
	for i, e := range r.engines {
		ln, err := bind(&lc, bound)
		if err != nil {
			return "", err
		}
		r.listeners = append(r.listeners, ln)
		if i == 0 {
			bound = ln.Addr().String()
			if err := share(ln); err != nil {
				return "", err
			}
			lc.Control = tuneSharedListener
		}
		r.running.Add(1)
		go r.accept(ln, e)
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

// accept feeds one engine from its listener until that is closed.
func (r *Relay) accept(ln net.Listener, e *engine) {
	defer r.running.Done()
	for {
		conn, err := ln.Accept()
		if err == nil {
			err = r.accepted(conn, e)
		}
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return
		default:
			r.log.Warn("accept failed, pausing", "address", ln.Addr().String(), "error", err)
			select {
			case <-r.stopping:
				return
			case <-time.After(acceptPause):
			}
		}
	}
}

func (r *Relay) accepted(conn net.Conn, e *engine) error {
	peer := peerOf(conn)
	c, err := adopt(conn)
	if err != nil {
		return err
	}
	if !e.arrive(arrival{c: c, peer: peer}) {
		_ = c.Close()
	}
	return nil
}
