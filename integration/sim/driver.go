package sim

import (
	"strconv"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

// driver is a control process: the machine, and the glue between it and the bus.
type driver struct {
	*node
	machine *cutover.Driver
	reader  reader
	inbox   map[int]func(events.LeaseAnswer) // by reply: who asked for a lease
	replies int
}

func (w *world) newDriver(name string) *driver {
	d := &driver{node: w.newNode(name)}
	d.boot()
	return d
}

func (d *driver) at() cutover.At { return cutover.At{Now: d.now()} }

// key is that of the process: it signs its grants.
func (d *driver) key() string { return officeKey(d.w.incarnation(d.node)) }

func (d *driver) boot() {
	d.start()
	d.w.trace("%s starts", d.name)
	d.machine = cutover.NewDriver(cutover.DriverConfig{
		Epoch: epoch, Holder: events.Fingerprint(d.key()), Key: d.key(), Patience: d.w.plan.patience,
		ID: func(uint64) string { return d.w.uuid(1) },
	})
	d.inbox = map[int]func(events.LeaseAnswer){}
	d.reader = reader{w: d.w, node: d.node, own: d.index == 1}
	d.every("tick", 200*time.Millisecond, func() { d.step(cutover.Tick{At: d.at()}) })
	d.every("read", 500*time.Millisecond, d.read)
	d.read()
}

func (d *driver) crash(away time.Duration) {
	if !d.up {
		return
	}
	d.w.trace("%s dies", d.name)
	d.stop()
	d.machine = nil
	d.w.after(away, d.boot)
}

// retire is a clean end, as of SIGTERM; the process ends within a second in any case.
func (d *driver) retire() {
	if !d.up || d.paused {
		return
	}
	d.w.trace("%s is asked to end", d.name)
	d.step(cutover.Stop{At: d.at()})
	d.after(time.Second, func() { d.crash(d.w.span(2 * time.Second)) })
}

// read takes what the journal has by now, or a part of it.
func (d *driver) read() {
	d.reader.fetch(func(s *events.State) { d.step(cutover.StateAdvanced{At: d.at(), State: s, Epoch: epoch}) })
}

func (d *driver) step(in cutover.Input) {
	out := d.machine.Step(in)
	d.w.drives(d)
	for _, out := range out {
		switch out := out.(type) {
		case cutover.ReadOffice:
			d.w.readOffice(d.node, func(failed bool, k cutover.OfficeKey) {
				d.step(cutover.OfficeRead{At: d.at(), Failed: failed, Key: k})
			})
		case cutover.WriteOffice:
			d.w.writeOffice(d.node, out, func(f cutover.Fate, rev uint64) {
				d.step(cutover.OfficeWritten{At: d.at(), Attempt: out.Attempt, Fate: f, Revision: rev})
			})
		case cutover.CallHook: // no namespace here has hooks
			d.w.bug("hooks", "%s calls %s", d.name, out.Hook.Name)
		case cutover.Inquire: // the model of an edge remembers nobody: there is no report
			d.w.after(d.w.latency(), d.mine(func() {
				d.step(cutover.Inquired{At: d.at(), Round: out.Round})
			}))
		case cutover.AnswerLease:
			d.w.granted(d, &out.Answer)
			d.w.forger.overhearAnswer(out, d.key())
			if n, err := strconv.Atoi(out.Reply); err == nil && d.inbox[n] != nil {
				d.inbox[n](out.Answer)
			}
		case cutover.Submit:
			d.w.submit(d.node, out.Envelope, func(f cutover.Fate, seq uint64, _ error) {
				d.step(cutover.Submitted{At: d.at(), ID: out.Envelope.ID, Fate: f, Seq: seq})
			})
		}
	}
}

func (d *driver) hear(r events.EdgeReport, signer string) {
	d.step(cutover.Reported{At: d.at(), Report: r, Signer: signer})
}

// reader follows the journal for a process: in order, as late as the network makes it. One that folds by itself reads
// records and evolves a state of its own; the others share the journal's, which costs less.
type reader struct {
	w     *world
	node  *node
	own   bool
	state *events.State // nil: nothing read yet
	busy  bool
}

func (r *reader) seq() uint64 {
	if r.state == nil {
		return 0
	}
	return r.state.Seq
}

// fetch asks for what is new and gives it to take, if there is something.
func (r *reader) fetch(take func(*events.State)) {
	w := r.w
	if r.busy || r.seq() == w.journal.seq() || !w.talks(r.node, w.bus) {
		return
	}
	r.busy = true
	delay := w.latency()
	if w.faulty() && w.chance(w.plan.late) {
		delay = w.span(w.plan.lateness)
	}
	reach := r.node.mine(func() {
		r.busy = false
		if !w.talks(r.node, w.bus) {
			return
		}
		to := w.journal.seq()
		if n := to - r.seq(); n > 1 && w.faulty() {
			to -= w.rnd.Uint64N(n)
		}
		r.advance(to)
		take(r.state)
		if r.seq() < w.journal.seq() {
			r.fetch(take)
		}
	})
	w.after(delay, reach)
}

func (r *reader) advance(to uint64) {
	j := r.w.journal
	if !r.own {
		r.state = j.states[to]
		return
	}
	if r.state == nil { // from a snapshot somewhere
		at := 1 + r.w.rnd.Uint64N(to)
		s, err := events.DecodeState(j.states[at].Encode())
		if err != nil {
			r.w.bug("G4", "the snapshot at %d cannot be read: %v", at, err)
			return
		}
		r.state = s
	}
	for r.seq() < to {
		next, err := events.Evolve(r.state, j.recs[r.seq()])
		if err != nil {
			r.w.bug("G4", "%s cannot follow at %d: %v", r.node.name, r.seq()+1, err)
			return
		}
		r.state = next
	}
	if got := r.state.Hash(); got != j.hash(to) {
		r.w.bug("G4", "%s has another state at %d than the journal", r.node.name, to)
	}
}

func (d *driver) reply() string { return strconv.Itoa(d.replies) }
