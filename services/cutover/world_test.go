package cutover

import (
	"fmt"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// day is when every test happens.
var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	testNamespace = "shop"
	testEpoch     = "epoch-1"
)

// ledger is a journal in memory: what Decide allows is applied at once.
type ledger struct {
	head *events.State
	recs []events.Record
	ids  int
}

// try decides and appends a command under an id.
func (l *ledger) try(id string, cmd events.Command) error { return l.tryAs("", id, cmd) }

// tryAs is try of an edge that signs.
func (l *ledger) tryAs(signer, id string, cmd events.Command) error {
	env := events.Envelope{ID: id, Actor: "test", Reason: "test", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Signer: signer, Command: cmd}
	e, err := events.Decide(l.head, testNamespace, env, day)
	if err != nil {
		return err
	}
	rec, err := events.NewRecord(l.head, env, e, day)
	if err != nil {
		return err
	}
	next, err := events.Evolve(l.head, rec)
	if err != nil {
		return err
	}
	l.head, l.recs = next, append(l.recs, rec)
	return nil
}

func (l *ledger) id() string {
	l.ids++
	return fmt.Sprintf("00000000-0000-0000-0000-%012d", l.ids)
}

// do is try for commands that must be accepted.
func (l *ledger) do(t testing.TB, cmds ...events.Command) {
	t.Helper()
	for _, cmd := range cmds {
		if err := l.try(l.id(), cmd); err != nil {
			t.Fatalf("%T: %v", cmd, err)
		}
	}
}

func rangesOf(center, unbj string) map[string][]routing.Range {
	m := map[string][]routing.Range{}
	for unit, text := range map[string]string{"center": center, "unbj": unbj} {
		r, err := routing.ParseRange(text)
		if err != nil {
			panic(err)
		}
		m[unit] = []routing.Range{r}
	}
	return m
}

// shopConfig is a namespace of two units with 16 slots: center has 0-7, unbj 8-15.
func shopConfig() events.Config {
	return events.Config{
		Namespace: testNamespace,
		UnitTypes: []events.UnitType{{Name: "user", Slots: 16}},
		Units:     []events.Unit{{ID: "center", Center: true}, {ID: "unbj"}},
		Clusters:  []events.Cluster{{ID: "hz", Unit: "center"}, {ID: "bj", Unit: "unbj"}},
		Domains: []events.Domain{{
			Host:  "ws.shop.example",
			Units: map[string]events.DomainUnit{"center": {Cluster: "hz"}, "unbj": {Cluster: "bj"}},
			URIs:  []events.URI{{Path: "/", Origins: map[string]events.Origins{"center": {"127.0.0.1:9001"}, "unbj": {"127.0.0.1:9002"}}}},
		}},
		Rules: map[string]events.RulesConfig{"user": {Ranges: rangesOf("0-7", "8-15")}},
	}
}

// directoryOf is the identity of an edge's state directory.
func directoryOf(edge string) string {
	return fmt.Sprintf("d1000000-0000-4000-8000-%012x", []byte(edge))
}

// newLedger is the namespace with edges b1, b2 in unbj and h1, h2 in center.
func newLedger(t testing.TB) *ledger {
	l := &ledger{head: events.NewState()}
	l.do(t, events.ApplyConfig{Config: shopConfig()},
		events.JoinEdge{ID: "b1", Directory: directoryOf("b1"), Unit: "unbj", Cluster: "bj", Address: "127.0.0.1:7201"},
		events.JoinEdge{ID: "b2", Directory: directoryOf("b2"), Unit: "unbj", Cluster: "bj", Address: "127.0.0.1:7202"},
		events.JoinEdge{ID: "h1", Directory: directoryOf("h1"), Unit: "center", Cluster: "hz", Address: "127.0.0.1:7101"},
		events.JoinEdge{ID: "h2", Directory: directoryOf("h2"), Unit: "center", Cluster: "hz", Address: "127.0.0.1:7102"})
	return l
}

func allPassed() []events.Check {
	var out []events.Check
	for _, id := range events.CheckIDs() {
		out = append(out, events.Check{ID: id, State: events.Pass, At: day})
	}
	return out
}

// start proposes and starts a cutover that moves slots 8-11 from unbj to center, and returns its id.
func (l *ledger) start(t testing.TB, waves int) string {
	t.Helper()
	l.do(t, events.PreviewCutover{Ranges: rangesOf("0-11", "12-15"), Waves: waves})
	id := fmt.Sprintf("c%d", l.head.CutoverCount)
	l.do(t, events.StartCutover{Cutover: id, Checks: allPassed()})
	return id
}
