package cutover

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// A preview counts the live sessions of the moving keys at the edges of the units that lose them, and names every edge
// that does not answer.
func TestPreviewCounts(t *testing.T) {
	b := newBed(t)
	for id, n := range map[string]int{"b1": 3, "b2": 4, "h1": 100, "h2": 100} {
		b.change(id, func(e *fakeEdge) { e.sessions = n })
	}
	b.do(events.PreviewCutover{Ranges: rangesOf("0-11", "12-15"), Exact: map[string][]string{"center": {"13"}, "unbj": {"9"}}})
	c := b.projector.State().Cutovers["c1"]
	if c.Counted.Sessions != 7 || len(c.Counted.SilentEdges) != 0 {
		t.Errorf("counted %+v, want 7", c.Counted)
	}
	b.change("b1", func(e *fakeEdge) {
		q := e.asked[0]
		if q.UnitType != "user" || !slices.Equal(q.Slots, []string{"8-11"}) || !q.Exact.Equal(routing.MustIDs("13")) || !q.Except.Equal(routing.MustIDs("9")) {
			t.Errorf("b1 was asked %+v", q)
		}
	})
	b.silence("b2")
	b.silence("h1")
	fastest := time.Hour // of some: a busy machine takes its time now and then
	for n := range 3 {
		begun := time.Now()
		b.do(events.PreviewCutover{Ranges: rangesOf("0-11", "12-15")})
		c = b.projector.State().Cutovers[fmt.Sprintf("c%d", n+2)]
		if c.Counted.Sessions != 3 || !slices.Equal(c.Counted.SilentEdges, []string{"b2", "h1"}) {
			t.Errorf("counted %+v, want 3 and b2, h1 silent", c.Counted)
		}
		if fastest = min(fastest, time.Since(begun)); fastest < askWait {
			break
		}
	}
	if fastest > askWait {
		t.Errorf("took %s", fastest)
	}
}

// Start runs the prechecks that are missing or stale, and only those; retry runs one.
func TestStartRunsStaleChecks(t *testing.T) {
	b := newBed(t)
	b.preview()
	b.do(events.CheckCutover{Cutover: "c1"})
	c := b.projector.State().Cutovers["c1"]
	if c.State != events.Checked || len(c.Checks) != len(events.CheckIDs()) {
		t.Fatalf("after the check: %s, %+v", c.State, c.Checks)
	}
	for _, k := range c.Checks {
		if k.State != events.Pass || k.Measured == "" || time.Since(k.At) > time.Minute {
			t.Errorf("check %+v", k)
		}
	}
	b.silence("h2")
	b.do(events.RetryCheck{Cutover: "c1", Check: "edges-at-head"})
	retried := b.projector.State().Cutovers["c1"].Checks
	if retried[2].State != events.Fail || retried[2].ID != "edges-at-head" || !retried[0].At.Equal(c.Checks[0].At) {
		t.Errorf("after the retry: %+v", retried)
	}
	o := b.handler.Do(b.ctx, events.Envelope{Actor: "test", Command: events.StartCutover{Cutover: "c1"}})
	if o.OK || o.Error.Code != "precheck_failed" || !strings.Contains(o.Error.Message, "h2") {
		t.Errorf("start with a failed check: %+v", o)
	}
	b.do(events.SkipCheck{Cutover: "c1", Check: "edges-at-head", Reason: "h2 is being replaced"})
	b.do(events.StartCutover{Cutover: "c1"})

	b.prepare.now = func() time.Time { return time.Now().Add(2 * events.MaxCheckAge) }
	b.do(events.AbortCutover{Cutover: "c1"})
	env, err := b.prepare.Prepare(b.ctx, b.projector.State(), events.Envelope{Command: events.StartCutover{Cutover: "c1"}})
	if s := env.Command.(events.StartCutover); err != nil || s.Checks != nil {
		t.Errorf("prechecks of an aborted cutover were run: %+v, %v", s, err)
	}
	b.preview()
	env, err = b.prepare.Prepare(b.ctx, b.projector.State(), events.Envelope{Command: events.StartCutover{Cutover: "c2"}})
	if s := env.Command.(events.StartCutover); err != nil || len(s.Checks) != len(events.CheckIDs()) {
		t.Errorf("missing prechecks were not run: %+v, %v", s, err)
	}
}

// What is rejected is not measured.
func TestRejectedCommandsMeasureNothing(t *testing.T) {
	b := newBed(t)
	for _, c := range []events.Command{
		events.PreviewCutover{Ranges: rangesOf("0-7", "8-15")}, // moves nothing
		events.CheckCutover{Cutover: "c9"}, events.RetryCheck{Cutover: "c9", Check: "rules-complete"}, events.StartCutover{Cutover: "c9"},
	} {
		if o := b.handler.Do(b.ctx, events.Envelope{Command: c}); o.OK {
			t.Errorf("%T was accepted", c)
		}
	}
	b.change("b1", func(e *fakeEdge) {
		if len(e.asked) > 0 {
			t.Errorf("b1 was asked %+v", e.asked)
		}
	})
	c := b.preview()
	if o := b.handler.Do(b.ctx, events.Envelope{Command: events.RetryCheck{Cutover: c.ID, Check: "nothing"}}); o.OK || o.Error.Code != "unknown_check" {
		t.Errorf("unknown check: %+v", o)
	}
}

