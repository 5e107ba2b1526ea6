package events

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// A player sends random commands, most of them possible, some absurd. world.try checks what every decision must keep:
// Decide changes nothing, an accepted event applies, Evolve is Apply.
type player struct {
	*world
	r *rand.Rand
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (p *player) cutover() string { return fmt.Sprintf("c%d", 1+p.r.Uint64N(p.s.CutoverCount+2)) }
func (p *player) term() uint64    { return p.s.Office.Term - pick[uint64](p.r, 0, 0, 0, 0, 1) }
func (p *player) edge() string {
	return pick(p.r, "hz-1", "hz-2", "hz-3", "bj-1", "bj-2", "bj-3", "bj-4")
}

func (p *player) text() string { return pick(p.r, "", "why not", "\xff", "a\nb", long, "理由") }

func (p *player) ranges() map[string][]routing.Range {
	at := p.r.Uint32N(9999)
	a, b := pick(p.r, "center", "unbj", "third"), pick(p.r, "center", "unbj", "mars")
	m := map[string][]routing.Range{a: {{From: 0, To: at}}}
	m[b] = append(m[b], routing.Range{From: at + 1, To: 9999 + pick[uint32](p.r, 0, 0, 0, 1)})
	return m
}

func (p *player) checks() []Check {
	c := p.world.checks(pick(p.r, Pass, Pass, Warn, Fail))
	return c[:len(c)-pick(p.r, 0, 0, 0, 1)]
}

// running is a started cutover's id and its next wave, or anything.
func (p *player) running() (string, int) {
	if c, ok := p.s.Running("unit_type"); ok {
		return c.ID, c.NextWave() + pick(p.r, 0, 0, 0, 0, 1, -1)
	}
	return p.cutover(), p.r.IntN(3) - 1
}

func (p *player) config() Config {
	c := shopConfig()
	c.Units = append(c.Units, Unit{ID: "third", Name: p.text()})
	c.Clusters = append(c.Clusters, Cluster{ID: "ws-3", Unit: pick(p.r, "third", "third", "mars")})
	c.Domains[0].Units["third"] = DomainUnit{Cluster: "ws-3"}
	c.Rules = nil
	for _, drop := range []func(){
		func() { c.Units = nil }, func() { c.Clusters = nil }, func() { c.Domains = nil }, func() { c.LoadBalancers = nil }, func() { c.UnitTypes = nil },
		func() { c.Policy = &PolicyPatch{Hold: ptr(Duration(p.r.Int64N(int64(2 * time.Minute))))} },
		func() {
			c.Policy = &PolicyPatch{Ownership: ptr(pick(p.r, "available", "exclusive")), Lease: ptr(Duration(pick(p.r, 15, 30, 60)) * Duration(time.Second))}
		},
		func() { c.Hooks = &[]Hook{{Name: "page", URL: "http://127.0.0.1/x", On: pick(p.r, "pre", "post")}} },
		func() { c.Domains = append(c.Domains, otherDomain()) },
		func() { c.Units = c.Units[:min(2, len(c.Units))] }, func() { c.Clusters = []Cluster{} },
	} {
		if p.r.IntN(5) == 0 {
			drop()
		}
	}
	return c
}

// ending is a command that takes something away.
func (p *player) ending() Command {
	host := pick(p.r, "b.example", "websocket.msha.tech")
	counted := pick(p.r, nil, sessionsOf(host, 0), sessionsOf(host, 0), sessionsOf(host, 0), sessionsOf(host, 2), sessionsOf(host, 0, "hz-1"))
	force, why := p.r.IntN(3) == 0, pick(p.r, "gone", "gone", p.text())
	return pick[Command](p.r, RemoveDomain{host, force, why, counted}, DeactivateDomain{host, force, why, counted},
		RemoveUnit{ID: pick(p.r, "spare", "third", "center", "mars")}, RemoveCluster{ID: pick(p.r, "ws-3", "ws-hz-2")}, RemoveLoadBalancer{ID: pick(p.r, "slb-hz-1", "x")})
}

func (p *player) next() Command {
	id, wave := p.running()
	switch p.r.IntN(39) {
	case 0:
		return ApplyConfig{Base: p.s.ConfigVersion - pick[uint64](p.r, 0, 0, 0, 1), Config: p.config(), Prune: p.r.IntN(4) == 0, Drafts: p.r.IntN(3) == 0,
			Counted: append(sessionsOf("b.example", 0), sessionsOf("websocket.msha.tech", p.r.IntN(2))...)}
	case 1:
		return PutUnit{Unit{ID: pick(p.r, "third", "center", "Mars", "spare"), Name: p.text(), Center: p.r.IntN(2) == 0}}
	case 2:
		return PutCluster{Cluster{ID: pick(p.r, "ws-hz-2", "ws-bj-2", "ws-3"), Unit: pick(p.r, "center", "unbj", "third")}}
	case 3:
		return PutDomain{domain(func(d *Domain) { d.Scheme = pick(p.r, "", "wss", "ftp") })}
	case 4:
		return pick[Command](p.r, ActivateDomain{Host: "websocket.msha.tech"}, ActivateDomain{Host: "b.example"}, p.ending())
	case 36, 37:
		return p.ending()
	case 35:
		return ApplyConfig{Base: p.s.ConfigVersion, Config: Config{Namespace: "shop", Policy: &PolicyPatch{Ownership: ptr(pick(p.r, "available", "exclusive", "exclusive"))}}}
	case 5, 6:
		return joinOf(p.edge())
	case 7:
		return pick[Command](p.r, p.leave(), RetireEdge{ID: p.edge(), Reason: p.text()}, CreateNamespace{}, InitRules{})
	case 8:
		take := TakeOffice{Term: p.term() + 1, Holder: "driver"}
		return pick[Command](p.r, take, take, RefuseCommand{Entity: "unit", Verb: "put", ID: directoryOf("x"), Code: "expired"})
	case 9, 10:
		return PreviewCutover{Ranges: p.ranges(), Waves: p.r.IntN(5), Rate: pick(p.r, nil, nil, ptr(Rate(0)), ptr(Rate(-3))), Gate: pick(p.r, nil, &Gate{Landed: 50})}
	case 11:
		return PreviewCutover{Exact: map[string][]string{pick(p.r, "center", "unbj"): {pick(p.r, "4001", "vip-7", "用户", "a b"), "x"}}}
	case 12:
		return CheckCutover{Cutover: p.cutover(), Checks: p.checks(), Reason: p.text()}
	case 13:
		k := pick(p.r, p.world.checks(Pass)...)
		return RetryCheck{Cutover: p.cutover(), Check: k.ID, Result: k}
	case 14:
		return SkipCheck{Cutover: pick(p.r, id, p.cutover()), Check: pick(p.r, "", "", "edges-at-head"), Edge: pick(p.r, "", p.edge()), Reason: p.text()}
	case 15:
		return StartCutover{Cutover: p.cutover(), Checks: p.world.checks(Pass)}
	case 16:
		return PauseCutover{Cutover: id, Reason: p.text(), Term: pick(p.r, 0, p.term())}
	case 17:
		return ResumeCutover{Cutover: id}
	case 18:
		return pick[Command](p.r, ResumeCutover{Cutover: id}, ResumeCutover{Cutover: id}, AbortCutover{Cutover: id})
	case 19, 20:
		return FenceWave{Cutover: id, Wave: wave, Term: p.term()}
	case 21, 22:
		return CommitWave{Cutover: id, Wave: wave, Term: p.term(), Edges: p.reports()[:max(0, len(p.reports())-pick(p.r, 0, 0, 1))]}
	case 23, 24:
		return PreviewCutover{Drain: pick(p.r, "center", "unbj", "mars"), DrainTo: pick(p.r, "", "", "third"), Emergency: p.r.IntN(3) == 0, Reason: p.text(),
			Steps: pick(p.r, nil, nil, []int{1, 50, 100}, []int{50}), Gate: pick(p.r, nil, &Gate{Landed: p.r.IntN(150)}), Interval: Duration(p.r.IntN(3)) - 1}
	case 25:
		return pick[Command](p.r, RollbackCutover{Cutover: id}, RollbackCutover{Cutover: p.cutover(), Term: pick(p.r, 0, p.term()), Reason: p.text()})
	case 27, 31, 32, 33, 34, 38:
		return p.step()
	case 26:
		return JudgeWave{Cutover: id, Wave: wave - 1, Term: p.term(), Result: GateResult{OK: p.r.IntN(3) > 0, Message: "as measured"}}
	case 28:
		return pick[Command](p.r, FailCutover{Cutover: id, Term: p.term(), Why: Why{"hook_failed", "no"}}, EstablishOwnership{Term: p.term(), Since: p.s.Exclusive.Since})
	case 29:
		return pick[Command](p.r, EstablishOwnership{Term: p.term(), Since: p.s.Exclusive.Since}, RecordHook{Cutover: p.cutover(), Term: p.term(), Result: HookResult{Name: "page", On: pick(p.r, "pre", "post"), OK: true}})
	case 30:
		return ReportCutover{Cutover: p.cutover(), Term: p.term(), Report: CutoverReport{Edges: []ReportedEdge{}}}
	default:
		return CompleteCutover{Cutover: id, Term: p.term()}
	}
}

// step is what a driver would do next: without it few random histories get beyond a commit.
func (p *player) step() Command {
	c, ok := p.s.Running("unit_type")
	next, term := c.NextWave(), p.s.Office.Term
	switch {
	case p.s.Exclusive.Since > 0 && !p.s.Exclusive.Counts() && p.r.IntN(2) == 0:
		return EstablishOwnership{Term: term, Since: p.s.Exclusive.Since}
	case !ok:
		return StartCutover{Cutover: fmt.Sprintf("c%d", p.s.CutoverCount), Checks: p.world.checks(Pass)}
	case c.State == Paused:
		return ResumeCutover{Cutover: c.ID}
	case c.FencedWave() >= 0:
		return CommitWave{Cutover: c.ID, Wave: next, Term: term, Edges: p.reports()}
	case c.called() != nil:
		return RecordHook{Cutover: c.ID, Term: term, Result: HookResult{Name: "page", On: "pre", OK: p.r.IntN(4) > 0}}
	case c.judged() != nil:
		return JudgeWave{Cutover: c.ID, Wave: next - 1, Term: term, Result: GateResult{OK: p.r.IntN(3) > 0, Message: "as measured"}}
	case next < len(c.Waves):
		return FenceWave{Cutover: c.ID, Wave: next, Term: term}
	default:
		return CompleteCutover{Cutover: c.ID, Term: term}
	}
}

// invariants are what holds in every state that commands can lead to.
func (p *player) invariants() {
	p.t.Helper()
	if err := p.s.intact(); err != nil {
		p.t.Fatalf("at %d: %v", p.s.Seq, err)
	}
	if err := p.s.sound(); err != nil {
		p.t.Fatalf("at %d: %v", p.s.Seq, err)
	}
	idle := 0
	for _, c := range p.s.CutoverList() {
		if !c.State.Running() {
			idle++
		}
		committed, fenced := true, 0
		for _, w := range c.Waves {
			if w.State == CommittedWave && !committed {
				p.t.Fatalf("%s: a committed wave behind one that is not: %+v", c.ID, c.Waves)
			}
			committed = w.State == CommittedWave
			if w.State == FencedWave {
				fenced++
			}
		}
		if fenced > 1 || fenced == 1 && c.State != Started {
			p.t.Fatalf("%s is %s with %d fenced waves", c.ID, c.State, fenced)
		}
	}
	if idle > MaxIdleCutovers {
		p.t.Fatalf("%d idle cutovers", idle)
	}
	if tab := p.s.Table("unit_type"); tab != nil {
		for _, id := range []string{"1111", "6249", "8330", "4001", "vip-7", "用户"} {
			if r := tab.Lookup(id); r.Unit == "" || r.Unit == r.Next {
				p.t.Fatalf("%s routes to %+v", id, r)
			}
		}
	}
}

func TestRandomHistories(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(12) {
		p := &player{shop(t), rand.New(rand.NewPCG(seed, 1))}
		for range 300 {
			p.now = p.now.Add(time.Duration(p.r.IntN(20)) * time.Second)
			c := p.next()
			raw, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			before := fmt.Sprintf("%+v", c)
			_, _ = p.try(c)
			after, _ := json.Marshal(c)
			if string(raw) != string(after) || fmt.Sprintf("%+v", c) != before {
				t.Fatalf("seed %d: deciding changed the command to %s", seed, after)
			}
		}
		p.invariants()
		for _, r := range p.records {
			seen[r.Type]++
		}
		replay(t, p.r, p.world)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	for name := range wireTypes {
		if seen[name] == 0 && name != "NamespaceCreated" && name != "RulesInitialized" && name != "LoadBalancerPut" {
			t.Errorf("no history holds a %s", name)
		}
	}
	t.Log(seen)
}

// replay folds a journal again, by way of a snapshot somewhere in the middle, and compares every hash (G4).
func replay(t *testing.T, r *rand.Rand, w *world) {
	t.Helper()
	s := NewState()
	at := uint64(1 + r.IntN(len(w.records)))
	var snap, frozen *State
	var frozenHash string
	for _, rec := range w.records {
		if err := s.Apply(rec); err != nil {
			t.Fatal(err)
		}
		if snap != nil {
			if err := snap.Apply(rec); err != nil || snap.Hash() != s.Hash() {
				t.Fatalf("at %d the state behind the snapshot of %d differs: %v", rec.Seq, at, err)
			}
		}
		if rec.Seq == at {
			b := s.Encode()
			var err error
			if snap, err = DecodeState(b); err != nil || snap.Hash() != s.Hash() {
				t.Fatalf("snapshot at %d: %v", at, err)
			}
			frozen = s.Clone()
			frozenHash = frozen.Hash()
		}
	}
	if s.Hash() != w.s.Hash() {
		t.Fatal("the second fold differs from the first")
	}
	if frozen.Hash() != frozenHash {
		t.Fatalf("a clone of %d changed while the original went on", at)
	}
}

func (p *player) leave() LeaveEdge {
	id := p.edge()
	return LeaveEdge{ID: id, Directory: directoryOf(id)}
}

// A clone and its original go separate ways.
func TestCloneIsIsolated(t *testing.T) {
	w := history(t)
	back := PreviewCutover{Ranges: shopConfig().Rules["unit_type"].Ranges}
	w.do(back)
	w.do(StartCutover{Cutover: "c3", Checks: w.checks(Pass)})
	a := w.s.Clone()
	before := w.s.Hash()
	c := &world{t: t, s: a, now: w.now, count: 1000}
	for _, cmd := range []Command{
		PutUnit{Unit{ID: "new"}}, joinOf("hz-7"), LeaveEdge{ID: "hz-1", Directory: directoryOf("hz-1")}, TakeOffice{Term: 9, Holder: "x"},
		FenceWave{Cutover: "c3", Term: 9}, SkipCheck{Cutover: "c3", Edge: "bj-1", Reason: "x"}, PauseCutover{Cutover: "c3"}, AbortCutover{Cutover: "c3"}, RemoveDomain{Host: "websocket.msha.tech", Force: true, Reason: "x", Counted: []DomainSessions{{Host: "websocket.msha.tech"}}}, back,
	} {
		c.do(cmd)
		if w.s.Hash() != before {
			t.Fatalf("%T on the clone changed the original", cmd)
		}
	}
	// Every map of a State must have been cloned, also one that is added later.
	for i := range reflect.TypeFor[State]().NumField() {
		x, y := reflect.ValueOf(w.s).Elem().Field(i), reflect.ValueOf(w.s.Clone()).Elem().Field(i)
		if x.Kind() == reflect.Map && x.Pointer() == y.Pointer() {
			t.Errorf("Clone shares %s", reflect.TypeFor[State]().Field(i).Name)
		}
	}
}

// NeededEdges agrees with going through the slots one by one.
func TestNeededEdgesAgainstBruteForce(t *testing.T) {
	p := &player{shop(t), rand.New(rand.NewPCG(9, 9))}
	p.do(PutUnit{Unit{ID: "third"}})
	p.do(PutCluster{Cluster{ID: "ws-3", Unit: "third"}})
	p.do(PutDomain{domain(func(d *Domain) { d.Units["third"] = DomainUnit{Cluster: "ws-3"} })})
	p.do(ActivateDomain{Host: "websocket.msha.tech"})
	p.do(JoinEdge{ID: "x-1", Directory: directoryOf("x-1"), Unit: "third", Cluster: "ws-3", Address: "h:1"})
	for range 50 {
		e, err := p.try(PreviewCutover{Ranges: p.ranges(), Exact: map[string][]string{"third": {"x", "4001"}}, Waves: 1 + p.r.IntN(4)})
		if err != nil {
			continue
		}
		c := p.s.Cutovers[e.(CutoverProposed).Cutover]
		for i, w := range c.Waves {
			loses, gains := map[string]bool{}, map[string]bool{}
			for _, rg := range w.Slots {
				for s := rg.From; s <= rg.To; s++ {
					loses[c.From.SlotOwner(s)], gains[c.To.SlotOwner(s)] = true, true
				}
			}
			for id := range w.Exact.All() {
				a, _ := c.From.Owner(id)
				b, _ := c.To.Owner(id)
				loses[a], gains[b] = true, true
			}
			var want []NeededEdge
			for _, e := range p.s.LiveEdges() {
				if loses[e.Unit] || gains[e.Unit] {
					want = append(want, NeededEdge{e, loses[e.Unit], gains[e.Unit]})
				}
			}
			if got := p.s.NeededEdges(&c, i); !slices.Equal(got, want) {
				t.Fatalf("wave %d of %s: got %+v, want %+v", i, c.ID, got, want)
			}
		}
	}
}
