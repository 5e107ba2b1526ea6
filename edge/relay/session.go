package relay

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/edge/limit"
	origins "github.com/unitgate/unitgate/edge/origin"
	registry "github.com/unitgate/unitgate/edge/session"
)

// state of a session. From every state a reset or the loss of a leg may lead to gone.
//
//	accept ─► front ── no PROXY header from a listed address ────────► gone, or linger while a 400 is read
//	           │ or at once from others
//	           ▼
//	          tls ── no handshake ───────────────────────────────────► gone, or linger while an alert is read
//	           │ or at once without TLS
//	           ▼
//	          head ── corrected by a Close frame ─► answer, without an origin
//	           │ ──── refused, redirected, 408 ──────────────────────┐
//	           │ Hold                                                │
//	           ├─────► held ── answered, 503 after View.Hold ────────┤
//	           │ Serve   │ a new View serves it                      │
//	           ▼         ▼                                           │
//	          dial ◄─────┘ ── every origin has failed: 502 ──────────┤
//	           │ connected; to another unit's edge: hop, its TLS     │
//	           │ still served: the request goes out                  │
//	           ▼                                                     ▼
//	          reply ── not 101 ─► pass ── end of the body ───────► linger ── EOF ─► gone
//	           │ 101, still served                                   ▲
//	           ▼                                                     │ one leg is gone after it had sent everything
//	          tunnel ── EOF both ways ─► gone        tunnel ─────────┘
//	           │ evict
//	           ├── a Close frame is under way already ─► ending ─────┐
//	           ▼                                                     │
//	          notify ── message not finished in 2 s ─► reset         │
//	           │ between two messages: our Close to the client       │
//	           ▼                                                     │
//	          answer ── the client's Close went to the origin, ──► finish ── EOF both ways, or 2 s ─► gone
//	                    or 1001 in its place after 2 s
//
// A dial that fails, and a reply that ends before its first byte, dial another origin; see tryNext.
//
// A dial or reply whose key is no longer served closes its leg to the origin and ends as dropped; a fresh session takes
// its client and is decided anew. How an origin is left that has a handshake already: giveup.go.
type state uint8

const (
	stHead    state = iota // reading the request's head
	stHeld                 // the key is being handed over
	stDial                 // connecting to an origin
	stReply                // the request is sent, the response's head is awaited
	stPass                 // passing on a response other than 101
	stTunnel               // bytes both ways
	stEnding               // tunnel, with little time left: the peers are closing by themselves
	stNotify               // tunnel, until the message to the client ends
	stAnswer               // our Close is sent: the client's bytes go on to the origin, the origin's are discarded
	stFinish               // everything is said: waiting for both ends
	stLinger               // nothing more to say to whoever is left: waiting until it has read what it was sent
	stDropped              // nothing is left, but maybe an origin that was given up and has not ended yet
	stTLS                  // the TLS handshake; its time counts as that of stHead
	stFront                // reading a load balancer's PROXY header; likewise
	stHop                  // the TLS handshake with another unit's edge
)

// How long the states last at most, whatever the peers do. A time is counted from the moment at which the state began,
// unless it says otherwise; it is up to a wake-up of the poller late.
//
//	front, tls, head   Config.HandshakeTimeout in all, from the accept on
//	held               View.Hold in all, from the moment on at which the client was first held
//	dial               connectTimeout for each address, and no further one once Config.DialBudget has passed
//	hop                Config.DialTimeout, likewise
//	reply              URI.ReplyTimeout, else replyTimeout, and again after each interim answer, ten times that in all; longer
//	                   for another unit's edge, which may hold the handshake and dial several origins before it waits so
//	pass               replyTimeout: an answer other than 101 has no more, long polling and streams of events included
//	tunnel             for ever: the peers end it, or the rules; see silence.go for peers that vanish
//	ending, notify     evictTimeout each
//	answer             evictTimeout; lingerTimeout for a client that was corrected, and has no origin
//	finish             evictTimeout
//	dropped            replyTimeout, or evictTimeout when the relay closes, while an origin that was given up has not ended its side; see giveup.go
//	linger             while the peer has not read everything, Config.AnswerTimeout after an answer, restTimeout after a
//	                   tunnel; else the rest of lingerTimeout, or abortInterval; evictTimeout if this edge ends the session
//
// So a client without a session is gone 10 s + 10 s + 30 s after its accept, and the times of hold, dial and reply besides.
const (
	replyTimeout  = 10 * time.Second // default of URI.ReplyTimeout in stReply; stPass
	lingerTimeout = 5 * time.Second  // stLinger, again as long as the client still reads
	abortInterval = time.Second / 4  // stLinger of an aborted session, again as long as the peer still reads
	answerTimeout = 30 * time.Second // default of Config.AnswerTimeout
	restTimeout   = 5 * time.Minute  // what is left of a tunnel is some 300 KiB at most
	evictTimeout  = 2 * time.Second  // stEnding, stNotify, stAnswer, stFinish each
	watchInterval = 500 * time.Millisecond
)

