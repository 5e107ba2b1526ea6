package relay

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"time"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/edge/limit"
)

// attempt is a try to reach an origin of a session in stDial: its name is being looked up, or its socket connects.
type attempt struct {
	serial uint32           // of the engine's attempts; 0: none is under way
	c      *nbio.Conn       // connecting; nil while a name is looked up
	others []netip.AddrPort // further addresses of the same origin
}

// dial tries one of the session's origins. Nothing waits for the connect but the kernel and a place in a fifo.
func (e *engine) dial(s *session) {
	s.state = stDial
	s.hs.hop.anew()
	if e.awaitsNames(s) {
		return
	}
	if !e.pick(s) {
		e.noneAnswers(s)
		return
	}
	addr := s.origin.Address()
	e.begins(s.hs)
	e.startConnect(s)
	if to, err := netip.ParseAddrPort(addr); err == nil {
		e.connect(s, to)
	} else {
		e.lookUp(s, addr)
	}
}

// startConnect gives the connect its time.
func (e *engine) startConnect(s *session) {
	e.connects.timeout = s.hs.group.timeout
	e.start(&e.connects, s)
}

// begins gives h an attempt whose serial number no other one has: by it results are told from those of earlier ones.
func (e *engine) begins(h *opening) {
	if e.serial++; e.serial == 0 {
		e.serial++
	}
	h.attempt = attempt{serial: e.serial}
}

// under reports whether the attempt of that number is the session's.
func (s *session) under(serial uint32) bool {
	return s.state == stDial && s.hs.attempt.serial == serial
}

// connect begins to connect. nbio's own DialAsync sends IPv4 to 0.0.0.0 and reports no refusal.
func (e *engine) connect(s *session, to netip.AddrPort) {
	c, err := e.open(to)
	if err != nil {
		e.dialFailed(s, err)
		return
	}
	s.hs.attempt.c = c
	e.arrive(arrival{s: s, serial: s.hs.attempt.serial})
}

func (e *engine) open(to netip.AddrPort) (*nbio.Conn, error) {
	family, sa, err := sockaddr(to)
	if err != nil {
		return nil, err
	}
	fd := -1
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		fd, err = e.below(e.r.ceilings.dials.Load(), fd, err)
	}
	if err != nil {
		return nil, err
	}
	if err := e.r.tune(fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	c, err := e.adopt.conn(fd)
	if err != nil {
		return nil, err
	}
	switch err := unix.Connect(c.Hash(), sa); err {
	case nil, unix.EINPROGRESS, unix.EINTR: // interrupted, it goes on all the same
		return c, nil
	default:
		_ = c.Close()
		return nil, err
	}
}

// opened looks at a connect that was under way when the poller last waited: it may have come to its end already, as it
// does on the same host, or have to be waited for.
func (e *engine) opened(s *session, serial uint32) {
	if !s.under(serial) {
		return
	}
	if e.dialled(s) {
		e.connected(s)
		return
	}
	fd := s.hs.attempt.c.Hash()
	err := unix.EpollCtl(e.connecting, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: unix.EPOLLOUT | unix.EPOLLONESHOT, Fd: int32(fd), Pad: int32(serial),
	})
	if err != nil {
		e.hangUp(s.hs)
		e.dialFailed(s, err)
		return
	}
	e.awaited[serial] = s
}

// dialled reports whether a connect has come to its end, well or not.
func (e *engine) dialled(s *session) bool {
	c := s.hs.attempt.c
	return c != nil && e.poll(c.Hash(), unix.POLLOUT)&(unix.POLLOUT|unix.POLLERR|unix.POLLHUP) != 0
}

