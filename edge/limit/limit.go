// Package limit decides whether an edge takes one more connection: how many there may be, in all and from one address,
// how many of an address may be no sessions, and how many may come in a second. And which handshakes are held when not
// all can be, see Places.
//
// A Gate is shared by all pollers; its methods may be called concurrently. It has no clock: times come in.
package limit

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Limits of a Gate; 0 means no limit.
type Limits struct {
	Connections    int // of clients, at a time
	PerAddress     int // of them, from one address
	Rate           int // new ones in a second; as many may come at once
	RatePerAddress int // of them, from one address

	// HandshakesPerAddress bounds those from one address that are no sessions: in their handshake, or answered with
	// something else and not closed yet. They cost their peer nothing to keep, unlike sessions, which are also bounded by
	// what the application lets in.
	HandshakesPerAddress int
}

// DefaultHandshakes is HandshakesPerAddress for a process that may have so many descriptors: a share that leaves the most
// of them to others. An office whose people all come back at the same moment behind one address, or a load balancer that
// hides its clients, has handshakes of some 0.1 s each: of 500 at a time, 5,000 come through in a second.
func DefaultHandshakes(descriptors int) int { return min(max(500, descriptors/20), 5000) }

// Refusal says why a connection is refused.
type Refusal uint8

// Taken means that it is not refused; the others are named like the field of Limits that is exceeded.
const (
	Taken Refusal = iota
	Connections
	PerAddress
	Rate
	RatePerAddress
	HandshakesPerAddress
	refusals = iota
)

const (
	maxIdle       = 1 << 16 // addresses without a connection whose rate is remembered, see Gate.rest
	maxTurnedAway = 1024    // connections at a time that are refused with an answer; more are not answered
	customerBits  = 64      // of an IPv6 address: one customer has all that begin with them
)

// Pass is the place of one connection. Its owner keeps it and gives it back with Leave.
type Pass struct {
	source  *source // nil: its address is not counted
	counted bool
	opening bool    // it counts among its source's handshakes
	away    bool    // it is refused, and counts among those under way
	pending Refusal // as what that is to be counted, if it stays so; Taken: it is counted
}

// source is what is known of an address. It is in Gate.sources, and in the idle list while it has no connection.
type source struct {
	addr       netip.Addr
	conns      int
	opening    int           // of conns: no sessions
	bucket     *rate.Limiter // nil without RatePerAddress
	prev, next *source
}

// Gate counts connections. Make one with New.
type Gate struct {
	limits  Limits
	bucket  *rate.Limiter // nil without Limits.Rate
	conns   atomic.Int64
	away    atomic.Int64
	refused [refusals]atomic.Uint64
	cut     atomic.Uint64

	mu      sync.Mutex // guards what follows
	sources map[netip.Addr]*source
	idle    source // the ring's anchor: next has been idle for the longest
	idles   int
}

// New makes a Gate.
func New(l Limits) *Gate {
	g := &Gate{limits: l, sources: map[netip.Addr]*source{}}
	if l.Rate > 0 {
		g.bucket = rate.NewLimiter(rate.Limit(l.Rate), l.Rate)
	}
	g.idle.prev, g.idle.next = &g.idle, &g.idle
	return g
}

// Arrive counts a connection that was accepted. false: it is one too many even to be answered, and is not counted.
func (g *Gate) Arrive() (Pass, bool) {
	p := Pass{counted: true}
	n := g.conns.Add(1)
	if g.limits.Connections > 0 && n > int64(g.limits.Connections) && !g.turnAway(&p, Connections) {
		g.Leave(&p)
		return p, false
	}
	return p, true
}

// Enter asks for a connection that has arrived whether it may stay, now that the address of its client is known. A
// refused one is to be answered, if there is still room for that: else it is to be closed as it is.
func (g *Gate) Enter(p *Pass, addr netip.Addr, now time.Time) (why Refusal, answer bool) {
	if p.away {
		return Connections, true // Arrive has found that
	}
	if why = g.enter(p, addr, now, g.bucket); why == Taken {
		return Taken, true
	}
	return why, g.turnAway(p, why)
}

// Reenter asks again for a connection that turned out to come for the client of another address; was is what Enter has said
// of the one that it came from. It does not take what all addresses share a second time, and who is refused can be
// answered.
func (g *Gate) Reenter(p *Pass, was Refusal, addr netip.Addr, now time.Time) Refusal {
	if was == Connections || was == Rate {
		return was
	}
	g.giveBack(p)
	p.away, p.pending = false, Taken
	bucket := g.bucket
	if was == Taken {
		bucket = nil
	}
	why := g.enter(p, addr, now, bucket)
	if why != Taken {
		g.refused[why].Add(1)
		g.away.Add(1)
		p.away = true
	}
	return why
}

// turnAway notes a refusal, and reports whether it can be answered. One that is about the address may be taken back, see
// Reenter, and a counter that went down again would look like one that has begun anew: it is counted once it stands.
func (g *Gate) turnAway(p *Pass, why Refusal) bool {
	if g.away.Add(1) > maxTurnedAway {
		g.away.Add(-1)
		g.cut.Add(1)
		g.refused[why].Add(1)
		return false
	}
	p.away, p.pending = true, why
	if why == Connections || why == Rate {
		g.Refused(p)
	}
	return true
}

