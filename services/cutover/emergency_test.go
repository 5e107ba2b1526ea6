package cutover

import (
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// emergencyRig is a driver in office with wave 0 of c1 fenced, which drains unbj (b1, b2) in an emergency.
func emergencyRig(t *testing.T) *rig {
	r := newRig(t)
	r.do(t, events.PreviewCutover{Drain: "unbj", Waves: 1, Emergency: true, Reason: "the region burns"})
	checks := allPassed()
	checks[2].State = events.Fail
	r.do(t, events.StartCutover{Cutover: "c1", Checks: checks})
	return r
}

// Only edges of the drained unit that say nothing are done without, one after the other and each on record, and not before
// they have missed three reports.
func TestEmergencyDoesWithoutSilentEdges(t *testing.T) {
	r := emergencyRig(t)
	r.accept(r.only(r.serve()))
	alive := func() (out []Output) { return r.hear(r.report("h1"), r.report("h2"), r.report("b1")) }
	r.nothing(alive(), "b2 may still report")
	r.nothing(r.hold(Silence-100*time.Millisecond), "it has not missed three reports")
	out := r.hold(200 * time.Millisecond)
	skip, ok := r.only(out).Command.(events.SkipCheck)
	if !ok || skip.Edge != "b2" || skip.Term != 1 || !strings.Contains(skip.Reason, "emergency: the region burns; not heard for 6s") {
		t.Fatalf("%+v", r.only(out).Command)
	}
	commit, ok := r.only(r.accept(r.only(out))).Command.(events.CommitWave)
	if !ok || !commit.Edges[1].Skipped || commit.Edges[0].Skipped {
		t.Fatalf("%+v", commit)
	}
}

// The longest reason that an operator may give keeps no emergency from going on: what the driver makes of it is taken.
func TestEmergencyWithALongReason(t *testing.T) {
	r := newRig(t)
	r.do(t, events.PreviewCutover{Drain: "unbj", Waves: 1, Emergency: true, Reason: strings.Repeat("界", 85)})
	checks := allPassed()
	checks[2].State = events.Fail
	r.do(t, events.StartCutover{Cutover: "c1", Checks: checks})
	r.accept(r.only(r.serve()))
	r.hear(r.report("h1"), r.report("h2"), r.report("b1"))
	skip := r.only(r.hold(Silence))
	if err := events.CheckEnvelope(skip); err != nil {
		t.Errorf("%+v: %v", skip, err)
	}
}

func TestEmergencyWaitsForWhoeverSpeaks(t *testing.T) {
	for _, tc := range []struct {
		name   string
		speaks func(r *rig) []events.EdgeReport
	}{
		{"an edge that evicts", func(r *rig) []events.EdgeReport {
			b1 := r.report("b1")
			b1.Fences[0].Drained = false
			return []events.EdgeReport{r.report("h1"), r.report("h2"), r.report("b2"), b1}
		}},
		{"a silent edge of the gaining unit", func(r *rig) []events.EdgeReport {
			return []events.EdgeReport{r.report("h1"), r.report("b1"), r.report("b2")}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := emergencyRig(t)
			r.accept(r.only(r.serve()))
			for range 5 {
				r.nothing(r.hear(tc.speaks(r)...), "someone is waited for")
				r.nothing(r.hold(events.ReportEvery), "someone is waited for")
			}
		})
	}
}

// A planned drain, and every other cutover, never does without anybody by itself.
func TestNoEmergencyNoExcuse(t *testing.T) {
	r := newRig(t)
	r.do(t, events.PreviewCutover{Drain: "unbj", Waves: 1})
	r.do(t, events.StartCutover{Cutover: "c1", Checks: allPassed()})
	r.accept(r.only(r.serve()))
	r.nothing(r.hear(r.report("h1"), r.report("h2")), "the losing edges are waited for")
	r.nothing(r.hold(3*Silence), "the losing edges are waited for")
}
