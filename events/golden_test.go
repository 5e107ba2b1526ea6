package events

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files in testdata")

// golden compares with testdata/name, or writes it under -rewrite.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run go test -rewrite", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs: journals that exist could not be read, or would fold to another state. If that is meant, run go test -rewrite.\ngot\n%s", path, got)
	}
}

// samples are one event of every type with every field filled.
func samples(t *testing.T) []Event {
	rules, err := routing.NewRules(10, map[string][]routing.Range{"center": {{From: 0, To: 5}}, "unbj": {{From: 6, To: 9}}}, map[string][]string{"unbj": {"vip-7", "4001"}})
	if err != nil {
		t.Fatal(err)
	}
	d := shopDomain()
	d.Protocol, d.Scheme, d.Correction, d.DNS = "websocket", "auto", "redirect", DNS{Provider: "none", MultiUnit: true}
	ch := Changes{
		Policy: ptr(DefaultPolicy()), UnitTypes: []UnitType{{Name: "unit_type", Slots: 10, RouterID: []string{"header:routerId"}, Unmarked: "local"}},
		Units: []Unit{{ID: "center", Name: "杭州中心", Center: true}}, Clusters: []Cluster{{ID: "ws-hz-2", Unit: "center", Protocol: "websocket", Instances: []string{"hz-1"}}},
		LoadBalancers: []LoadBalancer{{ID: "slb", Cluster: "ws-hz-2", Address: "203.0.113.10"}}, Drafts: []Domain{d}, Activated: []string{d.Host},
		Rules: map[string]*routing.Rules{"unit_type": rules}, Removed: Removed{Units: []string{"u"}, Clusters: []string{"c"}, LoadBalancers: []string{"l"}, Domains: []string{"d"}},
	}
	probed := d
	probed.URIs = []URI{{Path: "/", Origins: d.URIs[0].Origins, ConnectTimeout: Duration(2 * time.Second), Health: &Health{
		Probe: "http", Path: "/healthz", Expect: "2xx-3xx", Interval: Duration(5 * time.Second), Timeout: Duration(2 * time.Second), Rise: 2, Fall: 3,
	}}}
	check := Check{ID: "edges-at-head", State: Warn, Message: "one is slow", Measured: "3 of 4 edges", Threshold: "4 of 4 edges", At: start}
	gate := Gate{Landed: 90, HandshakeErrors: 5, OriginErrors: 6, Window: DefaultGateWindow, Action: "rollback"}
	ch.Hooks = &[]Hook{{Name: "page", URL: "https://ops.example/hook", On: "pre", Wait: "success", Timeout: Duration(time.Second)}}
	return []Event{
		NamespaceCreated{Namespace: "shop", Changes: Changes{}},
		ConfigApplied{Namespace: "shop", Changes: ch},
		UnitPut{Unit{ID: "center", Name: "杭州中心", Center: true}}, ClusterPut{ch.Clusters[0]}, LoadBalancerPut{ch.LoadBalancers[0]}, DomainPut{d}, DomainPut{probed},
		DomainActivated{Host: "a.example"}, DomainRemoved{DomainEnd{DomainSessions: DomainSessions{Host: "a.example"}}}, RulesInitialized{UnitType: "unit_type", Rules: rules},
		EdgeJoined{ID: "hz-1", Directory: directoryOf("hz-1"), Unit: "center", Cluster: "ws-hz-2", Address: "10.0.0.1:7101", Capacity: 10}, EdgeLeft{ID: "hz-1"},
		EdgeJoined{ID: "hz-2", Directory: directoryOf("hz-2"), Unit: "center", Cluster: "ws-hz-2", Address: "10.0.0.1:7101", Succeeds: "hz-1", SucceedsDirectory: directoryOf("hz-1")}, EdgeRetired{ID: "hz-1", Reason: "burnt"},
		DriverTookOffice{Term: 7, Holder: "driver-a", Key: strings.Repeat("5a", 32)},
		CutoverProposed{
			Cutover: "c1", UnitType: "unit_type", RuleFrom: 1, RuleTo: 2, Rules: rules, Moves: []routing.Move{{From: 5, To: 6, Source: "unbj", Target: "center"}},
			ExactMoves: []routing.ExactMove{{ID: "x", Source: "unbj", Target: "center"}}, Diff: "- 0-5 center\n",
			Waves: []Share{{Slots: []routing.Range{{From: 5, To: 5}, {From: 6, To: 9}}, Exact: []string{"x"}}}, Counted: Count{Sessions: 3, SilentEdges: []string{"hz-2"}},
		},
		CutoverProposed{
			Cutover: "c1", UnitType: "unit_type", RuleFrom: 1, RuleTo: 2, Moves: []routing.Move{}, ExactMoves: []routing.ExactMove{{ID: "x", Source: "unbj", Target: "center"}}, ExactCount: 300,
			Change: routing.Change{
				Ranges: map[string][]routing.Range{"center": {{From: 0, To: 9}}}, Exact: map[string][]string{"center": {"x"}}, ExactDelta: map[string]routing.Packed{"unbj": routing.Pack(routing.MustIDs("7", "9"))},
				Drop: []string{"y"}, DropDelta: routing.Pack(routing.MustIDs("z")),
			},
			Waves: []Share{{ExactCount: 100}, {Slots: []routing.Range{{From: 5, To: 5}}, ExactCount: 200}}, Counted: Count{SilentEdges: []string{}},
		},
		CutoverChecked{Cutover: "c1", Checks: []Check{check}}, CutoverSkipped{Cutover: "c1", Check: "edges-at-head", Reason: "known"},
		CutoverStarted{Cutover: "c1", Checks: []Check{check}}, CutoverPaused{Cutover: "c1", Why: Why{"operator", "lunch"}}, CutoverResumed{Cutover: "c1"},
		CutoverAborted{Cutover: "c1", Why: Why{"operator", "no"}}, WaveFenced{Cutover: "c1", Wave: 1, Term: 7},
		WaveCommitted{Cutover: "c1", Wave: 1, Term: 7, Edges: []EdgeResult{{ID: "hz-1", Unit: "center", Applied: 9, Fence: 8, Drained: true, Evicted: 2, Skipped: true}, {ID: "hz-2", Unit: "center", Silent: true}}},
		CutoverCompleted{Cutover: "c1", Term: 7},
		CommandRefused{Entity: "unit", Verb: "put", ID: directoryOf("hz-1"), Code: "expired"},
		CutoverRolledBack{Cutover: "c1", Why: Why{"gate", "landed 3 of 10"}, Back: CutoverProposed{
			Cutover: "c2", UnitType: "unit_type", RuleFrom: 2, RuleTo: 3, Rules: rules, Moves: []routing.Move{}, ExactMoves: []routing.ExactMove{},
			Waves: []Share{{Exact: []string{"x"}}}, Interval: Duration(time.Second), Gate: gate, Drain: "unbj", Emergency: true, RollbackOf: "c1", Auto: true,
			Counted: Count{Sessions: 3, Largest: 2, SilentEdges: []string{}},
		}},
		WaveJudged{Cutover: "c1", Wave: 1, Term: 7, Result: GateResult{OK: true, Message: "10 of 10", Evicted: 10, Compared: 10, Landed: 10, Handshakes: 20, HandshakeErrors: 1, Dials: 20, DialErrors: 2, Missing: []string{"edge hz-2 does not answer"}}},
		CutoverFailed{Cutover: "c1", Term: 7, Why: Why{"hook_failed", "hook page answered 503"}},
		HookCalled{Cutover: "c1", Term: 7, Result: HookResult{Name: "page", On: "pre", OK: true, Status: 200, Message: "200 OK", Took: Duration(12 * time.Millisecond)}},
		HookCalled{Cutover: "c1", Term: 7, Result: HookResult{Name: "page", On: "post", Code: HookRefused, Status: 503, Message: "503", Took: Duration(12 * time.Millisecond)}},
		CutoverReported{Cutover: "c1", Term: 7, Report: CutoverReport{
			Evicted: 10, Landed: 9, Compared: 10, NotSeen: 1, Blackout: Blackout{Samples: 9, P50: 12.5, P99: 40, Within: 1.5},
			Untouched: Untouched{Before: 100, After: 97, EndedByPeer: 1, Evicted: 1, ClosedByUs: 1, Compared: 64, Changed: 1, Same: true},
			Edges:     []ReportedEdge{{ID: "hz-1", Unit: "center", Evicted: 10, Landed: 9}}, Silent: []string{"hz-2"},
		}},
		OwnershipEstablished{Term: 7},
		ConfigApplied{Namespace: "shop", Changes: Changes{Removed: Removed{Domains: []string{"b.example"}}}, Ended: []DomainEnd{{DomainSessions{"b.example", 2, []string{"hz-2"}}, true}}},
		DomainDeactivated{DomainEnd{DomainSessions{"a.example", 0, nil}, true}}, DomainRemoved{DomainEnd{DomainSessions{"a.example", 3, []string{"hz-2"}}, true}},
		UnitRemoved{ID: "u"}, ClusterRemoved{ID: "c"}, LoadBalancerRemoved{ID: "l"},
		CutoverProposed{
			Cutover: "c1", UnitType: "unit_type", RuleFrom: 1, RuleTo: 2, Moves: []routing.Move{}, ExactMoves: []routing.ExactMove{{ID: "x", Source: "unbj", Target: "center"}}, ExactCount: 300,
			Change: routing.Change{Whole: map[string]string{"unbj": "center", "unsh": ""}}, Waves: []Share{{ExactCount: 300}}, Drain: "unbj", Counted: Count{SilentEdges: []string{}},
		},
		CutoverRolledBack{Cutover: "c1", Why: Why{"operator", "no"}, Back: CutoverProposed{
			Cutover: "c2", UnitType: "unit_type", RuleFrom: 2, RuleTo: 3, Moves: []routing.Move{}, ExactMoves: []routing.ExactMove{{ID: "x", Source: "center", Target: "unbj"}}, ExactCount: 300,
			Change: routing.Change{Restore: true}, Waves: []Share{{ExactCount: 300}}, RollbackOf: "c1", Counted: Count{SilentEdges: []string{}},
		}},
	}
}

