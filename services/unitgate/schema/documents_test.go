package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/unitgate/unitgate/events"
)

// The documents that are committed are those that the types and their comments give.
func TestDocumentsAreCurrent(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	made, err := documents(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range made {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the types say (%v): run `task generate`, which is `go run ./services/unitgate/schema`", name, err)
		}
	}
}

// read decodes a JSON file of the module as the validator wants it.
func read(t *testing.T, name string) any {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return instance(t, text)
}

func instance(t *testing.T, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func compile(t *testing.T, c *jsonschema.Compiler, name string, doc any) *jsonschema.Schema {
	t.Helper()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The AsyncAPI document is one by the official schema (npm @asyncapi/specs 6.11.1, schemas/3.0.0.json, Apache-2.0), and
// every reference in it leads somewhere.
func TestAsyncAPIIsValid(t *testing.T) {
	doc := read(t, asyncFile)
	official := read(t, "services/unitgate/schema/testdata/asyncapi-3.0.0.json")
	meta := compile(t, jsonschema.NewCompiler(), "http://asyncapi.com/definitions/3.0.0/asyncapi.json", official)
	if err := meta.Validate(doc); err != nil {
		t.Errorf("%v", err)
	}
	n := 0
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if to, ok := v["$ref"].(string); ok {
				n++
				if !leads(doc, to) {
					t.Errorf("%s refers to %s, which is not there", at, to)
				}
			}
			for k, w := range v {
				walk(at+"/"+k, w)
			}
		case []any:
			for _, w := range v {
				walk(at, w)
			}
		}
	}
	walk("#", doc)
	if n < 300 {
		t.Errorf("only %d references were followed", n)
	}
	// The test bites.
	root := doc.(map[string]any)
	op := root["operations"].(map[string]any)["take.unit.put"].(map[string]any)
	op["action"] = "shout"
	if meta.Validate(doc) == nil {
		t.Error("an operation that shouts is valid")
	}
}

// Large data travels packed, and the document says so of commands, outcomes and events alike.
func TestAsyncAPIKnowsThePackedForm(t *testing.T) {
	packed := string(events.Pack([]byte(`{"id":"a","name":"` + strings.Repeat("a", 200<<10) + `"}`)))
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	if err := c.AddResource("http://unitgate.test/asyncapi.json", read(t, asyncFile)); err != nil {
		t.Fatal(err)
	}
	for message, payload := range map[string]string{
		"command.config.apply": `{"actor":"me","data":` + packed + `}`,
		"reply.config.apply":   `{"ok":true,"seq":1,"data":` + packed + `}`,
		"outcome.config.apply": `{"id":"00000000-0000-4000-8000-000000000000","queued":1,"ok":true,"seq":1,"data":` + packed + `}`,
		"event.config.applied": packed,
	} {
		s, err := c.Compile("http://unitgate.test/asyncapi.json#/components/messages/" + message + "/payload")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(instance(t, []byte(payload))); err != nil {
			t.Errorf("%s: %v", message, err)
		}
	}
}

// leads follows a reference inside a document.
func leads(doc any, to string) bool {
	parts := bytes.Split([]byte(to), []byte("/"))
	if string(parts[0]) != "#" {
		return false
	}
	for _, p := range parts[1:] {
		m, ok := doc.(map[string]any)
		if !ok {
			return false
		}
		if doc, ok = m[string(p)]; !ok {
			return false
		}
	}
	return true
}