// The two legs of a session.
const (
	client = 0
	origin = 1
)

// session is one client connection and, from stReply on, its origin connection. The poller goroutine of its engine owns
// it. What only the handshake needs is in hs, so that an idle tunnel is small.
type session struct {
	entry    registry.Entry[*session]
	legs     [2]leg
	deadline deadline
	e        *engine
	stats    *typeStats      // of the key's type, once registered
	hs       *opening        // nil from the tunnel on
	origin   *origins.Origin // that counts the session among its connections: being tried, or at the other end
	tls      *tlsLeg         // of the client's leg; nil if that is gone, or speaks no TLS
	pass     limit.Pass      // of the client's connection

	state     state
	why       closeReason // set when an eviction begins
	victim    bool        // counted in stats.victims
	waiting   bool        // counted in stats.waiting: Evict has not come to it
	open      bool        // counted in dealings().sessions
	admitted  bool        // counted in the relay's capacity
	congested bool        // in the engine's list
	glance    uint8       // in which it was looked at last, see lookFrom
	owed      int32       // its place in the engine's list of those written to, from 1; 0: it is not there
	aborted   bool        // one leg broke off, and the other one has to learn it
	counted   bool        // counted in dealings().evicted
	via       uint16      // number of the unit to an edge of which the client is passed on, see engine.units; 0: it is served here
	tenure    uint32      // number of the domain's, while the key is registered
	gen       uint32      // of the engine's cohorts, when it was established; valid once open
}

// opening is the part of a session that lives until the tunnel does.
type opening struct {
	peer     netip.Addr    // the client's address, behind a load balancer as well
	overTLS  bool          // the client's port wants it
	headless error         // why a listed address has no PROXY header; nil once an edge's mark stands for it
	secure   bool          // the client came to a load balancer over TLS
	refused  limit.Refusal // what its request is answered with
	buf      []byte        // of the client: a header or a head that is not complete; then what was glued to it
	req      *handshake.Request
	id       string                 // X-Request-Id, from the first dial on
	since    time.Duration          // when the client was first held
	place    *limit.Place[*session] // in stHeld
	long     *longHead              // what it has of the budget for long heads; nil: it needs none
	kept     int32                  // bytes of memory that req and buf take
	wasHeld  bool
	glimpse  *glimpse // nil: no span is made of the handshake

	binding  []byte            // of marks to the TLS connection, if an edge is at its other end
	edges    *handshake.Edges  // to which the client is passed on; nil: it is served here
	hop      *hopDial          // how; with edges
	group    group             // of origins, or of edges, to try
	tried    []*origins.Origin // those that failed
	began    time.Duration     // when the first one was picked, by Relay.now
	picked   time.Duration     // when the present one was
	sent     time.Duration     // when it got the handshake, likewise
	answered bool              // some of an answer came
	looked   bool              // it has waited for names to be looked up again
	informed bool              // the client was told of an interim one
	shut     bool              // of the edge's own: an origin has closed the connection without an answer
	bad      bool              // one of those that were tried has answered with something else than HTTP
	attempt  attempt           // in stDial
	reply    []byte            // of the origin: a head that is not complete
	body     body              // of the response, in stPass
}

// leg is one of the two connections.
type leg struct {
	c       *nbio.Conn // nil before it is connected and after it is closed
	track   tracker    // follows what is read from it
	pending int32      // bytes in nbio's queue towards it
	flags   legFlags
	waits   uint16 // of the client's leg: times that the session has been given to be read to its end
}

type legFlags uint8

