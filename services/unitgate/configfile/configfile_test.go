package configfile_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
)

const whole = `# the whole of a namespace
namespace: shop
policy: {ownership: available, lease: 30s, hold: 5s, closeCode: 1012, evictRate: 1000}
unitTypes:
  - name: unit_type
    slots: 10000
    routerId: [header:routerId, cookie:routerId, query:routerId]
    unmarked: local
units:
  - {id: center, name: 杭州中心, center: true}
  - {id: unbj, name: 北京单元}
clusters:
  - {id: ws-hz-2, unit: center, protocol: websocket}
  - {id: ws-bj-2, unit: unbj, protocol: websocket}
loadBalancers:
  - {id: slb-hz-1, cluster: ws-hz-2, address: 203.0.113.10}
domains:
  - host: websocket.msha.tech
    unitType: unit_type
    protocol: websocket
    scheme: auto
    correction: redirect
    dns: {provider: none, multiUnit: true}
    units:
      center: {subdomain: center.websocket.msha.tech, cluster: ws-hz-2}
      unbj: {subdomain: unbj.websocket.msha.tech, cluster: ws-bj-2}
    uris:
      - {path: /, origins: {center: "10.0.0.1:9000,10.0.0.2:9000", unbj: "10.1.0.1:9000"}, connectTimeout: 2s, health: {probe: http, interval: 5s, rise: 2}}
rules:
  unit_type:
    ranges: {center: [0-5997], unbj: [5998-9999]}
    exact: {unbj: ["4001", "vip-7"]}
`

