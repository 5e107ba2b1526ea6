package relay

import "time"

// Connections that are over: there is nothing more to say to them, and they stay until their peers have read what they were
// sent. A peer that does not read answers each probe of its closed window and looks alive for ever; so being over has an
// absolute end, after which the connection is reset whatever its peer does.

// linger ends the sending side of what is left and waits until the peer has read it, discarding what it sends. Closing
// at once would turn bytes that nobody has read into a RST, which takes the answer away from its reader.
func (e *engine) linger(s *session) {
	s.state = stLinger
	e.endOpening(s)
	if !s.open { // it never became a session, and has no origin any more
		e.unregister(s)
		e.makeRoom(s)
	}
	if s.empty() {
		e.release(s)
		return
	}
	e.start(e.lingersIn(s), s)
	for i := range s.legs {
		e.shutdown(s, i)
		e.rearm(&s.legs[i]) // what is there already has to be read off
	}
}

// lingersIn is the queue for the end of s.
func (e *engine) lingersIn(s *session) *fifo {
	switch {
	case !e.patient(s):
		return &e.evicting
	case s.aborted:
		return &e.aborting
	case s.open:
		return &e.parted
	}
	return &e.lingering
}

// patient reports whether a slow peer may take its time.
func (e *engine) patient(s *session) bool { return s.why == notClosing && !e.closing }

// lingered: the time to read has passed. A peer that is slow but not finished gets more of it, for no cost but its
// socket, until its absolute end has come; TCP ends it before when it no longer answers at all. A victim gets none: its
// unit may not wait for a reader. Who has it all, and goes on talking to a leg that broke off, learns so by a reset.
func (e *engine) lingered(s *session) {
	if !e.patient(s) || !s.unread() {
		e.hurry(s)
		return
	}
	if q := e.lingersIn(s); s.waits(q.timeout, e.r.restOf(s)) {
		e.start(q, s)
		return
	}
	e.tally.late.Add(1)
	for i := range s.legs {
		e.reset(s, i) // also what the kernel has: it would go on asking at the closed window
	}
}

// unread reports whether a peer has not read all that it was sent.
func (s *session) unread() bool {
	for i := range s.legs {
		if l := &s.legs[i]; l.c != nil && (l.pending > 0 || unsent(l.fd()) > 0) {
			return true
		}
	}
	return false
}

// restOf is how long the peers of s have in all to read the rest of what they were sent.
func (r *Relay) restOf(s *session) time.Duration {
	if s.open {
		return r.cfg.rest
	}
	return r.cfg.AnswerTimeout
}

// waits notes that s has waited once more for that time, and reports whether it may once more, with an end in sight.
func (s *session) waits(each, end time.Duration) bool {
	n := &s.legs[client].waits
	*n++
	return time.Duration(*n+1)*each <= end
}
