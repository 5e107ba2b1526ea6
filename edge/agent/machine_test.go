package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// bench drives a machine by hand. Every step returns what came out, one word group for each output:
// "install 9, store 9, evict unit_type max, report 9 c1@9 drained evicted 3".
type bench struct {
	t         testing.TB
	w         *world
	a         *Agent
	now       time.Time
	installed uint64 // as the last installed said, for counted
	counters  Counts
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, w: newWorld(t, nil), a: New(Self{"demo", "unbj", "ws-bj", "bj-1", directoryOf("bj-1"), "incarnation", ""}), now: start}
	b.w.join("bj-1", "unbj", "ws-bj", "127.0.0.1:7201")
	b.w.join("hz-1", "center", "ws-hz", "127.0.0.1:7101")
	return b
}

func (b *bench) step(in Input) string {
	var out []string
	for _, o := range b.a.Step(in) {
		switch o := o.(type) {
		case Install:
			out = append(out, fmt.Sprintf("install %d", o.State.Seq))
		case Store:
			out = append(out, fmt.Sprintf("store %d", o.State.Seq))
		case Evict:
			out = append(out, fmt.Sprintf("evict %s %s", o.UnitType, o.Rate))
		case Report:
			out = append(out, showReport(o.EdgeReport))
		}
	}
	return strings.Join(out, ", ")
}

func showReport(r events.EdgeReport) string {
	s := fmt.Sprintf("report %d", r.Applied)
	for _, f := range r.Fences {
		s += fmt.Sprintf(" %s@%d", f.Cutover, f.Fence)
		if f.Drained {
			s += " drained"
		}
		if f.Evicted > 0 {
			s += fmt.Sprintf(" evicted %d", f.Evicted)
		}
	}
	for _, m := range r.Moved {
		if m.Evicted+m.Landed > 0 {
			s += fmt.Sprintf(" (%s evicted %d landed %d)", m.Cutover, m.Evicted, m.Landed)
		}
	}
	return s
}

func (b *bench) advance(s *events.State) string { return b.step(Advanced{b.now, "E1", s}) }

func (b *bench) install(seq uint64) string {
	b.installed = seq
	return b.step(Installed{b.now, "E1", seq})
}

func (b *bench) stored(seq uint64) string {
	return b.step(Stored{b.now, "E1", seq, fmt.Sprintf("hash %d", seq)})
}

// counted is a counting that began after the last install.
func (b *bench) counted() string { return b.countedAt(b.installed) }

func (b *bench) countedAt(seq uint64) string {
	return b.step(Counted{b.now, "E1", seq, map[string]Counts{"unit_type": b.counters, "shop": {}}})
}

func (b *bench) want(got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("got  %q\nwant %q", got, want)
	}
}

// settle brings the machine to the world's state, reported.
func (b *bench) settle() {
	b.t.Helper()
	b.advance(b.w.state.Clone())
	b.install(b.w.state.Seq)
	b.counted()
	b.stored(b.w.state.Seq)
	b.now = b.now.Add(time.Millisecond)
	if got := b.a.last.Applied; got != b.w.state.Seq {
		b.t.Fatalf("settled at %d, want %d", got, b.w.state.Seq)
	}
}

// "Install on the pollers, then store (fsync), then report": R6. Breaks if a report goes out before the fsync, or the
// disk is ahead of the pollers.
func TestOrderIsInstallStoreReport(t *testing.T) {
	b := newBench(t)
	b.want(b.advance(b.w.state.Clone()), "install 3, report 0")
	b.want(b.step(Stored{b.now, "E1", 3, ""}), "") // nothing was being stored
	b.want(b.install(3), "store 3")
	b.want(b.counted(), "")
	b.want(b.stored(3), "report 3")
	if r := b.a.last; r.StateHash != "hash 3" || r.Epoch != "E1" || r.Incarnation != "incarnation" || r.Unit != "unbj" || r.Cluster != "ws-bj" || r.Namespace != "demo" {
		t.Errorf("%+v", r)
	}
}

