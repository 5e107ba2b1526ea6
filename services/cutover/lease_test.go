package cutover

import (
	"slices"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// L and m of these tests.
const (
	testLease = 30 * time.Second
	silentAt  = testLease + events.LeaseMargin
)

func ptr[T any](v T) *T { return &v }

// policy changes the ownership or the lease.
func (l *ledger) policy(t testing.TB, p events.PolicyPatch) {
	t.Helper()
	l.do(t, events.ApplyConfig{Base: l.head.ConfigVersion, Config: events.Config{Namespace: testNamespace, Policy: &p}})
}

// exclusiveRig is a driver in office under exclusive ownership that does not count yet.
func exclusiveRig(t *testing.T) *rig {
	r := newRig(t)
	r.policy(t, events.PolicyPatch{Ownership: ptr("exclusive")})
	r.nothing(r.serve(), "no edge holds a lease")
	return r
}

// request is what an edge asks that has done everything.
func (r *rig) request(edge string, held time.Duration) events.LeaseRequest {
	r.nonce++ // the first is 7: none that counts from 0
	return events.LeaseRequest{EdgeReport: r.report(edge), Nonce: 6 + r.nonce, Held: events.Duration(held)}
}

// ask returns the driver's answer, and what else it wanted.
func (r *rig) ask(q events.LeaseRequest) (*events.LeaseAnswer, []Output) {
	r.t.Helper()
	return r.askAs(q, "")
}

// askAs is ask of an edge that signs.
func (r *rig) askAs(q events.LeaseRequest, signer string) (*events.LeaseAnswer, []Output) {
	r.t.Helper()
	var answer *events.LeaseAnswer
	var rest []Output
	for _, o := range r.d.Step(Asked{r.at(), q, "inbox", signer}) {
		if a, ok := o.(AnswerLease); ok {
			if answer != nil || a.Reply != "inbox" {
				r.t.Fatalf("answers %+v and %+v", answer, a)
			}
			answer = &a.Answer
		} else {
			rest = append(rest, o)
		}
	}
	return answer, rest
}

// granted asks for an edge and wants a grant.
func (r *rig) granted(edge string) []Output {
	r.t.Helper()
	a, rest := r.ask(r.request(edge, testLease))
	if a == nil || a.Lease != events.Duration(testLease) {
		r.t.Fatalf("edge %s gets %+v", edge, a)
	}
	return rest
}

var allEdges = []string{"b1", "b2", "h1", "h2"}

// established brings exclusive ownership to count.
func establishedRig(t *testing.T) *rig {
	r := exclusiveRig(t)
	var out []Output
	for _, id := range allEdges {
		out = r.granted(id)
	}
	r.accept(r.only(out))
	if !r.head.Exclusive.Counts() {
		t.Fatal("not established")
	}
	return r
}

// leases lets time pass in which these edges ask every two seconds and the office is renewed.
func (r *rig) leases(d time.Duration, edges ...string) (out []Output) {
	for end := r.now + d; r.now < end; {
		out = append(out, r.hold(min(events.LeaseEvery, end-r.now))...)
		for _, id := range edges {
			a, rest := r.ask(r.request(id, testLease))
			if a == nil || a.Lease == 0 {
				r.t.Fatalf("edge %s gets %+v", id, a)
			}
			out = append(out, rest...)
		}
	}
	return out
}

// R1, R2, R4, R7: who gets a lease, and what a grant echoes.
func TestLeaseIsGranted(t *testing.T) {
	r := exclusiveRig(t)
	q := r.request("b1", 0)
	a, _ := r.ask(q)
	want := events.LeaseAnswer{Namespace: testNamespace, Epoch: testEpoch, Edge: "b1", Incarnation: "p-b1", Nonce: 7, Term: 1, Lease: events.Duration(testLease)}
	if a == nil || *a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
}

func TestLeaseIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before func(*rig)
		change func(*events.LeaseRequest)
		code   string // "": no answer at all
	}{
		{"R1 a driver that stands by", func(r *rig) { r.d = NewDriver(DriverConfig{Epoch: testEpoch, Holder: "other"}); r.read() }, nil, ""},
		{"R1 the own term is over", func(r *rig) { r.wait(Term) }, nil, ""},
		{"another journal", nil, func(q *events.LeaseRequest) { q.Epoch = "epoch-0" }, ""},
		{"another namespace", nil, func(q *events.LeaseRequest) { q.Namespace = "other" }, ""},
		{"R4 behind the policy", nil, func(q *events.LeaseRequest) { q.Applied = 1 }, "behind"},
		{"R7 not registered", nil, func(q *events.LeaseRequest) { q.Edge = "b9" }, "unknown_edge"},
		{"R7 another unit", nil, func(q *events.LeaseRequest) { q.Unit = "center" }, "unknown_edge"},
		{"R7 another state directory", nil, func(q *events.LeaseRequest) { q.Directory = directoryOf("x") }, "edge_elsewhere"},
		{"R7 retired", func(r *rig) { r.do(r.t, events.RetireEdge{ID: "b1"}); r.read() }, nil, "edge_gone"},
		{"R7 two processes", func(r *rig) { r.granted("b1") }, func(q *events.LeaseRequest) { q.Incarnation = "clone" }, "two_processes"},
		{"available", func(r *rig) { r.policy(r.t, events.PolicyPatch{Ownership: ptr("available")}); r.read() }, nil, "wrong_state"},
		{"older than what it said before", func(r *rig) { r.hear(r.report("b1")) }, func(q *events.LeaseRequest) { q.Applied-- }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := exclusiveRig(t)
			q := r.request("b1", 0)
			if tc.before != nil {
				tc.before(r)
			}
			if tc.change != nil {
				tc.change(&q)
			}
			a, _ := r.ask(q)
			switch {
			case tc.code == "" && a != nil:
				t.Errorf("answers %+v", a)
			case tc.code != "" && (a == nil || a.Lease != 0 || a.Refused == nil || a.Refused.Code != tc.code):
				t.Errorf("want %s, got %+v", tc.code, a)
			}
		})
	}
}

