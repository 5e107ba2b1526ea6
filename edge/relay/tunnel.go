package relay

import (
	"errors"
	"syscall"

	"github.com/lesismal/nbio"
)

// maxReads bounds what one event of one connection may take of the poller's time: reads of up to readSize each.
const maxReads = 4

// pump reads leg i and has received look at it, until there is nothing, or the other leg does not take more: then the
// bytes stay in the kernel, whose window tells the sender. The memory for a slow reader is one read.
func (e *engine) pump(s *session, i int) {
	for n := 0; ; n++ {
		src := &s.legs[i]
		if src.c == nil || src.is(ended) {
			return
		}
		// When this leg has hung up, nbio closes it as soon as its event is over: then all of it is taken now, whatever
		// the other leg says. That is at most a receive buffer, since nothing more can arrive.
		if s.relays(i) && s.legs[1-i].pending > 0 && !e.hungUp(src.fd()) {
			e.pauseReads(s, i)
			return
		}
		if n >= maxReads && !e.hungUp(src.fd()) {
			e.rearm(src)
			return
		}
		k, last, err := e.in.receive(src.fd(), e.buf[:e.appetite(s, i, n)])
		if k > 0 {
			if e.tlsOf(s, i) != nil {
				e.receivedTLS(s, i, e.buf[:k])
			} else {
				e.received(s, i, e.buf[:k])
			}
			if last {
				return
			}
			continue
		}
		if k == 0 && err == nil {
			if e.tlsOf(s, i) != nil && !e.endsWell(s, i) {
				e.fail(s, i)
				return
			}
			src.flags |= ended
			e.eof(s, i)
			return
		}
		if again, later := readAgain(err); later {
			return
		} else if !again {
			e.fail(s, i)
			return
		}
	}
}

// How much one read of a tunnel takes. Most messages fit into firstRead. leastRead is not too little for a slow peer, and
// what may be left of it is little.
const (
	firstRead = 16 << 10
	leastRead = 4 << 10
)

// appetite is how much of leg i the n-th read of an event takes: no more than the other leg's kernel does at once, so
// that hardly anything stays in nbio's queue, which is the only memory of ours that a slow reader costs. But it takes
// something even if there is no room at all, because only after a write that came up short does the kernel tell when
// there is. The question is saved where it is rarely worth its system call.
func (e *engine) appetite(s *session, i, n int) int {
	dst := &s.legs[1-i]
	switch {
	case !s.relays(i) || dst.pending > 0: // nobody is to be waited for, or nobody can be: see pump
		return readSize
	case n == 0 && !s.congested:
		return firstRead
	}
	return min(max(notSent-queued(dst.fd()), leastRead), readSize)
}

// relays reports whether what is read from leg i goes to the other leg, so that this one has to keep its pace.
func (s *session) relays(i int) bool {
	if s.legs[1-i].c == nil || s.legs[1-i].is(broken|finish) {
		return false
	}
	switch s.state {
	case stTunnel, stEnding, stNotify:
		return true
	case stAnswer:
		return i == client
	case stPass, stReply:
		return i == origin
	}
	return false
}

// received handles bytes read from leg i.
func (e *engine) received(s *session, i int, b []byte) {
	switch s.state {
	case stReply:
		e.readReply(s, b)
	case stPass:
		if i == origin {
			e.passBody(s, b)
		}
	case stTunnel, stEnding:
		s.legs[i].track.advance(b, stopNever)
		e.write(s, 1-i, b)
	case stNotify:
		e.relayNotify(s, i, b)
	case stAnswer:
		if i == client {
			e.relayAnswer(s, b)
		}
	}
}

// eof handles the end of what leg i sends.
func (e *engine) eof(s *session, i int) {
	switch s.state {
	case stReply:
		e.fail(s, i)
		return
	case stPass:
		if i == origin {
			e.close(s, i)
			e.linger(s)
			return
		}
	case stTunnel, stEnding, stNotify:
		e.shutdown(s, 1-i) // a half-close passes through; the other direction goes on
	case stAnswer:
		if i == client {
			e.silent(s)
		}
	}
	if s.legs[i].is(broken) {
		e.fail(s, i)
		return
	}
	e.closeEnded(s, i)
	if s.state == stTunnel && s.legs[i].c == nil && s.legs[1-i].c != nil {
		e.linger(s) // all is said both ways, and the other leg has not read it yet
	}
}

