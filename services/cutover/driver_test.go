package cutover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// rig drives one Driver by hand: its clock stands still unless a test moves it, its commands go nowhere by themselves.
type rig struct {
	nonce uint64 // of the last lease request

	*ledger
	t   *testing.T
	d   *Driver
	now time.Duration
	rev uint64 // of the office key
}

func newRig(t *testing.T) *rig {
	return &rig{ledger: newLedger(t), t: t, now: time.Hour, d: NewDriver(DriverConfig{
		Epoch: testEpoch, Holder: "me", ID: func(n uint64) string { return fmt.Sprintf("00000000-0000-0000-0001-%012d", n) },
	})}
}

func (r *rig) at() At { return At{r.now} }

// read tells the driver the newest state.
func (r *rig) read() []Output { return r.d.Step(StateAdvanced{r.at(), r.head, testEpoch}) }

// wait lets time pass in small ticks and returns all that the driver wanted meanwhile.
func (r *rig) wait(d time.Duration) (out []Output) {
	for end := r.now + d; r.now < end; {
		r.now = min(end, r.now+50*time.Millisecond)
		out = append(out, r.d.Step(Tick{r.at()})...)
	}
	return out
}

func writes(out []Output) (w []WriteOffice) {
	for _, o := range out {
		if o, ok := o.(WriteOffice); ok {
			w = append(w, o)
		}
	}
	return w
}

func submits(out []Output) (c []events.Envelope) {
	for _, o := range out {
		if o, ok := o.(Submit); ok {
			c = append(c, o.Envelope)
		}
	}
	return c
}

// acknowledge stores an office write.
func (r *rig) acknowledge(w WriteOffice) []Output {
	r.rev++
	return r.d.Step(OfficeWritten{r.at(), w.Attempt, Accepted, r.rev})
}

// accept carries out a command of the driver's and lets it read the result.
func (r *rig) accept(env events.Envelope) []Output {
	r.t.Helper()
	if err := r.try(env.ID, env.Command); err != nil {
		r.t.Fatalf("%T of the driver: %v", env.Command, err)
	}
	out := r.d.Step(Submitted{At: r.at(), ID: env.ID, Fate: Accepted, Seq: r.head.Seq})
	return append(out, r.read()...)
}

// serve brings the driver into an office that was given back in this epoch.
func (r *rig) serve() []Output {
	r.t.Helper()
	r.rev = 1
	return r.serveAfter(OfficeKey{r.rev, OfficeValue{Epoch: testEpoch}})
}

// serveAfter brings the driver into the office that was given back like this.
func (r *rig) serveAfter(key OfficeKey) []Output {
	r.t.Helper()
	r.read()
	out := r.d.Step(OfficeRead{At: r.at(), Key: key})
	if len(writes(out)) != 1 {
		r.t.Fatalf("want one write, got %v", out)
	}
	out = r.acknowledge(writes(out)[0])
	out = r.accept(r.only(out))
	if !r.d.Serving() {
		r.t.Fatal("not serving after taking office")
	}
	return out
}

// hold renews the office as long as a test waits.
func (r *rig) hold(d time.Duration) (out []Output) {
	for end := r.now + d; r.now < end; {
		o := r.wait(min(end-r.now, 50*time.Millisecond))
		out = append(out, o...)
		for _, w := range writes(o) {
			out = append(out, r.acknowledge(w)...)
		}
	}
	return out
}

// only is the single command among outputs.
func (r *rig) only(out []Output) events.Envelope {
	r.t.Helper()
	c := submits(out)
	if len(c) != 1 {
		r.t.Fatalf("want one command, got %v", out)
	}
	return c[0]
}

func (r *rig) nothing(out []Output, why string) {
	r.t.Helper()
	if c := submits(out); len(c) > 0 {
		r.t.Fatalf("%s: it submits %#v", why, c[0].Command)
	}
}

// report is what an edge says when it has done everything for the fence of wave 0 of c1.
func (r *rig) report(edge string) events.EdgeReport {
	e := r.head.Edges[edge]
	rep := events.EdgeReport{Namespace: testNamespace, Epoch: testEpoch, Edge: edge, Directory: directoryOf(edge), Unit: e.Unit, Incarnation: "p-" + edge, Applied: r.head.Seq}
	for _, c := range r.head.CutoverList() {
		if w := c.FencedWave(); w >= 0 {
			rep.Fences = append(rep.Fences, events.FenceReport{Cutover: c.ID, Wave: w, Fence: c.Waves[w].FenceSeq, Drained: true, Evicted: 1})
		}
	}
	return rep
}

