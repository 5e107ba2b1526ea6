package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

const (
	testLease = 30 * time.Second
	serves    = testLease - LeaseGuard // for how long a lease of that length lets an edge serve
)

func (w *world) policy(p events.PolicyPatch) *events.State {
	return w.do(events.ApplyConfig{Base: w.state.ConfigVersion, Config: events.Config{Namespace: "demo", Policy: &p}})
}

func (w *world) exclusive() *events.State {
	ownership := "exclusive"
	return w.policy(events.PolicyPatch{Ownership: &ownership})
}

// leasing is bench.step with the outputs that are about leases, and without the others.
func (b *bench) leasing(in Input) string {
	b.t.Helper()
	var out []string
	for _, o := range b.a.Step(in) {
		switch o := o.(type) {
		case Ask:
			out = append(out, fmt.Sprintf("ask %d at %d held %s", o.Nonce, o.Applied, time.Duration(o.Held)))
		case CatchUp:
			out = append(out, fmt.Sprintf("catch up %d", o.Seq))
		case Hold:
			if o.End.Sub(o.Until) != LeaseGuard {
				b.t.Errorf("%+v", o)
			}
			out = append(out, fmt.Sprintf("hold %s", o.Until.Sub(b.now)))
		case Lapse:
			out = append(out, "lapse")
		case Free:
			out = append(out, "free")
		case Install:
			out = append(out, fmt.Sprintf("install %d", o.State.Seq))
		}
	}
	return strings.Join(out, ", ")
}

func (b *bench) pass(d time.Duration) string {
	b.t.Helper()
	b.now = b.now.Add(d)
	return b.leasing(Tick{b.now})
}

func (b *bench) grant(nonce uint64) events.LeaseAnswer {
	return events.LeaseAnswer{
		Namespace: "demo", Epoch: "E1", Edge: "bj-1", Incarnation: "incarnation", Nonce: nonce, Term: 1, Lease: events.Duration(testLease),
	}
}

func (b *bench) answer(a events.LeaseAnswer) string {
	b.t.Helper()
	return b.leasing(Answered{b.now, a, ""})
}

// exclusiveBench is an edge that began under exclusive ownership, at state 4, and asks for its first lease.
func exclusiveBench(t *testing.T) *bench {
	b := newBench(t)
	s := b.w.exclusive()
	b.want(b.leasing(Advanced{b.now, "E1", s}), "lapse, install 4") // R9: nobody is served by exclusive ownership without a lease
	b.want(b.leasing(Lapsed{b.now}), "")
	b.want(b.leasing(Installed{b.now, "E1", 4}), "")
	b.want(b.leasing(Stored{b.now, "E1", 4, "h"}), "ask 1 at 4 held 0s") // R6: not before it is on disk
	return b
}

// leasedBench has its first lease.
func leasedBench(t *testing.T) *bench {
	b := exclusiveBench(t)
	b.want(b.answer(b.grant(1)), "hold 29s")
	return b
}

// R2: a request every two seconds, whose nonce takes the place of the one before; the lease runs from before the request.
func TestLeaseIsRenewed(t *testing.T) {
	b := leasedBench(t)
	b.want(b.pass(events.LeaseEvery-1), "")
	b.want(b.pass(1), "ask 2 at 4 held 30s")
	b.now = b.now.Add(1500 * time.Millisecond)
	b.want(b.answer(b.grant(2)), "hold 27.5s")
	b.want(b.pass(500*time.Millisecond), "ask 3 at 4 held 30s")
	b.want(b.pass(events.LeaseEvery), "ask 4 at 4 held 30s")
	b.want(b.answer(b.grant(3)), "")
	b.want(b.answer(b.grant(4)), "hold 29s")
	b.want(b.answer(b.grant(4)), "") // doubled
}

// R2: what is not the answer to the one outstanding request of this process gives nothing.
func TestGrantIsForOneRequest(t *testing.T) {
	for name, change := range map[string]func(*events.LeaseAnswer){
		"another nonce":       func(a *events.LeaseAnswer) { a.Nonce = 2 },
		"another incarnation": func(a *events.LeaseAnswer) { a.Incarnation = "before" },
		"another edge":        func(a *events.LeaseAnswer) { a.Edge = "bj-2" },
		"another namespace":   func(a *events.LeaseAnswer) { a.Namespace = "other" },
		"another journal":     func(a *events.LeaseAnswer) { a.Epoch = "E0" },
		"no length":           func(a *events.LeaseAnswer) { a.Lease = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			b := exclusiveBench(t)
			a := b.grant(1)
			change(&a)
			b.want(b.answer(a), "")
		})
	}
	b := exclusiveBench(t)
	b.now = b.now.Add(serves)
	a := b.a.Step(Answered{b.now, b.grant(1), ""})
	for _, o := range a {
		if h, ok := o.(Hold); ok {
			t.Errorf("a grant that came too late gives %+v", h)
		}
	}
}