const (
	paused legFlags = 1 << iota // not read, because the other leg has pending bytes
	ended                       // its EOF was read
	finish                      // its sending side is to be shut once nothing is pending; nothing is written any more
	shut                        // that has happened
	broken                      // a write failed: nothing is written any more
	silent                      // the last look found that its peer has said nothing for too long, see owes
	asSent                      // of the client's leg: it was admitted when its unit type took routerIds as they were sent
)

func (l *leg) is(f legFlags) bool { return l.flags&f != 0 }

// fd is the leg's descriptor for system calls, -1 if there is none. nbio may have closed the connection, on a hang-up or
// a failed flush, and not told yet: the number can be somebody else's connection by now.
func (l *leg) fd() int {
	if l.c == nil {
		return -1
	}
	if closed, _ := l.c.IsClosed(); closed { // only this goroutine closes: it stays as it is until the next call
		return -1
	}
	return l.c.Hash()
}

func (s *session) side(c *nbio.Conn) int {
	switch c {
	case s.legs[client].c:
		return client
	case s.legs[origin].c:
		return origin
	}
	return -1
}

func (e *engine) newSession() *session {
	s := &session{e: e}
	s.entry.Value = s
	s.deadline.s = s
	e.all[s] = struct{}{}
	return s
}

// register enters the key before anything is dialled (R10): from here on Install finds the session.
func (e *engine) register(s *session, vd *handshake.Verdict) {
	s.entry.Key = vd.Key()
	s.entry.Key.RouterID = strings.Clone(s.entry.Key.RouterID) // it must not keep the whole head alive
	s.legs[client].flags &^= asSent
	if !vd.Type.Form.Normal {
		s.legs[client].flags |= asSent
	}
	s.stats = e.statsOf(s.entry.Key.Type)
	e.registry.Add(&s.entry, vd.Type.Table.Slotting())
	e.serveFor(s, vd.Domain)
}

// unregister is the end of the key's use.
func (e *engine) unregister(s *session) {
	e.registry.Remove(&s.entry)
	e.pardon(s)
	e.servedFor(s)
}

// evictable reports whether evict would do something.
func (s *session) evictable() bool {
	switch s.state {
	case stTunnel, stPass, stLinger:
		return true
	}
	return false
}

// empty reports whether nothing is left of s.
func (s *session) empty() bool {
	return s.legs[client].c == nil && s.legs[origin].c == nil
}

// release forgets a session if nothing is left of it. It may be called again.
func (e *engine) release(s *session) {
	if _, ok := e.all[s]; !ok || !s.empty() {
		return
	}
	delete(e.all, s)
	e.settle(s)
	s.deadline.stop()
	e.unhold(s)
	s.state = stDropped
	if s.open {
		e.closes(s)
	}
	e.unregister(s)
	e.makeRoom(s)
	e.traceLeft(s)
	e.endOpening(s)
	e.checkDrained()
}

// shutdown ends the sending side of a leg as soon as everything written before is in the kernel.
func (e *engine) shutdown(s *session, i int) {
	l := &s.legs[i]
	if l.c == nil || l.is(finish) {
		return
	}
	if t := e.tlsOf(s, i); t != nil {
		if e.writeRaw(s, i, e.closeNotify(t)); l.c == nil {
			return
		}
	}
	l.flags |= finish
	e.owe(s)
	switch {
	case l.pending > 0:
	case l.is(ended):
		e.close(s, i) // which sends the FIN, too
	default:
		e.sendFin(l)
	}
}

// sendFin may run under nbio's lock of the connection: system calls only.
func (e *engine) sendFin(l *leg) {
	_ = unix.Shutdown(l.fd(), unix.SHUT_WR)
	l.flags |= shut
}

// closeEnded closes a leg that is done both ways.
func (e *engine) closeEnded(s *session, i int) {
	if l := &s.legs[i]; l.c != nil && l.is(ended) && l.is(shut) {
		e.close(s, i)
	}
}

// close closes a leg; what nbio has queued is lost, what the kernel has is still sent.
func (e *engine) close(s *session, i int) {
	if i == origin {
		e.letGo(s)
	}
	c := s.legs[i].c
	if c == nil {
		return
	}
	e.forget(s, i)
	_ = c.Close()
	e.release(s)
}

// fail closes a leg that broke or has nothing more to give, and has the session deal with that.
func (e *engine) fail(s *session, i int) {
	if c := s.legs[i].c; c != nil {
		e.forget(s, i)
		_ = c.Close()
		e.lost(s, i)
	}
}