// A journal that takes the place of another grants nothing until a driver was in office for L+m: leases of the one before
// may run. From then on the key says so, and a successor grants at once, but not one of a third journal.
func TestNewEpochWaitsForTheLeasesBefore(t *testing.T) {
	for name, before := range map[string]OfficeKey{
		"no key":          {},
		"another journal": {Revision: 1, OfficeValue: OfficeValue{Term: 7, Epoch: "epoch-0"}},
		"not long enough": {Revision: 1, OfficeValue: OfficeValue{Term: 7}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.policy(t, events.PolicyPatch{Ownership: ptr("exclusive")})
			r.rev = before.Revision
			r.serveAfter(before)
			began := r.now
			for r.now < began+silentAt-50*time.Millisecond {
				if a, _ := r.ask(r.request("b1", 0)); a == nil || a.Lease != 0 || a.Refused.Code != "new_epoch" {
					t.Fatalf("%s after taking office: %+v", r.now-began, a)
				}
				if k := r.d.office.key; k.Epoch != "" {
					t.Fatalf("%s after taking office the key says %+v", r.now-began, k)
				}
				r.hold(min(time.Second, began+silentAt-50*time.Millisecond-r.now))
			}
			r.hold(50 * time.Millisecond)
			r.granted("b1")
			r.hold(RenewEvery + 50*time.Millisecond)
			if k := r.d.office.key; k.OfficeValue != (OfficeValue{"me", before.Term + 1, testEpoch}) {
				t.Fatalf("the key says %+v", k)
			}
			for epoch, waits := range map[string]bool{testEpoch: false, "epoch-2": true} {
				next := NewDriver(DriverConfig{Epoch: epoch, Holder: "next"})
				next.Step(StateAdvanced{r.at(), r.head, epoch})
				next.Step(OfficeRead{At: r.at(), Key: r.d.office.key})
				w := writes(next.Step(Tick{At{r.now + Term + TermMargin}}))
				if len(w) != 1 || (w[0].Value.Epoch == "") != waits {
					t.Errorf("a successor of %s writes %+v", epoch, w)
				}
			}
		})
	}
}

// Two processes under one id: neither is granted anything while both speak, and the one that is left is (R7).
func TestLeaseOfTwoProcesses(t *testing.T) {
	r := exclusiveRig(t)
	r.granted("b1")
	clone := r.request("b1", 0)
	clone.Incarnation = "clone"
	for range 3 {
		r.hold(time.Second)
		if a, _ := r.ask(clone); a == nil || a.Lease != 0 {
			t.Fatalf("the clone gets %+v", a)
		}
		r.hold(time.Second)
		if a, _ := r.ask(r.request("b1", testLease)); a == nil || a.Lease != 0 {
			t.Fatalf("the first one gets %+v", a)
		}
	}
	r.hold(rivalWindow)
	r.granted("b1")
}

