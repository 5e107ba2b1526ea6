package cutover

import (
	"time"

	"github.com/unitgate/unitgate/events"
)

// Times of the office (R1), on the clock of the process that measures them.
const (
	// Term is T: how long one acknowledged write to the office key lets its writer act.
	Term = 3 * time.Second
	// TermMargin is m_o: T + m_o >= T(1+r)/(1-r) for every clock-rate error r up to 7 %.
	TermMargin = 500 * time.Millisecond
	// RenewEvery is how often the holder writes the key again.
	RenewEvery = time.Second
	// PollEvery is how often a standby reads it.
	PollEvery = 500 * time.Millisecond
)

const (
	// Patience is how long one edge may show no progress on a fence before the wave is unfenced; see Driver.
	Patience = 60 * time.Second

	retryAfter   = 250 * time.Millisecond // pause before a command of unknown fate is sent again
	refusedWait  = time.Second            // pause after a refusal that the next state does not explain
	answerWait   = 10 * time.Second       // an answer that has not come by then will not come
	silenceSlack = 10 * time.Second       // beyond L+m, before an edge that makes no progress ends a fence
)

// Driver is the process manager of a namespace's cutovers as a pure machine: its owner is one goroutine, which calls
// Step; it has no clock, no randomness and no I/O. Everything that must survive it is in the journal.
//
// The office (R1), in which at most one driver is:
//
//	         vacant, or unchanged for T+m_o      write acknowledged        state read back holds (term, me)
//	standby ───────────────────────▶ claiming ──────────────▶ entering ──────────────────────▶ serving
//	   ▲                                │                        │  TakeOffice{term}               │  FenceWave, CommitWave,
//	   └────────────────────────────────┴── lost write, foreign key, own term over ────────────────┘  CompleteCutover, PauseCutover
//
// One cutover, while serving; states and waves are the journal's, so that a successor goes on where this one ended:
//
//	started ──pre hooks, FenceWave──▶ fenced ──every needed edge reported, skipped or silent──▶ CommitWave ──▶ next wave … CompleteCutover
//	                          └──── an edge without progress for Patience ──▶ PauseCutover (unfences, R11)
//
// The deadline. While a wave is fenced its users have no service: they were evicted and every handshake of theirs is
// held or refused. Ending that matters more than ending the cutover. So a wave is unfenced, and its users return to the
// unit that they came from, as soon as one needed edge has shown no progress for Patience: it neither applied the fence
// nor evicted anyone nor drained. That is long enough for a restart of the edge, for an election in the journal, and
// for an operator who watches to skip or retire the edge by name. An edge that goes on evicting has its time restarted,
// up to Patience plus twice the expected eviction time (the sessions that the preview counted, at the cutover's rate,
// as if all were on one edge) after the fence. Under exclusive ownership an edge that is given no lease is silent after
// L+m (R5): then Patience is at least that and silenceSlack, and the whole may take L+m longer, so that waiting for
// silence does not end in vain. Times run on this driver's clock from the moment at which it saw the fence in office; a successor gives every edge the full time anew.
type Driver struct {
	cfg    DriverConfig
	now    time.Duration // of the input being handled
	state  *events.State // nil until the first StateAdvanced; shared, never changed here
	office office
	jobs   map[string]*job       // commands under way, by cutover id; "" is the office's
	voices map[string]Voice      // what registered edges last said, by edge id
	keys   map[string]signingKey // of edges that have spoken, by id
	fences map[string]*fence     // waiting, by cutover id; valid while serving
	rests  map[string]rest       // between two waves, by cutover id; valid while serving
	tenure tenure                // of the term in which this driver last served
	calls  map[callKey]*call     // of hooks; valid while serving
	asks                         // of gates and reports; valid while serving
	ids    uint64                // command ids handed out
	rounds uint64                // inquiries so far, in all times of office
	out    []Output              // of the Step being done
}