// The view's JSON: every name of the contract is there, lists are lists, and a wave is drained when every report is there.
func TestView(t *testing.T) {
	l := newLedger(t)
	id := l.start(t, 2)
	l.do(t, events.TakeOffice{Term: 1, Holder: "me"}, events.FenceWave{Cutover: id, Term: 1})
	reports := map[string]Report{}
	r := &rig{ledger: l}
	for _, e := range []string{"b1", "h1", "h2"} {
		reports[e] = Report{EdgeReport: r.report(e)}
	}
	v := Show(l.head, l.head.Cutovers[id], reports)
	if w := v.Waves[0]; w.State != events.FencedWave || !slices.Equal(w.WaitingFor, []string{"b2"}) || w.Evicted != 3 || w.Slots != 2 {
		t.Errorf("wave 0: %+v", w)
	}
	reports["b2"] = Report{EdgeReport: r.report("b2"), Doubtful: true}
	if v := Show(l.head, l.head.Cutovers[id], reports); len(v.Waves[0].WaitingFor) != 1 {
		t.Error("two processes under one id count")
	}
	moved := Report{EdgeReport: r.report("b2")}
	moved.Moved = []events.MovedReport{{Cutover: id, Evicted: 5, Landed: 2}, {Cutover: "c0", Evicted: 50, Landed: 50}}
	reports["b2"] = moved
	v = Show(l.head, l.head.Cutovers[id], reports)
	if w := v.Waves[0]; w.State != events.DrainedWave || len(w.WaitingFor) != 0 || v.Evicted != 3+5 || v.Landed != 2 {
		t.Errorf("wave 0: %+v, evicted %d, landed %d", w, v.Evicted, v.Landed)
	}
	b, err := json.Marshal(Show(l.head, l.head.Cutovers[id], nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"id":"c1"`, `"state":"started"`, `"unitType":"user"`, `"ruleFrom":1`, `"ruleTo":2`,
		`"moves":[{"from":8,"to":11,"source":"unbj","target":"center"}]`, `"exactMoves":[]`, `"slots":4`, `"sessions":0`, `"silentEdges":[]`,
		`"diff":"- 0-7 center`, `"reason":null`, `"checks":[{"id":"rules-complete","state":"pass"`, `"waitingFor":["b1","b2","h1","h2"]`,
		`{"index":1,"slots":2,"exact":0,"state":"pending","evicted":0,"waitingFor":[],"skipped":[]}`, `"evicted":0`, `"landed":0`,
		`"actor":"test"`, `"startedAt":"2026-03-01T12:00:00Z"`, `"completedAt":null`, `"traceId":"0af7651916cd43dd8448eb211c80319c"`,
		`"edges":[{"id":"b1","unit":"unbj","applied":0,"evicted":0`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in\n%s", want, b)
		}
	}
}

// More exact IDs than a message holds at all, as a drain may move: they are counted part by part, each once.
func TestCountInParts(t *testing.T) {
	b := newBed(t)
	r := rand.New(rand.NewPCG(4, 4))
	ids := make([]string, 60_000)
	for i := range ids {
		ids[i] = fmt.Sprintf("%016x-%04x", r.Uint64(), i%65536)
	}
	q := events.CountQuestion{UnitType: "unit_type", Slots: []string{"0-9"}, Except: routing.MustIDs("x"), Exact: routing.MustIDs(ids...)}
	b.change("b1", func(e *fakeEdge) { e.sessions, e.asked = 5, nil })
	b.silence("b2")
	s := b.projector.State()
	answers := b.prepare.fleet.Count(b.ctx, []events.Edge{s.Edges["b1"], s.Edges["b2"]}, func(string) events.CountQuestion { return q })
	if answers[1].Err == nil {
		t.Error("an edge that is not there has answered")
	}
	b.change("b1", func(e *fakeEdge) {
		if answers[0].Err != nil || len(e.asked) < 3 || answers[0].Value.Sessions != 5*len(e.asked) {
			t.Errorf("%+v to %d questions", answers[0], len(e.asked))
		}
		var all routing.IDs
		n := 0
		for i, asked := range e.asked {
			if (i == 0) != (len(asked.Slots) > 0) || (i == 0) != (asked.Except.Len() > 0) || asked.UnitType != q.UnitType {
				t.Errorf("question %d is of the slots %v without %d IDs", i, asked.Slots, asked.Except.Len())
			}
			all, n = all.With(asked.Exact), n+asked.Exact.Len()
		}
		if !all.Equal(q.Exact) || n != len(ids) {
			t.Errorf("%d IDs are asked about, %d different ones", n, all.Len())
		}
	})
}

// More exact IDs than a message holds as they are: they are counted all the same, since the event holds them, too.
func TestManyExactIDsAreCounted(t *testing.T) {
	b := newBed(t)
	ids := make([]string, 40_000)
	for i := range ids {
		ids[i] = fmt.Sprintf("%d@customers.of.a.provider.whose.name.is.quite.a.long.one.example.com", 100_000+i)
	}
	o := b.do(events.PreviewCutover{ExactDelta: map[string]routing.Packed{"center": routing.Pack(routing.MustIDs(ids...))}})
	if !strings.Contains(string(o.Data), `"silentEdges":[]`) {
		t.Errorf("%.500s", o.Data)
	}
	b.change("b1", func(e *fakeEdge) {
		if n := len(e.asked); n == 0 || e.asked[n-1].Exact.Len() < len(ids)/3 {
			t.Errorf("asked %d times", n)
		}
	})
}
