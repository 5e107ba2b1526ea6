package scenarios

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/cutover"
)

const (
	namespace = "shop"
	epoch     = "epoch-1"
)

// day is when every story begins.
var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// stage is where one story plays: a journal in memory, drivers on a bus that carries everything at once, and edges of
// which the story says what they report.
type stage struct {
	now     time.Duration
	head    *events.State
	ids     int
	key     cutover.OfficeKey
	drivers map[string]*player // by name
	edges   map[string]*events.EdgeReport
	said    []string // since the last verb
}

// player is a driver's process; nil machine: it does not run.
type player struct {
	name    string
	life    int
	machine *cutover.Driver
	cut     bool // from the bus
}

func newStage() *stage {
	s := &stage{head: events.NewState(), drivers: map[string]*player{}, edges: map[string]*events.EdgeReport{}}
	s.must(events.ApplyConfig{Config: events.Config{
		Namespace: namespace,
		UnitTypes: []events.UnitType{{Name: "user", Slots: 16}},
		Units:     []events.Unit{{ID: "center", Center: true}, {ID: "unbj"}},
		Clusters:  []events.Cluster{{ID: "hz", Unit: "center"}, {ID: "bj", Unit: "unbj"}},
		Domains: []events.Domain{{
			Host:  "ws.shop.example",
			Units: map[string]events.DomainUnit{"center": {Cluster: "hz"}, "unbj": {Cluster: "bj"}},
			URIs:  []events.URI{{Path: "/", Origins: map[string]events.Origins{"center": {"127.0.0.1:9001"}, "unbj": {"127.0.0.1:9002"}}}},
		}},
		Rules: map[string]events.RulesConfig{"user": {Ranges: map[string][]routing.Range{"center": {{From: 0, To: 7}}, "unbj": {{From: 8, To: 15}}}}},
	}})
	for _, e := range []events.JoinEdge{
		{ID: "b1", Unit: "unbj", Cluster: "bj", Address: "127.0.0.1:7201"}, {ID: "b2", Unit: "unbj", Cluster: "bj", Address: "127.0.0.1:7202"},
		{ID: "h1", Unit: "center", Cluster: "hz", Address: "127.0.0.1:7101"}, {ID: "h2", Unit: "center", Cluster: "hz", Address: "127.0.0.1:7102"},
	} {
		e.Directory = directoryOf(e.ID)
		s.must(e)
		s.edges[e.ID] = &events.EdgeReport{
			Namespace: namespace, Epoch: epoch, Edge: e.ID, Directory: e.Directory, Unit: e.Unit, Cluster: e.Cluster, Incarnation: e.ID + "-1",
		}
	}
	s.said = nil
	return s
}

func directoryOf(edge string) string { return fmt.Sprintf("d1000000-0000-4000-8000-%012x", edge) }

func (s *stage) must(cmd events.Command) {
	if _, err := s.submit(s.uuid(), "setup", cmd); err != nil {
		panic(fmt.Sprintf("%T: %v", cmd, err))
	}
}

func (s *stage) uuid() string {
	s.ids++
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", s.ids)
}

func (s *stage) date() time.Time { return day.Add(s.now) }

// decide says what a command would lead to.
func (s *stage) decide(id, actor string, cmd events.Command) (events.Envelope, events.Event, error) {
	env := events.Envelope{ID: id, Actor: actor, Command: cmd}
	e, err := events.Decide(s.head, namespace, env, s.date())
	return env, e, err
}

// submit carries a command out and tells everybody on the bus.
func (s *stage) submit(id, actor string, cmd events.Command) (uint64, error) {
	env, e, err := s.decide(id, actor, cmd)
	if err != nil {
		return 0, err
	}
	rec, err := events.NewRecord(s.head, env, e, s.date())
	if err != nil {
		return 0, err
	}
	if s.head, err = events.Evolve(s.head, rec); err != nil {
		return 0, err
	}
	s.say("%d %s %s", rec.Seq, rec.Type, brief(rec.Data))
	for _, p := range s.cast() {
		s.play(p, cutover.StateAdvanced{At: s.at(), State: s.head, Epoch: epoch})
	}
	return rec.Seq, nil
}

func (s *stage) say(format string, args ...any) {
	s.said = append(s.said, fmt.Sprintf(format, args...))
}