// onConnects handles connects that came to their end, of many some: of the others the poller is told again.
func (e *engine) onConnects() {
	var events [64]unix.EpollEvent
	n, err := unix.EpollWait(e.connecting, events[:], 0)
	for _, ev := range events[:max(n, 0)] {
		serial := uint32(ev.Pad)
		if s := e.awaited[serial]; s != nil && s.under(serial) {
			e.connected(s)
		}
	}
	if n == len(events) || err == unix.EINTR {
		e.setInterest(e.connecting, unix.EPOLLIN|nbio.EPOLLET)
	}
}

// connected takes the result of a connect.
func (e *engine) connected(s *session) {
	c := s.hs.attempt.c
	if err := e.connectError(c.Hash()); err != nil {
		e.hangUp(s.hs)
		e.dialFailed(s, err)
		return
	}
	switch {
	case !e.leased() || !e.stillServed(s):
		// R10: ask before the first byte to the origin. Of the view install has asked already: it runs on this goroutine
		// and takes every dial on a lost key out of stDial. The lease may have run out since.
		e.decideAgain(s)
	case e.left(s.legs[client].fd()): // a FIN that came along with the request had no event of its own
		e.fail(s, client)
	default:
		if p := s.reaches(); p != nil && e.r.hops.speaks(p, e.r.now()) {
			e.secureHop(s, p)
		} else if e.attach(s) {
			e.request(s)
		}
	}
}

func (e *engine) connectError(fd int) error {
	if e.poll(fd, 0)&(unix.POLLERR|unix.POLLHUP) == 0 {
		return nil
	}
	switch n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); {
	case err != nil:
		return err
	case n != 0:
		return syscall.Errno(n)
	}
	return nil // a reset after the connect, say: reading tells
}

// attach makes the connection that was tried for the session's second leg. False: it has gone elsewhere.
func (e *engine) attach(s *session) bool {
	c := s.hs.attempt.c
	took := e.r.now() - s.hs.picked
	s.origin.Connected(took)
	if s.via == 0 {
		observe(e.r.cfg.Observers.Connected, took)
	}
	e.settled(s.hs)
	if err := e.add(c, s); err != nil {
		e.dialFailed(s, err)
		return false
	}
	s.legs[origin] = leg{c: c}
	return true
}

// request sends the handshake to the origin.
func (e *engine) request(s *session) {
	s.state = stReply
	s.hs.sent = e.r.now()
	e.awaitReply(s)
	e.out = s.hs.req.AppendOrigin(e.out[:0], s.forward())
	e.write(s, origin, e.out)
}

// awaitReply gives who got the handshake its time to answer. Once there is so little left of all of it that no whole span
// fits in, the one that runs is the last.
func (e *engine) awaitReply(s *session) {
	h := s.hs
	if e.r.now()-h.sent <= h.group.replies-h.group.reply {
		e.start(e.repliesIn(h.group.reply), s)
	}
}

// repliesIn is the queue of those who wait for an answer for so long. There are as many as times in the configuration:
// in one of its own each new deadline is the last.
func (e *engine) repliesIn(timeout time.Duration) *fifo {
	for _, q := range e.replies {
		if q.timeout == timeout {
			return q
		}
	}
	q := &fifo{timeout: timeout}
	e.replies = append(e.replies, q)
	return q
}

// forward is what the origin is told of the client. Every origin that is tried gets the same X-Request-Id.
func (s *session) forward() *handshake.Forward {
	h := s.hs
	if h.id == "" {
		if h.id = h.req.ID(); h.id == "" {
			h.id = newRequestID()
		}
	}
	r := s.e.r
	fw := &handshake.Forward{Peer: h.peer, TLS: s.secure(), UnitType: s.entry.Key.Type, RequestID: h.id, Epoch: s.e.view.Epoch, Fields: r.cfg.Fields}
	if h.edges != nil {
		fw.From = s.e.view.ID
		if fw.To = h.hop.to; fw.To != nil {
			fw.Binding, fw.Now = h.hop.binding, r.clock()
		} else {
			fw.To = s.reaches()
		}
		return fw
	}
	if t := s.e.view.Types[fw.UnitType]; t != nil {
		route, _ := s.e.view.Serves(fw.UnitType, s.entry.Key.RouterID)
		fw.RuleVersion = t.VersionOf(route)
	}
	return fw
}

