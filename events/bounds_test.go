package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// Every command has the smallest bound that the largest one that the rules allow fits into, whatever way it is written.
func TestBoundsFit(t *testing.T) {
	worst := func(n int) string { return strings.Repeat("\u0001", n) } // JSON writes six bytes for it
	id := strings.Repeat("i", 63)
	types := run(maxUnitTypes, func(int) string { return "" })
	var unitTypes []UnitType
	for range types {
		unitTypes = append(unitTypes, UnitType{Name: strings.Repeat("t", 64), Slots: 1 << 20, RouterID: run(maxSources, func(int) string { return "header:" + strings.Repeat("h", 64) })})
	}
	domain := Domain{Host: strings.Repeat("h", 253), Units: map[string]DomainUnit{}}
	for u := range 64 {
		domain.Units[fmt.Sprintf("%s%02d", id[:61], u)] = DomainUnit{strings.Repeat("s", 253), id}
	}
	for i := range 16 {
		uri := URI{Path: fmt.Sprintf("/%d", i), Origins: map[string]Origins{}}
		for u := range domain.Units {
			uri.Origins[u] = Origins{"origin-1." + id + ".example.com:9000", "origin-2." + id + ".example.com:9000"}
		}
		domain.URIs = append(domain.URIs, uri)
	}
	for name, c := range map[string]Command{
		"edge.join": JoinEdge{ID: id, Directory: id[:36], Unit: id, Cluster: id, Address: strings.Repeat("a", 253) + ":65535", Capacity: 1 << 60, Key: strings.Repeat("k", 64),
			Succeeds: id, SucceedsDirectory: id[:36]},
		"edge.leave":       LeaveEdge{ID: id, Directory: id[:36]},
		"edge.retire":      RetireEdge{ID: id, Reason: worst(maxText)},
		"unit.put":         PutUnit{Unit{ID: id, Name: worst(maxText)}},
		"cutover.skip":     SkipCheck{Cutover: id, Check: id, Edge: id, Reason: worst(maxText)},
		"cluster.put":      PutCluster{Cluster{ID: id, Unit: id, Protocol: "websocket", Instances: run(maxInstances, func(int) string { return id })}},
		"namespace.create": CreateNamespace{UnitTypes: unitTypes},
		"domain.put":       PutDomain{domain},
	} {
		entity, verb, _ := strings.Cut(name, ".")
		bound, ok := FindBound(entity, verb)
		if !ok {
			t.Fatalf("%s is unknown", name)
		}
		body, err := json.Marshal(struct {
			ID, Actor, Reason string
			Data              Command
		}{"00000000-0000-4000-8000-000000000000", "edge/" + id, worst(maxText), c})
		if err != nil {
			t.Fatal(err)
		}
		if err := bound.CheckSize(entity, verb, len(body)); err != nil {
			t.Errorf("the largest one: %v", err)
		}
		if bound.Wire > 8*len(body) {
			t.Errorf("%s: the largest one has %d bytes, and %d are allowed", name, len(body), bound.Wire)
		}
	}
}

// What is too large is refused by its size alone, with size, bound and command; and only what may be large comes packed.
func TestBoundsRefuse(t *testing.T) {
	packs := map[string]bool{"config.apply": true, "rules.init": true, "cutover.preview": true}
	seen := 0
	for _, e := range Catalogue() {
		name := e.Entity + "." + e.Verb
		bound, ok := FindBound(e.Entity, e.Verb)
		if ok == e.Internal || bound != e.Bound {
			t.Fatalf("%s: %+v %v, the catalogue says %+v", name, bound, ok, e.Bound)
		}
		if e.Internal {
			continue
		}
		junk := []byte(strings.Repeat("{", bound.Wire+1)) // no JSON at all: nothing looks at it
		_, err := DecodeCommand(e.Entity, e.Verb, junk)
		if want := fmt.Sprintf("%s has %d bytes, a message of it at most %d", name, bound.Wire+1, bound.Wire); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, err := DecodeCommand(e.Entity, e.Verb, junk[1:]); errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: its bound is too large for it: %v", name, err)
		}
		_, err = DecodeCommand(e.Entity, e.Verb, forced(`{}`))
		if packs[name] != (err == nil) || err != nil && (!errors.Is(err, ErrBadValue) || !strings.Contains(err.Error(), "only config.apply, rules.init, cutover.preview do")) {
			t.Errorf("%s, packed: %v", name, err)
		}
		if packs[name] != (bound.Unpacked > 0) || packs[name] && bound.Unpacked != maxUnpacked {
			t.Errorf("%s: %+v", name, bound)
		}
		seen++
	}
	if seen != len(Names()) {
		t.Errorf("%d commands, want %d", seen, len(Names()))
	}
	if _, ok := FindBound("wave", "fence"); ok {
		t.Error("an internal command has a bound")
	}
}

// forced packs whatever it is given.
func forced(data string) []byte {
	pad := strings.Repeat(" ", packFrom)
	return Pack([]byte(data + pad))
}