// R4: a fence that the edge has not applied, whatever became of the fence: lifted, committed, or of a cutover that the
// state has forgotten. The refusal says what is missing.
func TestLeaseNeedsTheNewestFence(t *testing.T) {
	r := establishedRig(t)
	lagging := r.request("b1", testLease)
	refused := func(why string) {
		t.Helper()
		lagging.Nonce++
		if a, _ := r.ask(lagging); a == nil || a.Lease != 0 || a.Needs != r.head.Exclusive.Fence || a.Needs <= lagging.Applied {
			t.Fatalf("%s: %+v", why, a)
		}
	}
	r.start(t, 1)
	r.accept(r.only(r.read()))
	refused("fenced")
	r.do(t, events.PauseCutover{Cutover: "c1"})
	r.read()
	refused("lifted")
	r.do(t, events.AbortCutover{Cutover: "c1"})
	for range events.MaxIdleCutovers + 1 {
		r.do(t, events.PreviewCutover{Ranges: rangesOf("0-11", "12-15")})
	}
	r.read()
	if _, ok := r.head.Cutovers["c1"]; ok {
		t.Fatal("c1 is still there")
	}
	refused("forgotten")
	r.granted("b2")
}

// An edge that still goes by exclusive ownership when nothing else does is told where to read so: it would refuse everybody
// until it has heard of it otherwise.
func TestRefusalNamesTheEndOfExclusive(t *testing.T) {
	r := establishedRig(t)
	lagging := r.request("b1", testLease)
	r.policy(t, events.PolicyPatch{Ownership: ptr("available")})
	r.read()
	if a, _ := r.ask(lagging); a == nil || a.Lease != 0 || a.Needs != r.head.Seq || a.Needs <= lagging.Applied {
		t.Fatalf("%+v at %d", a, r.head.Seq)
	}
}

// R5: an edge that has applied the fence and not drained keeps its lease and blocks the commit, however long; one that
// is granted nothing is silent L+m after the last grant, to the moment.
func TestSilence(t *testing.T) {
	r := establishedRig(t)
	r.start(t, 1)
	r.accept(r.only(r.read()))
	slow := func() events.LeaseRequest {
		q := r.request("b1", testLease)
		q.Fences[0].Drained = false
		q.Fences[0].Evicted = int(r.now / time.Second) // it goes on
		return q
	}
	for range 20 {
		r.nothing(r.leases(events.LeaseEvery, "b2", "h1", "h2"), "b1 has not drained")
		if a, rest := r.ask(slow()); a == nil || a.Lease == 0 {
			t.Fatalf("%+v", a)
		} else {
			r.nothing(rest, "b1 has not drained")
		}
	}
	last := r.now
	r.nothing(r.leases(silentAt-time.Second, "b2", "h1", "h2"), "the lease of b1 may run")
	if left := r.d.leases().Silence; len(left) != 1 || left["b1"] != 1 {
		t.Errorf("shown: %v", left)
	}
	r.nothing(r.hold(last+silentAt-time.Millisecond-r.now), "the lease of b1 may run")
	c, ok := r.only(r.hold(50 * time.Millisecond)).Command.(events.CommitWave)
	i := slices.IndexFunc(c.Edges, func(e events.EdgeResult) bool { return e.ID == "b1" })
	if !ok || i < 0 || !c.Edges[i].Silent || slices.ContainsFunc(c.Edges, func(e events.EdgeResult) bool { return e.Silent && e.ID != "b1" }) {
		t.Fatalf("%+v", c)
	}
	r.accept(r.only(submitted(c, r)))
}

// submitted is the command that is under way, for accept.
func submitted(c events.Command, r *rig) []Output {
	for _, j := range r.d.jobs {
		if _, ok := j.env.Command.(events.CommitWave); ok {
			return []Output{Submit{j.env}}
		}
	}
	r.t.Fatalf("%T is not under way", c)
	return nil
}

// R5, R8: a gaining edge may be silent, too; R7: a retired edge gets no lease and is still waited for.
func TestSilenceOfGainingAndRetired(t *testing.T) {
	r := establishedRig(t)
	r.start(t, 1)
	r.accept(r.only(r.read()))
	r.do(t, events.RetireEdge{ID: "b2"})
	r.read()
	if left := r.d.leases().Silence["b2"]; left == 0 {
		t.Error("that a retired edge is waited for is not shown")
	}
	r.nothing(r.leases(silentAt-2*time.Second, "b1", "h1"), "the leases of b2 and h2 may run")
	c, ok := r.only(r.leases(4*time.Second, "b1", "h1")).Command.(events.CommitWave)
	if !ok || len(c.Edges) != 4 || !c.Edges[1].Silent || !c.Edges[3].Silent || c.Edges[0].Silent || c.Edges[2].Silent {
		t.Fatalf("%+v", c)
	}
}