// The wire format of every event: what stands here is in journals, and must be read as long as they live.
func TestEventsOnTheWire(t *testing.T) {
	var b bytes.Buffer
	seen := map[string]bool{}
	for _, e := range samples(t) {
		name := reflect.TypeOf(e).Name()
		seen[name] = true
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s\n", name, data)
		rec := Record{Seq: 1, Type: name, Schema: SchemaVersion, Data: data}
		back, err := rec.Event()
		if err != nil || !reflect.DeepEqual(back, e) {
			t.Errorf("%s reads back as %+v, %v", data, back, err)
		}
	}
	if len(seen) != len(wireTypes) {
		t.Errorf("%d of %d events have a sample", len(seen), len(wireTypes))
	}
	golden(t, "events.golden", b.Bytes())
}

// history is a fixed journal that visits every command but TakeOffice's rivals.
func history(t testing.TB) *world {
	w := shop(t)
	step := func(c Command) { w.now = w.now.Add(1500 * time.Millisecond); w.do(c) }
	w.started(2)
	w.fence("c1", 0)
	step(PauseCutover{Cutover: "c1", Reason: "lunch"})
	step(ResumeCutover{Cutover: "c1"})
	step(TakeOffice{Term: 2, Holder: "driver-b"})
	w.fence("c1", 0)
	step(SkipCheck{Cutover: "c1", Edge: "bj-2", Reason: "burnt"})
	w.commit("c1", 0)
	step(RetireEdge{ID: "bj-2", Reason: "burnt"})
	step(joinOf("bj-3"))
	w.fence("c1", 1)
	w.commit("c1", 1)
	step(CompleteCutover{Cutover: "c1", Term: 2})
	step(PutUnit{Unit{ID: "spare", Name: "备用"}})
	step(PutCluster{Cluster{ID: "ws-spare", Unit: "spare", Instances: []string{"s-1"}}})
	step(PutLoadBalancer{LoadBalancer{ID: "slb-2", Cluster: "ws-spare", Address: "2001:db8::1"}})
	step(PutDomain{domain(func(d *Domain) { d.Scheme = "wss" })})
	step(ActivateDomain{Host: "websocket.msha.tech"})
	step(ApplyConfig{Base: w.s.ConfigVersion, Drafts: true, Config: Config{Namespace: "shop", Policy: &PolicyPatch{Hold: ptr(Duration(time.Second))},
		UnitTypes: []UnitType{{Name: "shops", Slots: 64, Unmarked: "split"}}, Domains: []Domain{shopDomain()}}})
	step(InitRules{UnitType: "shops", RulesConfig: RulesConfig{Ranges: map[string][]routing.Range{"spare": {{From: 0, To: 63}}}}})
	step(PreviewCutover{Exact: map[string][]string{"center": {"4001", "用户"}}, Rate: ptr(Rate(0))})
	step(RetryCheck{Cutover: "c2", Check: "edges-at-head", Result: Check{ID: "edges-at-head", State: Fail, At: w.now}})
	step(SkipCheck{Cutover: "c2", Check: "edges-at-head", Reason: "I know"})
	step(AbortCutover{Cutover: "c2"})
	step(LeaveEdge{ID: "hz-2", Directory: directoryOf("hz-2")})
	return w
}