// DriverConfig is what a Driver is told once.
type DriverConfig struct {
	Epoch      string                // of the journal; reports that count in another one are not heard
	Holder     string                // this process incarnation, different from every other's
	Key        string                // of the office's beacons, see events.Office; "": it sends none
	ID         func(n uint64) string // the n-th command id, a UUID; distinct incarnations must give distinct ids
	Patience   time.Duration         // 0: Patience
	Signatures events.Signatures     // what is demanded of edges
	// LeaseMargin is m of the lease protocol; 0: events.LeaseMargin.
	LeaseMargin time.Duration
}

// Input is something that a Driver is told. Each carries the moment at which it was handed over, on a clock that never
// goes back.
type Input interface{ at() time.Duration }

// At is the moment of an input.
type At struct{ Now time.Duration }

func (a At) at() time.Duration { return a.Now }

// Inputs.
type (
	// Tick lets time pass; the owner sends one at least every 100 ms.
	Tick struct{ At }
	// StateAdvanced tells the newest state read from the journal. States may be skipped but never go back.
	StateAdvanced struct {
		At
		State *events.State
		Epoch string
	}
	// OfficeRead answers ReadOffice.
	OfficeRead struct {
		At
		Failed bool // no answer: Key says nothing
		Key    OfficeKey
	}
	// OfficeWritten answers WriteOffice.
	OfficeWritten struct {
		At
		Attempt  uint64 // of the WriteOffice
		Fate     Fate   // Refused: the key was not at the expected revision
		Revision uint64 // of the stored value, if Accepted
	}
	// Submitted answers Submit.
	Submitted struct {
		At
		ID   string
		Fate Fate
		Seq  uint64 // of the event, if Accepted
	}
	// Reported is an edge's report as it came in, also late, doubled or out of order.
	Reported struct {
		At
		Report events.EdgeReport
		Signer string // Ed25519 public key, in hex, whose signature the owner has verified; "": there was none
	}
	// Asked is an edge's request for a lease as it came in, also late, doubled or out of order.
	Asked struct {
		At
		Request events.LeaseRequest
		Reply   string // where an AnswerLease goes: the owner's business
		Signer  string // as in Reported
	}
	// Stop asks for a clean end: nothing new is begun and the office is given back once nothing is under way.
	Stop struct{ At }
)

// Fate is what became of a write.
type Fate uint8

// The fates. A write of Unknown fate may have happened, or happen yet.
const (
	Unknown Fate = iota
	Accepted
	Refused
)

// Output is something that a Driver wants done. Its order in a Step's result does not matter.
//
//sumtype:decl
type Output interface{ isOutput() }

// Outputs.
type (
	// ReadOffice wants an OfficeRead.
	ReadOffice struct{}
	// WriteOffice wants Value stored if the key is at revision Expect (0: if there is no key), and an OfficeWritten.
	WriteOffice struct {
		Attempt uint64
		Value   OfficeValue
		Expect  uint64
	}
	// Submit wants the command carried out, and a Submitted.
	Submit struct{ Envelope events.Envelope }
	// AnswerLease wants this said to whoever has Asked.
	AnswerLease struct {
		Reply  string
		Answer events.LeaseAnswer
	}
)

func (ReadOffice) isOutput()  {}
func (WriteOffice) isOutput() {}
func (Submit) isOutput()      {}
func (AnswerLease) isOutput() {}

// NewDriver is a driver that stands by.
func NewDriver(cfg DriverConfig) *Driver {
	if cfg.Patience == 0 {
		cfg.Patience = Patience
	}
	if cfg.LeaseMargin == 0 {
		cfg.LeaseMargin = events.LeaseMargin
	}
	return &Driver{cfg: cfg, jobs: map[string]*job{}, voices: map[string]Voice{}, keys: map[string]signingKey{}, fences: map[string]*fence{}, rests: map[string]rest{}, calls: map[callKey]*call{}, asks: newAsks()}
}

