package relay

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Handshakes that are given up, and answers that nobody waits for any more: the client leaves, its key moves, a time
// passes, this edge drains. The origin is one program that serves other users as well, and some end as a whole at a
// RST: in Node a socket that an upgrade handler has not come to has no listener for errors. So it sees what a client's
// leaving looks like, a FIN; and what it still says is read and discarded until it ends its side, too, because bytes that
// meet a closed socket are answered with a RST as well.
//
// Only the end of a lease may demand more (R3): from then on nothing more may reach the origin, so what the kernel has
// of the handshake is taken back, which only a RST does. Where the origin has it all there is nothing to take back.

// part gives up the leg of s to its origin, or to another unit's edge, which a RST harms as little as it tells much.
func (e *engine) part(s *session) {
	l := &s.legs[origin]
	switch {
	case l.fd() < 0 || l.is(broken|ended):
		e.close(s, origin)
	case s.via != 0, !e.leased() && e.outstanding(l):
		e.reset(s, origin)
	default:
		e.bidFarewell(s)
	}
}

// outstanding reports whether the peer of a leg may not have all that was written to it.
func (e *engine) outstanding(l *leg) bool { return l.pending > 0 || unsent(l.fd()) > 0 }

// bidFarewell moves the leg of s to its origin to a session of its own, in which nothing is left but to wait for its end.
func (e *engine) bidFarewell(s *session) {
	e.letGo(s)
	e.endPause(s, origin)
	gone, l := e.newSession(), &s.legs[origin]
	gone.state = stDropped
	gone.legs[origin] = leg{c: l.c, pending: l.pending}
	*l = leg{}
	gone.legs[origin].c.SetSession(gone)
	if gone.legs[origin].pending > 0 {
		e.congests(gone)
	}
	e.start(e.farewell(), gone)
	e.shutdown(gone, origin)
	e.rearm(&gone.legs[origin]) // what it has said meanwhile has no event any more
	e.release(s)
}

// farewell is the queue of those that wait so.
func (e *engine) farewell() *fifo {
	if e.closing {
		return &e.evicting
	}
	return &e.leaving
}

// hasten shortens that when the relay closes.
func (e *engine) hasten(s *session) {
	if s.legs[origin].c != nil {
		e.start(e.farewell(), s)
	}
}

// withhold takes back, at the end of a lease, what an origin may not have of a handshake that was given up before.
func (e *engine) withhold(s *session) {
	if l := &s.legs[origin]; l.fd() >= 0 && e.outstanding(l) {
		e.reset(s, origin)
	}
}

// abort ends the leg of s to its origin at once. A tunnel that breaks off is reset; of an answer that is passed on, what
// has come already is discarded first, or closing would be a RST.
func (e *engine) abort(s *session) {
	if s.open {
		e.reset(s, origin)
		return
	}
	var discarded [4 << 10]byte
	for fd, n := s.legs[origin].fd(), 0; fd >= 0 && n < 4*rcvBuf; {
		k, err := unix.Read(fd, discarded[:])
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if k <= 0 {
			break
		}
		n += k
	}
	e.close(s, origin)
}
