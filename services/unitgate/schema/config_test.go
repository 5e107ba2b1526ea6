package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
)

func configValidator(t *testing.T) *jsonschema.Schema {
	t.Helper()
	return compile(t, jsonschema.NewCompiler(), "https://github.com/unitgate/unitgate/config.schema.json", read(t, configFile))
}

// A file with everything in it: every key of every object.
const whole = `{"namespace":"shop",
"policy":{"ownership":"available","lease":"30s","hold":"5s","closeCode":1012,"evictRate":1000,
	"gate":{"landed":90,"handshakeErrors":5,"originErrors":5,"window":"30s","action":"pause"}},
"unitTypes":[{"name":"unit_type","slots":10000,"substring":{"from":-4,"length":4},"routerId":["header:routerId","cookie:routerId","path:2","subprotocol"],"unmarked":"local","form":"normal","fold":"none"}],
"units":[{"id":"center","name":"杭州中心","center":true},{"id":"unbj","name":"北京单元","center":false}],
"clusters":[{"id":"ws-hz-2","unit":"center","protocol":"websocket","instances":["hz-1"]},{"id":"ws-bj-2","unit":"unbj"}],
"loadBalancers":[{"id":"slb-hz-1","cluster":"ws-hz-2","address":"203.0.113.10"}],
"domains":[{"host":"websocket.msha.tech","unitType":"unit_type","protocol":"websocket","scheme":"auto","correction":"redirect",
	"dns":{"provider":"rfc2136","zone":"msha.tech","multiUnit":true},
	"units":{"center":{"subdomain":"center.websocket.msha.tech:8080","cluster":"ws-hz-2"},"unbj":{"cluster":"ws-bj-2"}},
	"uris":[{"path":"/","origins":{"center":"10.0.0.1:9000, 10.0.0.2:9000","unbj":"10.1.0.1:9000"},"connectTimeout":"2s","replyTimeout":"30s",
		"health":{"probe":"http","path":"/healthz?a=b","host":"app.example:8080","expect":"2xx-3xx","interval":"5s","timeout":"1.5s","rise":2,"fall":3}}]}],
"hooks":[{"name":"ask","url":"https://ops.example/unitgate","on":"pre","wait":"success","timeout":"10s"}],
"rules":{"unit_type":{"ranges":{"center":["0-5997"],"unbj":["5998-9998","9999"]},"exact":{"unbj":["4001","vip-7"]},"exactDelta":{"unbj":"AQEHAA=="}}}}`

// accepted reports what the code says of a config: how it is refused, or nil.
func accepted(text []byte) *events.Error {
	var cfg events.Config
	err := events.DecodeStrict(text, &cfg)
	if err == nil {
		err = events.CheckID(cfg.Namespace, "namespace")
	}
	if err == nil {
		_, err = events.PlanConfig(events.NewState(), cfg, events.PlanOptions{})
	}
	var e *events.Error
	if err != nil && !errors.As(err, &e) {
		panic(err)
	}
	return e
}

// byTheRest are refusals for what a schema cannot see: how parts of the file, or of the namespace, go together.
var byTheRest = []string{
	"unknown_unit", "unknown_unit_type", "unknown_cluster", "center", "duplicate_name", "range_gap", "range_overlap", "exact_conflict", "rules_exist",
}