func (r *rig) hear(reps ...events.EdgeReport) (out []Output) {
	for _, rep := range reps {
		out = append(out, r.d.Step(Reported{r.at(), rep, ""})...)
	}
	return out
}

// fence is a driver in office with wave 0 of c1 fenced.
func fencedRig(t *testing.T, waves int) *rig {
	r := newRig(t)
	r.start(t, waves)
	r.accept(r.only(r.serve()))
	if c := r.head.Cutovers["c1"]; c.FencedWave() != 0 {
		t.Fatal("wave 0 is not fenced")
	}
	return r
}

func TestDriverRunsACutoverToItsEnd(t *testing.T) {
	r := newRig(t)
	r.start(t, 2)
	out := r.serve()
	for i := range 2 {
		fence := r.only(out)
		if c, ok := fence.Command.(events.FenceWave); !ok || c.Wave != i {
			t.Fatalf("want wave %d fenced, got %#v", i, fence.Command)
		}
		r.accept(fence)
		out = r.hear(r.report("b1"), r.report("b2"), r.report("h1"), r.report("h2"))
		commit := r.only(out)
		if c, ok := commit.Command.(events.CommitWave); !ok || c.Wave != i || len(c.Edges) != 4 || c.Edges[0].Evicted != 1 {
			t.Fatalf("want wave %d committed with four results, got %#v", i, commit.Command)
		}
		out = r.accept(commit)
	}
	r.nothing(r.accept(r.only(out)), "after the end")
	if c := r.head.Cutovers["c1"]; c.State != events.Completed {
		t.Fatalf("the cutover is %s", c.State)
	}
}

// R5, R6, R7, R8: what counts as a needed edge's report. Three edges have done everything; the fourth says this.
func TestCommitNeedsEveryReport(t *testing.T) {
	for _, tc := range []struct {
		name   string
		edge   string
		change func(*events.EdgeReport)
		enough bool
	}{
		{"losing edge applied and drained", "b2", func(*events.EdgeReport) {}, true},
		{"R5 losing edge applied, not drained", "b2", func(e *events.EdgeReport) { e.Fences[0].Drained = false }, false},
		{"R5 drained without applied", "b2", func(e *events.EdgeReport) { e.Applied = e.Fences[0].Fence - 1 }, false},
		{"R6 drained for an older fence", "b2", func(e *events.EdgeReport) { e.Fences[0].Fence-- }, false},
		{"R6 drained for another wave", "b2", func(e *events.EdgeReport) { e.Fences[0].Wave++ }, false},
		{"R6 drained for another cutover", "b2", func(e *events.EdgeReport) { e.Fences[0].Cutover = "c9" }, false},
		{"R6 names no fence", "b2", func(e *events.EdgeReport) { e.Fences = nil }, false},
		{"of another journal", "b2", func(e *events.EdgeReport) { e.Epoch = "epoch-0" }, false},
		{"of another namespace", "b2", func(e *events.EdgeReport) { e.Namespace = "other" }, false},
		{"R7 of an edge that the journal does not know", "b2", func(e *events.EdgeReport) { e.Edge = "b9" }, false},
		{"R7 of an edge in another unit", "b2", func(e *events.EdgeReport) { e.Unit = "center" }, false},
		{"R8 gaining edge applied", "h2", func(e *events.EdgeReport) { e.Fences = nil }, true},
		{"R8 gaining edge behind the fence", "h2", func(e *events.EdgeReport) { e.Applied-- }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := fencedRig(t, 1)
			for _, id := range []string{"b1", "b2", "h1", "h2"} {
				if id != tc.edge {
					r.nothing(r.hear(r.report(id)), "a report is missing")
				}
			}
			rep := r.report(tc.edge)
			tc.change(&rep)
			got := len(submits(r.hear(rep))) == 1
			if got != tc.enough {
				t.Fatalf("commits: %v, want %v", got, tc.enough)
			}
		})
	}
}

