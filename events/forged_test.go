package events

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// forge is a record that follows the state in every way but was never decided.
func forge(s *State, typ, data string) Record {
	return Record{
		Seq: s.Seq + 1, Entity: "x", Verb: "y", CommandID: "z", Type: typ, Schema: SchemaVersion, Time: start,
		Actor: "mallory", Prev: s.Chain, Data: []byte(data),
	}
}

// use does with a state what every reader does: nothing of it may panic, whatever the state holds.
func use(s *State) {
	for ut := range s.Rules {
		if table := s.Table(ut); table != nil {
			table.Lookup("6249")
			table.Lookup("vip-7")
		}
	}
	for _, c := range s.CutoverList() {
		c.Table()
		for w := range c.Waves {
			s.NeededEdges(&c, w)
		}
		c.NextWave()
	}
	s.Hash()
	for _, d := range s.Domains {
		d.Newest().Names()
	}
	w := &world{s: s, now: start}
	for _, e := range entries() {
		_, _ = Decide(s, "shop", w.envelope(e.command), start)
	}
	_, _ = Decide(s, "shop", w.envelope(walk(3)), start)
	_, _ = Decide(s, "shop", w.envelope(StartCutover{Cutover: "c1", Checks: w.checks(Pass)}), start)
	_, _ = Decide(s, "shop", w.envelope(CommitWave{Cutover: "c1", Term: s.Office.Term}), start)
	_, _ = Decide(s, "shop", w.envelope(ApplyConfig{Base: s.ConfigVersion, Config: shopConfig()}), start)
}

