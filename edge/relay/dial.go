package relay

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/lesismal/nbio"
)

// maxDials bounds the connects under way per engine, and with them its goroutines.
const maxDials = 256

// dial connects to the next of the session's origins. nbio's own DialAsync sends IPv4 to 0.0.0.0 and reports no
// refusal, so a goroutine waits for the connect and for nothing else.
func (e *engine) dial(s *session) {
	s.state = stDial
	if e.dialing >= maxDials {
		e.toDial = append(e.toDial, s)
		return
	}
	e.dialing++
	s.dialing = true
	h := s.hs
	addr := h.origins[(h.first+h.tried)%len(h.origins)]
	h.tried++
	ctx, cancel := context.WithTimeout(context.Background(), e.r.cfg.DialTimeout)
	h.cancel = cancel
	e.r.running.Add(1)
	go func() {
		defer e.r.running.Done()
		defer cancel()
		c, err := connect(ctx, addr)
		if !e.arrive(arrival{c: c, s: s, err: err}) && c != nil {
			_ = c.Close()
		}
	}()
}

func connect(ctx context.Context, addr string) (*nbio.Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: tuneDialer}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return adopt(conn)
}

// dialed takes the result of a connect.
func (e *engine) dialed(s *session, c *nbio.Conn, err error) {
	e.dialing--
	s.dialing = false
	e.dialNext()
	switch {
	case s.state != stDial: // dropped, or the client left
		if c != nil {
			_ = c.Close()
		}
		e.release(s)
	case err != nil:
		e.dialFailed(s, err)
	case !e.stillServed(s):
		// R10: ask before the first byte to the origin. Today install has asked already: it runs on this goroutine and
		// takes every dial on a lost key out of stDial. The protocol wants the question here all the same, and here is the
		// place for whatever a view cannot tell in advance, such as a lease that has run out.
		_ = c.Close()
		e.decideAgain(s)
	case e.left(s.legs[client].fd()): // a FIN that came along with the request had no event of its own
		_ = c.Close()
		e.fail(s, client)
	default:
		e.request(s, c)
	}
}

// request sends the handshake to the origin.
func (e *engine) request(s *session, c *nbio.Conn) {
	if err := e.add(c, s); err != nil {
		e.dialFailed(s, err)
		return
	}
	s.legs[origin] = leg{c: c}
	s.state = stReply
	e.start(&e.replies, s)
	e.out = s.hs.req.AppendOrigin(e.out[:0], s.hs.peer, false)
	e.write(s, origin, e.out)
}

func (e *engine) dialFailed(s *session, err error) {
	e.r.log.Debug("origin not reachable", "error", err)
	switch {
	case s.hs.tried < len(s.hs.origins) && !e.closing:
		e.dial(s)
	case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
		e.refuseBusy(s, "at_capacity", "this edge is out of file descriptors, try again")
	default:
		e.refuse(s, 502, "origins_down", "no origin of this unit is reachable")
	}
}

// dialNext starts connects that waited for their turn.
func (e *engine) dialNext() {
	for len(e.toDial) > 0 && e.dialing < maxDials {
		s := e.toDial[0]
		e.toDial[0] = nil
		e.toDial = e.toDial[1:]
		if s.state == stDial && !s.dialing {
			e.dial(s)
		}
	}
}

// stillServed asks the view again for the key that the session was admitted with.
func (e *engine) stillServed(s *session) bool {
	if e.view == nil {
		return false
	}
	_, ok := e.view.Serves(s.entry.Key.Type, s.entry.Key.RouterID)
	return ok
}

// decideAgain takes the client from a session in stDial or stReply and decides its handshake anew. Nothing of the old
// session reaches the client: it ends when its connect has returned and its leg is closed.
func (e *engine) decideAgain(s *session) {
	fresh := e.newSession()
	fresh.hs, fresh.legs[client] = s.hs, s.legs[client]
	fresh.admitted, s.admitted = s.admitted, false
	cancel := s.hs.cancel
	fresh.hs.cancel, fresh.hs.reply = nil, nil
	s.hs, s.legs[client] = nil, leg{}
	if c := fresh.legs[client].c; c != nil {
		c.SetSession(fresh)
	}
	e.drop(s, cancel)
	e.decide(fresh)
}

// abandon ends a session in stDial or stReply whose client left.
func (e *engine) abandon(s *session) {
	cancel := s.hs.cancel
	s.hs = nil
	e.drop(s, cancel)
}

func (e *engine) drop(s *session, cancel context.CancelFunc) {
	s.state = stDropped
	s.deadline.stop()
	if cancel != nil {
		cancel()
	}
	e.reset(s, origin)
	e.release(s)
}