// Sessions that are passed on to other units' edges are told of apart: they are in no other number, but as victims they
// keep the edge from being drained like any other.
func TestProxiedAreReportedApart(t *testing.T) {
	b := newBench(t)
	b.settle()
	if b.a.last.Proxied != nil {
		t.Errorf("where nothing is passed on: %+v", b.a.last.Proxied)
	}
	b.counters.Proxied = events.Proxied{Sessions: 7, Counters: events.Counters{Handshakes: 9, Dials: 11, DialErrors: 2}}
	b.counted()
	b.now = b.now.Add(events.ReportEvery)
	b.step(Tick{b.now})
	if r := b.a.last; len(r.Proxied) != 1 || r.Proxied["unit_type"] != b.counters.Proxied || r.Sessions["unit_type"] != 0 || r.Counters["unit_type"] != (events.Counters{}) {
		t.Errorf("%+v", r)
	}
	id := b.w.begin(6381, 500)
	b.settle()
	fenced := b.w.fence(id)
	b.advance(fenced)
	b.install(fenced.Seq)
	b.counters.Victims = 2
	b.want(b.counted(), "evict unit_type 500")
	b.stored(fenced.Seq)
	if f := b.a.last.Fences; len(f) != 1 || f[0].Drained || f[0].Evicted != 0 {
		t.Errorf("while they are being closed: %+v", f)
	}
	b.counters.Victims, b.counters.Proxied.Sessions, b.counters.Proxied.Evicted = 0, 5, 2
	b.counted()
	if r := b.a.last; !r.Fences[0].Drained || r.Fences[0].Evicted != 0 || r.Moved[0].Evicted != 0 {
		t.Errorf("when they are gone: %+v, %+v", r.Fences, r.Moved)
	}
}

// A fence is reported, by its sequence and not drained, once it is on disk; drained when a counting that began after its
// install finds no victim; evicted counts from the fence on (R5, R6).
func TestFenceIsReportedAppliedThenDrained(t *testing.T) {
	b := newBench(t)
	b.counters.Evicted = 40 // of the time before
	b.settle()
	id := b.w.begin(6381, 500)
	b.settle()
	fenced := b.w.fence(id)
	at := fenced.Seq
	b.want(b.advance(fenced), fmt.Sprintf("install %d", at))
	b.want(b.install(at), fmt.Sprintf("store %d", at))
	b.counters.Victims = 3
	b.want(b.counted(), "evict unit_type 500")
	b.counters.Evicted, b.counters.Victims = 41, 2
	b.want(b.counted(), "") // not on disk, so not a word of the fence
	b.want(b.stored(at), fmt.Sprintf("report %d c1@%d evicted 1 (c1 evicted 1 landed 0)", at, at))
	b.counters.Evicted, b.counters.Victims = 43, 0
	b.want(b.counted(), fmt.Sprintf("report %d c1@%d drained evicted 3 (c1 evicted 3 landed 0)", at, at))
	b.w.join("bj-2", "unbj", "ws-bj", "127.0.0.1:7202") // a later state with the same fence
	b.settle()
	b.want(showReport(b.a.last), fmt.Sprintf("report %d c1@%d drained evicted 3 (c1 evicted 3 landed 0)", b.w.state.Seq, at))
}

// Drained needs a counting that began after the fence's install: before it nobody was a victim.
func TestDrainedNeedsACountingAfterTheInstall(t *testing.T) {
	b := newBench(t)
	b.settle()
	id := b.w.begin(6381, 0)
	b.settle()
	before := b.installed
	fenced := b.w.fence(id)
	b.advance(fenced)
	b.install(fenced.Seq)
	b.want(b.stored(fenced.Seq), fmt.Sprintf("report %d c1@%d", fenced.Seq, fenced.Seq))
	b.want(b.countedAt(before), "") // it began before the install and came late
	b.want(b.counted(), fmt.Sprintf("report %d c1@%d drained", fenced.Seq, fenced.Seq))
}

// A unit type of which nothing was counted is not drained.
func TestDrainedNeedsThatTypeCounted(t *testing.T) {
	b := newBench(t)
	b.settle()
	id := b.w.begin(6381, 0)
	fenced := b.w.fence(id)
	b.advance(fenced)
	b.install(fenced.Seq)
	b.stored(fenced.Seq)
	b.want(b.step(Counted{b.now, "E1", fenced.Seq, nil}), "")
}

// R11: a fence that was lifted is not reported any more, from the moment it is known and before the pollers have it, and
// the next fence of the same wave starts anew.
func TestLiftedFenceIsNotReported(t *testing.T) {
	b := newBench(t)
	b.settle()
	id := b.w.begin(6381, 0)
	first := b.w.fence(id)
	b.settle()
	b.want(showReport(b.a.last), fmt.Sprintf("report %d c1@%d drained", first.Seq, first.Seq))
	paused := b.w.do(events.PauseCutover{Cutover: id})
	b.want(b.advance(paused), fmt.Sprintf("install %d, report %d", paused.Seq, first.Seq))
	b.install(paused.Seq)
	b.counted()
	b.stored(paused.Seq)
	b.w.do(events.ResumeCutover{Cutover: id})
	again := b.w.fence(id)
	b.advance(again)
	b.install(again.Seq)
	b.counters.Victims = 1
	b.counted()
	b.want(b.stored(again.Seq), fmt.Sprintf("report %d c1@%d", again.Seq, again.Seq))
	b.counters.Victims = 0
	b.want(b.counted(), fmt.Sprintf("report %d c1@%d drained", again.Seq, again.Seq))
}