// R7: which edges are needed follows the journal while the wave waits.
func TestNeededEdgesFollowTheJournal(t *testing.T) {
	t.Run("a retired edge falls out", func(t *testing.T) {
		r := fencedRig(t, 1)
		r.nothing(r.hear(r.report("b1"), r.report("h1"), r.report("h2")), "b2 was never heard")
		r.do(t, events.RetireEdge{ID: "b2", Reason: "burnt"})
		if _, ok := r.only(r.read()).Command.(events.CommitWave); !ok {
			t.Fatal("want the commit")
		}
	})
	t.Run("a joining edge comes in", func(t *testing.T) {
		r := fencedRig(t, 1)
		r.do(t, events.JoinEdge{ID: "b3", Directory: directoryOf("b3"), Unit: "unbj", Cluster: "bj", Address: "127.0.0.1:7203"})
		r.read()
		r.nothing(r.hear(r.report("b1"), r.report("b2"), r.report("h1"), r.report("h2")), "b3 has not reported")
		r.only(r.hear(r.report("b3")))
	})
	t.Run("a skipped edge is done without", func(t *testing.T) {
		r := fencedRig(t, 1)
		r.hear(r.report("b1"), r.report("h1"), r.report("h2"))
		r.do(t, events.SkipCheck{Cutover: "c1", Edge: "b2", Reason: "burnt"})
		c := r.only(r.read()).Command.(events.CommitWave)
		i := slices.IndexFunc(c.Edges, func(e events.EdgeResult) bool { return e.ID == "b2" })
		if i < 0 || !c.Edges[i].Skipped {
			t.Fatalf("the skip is not in the results: %+v", c.Edges)
		}
	})
}

// Messages that are late, doubled or out of order change nothing.
func TestOldReportsAreHarmless(t *testing.T) {
	t.Run("an older report of the same process does not replace a newer one", func(t *testing.T) {
		r := fencedRig(t, 1)
		old := r.report("b1")
		old.Applied, old.Fences = old.Applied-1, nil
		r.hear(r.report("b1"), old, old, r.report("b2"), r.report("h1"))
		r.only(r.hear(r.report("h2")))
	})
	t.Run("two processes under one id do not count", func(t *testing.T) {
		r := fencedRig(t, 1)
		clone := r.report("b1")
		clone.Incarnation, clone.Fences[0].Drained = "p-clone", false
		r.nothing(r.hear(clone, r.report("b1"), r.report("b2"), r.report("h1"), r.report("h2")), "a process of b1 has not drained")
		for range 5 {
			r.nothing(r.hold(events.ReportEvery/2), "both speak")
			r.nothing(r.hear(clone, r.report("b1")), "both speak")
		}
		r.hear(r.report("b1"))
		r.only(r.hold(rivalWindow)) // the clone has fallen silent
	})
}

// R11: pausing lifts the fence, a resumed wave is a new fence, and what was reported for the old one does not count.
func TestReportsOfALiftedFenceDoNotCount(t *testing.T) {
	r := fencedRig(t, 1)
	old := []events.EdgeReport{r.report("b1"), r.report("b2"), r.report("h1"), r.report("h2")}
	r.hear(old[0], old[1], old[2])
	r.do(t, events.PauseCutover{Cutover: "c1"})
	r.nothing(r.read(), "paused")
	r.nothing(r.hear(old...), "paused")
	r.do(t, events.ResumeCutover{Cutover: "c1"})
	r.accept(r.only(r.read()))
	r.nothing(r.hear(old...), "all of them are about the lifted fence")
	stale := r.report("b1")
	stale.Fences = old[0].Fences // it applied the new fence and still speaks of the old one
	r.nothing(r.hear(stale, r.report("b2"), r.report("h1"), r.report("h2")), "b1 has not drained for this fence")
	r.only(r.hear(r.report("b1")))
}

// propose starts a cutover that evicts so many sessions at a rate.
func (r *rig) propose(sessions int, rate events.Rate) {
	r.do(r.t, events.PreviewCutover{Ranges: rangesOf("0-11", "12-15"), Rate: &rate, Counted: events.Count{Sessions: sessions}},
		events.StartCutover{Cutover: "c1", Checks: allPassed()})
}