// R5: a successor knows nothing of the grants before: silence counts from its own taking office, not from the fence.
func TestSilenceOfASuccessor(t *testing.T) {
	r := establishedRig(t)
	r.start(t, 1)
	r.accept(r.only(r.read()))
	r.now += time.Hour // the first one is gone; nobody was granted anything for very long
	r.d = NewDriver(DriverConfig{Epoch: testEpoch, Holder: "successor", ID: func(n uint64) string { return r.id() }})
	r.read()
	r.d.Step(OfficeRead{At: r.at(), Key: OfficeKey{r.rev, OfficeValue{"me", 1, testEpoch}}})
	out := r.wait(Term + TermMargin)
	r.accept(r.only(r.acknowledge(writes(out)[0])))
	if !r.d.Serving() {
		t.Fatal("not in office")
	}
	r.nothing(r.leases(silentAt-2*time.Second, "b2", "h1", "h2"), "b1 may hold a lease of the driver before")
	if c, ok := r.only(r.leases(4*time.Second, "b2", "h1", "h2")).Command.(events.CommitWave); !ok || !c.Edges[0].Silent {
		t.Fatalf("%+v", c)
	}
}

// A term that is renewed after it had run out is the same tenure: nobody else was in office.
func TestTenureOutlivesALateRenewal(t *testing.T) {
	r := establishedRig(t)
	since := r.d.tenure.since
	for _, w := range writes(r.wait(Term + time.Second)) {
		r.acknowledge(w)
	}
	for !r.d.Serving() {
		out := r.d.Step(OfficeRead{At: r.at(), Key: OfficeKey{r.rev, OfficeValue{"me", 1, testEpoch}}})
		out = append(out, r.wait(time.Second)...)
		for _, w := range writes(out) {
			r.acknowledge(w)
		}
	}
	if r.d.tenure.since != since || r.d.Term() != 1 {
		t.Errorf("tenure %+v, before since %s", r.d.tenure, since)
	}
}

// R13: exclusive ownership counts once every registered edge has said, of the policy in force, that it holds a lease; until
// then no wave is fenced.
func TestEstablish(t *testing.T) {
	r := exclusiveRig(t)
	r.start(t, 1)
	r.nothing(r.read(), "not established")
	for _, id := range allEdges[1:] {
		r.granted(id)
	}
	if a, out := r.ask(r.request("b1", 0)); a.Lease == 0 || len(submits(out)) > 0 {
		t.Errorf("b1 holds no lease yet: %+v, %v", a, out)
	}
	if got := r.d.leases().Unleased; !slices.Equal(got, []string{"b1"}) {
		t.Errorf("shown as without a lease: %v", got)
	}
	env := r.only(r.granted("b1"))
	if _, ok := env.Command.(events.EstablishOwnership); !ok {
		t.Fatalf("%#v", env.Command)
	}
	if c, ok := r.only(r.accept(env)).Command.(events.FenceWave); !ok || c.Wave != 0 {
		t.Fatalf("%#v", c)
	}
}

// R13: after a change of L the longer one is waited for until every edge says that it holds a lease of the new length.
func TestChangeOfLength(t *testing.T) {
	r := establishedRig(t)
	r.policy(t, events.PolicyPatch{Lease: ptr(events.Duration(20 * time.Second))})
	r.read()
	for _, id := range allEdges { // with the old length
		if a, out := r.ask(r.request(id, testLease)); a.Lease != events.Duration(20*time.Second) || len(submits(out)) > 0 {
			t.Fatalf("%+v, %v", a, out)
		}
	}
	if r.d.silentIn("b1") != silentAt {
		t.Errorf("silent in %s", r.d.silentIn("b1"))
	}
	var out []Output
	for _, id := range allEdges {
		_, out = r.ask(r.request(id, 20*time.Second))
	}
	r.accept(r.only(out))
	if got := r.d.silentIn("b1"); got != 20*time.Second+events.LeaseMargin {
		t.Errorf("silent in %s", got)
	}
}

// A wave that waits for silence is not given up before it could have come.
func TestPatienceOutlivesALease(t *testing.T) {
	r := establishedRig(t)
	r.policy(t, events.PolicyPatch{Lease: ptr(events.Duration(2 * time.Minute))})
	r.read()
	var out []Output
	for _, id := range allEdges {
		_, out = r.ask(r.request(id, 2*time.Minute))
	}
	r.accept(r.only(out))
	r.start(t, 1)
	r.accept(r.only(r.read()))
	got := r.only(r.leases(2*time.Minute+2*events.LeaseEvery, "b2", "h1", "h2"))
	if c, ok := got.Command.(events.CommitWave); !ok || !c.Edges[0].Silent {
		t.Errorf("%#v", got.Command)
	}
}
