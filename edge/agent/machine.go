package agent

import (
	"reflect"
	"time"

	"github.com/unitgate/unitgate/events"
)

const (
	// retryAfter is how long a failed Install or Store waits. A full disk is not helped by asking it faster.
	retryAfter = time.Second

	// countsEvery bounds the reports that only counters cause.
	countsEvery = 200 * time.Millisecond
)

// Agent brings an edge to the newest state of the journal and says how far it is: the edge's half of the cutover
// protocol as a pure machine. It has no goroutine, clock, randomness or I/O; whoever calls Step owns it.
//
// A state runs through the agent in this order, and only its newest successor is waited for:
//
//	Advanced          Install              Installed            Store               Stored
//	────────▶ known ──────────▶ installing ─────────▶ installed ──────▶ storing ───────────▶ applied ──▶ Report
//	             ▲   one at a time  │ Failed              ▲   one at a time │ Failed
//	             └────── later ─────┘                     └────── later ────┘
//
// For each fence, a wave that the newest known state holds fenced:
//
//	not there ──applied ≥ fence──▶ applied ──no victim counted since its install──▶ drained
//	    ▲                             │                                                │
//	    └──── paused, aborted or committed by the newest known state: no report ◀──────┘
//
// Rules, with the numbers of the protocol:
//
//   - R5: applied and drained are two statements of a report, and drained never comes before applied.
//   - R6: a report names the fence's sequence and the incarnation, and is sent only when the state is on disk: Applied
//     is the newest sequence that is both installed and stored. It is sent at once when it changes, and every
//     events.ReportEvery.
//     Its serial grows, so that a report which was recorded and is sent once more says nothing.
//   - R2, R3, R9, R12: see lease.
//   - R11: a fence that was lifted is not reported any more, and the next fence of the same wave has another sequence,
//     so that nothing of the old one counts for it.
//
// Victims are evicted whatever led to them, so that an edge which missed a fence and sees only its commit does the same.
type Agent struct {
	self Self

	// Each is the zero version or newer than or equal to the next one, within one epoch.
	known      version // newest state
	installing version // under way to the pollers; zero: nothing is
	installed  version // by which every poller decides
	storing    version // under way to the disk; zero: nothing is
	stored     version // on disk; only ever an installed one, or what the state directory held at the start

	installAt, storeAt time.Time // not before: the last try failed

	counts   map[string]Counts // the last ones
	countsOf version           // installed when that counting began
	evicting map[string]order  // by unit type: what was last ordered
	moved    map[string]*movement
	commits  map[string]commit // by unit type
	fences   map[uint64]int    // by the fence's sequence: the relay's counter of evicted when it was first seen

	lease lease

	last   events.EdgeReport
	lastAt time.Time // zero: nothing was reported
	serial uint64    // of the last report
}

// version is a state and the journal that it came from.
type version struct {
	epoch string
	state *events.State // nil in the zero version
	hash  string        // of the state, known once it is stored
}

func (v version) seq() uint64 {
	if v.state == nil {
		return 0
	}
	return v.state.Seq
}

func (v version) is(epoch string, seq uint64) bool {
	return v.state != nil && v.epoch == epoch && v.seq() == seq
}

func (v version) same(o version) bool { return v.state == o.state || o.is(v.epoch, v.seq()) }

// order is an eviction that was ordered: of the victims that the install of seq left, at rate.
type order struct {
	epoch string
	seq   uint64
	rate  events.Rate
}

// New makes the agent of an edge that knows nothing yet.
func New(self Self) *Agent { return NewWith(self, events.LeaseEvery, LeaseGuard) }

// NewWith is New with other times of the lease protocol: how often it asks, and how long before its end it lets go.
func NewWith(self Self, every, guard time.Duration) *Agent {
	return &Agent{
		self: self, lease: lease{every: every, guard: guard}, counts: map[string]Counts{}, evicting: map[string]order{}, moved: map[string]*movement{}, fences: map[uint64]int{},
	}
}

// Step takes one input and returns what it leads to, in order. Inputs must come in the order of their times.
func (a *Agent) Step(in Input) []Output {
	now, urgent := in.when(), false
	out := a.tend(now)
	switch in := in.(type) {
	case Restored:
		a.known = version{in.Epoch, in.State, in.Hash}
		a.stored = a.known
	case Advanced:
		a.advanced(version{epoch: in.Epoch, state: in.State})
	case Installed:
		if a.installing.is(in.Epoch, in.Seq) {
			a.installed, a.installing = a.installing, version{}
		}
	case Stored:
		if a.storing.is(in.Epoch, in.Seq) {
			a.stored, a.storing = a.storing, version{}
			a.stored.hash = in.Hash
		}
	case Failed:
		a.failed(in)
	case Counted:
		a.counts = in.Counts
		if a.countsOf = (version{}); a.installed.is(in.Epoch, in.Seq) {
			a.countsOf = a.installed
		}
	case Answered:
		out = append(out, a.answered(now, in.Answer, in.Signer)...)
	case Lapsed:
		a.lapsed()
	case Lost:
		if a.lease.phase == held {
			out = append(out, a.lapse()...)
		}
	case Connected:
		urgent, a.lease.due = true, true
	case Tick:
	}
	out = append(out, a.pass(now)...)
	out = append(out, a.evict()...)
	out = append(out, a.report(now, urgent)...)
	return append(out, a.ask(now)...)
}