// Step takes one input and says what is to be done now.
func (d *Driver) Step(in Input) []Output {
	d.now, d.out = max(d.now, in.at()), nil
	switch in := in.(type) {
	case StateAdvanced:
		d.advance(in)
	case OfficeRead:
		d.office.read(d, in)
	case OfficeWritten:
		d.office.written(d, in)
	case Submitted:
		d.submitted(in)
	case Reported:
		d.hear(in.Report, in.Signer)
	case Asked:
		if d.state != nil {
			d.asked(in)
		}
	case HookEnded:
		d.hookEnded(in)
	case Inquired:
		d.inquired(in)
	case Stop:
		d.office.stopping = true
	}
	if d.state == nil || d.state.Namespace == "" {
		return nil // nothing to drive, and no telling which term comes next
	}
	d.office.step(d)
	d.enter()
	switch {
	case !d.Serving():
		clear(d.fences) // what was not heard meanwhile counts against no edge
		clear(d.rests)
		clear(d.calls)
		d.asks = newAsks()
	case !d.office.stopping:
		d.drive()
	}
	return d.out
}

// advance takes a newer state and forgets edges that are gone (R7).
func (d *Driver) advance(in StateAdvanced) {
	if in.Epoch != d.cfg.Epoch || d.state != nil && in.State.Seq < d.state.Seq {
		return
	}
	d.state = in.State
	for id := range d.voices {
		if e, ok := d.state.Edges[id]; !ok || e.Gone != "" {
			delete(d.voices, id)
		}
	}
}

// Serving reports whether this driver may act: its own term runs, and the state that it read back from the journal
// holds its taking office (R1).
func (d *Driver) Serving() bool {
	return d.state != nil && d.office.holds(d.now) && d.state.Office == d.office.mine(d)
}

// Vouched is when the newest renewal of the office was sent that was acknowledged, so by a quorum of its replicas, and 0
// when this driver may not act: the term runs from that moment (R1).
func (d *Driver) Vouched() time.Duration {
	if !d.Serving() {
		return 0
	}
	return d.office.ends - Term
}

// Stopped reports whether a Stop has been carried out.
func (d *Driver) Stopped() bool {
	return d.office.stopping && (d.office.released || d.office.attempts == 0)
}

// Term is the term that this driver holds or tries to enter, 0 if none.
func (d *Driver) Term() uint64 { return d.office.term }

// drive brings every running cutover one step further. Each unit type's cutover is driven by itself.
func (d *Driver) drive() {
	for id := range d.fences {
		if c, ok := d.state.Cutovers[id]; !ok || c.State != events.Started || c.FencedWave() < 0 {
			delete(d.fences, id)
		}
	}
	for id := range d.rests {
		if c, ok := d.state.Cutovers[id]; !ok || c.State != events.Started {
			delete(d.rests, id)
		}
	}
	for id := range d.jobs {
		if c, ok := d.state.Cutovers[id]; id != "" && id != "ownership" && (!ok || c.State != events.Started && !d.busyWith(&c)) && d.jobs[id].phase != sent {
			delete(d.jobs, id)
		}
	}
	for key := range d.calls {
		if _, ok := d.state.Cutovers[key.cutover]; !ok {
			delete(d.calls, key)
		}
	}
	d.establish()
	d.forgetAsks(d.state)
	for _, c := range d.state.CutoverList() {
		d.record(&c)
		switch {
		case c.State.Ended():
			d.report(&c)
			d.callPost(&c)
		case c.State == events.Paused:
			d.goBack(&c)
		case c.State != events.Started:
			d.startsItself(&c)
		case !d.callPre(&c):
			d.move(&c)
		}
	}
}

// move brings a started cutover's waves one step further.
func (d *Driver) move(c *events.Cutover) {
	if w := c.FencedWave(); w >= 0 {
		d.await(c, w)
		return
	}
	switch next := c.NextWave(); {
	case d.judging(c, next), d.resting(c, next):
	case next < len(c.Waves) && d.state.Policy.Ownership == "exclusive" && !d.state.Exclusive.Counts(): // R13
	case next < len(c.Waves):
		d.want(c, wish{"fence", next, c.Waves[next].FenceSeq}, events.FenceWave{Cutover: c.ID, Wave: next, Term: d.office.term})
	default:
		d.want(c, wish{"complete", next, 0}, events.CompleteCutover{Cutover: c.ID, Term: d.office.term})
	}
}
