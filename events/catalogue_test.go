package events

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// methodsNamed are the types of this package's source that have a method of this name.
func methodsNamed(t *testing.T, name string) map[string]bool {
	t.Helper()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]bool{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == name && fn.Recv != nil {
				types[fn.Recv.List[0].Type.(*ast.Ident).Name] = true
			}
		}
	}
	return types
}

func TestEveryCommandIsInTheCatalogueOnce(t *testing.T) {
	source := methodsNamed(t, "isCommand")
	names, subjects, pasts := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, e := range entries() {
		name := reflect.TypeOf(e.command).Name()
		if names[name] || !source[name] {
			t.Errorf("%s stands in the catalogue twice, or is no command", name)
		}
		if subjects[e.entity+"."+e.verb] || pasts[e.entity+"."+e.past] {
			t.Errorf("%s.%s or its event %s.%s is taken", e.entity, e.verb, e.entity, e.past)
		}
		names[name], subjects[e.entity+"."+e.verb], pasts[e.entity+"."+e.past] = true, true, true
		for _, token := range []string{e.entity, e.verb, e.past} { // they are tokens of a NATS subject
			if token == "" || strings.Trim(token, "abcdefghijklmnopqrstuvwxyz") != "" {
				t.Errorf("%q cannot stand in a subject", token)
			}
		}
		if got := NameOf(e.command); got != (Name{e.entity, e.verb, e.past}) {
			t.Errorf("NameOf(%s) = %v", name, got)
		}
	}
	if len(names) != len(source) {
		t.Errorf("the source has %v, the catalogue %v", slices.Sorted(maps.Keys(source)), slices.Sorted(maps.Keys(names)))
	}
}

func TestEveryEventIsRegistered(t *testing.T) {
	source := methodsNamed(t, "isEvent")
	if len(source) != len(wireTypes) || len(source) < 20 {
		t.Errorf("the source has %d events, %d are registered", len(source), len(wireTypes))
	}
	for name, typ := range wireTypes {
		if !source[name] || typ.Name() != name {
			t.Errorf("%s is registered for %s", name, typ)
		}
	}
}

// Commands of the driver cannot be sent from outside, nor can what the control plane measures.
func TestInternalCommandsAreNotDecoded(t *testing.T) {
	outside := map[Name]bool{}
	for _, n := range Names() {
		outside[n] = true
	}
	for _, e := range entries() {
		_, err := DecodeCommand(e.entity, e.verb, []byte(`{}`))
		if e.internal != (err != nil) || outside[NameOf(e.command)] == e.internal {
			t.Errorf("%s.%s: internal %v, decoding says %v", e.entity, e.verb, e.internal, err)
		}
	}
	w := newWorld(t)
	for _, c := range []struct{ entity, verb, data, field string }{
		{"cutover", "preview", `{"counted":{"sessions":0}}`, "counted"},
		{"cutover", "check", `{"cutover":"c1","checks":[]}`, "checks"},
		{"cutover", "retry", `{"cutover":"c1","check":"x","result":{}}`, "result"},
		{"cutover", "start", `{"cutover":"c1","checks":[]}`, "checks"},
		{"cutover", "pause", `{"cutover":"c1","term":1}`, "term"},
		{"cutover", "pause", `{"cutover":"c1","code":"deadline"}`, "code"},
		{"cutover", "pause", `{"cutover":"c1","Term":1}`, "Term"},
		{"cutover", "pause", `{"cutover":"c1","-":1}`, "-"},
	} {
		_, err := DecodeCommand(c.entity, c.verb, []byte(c.data))
		w.refused(c.data, err, ErrUnknownField, c.field)
	}
	for _, c := range [][2]string{{"", ""}, {"cutover", ""}, {"cutover", "Start"}, {"cutover", "started"}, {"driver", "takeoffice"}, {"wave", "fence"}, {"wave", "commit"}, {"cutover", "complete"}} {
		_, err := DecodeCommand(c[0], c[1], []byte(`{}`))
		w.refused(c, err, ErrBadCommand, "")
	}
}

// What a command leads to is an event of the type that the catalogue says.
func TestCatalogueNamesTheEvents(t *testing.T) {
	stored := map[string]string{}
	for _, r := range history(t).records {
		stored[r.Entity+"."+r.Verb] = r.Type
	}
	if len(stored) < 20 {
		t.Fatalf("the history has only %d kinds of records", len(stored))
	}
	for _, e := range Catalogue() {
		if got, ok := stored[e.Entity+"."+e.Past]; ok && got != e.Event.Name() {
			t.Errorf("%s.%s is stored as %s, the catalogue says %s", e.Entity, e.Past, got, e.Event.Name())
		}
	}
}
