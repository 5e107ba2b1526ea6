package events

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestDecodeStrict(t *testing.T) {
	deep := strings.Repeat("[", 2_000) + strings.Repeat("]", 2_000)
	for _, c := range []struct {
		name, command, data string
		code                *Error // nil: accepted
		field               string
	}{
		{"good", "unit.put", `{"id":"a","name":"杭州","center":true}`, nil, ""},
		{"spaces around", "unit.put", " \n{\t\"id\" : \"a\" } \r\n", nil, ""},
		{"escapes", "unit.put", `{"\u0069d":"\u0061"}`, nil, ""},
		{"empty object", "unit.put", `{}`, nil, ""},
		{"nothing", "unit.put", ``, ErrBadCommand, ""},
		{"spaces", "unit.put", `  `, ErrBadCommand, ""},
		{"null", "unit.put", `null`, ErrBadType, ""},
		{"a list", "unit.put", `[]`, ErrBadType, ""},
		{"a string", "unit.put", `"x"`, ErrBadType, ""},
		{"not JSON", "unit.put", `{id: "a"}`, ErrBadCommand, ""},
		{"cut", "unit.put", `{"id":"a"`, ErrBadCommand, ""},
		{"cut in a value", "unit.put", `{"id":"a`, ErrBadCommand, "id"},
		{"comma at the end", "unit.put", `{"id":"a",}`, ErrBadCommand, ""},
		{"two values", "unit.put", `{"id":"a"}{"id":"b"}`, ErrBadCommand, ""},
		{"something behind", "unit.put", `{"id":"a"}]`, ErrBadCommand, ""},
		{"no UTF-8", "unit.put", "{\"id\":\"\xff\"}", ErrBadCommand, ""},
		{"no UTF-8 in a key", "unit.put", "{\"\xff\":1}", ErrBadCommand, ""},
		{"byte order mark", "unit.put", "\ufeff{}", ErrBadCommand, ""},
		{"unknown key", "unit.put", `{"id":"a","colour":"red"}`, ErrUnknownField, "colour"},
		{"another case", "unit.put", `{"ID":"a"}`, ErrUnknownField, "ID"},
		{"a Go name", "unit.put", `{"Unit":{"id":"a"}}`, ErrUnknownField, "Unit"},
		{"empty key", "unit.put", `{"":1}`, ErrUnknownField, ""},
		{"twice", "unit.put", `{"id":"a","id":"a"}`, ErrDuplicateField, "id"},
		{"twice, written differently", "unit.put", `{"id":"a","\u0069d":"b"}`, ErrDuplicateField, "id"},
		{"null in a field", "unit.put", `{"id":null}`, ErrBadType, "id"},
		{"number for a string", "unit.put", `{"id":7}`, ErrBadType, "id"},
		{"string for a boolean", "unit.put", `{"center":"true"}`, ErrBadType, "center"},
		{"number for a boolean", "unit.put", `{"center":1}`, ErrBadType, "center"},
		{"deep nesting", "unit.put", `{"id":` + deep + `}`, ErrBadCommand, "id"},
		{"deep nesting of nothing", "unit.put", deep, ErrBadType, ""},
		{"deep nesting of objects", "config.apply", `{"config":` + strings.Repeat(`{"rules":`, 2_000) + `1` + strings.Repeat("}", 2_001), ErrUnknownField, "config.rules.rules.rules"},
		{"deep nesting in a text", "unit.put", `{"id":` + strings.Repeat(`{"a":[`, 500) + `1` + strings.Repeat("]}", 501), ErrBadCommand, "id"},
		{"cut in a list", "config.apply", `{"config":{"units":[{"id":"a"},{"id":"b`, ErrBadCommand, "config.units[1].id"},
		{"comma at the end of a list", "config.apply", `{"config":{"units":[{"id":"a"},]}}`, ErrBadCommand, "config.units"},
		{"no comma", "unit.put", `{"id":"a" "name":"b"}`, ErrBadCommand, ""},
		{"no colon", "unit.put", `{"id" "a"}`, ErrBadCommand, ""},
		{"no value", "unit.put", `{"id":}`, ErrBadCommand, "id"},
		{"half an escape", "unit.put", `{"id":"\u00g0"}`, ErrBadCommand, "id"},
		{"no escape", "unit.put", `{"id":"\x00"}`, ErrBadCommand, "id"},
		{"half of a surrogate", "unit.put", `{"name":"\ud83d"}`, nil, ""},
		{"raw control character", "unit.put", "{\"id\":\"a\nb\"}", ErrBadCommand, "id"},
		{"half a word", "unit.put", `{"center":tru}`, ErrBadCommand, "center"},
		{"almost null", "unit.put", `{"center":nullx}`, ErrBadType, "center"},
		{"plus", "edge.join", `{"capacity":+1}`, ErrBadCommand, "capacity"},
		{"minus alone", "edge.join", `{"capacity":-}`, ErrBadCommand, "capacity"},
		{"point at the end", "edge.join", `{"capacity":1.}`, ErrBadCommand, "capacity"},
		{"no exponent", "edge.join", `{"capacity":1e+}`, ErrBadCommand, "capacity"},
		{"minus zero", "edge.join", `{"capacity":-0}`, nil, ""},
		{"too much floating point", "namespace.create", `{"policy":{"gate":{"landed":1e400}}}`, ErrBadType, "policy.gate.landed"},
		{"list for a string", "unit.put", `{"id":["a"]}`, ErrBadType, "id"},
		{"huge number", "edge.join", `{"capacity":1e400}`, ErrBadType, "capacity"},
		{"many digits", "edge.join", `{"capacity":99999999999999999999}`, ErrBadType, "capacity"},
		{"fraction", "edge.join", `{"capacity":1.5}`, ErrBadType, "capacity"},
		{"exponent", "edge.join", `{"capacity":1e3}`, ErrBadType, "capacity"},
		{"leading zero", "edge.join", `{"capacity":01}`, ErrBadCommand, ""},
		{"negative for unsigned", "config.apply", `{"base":-1}`, ErrBadType, "base"},
		{"beyond 32 bits", "config.apply", `{"config":{"unitTypes":[{"slots":4294967296}]}}`, ErrBadType, "config.unitTypes[0].slots"},
		{"in a list", "config.apply", `{"config":{"units":[{"id":"a"},{"id":"b","x":1}]}}`, ErrUnknownField, "config.units[1].x"},
		{"in a map", "config.apply", `{"config":{"rules":{"t":{"ranges":{"a":["0-9","9-0"]}}}}}`, ErrBadRange, "config.rules.t.ranges.a[1]"},
		{"twice in a map", "config.apply", `{"config":{"rules":{"t":{},"t":{}}}}`, ErrDuplicateField, "config.rules.t"},
		{"null in a list", "config.apply", `{"config":{"units":[null]}}`, ErrBadType, "config.units[0]"},
		{"null in a map", "config.apply", `{"config":{"rules":{"t":null}}}`, ErrBadType, "config.rules.t"},
		{"object for a list", "config.apply", `{"config":{"units":{}}}`, ErrBadType, "config.units"},
		{"list for a map", "config.apply", `{"config":{"rules":[]}}`, ErrBadType, "config.rules"},
		{"range as a number", "rules.init", `{"ranges":{"a":[7]}}`, ErrBadType, "ranges.a[0]"},
		{"range as text", "rules.init", `{"ranges":{"a":["seven"]}}`, ErrBadRange, "ranges.a[0]"},
		{"exact ID as a number", "rules.init", `{"exact":{"a":[4001]}}`, ErrBadType, "exact.a[0]"},
		{"duration", "namespace.create", `{"policy":{"lease":"30s"}}`, nil, ""},
		{"duration as a number", "namespace.create", `{"policy":{"lease":30}}`, ErrBadType, "policy.lease"},
		{"duration as text", "namespace.create", `{"policy":{"lease":"soon"}}`, ErrBadValue, "policy.lease"},
		{"duration without a unit", "namespace.create", `{"policy":{"lease":"30"}}`, ErrBadValue, "policy.lease"},
		{"duration too long", "namespace.create", `{"policy":{"lease":"9999999h"}}`, ErrBadValue, "policy.lease"},
		{"rate", "cutover.preview", `{"rate":100}`, nil, ""},
		{"rate without limit", "cutover.preview", `{"rate":"max"}`, nil, ""},
		{"rate zero", "cutover.preview", `{"rate":0}`, ErrBadValue, "rate"},
		{"rate negative", "cutover.preview", `{"rate":-1}`, ErrBadValue, "rate"},
		{"rate as text", "cutover.preview", `{"rate":"100"}`, ErrBadValue, "rate"},
		{"rate as a list", "cutover.preview", `{"rate":[1]}`, ErrBadValue, "rate"},
		{"rate null", "cutover.preview", `{"rate":null}`, ErrBadType, "rate"},
		{"origins", "domain.put", `{"uris":[{"path":"/","origins":{"a":" h:1 , h:2"}}]}`, nil, ""},
		{"health", "domain.put", `{"uris":[{"path":"/","connectTimeout":"2s","health":{"probe":"http","interval":"5s","rise":2}}]}`, nil, ""},
		{"health: unknown key", "domain.put", `{"uris":[{"path":"/","health":{"probe":"tcp","intervall":"5s"}}]}`, ErrUnknownField, "uris[0].health.intervall"},
		{"health: time as a number", "domain.put", `{"uris":[{"path":"/","health":{"probe":"tcp","interval":5}}]}`, ErrBadType, "uris[0].health.interval"},
		{"health: null", "domain.put", `{"uris":[{"path":"/","health":null}]}`, ErrBadType, "uris[0].health"},
		{"origins as a list", "domain.put", `{"uris":[{"path":"/","origins":{"a":["h:1"]}}]}`, ErrBadType, "uris[0].origins.a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			entity, verb, _ := strings.Cut(c.command, ".")
			got, err := DecodeCommand(entity, verb, []byte(c.data))
			if c.code == nil {
				if err != nil {
					t.Fatal(err)
				}
				sameAsJSON(t, got, []byte(c.data))
				return
			}
			newWorld(t).refused(c.name, err, c.code, c.field)
			if got != nil {
				t.Errorf("an error and a command: %+v", got)
			}
		})
	}
}

