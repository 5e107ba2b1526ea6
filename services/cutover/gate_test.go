package cutover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// committedRig is a driver in office that has just committed wave 0 of c1, under a gate; every edge evicted 1.
func committedRig(t *testing.T, g events.Gate) *rig {
	r := newRig(t)
	r.serve()
	r.do(t, events.PreviewCutover{Ranges: rangesOf("0-11", "12-15"), Waves: 2, Gate: &g})
	r.do(t, events.StartCutover{Cutover: "c1", Checks: allPassed()})
	r.accept(r.only(r.read()))
	r.nothing(r.accept(r.only(r.hear(r.report("b1"), r.report("b2"), r.report("h1"), r.report("h2")))), "the gate has not judged")
	if c := r.head.Cutovers["c1"]; c.NextWave() != 1 {
		t.Fatal("wave 0 is not committed")
	}
	return r
}

func inquiries(out []Output) (q []Inquire) {
	for _, o := range out {
		if o, ok := o.(Inquire); ok {
			q = append(q, o)
		}
	}
	return q
}

// inquiry waits for the next inquiry.
func (r *rig) inquiry(within time.Duration) Inquire {
	r.t.Helper()
	for end := r.now + within; r.now < end; {
		if q := inquiries(r.hold(50 * time.Millisecond)); len(q) > 0 {
			return q[0]
		}
	}
	r.t.Fatalf("nobody is asked for %s", within)
	return Inquire{}
}

// testify answers an inquiry: b1 evicted users 1 to 10 a second ago, of whom so many are back at h1 since half a second.
func (r *rig) testify(q Inquire, back int, change func(id string, w *Witness)) []Output {
	w := r.head.Cutovers["c1"].Waves[0]
	var answers []Witness
	for _, e := range q.Edges {
		a := Witness{Edge: e, Sent: r.now - 20*time.Millisecond, Got: r.now, Answer: events.CutoverAnswer{Known: true, Whole: true, Bound: ^uint64(0)}}
		a.Answer.Commit = events.CommitCounts{Fence: w.FenceSeq, Whole: true, Counters: events.Counters{Handshakes: 50, Dials: 50}}
		switch e.ID {
		case "b1":
			a.Answer.Evicted = 10
			for user := range uint64(10) {
				a.Answer.Left = events.AppendSighting(a.Answer.Left, events.Sighting{User: user, Ago: 1_000_000})
			}
		case "h1":
			a.Answer.Landed = back
			for user := range uint64(back) {
				a.Answer.Back = events.AppendSighting(a.Answer.Back, events.Sighting{User: user, Ago: 1_000_000 - 10_000*(user+1)})
			}
		}
		if change != nil {
			change(e.ID, &a)
		}
		answers = append(answers, a)
	}
	return r.d.Step(Inquired{r.at(), q.Round, answers})
}

func judged(t *testing.T, env events.Envelope) events.GateResult {
	t.Helper()
	j, ok := env.Command.(events.JudgeWave)
	if !ok {
		t.Fatalf("it wants %#v", env.Command)
	}
	return j.Result
}

// A gate that is satisfied judges at once; one that is not asks again until its window is over.
func TestGateJudges(t *testing.T) {
	r := committedRig(t, events.Gate{Landed: 90, OriginErrors: 5, Window: events.Duration(10 * time.Second)})
	q := r.inquiry(firstInquiry + 100*time.Millisecond)
	if len(q.Edges) != 4 || !slices.Equal(q.Question.Fences, []uint64{r.head.Cutovers["c1"].Waves[0].FenceSeq}) || q.Question.Cutover != "c1" {
		t.Errorf("it asks %+v", q)
	}
	r.nothing(r.testify(q, 8, nil), "8 of 10 are back, and there is time")
	res := judged(t, r.only(r.testify(r.inquiry(maxInquiry+time.Second), 9, nil)))
	if !res.OK || res.Compared != 10 || res.Landed != 9 || res.Handshakes != 100 || res.Evicted != 4 {
		t.Errorf("%+v", res)
	}
	if want := "9 of 10 evicted sessions are back, 0 of 100 connects to origins failed"; res.Message != want {
		t.Errorf("message %q", res.Message)
	}
}