// Pollers take a fence one after the other: a counting in between finds its first victims while the state before is the
// last one that all have. They go at the cutover's rate all the same, not at that of the policy.
func TestVictimsOfAFenceUnderWayGoAtItsRate(t *testing.T) {
	b := newBench(t)
	b.settle()
	id := b.w.begin(6381, 50) // the edge learns of both at once
	fenced := b.w.fence(id)
	b.want(b.advance(fenced), fmt.Sprintf("install %d", fenced.Seq))
	b.counters.Victims = 1
	b.want(b.counted(), "evict unit_type 50")
	b.install(fenced.Seq)
	b.counters.Victims = 2
	b.want(b.counted(), "evict unit_type 50")
}

// Unfencing ends the eviction by itself: the victims are served again.
func TestUnfenceOrdersNoEviction(t *testing.T) {
	b := newBench(t)
	b.settle()
	id := b.w.begin(6381, 10)
	b.settle()
	fenced := b.w.fence(id)
	b.advance(fenced)
	b.install(fenced.Seq)
	b.counters.Victims = 5
	b.want(b.counted(), "evict unit_type 10")
	aborted := b.w.do(events.AbortCutover{Cutover: id})
	b.advance(aborted)
	b.stored(fenced.Seq)
	b.counters.Victims = 0
	b.want(b.install(aborted.Seq), fmt.Sprintf("store %d", aborted.Seq))
	b.want(b.counted(), "")
}

// An edge that skipped over the fence and the commit evicts just the same, at the cutover's rate.
func TestMissedFenceIsEvictedJustTheSame(t *testing.T) {
	for _, completed := range []bool{false, true} {
		b := newBench(t)
		b.settle()
		id := b.w.begin(6381, 77)
		b.w.fence(id)
		last := b.w.commit(id)
		if completed {
			last = b.w.complete(id)
		}
		b.want(b.advance(last), fmt.Sprintf("install %d", last.Seq))
		b.want(b.install(last.Seq), fmt.Sprintf("store %d", last.Seq))
		b.counters.Victims = 4
		b.want(b.counted(), "evict unit_type 77")
		b.counters.Victims, b.counters.Evicted = 0, 4
		b.want(b.stored(last.Seq), fmt.Sprintf("report %d", last.Seq))
		b.now = b.now.Add(countsEvery)
		b.want(b.counted(), fmt.Sprintf("report %d (c1 evicted 4 landed 0)", last.Seq))
	}
}

// Victims of no cutover go at the policy's rate, and each install that leaves some orders once.
func TestEvictIsOrderedOncePerInstall(t *testing.T) {
	b := newBench(t)
	b.settle()
	b.counters.Victims = 2
	b.want(b.counted(), "evict unit_type 1000")
	b.want(b.counted(), "")
	s := b.w.join("bj-2", "unbj", "ws-bj", "127.0.0.1:7202")
	b.advance(s)
	b.want(b.counted(), "")
	b.install(s.Seq)
	b.want(b.counted(), "evict unit_type 1000")
}

// Events that arrive faster than they can be installed or stored are not worked through one by one.
func TestCoalesces(t *testing.T) {
	b := newBench(t)
	b.settle()
	first := b.w.begin(6381, 0)
	s1 := b.w.state.Clone()
	s2 := b.w.fence(first)
	s3 := b.w.join("bj-2", "unbj", "ws-bj", "127.0.0.1:7202")
	s4 := b.w.join("bj-3", "unbj", "ws-bj", "127.0.0.1:7203")
	b.want(b.advance(s1), fmt.Sprintf("install %d", s1.Seq))
	b.want(b.advance(s2), "")
	b.want(b.advance(s3), "")
	b.want(b.advance(s2), "") // an older one changes nothing
	b.want(b.install(s1.Seq), fmt.Sprintf("install %d, store %d", s3.Seq, s1.Seq))
	b.want(b.install(s3.Seq), "") // s1 is still being stored
	b.counted()
	b.want(b.advance(s4), fmt.Sprintf("install %d", s4.Seq))
	b.want(b.stored(s1.Seq), fmt.Sprintf("store %d, report %d", s3.Seq, s1.Seq)) // no fence: it is younger than what is on disk
	b.want(b.stored(s3.Seq), fmt.Sprintf("report %d c1@%d drained", s3.Seq, s2.Seq))
}