// sameAsJSON checks that encoding/json reads the same value from the data.
func sameAsJSON(t *testing.T, got any, data []byte) {
	t.Helper()
	plain := reflect.New(reflect.TypeOf(got))
	if err := json.Unmarshal(data, plain.Interface()); err != nil {
		t.Fatalf("encoding/json refuses %s: %v", data, err)
	}
	if !reflect.DeepEqual(plain.Elem().Interface(), got) {
		t.Fatalf("%s is %+v, encoding/json says %+v", data, got, plain.Elem())
	}
}

// What a caller sends never makes an error message endless.
func TestErrorsAreShort(t *testing.T) {
	huge := strings.Repeat("界", 100_000)
	for _, data := range []string{`{"` + huge + `":1}`, `{"id":` + strings.Repeat("9", 100_000) + `}`, `{"id":"a","id":"` + huge + `"}`, `"` + huge + `"`} {
		err := DecodeStrict([]byte(data), &PutUnit{})
		if err == nil || len(err.Error()) > 2000 {
			t.Errorf("%.40s…: %.300v", data, err)
		}
	}
	w := shop(t)
	for _, c := range []Command{PutUnit{Unit{ID: huge}}, ActivateDomain{Host: huge}, CheckCutover{Cutover: huge}, PreviewCutover{UnitType: huge}} {
		if _, err := w.try(c); err == nil || len(err.Error()) > 2000 {
			t.Errorf("%T: %.300v", c, err)
		}
	}
}

