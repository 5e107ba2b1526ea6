package events

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

func formConfig(form, fold, ownership string, exact ...string) Config {
	return Config{
		Namespace: "shop", Policy: &PolicyPatch{Ownership: &ownership},
		UnitTypes: []UnitType{{Name: "t", Slots: 10, Form: form, Fold: fold}},
		Units:     []Unit{{ID: "a", Center: true}, {ID: "b"}},
		Rules:     map[string]RulesConfig{"t": {Ranges: map[string][]routing.Range{"a": {{From: 0, To: 9}}}, Exact: map[string][]string{"b": exact}}},
	}
}

// applied is the state after configs, one after the other, or the error of the last one.
func applied(t *testing.T, configs ...Config) (*State, Plan, error) {
	t.Helper()
	s := NewState()
	s.Namespace = "shop"
	var plan Plan
	for i, c := range configs {
		var err error
		if plan, err = PlanConfig(s, c, PlanOptions{Warn: true}); err != nil {
			if i < len(configs)-1 {
				t.Fatal(err)
			}
			return s, plan, err
		}
		s = s.Clone()
		s.change(Record{Seq: s.Seq + 1}, plan.Changes)
	}
	return s, plan, nil
}

// A new unit type takes the normal form, and its lists are written in it, whoever writes them how.
func TestNewTypesAreNormal(t *testing.T) {
	s, _, err := applied(t, formConfig("", "lower", "available", "RENE\u0301", "user%40example.com", "User@Example.com"))
	if err != nil {
		t.Fatal(err)
	}
	if ut := s.UnitTypes[0]; ut.Form != FormNormal {
		t.Errorf("form %q", ut.Form)
	}
	if got := s.Rules["t"].Current.Exact()["b"]; !slices.Equal(got, []string{"rené", "user@example.com"}) {
		t.Errorf("exact IDs %q", got)
	}
	for _, id := range []string{"user%2540example.com", "\ufeff4001", `"%22x%22"`} {
		if _, _, err := applied(t, formConfig("", "", "available", id)); !errors.Is(err, ErrBadRouterID) || !strings.Contains(err.Error(), "rules.t") {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// A journal that is older than forms keeps the slots of its users until somebody says otherwise.
func TestOldTypesStayAsSent(t *testing.T) {
	old := formConfig("as-sent", "", "available", "user%40example.com")
	s, _, err := applied(t, old)
	if err != nil {
		t.Fatal(err)
	}
	s.UnitTypes[0].Form = "" // as it stands in such a journal
	plan, err := PlanConfig(s, formConfig("", "", "available", "user%40example.com"), PlanOptions{Warn: true})
	if err != nil || !plan.Empty() {
		t.Fatalf("%v %v", plan.Lines, err)
	}
	if len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "1 of 1 exact IDs") || !strings.Contains(plan.Warnings[0], "set form: normal") {
		t.Errorf("warnings %q", plan.Warnings)
	}
	if plan, err = PlanConfig(s, old, PlanOptions{Warn: true}); err != nil || !plan.Empty() {
		t.Errorf("as-sent, said or not, is one: %v %v", plan.Lines, err)
	}
}

// The form changes only where nobody is lost by it.
func TestChangeOfForm(t *testing.T) {
	asSent := formConfig("as-sent", "", "available", "ID-7", "id-7")
	normal := formConfig("normal", "lower", "available", "id-7")
	s, plan, err := applied(t, asSent, normal)
	if err != nil || s.UnitTypes[0].Form != FormNormal || s.UnitTypes[0].Fold != FoldLower {
		t.Fatalf("%+v %v", s.UnitTypes, err)
	}
	if len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "the form of its routerIds changes") {
		t.Errorf("warnings %q", plan.Warnings)
	}
	encoded := formConfig("as-sent", "", "available", "user%40example.com", "user@example.com")
	s, _, err = applied(t, encoded, Config{Namespace: "shop", UnitTypes: normal.UnitTypes})
	if err != nil {
		t.Fatal(err) // both spellings are in the list, and one of them is the key
	}
	encoded.UnitTypes = normal.UnitTypes
	if plan, err := PlanConfig(s, encoded, PlanOptions{Warn: true}); err != nil || !plan.Empty() {
		t.Errorf("the file of before: %v %v", plan.Lines, err)
	}
	s, _, err = applied(t, normal, Config{Namespace: "shop", UnitTypes: asSent.UnitTypes})
	if err != nil || s.UnitTypes[0].Fold == FoldLower {
		t.Errorf("back: %+v %v", s.UnitTypes, err)
	}
	for what, c := range map[string][]Config{
		"would not be found any more":     {formConfig("as-sent", "", "available", "ID-7"), {Namespace: "shop", UnitTypes: normal.UnitTypes}},
		"under exclusive ownership":       {formConfig("as-sent", "", "exclusive", "id-7"), formConfig("normal", "", "exclusive", "id-7")},
		"fold is for routerIds in normal": {formConfig("as-sent", "", "available"), formConfig("", "lower", "available")},
	} {
		if _, _, err := applied(t, c...); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want %q, got %v", what, err)
		}
	}
}

func TestUUIDsSuggestFolding(t *testing.T) {
	_, plan, err := applied(t, formConfig("", "", "available", "F47AC10B-58CC-4372-A567-0E02B2C3D479"))
	if err != nil || len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "set fold: lower") {
		t.Errorf("%q %v", plan.Warnings, err)
	}
}

// What a list loses is found as it is written there, or by its key, each ID for itself.
func TestRemovalsByForm(t *testing.T) {
	old, err := routing.NewIDs([]string{"ABC", "abc", "def"})
	if err != nil {
		t.Fatal(err)
	}
	p := exactPatch{remove: map[string]routing.IDs{"b": routing.MustIDs("ABC", "DEF")}}
	p, err = p.inForm(UnitType{Form: FormNormal, Fold: FoldLower}, map[string]routing.IDs{"b": old})
	if err != nil || !p.remove["b"].Equal(routing.MustIDs("ABC", "def")) {
		t.Errorf("%v %v", p.remove, err)
	}
}

// Under correction close a cookie stays behind, unless the edge can put the ID into the URL.
func TestCloseWarnsOfCookies(t *testing.T) {
	for source, want := range map[string]int{"cookie:id": 1, "header:id": 0, "query:id": 0} {
		types := map[string]UnitType{"t": {Name: "t", RouterID: []string{source}}}
		got := closeWarnings([]Domain{{Host: "shop.example", UnitType: "t", Correction: "close"}}, func(n string) (UnitType, bool) { v, ok := types[n]; return v, ok })
		if len(got) != want {
			t.Errorf("%s: %q", source, got)
		}
	}
}
