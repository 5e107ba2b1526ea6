package cli

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

func ruleVersions(v cutover.View) string { return fmt.Sprintf("%d -> %d", v.RuleFrom, v.RuleTo) }

// waiting says what a wave waits for: reports, and the silence of edges that are granted no lease.
func waiting(w cutover.WaveView) string {
	var reports, silence []string
	left := map[string]float64{}
	for _, s := range w.Silence {
		left[s.Edge] = s.Left
	}
	for _, id := range w.WaitingFor {
		if s, ok := left[id]; ok {
			silence = append(silence, fmt.Sprintf("waiting for silence of edge %s: %.0f s left", id, math.Ceil(s)))
		} else {
			reports = append(reports, id)
		}
	}
	if len(reports) > 0 {
		silence = append([]string{"waiting for " + strings.Join(reports, ", ")}, silence...)
	}
	return strings.Join(silence, ", ")
}

// summary is one line about a running cutover.
func summary(v cutover.View) string {
	line := fmt.Sprintf("%s %s", v.ID, v.State)
	for _, w := range v.Waves {
		line += fmt.Sprintf(" | wave %d %s", w.Index, w.State)
		if w.Evicted > 0 {
			line += fmt.Sprintf(", %d evicted", w.Evicted)
		}
		if g := gateVerdict(v, w); g != "" {
			line += ", " + g
		}
		if len(w.WaitingFor) > 0 {
			line += ", " + waiting(w)
		}
	}
	if len(v.Unleased) > 0 {
		line += " | waiting for the first lease of " + strings.Join(v.Unleased, ", ")
	}
	if v.State == events.Completed {
		line += fmt.Sprintf(" | %d evicted, %d landed", v.Evicted, v.Landed)
	}
	return line
}

// describe shows a cutover to people: what it is, what it moves, how far it is, and what can be done next.
func (c *cli) describe(v cutover.View) {
	c.say("cutover %s  %s", v.ID, v.State)
	c.say("  unit type  %s, rules %s", v.UnitType, ruleVersions(v))
	c.say("  moves      %d slots, %d exact IDs, %d sessions when it was proposed", v.Slots, v.ExactCount, v.Sessions)
	if v.RollbackOf != "" {
		c.say("             back from where %s has moved them", v.RollbackOf)
	}
	if v.Drain != "" {
		emergency := ""
		if v.Emergency {
			emergency = ", in an emergency: what cannot answer is done without"
		}
		c.say("             out of unit %s%s", v.Drain, emergency)
	}
	for _, m := range v.Moves {
		c.say("             %d-%d from %s to %s", m.From, m.To, m.Source, m.Target)
	}
	if v.Gate != nil {
		c.say("  gate       %s", gateText(*v.Gate))
	}
	if len(v.SilentEdges) > 0 {
		c.say("             not counted, for they did not answer: %s", strings.Join(v.SilentEdges, ", "))
	}
	if v.Reason != nil {
		c.say("  why        %s: %s", v.Reason.Code, v.Reason.Message)
	}
	if v.TraceID != "" {
		c.say("  trace      %s", v.TraceID)
		if c.jaeger != "" {
			c.say("             %s/trace/%s", strings.TrimRight(c.jaeger, "/"), v.TraceID)
		}
	}
	c.say("  rules")
	for line := range strings.Lines(v.Diff) {
		c.say("    %s", strings.TrimRight(line, "\n"))
	}
	c.progress(v)
	c.reported(v)
	if next := next(v); next != "" {
		c.say("\nnext: %s", next)
	}
}

// progress shows prechecks, waves and edges, as far as there are some.
func (c *cli) progress(v cutover.View) {
	if len(v.Checks) > 0 {
		c.say("  prechecks")
		t := &table{}
		for _, k := range v.Checks {
			measured := k.Measured
			if k.State != events.Pass && k.Threshold != "" {
				measured += " (want " + k.Threshold + ")"
			}
			t.row("    "+string(k.State), k.ID, measured, k.Message)
		}
		_ = t.write(c.out) // as say
	}
	if v.State == events.Proposed || v.State == events.Checked || len(v.Waves) == 0 {
		return
	}
	c.hooks(v)
	c.say("  waves")
	t := &table{}
	for _, w := range v.Waves {
		cells := []any{fmt.Sprintf("    %d", w.Index), w.State, fmt.Sprintf("%d slots", w.Slots), fmt.Sprintf("%d evicted", w.Evicted), waiting(w)}
		if v.Gate != nil {
			cells = append(cells, gateVerdict(v, w))
		}
		t.row(cells...)
	}
	_ = t.write(c.out)
	c.say("  edges")
	t = &table{}
	for _, e := range v.Edges {
		t.row("    "+e.ID, e.Unit, fmt.Sprintf("applied %d", e.Applied), fmt.Sprintf("%d evicted", e.Evicted), fmt.Sprintf("%d landed", e.Landed))
	}
	_ = t.write(c.out)
}

// hooks shows what became of the hooks, if there are some.
func (c *cli) hooks(v cutover.View) {
	if len(v.Hooks) == 0 {
		return
	}
	c.say("  hooks")
	t := &table{}
	for _, h := range v.Hooks {
		switch r := h.Result; {
		case r == nil:
			t.row("    "+h.On, h.Name, "not called yet, or not answered")
		case r.OK:
			t.row("    "+h.On, h.Name, "ok", time.Duration(r.Took).Round(time.Millisecond), r.Message)
		default:
			t.row("    "+h.On, h.Name, r.Code, time.Duration(r.Took).Round(time.Millisecond), r.Message)
		}
	}
	_ = t.write(c.out)
}

// next says what an operator can do now.
func next(v cutover.View) string {
	if v.Auto && (v.State == events.Proposed || v.State == events.Checked) {
		return "nothing: it starts by itself once its prechecks pass; unitgate cutover show " + v.ID + " --watch"
	}
	switch v.State {
	case "", events.Proposed:
		return "unitgate cutover check " + v.ID
	case events.Checked:
		for _, k := range v.Checks {
			if k.State == events.Fail {
				return fmt.Sprintf("unitgate cutover retry %s %s, or unitgate cutover skip %s %s --reason TEXT", v.ID, k.ID, v.ID, k.ID)
			}
		}
		return "unitgate cutover start " + v.ID + " --wait"
	case events.Started:
		for _, w := range v.Waves {
			if len(w.Silence) > 0 {
				return fmt.Sprintf("unitgate cutover show %s --watch; an edge that is gone for good need not hold up the next cutover: unitgate edge-retire EDGE --reason TEXT", v.ID)
			}
			if len(w.WaitingFor) > 0 {
				return fmt.Sprintf("unitgate cutover show %s --watch; if it goes on waiting for an edge that serves nobody: unitgate cutover skip %s --edge EDGE --reason TEXT", v.ID, v.ID)
			}
		}
		return "unitgate cutover show " + v.ID + " --watch"
	case events.Paused:
		if slices.ContainsFunc(v.Waves, func(w cutover.WaveView) bool { return w.State == events.CommittedWave }) {
			return fmt.Sprintf("unitgate cutover resume %[1]s, unitgate cutover rollback %[1]s, or unitgate cutover abort %[1]s to leave things as they are", v.ID)
		}
		return fmt.Sprintf("unitgate cutover resume %s, or unitgate cutover abort %s", v.ID, v.ID)
	case events.Completed:
		return fmt.Sprintf("if it was a mistake: unitgate cutover rollback %s", v.ID)
	default:
	}
	return ""
}
