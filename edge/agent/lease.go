package agent

import (
	"strconv"
	"time"

	"github.com/unitgate/unitgate/events"
)

// LeaseGuard is how long before its end an edge lets go of a lease. It is the time in which every leg has to be reset:
// whoever still has one at the end is ended by the kernel (R12). So nothing is served beyond a lease, and the driver's
// margin is all for clocks.
const LeaseGuard = time.Second

// lease is how an edge stands to R2, R3, R9 and R12. It is part of the machine.
//
//	          exclusive ownership begins               grant (R2)
//	free ──────────────────────────────▶ lapsing ─▶ none ────────▶ held ◀── grant: longer
//	 ▲ └── it begins while users are served ──────────────────────▶ │
//	 │                                      ▲                        │ its end less the guard, another history, lost
//	 │  ownership is available              └────────────────────────┘
//	 └──────────── none, held
//
// lapsing: nobody is served, every leg is being reset, every dial dropped, and nothing is asked for: a lease that ended
// is never renewed (R3). Only when no leg is left may a new one begin.
type lease struct {
	guard, every time.Duration
	phase        leasePhase
	epoch        string          // held: of the journal under which
	ends         time.Time       // held: until then the pollers serve
	length       events.Duration // held: L of the grant; 0: no driver has granted it, see grace
	nonce        uint64          // of the last request
	asked        time.Time       // just before the last request was sent: a grant of it runs from here (R2)
	open         bool            // its answer is awaited: one nonce is outstanding
	due          bool            // ask without waiting for the next turn
	needs        uint64          // a refusal named this sequence: once it is applied, ask again; 0: none
}

type leasePhase uint8

const (
	free leasePhase = iota // ownership is available
	lapsing
	none
	held
)

func exclusive(v version) bool { return v.state != nil && v.state.Policy.Ownership == "exclusive" }

// bound reports whether sessions need a lease: the pollers decide by a state of exclusive ownership, or are about to.
func (a *Agent) bound() bool { return exclusive(a.installing) || exclusive(a.installed) }

// tend brings the lease to this moment. It comes before any other input counts, so that no answer prolongs a lease that
// has ended (R3), and before a state is handed to the pollers, so that they never decide by exclusive ownership without
// a lease or the lack of one.
func (a *Agent) tend(now time.Time) []Output {
	l := &a.lease
	switch {
	case l.phase == held && !now.Before(l.ends),
		l.phase == held && a.installing.state != nil && a.installing.epoch != l.epoch,
		l.phase == free && a.bound() && !a.gracious():
		return a.lapse()
	case l.phase == free && a.bound():
		return a.grace(now)
	case (l.phase == held || l.phase == none) && !a.bound():
		*l = lease{guard: l.guard, every: l.every, nonce: l.nonce}
		return []Output{Free{}}
	}
	return nil
}

// lapse ends the service.
func (a *Agent) lapse() []Output {
	l := &a.lease
	*l = lease{guard: l.guard, every: l.every, nonce: l.nonce, phase: lapsing}
	return []Output{Lapse{}}
}

// gracious reports whether the state to be installed turns exclusive ownership on for sessions that are served. No wave
// moves before every registered edge has told of a granted lease (R13), so that this edge may take the length of one to
// get it: nobody's session ends because of a change of the policy (G1).
func (a *Agent) gracious() bool {
	in, was := a.installing, a.installed
	return in.state != nil && was.state != nil && in.epoch == was.epoch && !in.state.Exclusive.Counts() && admits(was.state, a.self)
}

func (a *Agent) grace(now time.Time) []Output {
	end := now.Add(time.Duration(a.installing.state.Policy.Lease))
	return a.hold(end, a.installing.epoch, 0)
}

// hold has the pollers serve by a lease that ends then.
func (a *Agent) hold(end time.Time, epoch string, length events.Duration) []Output {
	l := &a.lease
	l.phase, l.ends, l.epoch, l.length = held, end.Add(-l.guard), epoch, length
	return []Output{Hold{Until: l.ends, End: end}}
}

// lapsed: no leg is left (R3).
func (a *Agent) lapsed() {
	if l := &a.lease; l.phase == lapsing {
		l.phase, l.due = none, true
	}
}

// answered takes a driver's answer: only that to the one nonce that is outstanding, of this process (R2), and only the
// office's, by its signature.
func (a *Agent) answered(now time.Time, in events.LeaseAnswer, signer string) []Output {
	l := &a.lease
	if !l.open || l.phase != none && l.phase != held || in.Nonce != l.nonce || in.Incarnation != a.self.Incarnation ||
		in.Edge != a.self.ID || in.Namespace != a.self.Namespace || in.Epoch != a.applied().epoch {
		return nil
	}
	if office := a.known.state.Office; office.Signs() && (signer != office.Key || in.Term != office.Term) {
		if in.Term > office.Term { // or it is a forgery, for which the journal is asked in vain
			return []Output{CatchUp{in.Epoch, a.known.seq() + 1}}
		}
		return nil
	}
	l.open = false
	if in.Lease == 0 {
		if in.Needs > a.applied().seq() {
			l.needs = in.Needs
			return []Output{CatchUp{in.Epoch, in.Needs}}
		}
		return nil
	}
	end := l.asked.Add(time.Duration(in.Lease))
	if !now.Before(end.Add(-l.guard)) {
		return nil // it came too late to be of use
	}
	return a.hold(end, in.Epoch, in.Lease)
}

// ask sends a request every two seconds, and at once when the last one was refused for what has been applied since. It
// takes the place of the one before, whose answer is worth nothing from then on. What it says is on disk (R6), and needs
// to be of exclusive ownership: a lease that is given without that would not be kept to.
func (a *Agent) ask(now time.Time) []Output {
	l, applied := &a.lease, a.applied()
	if l.phase != none && l.phase != held || !exclusive(applied) || !admits(applied.state, a.self) {
		return nil
	}
	reached := l.needs > 0 && applied.seq() >= l.needs
	if !l.due && !reached && !l.asked.IsZero() && now.Sub(l.asked) < l.every {
		return nil
	}
	l.nonce++
	l.asked, l.open, l.due, l.needs = now, true, false, 0
	return []Output{Ask{events.LeaseRequest{EdgeReport: a.compose(), Nonce: l.nonce, Held: l.length}}}
}

// serving reports whether the pollers may serve at this moment.
func (l *lease) serving(now time.Time) bool {
	return l.phase == free || l.phase == held && now.Before(l.ends)
}

// left is for how many seconds they may, as text; "" if no lease is needed.
func (l *lease) left(now time.Time) string {
	switch {
	case l.phase == free:
		return ""
	case !l.serving(now):
		return "0"
	}
	return strconv.FormatFloat(l.ends.Sub(now).Seconds(), 'f', 1, 64)
}
