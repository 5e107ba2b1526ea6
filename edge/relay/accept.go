package relay

import (
	"context"
	"errors"
	"net"
	"time"
)

// acceptPause is how long an accept loop waits when the process is out of descriptors or the kernel out of memory:
// what is queued stays queued, and the loop does not spin on an error that only a closed connection can end.
const acceptPause = 100 * time.Millisecond

// listen binds addr once for each engine. The first binding decides the port if addr leaves it open.
func (r *Relay) listen(addr string) (string, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: tuneListener}
	lc.SetMultipathTCP(false) // its sockets ignore several of our options
	bound := addr
	for _, e := range r.engines {
		ln, err := lc.Listen(context.Background(), "tcp", bound)
		if err != nil {
			return "", err
		}
		bound = ln.Addr().String()
		r.listeners = append(r.listeners, ln)
		r.running.Add(1)
		go r.accept(ln, e)
	}
	return bound, nil
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
