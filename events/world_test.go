package events

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// start is when every test's history begins: tests never ask the clock.
var start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// world is one namespace's journal under test: commands go in, records come out, the state follows.
type world struct {
	t       testing.TB
	s       *State
	now     time.Time
	count   int
	records []Record
	large   bool // a state takes long to hash: what every decision must keep is not checked at each of them
}

func newWorld(t testing.TB) *world { return &world{t: t, s: NewState(), now: start} }

// shop is the walkthrough's namespace with its rules, two edges a unit, and a driver in term 1.
func shop(t testing.TB) *world {
	w := newWorld(t)
	w.do(ApplyConfig{Config: shopConfig()})
	for _, e := range []string{"hz-1", "hz-2", "bj-1", "bj-2"} {
		w.do(joinOf(e))
	}
	w.do(TakeOffice{Term: 1, Holder: "driver-a"})
	return w
}

// directoryOf is the identity of an edge's state directory.
func directoryOf(edge string) string {
	return fmt.Sprintf("d1000000-0000-4000-8000-%012x", []byte(edge))
}

func joinOf(edge string) JoinEdge {
	j := JoinEdge{ID: edge, Directory: directoryOf(edge), Unit: "center", Cluster: "ws-hz-2", Address: edge + ".example:7101", Capacity: 1000}
	if edge[:2] == "bj" {
		j.Unit, j.Cluster = "unbj", "ws-bj-2"
	}
	return j
}

// successor is the join of an edge that takes over from another one.
func successor(edge, of string) JoinEdge {
	j := joinOf(edge)
	j.Address, j.Succeeds, j.SucceedsDirectory = joinOf(of).Address, of, directoryOf(of)
	return j
}

func shopConfig() Config {
	return Config{
		Namespace: "shop",
		UnitTypes: []UnitType{{Name: "unit_type", Slots: 10000}},
		Units:     []Unit{{ID: "center", Name: "杭州中心", Center: true}, {ID: "unbj", Name: "北京单元"}},
		Clusters:  []Cluster{{ID: "ws-hz-2", Unit: "center"}, {ID: "ws-bj-2", Unit: "unbj"}},
		LoadBalancers: []LoadBalancer{
			{ID: "slb-hz-1", Cluster: "ws-hz-2", Address: "203.0.113.10"},
		},
		Domains: []Domain{shopDomain()},
		Rules: map[string]RulesConfig{"unit_type": {
			Ranges: map[string][]routing.Range{"center": {{From: 0, To: 5997}}, "unbj": {{From: 5998, To: 9999}}},
			Exact:  map[string][]string{"unbj": {"4001", "vip-7"}},
		}},
	}
}

func shopDomain() Domain {
	return Domain{
		Host: "websocket.msha.tech", UnitType: "unit_type",
		Units: map[string]DomainUnit{
			"center": {Subdomain: "center.websocket.msha.tech", Cluster: "ws-hz-2"},
			"unbj":   {Cluster: "ws-bj-2"},
		},
		URIs: []URI{{Path: "/", Origins: map[string]Origins{"center": {"10.0.0.1:9000", "10.0.0.2:9000"}, "unbj": {"10.1.0.1:9000"}}}},
	}
}

// otherDomain has no name in common with shopDomain.
func otherDomain() Domain {
	d := shopDomain()
	d.Host = "b.example"
	d.Units = map[string]DomainUnit{"center": {Cluster: "ws-hz-2"}, "unbj": {Cluster: "ws-bj-2"}}
	return d
}

func (w *world) envelope(c Command) Envelope {
	w.count++
	return Envelope{
		ID: fmt.Sprintf("00000000-0000-4000-8000-%012x", w.count), Actor: "alice",
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Command: c,
	}
}

// do decides, stores and applies a command that must be accepted.
func (w *world) do(c Command) Event {
	w.t.Helper()
	e, err := w.try(c)
	if err != nil {
		w.t.Fatalf("%+v: %v", c, err)
	}
	return e
}

// try is do for a command that may be refused. What every decision must keep is checked here: Decide leaves its state
// alone, an accepted event can be applied, and Apply in place is the same as Evolve.
func (w *world) try(c Command) (Event, error) {
	w.t.Helper()
	return w.tryEnvelope(w.envelope(c))
}

