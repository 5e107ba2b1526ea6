package cutover

import (
	"time"

	"github.com/unitgate/unitgate/events"
)

// actor stands in the journal for what a driver does.
const actor = events.DriverActor

// wish is what a command is for. A command of unknown fate is repeated, under its id, only while the same is wished.
type wish struct {
	what string
	n    int    // wave
	at   uint64 // fence or term that it is about
}

type jobPhase uint8

const (
	sent     jobPhase = iota // no answer yet
	unclear                  // of unknown fate
	accepted                 // stored at seq, which the state read back may not hold yet
	refused
)

// job is one command under way.
type job struct {
	wish  wish
	env   events.Envelope
	phase jobPhase
	when  time.Duration // of the sending or of the answer
	base  uint64        // state sequence that the wish came from
	seq   uint64        // valid once accepted
}

// want sees to it that a command is carried out once: one at a time for each cutover, with the same id after an
// unknown fate, and not again before the state read back shows what came of it.
func (d *Driver) want(c *events.Cutover, w wish, cmd events.Command) {
	if c == nil {
		d.wantAs("", "", w, cmd)
	} else {
		d.wantAs(c.ID, c.Traceparent, w, cmd)
	}
}

// wantAs is want under a key of d.jobs.
func (d *Driver) wantAs(key, trace string, w wish, cmd events.Command) {
	j := d.jobs[key]
	if j != nil && d.busy(j) {
		return
	}
	if j == nil || j.phase == accepted || j.phase == refused || j.wish != w {
		d.ids++
		j = &job{wish: w, env: events.Envelope{ID: d.cfg.ID(d.ids), Actor: actor, Traceparent: trace, Command: cmd}}
		d.jobs[key] = j
	}
	j.phase, j.when, j.base = sent, d.now, d.state.Seq
	d.out = append(d.out, Submit{j.env})
}

// busy reports whether a job forbids another one for the same cutover at this moment.
func (d *Driver) busy(j *job) bool {
	waited := d.now - j.when
	switch j.phase {
	case sent:
		return waited < answerWait
	case unclear:
		return waited < retryAfter
	case accepted:
		return d.state.Seq < j.seq
	default:
		return d.state.Seq <= j.base && waited < refusedWait
	}
}

func (d *Driver) submitted(in Submitted) {
	for _, j := range d.jobs {
		if j.env.ID != in.ID || j.phase == accepted {
			continue
		}
		j.when = d.now
		switch in.Fate {
		case Accepted:
			j.phase, j.seq = accepted, in.Seq
		case Refused:
			j.phase = refused
		case Unknown:
			j.phase = unclear
		}
	}
}

// idle reports whether nothing of this driver's can still be stored.
func (d *Driver) idle() bool {
	for _, j := range d.jobs {
		if j.phase == sent || j.phase == unclear {
			return false
		}
	}
	return true
}
