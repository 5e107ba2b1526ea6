package events

import (
	"fmt"
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
	w.refuse(prune(func(c *Config) { c.Units = c.Units[:1] }), ErrInUse, "clusters[ws-bj-2].unit")
	w.refuse(prune(func(c *Config) { c.Clusters = c.Clusters[:1]; c.Domains = []Domain{} }), ErrInUse, "clusters[ws-bj-2]")
	w.do(RetireEdge{ID: "bj-1", Reason: "x"})
	w.do(RetireEdge{ID: "bj-2", Reason: "x"})
	w.refuse(prune(func(c *Config) { c.Clusters = c.Clusters[:1] }), ErrInUse, "domains[websocket.msha.tech].units.unbj.cluster")
	w.refuse(prune(func(c *Config) { c.Units, c.Clusters, c.Domains = c.Units[:1], c.Clusters[:1], []Domain{} }), ErrInUse, "rules.unit_type")
	w.refuse(prune(func(c *Config) { c.Clusters = []Cluster{}; c.Domains = []Domain{} }), ErrInUse, "loadBalancers[slb-hz-1].cluster")
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
	if got := w.s.Cutovers[p.Cutover].To.Exact(); len(got["unbj"]) != 1 || got["unbj"][0] != "vip-7" || len(got["center"]) != 1 {
		t.Errorf("exact IDs are %v", got)
	}
	if m := p.ExactMoves; len(m) != 1 || m[0] != (routing.ExactMove{ID: "4001", Source: "unbj", Target: "center"}) || len(p.Moves) != 0 {
		t.Errorf("moves are %+v %+v", m, p.Moves)
	}
	p = w.do(PreviewCutover{Exact: map[string][]string{"unbj": {}}}).(CutoverProposed)
	if got := w.s.Cutovers[p.Cutover].To.Exact(); len(got) != 0 || len(p.ExactMoves) != 1 {
		t.Errorf("exact IDs are %v, moves %v", got, p.ExactMoves)
	}
	if r := w.s.Rules["unit_type"].Current.Exact()["unbj"]; len(r) != 2 {
		t.Errorf("a preview changed the rules in force: %v", r)
	}
}

// A domain goes only if nobody has a session of it, or by an operator's word; what was known then stands in the event,
// and edges are told to close sessions only by that word.
func TestDomainsEnd(t *testing.T) {
	const host = "websocket.msha.tech"
	w := shop(t)
	e := w.do(DeactivateDomain{Host: host, Counted: sessionsOf(host, 0)}).(DomainDeactivated)
	if e.Forced || e.Sessions != 0 || w.s.Domains[host].Active != nil || w.s.Domains[host].Draft == nil || len(w.s.Cuts) != 0 {
		t.Fatalf("%+v left %+v, cuts %v", e, w.s.Domains[host], w.s.Cuts)
	}
	w.refuse(DeactivateDomain{Host: host, Counted: sessionsOf(host, 0)}, ErrUnknownDomain, "host")
	w.do(ActivateDomain{Host: host})

	changed := shopDomain()
	changed.Scheme = "wss"
	w.do(PutDomain{changed})
	w.do(DeactivateDomain{Host: host, Force: true, Reason: "moved", Counted: sessionsOf(host, 3, "bj-1")})
	if d := w.s.Domains[host]; d.Draft == nil || d.Draft.Scheme != "wss" {
		t.Errorf("the draft is %+v: the newest version is kept", d.Draft)
	}
	cut := w.s.Seq
	if w.s.Cuts[host] != cut {
		t.Errorf("cuts are %v, want %d", w.s.Cuts, cut)
	}
	rec := w.records[len(w.records)-1]
	if got := string(rec.Data); got != `{"host":"websocket.msha.tech","sessions":3,"silentEdges":["bj-1"],"forced":true}` || rec.Reason != "moved" {
		t.Errorf("the journal says %s, %q", got, rec.Reason)
	}
	w.refuse(RemoveDomain{Host: host, Counted: sessionsOf(host, 1, "bj-1")}, ErrSessionsLive, "domains["+host+"]")
	w.do(RemoveDomain{Host: host, Counted: sessionsOf(host, 0, "bj-1")}) // a draft admits nobody
	if _, ok := w.s.Domains[host]; ok || w.s.Cuts[host] != cut {
		t.Errorf("domains are %v, cuts %v", w.s.Domains, w.s.Cuts)
	}
}

// A removal is decided by the same rule whichever way it comes; one that was stored before there was a count is read.
func TestPrunedDomainsEndLikewise(t *testing.T) {
	const host = "websocket.msha.tech"
	w := shop(t)
	apply := ApplyConfig{Base: w.s.ConfigVersion, Prune: true, Config: Config{Namespace: "shop", Domains: []Domain{}}}
	apply.Counted = sessionsOf(host, 0, "hz-1", "hz-2")
	w.refuse(apply, ErrSessionsUnknown, "domains["+host+"]")
	apply.Force, apply.Reason = true, "gone"
	e := w.do(apply).(ConfigApplied)
	if len(e.Ended) != 1 || !e.Ended[0].Forced || len(e.Ended[0].SilentEdges) != 2 || w.s.Cuts[host] != w.s.Seq {
		t.Errorf("%+v, cuts %v", e.Ended, w.s.Cuts)
	}

	w = shop(t)
	if err := w.s.Apply(forge(w.s, "DomainRemoved", `{"host":"websocket.msha.tech"}`)); err != nil || len(w.s.Domains)+len(w.s.Cuts) != 0 {
		t.Errorf("%v: domains %v, cuts %v", err, w.s.Domains, w.s.Cuts)
	}
}

// What is remembered of closed domains is bounded.
func TestCutsAreBounded(t *testing.T) {
	s := NewState()
	for i := range maxCuts + 3 {
		s.cut(uint64(i+1), DomainEnd{DomainSessions{Host: fmt.Sprintf("h%d.example", i)}, true})
	}
	if len(s.Cuts) != maxCuts || s.Cuts["h2.example"] != 0 || s.Cuts["h3.example"] != 4 {
		t.Errorf("%d cuts", len(s.Cuts))
	}
}

// In-use goes by the state as it would be: what is taken away together does not hold itself up.
func TestRemovedTogether(t *testing.T) {
	w := shop(t)
	w.do(PutUnit{Unit{ID: "third"}})
	w.do(PutCluster{Cluster{ID: "ws-3", Unit: "third"}})
	w.do(PutLoadBalancer{LoadBalancer{ID: "slb-3", Cluster: "ws-3", Address: "203.0.113.30"}})
	w.refuse(RemoveUnit{ID: "third"}, ErrInUse, "clusters[ws-3].unit")
	w.refuse(RemoveCluster{ID: "ws-3"}, ErrInUse, "loadBalancers[slb-3].cluster")
	w.do(ApplyConfig{Base: w.s.ConfigVersion, Prune: true, Config: shopConfig()})
	if len(w.s.Units) != 2 || len(w.s.Clusters) != 2 || len(w.s.LoadBalancers) != 1 {
		t.Errorf("%v %v %v", w.s.Units, w.s.Clusters, w.s.LoadBalancers)
	}
	w.do(PutUnit{Unit{ID: "third"}})
	w.do(RemoveUnit{ID: "third"})
}