func (w *world) tryEnvelope(env Envelope) (Event, error) {
	w.t.Helper()
	if w.large {
		return w.decide(env)
	}
	before := w.s.Hash()
	e, err := Decide(w.s, "shop", env, w.now)
	if w.s.Hash() != before {
		w.t.Fatalf("Decide(%+v) changed its state", env.Command)
	}
	if err != nil {
		if (e != nil) || !errors.As(err, new(*Error)) {
			w.t.Fatalf("Decide(%+v) = %v, %T %v: want no event and an *Error", env.Command, e, err, err)
		}
		return nil, err
	}
	rec, err := NewRecord(w.s, env, e, w.now)
	if err != nil {
		return nil, err
	}
	next, err := Evolve(w.s, rec)
	if err != nil {
		w.t.Fatalf("Evolve(%s %s): %v", rec.Type, rec.Data, err)
	}
	if w.s.Hash() != before {
		w.t.Fatalf("Evolve of %s changed its input", rec.Type)
	}
	if err := w.s.Apply(rec); err != nil || w.s.Hash() != next.Hash() {
		w.t.Fatalf("Apply(%s %s) = %v differs from Evolve", rec.Type, rec.Data, err)
	}
	w.records = append(w.records, rec)
	return e, nil
}

// decide decides, stores and applies.
func (w *world) decide(env Envelope) (Event, error) {
	w.t.Helper()
	e, err := Decide(w.s, "shop", env, w.now)
	if err != nil {
		return nil, err
	}
	rec, err := NewRecord(w.s, env, e, w.now)
	if err != nil {
		return nil, err
	}
	if err := w.s.Apply(rec); err != nil {
		w.t.Fatalf("Apply(%s): %v", rec.Type, err)
	}
	w.records = append(w.records, rec)
	return e, nil
}

// refuse sends a command that must be refused with this code and field, and change nothing.
func (w *world) refuse(c Command, want *Error, field string) {
	w.t.Helper()
	_, err := w.try(c)
	w.refused(c, err, want, field)
}

func (w *world) refused(c any, err error, want *Error, field string) {
	w.t.Helper()
	var got *Error
	if !errors.As(err, &got) || got.Code != want.Code || got.Field != field || got.Message == "" {
		w.t.Errorf("%+v: got %v; want code %q at %q", c, err, want.Code, field)
	}
}

// walk is the walkthrough's cutover: 0-5997/5998-9999 becomes 0-6380/6381-9999.
func walk(waves int) PreviewCutover {
	return PreviewCutover{
		Ranges: map[string][]routing.Range{"center": {{From: 0, To: 6380}}, "unbj": {{From: 6381, To: 9999}}},
		Waves:  waves, Counted: Count{Sessions: 1},
	}
}

func (w *world) checks(state CheckState) []Check {
	var out []Check
	for _, id := range CheckIDs() {
		out = append(out, Check{ID: id, State: state, Message: "as it should be", Measured: "4 of 4 edges", At: w.now})
	}
	return out
}

// started proposes, checks and starts the walkthrough's cutover and returns its id.
func (w *world) started(waves int) string {
	w.t.Helper()
	id := w.do(walk(waves)).(CutoverProposed).Cutover
	w.do(CheckCutover{Cutover: id, Checks: w.checks(Pass)})
	w.do(StartCutover{Cutover: id})
	return id
}

func (w *world) fence(id string, wave int) {
	w.t.Helper()
	w.do(FenceWave{Cutover: id, Wave: wave, Term: w.s.Office.Term})
}

// reports are what every live edge says once it has applied and drained the newest fence.
func (w *world) reports() []EdgeResult {
	var out []EdgeResult
	fence := uint64(0)
	for _, c := range w.s.Cutovers {
		for _, wave := range c.Waves {
			fence = max(fence, wave.FenceSeq)
		}
	}
	for _, e := range w.s.LiveEdges() {
		out = append(out, EdgeResult{ID: e.ID, Unit: e.Unit, Applied: w.s.Seq, Fence: fence, Drained: true})
	}
	return out
}

func (w *world) commit(id string, wave int) {
	w.t.Helper()
	w.do(CommitWave{Cutover: id, Wave: wave, Term: w.s.Office.Term, Edges: w.reports()})
}

// route is who serves a routerId now, "A>B" while it is handed over.
func (w *world) route(id string) string {
	r := w.s.Table("unit_type").Lookup(id)
	if r.Next != "" {
		return r.Unit + ">" + r.Next
	}
	return r.Unit
}

// without drops one edge's report.
func without(rs []EdgeResult, id string) []EdgeResult {
	return slices.DeleteFunc(slices.Clone(rs), func(r EdgeResult) bool { return r.ID == id })
}

// with changes one edge's report.
func with(rs []EdgeResult, id string, change func(*EdgeResult)) []EdgeResult {
	rs = slices.Clone(rs)
	for i := range rs {
		if rs[i].ID == id {
			change(&rs[i])
		}
	}
	return rs
}
