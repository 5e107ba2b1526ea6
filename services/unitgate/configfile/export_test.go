package configfile_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
)

// applied is the state after a config was applied, and whether there was anything to do.
func applied(t *testing.T, s *events.State, cfg events.Config, drafts bool) (*events.State, bool) {
	t.Helper()
	plan, err := events.PlanConfig(s, cfg, events.PlanOptions{Drafts: drafts})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Empty() {
		return s, false
	}
	env := events.Envelope{ID: "00000000-0000-4000-8000-000000000000", Command: events.ApplyConfig{Base: s.ConfigVersion, Config: cfg, Drafts: drafts}}
	now := time.Unix(0, 0)
	e, err := events.Decide(s, "shop", env, now)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := events.NewRecord(s, env, e, now)
	if err != nil {
		t.Fatal(err)
	}
	next, err := events.Evolve(s, rec)
	if err != nil {
		t.Fatal(err)
	}
	return next, true
}

func exported(t *testing.T, s *events.State, drafts bool) ([]byte, events.Config) {
	t.Helper()
	cfg, _ := configfile.Of(s, drafts)
	b, err := configfile.Format(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f, err := configfile.Parse("export", b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return b, f.Config
}

// TestExportIsAFixedPoint: applying an export to what it came from changes nothing, and what it makes elsewhere exports the
// same bytes.
func TestExportIsAFixedPoint(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		s, _ := applied(t, events.NewState(), randomConfig(r), false)
		b, cfg := exported(t, s, false)
		if strings.Contains(string(b), ": null") {
			t.Fatalf("seed %d: something is null\n%s", seed, b)
		}
		if _, changed := applied(t, s, cfg, false); changed {
			t.Fatalf("seed %d: applying the export changes something\n%s", seed, b)
		}
		other, _ := applied(t, events.NewState(), cfg, false)
		if again, _ := exported(t, other, false); !bytes.Equal(again, b) {
			t.Fatalf("seed %d: exported again\n%s\nwas\n%s", seed, again, b)
		}
	}
}

// TestExportLeavesDraftsOut, or holds them and not what they replace.
func TestExportLeavesDraftsOut(t *testing.T) {
	f, err := configfile.Parse("shop.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := applied(t, events.NewState(), f.Config, false)
	changed := f.Config
	changed.Domains = slices.Clone(f.Config.Domains)
	changed.Domains[0].Scheme = "wss"
	fresh := changed.Domains[0]
	fresh.Host, fresh.Units = "new.msha.tech", map[string]events.DomainUnit{"center": {Cluster: "ws-hz-2"}}
	fresh.URIs = []events.URI{{Path: "/"}}
	changed.Domains = append(changed.Domains, fresh)
	s, _ = applied(t, s, changed, true)

	active, left := configfile.Of(s, false)
	if len(active.Domains) != 1 || active.Domains[0].Scheme != "auto" || !slices.Equal(left, []string{"new.msha.tech", "websocket.msha.tech"}) {
		t.Errorf("active: %+v, left out %v", active.Domains, left)
	}
	newest, left := configfile.Of(s, true)
	if len(newest.Domains) != 2 || newest.Domains[1].Scheme != "wss" || !slices.Equal(left, []string{"websocket.msha.tech"}) {
		t.Errorf("newest: %+v, left out %v", newest.Domains, left)
	}
	_, cfg := exported(t, s, true)
	if _, changes := applied(t, s, cfg, true); changes {
		t.Error("applying the drafts' export as drafts changes something")
	}
}

func TestFormat(t *testing.T) {
	f, err := configfile.Parse("shop.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	got, err := configfile.Format(f.Config)
	if err != nil {
		t.Fatal(err)
	}
	want := `namespace: shop
policy: {ownership: available, lease: 30s, hold: 5s, closeCode: 1012, evictRate: 1000}
unitTypes:
  - {name: unit_type, slots: 10000, routerId: ['header:routerId', 'cookie:routerId', 'query:routerId'], unmarked: local}
units:
  - {id: center, name: 杭州中心, center: true}
  - {id: unbj, name: 北京单元}
`
	if !strings.HasPrefix(string(got), want) || !strings.Contains(string(got), `unbj: ["4001", vip-7]`) || !strings.Contains(string(got), `ranges: {center: [0-5997], unbj: [5998-9999]}`) {
		t.Errorf("formatted as\n%s", got)
	}
}

func randomConfig(r *rand.Rand) events.Config {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	hold := events.Duration(time.Duration(1+r.IntN(50)) * 100 * time.Millisecond)
	cfg := events.Config{Namespace: "shop", Policy: &events.PolicyPatch{Hold: &hold}}
	if r.IntN(2) == 0 {
		cfg.Policy.Ownership, cfg.Policy.CloseCode = ptr(pick("available", "exclusive")), ptr(3000+r.IntN(2000))
		cfg.Policy.EvictRate, cfg.Policy.Lease = ptr(r.IntN(5000)), ptr(events.Duration(time.Duration(15+r.IntN(60))*time.Second))
		cfg.Policy.Gate = &events.Gate{Landed: r.IntN(101), OriginErrors: 1 + r.IntN(100), Action: pick("", "pause", "rollback")}
	}
	if n := r.IntN(4); n > 0 {
		cfg.Hooks = &[]events.Hook{}
		for i := range n - 1 {
			*cfg.Hooks = append(*cfg.Hooks, events.Hook{
				Name: fmt.Sprintf("h%d", i), URL: pick("https://ops.example/a?b=c&d", "http://10.0.0.1:8080/"), On: pick("pre", "post"), Wait: pick("", "end", "none"), Timeout: events.Duration(r.IntN(5)) * events.Duration(time.Second),
			})
		}
	}
	for i := range 1 + r.IntN(4) {
		u := events.Unit{ID: fmt.Sprintf("u%d", i), Center: i == 0, Name: pick("", "杭州", "null", "~", "yes", "0x10", "1e3", "a: b", "- x", `"q"`, "#c", "{", "2026-01-02", "\u00a0wide", " pad ", "👩‍💻", "\ufffe")}
		cfg.Units = append(cfg.Units, u)
		cl := events.Cluster{ID: pick("ws", "007", "true", "no") + fmt.Sprint(i), Unit: u.ID}
		for n := range r.IntN(12) {
			cl.Instances = append(cl.Instances, fmt.Sprint(n))
		}
		cfg.Clusters = append(cfg.Clusters, cl)
		if r.IntN(2) == 0 {
			cfg.LoadBalancers = append(cfg.LoadBalancers, events.LoadBalancer{ID: u.ID, Cluster: cl.ID, Address: pick("203.0.113.10", "::1", "lb.example")})
		}
	}
	for i := range 1 + r.IntN(2) {
		cfg.UnitTypes = append(cfg.UnitTypes, events.UnitType{
			Name: fmt.Sprintf("t%d", i), Slots: 1 + uint32(r.IntN(1000)), Unmarked: pick("", "split", "reject"), Substring: routing.Part{From: r.IntN(9) - 4, Length: r.IntN(5)},
			RouterID: [][]string{nil, {"path:2", "subprotocol"}, {"header:routerId", "cookie:null", "query:true"}}[r.IntN(3)],
			Form:     pick("", "normal", "as-sent", "as-sent"),
		})
	}
	for i := range r.IntN(3) {
		cfg.Domains = append(cfg.Domains, randomDomain(r, cfg, i))
	}
	for _, ut := range cfg.UnitTypes {
		if r.IntN(4) > 0 {
			if cfg.Rules == nil {
				cfg.Rules = map[string]events.RulesConfig{}
			}
			cfg.Rules[ut.Name] = randomRules(r, cfg.Units, ut)
		}
	}
	return cfg
}

func randomDomain(r *rand.Rand, cfg events.Config, i int) events.Domain {
	d := events.Domain{Host: fmt.Sprintf("d%d.example", i), Units: map[string]events.DomainUnit{}}
	for n, u := range cfg.Units {
		d.Units[u.ID] = events.DomainUnit{Cluster: cfg.Clusters[n].ID}
	}
	d.Scheme = []string{"", "auto", "wss", "protocol-relative"}[r.IntN(4)]
	d.DNS = []events.DNS{{}, {MultiUnit: true}, {Provider: "rfc2136", Zone: "example"}, {Provider: "alidns", Zone: d.Host, MultiUnit: true}}[r.IntN(4)]
	for n := range 1 + r.IntN(3) {
		u := events.URI{Path: fmt.Sprintf("/%d", n)}
		for _, unit := range cfg.Units[:r.IntN(len(cfg.Units)+1)] {
			if u.Origins == nil {
				u.Origins = map[string]events.Origins{}
			}
			u.Origins[unit.ID] = events.Origins{"[::1]:80", "10.0.0.1:9000"}[:1+r.IntN(2)]
		}
		if u.Origins == nil && r.IntN(2) == 0 {
			u.Origins = map[string]events.Origins{} // none and nothing said are two values
		}
		u.ConnectTimeout = events.Duration(r.IntN(3)) * events.Duration(time.Second)
		u.ReplyTimeout = events.Duration(r.IntN(3)) * events.Duration(time.Minute)
		u.Health = []*events.Health{nil, {Probe: "none"}, {Probe: "tcp", Rise: r.IntN(3)}, {Probe: "http", Path: "/up?a=b&c", Expect: "any"}}[r.IntN(4)]
		d.URIs = append(d.URIs, u)
	}
	return d
}

func randomRules(r *rand.Rand, units []events.Unit, ut events.UnitType) events.RulesConfig {
	rules := events.RulesConfig{Ranges: map[string][]routing.Range{}, Exact: map[string][]string{}}
	slots := ut.Slots
	for from := uint32(0); from < slots; {
		to := min(from+uint32(r.IntN(int(slots))), slots-1)
		unit := units[r.IntN(len(units))].ID
		rules.Ranges[unit] = append(rules.Ranges[unit], routing.Range{From: from, To: to})
		from = to + 1
	}
	odd := []string{"4001", "true", "~", "null", "0x1F", "-", "vip,7", "a:b", "#", "'", `"`, "\\", "<<", "=", "1_000", "0o7", "1.5", "2026-01-02", "!x", "&a", "*a", "%", "@", "`"}
	if ut.Form == "as-sent" {
		odd = append(odd, "👩‍💻", "\u202e", "a%41")
	}
	for _, id := range odd[:r.IntN(len(odd)+1)] {
		unit := units[r.IntN(len(units))].ID
		rules.Exact[unit] = append(rules.Exact[unit], id)
	}
	return rules
}

func ptr[T any](v T) *T { return &v }
