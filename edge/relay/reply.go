package relay

// readReply takes bytes of the origin's response until its head is complete.
func (e *engine) readReply(s *session, b []byte) {
	h := s.hs
	h.answered = true
	if h.reply != nil {
		h.reply = append(h.reply, b...)
		b = h.reply
	}
	for {
		if !beginsReply(b) {
			e.noReply(s)
			return
		}
		n := replyEnd(b[:min(len(b), maxReply)])
		if n == 0 {
			if len(b) >= maxReply {
				e.badReply(s)
				return
			}
			h.reply = append([]byte(nil), b...)
			return
		}
		r, ok := parseReply(b[:n])
		if !ok {
			e.badReply(s)
			return
		}
		if r.status == 101 || r.status >= 200 {
			s.origin.Answered(e.r.now())
		}
		switch {
		case s.via != 0 && turnedDown(&r):
			e.tryElsewhere(s, &r)
			return
		case r.status == 101:
			e.establish(s, b, n)
			return
		case r.status >= 200:
			e.pass(s, &r, b, n)
			return
		}
		h.informed = true
		e.awaitReply(s)
		e.write(s, client, b[:n]) // an interim response: another one follows (RFC 9110 section 15.2)
		if b = b[n:]; s.state != stReply {
			return
		}
	}
}

func (e *engine) badReply(s *session) {
	e.blame(s, "answered with something else than HTTP")
	e.refuseBadReply(s)
}

// noReply: what answers is no origin, so that it has not begun to serve anything, and another one may be. The handshake
// goes there, see tryNext, unless the client was told something of an answer already.
func (e *engine) noReply(s *session) {
	h, failed := s.hs, s.origin
	if h.bad = true; h.informed {
		e.badReply(s)
		return
	}
	e.blame(s, "answered with something else than HTTP")
	h.reply, h.answered = nil, false
	s.deadline.stop()
	e.part(s)
	e.tryAfter(s, failed)
}

func (e *engine) refuseBadReply(s *session) {
	e.refuse(s, 502, "bad_reply", "the origin's answer is no HTTP response, or its head is longer than 16 KiB")
}

// establish makes the session a tunnel. b is what the origin sent: its 101, n bytes long, and maybe the first frames.
func (e *engine) establish(s *session, b []byte, n int) {
	if !e.leased() || !e.stillServed(s) { // R10: ask before the 101; of the view install has asked already, see connected
		e.decideAgain(s)
		return
	}
	glued := s.hs.buf
	e.traceServed(s, 101)
	s.state = stTunnel
	e.endOpening(s)
	s.deadline.stop()
	e.r.gate.Opened(&s.pass)
	e.opens(s)
	e.countEstablished(s)
	e.r.opened.Add(1)
	if rt, _ := e.view.Serves(s.entry.Key.Type, s.entry.Key.RouterID); rt != nil && rt.Moved && s.via == 0 {
		s.stats.landed.Add(1)
		e.noteBack(s)
		e.r.signal()
	}
	s.legs[origin].track.advance(b[n:], stopNever)
	e.write(s, client, b)
	s.legs[client].track.advance(glued, stopNever)
	e.write(s, origin, glued)
	e.rearm(&s.legs[client]) // what the client sent meanwhile waits in the kernel, its event is long past
}

// pass hands a response other than 101 to the client, unchanged. b begins with its head, n bytes long.
func (e *engine) pass(s *session, r *reply, b []byte, n int) {
	e.traceServed(s, r.status)
	s.state = stPass
	s.dealings().handshakes.Add(1)
	e.counter(verdict{unitType: s.stats.name, code: verdictPassedOn}).Add(1)
	if r.status >= 500 && !s.probe() {
		s.dealings().dialErrors.Add(1)
	}
	s.hs.body = r.body
	s.hs.reply, s.hs.buf = nil, nil
	e.start(&e.bodies, s)
	// Of an origin that speaks of a refusal, the edge that passed this on would take it for one of ours.
	e.write(s, client, r.passedOn(b[:n], s.via != 0 || !s.hs.req.Marked()))
	if s.state == stPass {
		e.passBody(s, b[n:])
	}
	e.rearm(&s.legs[client]) // the client's bytes are read off from now on
}

func (e *engine) passBody(s *session, b []byte) {
	n, done := s.hs.body.take(b)
	e.write(s, client, b[:n])
	if done && s.state == stPass {
		e.part(s)
		e.linger(s)
	}
}