// R11: a wave whose deadline passes is unfenced by pausing, and the reason names the edges.
func TestDeadline(t *testing.T) {
	pauses := func(out []Output) string {
		for _, e := range submits(out) {
			if p, ok := e.Command.(events.PauseCutover); ok && p.Code == "deadline" && p.Term == 1 {
				return p.Reason
			}
		}
		return ""
	}
	t.Run("an edge that is never heard", func(t *testing.T) {
		r := fencedRig(t, 1)
		r.hear(r.report("b1"), r.report("h1"), r.report("h2"))
		r.nothing(r.hold(Patience-time.Second), "the deadline has not passed")
		reason := pauses(r.hold(time.Second))
		if !strings.Contains(reason, "b2") || strings.Contains(reason, "b1") {
			t.Fatalf("want a pause that names b2 alone, got %q", reason)
		}
	})
	t.Run("the last edges of the gaining unit are retired", func(t *testing.T) {
		r := fencedRig(t, 1)
		r.do(t, events.RetireEdge{ID: "h1", Reason: "burnt"}, events.RetireEdge{ID: "h2", Reason: "burnt"})
		if reason := pauses(r.read()); !strings.Contains(reason, "center has no edge left") {
			t.Fatalf("want a pause at once, got %q", reason)
		}
	})
	t.Run("a silent edge does not get the time that others need for evicting", func(t *testing.T) {
		r := newRig(t)
		r.propose(5000, 1)
		r.accept(r.only(r.serve()))
		r.hear(r.report("b1"), r.report("h1"), r.report("h2"))
		if reason := pauses(r.hold(Patience)); !strings.Contains(reason, "b2") {
			t.Fatalf("want a pause that names b2, got %q", reason)
		}
	})
	t.Run("progress restarts an edge's time, up to a limit", func(t *testing.T) {
		r := newRig(t)
		r.propose(5000, 100) // 50 s of evictions
		r.accept(r.only(r.serve()))
		r.hear(r.report("b1"), r.report("h1"), r.report("h2"))
		busy := r.report("b2")
		busy.Fences[0].Drained, busy.Fences[0].Evicted = false, 0
		for range 15 {
			busy.Fences = []events.FenceReport{busy.Fences[0]}
			busy.Fences[0].Evicted++
			r.nothing(r.hear(busy), "b2 goes on evicting")
			r.nothing(r.hold(10*time.Second), "b2 goes on evicting")
		}
		busy.Fences = []events.FenceReport{busy.Fences[0]}
		busy.Fences[0].Evicted++
		r.hear(busy)
		if reason := pauses(r.hold(11 * time.Second)); !strings.Contains(reason, "b2") {
			t.Fatalf("want a pause at 60 s + 2 x 50 s, got %q", reason)
		}
	})
	t.Run("time out of office counts against nobody", func(t *testing.T) {
		r := fencedRig(t, 1)
		out := r.wait(Patience) // its renewals are not answered
		r.nothing(out, "out of office")
		r.acknowledge(writes(r.key(r.rev, "me", 1))[0])
		if !r.d.Serving() {
			t.Fatal("not in office again")
		}
		r.nothing(r.hold(Patience-time.Second), "in office again for less than the deadline")
		if reason := pauses(r.hold(time.Second)); !strings.Contains(reason, "b2") {
			t.Fatalf("want a pause, got %q", reason)
		}
	})
}

// A command of unknown fate is repeated under its id; an accepted one is not repeated; a refused one is thought over.
func TestCommandsTakeEffectOnce(t *testing.T) {
	t.Run("unknown", func(t *testing.T) {
		r := newRig(t)
		r.start(t, 1)
		fence := r.only(r.serve())
		r.d.Step(Submitted{At: r.at(), ID: fence.ID, Fate: Unknown})
		again := r.only(r.hold(time.Second))
		if again.ID != fence.ID {
			t.Fatalf("id %s after %s", again.ID, fence.ID)
		}
	})
	t.Run("accepted and not yet read back", func(t *testing.T) {
		r := newRig(t)
		r.start(t, 1)
		fence := r.only(r.serve())
		r.d.Step(Submitted{At: r.at(), ID: fence.ID, Fate: Accepted, Seq: r.head.Seq + 1})
		r.nothing(r.hold(time.Minute), "the state does not hold the fence yet")
	})
	t.Run("refused", func(t *testing.T) {
		r := newRig(t)
		r.start(t, 1)
		fence := r.only(r.serve())
		r.nothing(r.d.Step(Submitted{At: r.at(), ID: fence.ID, Fate: Refused}), "at once")
		again := r.only(r.hold(refusedWait))
		if again.ID == fence.ID {
			t.Fatal("a decision that was refused is not repeated under its id")
		}
	})
	t.Run("answers of others and doubled answers", func(t *testing.T) {
		r := fencedRig(t, 1)
		r.nothing(r.d.Step(Submitted{At: r.at(), ID: "00000000-0000-0000-0001-000000000002", Fate: Refused}), "answered before")
		r.nothing(r.d.Step(Submitted{At: r.at(), ID: "nobody's", Fate: Accepted, Seq: 99}), "not mine")
	})
	t.Run("one at a time", func(t *testing.T) {
		r := fencedRig(t, 1)
		r.only(r.hear(r.report("b1"), r.report("b2"), r.report("h1"), r.report("h2")))
		r.nothing(r.hear(r.report("b1"), r.report("b2")), "the commit is under way")
	})
}