// At the end of the window a bad verdict pauses, and the driver goes back by itself if the gate says so.
func TestGateFails(t *testing.T) {
	for action, goesBack := range map[string]bool{"pause": false, "rollback": true} {
		r := committedRig(t, events.Gate{Landed: 90, HandshakeErrors: 5, Window: events.Duration(4 * time.Second), Action: action})
		committed := r.now
		ill := func(id string, w *Witness) {
			if id == "h2" {
				w.Answer.Commit.Counters.HandshakeErrors = 20
			}
		}
		var out []Output
		for len(submits(out)) == 0 {
			out = r.testify(r.inquiry(maxInquiry+time.Second), 7, ill)
		}
		if waited := r.now - committed; waited < 4*time.Second || waited > 5*time.Second {
			t.Errorf("judged after %s", waited)
		}
		res := judged(t, r.only(out))
		if res.OK || !strings.Contains(res.Message, "7 of 10 evicted sessions are back (70 %, wanted 90 %), 20 of 100 handshakes failed (20 %, at most 5 %)") {
			t.Errorf("%+v", res)
		}
		out = r.accept(r.only(out))
		if !goesBack {
			r.nothing(out, "it pauses")
			continue
		}
		// The way back is checked, its verdicts stand in the journal, and it is started.
		out = r.accept(r.only(out))
		check := r.only(out)
		if c, ok := check.Command.(events.CheckCutover); !ok || c.Cutover != "c2" {
			t.Fatalf("it wants %#v", out)
		}
		bad := allPassed()
		bad[1].State = events.Fail
		check.Command = events.CheckCutover{Cutover: "c2", Checks: bad}
		r.nothing(r.accept(check), "a precheck failed")
		r.nothing(r.hold(recheckEvery-time.Second), "it was checked a moment ago")
		var again []events.Envelope
		for _, e := range submits(r.hold(2 * time.Second)) {
			if _, ok := e.Command.(events.CheckCutover); ok {
				again = append(again, e)
			}
		}
		if len(again) != 1 {
			t.Fatalf("checked again %d times", len(again))
		}
		again[0].Command = events.CheckCutover{Cutover: "c2", Checks: allPassed()}
		out = r.accept(again[0])
		start := r.only(out)
		start.Command = events.StartCutover{Cutover: "c2", Checks: allPassed()}
		r.accept(start)
		if c1, c2 := r.head.Cutovers["c1"], r.head.Cutovers["c2"]; c1.State != events.RolledBack || c2.State != events.Started || c2.RollbackOf != "c1" {
			t.Errorf("c1 is %s, c2 %s", c1.State, c2.State)
		}
	}
}

// What an edge has forgotten, or does not say, is named; nothing is guessed, and nobody goes back because of it.
func TestGateDoesNotGuess(t *testing.T) {
	for name, c := range map[string]struct {
		change func(id string, w *Witness)
		why    string
	}{
		"silent":                    {func(id string, w *Witness) { w.Silent = id == "h2" }, "edge h2 does not answer"},
		"losing edge has restarted": {func(id string, w *Witness) { w.Answer.Whole = id != "b1" }, "edge b1 has restarted since the first fence"},
		"knows nothing":             {func(id string, w *Witness) { w.Answer.Known = id != "b2" }, "edge b2 has restarted since the first fence"},
		"restarted since": {func(id string, w *Witness) {
			if id == "h2" {
				w.Answer.Commit.Whole = false
			}
		}, "edge h2 has restarted since the commit"},
		"lags": {func(id string, w *Witness) {
			if id == "h2" {
				w.Answer.Commit.Fence = 0
			}
		}, "edge h2 has not applied the commit"},
	} {
		t.Run(name, func(t *testing.T) {
			r := committedRig(t, events.Gate{Landed: 50, Window: events.Duration(time.Second), Action: "rollback"})
			var out []Output
			for len(submits(out)) == 0 {
				out = r.testify(r.inquiry(2*time.Second), 10, c.change)
			}
			res := judged(t, r.only(out))
			if res.OK || len(res.Missing) != 1 || res.Missing[0] != c.why || !strings.Contains(res.Message, "cannot be judged: "+c.why) {
				t.Errorf("%+v", res)
			}
			r.nothing(r.accept(r.only(out)), "that would be a guess")
		})
	}
}

