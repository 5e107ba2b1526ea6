package relay

// begin starts the closing handshake of a tunnel.
//
// The client gets our Close between two messages; until it answers, what it sends goes on to the origin, what the
// origin sends is discarded. Then the origin gets the client's Close, or 1001, and the end of the stream.
func (e *engine) begin(s *session, why closeReason) {
	if s.why != notClosing {
		return
	}
	e.because(s, why)
	c, o := &s.legs[client], &s.legs[origin]
	if c.track.closing() || o.track.closing() || o.is(ended) || c.is(finish) {
		// The peers are closing by themselves, or a half-closed stream has no place for a Close of ours.
		s.state = stEnding
		e.start(&e.evicting, s)
		return
	}
	s.state = stNotify
	e.start(&e.evicting, s)
	if o.track.betweenMessages() {
		e.notify(s)
	}
}

// because notes why this edge ends a session, or that it does not.
func (e *engine) because(s *session, why closeReason) {
	if s.served() && (s.why == notClosing) != (why == notClosing) {
		if why == notClosing {
			s.stats.closing.Add(-1)
		} else {
			s.stats.closing.Add(1)
		}
	}
	s.why = why
}

// evict ends a registered session, whatever state it is in.
func (e *engine) evict(s *session, why closeReason) {
	switch s.state {
	case stTunnel:
		e.begin(s, why)
	case stPass, stLinger, stAnswer: // the last one of a client that was corrected: an evicted one has its why
		if s.why == notClosing {
			e.because(s, why)
			e.start(&e.evicting, s)
		}
	}
}

// spare lets a session go on whose eviction has begun but not shown yet.
func (e *engine) spare(s *session) {
	switch s.state {
	case stNotify, stEnding:
		s.state = stTunnel
		s.deadline.stop()
	case stPass:
		e.start(&e.bodies, s)
	case stLinger:
		e.because(s, notClosing) // it has its patience back
		e.start(e.lingersIn(s), s)
	default:
		return
	}
	e.because(s, notClosing)
}

// notify sends our Close to the client; the stream towards it is between two messages.
func (e *engine) notify(s *session) {
	e.countEvicted(s)
	unit := ""
	if e.view != nil {
		if rt, _ := e.view.Serves(s.entry.Key.Type, s.entry.Key.RouterID); rt == nil {
			unit = e.view.Center // where unmarked clients go
		} else if unit = rt.Next; unit == "" {
			unit = rt.Unit
		}
	}
	code, text := closeOf(s.why, e.closeCode(), unit)
	s.state = stAnswer
	e.start(&e.evicting, s)
	e.out = appendClose(e.out[:0], code, text)
	e.write(s, client, e.out)
	switch {
	case s.state != stAnswer:
	case s.legs[client].is(ended):
		e.conclude(s) // there is nobody to answer
	default:
		e.resume(s, origin) // from here on it is read and discarded
	}
}

func (e *engine) closeCode() uint16 {
	if e.view == nil {
		return 0
	}
	return e.view.CloseCode
}

// relayNotify relays bytes of leg i until the message to the client ends.
func (e *engine) relayNotify(s *session, i int, b []byte) {
	t := &s.legs[i].track
	if i == client {
		t.advance(b, stopNever)
		e.write(s, origin, b)
	} else {
		n := t.advance(b, stopMessage)
		if t.closing() {
			n += t.advance(b[n:], stopNever) // the origin closes by itself, between two fragments
		}
		e.write(s, client, b[:n])
	}
	switch {
	case s.state != stNotify:
	case t.closing():
		s.state = stEnding
		e.start(&e.evicting, s)
	case s.legs[origin].track.betweenMessages():
		e.notify(s)
	}
}

// relayAnswer passes on what the client sends after our Close, its own Close included and nothing behind it (RFC 6455
// section 5.5.1: "the application MUST NOT send any more data frames after sending a Close frame").
func (e *engine) relayAnswer(s *session, b []byte) {
	t := &s.legs[client].track
	n := t.advance(b, stopClosed)
	e.write(s, origin, b[:n])
	if t.closed() && s.state == stAnswer {
		e.conclude(s)
	}
}

// silent: the client does not answer, or the peers do not come to an end. The origin gets 1001 in its place, if a frame
// may stand here.
func (e *engine) silent(s *session) {
	e.countEvicted(s)
	c, o := &s.legs[client], &s.legs[origin]
	if o.c != nil && !o.is(finish) {
		if !c.track.betweenFrames() {
			if c.is(ended) { // the client's own doing: the origin sees the same end that the client made
				e.conclude(s)
			} else {
				e.cut(s)
			}
			return
		}
		if !c.track.closing() {
			e.write(s, origin, maskedGoingAway[:])
		}
	}
	e.conclude(s)
}

// conclude ends both streams behind what was written and waits for the peers to do the same.
func (e *engine) conclude(s *session) {
	if s.empty() {
		return
	}
	s.state = stFinish
	e.start(&e.evicting, s)
	for i := range s.legs {
		e.resume(s, i)
		e.shutdown(s, i)
	}
}

// hurry: the peers had their time. What the kernel has taken still arrives; a leg that did not even take everything is
// reset, and so is one whose peer broke off.
func (e *engine) hurry(s *session) {
	for i := range s.legs {
		if s.legs[i].pending > 0 || s.aborted {
			e.reset(s, i)
		} else {
			e.close(s, i)
		}
	}
}

// cut resets both legs.
func (e *engine) cut(s *session) {
	e.countEvicted(s)
	for i := range s.legs {
		e.reset(s, i)
	}
}

// lostInAnswer: leg i is gone while the closing handshake was under way.
func (e *engine) lostInAnswer(s *session, i int) {
	if i == client {
		s.legs[client].flags |= ended
		e.silent(s)
	} else {
		e.conclude(s)
	}
}

// countEvicted counts an eviction of the rules once, as soon as the session feels it.
func (e *engine) countEvicted(s *session) {
	if s.why == becauseMoved && !s.counted {
		s.counted = true
		s.dealings().evicted.Add(1)
		if s.via != 0 {
			return
		}
		e.noteLeft(s)
		e.r.signal()
	}
}