// A forged but well-formed record is refused with its sequence, or does no harm; it never ends a process, and a
// refused one changes nothing.
func TestForgedRecords(t *testing.T) {
	rules := func(slots int, units string) string {
		return fmt.Sprintf(`{"slots":%d,"ranges":%s}`, slots, units)
	}
	moved := rules(10000, `{"center":["0-6380"],"unbj":["6381-9999"]}`)
	proposal := func(id, ut, rules, waves string) string {
		return fmt.Sprintf(`{"cutover":%q,"unitType":%q,"ruleFrom":1,"ruleTo":2,"rules":%s,"waves":%s,"rate":1,"counted":{}}`, id, ut, rules, waves)
	}
	good := `[{"slots":["5998-6380"],"exact":["4001"]}]` // vip-7 stays in its slot's unit
	proposed := func(w *world) { w.do(walk(1)) }
	started := func(w *world) { w.started(2) }
	fenced := func(w *world) { w.fence(w.started(2), 0) }
	twoTypes := func(w *world) {
		w.do(ApplyConfig{Base: 1, Config: Config{Namespace: "shop", UnitTypes: []UnitType{{Name: "shops", Slots: 10}}}})
	}
	for _, c := range []struct {
		name, typ, data string
		after           func(w *world)
		harmless        bool // it may be applied
	}{
		{name: "unknown type", typ: "CutoverVanished", data: `{}`},
		{name: "no JSON", typ: "UnitPut", data: `{"id":`},
		{name: "wrong type", typ: "UnitPut", data: `[]`},
		{name: "null", typ: "UnitPut", data: `null`, harmless: true},
		{name: "rules missing", typ: "RulesInitialized", data: `{"unitType":"shops"}`, after: twoTypes},
		{name: "rules null", typ: "RulesInitialized", data: `{"unitType":"shops","rules":null}`, after: twoTypes},
		{name: "rules of another size", typ: "RulesInitialized", data: `{"unitType":"shops","rules":` + rules(9, `{"center":["0-8"]}`) + `}`, after: twoTypes},
		{name: "rules of an unknown type", typ: "RulesInitialized", data: `{"unitType":"mars","rules":` + rules(9, `{"center":["0-8"]}`) + `}`},
		{name: "rules with a gap", typ: "RulesInitialized", data: `{"unitType":"shops","rules":` + rules(10, `{"center":["0-8"]}`) + `}`, after: twoTypes},
		{name: "config with null rules", typ: "ConfigApplied", data: `{"namespace":"shop","changes":{"rules":{"unit_type":null}}}`},
		{name: "config that drops the unit type", typ: "ConfigApplied", data: `{"namespace":"shop","changes":{"unitTypes":[]}}`},
		{name: "config that resizes the unit type", typ: "ConfigApplied", data: `{"namespace":"shop","changes":{"unitTypes":[{"name":"unit_type","slots":5}]}}`},
		{name: "config of another namespace", typ: "ConfigApplied", data: `{"namespace":"other","changes":{}}`},
		{name: "config without changes", typ: "ConfigApplied", data: `{"namespace":"shop"}`, harmless: true},
		{name: "created again", typ: "NamespaceCreated", data: `{"namespace":"shop","changes":{}}`},
		{name: "activation of nothing", typ: "DomainActivated", data: `{"host":"mars.example"}`, harmless: true},
		{name: "empty draft", typ: "DomainPut", data: `{}`, harmless: true},
		{name: "units go", typ: "ConfigApplied", data: `{"namespace":"shop","changes":{"removed":{"units":["center","unbj"],"clusters":["ws-hz-2"]}}}`, harmless: true},
		{name: "edge that never joined", typ: "EdgeLeft", data: `{"id":"mars"}`},
		{name: "edge that is back from the dead", typ: "EdgeJoined", data: `{"id":"bj-2","unit":"unbj"}`, after: func(w *world) { w.do(LeaveEdge{ID: "bj-2", Directory: directoryOf("bj-2")}) }},
		{name: "edge from another directory", typ: "EdgeJoined", data: `{"id":"bj-2","directory":"` + directoryOf("bj-9") + `","unit":"unbj"}`},
		{name: "successor of nobody", typ: "EdgeJoined", data: `{"id":"bj-9","unit":"unbj","cluster":"ws-bj-2","succeeds":"bj-7","succeedsDirectory":"` + directoryOf("bj-7") + `"}`},
		{name: "successor in another unit", typ: "EdgeJoined", data: `{"id":"bj-9","unit":"unbj","cluster":"ws-bj-2","succeeds":"hz-1","succeedsDirectory":"` + directoryOf("hz-1") + `"}`},

		{name: "good proposal", typ: "CutoverProposed", data: proposal("c1", "unit_type", moved, good), harmless: true},
		{name: "proposal out of turn", typ: "CutoverProposed", data: proposal("c7", "unit_type", moved, good)},
		{name: "proposal with a known id", typ: "CutoverProposed", data: proposal("c1", "unit_type", moved, good), after: proposed},
		{name: "proposal for an unknown type", typ: "CutoverProposed", data: proposal("c1", "mars", moved, good)},
		{name: "proposal without rules", typ: "CutoverProposed", data: proposal("c1", "unit_type", "null", good)},
		{name: "proposal of another size", typ: "CutoverProposed", data: proposal("c1", "unit_type", rules(5, `{"center":["0-4"]}`), good)},
		{name: "proposal without waves", typ: "CutoverProposed", data: proposal("c1", "unit_type", moved, `[]`)},
		{name: "slots out of range", typ: "CutoverProposed", data: proposal("c1", "unit_type", moved, `[{"slots":["5998-4294967295"]}]`)},
		{name: "slots that do not move", typ: "CutoverProposed", data: proposal("c1", "unit_type", moved, `[{"slots":["0-6380"],"exact":["4001"]}]`)},
		{name: "slots twice", typ: "CutoverProposed", data: proposal("c1", "unit_type", moved, `[{"slots":["5998-6380","5998"],"exact":["4001"]}]`)},
		{name: "keys left out", typ: "CutoverProposed", data: proposal("c1", "unit_type", moved, `[{"slots":["5998-6380"]}]`)},
		{name: "rate", typ: "CutoverProposed", data: strings.Replace(proposal("c1", "unit_type", moved, good), `"rate":1`, `"rate":-1`, 1)},

		{name: "unknown cutover", typ: "CutoverStarted", data: `{"cutover":"c9"}`},
		{name: "second one starts", typ: "CutoverStarted", data: `{"cutover":"c2"}`, after: func(w *world) { w.started(1); w.do(walk(1)) }},
		{name: "unknown check", typ: "CutoverChecked", data: `{"cutover":"c1","checks":[{"id":"weather"},{"id":""},{},{},{}]}`, after: proposed, harmless: true},
		{name: "fence beyond the end", typ: "WaveFenced", data: `{"cutover":"c1","wave":99,"term":1}`, after: started},
		{name: "fence below the start", typ: "WaveFenced", data: `{"cutover":"c1","wave":-1,"term":1}`, after: started},
		{name: "fence out of turn", typ: "WaveFenced", data: `{"cutover":"c1","wave":1,"term":1}`, after: started},
		{name: "two fences", typ: "WaveFenced", data: `{"cutover":"c1","wave":1,"term":1}`, after: fenced},
		{name: "commit beyond the end", typ: "WaveCommitted", data: `{"cutover":"c1","wave":99,"term":1}`, after: fenced},
		{name: "commit without a fence", typ: "WaveCommitted", data: `{"cutover":"c1","wave":0,"term":1}`, after: started},
		{name: "skip without a fence", typ: "CutoverSkipped", data: `{"cutover":"c1","edge":"bj-1","reason":"x"}`, after: started},
		{name: "complete too early", typ: "CutoverCompleted", data: `{"cutover":"c1","term":1}`, after: fenced},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := shop(t)
			if c.after != nil {
				c.after(w)
			}
			before := w.s.Hash()
			rec := forge(w.s, c.typ, c.data)
			err := w.s.Apply(rec)
			if err == nil && !c.harmless {
				t.Error("it was applied")
			}
			if err != nil {
				if c.harmless {
					t.Errorf("refused: %v", err)
				}
				if !strings.Contains(err.Error(), fmt.Sprint("record ", rec.Seq)) {
					t.Errorf("no sequence in %q", err)
				}
				if w.s.Hash() != before {
					t.Errorf("refused (%v), and the state changed", err)
				}
			}
			use(w.s)
		})
	}
}