// Refused says that a connection is being refused for good. Leave says so as well.
func (g *Gate) Refused(p *Pass) {
	if p.pending != Taken {
		g.refused[p.pending].Add(1)
		p.pending = Taken
	}
}

// enter asks the address first: one that comes too often shall take no turn from the others. all is their common bucket, nil
// if there is none or it was asked.
func (g *Gate) enter(p *Pass, addr netip.Addr, now time.Time, all *rate.Limiter) Refusal {
	if g.limits.PerAddress > 0 || g.limits.RatePerAddress > 0 || g.limits.HandshakesPerAddress > 0 {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.expire(now)
		s := g.source(addr)
		if g.limits.PerAddress > 0 && s.conns >= g.limits.PerAddress {
			return PerAddress // it has connections, so it is not idle
		}
		if g.limits.HandshakesPerAddress > 0 && s.opening >= g.limits.HandshakesPerAddress {
			return HandshakesPerAddress // likewise
		}
		if s.bucket != nil && !s.bucket.AllowN(now, 1) {
			g.rest(s)
			return RatePerAddress
		}
		if all != nil && !all.AllowN(now, 1) {
			g.rest(s)
			return Rate
		}
		g.wake(s)
		s.conns++
		s.opening++
		p.source, p.opening = s, true
		return Taken
	}
	if all != nil && !all.AllowN(now, 1) {
		return Rate
	}
	return Taken
}

// giveBack gives back p's place among those that are turned away, and what it took of its address's share.
func (g *Gate) giveBack(p *Pass) {
	if p.away {
		g.away.Add(-1)
	}
	if p.source != nil {
		g.mu.Lock()
		g.part(p)
		g.mu.Unlock()
	}
}

// part takes p out of its source, with g.mu held.
func (g *Gate) part(p *Pass) {
	s := p.source
	if s.conns--; p.opening {
		s.opening--
	}
	p.source, p.opening = nil, false
	g.rest(s)
}

// Opened says that a connection has become a session, or that what it waits for is bounded elsewhere: it does not count
// among its address's handshakes any more. It may be called again. What only those need is forgotten, so that an idle
// session does not pay for it.
func (g *Gate) Opened(p *Pass) {
	if p.source == nil || !p.opening {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limits.PerAddress == 0 {
		g.part(p)
		return
	}
	p.source.opening--
	p.opening = false
}

// Leave gives a place back. It may be called again, and does nothing then.
func (g *Gate) Leave(p *Pass) {
	g.Refused(p)
	if p.counted {
		g.conns.Add(-1)
	}
	g.giveBack(p)
	*p = Pass{}
}

// customer is by what an address counts.
func customer(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(customerBits); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// source finds what is known of an address.
func (g *Gate) source(addr netip.Addr) *source {
	addr = customer(addr)
	s := g.sources[addr]
	if s == nil {
		s = &source{addr: addr}
		if n := g.limits.RatePerAddress; n > 0 {
			s.bucket = rate.NewLimiter(rate.Limit(n), n)
		}
		g.sources[addr] = s
	}
	return s
}

// rest puts an address without connections to the others of that kind, or forgets it. No more than maxIdle are
// remembered: whoever has more addresses than that gets past a rate for each of them anyway.
func (g *Gate) rest(s *source) {
	g.wake(s)
	if s.conns > 0 {
		return
	}
	if s.bucket == nil {
		delete(g.sources, s.addr)
		return
	}
	s.prev, s.next = g.idle.prev, &g.idle
	s.prev.next, g.idle.prev = s, s
	if g.idles++; g.idles > maxIdle {
		g.forget(g.idle.next)
	}
}

// wake takes an address out of the idle ones.
func (g *Gate) wake(s *source) {
	if s.next != nil {
		s.prev.next, s.next.prev = s.next, s.prev
		s.prev, s.next = nil, nil
		g.idles--
	}
}

func (g *Gate) forget(s *source) {
	g.wake(s)
	delete(g.sources, s.addr)
}

// expire forgets some of the addresses that have been idle for so long that they may do all that an unknown one may.
func (g *Gate) expire(now time.Time) {
	for range 2 { // more than one comes in with each call
		s := g.idle.next
		if s == &g.idle || s.bucket.TokensAt(now) < float64(s.bucket.Burst()) {
			return
		}
		g.forget(s)
	}
}

// Counts are what a Gate has counted.
type Counts struct {
	Connections int    `json:"connections"` // now
	Refused     Reason `json:"refused"`     // ever
	Unanswered  uint64 `json:"unanswered"`  // of the refused: there were too many to answer them all
}

// Reason counts refusals by their reasons.
type Reason struct {
	Connections    uint64 `json:"connections"`
	PerAddress     uint64 `json:"perAddress"`
	Rate           uint64 `json:"rate"`
	RatePerAddress uint64 `json:"ratePerAddress"`

	HandshakesPerAddress uint64 `json:"handshakesPerAddress"`
}

// Counts are what it has counted.
func (g *Gate) Counts() Counts {
	return Counts{
		Connections: int(g.conns.Load()), Unanswered: g.cut.Load(),
		Refused: Reason{
			g.refused[Connections].Load(), g.refused[PerAddress].Load(), g.refused[Rate].Load(), g.refused[RatePerAddress].Load(),
			g.refused[HandshakesPerAddress].Load(),
		},
	}
}