// write sends b to leg i.
func (e *engine) write(s *session, i int, b []byte) {
	if t := e.tlsOf(s, i); t != nil && len(b) > 0 {
		if l := &s.legs[i]; l.fd() < 0 || l.is(broken|finish) {
			return
		}
		b = e.encrypt(t, b)
	}
	e.writeRaw(s, i, b)
}

// writeRaw sends b to leg i as it is; what the kernel does not take is queued by nbio.
//
// The first write is not nbio's, because nbio closes the connection when it fails, together with bytes that came from
// the peer before its RST. So a failure is only noted, and the leg's own event reads what is left and ends it.
func (e *engine) writeRaw(s *session, i int, b []byte) {
	l := &s.legs[i]
	fd := l.fd()
	if fd < 0 || l.is(broken|finish) || len(b) == 0 {
		return
	}
	e.tally.sent[i].Add(int64(len(b)))
	e.owe(s)
	if l.pending == 0 {
		n, err := send(fd, b)
		switch {
		case err == nil:
			b = b[n:]
		case !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR):
			l.flags |= broken
			e.rearm(l)
			return
		}
		if len(b) == 0 {
			return
		}
	}
	l.pending += int32(len(b))
	if _, err := l.c.Write(b); err != nil {
		e.forget(s, i)
		e.lost(s, i)
		return
	}
	if l.pending > 0 {
		e.congests(s)
	}
}

// onWritten is nbio's hook for bytes that the kernel took from its queue. It runs on the poller goroutine, under the
// connection's lock: only bare system calls are allowed here, and none of nbio's methods of this connection.
func (e *engine) onWritten(c *nbio.Conn, _ []byte, n int) {
	s, ok := c.Session().(*session)
	if !ok {
		return
	}
	i := s.side(c)
	if i < 0 {
		return
	}
	l := &s.legs[i]
	if l.pending -= int32(n); l.pending > 0 {
		return
	}
	if l.is(finish) && !l.is(shut) {
		e.sendFin(l) // if the leg's EOF was read before, the kernel now reports a hang-up and nbio closes it
	}
	if p := &s.legs[1-i]; p.c != nil && e.endPause(s, 1-i) {
		e.rearm(p)
	}
}

// resume has a paused leg read again, because its bytes no longer go to the other one.
func (e *engine) resume(s *session, i int) {
	if l := &s.legs[i]; l.c != nil && e.endPause(s, i) {
		e.rearm(l)
	}
}

// lostInTunnel: leg i is gone. If it had said everything, the other leg still gets it all, however slowly. Otherwise
// somebody aborted the connection, and the other leg learns just that; so it does if it goes on talking to nobody.
func (e *engine) lostInTunnel(s *session, i int) {
	if !s.legs[i].is(ended) {
		e.reset(s, 1-i)
		return
	}
	s.aborted = !s.legs[1-i].is(ended)
	e.linger(s)
}

// watchCongested re-arms what has pending bytes: under memory pressure the kernel can swallow the edge that should
// have told of room in the send buffer.
func (e *engine) watchCongested() {
	list := e.congested
	e.congested = nil
	look := each(list, 2*stepProbe, func(s *session) {
		s.congested = false
		for i := range s.legs {
			if l := &s.legs[i]; l.c != nil && l.pending > 0 {
				e.rearm(l)
				e.congests(s)
			}
		}
	})
	e.takeTurns(look)
}

// congests lists a session that has pending bytes.
func (e *engine) congests(s *session) {
	if s.congested {
		return
	}
	s.congested = true
	e.congested = append(e.congested, s)
	if e.watching.in == nil {
		e.watch.start(&e.watching, e.now())
		e.schedule(e.watching.at)
	}
}