func repeated(n int, value string) string {
	return strings.Repeat(value+",", n-1) + value
}

// A few KB on the wire ask for as much as the bound allows: what cannot be a command is found out before anything is made
// of it, and memory stays a small multiple of what was unpacked.
func TestBombs(t *testing.T) {
	uris := repeated(8000, `{"origins":{"a":""}}`)
	for name, c := range map[string]struct{ command, data, field string }{
		"exact IDs":        {"cutover.preview", `{"exact":{"unbj":[` + repeated(2_000_000, `"1"`) + `]}}`, "exact.unbj"},
		"units":            {"config.apply", `{"config":{"units":[` + repeated(760_000, `{"id":"a"}`) + `]}}`, "config.units"},
		"nothings":         {"config.apply", `{"config":{"domains":[` + repeated(2_700_000, `{}`) + `]}}`, "config.domains"},
		"maps":             {"config.apply", `{"config":{"domains":[` + repeated(40, `{"uris":[`+uris+`]}`) + `]}}`, "config.domains["},
		"commas":           {"config.apply", `{"config":{"domains":[{"uris":[` + repeated(120, `{"origins":{"a":"`+strings.Repeat(",", 65_000)+`"}}`) + `]}]}}`, "config.domains[0].uris[22].origins.a"},
		"one text":         {"config.apply", `{"config":{"namespace":"` + strings.Repeat("a", 8_000_000) + `"}}`, "config.namespace"},
		"one key":          {"config.apply", `{"config":{"` + strings.Repeat("a", 8_000_000) + `":1}}`, "config"},
		"keys":             {"cutover.preview", `{"exact":{` + strings.Join(run(250_000, func(i int) string { return fmt.Sprintf(`"u%d":[]`, i) }), ",") + `}}`, "exact"},
		"routerId sources": {"config.apply", `{"config":{"unitTypes":[{"routerId":[` + repeated(2_000_000, `""`) + `]}]}}`, "config.unitTypes[0].routerId"},
	} {
		entity, verb, _ := strings.Cut(c.command, ".")
		packed := Pack([]byte(c.data))
		if len(packed) > 1<<20 || len(c.data) > maxUnpacked {
			t.Fatalf("%s: %d bytes of %d are no bomb", name, len(packed), len(c.data))
		}
		least := uint64(1 << 62) // of some runs: others may allocate meanwhile
		for range 3 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := DecodeCommand(entity, verb, packed)
			runtime.ReadMemStats(&after)
			if e, ok := errors.AsType[*Error](err); !ok || e.Code != ErrTooLarge.Code || !strings.HasPrefix(e.Field, c.field) {
				t.Fatalf("%s: %v, want too_large at %s", name, err, c.field)
			}
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		if least > 8*maxUnpacked {
			t.Errorf("%s: %d bytes took %d MiB", name, len(packed), least>>20)
		}
	}
}

// What the documentation promises is within the bounds: 100,000 exact IDs, written out; 200 domains in 64 units.
func TestLargeCommandsAreTaken(t *testing.T) {
	ids := run(100_000, func(i int) string { return fmt.Sprintf("%011d", 7*i) })
	for name, c := range map[string]Command{
		"cutover.preview": PreviewCutover{Exact: map[string][]string{"unbj": ids[:50_000]}, ExactAdd: map[string][]string{"center": ids[50_000:]}, ExactRemove: map[string][]string{"unsh": ids}},
		"config.apply":    ApplyConfig{Config: wideConfig()},
	} {
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		entity, verb, _ := strings.Cut(name, ".")
		got, err := DecodeCommand(entity, verb, Pack(data))
		if err != nil {
			t.Fatalf("%s of %d bytes: %v", name, len(data), err)
		}
		sameAsJSON(t, got, data)
	}
}

// wideConfig has 200 domains that are each in 64 units.
func wideConfig() Config {
	c := Config{Namespace: "shop"}
	for u := range 64 {
		c.Units = append(c.Units, Unit{ID: fmt.Sprintf("u%d", u)})
		c.Clusters = append(c.Clusters, Cluster{ID: fmt.Sprintf("c%d", u), Unit: fmt.Sprintf("u%d", u)})
	}
	for i := range 200 {
		d := Domain{Host: fmt.Sprintf("shop-%d.example.com", i), Units: map[string]DomainUnit{}, URIs: []URI{{Path: "/", Origins: map[string]Origins{}}}}
		for u := range 64 {
			id := fmt.Sprintf("u%d", u)
			d.Units[id] = DomainUnit{Subdomain: id + "." + d.Host, Cluster: fmt.Sprintf("c%d", u)}
			d.URIs[0].Origins[id] = Origins{fmt.Sprintf("10.%d.%d.1:9000", u, i), fmt.Sprintf("10.%d.%d.2:9000", u, i)}
		}
		c.Domains = append(c.Domains, d)
	}
	return c
}