// reset closes a leg with a RST; what was not sent yet is lost.
func (e *engine) reset(s *session, i int) {
	_ = unix.SetsockoptLinger(s.legs[i].fd(), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	e.close(s, i)
}

// forget detaches a leg from its connection, which is closed or about to be.
func (e *engine) forget(s *session, i int) {
	l := &s.legs[i]
	l.c.SetSession(nil)
	l.c, l.pending = nil, 0
	e.endPause(s, i)
	if t := e.tlsOf(s, i); t != nil {
		t.abortTLS()
	}
	if i == client {
		e.r.gate.Leave(&s.pass)
		s.tls = nil
	} else if s.via != 0 {
		delete(e.hops, s)
	}
}

// readable handles an event on leg i.
//
// When the kernel reports a hang-up along with it, nbio closes the connection after this returns: nothing may be left
// unread then. See pump.
func (e *engine) readable(s *session, i int) {
	switch s.state {
	case stFront:
		e.readFront(s)
	case stTLS:
		e.readTLS(s, client)
	case stHop:
		if i == client {
			e.checkLeft(s)
			return
		}
		e.readTLS(s, origin)
	case stHead:
		e.readHead(s)
	case stHeld, stDial:
		e.checkLeft(s)
	case stReply:
		if i == client {
			e.checkLeft(s)
			return
		}
		e.pump(s, i)
	default:
		e.pump(s, i)
	}
}

// checkLeft looks whether the client left while it waits. Its bytes stay in the kernel: they are the tunnel's.
func (e *engine) checkLeft(s *session) {
	if l := &s.legs[client]; l.c != nil && e.left(l.fd()) {
		e.fail(s, client)
	}
}

// lost handles that leg i is gone, other than by closeEnded.
func (e *engine) lost(s *session, i int) {
	switch s.state {
	case stHeld:
		e.unhold(s)
		e.counter(verdict{unitType: s.stats.name, code: verdictLeft}).Add(1)
	case stDial, stHop, stReply:
		switch {
		case i == client:
			e.abandon(s)
		case s.state == stHop:
			e.hopFailed(s, io.ErrUnexpectedEOF)
		default:
			e.unanswered(s)
		}
	case stPass:
		e.part(s)
		e.linger(s)
	case stTunnel, stEnding, stNotify:
		e.lostInTunnel(s, i)
	case stAnswer:
		e.lostInAnswer(s, i)
	}
	if s.legs[origin].c == nil && s.state != stDial {
		e.letGo(s)
	}
	e.release(s)
}

// expired handles that the deadline of a session has passed.
func (e *engine) expired(s *session) {
	switch s.state {
	case stTLS:
		e.reset(s, client) // a part of the handshake that it does not read would stay in the kernel
	case stFront, stHead:
		e.tooSlow(s)
	case stHeld:
		e.unhold(s)
		e.refuseBusy(s, "held_too_long", "this user is moving to another unit and the move takes long, try again")
	case stDial:
		if e.dialled(s) { // see inTime
			e.connected(s)
			return
		}
		if s.origin == nil { // it has waited for a name
			e.lookedUp(s)
			return
		}
		e.hangUp(s.hs)
		e.dialFailed(s, syscall.ETIMEDOUT)
	case stHop:
		e.hopFailed(s, syscall.ETIMEDOUT)
	case stReply:
		if !e.inTime(s) {
			e.unansweredInTime(s)
		}
	case stPass:
		e.part(s)
		e.linger(s)
	case stEnding, stAnswer:
		e.silent(s)
	case stNotify:
		e.cut(s)
	case stFinish:
		e.hurry(s)
	case stLinger:
		e.lingered(s)
	case stDropped:
		e.close(s, origin)
	}
}

// inTime takes an origin's answer whose event the poller has not come to. After the process, or the whole machine, has
// stood still, deadlines have passed whose events have not been looked at: the origin is not to be blamed for that.
func (e *engine) inTime(s *session) bool {
	if l := &s.legs[origin]; l.c != nil && e.poll(l.fd(), unix.POLLIN) != 0 {
		e.readable(s, origin)
	}
	return s.state != stReply || s.deadline.in != nil // an interim answer has come
}

// readAgain sorts the errors of a read: try again at once, or with the next event; neither means the connection failed.
func readAgain(err error) (again, later bool) {
	return errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN)
}
