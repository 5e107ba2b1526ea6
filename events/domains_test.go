package events

import (
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

// A name that an active domain answers for stays its own until another version of it is activated, also while its
// draft has given the name up; and two drafts never claim one name.
func TestOneDomainAnswersForAName(t *testing.T) {
	w := shop(t)
	other := domain(func(d *Domain) {
		d.Host = "other.example"
		u := d.Units["center"]
		u.Subdomain = "c.other.example"
		d.Units["center"] = u
	})
	w.do(PutDomain{other})
	w.do(ActivateDomain{Host: "other.example"})

	moved := shopDomain()
	moved.Units["center"] = DomainUnit{Subdomain: "hz.websocket.msha.tech", Cluster: "ws-hz-2"}
	w.do(PutDomain{moved}) // the draft frees center.websocket.msha.tech; the active version still has it
	other.Units["center"] = DomainUnit{Subdomain: "center.websocket.msha.tech:8443", Cluster: "ws-hz-2"}
	w.do(PutDomain{other})
	w.refuse(ActivateDomain{Host: "other.example"}, ErrDuplicateName, "domains[websocket.msha.tech]")
	w.refuse(PutDomain{shopDomain()}, ErrDuplicateName, "domains[websocket.msha.tech]")
	w.do(ActivateDomain{Host: "websocket.msha.tech"})
	w.do(ActivateDomain{Host: "other.example"})
}

// While a cutover runs, a domain keeps the units that will own something when it completes.
func TestRunningCutoverKeepsItsUnitsInTheDomains(t *testing.T) {
	w := shop(t)
	w.do(PutUnit{Unit{ID: "third"}})
	w.do(PutCluster{Cluster{ID: "ws-3", Unit: "third"}})
	three := shopDomain()
	three.Units["third"] = DomainUnit{Cluster: "ws-3"}
	w.do(PutDomain{three})
	w.do(ActivateDomain{Host: three.Host})
	id := w.do(PreviewCutover{Exact: map[string][]string{"third": {"1"}}}).(CutoverProposed).Cutover

	w.do(PutDomain{shopDomain()})
	w.do(ActivateDomain{Host: three.Host}) // a proposal alone holds nothing
	w.refuse(StartCutover{Cutover: id, Checks: w.checks(Pass)}, ErrUnknownUnit, "domains[websocket.msha.tech].units")
	w.do(PutDomain{three})
	w.do(ActivateDomain{Host: three.Host})
	w.do(StartCutover{Cutover: id, Checks: w.checks(Pass)})
	w.do(PutDomain{shopDomain()})
	w.refuse(ActivateDomain{Host: three.Host}, ErrUnknownUnit, "domains[websocket.msha.tech].units")
	w.refuse(ApplyConfig{Base: w.s.ConfigVersion, Config: shopConfig()}, ErrUnknownUnit, "domains[websocket.msha.tech].units")
}

// Rules name units; a unit with slots cannot go, nor one whose cluster stays.
func TestReferencesHold(t *testing.T) {
	w := shop(t)
	prune := func(change func(c *Config)) Command {
		c := shopConfig()
		change(&c)
		return ApplyConfig{Base: w.s.ConfigVersion, Prune: true, Config: c}
	}
	w.refuse(prune(func(c *Config) { c.Units = c.Units[:1] }), ErrUnknownUnit, "clusters[ws-bj-2].unit")
	w.refuse(prune(func(c *Config) { c.Clusters = c.Clusters[:1]; c.Domains = []Domain{} }), ErrInUse, "clusters[ws-bj-2]")
	w.do(RetireEdge{ID: "bj-1", Reason: "x"})
	w.do(RetireEdge{ID: "bj-2", Reason: "x"})
	w.refuse(prune(func(c *Config) { c.Clusters = c.Clusters[:1] }), ErrUnknownCluster, "domains[websocket.msha.tech].units.unbj.cluster")
	w.refuse(prune(func(c *Config) { c.Units, c.Clusters, c.Domains = c.Units[:1], c.Clusters[:1], []Domain{} }), ErrUnknownUnit, "rules.unit_type")
	w.refuse(prune(func(c *Config) { c.Clusters = []Cluster{}; c.Domains = []Domain{} }), ErrUnknownCluster, "loadBalancers[slb-hz-1].cluster")
}

// The idle cutovers are bounded; running ones stay however old they are.
func TestIdleCutoversAreForgotten(t *testing.T) {
	w := shop(t)
	w.started(1)
	for range MaxIdleCutovers + 10 {
		w.do(walk(1))
	}
	if n := len(w.s.Cutovers); n != MaxIdleCutovers+1 {
		t.Errorf("%d cutovers are kept", n)
	}
	if c, ok := w.s.Running("unit_type"); !ok || c.ID != "c1" {
		t.Errorf("running is %+v", c)
	}
	w.refuse(AbortCutover{Cutover: "c2"}, ErrUnknownCutover, "cutover")
	w.do(AbortCutover{Cutover: "c12"})
	w.do(AbortCutover{Cutover: "c1"})
	if n := len(w.s.Cutovers); n != MaxIdleCutovers || w.s.CutoverCount != MaxIdleCutovers+11 {
		t.Errorf("%d cutovers are kept, %d counted", n, w.s.CutoverCount)
	}
}

// An exact ID that is given to one unit leaves the lists that are not named; a named list is replaced.
func TestPreviewOfExactIDs(t *testing.T) {
	w := shop(t)
	p := w.do(PreviewCutover{Exact: map[string][]string{"center": {"4001"}}}).(CutoverProposed)
	if got := p.Rules.Exact(); len(got["unbj"]) != 1 || got["unbj"][0] != "vip-7" || len(got["center"]) != 1 {
		t.Errorf("exact IDs are %v", got)
	}
	if m := p.ExactMoves; len(m) != 1 || m[0] != (routing.ExactMove{ID: "4001", Source: "unbj", Target: "center"}) || len(p.Moves) != 0 {
		t.Errorf("moves are %+v %+v", m, p.Moves)
	}
	p = w.do(PreviewCutover{Exact: map[string][]string{"unbj": {}}}).(CutoverProposed)
	if got := p.Rules.Exact(); len(got) != 0 || len(p.ExactMoves) != 1 {
		t.Errorf("exact IDs are %v, moves %v", got, p.ExactMoves)
	}
	if r := w.s.Rules["unit_type"].Current.Exact()["unbj"]; len(r) != 2 {
		t.Errorf("a preview changed the rules in force: %v", r)
	}
}