// A record that does not follow the state is refused, whatever it says.
func TestRecordsOutOfOrder(t *testing.T) {
	w := shop(t)
	for name, change := range map[string]func(r *Record){
		"doubled":          func(r *Record) { r.Seq-- },
		"gap":              func(r *Record) { r.Seq++ },
		"first again":      func(r *Record) { r.Seq = 1 },
		"no predecessor":   func(r *Record) { r.Prev = "" },
		"another history":  func(r *Record) { r.Prev = strings.Repeat("0", 64) },
		"newer schema":     func(r *Record) { r.Schema = SchemaVersion + 1 },
		"no schema":        func(r *Record) { r.Schema = 0 },
		"actor no UTF-8":   func(r *Record) { r.Actor = "\xff" },
		"trace no UTF-8":   func(r *Record) { r.Traceparent = "\xff" },
		"year 10000":       func(r *Record) { r.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"before year zero": func(r *Record) { r.Time = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		rec := forge(w.s, "UnitPut", `{"id":"x"}`)
		change(&rec)
		before := w.s.Hash()
		if err := w.s.Apply(rec); err == nil || w.s.Hash() != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := NewState()
	if err := s.Apply(forge(s, "UnitPut", `{"id":"x"}`)); err == nil {
		t.Error("a namespace was opened by a unit")
	}
}

// The zone in which a reader holds a record's time is not part of the state.
func TestTimesAreUTC(t *testing.T) {
	w := shop(t)
	a, b := w.s.Clone(), w.s.Clone()
	rec := forge(w.s, "CutoverProposed", `{"cutover":"c1","unitType":"unit_type","ruleFrom":1,"ruleTo":2,"rate":1,"counted":{},
		"rules":{"slots":10000,"ranges":{"center":["0-9999"]},"exact":{"unbj":["4001","vip-7"]}},"waves":[{"slots":["5998-9999"]}]}`)
	if err := a.Apply(rec); err != nil {
		t.Fatal(err)
	}
	rec.Time = rec.Time.In(time.FixedZone("CST", 8*3600))
	if err := b.Apply(rec); err != nil || a.Hash() != b.Hash() {
		t.Errorf("%v: two zones, two hashes", err)
	}
}

// Garbage is refused; what is accepted can be used without a panic.
func TestDecodeStateGarbage(t *testing.T) {
	w := shop(t)
	w.fence(w.started(2), 0)
	whole := string(w.s.Encode())
	in := []string{
		"", "null", "{}", "[]", "7", `"x"`, whole + "x", whole + whole, " " + whole, whole[:len(whole)-1],
		strings.Replace(whole, "{", `{"extra":1,`, 1),
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(whole), &fields); err != nil {
		t.Fatal(err)
	}
	for key := range fields {
		for _, v := range []string{"null", "{}", "[]", `"x"`, "-1", "1e999", "true", `{"":null}`, `[null]`, `{"x":{}}`, `{"unit_type":{}}`, `{"c1":{}}`, `{"x":{"draft":null}}`} {
			if string(fields[key]) == v {
				continue
			}
			m := map[string]json.RawMessage{}
			for k, f := range fields {
				m[k] = f
			}
			m[key] = json.RawMessage(v)
			if b, err := json.Marshal(m); err == nil {
				in = append(in, string(b))
			}
		}
	}
	for _, cut := range []string{`"from":`, `"to":`, `"baseline":`, `"current":`, `"waves":`} { // null what must not be null
		i := strings.Index(whole, cut) + len(cut)
		dec := json.NewDecoder(strings.NewReader(whole[i:]))
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		in = append(in, whole[:i]+"null"+whole[i+len(v):])
	}
	in = append(in, strings.Replace(whole, `"fenced"`, `"melted"`, 1), strings.Replace(whole, `"slots":10000`, `"slots":9999`, 1),
		strings.Replace(whole, `"slots":["5998-`, `"slots":["59-`, 1))
	for _, b := range in {
		if b == whole {
			t.Error("a case changes nothing")
			continue
		}
		s, err := DecodeState([]byte(b))
		if err == nil {
			t.Errorf("accepted: %.200s", b)
		} else if s != nil {
			t.Errorf("an error and a state: %.200s", b)
		}
	}
	if s, err := DecodeState([]byte(whole)); err != nil || s.Hash() != w.s.Hash() {
		t.Errorf("the good one: %v", err)
	} else {
		use(s)
	}
}

// Whatever event the JSON of a forged record makes, applying it never panics and neither does using the state.
func FuzzApply(f *testing.F) {
	w := shop(f)
	w.fence(w.started(2), 0)
	w.do(PauseCutover{Cutover: "c1"})
	for _, r := range w.records {
		f.Add(r.Type, string(r.Data))
	}
	base := shop(f)
	base.started(2)
	f.Fuzz(func(_ *testing.T, typ, data string) {
		if s := base.s.Clone(); s.Apply(forge(s, typ, data)) == nil {
			use(s)
		}
	})
}
