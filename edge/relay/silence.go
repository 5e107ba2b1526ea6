package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

// Peers that vanish without a FIN or a RST. Nothing of an idle session's own watches for them, neither a timer nor a
// goroutine:
//
//   - While nothing is outstanding towards a peer, the kernel's keepalive asks whether it is there.
//   - While something is, keepalive does not run, and the kernel would send it again for a quarter of an hour. The engine
//     has a list of the sessions that it has written to, and every now and then looks at those whose bytes have not all
//     been acknowledged: a peer that has acknowledged nothing for long, and said nothing, is gone.
//
// TCP_USER_TIMEOUT would do the second for us, but it also ends a live peer that does not read: it counts from the last
// byte that was acknowledged. Such a peer answers each probe of its closed window (RFC 9293 section 3.8.6.1), and these
// answers count here.

// silence says how long a peer may say nothing at all. Zero fields mean the defaults.
type silence struct {
	idle     int           // seconds until keepalive's first question
	interval int           // seconds until the next
	count    int           // so many without an answer end the connection
	unacked  time.Duration // with bytes outstanding
	look     time.Duration // how often the engine looks at those; it takes two looks
}

// Idle peers are gone within 2 minutes, others within 5. The kernel asks at a closed window every 2 minutes in the end:
// unacked has room for one such question, or its answer, that gets lost.
const (
	keepIdle     = 45
	keepInterval = 15
	keepCount    = 4
	unackedLimit = 265 * time.Second
	unackedLook  = 10 * time.Second
)

func (q silence) withDefaults() silence {
	if q.count == 0 {
		q.idle, q.interval, q.count = keepIdle, keepInterval, keepCount
	}
	if q.unacked == 0 {
		q.unacked, q.look = unackedLimit, unackedLook
	}
	return q
}

// keepalive sets the options of a listener, whose connections inherit them, or of a connection.
func (q silence) keepalive(fd int) error {
	for _, o := range [...]struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, q.idle},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, q.interval},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, q.count},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

// owe notes that bytes, or a FIN, are on their way to a peer of s.
func (e *engine) owe(s *session) {
	if s.owed != 0 {
		return
	}
	e.owing = append(e.owing, s)
	s.owed = int32(len(e.owing))
	e.lookAgain()
}

// settle takes s out of the list.
func (e *engine) settle(s *session) {
	if s.owed == 0 {
		return
	}
	n := len(e.owing) - 1
	last := e.owing[n]
	e.owing[s.owed-1], last.owed = last, s.owed
	e.owing[n] = nil
	e.owing, s.owed = e.owing[:n], 0
}

func (e *engine) lookAgain() {
	if e.looking.in == nil {
		e.looks.start(&e.looking, e.now())
		e.schedule(e.looking.at)
	}
}

// lookAtOwing looks at the sessions that were written to, from the last one on, and forgets those whose peers have it all.
// Settling moves the last one to any place: glance tells whether it was looked at.
func (e *engine) lookAtOwing() {
	e.glance++
	i := len(e.owing) - 1
	e.takeTurns(func(steps *int) bool {
		for ; i >= 0 && *steps > 0; i-- {
			if i < len(e.owing) && e.owing[i].glance != e.glance {
				*steps -= 2 * stepProbe
				e.lookAt(e.owing[i])
			}
		}
		if i >= 0 {
			return false
		}
		if len(e.owing) > 0 {
			e.lookAgain()
		}
		return true
	})
}

func (e *engine) lookAt(s *session) {
	s.glance = e.glance
	toClient, toOrigin := e.owes(s, client), e.owes(s, origin)
	if !toClient && !toOrigin {
		e.settle(s)
	}
}

// owes reports whether bytes to leg i are still outstanding, and ends the leg if its peer is gone.
//
// One look is not enough: after the whole machine has stood still, peers that are there have not had the time to say so.
func (e *engine) owes(s *session, i int) bool {
	l := &s.legs[i]
	fd := l.fd()
	switch {
	case fd < 0:
		return false
	case unsent(fd) == 0:
		l.flags &^= silent
		return false
	case silentFor(fd) < e.r.cfg.silence.unacked:
		l.flags &^= silent
	case !l.is(silent):
		l.flags |= silent
	default:
		e.r.log.Debug("a peer is gone: nothing was acknowledged for long", "leg", i, "limit", e.r.cfg.silence.unacked)
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // or the kernel would go on trying
		e.fail(s, i)
		return false
	}
	return true
}

// silentFor is how long nothing came from the peer of fd: no data, no acknowledgement, be it of nothing new.
func silentFor(fd int) time.Duration {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return time.Duration(min(info.Last_ack_recv, info.Last_data_recv)) * time.Millisecond
}