// brief is an event without what would fill the page.
func brief(data []byte) string {
	var m map[string]any
	if json.Unmarshal(data, &m) != nil {
		return string(data)
	}
	if back, ok := m["back"].(map[string]any); ok {
		m["back"] = back["cutover"]
	}
	for _, long := range []string{"rules", "change", "diff", "counted", "unitType", "ruleFrom", "ruleTo", "exactMoves", "moves", "rate", "key"} {
		delete(m, long)
	}
	if checks, ok := m["checks"].([]any); ok {
		states := map[string]int{}
		for _, c := range checks {
			states[fmt.Sprint(c.(map[string]any)["state"])]++
		}
		m["checks"] = states
	}
	if edges, ok := m["edges"].([]any); ok {
		var names []string
		for _, e := range edges {
			name := fmt.Sprint(e.(map[string]any)["id"])
			if e.(map[string]any)["skipped"] != nil {
				name += " (skipped)"
			}
			names = append(names, name)
		}
		m["edges"] = names
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (s *stage) at() cutover.At { return cutover.At{Now: time.Hour + s.now} }

// cast are the drivers that run and reach the bus, in the order of their names.
func (s *stage) cast() []*player {
	var out []*player
	for _, p := range s.drivers {
		if p.machine != nil && !p.cut {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *player) int { return strings.Compare(a.name, b.name) })
	return out
}

func (s *stage) boot(name string) {
	p := s.drivers[name]
	if p == nil {
		p = &player{name: name}
		s.drivers[name] = p
	}
	p.life++
	p.cut = false
	p.machine = cutover.NewDriver(cutover.DriverConfig{
		Epoch: epoch, Holder: fmt.Sprintf("%s-%d", name, p.life), ID: func(uint64) string { return s.uuid() },
	})
	s.play(p, cutover.StateAdvanced{At: s.at(), State: s.head, Epoch: epoch})
}

// play gives a driver an input and carries out what it wants. What needs the bus gets no answer while it is cut.
func (s *stage) play(p *player, in cutover.Input) {
	machine := p.machine
	for _, out := range machine.Step(in) {
		if p.cut || p.machine != machine {
			continue
		}
		switch out := out.(type) {
		case cutover.ReadOffice:
			s.play(p, cutover.OfficeRead{At: s.at(), Key: s.key})
		case cutover.WriteOffice:
			s.play(p, s.writeOffice(out))
		case cutover.CallHook:
			s.say("%s calls hook %s", p.name, out.Hook.Name)
		case cutover.Inquire: // these edges remember nobody
			s.play(p, cutover.Inquired{At: s.at(), Round: out.Round})
		case cutover.AnswerLease: // no edge asks for one
		case cutover.Submit:
			seq, err := s.submit(out.Envelope.ID, p.name, out.Envelope.Command)
			fate := cutover.Accepted
			if err != nil {
				fate = cutover.Refused
				s.say("%s: %T refused: %s", p.name, out.Envelope.Command, code(err))
			}
			s.play(p, cutover.Submitted{At: s.at(), ID: out.Envelope.ID, Fate: fate, Seq: seq})
		}
	}
}

func (s *stage) writeOffice(w cutover.WriteOffice) cutover.OfficeWritten {
	if s.key.Revision != w.Expect {
		return cutover.OfficeWritten{At: s.at(), Attempt: w.Attempt, Fate: cutover.Refused}
	}
	s.key = cutover.OfficeKey{Revision: w.Expect + 1, OfficeValue: w.Value}
	return cutover.OfficeWritten{At: s.at(), Attempt: w.Attempt, Fate: cutover.Accepted, Revision: s.key.Revision}
}

// wait lets time pass: every driver that runs sees a tick each 100 ms, also one that is cut from the bus.
func (s *stage) wait(d time.Duration) {
	for end := s.now + d; s.now < end; {
		s.now += 100 * time.Millisecond
		for _, name := range slices.Sorted(mapKeys(s.drivers)) {
			if p := s.drivers[name]; p.machine != nil {
				s.play(p, cutover.Tick{At: s.at()})
			}
		}
	}
}

func mapKeys(m map[string]*player) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// code is how a refusal is shown: its code, and what it says.
func code(err error) string {
	var e *events.Error
	if !errors.As(err, &e) {
		return "error: " + err.Error()
	}
	return e.Code + ": " + e.Message
}
