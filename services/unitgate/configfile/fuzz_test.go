package configfile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
)

// FuzzParse: nothing makes the reader panic, every refusal is an *Error with a code and a sensible line, and what is
// accepted says the same after it was written as YAML and read again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	for _, s := range []string{
		"namespace: a", "namespace: a\nrules: {t: {ranges: {c: [0-9]}, exact: {c: [\"1\"]}}}", "{namespace: a, units: [{id: 1}]}",
		"namespace: &a b\nunits: *a", "a: 1\na: 2", "? [x]\n: y", "namespace: !!binary aGk=", "---\n...\n---\n", "- 1\n-\t2", "namespace: a\npolicy: {hold: 1}",
		"namespace: \"\\u0085\\x7f\"\nunits: [{id: u, name: \"\\u2028\"}]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := configfile.Parse("f", data)
		if err != nil {
			var e *configfile.Error
			if !errors.As(err, &e) || e.Cause.Code == "" || e.Line < 0 || e.Line > len(data)+1 {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		// A plan of whatever was accepted fails with a located error or not at all.
		if _, err := events.PlanConfig(events.NewState(), file.Config, events.PlanOptions{}); err != nil {
			var e *configfile.Error
			if !errors.As(file.Locate(err), &e) {
				t.Fatalf("plan: %v", err)
			}
		}
		again, err := configfile.Parse("again", encode(t, file.Config))
		if err != nil {
			t.Fatalf("%v\n%s", err, encode(t, file.Config))
		}
		// Compared as JSON: for a list, absent and empty are the same.
		if was, is := asJSON(t, file.Config), asJSON(t, again.Config); !bytes.Equal(was, is) {
			t.Fatalf("was %s\nis %s", was, is)
		}
	})
}

func asJSON(t *testing.T, c events.Config) []byte {
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// encode writes a config as YAML.
func encode(t *testing.T, c events.Config) []byte {
	dec := json.NewDecoder(bytes.NewReader(asJSON(t, c)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	out, err := yaml.Marshal(numbers(v))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// numbers replaces JSON's numbers by integers, which is all that a config has, and leaves out what is null.
func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			if v[k] == nil { // an absent list
				delete(v, k)
			} else {
				v[k] = numbers(v[k])
			}
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case json.Number:
		n, _ := v.Int64()
		return n
	}
	return v
}
