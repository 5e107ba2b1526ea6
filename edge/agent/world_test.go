package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// start is when every test begins: machines get their time from the test.
var start = time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)

// world is a namespace's history, decided and folded by the real core: the walkthrough's two units, with a domain, rules
// 0-5997 and 5998-9999, and the exact ID vip-7 of unbj inside the range that moves.
type world struct {
	t     testing.TB
	state *events.State
	n     int
	store func(events.Record) // where records go; may be nil
}

func config() events.Config {
	return events.Config{
		Namespace: "demo",
		UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 10000}, {Name: "shop", Slots: 10}},
		Units:     []events.Unit{{ID: "center", Name: "杭州中心", Center: true}, {ID: "unbj", Name: "北京单元"}},
		Clusters:  []events.Cluster{{ID: "ws-hz", Unit: "center"}, {ID: "ws-bj", Unit: "unbj"}},
		Domains: []events.Domain{{
			Host:  "websocket.localhost",
			Units: map[string]events.DomainUnit{"center": {Cluster: "ws-hz"}, "unbj": {Subdomain: "bj.example:81", Cluster: "ws-bj"}},
			URIs: []events.URI{
				{Path: "/", Origins: map[string]events.Origins{"center": {"10.0.0.1:9000"}, "unbj": {"10.1.0.1:9000", "10.1.0.2:9000"}}},
				{Path: "/a/b", Origins: map[string]events.Origins{"center": {"10.0.0.3:9000"}}},
				{Path: "/a/", Origins: map[string]events.Origins{"unbj": {"10.1.0.4:9000"}}, ConnectTimeout: events.Duration(time.Second), ReplyTimeout: events.Duration(time.Minute), Health: &events.Health{Probe: "tcp"}},
			},
		}},
		Rules: map[string]events.RulesConfig{"unit_type": {Ranges: ranges(5998), Exact: map[string][]string{"unbj": {"6000"}}}},
	}
}

// ranges gives center the slots below border and unbj the others.
func ranges(border uint32) map[string][]routing.Range {
	return map[string][]routing.Range{"center": {{From: 0, To: border - 1}}, "unbj": {{From: border, To: 9999}}}
}

func newWorld(t testing.TB, store func(events.Record)) *world {
	t.Helper()
	w := &world{t: t, state: events.NewState(), store: store}
	w.do(events.ApplyConfig{Config: config()})
	return w
}

// do decides a command and applies its event; the result is a copy of the state.
func (w *world) do(c events.Command) *events.State {
	w.t.Helper()
	w.n++
	env := events.Envelope{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", w.n), Actor: "test", Signatures: events.SignaturesOptional, Command: c}
	e, err := events.Decide(w.state, "demo", env, start)
	if err != nil {
		w.t.Fatalf("%T: %v", c, err)
	}
	rec, err := events.NewRecord(w.state, env, e, start)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.store != nil {
		w.store(rec)
	}
	if err := w.state.Apply(rec); err != nil {
		w.t.Fatal(err)
	}
	return w.state.Clone()
}

// directoryOf is the identity of an edge's state directory.
func directoryOf(id string) string { return fmt.Sprintf("d1000000-0000-4000-8000-%012x", []byte(id)) }

// madeDir is the state directory of the edge that join registers.
func madeDir(t *testing.T, id string) string {
	t.Helper()
	path := t.TempDir()
	for name, line := range map[string]string{idFile: id, ownFile: directoryOf(id)} {
		if err := os.WriteFile(filepath.Join(path, name), []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func (w *world) join(id, unit, cluster, address string) *events.State {
	return w.do(events.JoinEdge{ID: id, Directory: directoryOf(id), Unit: unit, Cluster: cluster, Address: address})
}

// begin proposes and starts a cutover that moves the border to the given slot, in one wave; its id is returned.
func (w *world) begin(border uint32, rate events.Rate) string {
	w.t.Helper()
	if w.state.Office.Term == 0 {
		w.do(events.TakeOffice{Term: 1, Holder: "driver", Key: officePublic()})
	}
	w.do(events.PreviewCutover{Ranges: ranges(border), Rate: &rate})
	id := fmt.Sprintf("c%d", w.state.CutoverCount)
	var checks []events.Check
	for _, k := range events.CheckIDs() {
		checks = append(checks, events.Check{ID: k, State: events.Pass, At: start})
	}
	w.do(events.StartCutover{Cutover: id, Checks: checks})
	return id
}

func (w *world) fence(id string) *events.State {
	return w.do(events.FenceWave{Cutover: id, Wave: 0, Term: 1})
}

// commit commits the wave with what every needed edge must have reported.
func (w *world) commit(id string) *events.State {
	w.t.Helper()
	c := w.state.Cutovers[id]
	var edges []events.EdgeResult
	for _, e := range w.state.NeededEdges(&c, 0) {
		edges = append(edges, events.EdgeResult{ID: e.ID, Unit: e.Unit, Applied: c.Waves[0].FenceSeq, Fence: c.Waves[0].FenceSeq, Drained: true})
	}
	return w.do(events.CommitWave{Cutover: id, Wave: 0, Term: 1, Edges: edges})
}

func (w *world) complete(id string) *events.State {
	return w.do(events.CompleteCutover{Cutover: id, Term: 1})
}
