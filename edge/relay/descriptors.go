package relay

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Descriptors are what clients can take from an edge without a word, so some are kept from them: for the admin listener,
// for NATS, for the state directory, for names and probes of origins.
//
// The kernel gives a new descriptor the lowest free number. A relay's sockets stay below a ceiling; so all numbers above it
// are everybody else's, without anybody counting. That of clients is lower than that of connects to origins: a client
// that was accepted can be served. When there is no number left below, those connections give way that have no session
// and have been there for longest: first origins that were given up, then clients that were answered and are being read to the end, then bodies of origins,
// then handshakes. None that is younger than young, which is time enough for a client that answers. Sessions never give
// way. If there is nobody to give way, no client is accepted: who waits, waits in the kernel's queue.
const (
	leastReserve = 64 // descriptors that are kept from all sockets, and as many more from clients
	reserveShare = 50 // or one in so many of all, if that is more
	young        = time.Second
)

// Descriptors is how many this process may have.
func Descriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 20 // the kernel decides
	}
	return int(min(limit.Cur, 1<<30))
}

// ceilingsOf are the lowest numbers that clients and connects to origins may not have, in a process of so many descriptors.
func ceilingsOf(descriptors int) (clients, dials int) {
	reserve := min(max(leastReserve, descriptors/reserveShare), descriptors/4)
	return descriptors - 2*reserve, descriptors - reserve
}

// measure takes the limit anew: it can be changed while the process runs.
func (r *Relay) measure() {
	clients, dials := ceilingsOf(Descriptors())
	r.ceilings.clients.Store(int64(clients))
	r.ceilings.dials.Store(int64(dials))
}

// below takes a new descriptor, or why there is none, and gives it a number below the ceiling. EINTR: there is room now,
// try again; EMFILE: there is none, and what was opened is closed.
func (e *engine) below(ceiling int64, fd int, err error) (int, error) {
	if err == nil && int64(fd) < ceiling {
		return fd, nil
	}
	return e.crowded(ceiling, fd, err)
}

func (e *engine) crowded(ceiling int64, high int, err error) (int, error) {
	if err != nil && !errors.Is(err, syscall.EMFILE) {
		return -1, err
	}
	room := e.shed(acceptBatch) > 0
	if !room {
		e.askOthers()
	}
	if err != nil {
		if room {
			err = syscall.EINTR
		}
		return -1, err
	}
	fd, err := another(high)
	_ = unix.Close(high)
	if err == nil && int64(fd) >= ceiling {
		_ = unix.Close(fd)
		err = syscall.EMFILE
	}
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// roomy reports whether a client can have a number, and makes room if not.
func (e *engine) roomy() bool {
	e.r.measure()
	fd, err := another(e.mailFd)
	fd, err = e.below(e.r.ceilings.clients.Load(), fd, err)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil || errors.Is(err, syscall.EINTR)
}

// shed resets up to n connections that have to give way, and returns how many it were.
func (e *engine) shed(n int) (shed int) {
	now := e.now()
	for _, q := range [...]*fifo{&e.leaving, &e.lingering, &e.bodies, &e.heads} {
		for ; shed < n && q.first != nil; shed++ {
			d := q.first
			if s := d.s; s.legs[client].waits == 0 && now-(d.at-q.timeout) < e.r.cfg.young {
				break // and all behind it have been there for a shorter time, or have waited before
			}
			e.abort(d.s)
			e.reset(d.s, client)
			if q.first == d { // it has gone with its last leg
				e.r.log.Error("a connection does not give way", "state", d.s.state)
				break
			}
		}
	}
	e.tally.shed.Add(int64(shed))
	return shed
}

// askOthers has the other engines make room: the kernel deals clients out by their ports, which these choose.
func (e *engine) askOthers() {
	for _, o := range e.r.engines {
		if o != e {
			o.post(func() { o.shed(acceptBatch) })
		}
	}
}
