package events

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// randomConfig is a valid configuration over a small set of names, so that one follows another with some changes.
func randomConfig(r *rand.Rand) Config {
	c := Config{Namespace: "shop"}
	units := []string{"a", "b", "c", "d"}[:1+r.IntN(4)]
	for i, u := range units {
		c.Units = append(c.Units, Unit{ID: u, Name: pick(r, "", "one", "two"), Center: i == 0})
		c.Clusters = append(c.Clusters, Cluster{ID: "ws-" + u, Unit: u, Protocol: pick(r, "", "websocket"), Instances: pick(r, nil, []string{"e1"}, []string{})})
		if r.IntN(2) == 0 {
			c.LoadBalancers = append(c.LoadBalancers, LoadBalancer{ID: "lb-" + u, Cluster: "ws-" + u, Address: pick(r, "10.0.0.1", "lb.example")})
		}
	}
	c.UnitTypes = []UnitType{{Name: "t1", Slots: 100, RouterID: pick(r, nil, []string{"query:id"}), Unmarked: pick(r, "", "local", "reject")}}
	if r.IntN(2) == 0 {
		c.UnitTypes = append(c.UnitTypes, UnitType{Name: "t2", Slots: 7})
	}
	r.Shuffle(len(c.Units), func(i, j int) { c.Units[i], c.Units[j] = c.Units[j], c.Units[i] })
	for _, host := range []string{"x.example", "y.example"}[:r.IntN(3)] {
		d := Domain{Host: host, UnitType: pick(r, "", "t1"), Scheme: pick(r, "", "auto", "wss"), DNS: DNS{Provider: pick(r, "", "none")}, Units: map[string]DomainUnit{}}
		origins := map[string]Origins{}
		for _, u := range units {
			d.Units[u] = DomainUnit{Cluster: "ws-" + u, Subdomain: pick(r, "", u+"."+host, u+"."+host+":8080")}
			origins[u] = Origins{pick(r, "h:1", "h:2")}
		}
		d.URIs = []URI{{Path: "/", Origins: origins}, {Path: "/chat", ConnectTimeout: pick(r, 0, Duration(time.Second)), Health: pick(r, nil, &Health{Probe: "http"}, &Health{Probe: "none"})}}
		c.Domains = append(c.Domains, d)
	}
	if r.IntN(3) == 0 {
		c.Policy = &PolicyPatch{EvictRate: ptr(r.IntN(3))}
	}
	return c
}

// nobodyThere says that the domains which a plan removes have no sessions.
func nobodyThere(p Plan) []DomainSessions {
	var out []DomainSessions
	for _, host := range p.Changes.Removed.Domains {
		out = append(out, DomainSessions{Host: host})
	}
	return out
}

// Plan, apply, plan again: nothing is left to do; also for a file over what other files left behind.
func TestPlanIsIdempotent(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t)
		applied := 0
		for range 4 {
			cfg, o := randomConfig(r), PlanOptions{Prune: r.IntN(2) == 0, Drafts: r.IntN(3) == 0}
			plan, err := PlanConfig(w.s, cfg, o)
			if err != nil {
				continue // it does not fit what an earlier file left
			}
			if plan.Empty() != (len(plan.Lines) == 0) {
				t.Fatalf("seed %d: empty %v, lines %q", seed, plan.Empty(), plan.Lines)
			}
			apply := ApplyConfig{Base: w.s.ConfigVersion, Config: cfg, Prune: o.Prune, Drafts: o.Drafts, Counted: nobodyThere(plan)}
			if plan.Empty() && w.s.Namespace != "" {
				w.refuse(apply, ErrNothingChanges, "")
				continue
			}
			w.do(apply)
			applied++
			if again, err := PlanConfig(w.s, cfg, o); err != nil || !again.Empty() || len(again.Lines) > 0 {
				t.Fatalf("seed %d: %v, still to do: %q %+v", seed, err, again.Lines, again.Changes)
			}
			apply.Base = w.s.ConfigVersion
			w.refuse(apply, ErrNothingChanges, "")
			if o.Drafts {
				continue
			}
			for _, d := range cfg.Domains {
				if s := w.s.Domains[d.Host]; s.Active == nil || s.Draft != nil {
					t.Fatalf("seed %d: %s is %+v", seed, d.Host, s)
				}
			}
		}
		if applied == 0 {
			t.Fatalf("seed %d: nothing was applied", seed)
		}
	}
}

