package relay

import (
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/unitgate/unitgate/edge/front"
	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/edge/limit"
)

// welcome begins with a client that was accepted.
func (e *engine) welcome(a *arrival) {
	pass, ok := e.r.gate.Arrive()
	if !ok {
		_ = unix.SetsockoptLinger(a.c.Hash(), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		_ = a.c.Close()
		return
	}
	s := e.newSession()
	s.hs = &opening{peer: a.peer, overTLS: a.tls, glimpse: e.glimpses.draw()}
	s.pass = pass
	s.legs[client].c = a.c
	if err := e.add(a.c, s); err != nil {
		s.legs[client].c = nil
		e.r.gate.Leave(&s.pass)
		e.release(s)
		return
	}
	e.start(&e.heads, s)
	if e.r.cfg.ProxyProtocol.Has(a.peer) {
		s.state = stFront
		return
	}
	e.enter(s)
}

// enter lets a client in whose address is known. One that a limit refuses is answered as soon as it asks something: not
// earlier, since it may have to be answered over TLS. It reports whether the client is there.
func (e *engine) enter(s *session) bool {
	h := s.hs
	var answer bool
	if h.refused, answer = e.r.gate.Enter(&s.pass, h.peer, e.epoch.Add(e.now())); !answer {
		e.reset(s, client)
		return false
	}
	s.state = stHead
	if h.overTLS {
		e.beginTLS(s, e.r.tls)
	}
	return true
}

// readFront reads until a load balancer's header is complete.
func (e *engine) readFront(s *session) {
	for s.state == stFront && s.legs[client].c != nil {
		n, err := s.legs[client].c.Read(e.buf[:front.MaxHeader-len(s.hs.buf)])
		if n <= 0 {
			again, later := readAgain(err)
			switch {
			case again:
				continue
			case !later:
				e.close(s, client)
			}
			return
		}
		e.takeFront(s, e.buf[:n])
	}
}

// takeFront adds b to what was received of the header; what follows that is the client's.
func (e *engine) takeFront(s *session, b []byte) {
	h := s.hs
	if h.buf != nil {
		h.buf = append(h.buf, b...)
		b = h.buf
	}
	head, n, err := front.Parse(b)
	switch {
	case err != nil && !h.overTLS && b[0] == 'G':
		// It may be another edge, which knows of no such list: its mark will tell, see recognize.
		h.headless, h.buf = err, nil
		s.state = stHead
		e.takeHead(s, b)
		e.readHead(s)
		return
	case err != nil && e.r.hops.isOpen() && b[0] == recordHandshake:
		h.headless, h.buf = err, nil
		e.welcomeHop(s, b) // likewise; a client gets no further
		return
	case err != nil:
		e.refuseFront(s, b[0], err)
		return
	case n == 0:
		if h.buf == nil {
			h.buf = append([]byte(nil), b...)
		}
		return
	}
	h.buf = nil
	if head.Source.IsValid() {
		h.peer, h.secure = head.Source, head.TLS
	}
	if b = b[n:]; !e.enter(s) {
		return
	}
	if s.state == stTLS {
		if len(b) == 0 || e.fedTLS(s, client, b) {
			e.readTLS(s, client)
		}
		return
	}
	if len(b) > 0 {
		e.takeHead(s, b)
	}
	e.readHead(s)
}

// refuseFront ends a connection of a load balancer that does not say whose it is: to take it for the balancer's own would
// give all of its clients one address. Who asks something in plain HTTP learns why.
func (e *engine) refuseFront(s *session, first byte, err error) {
	e.r.sayBadFront(s.hs.peer, err)
	vd := handshake.Refuse(http.StatusBadRequest, "bad_front", err.Error()+": this address is listed as a load balancer that sends one")
	if s.hs.overTLS && (first < 'A' || first > 'Z') { // there are no words for it before TLS
		e.countAnswer(s, &vd)
		e.close(s, client)
		return
	}
	e.answer(s, &vd)
}

// sayBadFront tells an operator, once a minute, of a load balancer that is listed and does not send what the list is for:
// none of its clients come in, and over TLS all that they and the balancer see is an end.
func (r *Relay) sayBadFront(from netip.Addr, err error) {
	now := r.now()
	last := r.frontSaid.Load()
	if last != 0 && now-time.Duration(last) < time.Minute || !r.frontSaid.CompareAndSwap(last, int64(max(now, 1))) {
		r.log.Debug("refused a connection", "from", from, "error", err)
		return
	}
	r.log.Warn("refused a connection of a load balancer that --proxy-protocol lists: have it send PROXY headers, or take it from the list",
		"code", "bad_front", "from", from, "error", err)
}

// tooSlow ends a connection that has not asked anything in time.
func (e *engine) tooSlow(s *session) {
	switch {
	case s.state == stFront && s.hs.overTLS:
		vd := handshake.Refuse(http.StatusRequestTimeout, "slow_handshake", "")
		e.countAnswer(s, &vd)
		e.close(s, client)
	case s.hs.refused != limit.Taken:
		e.refuseByLimit(s)
	default:
		e.refuse(s, http.StatusRequestTimeout, "slow_handshake", "the handshake took too long")
	}
}

// refuseByLimit answers a client that is one too many.
func (e *engine) refuseByLimit(s *session) {
	e.r.gate.Refused(&s.pass)
	var vd handshake.Verdict
	switch s.hs.refused {
	case limit.PerAddress:
		vd = handshake.Refuse(http.StatusTooManyRequests, "too_many_from_address", "too many connections from this address, close some or try again")
	case limit.HandshakesPerAddress:
		vd = handshake.Refuse(http.StatusTooManyRequests, "too_many_handshakes_from_address", "too many handshakes from this address that have not come to an end, try again")
	case limit.Rate:
		vd = handshake.Refuse(http.StatusTooManyRequests, "too_fast", "too many handshakes at this edge, try again")
	case limit.RatePerAddress:
		vd = handshake.Refuse(http.StatusTooManyRequests, "too_fast_from_address", "too many handshakes from this address, try again")
	default:
		vd = handshake.Refuse(http.StatusServiceUnavailable, "too_many_connections", "this edge has all the connections that it takes, try again")
	}
	vd.RetryAfter = retryAfter()
	e.answer(s, &vd)
}

// secure reports whether the client came over TLS, to here, or to the load balancer or the edge before.
func (s *session) secure() bool { return s.tls != nil && !s.tls.hop || s.hs.secure }