func TestTheWholeFile(t *testing.T) {
	f, err := configfile.Parse("shop.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	c := f.Config
	if c.Namespace != "shop" || len(c.Units) != 2 || !c.Units[0].Center || c.Units[0].Name != "杭州中心" {
		t.Errorf("units: %+v", c.Units)
	}
	if time.Duration(*c.Policy.Hold) != 5*time.Second || *c.Policy.CloseCode != 1012 {
		t.Errorf("policy: %+v", c.Policy)
	}
	if d := c.Domains[0]; len(d.URIs[0].Origins["center"]) != 2 || !d.DNS.MultiUnit {
		t.Errorf("domain: %+v", d)
	}
	second := events.Duration(time.Second)
	wantHealth := events.Health{Probe: "http", Interval: 5 * second, Rise: 2}
	if u := c.Domains[0].URIs[0]; u.ConnectTimeout != 2*second || *u.Health != wantHealth {
		t.Errorf("health: %+v", u)
	}
	want := events.RulesConfig{
		Ranges: map[string][]routing.Range{"center": {{From: 0, To: 5997}}, "unbj": {{From: 5998, To: 9999}}},
		Exact:  map[string][]string{"unbj": {"4001", "vip-7"}},
	}
	if got := c.Rules["unit_type"]; !reflect.DeepEqual(got, want) {
		t.Errorf("rules: %+v", got)
	}
	if _, err := events.PlanConfig(events.NewState(), c, events.PlanOptions{}); err != nil {
		t.Error(err)
	}
}

// What YAML readers take for times, octal numbers and floats is the text that stands there.
func TestScalarsAreWhatTheyLookLike(t *testing.T) {
	for name, want := range map[string]string{
		"2026-01-02": "2026-01-02", "12:30:45": "12:30:45", "0o17": "0o17", "0x1F": "0x1F", "017": "017", "1_000": "1_000", "1.50": "1.50",
		"yes": "yes", "off": "off", ".inf": ".inf", "1e3": "1e3", "+5": "+5", "=": "=", `"true"`: "true", "!!str 7": "7", `'a: b'`: "a: b",
	} {
		f, err := configfile.Parse("x", []byte("namespace: a\nunits: [{id: u, name: "+name+"}]"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := f.Config.Units[0].Name; got != want {
			t.Errorf("%s is read as %q", name, got)
		}
	}
}

type bad struct {
	name, old, new string // old of the whole file is replaced by new; "" appends
	code, field    string
	line           int
	text           string // part of the message
}

func TestBadFiles(t *testing.T) {
	for _, b := range []bad{
		{"unknown key", "closeCode:", "closecode:", "unknown_field", "policy.closecode", 3, "known are"},
		{"unknown key at the top", "", "colour: red\n", "unknown_field", "colour", 33, "known are"},
		{"wrong type", "slots: 10000", "slots: many", "bad_type", "unitTypes[0].slots", 6, "whole number"},
		{"octal number", "slots: 10000", "slots: 0o17", "bad_type", "unitTypes[0].slots", 6, "whole number"},
		{"truth value for a number", "slots: 10000", "slots: true", "bad_type", "unitTypes[0].slots", 6, "whole number"},
		{"number below the range of its type", "slots: 10000", "slots: -1", "bad_type", "unitTypes[0].slots", 6, "whole number"},
		{"text for a truth value", "center: true}", "center: yes}", "bad_type", "units[0].center", 10, "true or false"},
		{"list for an object", "  unit_type:\n    ranges", "  - ranges", "bad_type", "rules", 29, "not an object"},
		{"object for a list", "units:\n  - {id: center, name: 杭州中心, center: true}\n  - {id: unbj, name: 北京单元}", "units: {id: center}", "bad_type", "units", 9, "not a list"},
		{"no value", "    unmarked: local", "    unmarked:", "bad_type", "unitTypes[0].unmarked", 8, "leave the key out"},
		{"duplicate key", "    scheme: auto", "    scheme: auto\n    scheme: http", "duplicate_field", "domains[0].scheme", 22, "line 21"},
		{"duplicate key in braces", "{id: unbj,", "{id: unbj, id: bj,", "duplicate_field", "units[1].id", 11, "line 11"},
		{"number for a string", `["4001", "vip-7"]`, `[vip-7, 4001]`, "bad_type", "rules.unit_type.exact.unbj[1]", 32, `quote it, "4001"`},
		{"truth value for a string", "name: 北京单元", "name: true", "bad_type", "units[1].name", 11, `quote it, "true"`},
		{"number for a duration", "hold: 5s", "hold: 5", "bad_value", "policy.hold", 3, "missing unit"},
		{"bad duration", "hold: 5s", "hold: soon", "bad_value", "policy.hold", 3, "soon"},
		{"duration out of bounds", "hold: 5s", "hold: 2h", "bad_value", "policy.hold", 3, "100ms to 1m"},
		{"bad range", "[5998-9999]", "[9999-5998]", "bad_range", "rules.unit_type.ranges.unbj[0]", 31, "FROM not above TO"},
		{"range beyond the slots", "5998-9999", "5998-10000", "bad_range", "rules.unit_type", 30, "0-9999"},
		{"gap", "5998-9999", "6003-9999", "range_gap", "rules.unit_type", 30, "5998-6002"},
		{"overlap", "5998-9999", "5000-9999", "range_overlap", "rules.unit_type", 30, "5000-5997"},
		{"bad id", "{id: unbj,", "{id: UNBJ,", "bad_name", "units[1].id", 11, "a-z"},
		{"missing id", "  - {id: unbj, name", "  - {name", "missing_field", "units[1].id", 11, "required"},
		{"id twice", "{id: ws-bj-2, unit: unbj", "{id: ws-hz-2, unit: unbj", "duplicate_name", "clusters[1]", 14, "twice"},
		{"unknown unit in rules", "unbj: [5998-9999]", "unsh: [5998-9999]", "unknown_unit", "rules.unit_type", 30, "unsh"},
		{"unknown unit type in rules", "  unit_type:\n    ranges", "  other:\n    ranges", "unknown_unit_type", "rules.other", 30, "other"},
		{"unknown unit of a cluster", "{id: ws-bj-2, unit: unbj", "{id: ws-bj-2, unit: unsh", "unknown_unit", "clusters[ws-bj-2].unit", 14, "unsh"},
		{"unknown cluster of a domain", "tech, cluster: ws-bj-2}", "tech, cluster: ws-bj-3}", "unknown_cluster", "domains[websocket.msha.tech].units.unbj.cluster", 26, "ws-bj-3"},
		{"unit not in the domain", `unbj: "10.1.0.1:9000"`, `unsh: "10.1.0.1:9000"`, "unknown_unit", "domains[0].uris[0].origins.unsh", 28, "unsh"},
		{"bad origin", `"10.1.0.1:9000"`, `"10.1.0.1"`, "bad_value", "domains[0].uris[0].origins.unbj", 28, "HOST:PORT"},
		{"bad exact ID", `"vip-7"`, `"vip 7"`, "bad_router_id", "rules.unit_type", 30, "byte 3"},
		{"two centers", "name: 北京单元", "center: true", "center", "units[unbj].center", 11, "center"},
		{"missing namespace", "namespace: shop\n", "", "missing_field", "namespace", 2, "required"},
		{"bad namespace", "namespace: shop", "namespace: Shop", "bad_name", "namespace", 2, "a-z"},
		{"ownership", "ownership: available", "ownership: shared", "bad_value", "policy.ownership", 3, "exclusive"},
		{"anchor", "units:\n", "units: &all\n", "bad_yaml", "", 9, "anchors"},
		{"alias", "{id: unbj,", "{id: *x,", "bad_yaml", "", 0, "anchor"},
		{"merge key", "policy: {", "policy: {<<: {}, ", "bad_yaml", "", 3, "merge"},
		{"tag", "namespace: shop", "namespace: !secret shop", "bad_yaml", "", 2, "!secret"},
		{"tag of a list", "units:\n", "units: !!set\n", "bad_yaml", "", 9, "tag"},
		{"key that is no text", "", "[a]: b\n", "bad_yaml", "", 33, "a key"},
		{"second document", "", "---\nnamespace: other\n", "bad_yaml", "", 34, "only one"},
		{"not YAML", "unitTypes:\n", "unitTypes\n", "bad_yaml", "", 4, ""},
		{"tabs", "  - {id: unbj,", "\t- {id: unbj,", "bad_yaml", "", 11, ""},
	} {
		t.Run(b.name, func(t *testing.T) { b.check(t) })
	}
}

func (b bad) check(t *testing.T) {
	if !strings.Contains(whole, b.old) {
		t.Fatalf("%q is not in the file", b.old)
	}
	text := strings.Replace(whole, b.old, b.new, 1)
	if b.old == "" {
		text = whole + b.new
	}
	f, err := configfile.Parse("bad.yaml", []byte(text))
	if err == nil {
		_, err = events.PlanConfig(events.NewState(), f.Config, events.PlanOptions{})
		err = f.Locate(err)
	}
	var e *configfile.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	if e.Cause.Code != b.code || e.Cause.Field != b.field || e.Line != b.line || !strings.Contains(e.Cause.Message, b.text) {
		t.Errorf("got line %d: %v\nwant line %d: %s: %s: … %s …", e.Line, e.Cause, b.line, b.code, b.field, b.text)
	}
}

// Several namespaces are documents of one file; what is wrong with one of them is named with the file's line.
func TestSeveralNamespaces(t *testing.T) {
	const two = "# first\nnamespace: a\nunits: [{id: u}]\n---\n---\n# second\nnamespace: b\nunits:\n  - {id: u}\n...\n---\n# nothing\n"
	files, err := configfile.ParseAll("two.yaml", []byte(two))
	if err != nil || len(files) != 2 || files[0].Config.Namespace != "a" || files[1].Config.Namespace != "b" {
		t.Fatalf("%+v, %v", files, err)
	}
	if got := files[1].Locate(events.ErrUnknownUnit.With("gone").At("config.units[0].id")); got.Error() != "two.yaml:9: unknown_unit: units[0].id: gone" {
		t.Errorf("located at %v", got)
	}
	if got := files[1].Locate(events.ErrStaleVersion.With("late").At("base")); got.Error() != "two.yaml: stale_version: late" {
		t.Errorf("located at %v", got)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"a namespace twice":   {"namespace: b", "namespace: a", `x:7: duplicate_name: namespace: the namespace "a" stands in line 2 already`},
		"no namespace":        {"namespace: b\n", "", "x:7: missing_field: namespace: "},
		"unknown key":         {"{id: u}\n...", "{id: u, colour: red}\n...", "x:9: unknown_field: units[0].colour: "},
		"not YAML":            {"  - {id: u}", "  - {id: u", "x:8: bad_yaml: "},
		"null is no document": {"# nothing", "~", "x:12: bad_type: "},
		"an anchor of before": {"{id: u}\n...", "*all\n...", "bad_yaml: "},
		"text between":        {"...\n", "hello\n", "bad_yaml: "},
		"a third one":         {"# nothing", "namespace: c\n---\nx: y", "x:14: unknown_field: x: "},
	} {
		text := strings.Replace(two, c.old, c.new, 1)
		_, err := configfile.ParseAll("x", []byte(text))
		if err == nil || text == two || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	var many strings.Builder
	for i := range 257 {
		fmt.Fprintf(&many, "---\nnamespace: n%d\n", i)
	}
	if _, err := configfile.ParseAll("x", []byte(many.String())); !errors.Is(err, events.ErrTooLarge) {
		t.Errorf("257 namespaces: %v", err)
	}
}

func TestDegenerateFiles(t *testing.T) {
	for name, data := range map[string]string{
		"empty": "", "only a comment": "# nothing\n", "null": "~", "text": "hello", "list": "[]", "two empty documents": "---\n---\n",
		"deep": strings.Repeat("[", 500) + strings.Repeat("]", 500), "binary": "\x00\x01\x02", "not UTF-8": "namespace: \xff\n",
		"large": "namespace: a\n#" + strings.Repeat("x", configfile.MaxSize),
	} {
		_, err := configfile.Parse(name, []byte(data))
		var e *configfile.Error
		if !errors.As(err, &e) || e.Cause.Code == "" || e.Cause.Message == "" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Errors of the control plane name the command's field, of which the config is a part.
func TestLocateStripsTheCommand(t *testing.T) {
	f, err := configfile.Parse("shop.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	got := f.Locate(events.ErrUnknownUnit.With("gone").At("config.units[1].name"))
	if want := "shop.yaml:11: unknown_unit: units[1].name: gone"; got.Error() != want || !errors.Is(got, events.ErrUnknownUnit) {
		t.Errorf("got %v", got)
	}
	other := errors.New("no responders")
	if f.Locate(other) != other {
		t.Error("an error of another kind was changed")
	}
}