func lines(t *testing.T, w *world, cfg Config, o PlanOptions) string {
	t.Helper()
	p, err := PlanConfig(w.s, cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(p.Lines, "; ")
}

func TestPlanLines(t *testing.T) {
	w := shop(t)
	only := func(change func(c *Config)) Config { c := Config{Namespace: "shop"}; change(&c); return c }
	for _, c := range []struct {
		name string
		cfg  Config
		o    PlanOptions
		want string
	}{
		{"the same", shopConfig(), PlanOptions{Prune: true}, ""},
		{"nothing named", only(func(*Config) {}), PlanOptions{Prune: true}, ""},
		{"a new unit", only(func(c *Config) { c.Units = []Unit{{ID: "new"}} }), PlanOptions{}, "+ unit new"},
		{"a changed one", only(func(c *Config) { c.Units = []Unit{{ID: "unbj", Name: "x"}} }), PlanOptions{}, "~ unit unbj"},
		{"prune load balancers", only(func(c *Config) { c.LoadBalancers = []LoadBalancer{} }), PlanOptions{Prune: true}, "- load balancer slb-hz-1"},
		{"no prune", only(func(c *Config) { c.LoadBalancers = []LoadBalancer{} }), PlanOptions{}, ""},
		{"prune domains", only(func(c *Config) { c.Domains = []Domain{} }), PlanOptions{Prune: true}, "- domain websocket.msha.tech"},
		{"policy", only(func(c *Config) { c.Policy = &PolicyPatch{CloseCode: ptr(4000)} }), PlanOptions{}, "~ policy"},
		{"the same policy", only(func(c *Config) { c.Policy = &PolicyPatch{CloseCode: ptr(1012)} }), PlanOptions{}, ""},
		{"a domain", only(func(c *Config) { c.Domains = []Domain{domain(func(d *Domain) { d.Scheme = "wss" })} }), PlanOptions{}, "~ domain websocket.msha.tech; ~ domain websocket.msha.tech: activate"},
		{"a draft", only(func(c *Config) { c.Domains = []Domain{domain(func(d *Domain) { d.Scheme = "wss" })} }), PlanOptions{Drafts: true}, "~ domain websocket.msha.tech"},
	} {
		if got := lines(t, w, c.cfg, c.o); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// A draft is not what edges see; a later apply of the same file activates it.
func TestDrafts(t *testing.T) {
	w := shop(t)
	cfg := Config{Namespace: "shop", Domains: []Domain{domain(func(d *Domain) { d.Scheme = "wss" })}}
	host := cfg.Domains[0].Host
	w.do(ApplyConfig{Base: 1, Config: cfg, Drafts: true})
	if d := w.s.Domains[host]; d.Active.Scheme != "auto" || d.Draft.Scheme != "wss" {
		t.Errorf("%+v", d)
	}
	if got := lines(t, w, cfg, PlanOptions{}); got != "~ domain "+host+": activate" {
		t.Errorf("got %q", got)
	}
	w.do(ApplyConfig{Base: w.s.ConfigVersion, Config: cfg})
	if d := w.s.Domains[host]; d.Active.Scheme != "wss" || d.Draft != nil {
		t.Errorf("%+v", d)
	}
}

// Adding a unit type leaves the default one what it was; naming all of them sets their order.
func TestOrderOfUnitTypes(t *testing.T) {
	w := shop(t)
	order := func() string {
		var names []string
		for _, u := range w.s.UnitTypes {
			names = append(names, u.Name)
		}
		return strings.Join(names, " ")
	}
	one, two := UnitType{Name: "unit_type", Slots: 10000}, UnitType{Name: "shops", Slots: 10}
	apply := func(prune bool, types ...UnitType) {
		w.do(ApplyConfig{Base: w.s.ConfigVersion, Prune: prune, Config: Config{Namespace: "shop", UnitTypes: types}})
	}
	apply(false, two)
	if order() != "unit_type shops" {
		t.Errorf("a new unit type became the default: %s", order())
	}
	apply(false, two, one)
	if order() != "shops unit_type" {
		t.Errorf("the file's order does not count: %s", order())
	}
	two.Unmarked = "split"
	apply(false, two)
	if order() != "shops unit_type" || w.s.UnitTypes[0].Unmarked != "split" {
		t.Errorf("%+v", w.s.UnitTypes)
	}
	apply(true, one)
	if order() != "unit_type" {
		t.Errorf("not pruned: %s", order())
	}
}

// After a cutover, the file with the baseline and the file with the rules in force both count as unchanged.
func TestRulesInTheFile(t *testing.T) {
	w := shop(t)
	w.fence(w.started(1), 0)
	w.commit("c1", 0)
	w.do(CompleteCutover{Cutover: "c1", Term: 1})
	now := shopConfig()
	now.Rules["unit_type"] = RulesConfig{Ranges: walk(1).Ranges, Exact: now.Rules["unit_type"].Exact}
	for _, cfg := range []Config{shopConfig(), now} {
		if got := lines(t, w, cfg, PlanOptions{Prune: true}); got != "" {
			t.Errorf("got %q", got)
		}
	}
}

// The caller's config is not changed by planning it.
func TestPlanLeavesConfigAlone(t *testing.T) {
	cfg := shopConfig()
	before := fmt.Sprintf("%+v", cfg)
	if _, err := PlanConfig(NewState(), cfg, PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v", cfg); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
}

// What 100,000 exact IDs cost a state is logged, not asserted. (No single event can hold as many: MaxEventSize.)
func TestCostOf100kExact(t *testing.T) {
	if testing.Short() {
		t.Skip("a measurement")
	}
	ids := run(100_000, func(i int) string { return fmt.Sprintf("138%08d", i*7) })
	w := shop(t)
	rules, err := routing.NewRules(10000, shopConfig().Rules["unit_type"].Ranges, map[string][]string{"unbj": ids})
	if err != nil {
		t.Fatal(err)
	}
	w.s.Rules["unit_type"] = RuleSet{Version: 1, Baseline: rules, Current: rules}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	from := time.Now()
	table := w.s.Table("unit_type")
	compiled := time.Now()
	size := len(w.s.Encode())
	encoded := time.Now()
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("Table %v (%d KiB), Encode %v (%d KiB)", compiled.Sub(from), (after.HeapAlloc-before.HeapAlloc)>>10, encoded.Sub(compiled), size>>10)
	if table.Lookup(ids[7]).Unit != "unbj" {
		t.Error("an exact ID is lost")
	}
}
