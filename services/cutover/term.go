package cutover

import (
	"time"

	"github.com/unitgate/unitgate/events"
)

// OfficeValue is what the office key holds, as JSON.
type OfficeValue struct {
	Holder string `json:"holder"` // process incarnation; "": the last holder gave the office back
	Term   uint64 `json:"term"`   // grows with every new holder
	// Epoch is the journal's in which leases may be granted, "" if there is none yet: see Driver.GrantsIn.
	Epoch string `json:"epoch,omitempty"`
}

// OfficeKey is the office key as it was read.
type OfficeKey struct {
	Revision uint64 // 0: there is no key
	OfficeValue
}

// office is a driver's part in R1: one key without TTL, compare-and-set, held by a process incarnation.
type office struct {
	key      OfficeKey     // as last read or written; valid if known
	known    bool          // false: read it before doing anything else
	since    time.Duration // this driver first saw key.Revision then
	asked    time.Duration // a read was sent then; valid if reading
	polled   time.Duration // the last read was sent then, 0: never
	reading  bool
	write    *WriteOffice  // under way, at most one
	wrote    time.Duration // the last write was sent then
	attempts uint64        // writes so far

	term uint64        // own term, 0: none
	ends time.Duration // own term: until then this driver may act

	stopping bool
	released bool // valid if stopping: the office was given back, or was not held
}

// holds reports whether the own term runs: the holder asks this before everything it does.
func (o *office) holds(now time.Duration) bool { return o.term > 0 && now < o.ends }

// mine is what the journal must say of the own term before this driver may act (R1).
func (o *office) mine(d *Driver) events.Office {
	return events.Office{Term: o.term, Holder: d.cfg.Holder, Key: d.cfg.Key}
}

func (o *office) read(d *Driver, in OfficeRead) {
	o.reading = false
	if in.Failed || o.write != nil {
		return
	}
	if !o.known || o.key.Revision != in.Key.Revision {
		o.since = d.now
	}
	o.key, o.known = in.Key, true
	switch {
	case in.Key.Holder != d.cfg.Holder:
		o.term, o.ends = 0, 0 // whoever wrote it waited for the end of this driver's term
	case in.Key.Term != o.term:
		o.term, o.ends = in.Key.Term, 0 // a take-over of unknown fate did happen; its time is not known, so it gives none
	}
}

func (o *office) written(d *Driver, in OfficeWritten) {
	if o.write == nil || o.write.Attempt != in.Attempt {
		return // of a write that was given up, or a second answer
	}
	w := o.write
	o.write = nil
	switch {
	case in.Fate == Accepted && w.Value.Holder == "":
		o.key, o.known = OfficeKey{in.Revision, w.Value}, true
		o.term, o.ends, o.released = 0, 0, true
	case in.Fate == Accepted:
		o.key, o.known, o.since = OfficeKey{in.Revision, w.Value}, true, d.now
		o.term, o.ends = w.Value.Term, o.wrote+Term // R1: the term runs from before the write was sent
	case in.Fate == Refused:
		o.known, o.polled = false, 0
		o.term, o.ends = 0, 0 // R1: someone else may have the key
	default:
		o.known, o.polled = false, 0 // the running term goes on, but this write prolongs nothing
	}
}

// step does what the office needs at this moment.
func (o *office) step(d *Driver) {
	if o.write != nil {
		if d.now-o.wrote < Term {
			return
		}
		o.write, o.known, o.polled = nil, false, 0
	}
	switch {
	case o.stopping:
		o.release(d)
	case !o.known:
		o.ask(d, o.polled == 0)
	case o.key.Holder == d.cfg.Holder:
		o.keep(d)
	case o.attempts > 0 && d.now-o.wrote < retryAfter: // a replica that lags may show the same key again and again
	case o.vacant(d):
		o.put(d, d.cfg.Holder, o.next(d))
	default:
		o.ask(d, false)
	}
}

// vacant reports whether the office may be taken. R1: a held key must have stood unchanged for T+m_o on this driver's
// own clock, so that its holder's term is over on any clock. A key that is missing although there were terms was
// deleted by someone, perhaps under a holder's feet: that takes as long.
func (o *office) vacant(d *Driver) bool {
	atOnce := o.key.Holder == "" && (o.key.Revision > 0 || d.state.Office.Term == 0)
	return atOnce || d.now-o.since >= Term+TermMargin
}

// next is the term that a new holder opens: above every one there was.
func (o *office) next(d *Driver) uint64 { return max(o.key.Term, d.state.Office.Term) + 1 }

// keep renews the own key, and enters the term: TakeOffice is its first act (R1).
func (o *office) keep(d *Driver) {
	mine := o.mine(d)
	if d.state.Office.Term >= o.term && d.state.Office != mine {
		o.put(d, d.cfg.Holder, o.next(d)) // the journal is past this term: open another one
		return
	}
	if !o.holds(d.now) || d.now-o.wrote >= RenewEvery {
		o.put(d, d.cfg.Holder, o.term) // a renewal keeps the term and appends nothing
	}
	if o.holds(d.now) && d.state.Office != mine {
		d.want(nil, wish{"office", 0, o.term}, events.TakeOffice(mine))
	}
}

// release gives the office back, so that a successor need not wait, once nothing of this driver's can be stored any more.
func (o *office) release(d *Driver) {
	switch {
	case o.released:
	case o.known && o.key.Holder != d.cfg.Holder:
		o.released = true
	case !o.known:
		o.ask(d, o.polled == 0)
	case d.idle():
		o.put(d, "", o.key.Term)
		o.ends = 0 // R1: as soon as that is stored a successor acts, whenever the answer comes
	}
}

// put writes the key. Each value says of its epoch what the one before said, or what this driver knows by its own time in
// office; the compare-and-set makes that a chain which a driver of another epoch breaks.
func (o *office) put(d *Driver, holder string, term uint64) {
	v := OfficeValue{Holder: holder, Term: term}
	if d.granting() {
		v.Epoch = d.cfg.Epoch
	}
	o.attempts++
	o.wrote = d.now
	o.write = &WriteOffice{Attempt: o.attempts, Value: v, Expect: o.key.Revision}
	d.out = append(d.out, *o.write)
}

// ask reads the key, every PollEvery or now.
func (o *office) ask(d *Driver, now bool) {
	if o.reading && d.now-o.asked < Term {
		return
	}
	if !now && d.now-o.polled < PollEvery {
		return
	}
	o.reading, o.asked, o.polled = true, d.now, max(1, d.now)
	d.out = append(d.out, ReadOffice{})
}