// G4: the state is a pure fold. The hash of a fixed history changes only if the fold or the state's JSON does.
func TestStateHashOfFixedHistory(t *testing.T) {
	w := history(t)
	golden(t, "history.golden", fmt.Appendf(nil, "events %d\nchain %s\nstate %s\n", w.s.Seq, w.s.Chain, w.s.Hash()))
	golden(t, "state.golden.json", append(w.s.Encode(), '\n'))
	s := NewState()
	for _, r := range w.records {
		if err := s.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
	if s.Hash() != w.s.Hash() {
		t.Error("two folds of one journal differ")
	}
}

// A journal that was written when proposals held the whole new rule set and each wave's IDs folds to the state of then.
func TestJournalOfBefore(t *testing.T) {
	lines, err := os.ReadFile("testdata/before-change.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/before-change.state.json")
	if err != nil {
		t.Fatal(err)
	}
	s := NewState()
	for line := range bytes.Lines(lines) {
		var rec Record
		if err := json.Unmarshal(line, &rec); err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(rec); err != nil {
			t.Fatal(err)
		}
	}
	if got := append(s.Encode(), '\n'); !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Every field of a record is part of its hash, and fields cannot run into each other.
func TestRecordHash(t *testing.T) {
	base := Record{Seq: 3, Entity: "unit", Verb: "put", CommandID: "id", Type: "UnitPut", Schema: 1, Time: start, Actor: "a", Reason: "r", Traceparent: "t", Prev: "p", Data: []byte("{}")}
	seen := map[string]string{base.Hash(): "base"}
	for name, change := range map[string]func(r *Record){
		"seq": func(r *Record) { r.Seq = 4 }, "entity": func(r *Record) { r.Entity = "units" }, "verb": func(r *Record) { r.Verb = "pu" },
		"id": func(r *Record) { r.CommandID = "" }, "type": func(r *Record) { r.Type = "ClusterPut" }, "schema": func(r *Record) { r.Schema = 2 },
		"time": func(r *Record) { r.Time = r.Time.Add(1) }, "actor": func(r *Record) { r.Actor = "b" }, "reason": func(r *Record) { r.Reason = "" },
		"trace": func(r *Record) { r.Traceparent = "" }, "prev": func(r *Record) { r.Prev = "" }, "data": func(r *Record) { r.Data = []byte("{} ") },
		"a border moves": func(r *Record) { r.Entity, r.Verb = "unitp", "ut" }, "fields swap": func(r *Record) { r.Actor, r.Reason = r.Reason, r.Actor },
	} {
		r := base
		change(&r)
		if other, ok := seen[r.Hash()]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[r.Hash()] = name
	}
	zone := base
	zone.Time = base.Time.In(time.FixedZone("CST", 8*3600))
	if zone.Hash() != base.Hash() {
		t.Error("the zone is part of the hash")
	}
	if reflect.TypeFor[Record]().NumField() != 12 {
		t.Error("a field of Record is not tested here")
	}
}
