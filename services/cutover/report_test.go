package cutover

import (
	"slices"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// endedRig is a driver in office whose cutover c1, of one wave, has just been completed.
func endedRig(t *testing.T) *rig {
	r := newRig(t)
	r.serve()
	r.start(t, 1)
	r.accept(r.only(r.read()))
	out := r.accept(r.only(r.hear(r.report("b1"), r.report("b2"), r.report("h1"), r.report("h2"))))
	r.nothing(r.accept(r.only(out)), "its users come back")
	if c := r.head.Cutovers["c1"]; c.State != events.Completed {
		t.Fatal("c1 is not completed")
	}
	return r
}

func reported(t *testing.T, env events.Envelope) events.CutoverReport {
	t.Helper()
	c, ok := env.Command.(events.ReportCutover)
	if !ok {
		t.Fatalf("it wants %#v", env.Command)
	}
	return c.Report
}

func untouched(id string, w *Witness) {
	w.Answer.Untouched = events.Untouched{Before: 100, After: 99, EndedByPeer: 1, Compared: 64}
}

// The report is made when everybody is back, and stored once.
func TestReportWhenAllAreBack(t *testing.T) {
	r := endedRig(t)
	r.nothing(r.testify(r.inquiry(time.Second), 9, untouched), "one is missing, and there is time")
	out := r.testify(r.inquiry(maxInquiry+time.Second), 10, untouched)
	rep := reported(t, r.only(out))
	if rep.Evicted != 13 || rep.Landed != 10 || rep.Compared != 10 || rep.NotSeen != 0 || len(rep.Edges) != 4 || len(rep.Silent) != 0 {
		t.Errorf("%+v", rep)
	}
	if b := rep.Blackout; b.Samples != 10 || b.P50 != 50 || b.P99 != 100 || b.Within != 20 {
		t.Errorf("blackout %+v", b)
	}
	if u := rep.Untouched; !u.Same || u.Before != 400 || u.After != 396 || u.EndedByPeer != 4 || u.Compared != 256 {
		t.Errorf("untouched %+v", u)
	}
	out = r.accept(r.only(out))
	r.nothing(append(out, r.hold(40*time.Second)...), "it is stored")
	if len(inquiries(out)) > 0 {
		t.Error("it asks on")
	}
	v := Show(r.head, r.head.Cutovers["c1"], nil)
	if v.Landed != 10 || v.Evicted != 13 || v.Report == nil {
		t.Errorf("shown: %d landed, %d evicted", v.Landed, v.Evicted)
	}
}

// At the end of the window it says who did not come back, and which edges are missing.
func TestReportAtTheEnd(t *testing.T) {
	r := endedRig(t)
	ended := r.now
	lame := func(id string, w *Witness) {
		untouched(id, w)
		switch id {
		case "b2":
			w.Silent = true
		case "h2":
			w.Answer.Whole = false
			w.Answer.Untouched = events.Untouched{Before: 10, After: 8, ClosedByUs: 1}
		}
	}
	var out []Output
	for len(submits(out)) == 0 {
		out = r.testify(r.inquiry(maxInquiry+time.Second), 8, lame)
	}
	if waited := r.now - ended; waited < 30*time.Second || waited > 32*time.Second {
		t.Errorf("after %s", waited)
	}
	rep := reported(t, r.only(out))
	if rep.NotSeen != 2 || !slices.Equal(rep.Silent, []string{"b2", "h2"}) || rep.Untouched.Same || rep.Untouched.ClosedByUs != 1 || rep.Evicted != 13 {
		t.Errorf("%+v", rep)
	}
}

// Nobody remembers a cutover that ended long ago: no report is made up, and nobody is asked for ever.
func TestNoReportOfTheForgotten(t *testing.T) {
	r := endedRig(t)
	forgot := func(_ string, w *Witness) { w.Answer = events.CutoverAnswer{} }
	asked := 0
	for end := r.now + 60*time.Second; r.now < end; {
		for _, q := range inquiries(r.hold(100 * time.Millisecond)) {
			asked++
			r.nothing(r.testify(q, 0, forgot), "nobody remembers it")
		}
	}
	if asked == 0 || asked > 20 {
		t.Errorf("asked %d times", asked)
	}
	if len(inquiries(r.hold(10*time.Second))) > 0 {
		t.Error("it asks for ever")
	}
}

// The next cutover of the unit type does not wait for the report, and the report is made before edges count for it.
func TestReportBeforeTheNextCutover(t *testing.T) {
	r := endedRig(t)
	r.do(t, events.PreviewCutover{Ranges: rangesOf("0-7", "8-15")})
	r.do(t, events.StartCutover{Cutover: "c2", Checks: allPassed()})
	out := r.read()
	if _, ok := r.only(out).Command.(events.FenceWave); !ok {
		t.Fatalf("c2 waits: %#v", out)
	}
	q := append(inquiries(out), inquiries(r.wait(firstInquiry))...)
	if len(q) != 1 || q[0].Cutover != "c1" {
		t.Fatalf("asked: %+v", q)
	}
	if rep := reported(t, r.only(r.testify(q[0], 5, nil))); rep.NotSeen != 5 {
		t.Errorf("%+v", rep)
	}
}
