package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/unitgate/unitgate/events"
)

// operate is an operator who proposes and starts cutovers, resumes what paused, and now and then does something else.
func (w *world) operate() {
	w.after(200*time.Millisecond+w.span(2500*time.Millisecond), func() {
		w.operate()
		w.attend()
	})
}

func (w *world) attend() {
	head := w.journal.head()
	c, running := head.Running(unitType)
	switch {
	case !running && w.now < w.plan.calm+5*time.Second:
		if id, ok := w.startable(); ok && w.chance(0.8) {
			w.start(id)
		} else {
			w.preview()
		}
	case running && c.State == events.Paused:
		if i := c.NextWave(); !w.faulty() && i < len(c.Waves) && len(head.Deserted(&c, i)) > 0 {
			w.command(events.AbortCutover{Cutover: c.ID}) // nobody is left to take its users
		} else if w.chance(0.5) || !w.faulty() {
			w.command(events.ResumeCutover{Cutover: c.ID})
		}
	}
	if !w.faulty() {
		w.tidy()
	}
}

// startable is the newest proposal that still fits the rules, or any, which is then refused.
func (w *world) startable() (string, bool) {
	list := w.journal.head().CutoverList()
	for _, c := range slices.Backward(list) {
		if c.State != events.Proposed && c.State != events.Checked {
			continue
		}
		if c.RuleFrom == w.journal.head().Rules[unitType].Version || w.chance(0.3) {
			return c.ID, true
		}
	}
	return "", false
}

func (w *world) preview() {
	p := events.PreviewCutover{Ranges: w.ranges(w.rnd), Waves: 1 + w.rnd.IntN(3), Counted: events.Count{Sessions: w.rnd.IntN(40)}}
	switch w.rnd.IntN(6) {
	case 0:
		p.Waves, p.Steps = 0, []int{10, 50, 100}
	case 1:
		p.Ranges, p.Exact = nil, map[string][]string{w.units[w.rnd.IntN(len(w.units))]: {keyID(slots + w.rnd.IntN(2))}}
	case 2:
		p.Interval = events.Duration(w.span(3 * time.Second))
	case 3:
		rate := events.Rate(pick(w.rnd, 0, 3, 20))
		p.Rate = &rate
	}
	w.command(p)
}

func (w *world) start(id string) {
	d := w.anyDriver()
	if d == nil {
		return
	}
	var checks []events.Check
	for _, check := range events.CheckIDs() {
		checks = append(checks, events.Check{ID: check, State: events.Pass, At: d.calendar()})
	}
	w.commandAt(d, events.StartCutover{Cutover: id, Checks: checks})
}

// anyDriver is a control process that the operator can reach, nil if there is none.
func (w *world) anyDriver() *driver {
	up := running(w.drivers)
	if len(up) == 0 {
		return nil
	}
	return up[w.rnd.IntN(len(up))]
}

func (w *world) command(cmd events.Command) {
	if d := w.anyDriver(); d != nil {
		w.commandAt(d, cmd)
	}
}

func (w *world) commandAt(d *driver, cmd events.Command) {
	w.submit(d.node, events.Envelope{ID: w.uuid(4), Actor: "operator", Reason: "as drawn", Command: cmd}, nil)
}

// current is the running cutover, or the newest one, or one that does not exist.
func (w *world) current() string {
	head := w.journal.head()
	if c, ok := head.Running(unitType); ok {
		return c.ID
	}
	return fmt.Sprintf("c%d", max(1, head.CutoverCount))
}

// tidy retires the edges that will not come back, once nothing fails any more.
func (w *world) tidy() {
	head := w.journal.head()
	for _, e := range w.edges {
		if have, ok := head.Edges[e.id]; ok && have.Gone == "" && have.Directory == e.dir && e.gone {
			w.command(events.RetireEdge{ID: e.id})
		}
	}
}