// Every config file of the tests and of its page that the code takes, or would take somewhere, the schema takes, too.
func TestSchemaTakesEveryGoodFile(t *testing.T) {
	s := configValidator(t)
	texts := map[string]string{"whole": whole}
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, glob := range []string{"services/unitgate/cli/testdata/*/*.txtar", "services/unitgate/configfile/README.md"} {
		names, err := filepath.Glob(filepath.Join(root, glob))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(name) == "README.md" {
				texts[name] = regexp.MustCompile("(?s)```yaml\n(namespace:.*?)```").FindStringSubmatch(string(text))[1]
			}
			for _, f := range txtar.Parse(text).Files {
				texts[name+" "+f.Name] = string(f.Data)
			}
		}
	}
	taken := 0
	for name, text := range texts {
		files, err := configfile.ParseAll(name, []byte(text))
		if err != nil {
			continue
		}
		for _, f := range files {
			doc, err := f.JSON()
			if err != nil {
				t.Fatal(err)
			}
			if e := accepted(doc); e != nil && !slices.Contains(byTheRest, e.Code) {
				continue
			}
			taken++
			if err := s.Validate(instance(t, doc)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if taken < 15 {
		t.Errorf("only %d good files were found", taken)
	}
}

// Of the bad files the schema refuses those that are bad in their form. What it cannot say is listed with the reason.
func TestSchemaRefusesBadForm(t *testing.T) {
	beyond := map[string]string{ // field, or name of the case: why not
		"policy.hold":                  "bounds of a duration are no pattern",
		"policy.lease":                 "bounds of a duration are no pattern",
		"policy.gate":                  "one of three must be set",
		"units[0].name":                "control characters",
		"domains[0].dns.zone":          "what the provider needs",
		"domains[0].units.a.subdomain": "host names, with or without a port",
		"loadBalancers[0].address":     "addresses of both kinds, or a name",
		"rules.t.ranges.a[0]":          "FROM not above TO",
		"rules.t":                      "what all ranges or IDs are together",
		"an exponent":                  "a whole number in JSON Schema's eyes",
		"an octal number":              "a whole number in YAML's eyes",
	}
	s := configValidator(t)
	text, err := os.ReadFile(filepath.Join("..", "configfile", "testdata", "bad.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, f := range txtar.Parse(text).Files {
		head, _, _ := strings.Cut(string(f.Data), "\n")
		said := strings.Fields(head) // "# code field line text"
		code, field := said[1], said[2]
		var v any
		if strings.Count(string(f.Data), "\n---\n") > 0 || code == "bad_yaml" || code == "duplicate_field" || yaml.Unmarshal(f.Data, &v) != nil {
			continue // an editor's YAML says that
		}
		doc, err := json.Marshal(v)
		if err != nil {
			continue // infinity is nothing that JSON could say
		}
		bad := s.Validate(instance(t, doc)) != nil
		if bad {
			refused++
		}
		if !bad && beyond[field] == "" && beyond[f.Name] == "" && !slices.Contains(byTheRest, code) {
			t.Errorf("%s (%s at %s) is fine by the schema", f.Name, code, field)
		}
	}
	if refused < 55 {
		t.Errorf("the schema refuses %d of the bad files only", refused)
	}
}

// The schema never refuses what the code takes: whatever becomes of a file with everything in it after some changes at random.
func TestSchemaRefusesNothingGood(t *testing.T) {
	s := configValidator(t)
	good, bad := 0, 0
	for seed := range uint64(3000) {
		m := mutation{rand.New(rand.NewPCG(seed, 7))}
		var v any
		if err := json.Unmarshal([]byte(whole), &v); err != nil {
			t.Fatal(err)
		}
		for range 1 + m.IntN(3) {
			v = m.change(v)
		}
		doc, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		e, refused := accepted(doc), s.Validate(instance(t, doc))
		switch {
		case e == nil && refused != nil:
			t.Fatalf("seed %d: the code takes what the schema refuses: %v\n%s", seed, refused, doc)
		case e == nil:
			good++
		case refused != nil:
			bad++
		}
	}
	if good < 250 || bad < 1000 {
		t.Errorf("only %d good and %d bad files were tried", good, bad)
	}
}

// mutation changes a document somewhere.
type mutation struct{ *rand.Rand }

func (m mutation) change(v any) any {
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		if len(keys) == 0 || m.IntN(40) == 0 {
			return m.value()
		}
		k := keys[m.IntN(len(keys))]
		switch m.IntN(10) {
		case 0, 1:
			delete(v, k)
		case 2:
			v[fmt.Sprint(m.value())] = v[k]
		default:
			v[k] = m.change(v[k])
		}
		return v
	case []any:
		if len(v) == 0 || m.IntN(20) == 0 {
			return m.value()
		}
		i := m.IntN(len(v))
		switch m.IntN(10) {
		case 0:
			return slices.Delete(v, i, i+1)
		case 1:
			return append(v, v[i])
		}
		v[i] = m.change(v[i])
		return v
	}
	return m.value()
}

func (m mutation) value() any {
	values := []any{
		"", "a", "websocket", "available", "exclusive", "local", "reject", "split", "redirect", "proxy", "close", "auto", "http", "https", "ws", "wss", "protocol-relative",
		"none", "tcp", "rfc2136", "alidns", "pre", "post", "success", "end", "pause", "rollback", "2xx-3xx", "2xx", "any", "header:X-Id", "path:9", "subprotocol",
		"0s", "1m", "1h2m3s", "-5s", "+5s", ".5s", "1.s", "500ms", "2µs", "2us", "0", "0-9999", "5998-9999", "9999", "010-011", "10.0.0.1:80", " 10.0.0.1:80 , [::1]:81", "a.example:080",
		"203.0.113.1", "2001:db8::1", "a.example", "msha.tech", "_sip.a.example", "/chat", "/a/b;c=d", "HTTP://ops.example/", "http://ops.example", "center", "unbj", "ws-hz-2", "unit_type", "Unit-Type_9", "\u00a0", "用户", "x y",
		"center.websocket.msha.tech", "a-", "-a", strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("界", 80), strings.Repeat("界", 90), strings.Repeat("x", 257),
		0, 1, -1, 2, 100, 101, 256, 257, -256, 1001, 1012, 1013, 3000, 4999, 5000, 1 << 20, 1<<20 + 1, 1_000_000, 1_000_001, 1.5, true, false, nil, []any{}, map[string]any{}, []any{"a"}, map[string]any{"a": "b"},
	}
	return values[m.IntN(len(values))]
}

// Where the schema lists texts, the code lists the same ones when it refuses another.
func TestEnumsAreThoseOfTheCode(t *testing.T) {
	doc := read(t, configFile).(map[string]any)
	found := map[string]bool{}
	var walk func(v any, s map[string]any, path string, set func(any))
	var root any
	if err := json.Unmarshal([]byte(whole), &root); err != nil {
		t.Fatal(err)
	}
	walk = func(v any, s map[string]any, path string, set func(any)) {
		s = resolve(doc, s)
		if list, ok := s["enum"].([]any); ok {
			var want []string
			for _, w := range list {
				if w != "" {
					want = append(want, w.(string))
				}
			}
			found[path] = true
			set("hope")
			text, err := json.Marshal(root)
			if err != nil {
				t.Fatal(err)
			}
			set(v)
			e := accepted(text)
			if e == nil || e.Field != path {
				t.Errorf("%s: hope is refused with %v", path, e)
				return
			}
			if got := allowed(e.Message); !slices.Equal(got, want) {
				t.Errorf("%s: the code says %q, so it takes %q; the schema takes %q", path, e.Message, got, want)
			}
		}
		properties, _ := s["properties"].(map[string]any)
		more, _ := s["additionalProperties"].(map[string]any)
		switch v := v.(type) {
		case map[string]any:
			for k := range properties {
				if _, ok := v[k]; !ok && path != "units[1]" && path != "clusters[1]" && !strings.HasSuffix(path, "unbj") {
					t.Errorf("%s has no %s: add it to the file with everything in it", path, k)
				}
			}
			for k, w := range v {
				next := more
				if p, ok := properties[k].(map[string]any); ok {
					next = p
				}
				walk(w, next, strings.TrimPrefix(path+"."+k, "."), func(x any) { v[k] = x })
			}
		case []any:
			for i, w := range v {
				walk(w, s["items"].(map[string]any), fmt.Sprintf("%s[%d]", path, i), func(x any) { v[i] = x })
			}
		}
	}
	walk(root, doc, "", nil)
	if len(found) < 11 {
		t.Errorf("only these list texts: %v", slices.Sorted(maps.Keys(found)))
	}
}

// resolve follows references, also where they stand in an allOf.
func resolve(doc, s map[string]any) map[string]any {
	if all, ok := s["allOf"].([]any); ok {
		s = all[0].(map[string]any)
	}
	if to, ok := s["$ref"].(string); ok {
		return doc["$defs"].(map[string]any)[strings.TrimPrefix(to, "#/$defs/")].(map[string]any)
	}
	return s
}

var separator = regexp.MustCompile(`, | or `)

// allowed are the texts that an error's message lists: "…: want none, tcp or http", "…: only websocket is there".
func allowed(message string) []string {
	if _, list, ok := strings.Cut(message, ": want "); ok {
		return separator.Split(list, -1)
	}
	if _, one, ok := strings.Cut(message, ": only "); ok {
		return []string{strings.TrimSuffix(one, " is there")}
	}
	return nil
}
