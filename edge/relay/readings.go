package relay

import (
	"sync/atomic"
	"time"
)

// Observers are told what is measured one by one. Pollers call them: they must not block. nil: nobody wants to know.
type Observers struct {
	Connected func(time.Duration) // an origin has accepted, so long after it was chosen
	Held      func(time.Duration) // a handshake was held for so long when it was let go of, however that went
	Landed    func(time.Duration) // a session has landed on a key so long after this relay decided by the commit that brought it here
	// Slice: a poller has done a slice of its chores, in so many steps, which took so much of a processor's time.
	Slice func(took time.Duration, steps int)
}

// observe tells an observer, if there is one.
func observe(f func(time.Duration), d time.Duration) {
	if f != nil {
		f(max(d, 0))
	}
}

// tally is what one engine counts besides its sessions. Its poller writes it, anybody may read it. By leg.
type tally struct {
	sent   [2]atomic.Int64 // bytes that were to be written to it
	paused [2]atomic.Int64 // that are not read at this moment
	pauses [2]atomic.Int64 // that began, ever
	late   atomic.Int64    // see Readings.Late
	shed   atomic.Int64    // see Readings.Shed
	rests  atomic.Int64    // see Readings.AcceptPauses
}

// pauseReads stops reading a leg.
func (e *engine) pauseReads(s *session, i int) {
	if l := &s.legs[i]; !l.is(paused) {
		l.flags |= paused
		e.tally.paused[i].Add(1)
		e.tally.pauses[i].Add(1)
	}
}

// endPause ends what pauseReads has begun, and reports whether it had. It may run under nbio's lock of a connection.
func (e *engine) endPause(s *session, i int) bool {
	l := &s.legs[i]
	if !l.is(paused) {
		return false
	}
	l.flags &^= paused
	e.tally.paused[i].Add(-1)
	return true
}

// What becomes of a handshake that no Verdict's code says.
const (
	verdictServed   = "served"      // the origin's 101 was passed on
	verdictPassedOn = "passed_on"   // the origin answered otherwise
	verdictLeft     = "client_left" // the client went before there was an answer
)

// verdict is what handshakes are counted by. All of its values come from this program and the configuration: unitType is
// "" where the edge knows none yet, to is the unit to which a client was sent, or "".
type verdict struct{ unitType, code, to string }

// counter is that of a verdict. The poller keeps those that it has met.
func (e *engine) counter(v verdict) *atomic.Int64 {
	n := e.verdicts[v]
	if n == nil {
		n = e.r.counter(v)
		e.verdicts[v] = n
	}
	return n
}

func (r *Relay) counter(v verdict) *atomic.Int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.verdicts[v]
	if n == nil {
		n = &atomic.Int64{}
		r.verdicts[v] = n
	}
	return n
}

// countEstablished counts a handshake that has led to a session.
func (e *engine) countEstablished(s *session) {
	s.dealings().handshakes.Add(1)
	v := verdict{unitType: s.stats.name, code: verdictServed}
	if s.via != 0 {
		v.code, v.to = "proxy", e.units[s.via]
	}
	e.counter(v).Add(1)
}

// Readings are what a relay has counted since it was made, and how it stands, for metrics.
type Readings struct {
	Types      map[string]TypeReadings // by unit type, of those that the views had
	Handshakes []HandshakeCount        // in no order
	Admitted   int64                   // sessions that count against the capacity, dialling and held ones included
	ToOrigins  Traffic
	ToClients  Traffic
	Late       int64 // connections that were over and were reset because their peers had not read the rest in time, ever
	Shed       int64 // connections without a session that were reset to make room for new ones, ever

	AcceptPauses int64 // times that a poller did not accept for a while, mostly for want of descriptors, ever
}

// TypeReadings are those of one unit type.
type TypeReadings struct {
	Counts
	Closing int                       // of Sessions, those that this edge is ending
	Ended   [becauseNoLease + 1]int64 // sessions that have ended, ever, by why; see Reasons
}

// HandshakeCount is how many handshakes have come to an end in one way.
type HandshakeCount struct {
	UnitType string // "": none was known
	Verdict  string // a Verdict's code, or "served", "passed_on", "client_left"
	To       string // the unit to which the client was sent, by redirect or otherwise; "": it was not
	N        int64
}

// Traffic is one direction.
type Traffic struct {
	Bytes  int64 // written, ever
	Paused int64 // connections that are not read at this moment, because those to which their bytes go are slower
	Pauses int64 // such pauses, ever
}

// Reasons names why this edge ends sessions, in the order of TypeReadings.Ended; the first is that it does not: a client
// or an origin did.
func Reasons() []string {
	return []string{"peer", "moved", "operator", "removed", "shutdown", "no_lease"}
}

// Readings takes them. Each is exact; read together they may stem from slightly different moments.
func (r *Relay) Readings() Readings {
	out := Readings{Types: map[string]TypeReadings{}, Admitted: r.admitted.Load()}
	for i, t := range []*Traffic{client: &out.ToClients, origin: &out.ToOrigins} {
		for _, e := range r.engines {
			t.Bytes += e.tally.sent[i].Load()
			t.Paused += e.tally.paused[1-i].Load()
			t.Pauses += e.tally.pauses[1-i].Load()
		}
	}
	for _, e := range r.engines {
		out.Late += e.tally.late.Load()
		out.Shed += e.tally.shed.Load()
		out.AcceptPauses += e.tally.rests.Load()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, st := range r.stats {
		t := TypeReadings{Counts: st.counts(), Closing: int(st.closing.Load())}
		for i := range t.Ended {
			t.Ended[i] = st.ended[i].Load()
		}
		out.Types[name] = t
	}
	for v, n := range r.verdicts {
		out.Handshakes = append(out.Handshakes, HandshakeCount{v.unitType, v.code, v.to, n.Load()})
	}
	return out
}