// advanced takes a newer state. Another epoch is another history: what is on disk of the old one says nothing about it.
func (a *Agent) advanced(v version) {
	if a.known.state != nil && v.epoch == a.known.epoch && v.seq() <= a.known.seq() {
		return
	}
	a.known = v
}

func (a *Agent) failed(in Failed) {
	switch o := in.Output.(type) {
	case Install:
		if a.installing.is(o.Epoch, o.State.Seq) {
			a.installing, a.installAt = version{}, in.Now.Add(retryAfter)
		}
	case Store:
		if a.storing.is(o.Epoch, o.State.Seq) {
			a.storing, a.storeAt = version{}, in.Now.Add(retryAfter)
		}
	default: // the others cannot fail
	}
}

// pass hands states on: the newest known one to the pollers, and what the pollers have to the disk.
func (a *Agent) pass(now time.Time) []Output {
	var out []Output
	if a.known.state != nil && a.installing.state == nil && !a.known.same(a.installed) && !now.Before(a.installAt) {
		a.installing = a.known
		a.track(a.known.state)
		out = append(out, a.tend(now)...)
		out = append(out, Install{a.known.epoch, a.known.state})
	}
	// Never before it is installed: what is on disk is what a restarted edge takes for decided by.
	if a.installed.state != nil && a.storing.state == nil && !a.installed.same(a.stored) && !now.Before(a.storeAt) {
		a.storing = a.installed
		out = append(out, Store{a.installed.epoch, a.installed.state})
	}
	return append(out, a.tend(now)...) // what was installed may need no lease
}

// applied is the newest version that every poller decides by and that is on disk (R6); the zero version if there is none.
func (a *Agent) applied() version {
	if a.stored.epoch != a.installed.epoch || a.installed.seq() < a.stored.seq() {
		return version{} // at the start: what the directory held is not installed yet, or is of another epoch
	}
	return a.stored
}

// report is due at once when what the driver waits for has changed, soon when a counter has, and every ReportEvery.
func (a *Agent) report(now time.Time, urgent bool) []Output {
	r := a.compose()
	due := urgent || a.lastAt.IsZero() || now.Sub(a.lastAt) >= events.ReportEvery || !sameProgress(r, a.last)
	if !due && now.Sub(a.lastAt) >= countsEvery {
		due = !reflect.DeepEqual(r.Moved, a.last.Moved) || !reflect.DeepEqual(r.Fences, a.last.Fences)
	}
	if !due {
		return nil
	}
	a.serial++
	r.Serial = a.serial
	a.last, a.lastAt = r, now
	return []Output{Report{r}}
}

// compose is the report as of now.
func (a *Agent) compose() events.EdgeReport {
	applied := a.applied()
	r := events.EdgeReport{
		Namespace: a.self.Namespace, Epoch: applied.epoch, Edge: a.self.ID, Directory: a.self.Directory, Unit: a.self.Unit, Cluster: a.self.Cluster,
		Incarnation: a.self.Incarnation, Version: a.self.Version, Applied: applied.seq(), StateHash: applied.hash,
		Fences: a.fenceReports(applied), Sessions: map[string]int{}, Moved: a.movedReports(),
		Counters: map[string]events.Counters{},
	}
	for t, c := range a.counts {
		r.Sessions[t], r.Counters[t] = c.Sessions, c.Counters
		if c.Proxied == (events.Proxied{}) {
			continue
		}
		if r.Proxied == nil {
			r.Proxied = map[string]events.Proxied{}
		}
		r.Proxied[t] = c.Proxied
	}
	return r
}

// sameProgress compares what commits hang on.
func sameProgress(a, b events.EdgeReport) bool {
	if a.Epoch != b.Epoch || a.Applied != b.Applied || a.StateHash != b.StateHash || len(a.Fences) != len(b.Fences) {
		return false
	}
	for i := range a.Fences {
		if a.Fences[i].Fence != b.Fences[i].Fence || a.Fences[i].Drained != b.Fences[i].Drained {
			return false
		}
	}
	return true
}
