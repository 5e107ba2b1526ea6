package sim

import (
	"fmt"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

// journal is the stream of a namespace and the office's key, as the quorum of the bus's servers has them.
type journal struct {
	w      *world
	recs   []events.Record
	events []events.Event
	states []*events.State // by sequence
	routes []routes        // by sequence
	hashes []string        // by sequence, made when asked for
	ids    map[string]uint64
	commit uint64          // sequence of the newest WaveCommitted
	moving map[string]bool // units between which the fenced wave's keys move
	key    cutover.OfficeKey
	past   cutover.OfficeKey // the key before: what a replica that lags still shows
}

func (j *journal) head() *events.State { return j.states[len(j.states)-1] }

// seq is the newest sequence.
func (j *journal) seq() uint64 { return uint64(len(j.states) - 1) }

// hash is the hash of the state at a sequence, as the journal's own fold has it.
func (j *journal) hash(seq uint64) string {
	for uint64(len(j.hashes)) <= seq {
		j.hashes = append(j.hashes, "")
	}
	if j.hashes[seq] == "" {
		j.hashes[seq] = j.states[seq].Hash()
	}
	return j.hashes[seq]
}

// append stores a record if its guards hold: nothing came after base, and its command has no event yet.
func (j *journal) append(base uint64, rec events.Record, e events.Event) (uint64, bool) {
	if base != j.seq() || j.ids[rec.CommandID] > 0 {
		return 0, false
	}
	was := j.head()
	next, err := events.Evolve(was, rec)
	if err != nil {
		j.w.bug("G4", "Decide allowed %s, which cannot be applied: %v", rec.Type, err)
		return 0, false
	}
	j.recs, j.events = append(j.recs, rec), append(j.events, e)
	j.ids[rec.CommandID] = rec.Seq
	j.know(next)
	j.note(rec.Seq, e)
	j.w.trace("journal %d: %s %s", rec.Seq, rec.Type, rec.Data)
	j.w.stored(was, next, rec, e)
	return rec.Seq, true
}

// note keeps what the phase of a cutover is told by.
func (j *journal) note(seq uint64, e events.Event) {
	switch e.(type) {
	default:
	case events.WaveCommitted:
		j.commit = seq
	case events.WaveFenced:
		j.moving = map[string]bool{}
		for _, r := range j.routes[seq] {
			if r.Next != "" {
				j.moving[r.Unit], j.moving[r.Next] = true, true
			}
		}
	}
}

func (j *journal) know(s *events.State) {
	j.states, j.routes = append(j.states, s), append(j.routes, routesOf(s))
}

// do is a command that is carried out at once: how a namespace is set up.
func (j *journal) do(cmd events.Command) { j.doAs("", cmd) }

// doAs stores the event of a command that is signed.
func (j *journal) doAs(signer string, cmd events.Command) {
	env := events.Envelope{ID: j.w.uuid(0), Actor: "setup", Reason: "setup", Signer: signer, Command: cmd}
	e, err := events.Decide(j.head(), namespace, env, day)
	var rec events.Record
	if err == nil {
		rec, err = events.NewRecord(j.head(), env, e, day)
	}
	if err != nil {
		panic(fmt.Sprintf("%T: %v", cmd, err))
	}
	j.append(j.seq(), rec, e)
}

const (
	attempts   = 5               // of the handler, when others come first
	submitWait = 5 * time.Second // then the caller takes the fate for unknown
)

// submit carries out a command as the handler in the process of n does: it reads the head, decides, appends, and does so
// again if another event came first. Any of its messages may be lost or late; then the fate is unknown to the caller while
// the append may still be stored. answer may be nil.
func (w *world) submit(n *node, env events.Envelope, answer func(cutover.Fate, uint64, error)) {
	told := false
	tell := n.mine2(func(f cutover.Fate, seq uint64, err error) {
		if !told && answer != nil {
			told = true
			answer(f, seq, err)
		}
	})
	w.after(submitWait, func() { tell(cutover.Unknown, 0, nil) })
	var attempt func(left int)
	attempt = func(left int) {
		if seq := w.journal.ids[env.ID]; seq > 0 {
			w.back(n, func() { tell(cutover.Accepted, seq, nil) })
			return
		}
		head := w.journal.head()
		now := n.calendar()
		e, err := events.Decide(head, namespace, env, now)
		if err != nil {
			w.trace("%s: %T is refused: %v", n.name, env.Command, err)
			w.back(n, func() { tell(cutover.Refused, 0, err) })
			return
		}
		rec, err := events.NewRecord(head, env, e, now)
		if err != nil {
			w.bug("G4", "%T: no record: %v", env.Command, err)
			return
		}
		w.forth(n, func() {
			seq, ok := w.journal.append(head.Seq, rec, e)
			switch {
			case ok:
				w.back(n, func() { tell(cutover.Accepted, seq, nil) })
			case left > 0:
				w.back(n, func() { w.forth(n, func() { attempt(left - 1) }) })
			default:
				w.back(n, func() { tell(cutover.Unknown, 0, nil) })
			}
		})
	}
	w.forth(n, func() { attempt(attempts) })
}

func (n *node) mine2(answer func(cutover.Fate, uint64, error)) func(cutover.Fate, uint64, error) {
	life := n.life
	return func(f cutover.Fate, seq uint64, err error) { n.handle(life, func() { answer(f, seq, err) }) }
}

// forth is a request of a process to the bus. What was sent arrives even if its sender dies meanwhile. It may come late:
// that is how an append is stored after its caller gave it up.
func (w *world) forth(n *node, run func()) {
	if !w.reaches(n, w.bus) {
		return
	}
	delay := w.latency()
	switch {
	case !w.faulty():
	case w.take(lateAppend):
		w.hit(lateAppend)
		delay = submitWait + w.span(2*submitWait)
	case w.chance(w.plan.late):
		if delay = w.span(3 * submitWait); delay > submitWait {
			w.hit(lateAppend)
		}
	}
	w.after(delay, func() {
		switch {
		case w.now < w.outage: // the leader holds it until it has its quorum again, or loses it with its office
			if w.chance(0.5) {
				w.hit(lateAppend)
				w.after(w.outage-w.now+w.span(time.Second), run)
			}
		case w.reaches(n, w.bus):
			run()
		}
	})
}

// back is the answer.
func (w *world) back(n *node, run func()) {
	if w.faulty() && w.chance(w.plan.lose/2) {
		w.hit(lost)
		return
	}
	w.after(w.latency(), func() {
		if w.reaches(w.bus, n) {
			run()
		}
	})
}

// readOffice answers with the key, or with what it was before.
func (w *world) readOffice(n *node, answer func(failed bool, k cutover.OfficeKey)) {
	told := false
	tell := func(failed bool, k cutover.OfficeKey) func() {
		return n.mine(func() {
			if !told {
				told = true
				answer(failed, k)
			}
		})
	}
	w.after(officeWait, tell(true, cutover.OfficeKey{}))
	w.forth(n, func() {
		k := w.journal.key
		if w.faulty() && w.chance(0.1) {
			k = w.journal.past
		}
		w.back(n, tell(false, k))
	})
}

const officeWait = time.Second

// writeOffice is a compare-and-set.
func (w *world) writeOffice(n *node, o cutover.WriteOffice, answer func(cutover.Fate, uint64)) {
	told := false
	tell := func(f cutover.Fate, rev uint64) func() {
		return n.mine(func() {
			if !told {
				told = true
				answer(f, rev)
			}
		})
	}
	w.after(officeWait, tell(cutover.Unknown, 0))
	w.forth(n, func() {
		if w.journal.key.Revision != o.Expect {
			w.back(n, tell(cutover.Refused, 0))
			return
		}
		w.journal.past = w.journal.key
		w.journal.key = cutover.OfficeKey{Revision: o.Expect + 1, OfficeValue: o.Value}
		rev := w.journal.key.Revision
		if o.Value.Holder != w.journal.past.Holder {
			w.trace("office: %+v", w.journal.key)
		}
		w.back(n, tell(cutover.Accepted, rev))
	})
}
