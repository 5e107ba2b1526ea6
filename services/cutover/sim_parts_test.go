package cutover

import (
	"fmt"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// simDriver is a process with a driver in it, and the network between them and the journal.
type simDriver struct {
	w       *world
	name    string
	rate    float64 // of its clock
	life    int     // counts restarts: what belongs to an earlier life reaches nobody
	machine *Driver // nil while it is down
	seq     uint64  // of the state that it has read
}

func (d *simDriver) clock() time.Duration { return time.Hour + time.Duration(float64(d.w.now)*d.rate) }

func (d *simDriver) at() At { return At{d.clock()} }

// serving asks what the machine itself would answer at this moment.
func (d *simDriver) serving() bool {
	if d.machine == nil {
		return false
	}
	d.machine.now = d.clock()
	return d.machine.Serving()
}

func (d *simDriver) boot() {
	d.life++
	holder := fmt.Sprintf("%s-%d", d.name, d.life)
	d.machine = NewDriver(DriverConfig{
		Epoch: testEpoch, Holder: holder, Patience: simPatience,
		ID: func(n uint64) string {
			return fmt.Sprintf("00000000-0000-000%c-%04d-%012d", d.name[1], d.life, n)
		},
	})
	d.seq = 0
}

// alive makes a function that does nothing in a later life.
func (d *simDriver) alive(run func()) func() {
	life := d.life
	return func() {
		if d.machine != nil && d.life == life {
			run()
		}
	}
}

func (d *simDriver) step(in Input) {
	for _, out := range d.machine.Step(in) {
		switch out := out.(type) {
		case ReadOffice:
			d.readOffice()
		case WriteOffice:
			d.writeOffice(out)
		case Submit:
			d.submit(out.Envelope)
		case CallHook:
			d.callHook(out)
		case Inquire:
			d.inquire(out)
		}
	}
}

// tick lets a driver read the journal, and now and then crash, stop cleanly, or stand still.
func (d *simDriver) tick() {
	pause := 100 * time.Millisecond
	w := d.w
	if w.faulty() && w.chance(0.004) {
		pause = w.span(8 * time.Second) // stopped by the kernel, or garbage collection
	}
	w.after(pause, func() {
		d.tick()
		if d.machine == nil {
			return
		}
		if w.faulty() && w.chance(0.003) {
			d.machine = nil
			w.after(w.span(5*time.Second), d.boot)
			return
		}
		if w.faulty() && w.chance(0.002) {
			d.step(Stop{d.at()})
			w.after(time.Second, d.alive(d.boot)) // the process ends by then, whether the office was given back or not
		}
		if d.machine.Stopped() {
			d.boot()
		}
		if !w.faulty() || !w.chance(0.3) {
			d.readJournal()
		}
		d.step(Tick{d.at()})
	})
}

func (d *simDriver) readJournal() {
	if head := uint64(len(d.w.states) - 1); d.seq < head {
		d.seq += 1 + uint64(d.w.rnd.Int64N(int64(head-d.seq)))
		d.step(StateAdvanced{d.at(), d.w.states[d.seq], testEpoch})
	}
}

func (d *simDriver) readOffice() {
	w := d.w
	if w.faulty() && w.chance(0.1) {
		w.after(time.Second, d.alive(func() { d.step(OfficeRead{At: d.at(), Failed: true}) }))
		return
	}
	w.after(w.span(50*time.Millisecond), func() {
		key := w.key
		w.send(d.alive(func() { d.step(OfficeRead{d.at(), false, key}) }))
	})
}

// writeOffice: the write may be lost, come late, and its answer too; it may be stored after its sender died.
func (d *simDriver) writeOffice(o WriteOffice) {
	w := d.w
	delay := w.span(50 * time.Millisecond)
	lost, mute := false, false
	if w.faulty() {
		lost, mute = w.chance(0.05), w.chance(0.05)
		if w.chance(0.05) {
			delay = w.span(6 * time.Second)
		}
	}
	answer := func(f Fate, rev uint64) {
		w.send(d.alive(func() { d.step(OfficeWritten{d.at(), o.Attempt, f, rev}) }))
	}
	if lost || mute || delay > time.Second {
		w.after(time.Second, func() { answer(Unknown, 0) })
	}
	if lost {
		return
	}
	w.after(delay, func() {
		fate := Refused
		if w.key.Revision == o.Expect {
			fate = Accepted
			w.key = OfficeKey{w.key.Revision + 1, o.Value}
		}
		if !mute && delay <= time.Second {
			answer(fate, w.key.Revision)
		}
	})
}

// submit decides at one moment and appends at a later one, as the command handler does; the caller may have given up by
// then, or died.
func (d *simDriver) submit(env events.Envelope) {
	w := d.w
	env.Command = w.prepared(env.Command)
	answer := func(f Fate, seq uint64) {
		w.send(d.alive(func() { d.step(Submitted{At: d.at(), ID: env.ID, Fate: f, Seq: seq}) }))
	}
	if w.faulty() && w.chance(0.1) {
		w.after(time.Second, func() { answer(Unknown, 0) })
		if w.chance(0.5) {
			return
		}
		answer = func(Fate, uint64) { w.stats.ghosts++ }
	}
	var attempt func(left int)
	attempt = func(left int) {
		base := w.head.Seq
		w.after(w.latency(), func() {
			if seq := w.found(env.ID); seq > 0 {
				answer(Accepted, seq)
				return
			}
			seq, err := w.append(env, base)
			switch {
			case err == nil:
				answer(Accepted, seq)
			case base != w.head.Seq && left > 0:
				attempt(left - 1)
			default:
				answer(Refused, 0)
			}
		})
	}
	attempt(4)
}

func (w *world) latency() time.Duration {
	if w.faulty() && w.chance(0.1) {
		return w.span(6 * time.Second)
	}
	return w.span(30 * time.Millisecond)
}

// found is the sequence of the event that a command made, 0 if it made none.
func (w *world) found(id string) uint64 {
	for _, r := range w.recs {
		if r.CommandID == id {
			return r.Seq
		}
	}
	return 0
}

// simEdge is an edge: it applies the journal record by record, stores it, evicts, and reports.
type simEdge struct {
	w        *world
	id, unit string
	process  int
	up       bool
	disk     uint64         // sequence of the state on disk
	applied  uint64         // sequence by which it decides
	sessions [simUsers]bool // users connected here
	since    uint64         // sequence by which this process began to decide
	seen     map[string]*simPassage
}

func (e *simEdge) route(user int) *routing.Route { return &e.w.routes[e.applied][user] }

// serves reports whether the edge may serve a user by what it has applied (R10: asked again before a session opens).
func (e *simEdge) serves(user int) bool {
	r := e.route(user)
	return r.Unit == e.unit && r.Next == ""
}

// redirects is the unit that the edge sends a user to, "" if it serves or holds.
func (e *simEdge) redirects(user int) string {
	r := e.route(user)
	if r.Unit == e.unit || r.Next != "" {
		return ""
	}
	return r.Unit
}

func (e *simEdge) crash() {
	e.up = false
	e.sessions = [simUsers]bool{}
}

// live is the edge's own clock: every 100 ms it does one of the things that an edge does.
func (e *simEdge) live() {
	w := e.w
	w.after(50*time.Millisecond+w.span(100*time.Millisecond), func() {
		e.live()
		switch {
		case !e.up:
			if e.id != w.dead && w.chance(0.1) {
				e.up, e.process, e.applied = true, e.process+1, e.disk
				e.since, e.seen = e.disk, nil
			}
			return
		case w.faulty() && w.chance(0.004):
			e.crash()
			return
		}
		if e.applied < w.head.Seq && w.chance(0.5) {
			e.applied++
		}
		if w.chance(0.5) {
			e.disk = max(e.disk, e.applied)
		}
		for range 3 {
			if u := w.rnd.IntN(simUsers); e.serves(u) {
				e.lands(u)
				e.sessions[u] = true
			}
		}
		for u := range e.sessions {
			if e.sessions[u] && !e.serves(u) && w.chance(0.3) {
				e.evicts(u)
				e.sessions[u] = false
			}
		}
		if w.chance(0.2) { // at once and every 2 s, as edges do, only simpler
			r := e.report()
			for _, d := range w.drivers {
				w.send(func() {
					if d.machine != nil {
						d.step(Reported{d.at(), r, ""})
					}
				})
			}
		}
	})
}

// report says what is on disk (R6): applied, and drained of what that state fences.
func (e *simEdge) report() events.EdgeReport {
	r := events.EdgeReport{
		Namespace: testNamespace, Epoch: testEpoch, Edge: e.id, Directory: directoryOf(e.id), Unit: e.unit,
		Incarnation: fmt.Sprintf("%s-%d", e.id, e.process), Applied: min(e.disk, e.applied),
	}
	for _, c := range e.w.states[r.Applied].CutoverList() {
		w := c.FencedWave()
		if w < 0 {
			continue
		}
		drained := true
		for u, connected := range e.sessions {
			drained = drained && (!connected || e.serves(u))
		}
		r.Fences = append(r.Fences, events.FenceReport{Cutover: c.ID, Wave: w, Fence: c.Waves[w].FenceSeq, Drained: drained})
	}
	return r
}