// DecodeStrict leaves the value alone when it refuses the data.
func TestDecodeStrictLeavesValueAlone(t *testing.T) {
	u := Unit{ID: "old", Name: "old"}
	if err := DecodeStrict([]byte(`{"id":"new","name":7}`), &u); err == nil || u.ID != "old" {
		t.Errorf("%+v, %v", u, err)
	}
	if err := DecodeStrict([]byte(`{"id":"new"}`), &u); err != nil || u != (Unit{ID: "new"}) {
		t.Errorf("%+v, %v: nothing of the old value stays", u, err)
	}
}

// No input makes the decoder panic; what it accepts, encoding/json accepts with the same value; what it refuses has a
// code. And Decide takes whatever was decoded.
func FuzzDecodeCommand(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"id":"a","name":"x","center":true}`, `{"cutover":"c1","check":"edges-at-head","reason":"x"}`,
		`{"base":1,"config":{"namespace":"shop","units":[{"id":"a"}],"rules":{"unit_type":{"ranges":{"a":["0-9"]},"exact":{"a":["x"]}}}}}`,
		`{"ranges":{"center":["0-6380"],"unbj":["6381-9999"]},"exact":{"unbj":["1"]},"waves":3,"rate":"max"}`,
		`{"host":"a.example","units":{"center":{"cluster":"ws-hz-2"}},"uris":[{"path":"/","origins":{"center":"h:1,h:2"}}]}`,
		`{"policy":{"lease":"30s","hold":"5s","closeCode":1012},"unitTypes":[{"name":"t","slots":10,"routerId":["header:a"]}]}`,
	} {
		for i := range Names() {
			f.Add(i, []byte(s))
		}
	}
	w := shop(f)
	w.started(2)
	f.Fuzz(func(t *testing.T, i int, data []byte) {
		names := Names()
		n := names[uint(i)%uint(len(names))]
		c, err := DecodeCommand(n.Entity, n.Verb, data)
		if err != nil {
			if e, ok := err.(*Error); !ok || e.Code == "" || e.Message == "" {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		again, err := json.Marshal(c) // what was taken is taken again
		if err != nil {
			t.Fatal(err)
		}
		if c2, err := DecodeCommand(n.Entity, n.Verb, again); err != nil && !errors.Is(err, ErrTooLarge) && !strings.Contains(string(again), "null") {
			t.Fatalf("%s is taken as %+v, and its form %s is not: %v", data, c, again, err)
		} else if err == nil {
			sameAsJSON(t, c2, again)
		}
		if !strings.Contains(string(data), "null") { // inside an Unmarshaler both may differ in how they read it
			sameAsJSON(t, c, data)
		}
		u := &world{t: t, s: w.s.Clone(), now: start}
		_, _ = u.try(c)
	})
}