// Nobody answers the inquiry at all: it is given up, and asked again while there is time.
func TestInquiryOfWhichNothingIsHeard(t *testing.T) {
	r := committedRig(t, events.Gate{Landed: 50, Window: events.Duration(15 * time.Second)})
	r.inquiry(time.Second)
	r.nothing(r.hold(inquiryLimit-time.Second), "the answer may come")
	q := r.inquiry(2 * time.Second)
	r.only(r.testify(q, 10, nil))
}

// A successor has what its predecessor had: it asks, and gives the users the whole window.
func TestGateSurvivesATakeOver(t *testing.T) {
	r := committedRig(t, events.Gate{Landed: 90, Window: events.Duration(3 * time.Second)})
	r.hold(2 * time.Second)
	next := newRig(t)
	next.ledger, next.now = r.ledger, r.now
	next.d = NewDriver(DriverConfig{Epoch: testEpoch, Holder: "next", ID: func(uint64) string { return r.id() }})
	next.read()
	out := next.d.Step(OfficeRead{At: next.at(), Key: OfficeKey{Revision: 1, OfficeValue: OfficeValue{Holder: "", Term: 1}}})
	next.rev = 1
	next.accept(next.only(next.acknowledge(writes(out)[0])))
	begun := next.now
	out = nil
	for len(submits(out)) == 0 {
		out = next.testify(next.inquiry(3*time.Second), 3, nil)
	}
	if res := judged(t, next.only(out)); res.OK || res.Landed != 3 || next.now-begun < 3*time.Second {
		t.Errorf("after %s: %+v", next.now-begun, res)
	}
}

func TestLaid(t *testing.T) {
	side := func(left bool, bound uint64, s ...events.Sighting) Witness {
		w := Witness{Sent: 900 * time.Millisecond, Got: 1100 * time.Millisecond, Answer: events.CutoverAnswer{Known: true, Bound: bound}}
		for _, s := range s {
			if left {
				w.Answer.Left = events.AppendSighting(w.Answer.Left, s)
			} else {
				w.Answer.Back = events.AppendSighting(w.Answer.Back, s)
			}
		}
		return w
	}
	ms := func(user, ago uint64) events.Sighting { return events.Sighting{User: user, Ago: ago * 1000} }
	all := []Witness{
		side(true, 100, ms(1, 500), ms(1, 400), ms(2, 500)), side(true, 1000, ms(3, 500), ms(101, 500)),
		side(false, 1000, ms(1, 450), ms(1, 390), ms(1, 100), ms(9, 10)), side(false, 1000, ms(3, 600), ms(101, 10)),
		{Silent: true, Answer: events.CutoverAnswer{Known: true, Bound: 1}}, {Answer: events.CutoverAnswer{Bound: 0}},
	}
	p := laid(all)
	// 1 has two sessions, both back after 50 and 10 ms; 2 is not back; 3 is back, as the clocks have it before it left;
	// 101 is beyond what the first edge remembers; 9 was never evicted.
	if p.compared != 4 || p.landed != 3 || !slices.Equal(p.blackouts, []time.Duration{0, 10 * time.Millisecond, 50 * time.Millisecond}) || p.within != 200*time.Millisecond {
		t.Errorf("%+v", p)
	}
	for percent, want := range map[int]float64{0: 0, 50: 10, 99: 50, 100: 50} {
		if got := quantile(p.blackouts, percent); got != want {
			t.Errorf("p%d is %v, want %v", percent, got, want)
		}
	}
	if quantile(nil, 50) != 0 {
		t.Error("of nothing")
	}
}