// newRequestID is 128 random bits. They only have to differ, so the runtime's generator is good enough.
func newRequestID() string {
	var random [16]byte
	binary.LittleEndian.PutUint64(random[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(random[8:], rand.Uint64())
	return hex.EncodeToString(random[:])
}

// settled ends an attempt and leaves its socket open.
func (e *engine) settled(h *opening) {
	if s := e.awaited[h.attempt.serial]; s != nil {
		delete(e.awaited, h.attempt.serial)
		_ = unix.EpollCtl(e.connecting, unix.EPOLL_CTL_DEL, h.attempt.c.Hash(), nil)
	}
	h.attempt = attempt{}
}

// hangUp ends an attempt and closes its socket.
func (e *engine) hangUp(h *opening) {
	delete(e.awaited, h.attempt.serial)
	if c := h.attempt.c; c != nil {
		_ = c.Close()
	}
	h.attempt.serial, h.attempt.c = 0, nil
}

func (e *engine) dialFailed(s *session, err error) {
	h := s.hs
	switch others := h.attempt.others; {
	case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
		e.refuseBusy(s, "at_capacity", "this edge is out of file descriptors, try again")
	case len(others) > 0 && e.r.now()-h.began <= e.r.cfg.DialBudget:
		e.begins(h)
		h.attempt.others = others[1:]
		e.startConnect(s)
		e.connect(s, others[0])
	default:
		if !ours(err) {
			e.blame(s, err.Error())
		}
		e.tryNext(s)
	}
}

// stillServed asks the view again for the key that the session was admitted with: whether this unit serves it, or the
// one to which it is passed on; and whether its domain has not been closed since.
func (e *engine) stillServed(s *session) bool {
	if e.view == nil || e.disowned(s) || s.legs[client].is(asSent) && e.view.Outgrown(&s.entry.Key) {
		return false
	}
	if s.via != 0 {
		return e.view.Passes(s.entry.Key.Type, s.entry.Key.RouterID, e.units[s.via])
	}
	_, ok := e.view.Serves(s.entry.Key.Type, s.entry.Key.RouterID)
	return ok
}

// decideAgain takes the client from a session in stDial, stHop or stReply and decides its handshake anew. Nothing of the old
// session reaches the client, and its leg to the origin is closed.
func (e *engine) decideAgain(s *session) { e.decide(e.takeBack(s)) }

// takeBack does the first half of it.
func (e *engine) takeBack(s *session) *session {
	e.hangUp(s.hs)
	fresh := e.newSession()
	fresh.hs, fresh.legs[client], fresh.tls = s.hs, s.legs[client], s.tls
	fresh.admitted, s.admitted = s.admitted, false
	fresh.pass, s.pass = s.pass, limit.Pass{}
	if fresh.hs.long != nil {
		fresh.hs.long.s = fresh
	}
	fresh.hs.attempt, fresh.hs.reply, fresh.hs.edges, fresh.hs.hop = attempt{}, nil, nil, nil
	s.hs, s.legs[client], s.tls = nil, leg{}, nil
	if c := fresh.legs[client].c; c != nil {
		c.SetSession(fresh)
	}
	e.drop(s)
	return fresh
}

// abandon ends a session in stDial, stHop or stReply whose client left.
func (e *engine) abandon(s *session) {
	e.blameLeft(s)
	e.counter(verdict{unitType: s.stats.name, code: verdictLeft}).Add(1)
	e.hangUp(s.hs)
	e.traceLeft(s)
	e.endOpening(s)
	e.drop(s)
}

func (e *engine) drop(s *session) {
	s.state = stDropped
	s.deadline.stop()
	e.part(s)
	e.release(s)
}