// A store or an install that failed is wanted again after a while, and nothing of it is reported before.
func TestFailuresAreRetried(t *testing.T) {
	b := newBench(t)
	s := b.w.state.Clone()
	b.advance(s)
	b.want(b.step(Failed{b.now, Install{"E1", s}}), "")
	b.now = b.now.Add(retryAfter)
	b.want(b.step(Tick{b.now}), "install 3")
	b.want(b.install(3), "store 3")
	b.want(b.step(Failed{b.now, Store{"E1", s}}), "")
	b.now = b.now.Add(retryAfter / 2)
	b.want(b.step(Tick{b.now}), "")
	b.now = b.now.Add(retryAfter / 2)
	b.want(b.step(Tick{b.now}), "store 3, report 0") // the report is the periodic one
	b.want(b.stored(3), "report 3")
}

// Reports are repeated every 2 s, soon after a counter moved, and at once when someone may have missed one.
func TestReportsAreRepeated(t *testing.T) {
	b := newBench(t)
	b.settle()
	sent := b.a.lastAt
	for _, c := range []struct {
		after time.Duration
		in    func(time.Time) Input
		want  string
	}{
		{events.ReportEvery - 1, func(n time.Time) Input { return Tick{n} }, ""},
		{events.ReportEvery, func(n time.Time) Input { return Tick{n} }, "report 3"},
		{events.ReportEvery + 1, func(n time.Time) Input { return Connected{n} }, "report 3"},
		{events.ReportEvery + 1, func(n time.Time) Input { return Tick{n} }, ""},
		{2*events.ReportEvery + 1, func(n time.Time) Input { return Tick{n} }, "report 3"},
	} {
		if got := b.step(c.in(sent.Add(c.after))); got != c.want {
			t.Errorf("after %v: %q, want %q", c.after, got, c.want)
		}
	}
}

// Landings count for the cutover that made the rules in force until the next one starts, and for that from its start.
func TestLandedIsCountedPerCutover(t *testing.T) {
	b := newBench(t)
	b.settle()
	id := b.w.begin(6381, 0)
	b.w.fence(id)
	b.w.commit(id)
	b.w.complete(id)
	b.settle()
	b.counters.Landed = 5
	b.now = b.now.Add(countsEvery)
	b.want(b.counted(), fmt.Sprintf("report %d (c1 evicted 0 landed 5)", b.w.state.Seq))
	b.w.begin(5998, 0)
	b.settle()
	b.counters.Landed, b.counters.Evicted = 7, 1
	b.now = b.now.Add(countsEvery)
	b.want(b.counted(), fmt.Sprintf("report %d (c2 evicted 1 landed 2)", b.w.state.Seq))
}

// A restarted edge reports what its directory held only when the pollers decide by it, and does not store it again.
func TestRestored(t *testing.T) {
	b := newBench(t)
	id := b.w.begin(6381, 0)
	s := b.w.fence(id)
	b.want(b.step(Restored{b.now, "E1", s, "hash"}), fmt.Sprintf("install %d, report 0", s.Seq))
	b.counters.Victims = 0
	b.want(b.install(s.Seq), fmt.Sprintf("report %d c1@%d", s.Seq, s.Seq))
	b.want(b.counted(), fmt.Sprintf("report %d c1@%d drained", s.Seq, s.Seq))
	if b.a.last.StateHash != "hash" {
		t.Errorf("hash is %q", b.a.last.StateHash)
	}
}

// A journal of another epoch is another history: nothing that was stored of the old one is reported for it, even at the
// same sequence.
func TestOtherEpoch(t *testing.T) {
	b := newBench(t)
	s := b.w.state.Clone()
	b.step(Restored{b.now, "E0", s, "old"})
	b.step(Installed{b.now, "E0", s.Seq})
	b.want(b.advance(s.Clone()), "install 3")
	b.want(b.install(3), "store 3, report 0")
	b.want(b.stored(3), "report 3")
	if b.a.last.Epoch != "E1" || b.a.last.StateHash != "hash 3" {
		t.Errorf("%+v", b.a.last)
	}
}

// Answers to what is not under way any more change nothing.
func TestStrayAnswers(t *testing.T) {
	b := newBench(t)
	b.settle()
	seq := b.w.state.Seq
	for _, in := range []Input{
		Installed{b.now, "E1", seq + 1}, Installed{b.now, "E0", seq}, Stored{b.now, "E1", seq + 1, "x"},
		Failed{b.now, Install{"E1", b.w.state}}, Failed{b.now, Store{"E1", b.w.state}}, Failed{b.now, Evict{}},
	} {
		if got := b.step(in); got != "" {
			t.Errorf("%T: %q", in, got)
		}
	}
	if b.a.applied().seq() != seq {
		t.Error("something moved")
	}
}