// R3: a lease that ended is never renewed, also by a grant that is on its way; every leg is reset before the next is
// asked for.
func TestEndedLeaseIsNotRenewed(t *testing.T) {
	b := leasedBench(t)
	for range 14 {
		b.pass(events.LeaseEvery)
	}
	b.want(b.pass(time.Second-time.Millisecond), "")
	b.now = b.now.Add(time.Millisecond)
	b.want(b.answer(b.grant(15)), "lapse")
	b.want(b.answer(b.grant(15)), "")
	b.want(b.pass(10*time.Second), "") // the pollers take their time
	b.want(b.leasing(Lapsed{b.now}), "ask 16 at 4 held 0s")
	b.want(b.answer(b.grant(15)), "")
	b.want(b.answer(b.grant(16)), "hold 29s")
}

// R12: the pollers, or the kernel's timer, did not take a lease: everything begins anew.
func TestLostLease(t *testing.T) {
	b := leasedBench(t)
	b.want(b.leasing(Lost{b.now}), "lapse")
	b.want(b.leasing(Lost{b.now}), "")
	b.want(b.leasing(Lapsed{b.now}), "ask 2 at 4 held 0s")
}

// R4: a refusal says what is missing; the journal is asked for it, and the driver again as soon as it is on disk. The
// lease that runs goes on.
func TestRefusalSaysWhatIsMissing(t *testing.T) {
	b := leasedBench(t)
	b.pass(events.LeaseEvery)
	refused := b.grant(2)
	refused.Lease, refused.Needs = 0, 5
	b.want(b.answer(refused), "catch up 5")
	b.want(b.leasing(Advanced{b.now, "E1", b.w.join("bj-2", "unbj", "ws-bj", "127.0.0.1:7203")}), "install 5")
	b.want(b.leasing(Installed{b.now, "E1", 5}), "")
	b.want(b.leasing(Stored{b.now, "E1", 5, "h"}), "ask 3 at 5 held 30s")
	b.want(b.answer(b.grant(3)), "hold 29s")
}

// R13, G1: when exclusive ownership begins, sessions that are served go on for the length of a lease, in which the edge
// gets its first one; that is no lease that it tells a driver of.
func TestExclusiveBeginsUnderSessions(t *testing.T) {
	b := newBench(t)
	b.settle()
	s := b.w.exclusive()
	b.want(b.leasing(Advanced{b.now, "E1", s}), "hold 29s, install 4")
	b.want(b.leasing(Installed{b.now, "E1", 4}), "")
	b.want(b.leasing(Stored{b.now, "E1", 4, "h"}), "ask 1 at 4 held 0s")
	b.want(b.answer(b.grant(1)), "hold 29s")
}

// Whose state does not hold its own join under available, or who comes late to ownership that counts, has no grace.
func TestNoGrace(t *testing.T) {
	b := newBench(t)
	b.settle()
	b.w.do(events.TakeOffice{Term: 1, Holder: "driver"})
	since := b.w.exclusive().Exclusive.Since
	s := b.w.do(events.EstablishOwnership{Term: 1, Since: since})
	b.want(b.leasing(Advanced{b.now, "E1", s}), "lapse, install 6")
}

// Ownership is available again: leases are needed until every poller decides by that, and no longer.
func TestExclusiveEnds(t *testing.T) {
	b := leasedBench(t)
	available := "available"
	b.want(b.leasing(Advanced{b.now, "E1", b.w.policy(events.PolicyPatch{Ownership: &available})}), "install 5")
	b.want(b.leasing(Installed{b.now, "E1", 5}), "free")
	b.leasing(Stored{b.now, "E1", 5, "h"})
	b.want(b.pass(time.Hour), "")
}

// A lease is of one journal: a state of another one comes without it.
func TestLeaseOfAnotherJournal(t *testing.T) {
	b := leasedBench(t)
	b.want(b.leasing(Advanced{b.now, "E2", b.w.state.Clone()}), "lapse, install 4")
}

// R9, G5: a restarted edge serves only once it has a lease, however new its directory is.
func TestRestartUnderExclusive(t *testing.T) {
	b := newBench(t)
	s := b.w.exclusive()
	b.want(b.leasing(Restored{b.now, "E1", s, "h"}), "lapse, install 4")
	b.want(b.leasing(Installed{b.now, "E1", 4}), "")
	b.want(b.leasing(Lapsed{b.now}), "ask 1 at 4 held 0s")
}

// A retired edge, and one that has not joined, asks for nothing.
func TestWhoAsksForNothing(t *testing.T) {
	b := leasedBench(t)
	s := b.w.do(events.RetireEdge{ID: "bj-1", Reason: "burnt"})
	b.leasing(Advanced{b.now, "E1", s})
	b.leasing(Installed{b.now, "E1", s.Seq})
	b.leasing(Stored{b.now, "E1", s.Seq, "h"})
	b.want(b.pass(serves), "lapse") // its sessions have had the lease that it had
	b.want(b.leasing(Lapsed{b.now}), "")
	b.want(b.pass(time.Minute), "")
}
