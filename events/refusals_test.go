package events

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// A refusal is a command, sent after the shop's history and some more, that must be refused.
type refusal struct {
	name    string
	after   func(w *world) // nil: nothing more
	command Command
	code    *Error
	field   string
}

func domain(change func(d *Domain)) Domain {
	d := shopDomain()
	change(&d)
	return d
}

func origin(addr ...string) map[string]Origins { return map[string]Origins{"center": addr} }

func run(n int, f func(i int) string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = f(i)
	}
	return out
}

func ptr[T any](v T) *T { return &v }

var long = strings.Repeat("x", 300)

// configRefusals are about the commands that shape a namespace.
func configRefusals() []refusal {
	longPort := "10.0.0.1:" + strings.Repeat("0", 70_000) + "80"
	policy := func(p PolicyPatch) Command {
		return ApplyConfig{Base: 1, Config: Config{Namespace: "shop", Policy: &p}}
	}
	types := func(t ...UnitType) Command {
		return ApplyConfig{Base: 1, Config: Config{Namespace: "shop", UnitTypes: t}}
	}
	put := func(change func(d *Domain)) Command { return PutDomain{domain(change)} }
	health := func(h Health) Command { return put(func(d *Domain) { d.URIs[0].Health = &h }) }
	unit := func(change func(u *DomainUnit)) Command {
		return put(func(d *Domain) { u := d.Units["unbj"]; change(&u); d.Units["unbj"] = u })
	}
	return []refusal{
		{"created twice", nil, CreateNamespace{}, ErrNamespaceExists, ""},
		{"config of another namespace", nil, ApplyConfig{Base: 1, Config: Config{Namespace: "other"}}, ErrBadValue, "config.namespace"},
		{"stale base", nil, ApplyConfig{Base: 0, Config: shopConfig()}, ErrStaleVersion, "base"},
		{"base of the future", nil, ApplyConfig{Base: 9, Config: shopConfig()}, ErrStaleVersion, "base"},
		{"nothing changes", nil, ApplyConfig{Base: 1, Config: shopConfig()}, ErrNothingChanges, ""},

		{"policy: ownership", nil, policy(PolicyPatch{Ownership: ptr("shared")}), ErrBadValue, "policy.ownership"},
		{"policy: ownership", nil, policy(PolicyPatch{Ownership: ptr("mine")}), ErrBadValue, "policy.ownership"},
		{"policy: lease short", nil, policy(PolicyPatch{Lease: ptr(Duration(14 * time.Second))}), ErrBadValue, "policy.lease"},
		{"policy: lease long", nil, policy(PolicyPatch{Lease: ptr(Duration(time.Hour))}), ErrBadValue, "policy.lease"},
		{"policy: hold", nil, policy(PolicyPatch{Hold: ptr(Duration(-1))}), ErrBadValue, "policy.hold"},
		{"policy: close code reserved", nil, policy(PolicyPatch{CloseCode: ptr(1006)}), ErrBadValue, "policy.closeCode"},
		{"policy: close code high", nil, policy(PolicyPatch{CloseCode: ptr(5000)}), ErrBadValue, "policy.closeCode"},
		{"policy: rate negative", nil, policy(PolicyPatch{EvictRate: ptr(-1)}), ErrBadValue, "policy.evictRate"},
		{"policy: rate high", nil, policy(PolicyPatch{EvictRate: ptr(MaxRate + 1)}), ErrBadValue, "policy.evictRate"},
		{"R13 policy while a cutover runs", func(w *world) { w.started(1) }, policy(PolicyPatch{Hold: ptr(Duration(time.Second))}), ErrCutoverOpen, "policy"},
		{"unit types while a cutover runs", func(w *world) { w.started(1) }, types(UnitType{Name: "more", Slots: 1}), ErrCutoverOpen, "unitTypes"},
		{"units go while a cutover runs", func(w *world) { w.do(PutUnit{Unit{ID: "spare"}}); w.started(1) },
			ApplyConfig{Base: 7, Prune: true, Config: Config{Namespace: "shop", Units: shopConfig().Units}}, ErrCutoverOpen, "units"},

		{"unit type: no name", nil, types(UnitType{Slots: 1}), ErrBadName, "unitTypes[0].name"},
		{"unit type: name", nil, types(UnitType{Name: "9x", Slots: 1}), ErrBadName, "unitTypes[0].name"},
		{"unit type: long name", nil, types(UnitType{Name: long, Slots: 1}), ErrBadName, "unitTypes[0].name"},
		{"unit type: no slots", nil, types(UnitType{Name: "x"}), ErrBadSlots, "unitTypes[0].slots"},
		{"unit type: many slots", nil, types(UnitType{Name: "x", Slots: 1<<20 + 1}), ErrBadSlots, "unitTypes[0].slots"},
		{"unit type: slots change", nil, types(UnitType{Name: "unit_type", Slots: 100}), ErrBadSlots, "unitTypes[unit_type].slots"},
		{"unit type: twice", nil, types(UnitType{Name: "x", Slots: 1}, UnitType{Name: "x", Slots: 1}), ErrDuplicateName, "unitTypes[1]"},
		{"unit type: source", nil, types(UnitType{Name: "x", Slots: 1, RouterID: []string{"header:a", "body:b"}}), ErrBadValue, "unitTypes[0].routerId[1]"},
		{"unit type: segment 0", nil, types(UnitType{Name: "x", Slots: 1, RouterID: []string{"path:0"}}), ErrBadValue, "unitTypes[0].routerId[0]"},
		{"unit type: a segment that is no number", nil, types(UnitType{Name: "x", Slots: 1, RouterID: []string{"path:id"}}), ErrBadValue, "unitTypes[0].routerId[0]"},
		{"unit type: subprotocol with a name", nil, types(UnitType{Name: "x", Slots: 1, RouterID: []string{"subprotocol:x"}}), ErrBadValue, "unitTypes[0].routerId[0]"},
		{"unit type: a part that no ID has", nil, types(UnitType{Name: "x", Slots: 1, Substring: routing.Part{From: 1000}}), ErrBadValue, "unitTypes[0].substring"},
		{"unit type: a part less than nothing", nil, types(UnitType{Name: "x", Slots: 1, Substring: routing.Part{Length: -1}}), ErrBadValue, "unitTypes[0].substring"},
		{"unit type: source's name", nil, types(UnitType{Name: "x", Slots: 1, RouterID: []string{"header:a b"}}), ErrBadValue, "unitTypes[0].routerId[0]"},
		{"unit type: source without a name", nil, types(UnitType{Name: "x", Slots: 1, RouterID: []string{"header"}}), ErrBadValue, "unitTypes[0].routerId[0]"},
		{"unit type: many sources", nil, types(UnitType{Name: "x", Slots: 1, RouterID: run(1000, func(i int) string { return fmt.Sprintf("header:x%d", i) })}), ErrBadValue, "unitTypes[0].routerId"},
		{"unit type: unmarked", nil, types(UnitType{Name: "x", Slots: 1, Unmarked: "drop"}), ErrBadValue, "unitTypes[0].unmarked"},
		{"unit type: too many", nil, types(manyTypes(17)...), ErrTooLarge, ""},
		{"unit type with rules goes", nil, ApplyConfig{Base: 1, Prune: true, Config: Config{Namespace: "shop", UnitTypes: []UnitType{{Name: "x", Slots: 1}}}}, ErrInUse, "unitTypes"},

		{"unit: no id", nil, PutUnit{}, ErrMissingField, "id"},
		{"unit: id", nil, PutUnit{Unit{ID: "Center"}}, ErrBadName, "id"},
		{"unit: long id", nil, PutUnit{Unit{ID: strings.Repeat("a", 64)}}, ErrBadName, "id"},
		{"unit: id with a line feed", nil, PutUnit{Unit{ID: "a\n"}}, ErrBadName, "id"},
		{"unit: long name", nil, PutUnit{Unit{ID: "a", Name: long}}, ErrBadValue, "name"},
		{"unit: control characters", nil, PutUnit{Unit{ID: "a", Name: "a\x1b[2J"}}, ErrBadValue, "name"},
		{"unit: no UTF-8", nil, PutUnit{Unit{ID: "a", Name: "\xff"}}, ErrBadValue, "name"},
		{"unit: two centers", nil, PutUnit{Unit{ID: "unbj", Center: true}}, ErrCenter, "units[unbj].center"},

		{"cluster: no unit", nil, PutCluster{Cluster{ID: "x"}}, ErrMissingField, "unit"},
		{"cluster: unknown unit", nil, PutCluster{Cluster{ID: "x", Unit: "mars"}}, ErrUnknownUnit, "clusters[x].unit"},
		{"cluster: protocol", nil, PutCluster{Cluster{ID: "x", Unit: "center", Protocol: "mqtt"}}, ErrUnsupported, "protocol"},
		{"cluster: instance", nil, PutCluster{Cluster{ID: "x", Unit: "center", Instances: []string{"a", ""}}}, ErrMissingField, "instances[1]"},
		{"cluster: many instances", nil, PutCluster{Cluster{ID: "x", Unit: "center", Instances: run(5000, strconv.Itoa)}}, ErrBadValue, "instances"},
		{"cluster with edges changes its unit", nil, PutCluster{Cluster{ID: "ws-hz-2", Unit: "unbj"}}, ErrInUse, "clusters[ws-hz-2]"},
		{"load balancer: no cluster", nil, PutLoadBalancer{LoadBalancer{ID: "x", Address: "10.0.0.1"}}, ErrMissingField, "cluster"},
		{"load balancer: unknown cluster", nil, PutLoadBalancer{LoadBalancer{ID: "x", Cluster: "mars", Address: "10.0.0.1"}}, ErrUnknownCluster, "loadBalancers[x].cluster"},
		{"load balancer: address", nil, PutLoadBalancer{LoadBalancer{ID: "x", Cluster: "ws-hz-2", Address: "10.0.0.1:80"}}, ErrBadValue, "address"},
		{"load balancer: zone", nil, PutLoadBalancer{LoadBalancer{ID: "x", Cluster: "ws-hz-2", Address: "fe80::1%a\r\nb"}}, ErrBadValue, "address"},

		{"domain: host", nil, put(func(d *Domain) { d.Host = "A.example" }), ErrBadName, "host"},
		{"domain: empty host", nil, put(func(d *Domain) { d.Host = "" }), ErrBadName, "host"},
		{"domain: long host", nil, put(func(d *Domain) { d.Host = strings.Repeat("a.", 127) + "aa" }), ErrBadName, "host"},
		{"domain: unit type", nil, put(func(d *Domain) { d.UnitType = "mars" }), ErrUnknownUnitType, "domains[websocket.msha.tech].unitType"},
		{"domain: protocol", nil, put(func(d *Domain) { d.Protocol = "tcp" }), ErrUnsupported, "protocol"},
		{"domain: scheme", nil, put(func(d *Domain) { d.Scheme = "ftp" }), ErrBadValue, "scheme"},
		{"domain: a sub-domain too long for a Close frame", nil, put(func(d *Domain) {
			d.Correction, d.Units["unbj"] = "close", DomainUnit{Subdomain: strings.Repeat("a", 50) + "." + strings.Repeat("b", 50) + ".websocket.example", Cluster: "ws-bj-2"}
		}), ErrBadValue, "units.unbj.subdomain"},
		{"domain: correction", nil, put(func(d *Domain) { d.Correction = "hope" }), ErrBadValue, "correction"},
		{"domain: dns provider", nil, put(func(d *Domain) { d.DNS.Provider = "phone" }), ErrBadValue, "dns.provider"},
		{"domain: dns without a zone", nil, put(func(d *Domain) { d.DNS.Provider = "alidns" }), ErrMissingField, "dns.zone"},
		{"domain: zone without dns", nil, put(func(d *Domain) { d.DNS.Zone = "msha.tech" }), ErrBadValue, "dns.zone"},
		{"domain: zone with a dot", nil, put(func(d *Domain) { d.DNS = DNS{Provider: "rfc2136", Zone: "msha.tech."} }), ErrBadValue, "dns.zone"},
		{"domain: zone of others", nil, put(func(d *Domain) { d.DNS = DNS{Provider: "rfc2136", Zone: "other.example"} }), ErrBadValue, "dns.zone"},
		{"domain: no units", nil, put(func(d *Domain) { d.Units = nil }), ErrMissingField, "units"},
		{"domain: unknown unit", nil, put(func(d *Domain) { d.Units["mars"] = DomainUnit{Cluster: "ws-hz-2"} }), ErrUnknownUnit, "domains[websocket.msha.tech].units.mars"},
		{"domain: no cluster", nil, unit(func(u *DomainUnit) { u.Cluster = "" }), ErrMissingField, "units.unbj.cluster"},
		{"domain: unknown cluster", nil, unit(func(u *DomainUnit) { u.Cluster = "mars" }), ErrUnknownCluster, "domains[websocket.msha.tech].units.unbj.cluster"},
		{"domain: cluster of another unit", nil, unit(func(u *DomainUnit) { u.Cluster = "ws-hz-2" }), ErrUnknownCluster, "domains[websocket.msha.tech].units.unbj.cluster"},
		{"domain: sub-domain", nil, unit(func(u *DomainUnit) { u.Subdomain = "a b" }), ErrBadValue, "units.unbj.subdomain"},
		{"domain: sub-domain's port", nil, unit(func(u *DomainUnit) { u.Subdomain = "a:0" }), ErrBadValue, "units.unbj.subdomain"},
		{"domain: sub-domain in brackets", nil, unit(func(u *DomainUnit) { u.Subdomain = "[a.example]:80" }), ErrBadValue, "units.unbj.subdomain"},
		{"domain: sub-domain with a header in its zone", nil, unit(func(u *DomainUnit) { u.Subdomain = "[::1%\r\nSet-Cookie: x]:80" }), ErrBadValue, "units.unbj.subdomain"},
		{"domain: one sub-domain for two units", nil, unit(func(u *DomainUnit) { u.Subdomain = "center.websocket.msha.tech" }), ErrDuplicateName, "units.unbj.subdomain"},
		{"domain: sub-domain of another domain", nil, put(func(d *Domain) { d.Host = "b.example" }), ErrDuplicateName, "domains[websocket.msha.tech]"},
		{"domain: no URI", nil, put(func(d *Domain) { d.URIs = nil }), ErrBadValue, "uris"},
		{"domain: relative path", nil, put(func(d *Domain) { d.URIs[0].Path = "chat" }), ErrBadValue, "uris[0].path"},
		{"domain: path with a query", nil, put(func(d *Domain) { d.URIs[0].Path = "/?a" }), ErrBadValue, "uris[0].path"},
		{"domain: path twice", nil, put(func(d *Domain) { d.URIs = append(d.URIs, d.URIs[0]) }), ErrDuplicateName, "uris[1].path"},
		{"domain: path twice, but for its end", nil, put(func(d *Domain) { d.URIs = []URI{{Path: "/a"}, {Path: "/a/"}} }), ErrDuplicateName, "uris[1].path"},
		{"domain: path twice, in two spellings", nil, put(func(d *Domain) { d.URIs = []URI{{Path: "/a~"}, {Path: "//%61%7e"}} }), ErrDuplicateName, "uris[1].path"},
		{"domain: the root twice", nil, put(func(d *Domain) { d.URIs = []URI{{Path: "/"}, {Path: "//"}} }), ErrDuplicateName, "uris[1].path"},
		{"domain: path with dots", nil, put(func(d *Domain) { d.URIs[0].Path = "/a/%2E%2e/b" }), ErrBadValue, "uris[0].path"},
		{"domain: path that no request has", nil, put(func(d *Domain) { d.URIs[0].Path = "/a%2Fb" }), ErrBadValue, "uris[0].path"},
		{"domain: path with a parameter", nil, put(func(d *Domain) { d.URIs[0].Path = "/a;b" }), ErrBadValue, "uris[0].path"},
		{"domain: origin without a port", nil, put(func(d *Domain) { d.URIs[0].Origins = origin("10.0.0.1") }), ErrBadValue, "uris[0].origins.center"},
		{"domain: origin with a long port", nil, put(func(d *Domain) { d.URIs[0].Origins = origin(longPort) }), ErrBadValue, "uris[0].origins.center"},
		{"domain: origin with a zone", nil, put(func(d *Domain) { d.URIs[0].Origins = origin("[fe80::1%\x00]:80") }), ErrBadValue, "uris[0].origins.center"},
		{"domain: no origin", nil, put(func(d *Domain) { d.URIs[0].Origins = origin() }), ErrBadValue, "uris[0].origins.center"},
		{"domain: many origins", nil, put(func(d *Domain) {
			d.URIs[0].Origins = origin(run(65, func(i int) string { return fmt.Sprintf("h:%d", i+1) })...)
		}), ErrBadValue, "uris[0].origins.center"},
		{"domain: connect timeout", nil, put(func(d *Domain) { d.URIs[0].ConnectTimeout = Duration(time.Hour) }), ErrBadValue, "uris[0].connectTimeout"},
		{"domain: connect timeout negative", nil, put(func(d *Domain) { d.URIs[0].ConnectTimeout = -1 }), ErrBadValue, "uris[0].connectTimeout"},
		{"domain: reply timeout", nil, put(func(d *Domain) { d.URIs[0].ReplyTimeout = Duration(time.Hour) }), ErrBadValue, "uris[0].replyTimeout"},
		{"domain: reply timeout negative", nil, put(func(d *Domain) { d.URIs[0].ReplyTimeout = -1 }), ErrBadValue, "uris[0].replyTimeout"},
		{"health: no probe", nil, health(Health{Interval: Duration(time.Second)}), ErrMissingField, "uris[0].health.probe"},
		{"health: another probe", nil, health(Health{Probe: "icmp"}), ErrBadValue, "uris[0].health.probe"},
		{"health: none, and how", nil, health(Health{Probe: "none", Rise: 2}), ErrBadValue, "uris[0].health"},
		{"health: path of tcp", nil, health(Health{Probe: "tcp", Path: "/"}), ErrBadValue, "uris[0].health"},
		{"health: host of tcp", nil, health(Health{Probe: "tcp", Host: "app.example"}), ErrBadValue, "uris[0].health"},
		{"health: host in upper case", nil, health(Health{Probe: "http", Host: "App.example"}), ErrBadValue, "uris[0].health.host"},
		{"health: host with a port too many", nil, health(Health{Probe: "http", Host: "app.example:65536"}), ErrBadValue, "uris[0].health.host"},
		{"health: host with a line of its own", nil, health(Health{Probe: "http", Host: "a\r\nX: y"}), ErrBadValue, "uris[0].health.host"},
		{"health: relative path", nil, health(Health{Probe: "http", Path: "healthz"}), ErrBadValue, "uris[0].health.path"},
		{"health: line end in a query", nil, health(Health{Probe: "http", Path: "/?a\r\nb"}), ErrBadValue, "uris[0].health.path"},
		{"health: expect", nil, health(Health{Probe: "http", Expect: "200"}), ErrBadValue, "uris[0].health.expect"},
		{"health: interval", nil, health(Health{Probe: "tcp", Interval: 1}), ErrBadValue, "uris[0].health.interval"},
		{"health: timeout", nil, health(Health{Probe: "tcp", Timeout: Duration(time.Hour)}), ErrBadValue, "uris[0].health.timeout"},
		{"health: rise", nil, health(Health{Probe: "tcp", Rise: -1}), ErrBadValue, "uris[0].health.rise"},
		{"health: fall", nil, health(Health{Probe: "tcp", Fall: 101}), ErrBadValue, "uris[0].health.fall"},
		{"domain: origins of a unit it is not in", nil, put(func(d *Domain) { d.URIs[0].Origins = map[string]Origins{"mars": {"h:1"}} }), ErrUnknownUnit, "uris[0].origins.mars"},
		{"activate: no draft", nil, ActivateDomain{Host: "websocket.msha.tech"}, ErrUnknownDomain, "host"},
		{"activate: unknown", nil, ActivateDomain{Host: "mars.example"}, ErrUnknownDomain, "host"},
		{"activate without a unit that owns slots", func(w *world) {
			w.do(put(func(d *Domain) { delete(d.Units, "unbj"); delete(d.URIs[0].Origins, "unbj") }))
		},
			ActivateDomain{Host: "websocket.msha.tech"}, ErrUnknownUnit, "domains[websocket.msha.tech].units"},
		{"remove: unknown", nil, RemoveDomain{Host: ""}, ErrUnknownDomain, "host"},
		{"remove: nobody has counted", nil, RemoveDomain{Host: "websocket.msha.tech"}, ErrSessionsUnknown, "domains[websocket.msha.tech]"},
		{"remove: nobody has counted, by force", nil, RemoveDomain{Host: "websocket.msha.tech", Force: true, Reason: "x"}, ErrSessionsUnknown, "domains[websocket.msha.tech]"},
		{"remove: another domain was counted", nil, RemoveDomain{Host: "websocket.msha.tech", Counted: sessionsOf("b.example", 0)}, ErrSessionsUnknown, "domains[websocket.msha.tech]"},
		{"remove: sessions live", nil, RemoveDomain{Host: "websocket.msha.tech", Counted: sessionsOf("websocket.msha.tech", 1)}, ErrSessionsLive, "domains[websocket.msha.tech]"},
		{"remove: an edge is silent", nil, RemoveDomain{Host: "websocket.msha.tech", Counted: sessionsOf("websocket.msha.tech", 0, "bj-1")}, ErrSessionsUnknown, "domains[websocket.msha.tech]"},
		{"remove: force without a reason", nil, RemoveDomain{Host: "websocket.msha.tech", Force: true, Counted: sessionsOf("websocket.msha.tech", 0)}, ErrReasonMissing, "reason"},
		{"remove: long reason", nil, RemoveDomain{Host: "websocket.msha.tech", Force: true, Reason: long, Counted: sessionsOf("websocket.msha.tech", 0)}, ErrBadValue, "reason"},
		{"deactivate: unknown", nil, DeactivateDomain{Host: "mars.example"}, ErrUnknownDomain, "host"},
		{"deactivate: a draft", func(w *world) { w.do(PutDomain{otherDomain()}) }, DeactivateDomain{Host: "b.example"}, ErrUnknownDomain, "host"},
		{"deactivate: sessions live", nil, DeactivateDomain{Host: "websocket.msha.tech", Counted: sessionsOf("websocket.msha.tech", 7)}, ErrSessionsLive, "domains[websocket.msha.tech]"},
		{"deactivate: an edge is silent", nil, DeactivateDomain{Host: "websocket.msha.tech", Counted: sessionsOf("websocket.msha.tech", 0, "bj-1")}, ErrSessionsUnknown, "domains[websocket.msha.tech]"},
		{"deactivate: force without a reason", nil, DeactivateDomain{Host: "websocket.msha.tech", Force: true, Counted: sessionsOf("websocket.msha.tech", 0)}, ErrReasonMissing, "reason"},
		{"prune a domain with sessions", nil, ApplyConfig{Base: 1, Prune: true, Config: Config{Namespace: "shop", Domains: []Domain{}}, Counted: sessionsOf("websocket.msha.tech", 1)}, ErrSessionsLive, "domains[websocket.msha.tech]"},
		{"prune a domain that nobody has counted", nil, ApplyConfig{Base: 1, Prune: true, Config: Config{Namespace: "shop", Domains: []Domain{}}}, ErrSessionsUnknown, "domains[websocket.msha.tech]"},
		{"apply: force without a reason", nil, ApplyConfig{Base: 1, Prune: true, Force: true, Config: Config{Namespace: "shop", Domains: []Domain{}}}, ErrReasonMissing, "reason"},
		{"remove a unit: unknown", nil, RemoveUnit{ID: "mars"}, ErrUnknownUnit, "id"},
		{"remove a unit: a cluster is in it", nil, RemoveUnit{ID: "unbj"}, ErrInUse, "clusters[ws-bj-2].unit"},
		{"remove a cluster: unknown", nil, RemoveCluster{ID: "mars"}, ErrUnknownCluster, "id"},
		{"remove a cluster: a load balancer", nil, RemoveCluster{ID: "ws-hz-2"}, ErrInUse, "loadBalancers[slb-hz-1].cluster"},
		{"remove a cluster: a domain", nil, RemoveCluster{ID: "ws-bj-2"}, ErrInUse, "domains[websocket.msha.tech].units.unbj.cluster"},
		{"remove a load balancer: unknown", nil, RemoveLoadBalancer{ID: "mars"}, ErrUnknownBalancer, "id"},
		{"remove a load balancer: the last one of a published name", func(w *world) {
			w.do(PutDomain{domain(func(d *Domain) { d.DNS = DNS{Provider: "rfc2136", Zone: "msha.tech"} })})
			w.do(ActivateDomain{Host: "websocket.msha.tech"})
		}, RemoveLoadBalancer{ID: "slb-hz-1"}, ErrInUse, "domains[websocket.msha.tech].units.center.cluster"},

		{"rules: unit type", nil, InitRules{UnitType: "mars"}, ErrUnknownUnitType, "unitType"},
		{"rules: twice", nil, InitRules{}, ErrRulesExist, ""},
	}
}

func sessionsOf(host string, n int, silent ...string) []DomainSessions {
	return []DomainSessions{{host, n, silent}}
}

func manyTypes(n int) []UnitType {
	out := make([]UnitType, n)
	for i := range out {
		out[i] = UnitType{Name: fmt.Sprintf("t%d", i), Slots: 1}
	}
	return out
}

// otherRefusals are about edges, the office, rules and cutovers.
func otherRefusals() []refusal {
	join := func(change func(j *JoinEdge)) Command { j := joinOf("hz-9"); change(&j); return j }
	two := func(w *world) {
		w.do(ApplyConfig{Base: w.s.ConfigVersion, Config: Config{Namespace: "shop", UnitTypes: []UnitType{{Name: "shops", Slots: 10}}}})
	}
	rules := func(r map[string][]routing.Range, e map[string][]string) Command {
		return InitRules{UnitType: "shops", RulesConfig: RulesConfig{Ranges: r, Exact: e}}
	}
	all := map[string][]routing.Range{"center": {{From: 0, To: 9}}}
	preview := func(change func(p *PreviewCutover)) Command { p := walk(1); change(&p); return p }
	proposed := func(w *world) { w.do(walk(1)) }
	fenced := func(w *world) { w.fence(w.started(1), 0) }
	started := func(w *world) { w.started(1) }
	return []refusal{
		{"rules: gap", two, rules(map[string][]routing.Range{"center": {{From: 0, To: 8}}}, nil), ErrRangeGap, "ranges"},
		{"rules: none", two, rules(nil, nil), ErrRangeGap, "ranges"},
		{"rules: overlap", two, rules(map[string][]routing.Range{"center": {{From: 0, To: 9}}, "unbj": {{From: 9, To: 9}}}, nil), ErrRangeOverlap, "ranges"},
		{"rules: range", two, rules(map[string][]routing.Range{"center": {{From: 0, To: 10}}}, nil), ErrBadRange, "ranges"},
		{"rules: exact ID", two, rules(all, map[string][]string{"center": {"a b"}}), ErrBadRouterID, "exact"},
		{"rules: exact ID twice", two, rules(all, map[string][]string{"center": {"a"}, "unbj": {"a"}}), ErrExactConflict, "exact"},
		{"rules: unknown unit", two, rules(map[string][]routing.Range{"mars": {{From: 0, To: 9}}}, nil), ErrUnknownUnit, "rules.shops"},
		{"rules of an unknown unit type by apply", two, ApplyConfig{Base: 7, Config: Config{Namespace: "shop", Rules: map[string]RulesConfig{"": {Ranges: all}}}}, ErrUnknownUnitType, "rules."},
		{"rules by apply, again", nil, ApplyConfig{Base: 1, Config: Config{Namespace: "shop", Rules: map[string]RulesConfig{"unit_type": {Ranges: walk(1).Ranges}}}}, ErrRulesExist, "rules.unit_type"},

		{"join: no id", nil, join(func(j *JoinEdge) { j.ID = "" }), ErrMissingField, "id"},
		{"join: id", nil, join(func(j *JoinEdge) { j.ID = "a.b" }), ErrBadName, "id"},
		{"join: unknown unit", nil, join(func(j *JoinEdge) { j.Unit = "mars" }), ErrUnknownUnit, "unit"},
		{"join: unknown cluster", nil, join(func(j *JoinEdge) { j.Cluster = "mars" }), ErrUnknownCluster, "cluster"},
		{"join: cluster of another unit", nil, join(func(j *JoinEdge) { j.Cluster = "ws-bj-2" }), ErrUnknownCluster, "cluster"},
		{"join: not on the list", func(w *world) { w.do(PutCluster{Cluster{ID: "ws-x", Unit: "center", Instances: []string{"x-1"}}}) },
			join(func(j *JoinEdge) { j.Cluster = "ws-x" }), ErrNotAllowed, "id"},
		{"join: no directory", nil, join(func(j *JoinEdge) { j.Directory = "" }), ErrMissingField, "directory"},
		{"join: directory", nil, join(func(j *JoinEdge) { j.Directory = "/var/lib/unitgate" }), ErrBadValue, "directory"},
		{"join: key", nil, join(func(j *JoinEdge) { j.Key = "ssh-ed25519" }), ErrBadValue, "key"},
		{"join: from another directory", nil, join(func(j *JoinEdge) { j.ID, j.Address = "hz-1", joinOf("hz-1").Address }), ErrEdgeElsewhere, "id"},
		{"join: from another directory and address", nil, join(func(j *JoinEdge) { j.ID = "hz-1" }), ErrEdgeElsewhere, "id"},
		{"join: from another directory, retired", func(w *world) { w.do(RetireEdge{ID: "hz-1", Reason: "x"}) },
			join(func(j *JoinEdge) { j.ID = "hz-1" }), ErrEdgeGone, "id"},
		{"join: with another edge's address", nil, join(func(j *JoinEdge) { j.Address = joinOf("bj-2").Address }), ErrAddressTaken, "address"},
		{"join: renewed with another edge's address", nil,
			join(func(j *JoinEdge) { *j = joinOf("hz-1"); j.Address = joinOf("bj-2").Address }), ErrAddressTaken, "address"},
		{"join: succeeds nobody", nil, join(func(j *JoinEdge) { j.Succeeds, j.SucceedsDirectory = "hz-7", directoryOf("hz-7") }), ErrUnknownEdge, "succeeds"},
		{"join: succeeds one that is gone", func(w *world) { w.do(RetireEdge{ID: "hz-1", Reason: "burnt"}) },
			join(func(j *JoinEdge) { j.Succeeds, j.SucceedsDirectory = "hz-1", directoryOf("hz-1") }), ErrUnknownEdge, "succeeds"},
		{"join: succeeds itself", nil,
			join(func(j *JoinEdge) { *j = joinOf("hz-1"); j.Succeeds, j.SucceedsDirectory = "hz-1", directoryOf("hz-1") }), ErrBadValue, "succeeds"},
		{"join: succeeds another unit's", nil, join(func(j *JoinEdge) { j.Succeeds, j.SucceedsDirectory = "bj-1", directoryOf("bj-1") }), ErrEdgeMoved, "succeeds"},
		{"join: succeeds a stranger", nil, join(func(j *JoinEdge) { j.Succeeds, j.SucceedsDirectory = "hz-1", directoryOf("hz-2") }), ErrEdgeElsewhere, "succeedsDirectory"},
		{"join: succeeds somebody in no directory", nil, join(func(j *JoinEdge) { j.Succeeds = "hz-1" }), ErrMissingField, "succeeds"},
		{"join: succeeds hz-1 with hz-2's address", nil,
			join(func(j *JoinEdge) {
				j.Succeeds, j.SucceedsDirectory, j.Address = "hz-1", directoryOf("hz-1"), joinOf("hz-2").Address
			}), ErrAddressTaken, "address"},
		{"join: succeeded", func(w *world) { w.do(successor("hz-9", "hz-1")) }, joinOf("hz-1"), ErrEdgeSucceeded, "id"},
		{"join: succeeded already", func(w *world) { w.do(successor("hz-9", "hz-1")) }, successor("hz-8", "hz-1"), ErrAddressTaken, "address"},
		{"join: succession again", func(w *world) { w.do(successor("hz-9", "hz-1")) }, successor("hz-9", "hz-1"), ErrNothingChanges, ""},
		{"join: no address", nil, join(func(j *JoinEdge) { j.Address = "" }), ErrBadValue, "address"},
		{"join: address without a port", nil, join(func(j *JoinEdge) { j.Address = "10.0.0.1" }), ErrBadValue, "address"},
		{"join: capacity", nil, join(func(j *JoinEdge) { j.Capacity = -1 }), ErrBadValue, "capacity"},
		{"join: again, the same", nil, joinOf("hz-1"), ErrNothingChanges, ""},
		{"join: moved to another cluster", func(w *world) { w.do(PutCluster{Cluster{ID: "ws-x", Unit: "center"}}) },
			join(func(j *JoinEdge) { *j = joinOf("hz-1"); j.Cluster = "ws-x" }), ErrEdgeMoved, "id"},
		{"join: retired", func(w *world) { w.do(RetireEdge{ID: "hz-1", Reason: "x"}) }, joinOf("hz-1"), ErrEdgeGone, "id"},
		{"leave: unknown", nil, LeaveEdge{ID: "mars"}, ErrUnknownEdge, "id"},
		{"leave: said by another", nil, LeaveEdge{ID: "hz-1", Directory: directoryOf("hz-2")}, ErrEdgeElsewhere, "id"},
		{"retire: unknown", nil, RetireEdge{ID: "", Reason: "x"}, ErrUnknownEdge, "id"},
		{"retire: no reason", nil, RetireEdge{ID: "hz-1"}, ErrReasonMissing, "reason"},
		{"retire: long reason", nil, RetireEdge{ID: "hz-1", Reason: long}, ErrBadValue, "reason"},
		{"office: no holder", nil, TakeOffice{Term: 2}, ErrMissingField, "holder"},
		{"office: long holder", nil, TakeOffice{Term: 2, Holder: long}, ErrBadValue, "holder"},
		{"office: bad key", nil, TakeOffice{Term: 2, Holder: "x", Key: "secret"}, ErrBadValue, "key"},
		{"office: past term", nil, TakeOffice{Term: 1, Holder: "x"}, ErrStaleTerm, ""},

		{"preview: unit type", nil, preview(func(p *PreviewCutover) { p.UnitType = "mars" }), ErrUnknownUnitType, "unitType"},
		{"preview: no rules", two, preview(func(p *PreviewCutover) { p.UnitType = "shops" }), ErrNoRules, "unitType"},
		{"preview: nothing named", nil, PreviewCutover{}, ErrMissingField, "ranges"},
		{"preview: nothing moves", nil, PreviewCutover{Ranges: shopConfig().Rules["unit_type"].Ranges}, ErrNothingMoves, ""},
		{"preview: an ID that is there already", nil, PreviewCutover{Exact: map[string][]string{"center": {"1111"}}}, ErrNothingMoves, ""},
		{"preview: waves", nil, walk(101), ErrBadValue, "waves"},
		{"preview: negative waves", nil, walk(-1), ErrBadValue, "waves"},
		{"preview: negative rate", nil, preview(func(p *PreviewCutover) { p.Rate = ptr(Rate(-5)) }), ErrBadValue, "rate"},
		{"preview: high rate", nil, preview(func(p *PreviewCutover) { p.Rate = ptr(Rate(MaxRate + 1)) }), ErrBadValue, "rate"},
		{"preview: long reason", nil, preview(func(p *PreviewCutover) { p.Reason = long }), ErrBadValue, "reason"},
		{"preview: gap", nil, preview(func(p *PreviewCutover) { delete(p.Ranges, "unbj") }), ErrRangeGap, "ranges"},
		{"preview: no ranges", nil, preview(func(p *PreviewCutover) { clear(p.Ranges) }), ErrRangeGap, "ranges"},
		{"preview: overlap", nil, preview(func(p *PreviewCutover) { p.Ranges["unbj"] = []routing.Range{{From: 0, To: 9999}} }), ErrRangeOverlap, "ranges"},
		{"preview: unknown unit", nil, preview(func(p *PreviewCutover) { p.Ranges["mars"] = nil }), ErrUnknownUnit, "ranges.mars"},
		{"preview: unknown unit of an ID", nil, preview(func(p *PreviewCutover) { p.Exact = map[string][]string{"mars": {"1"}} }), ErrUnknownUnit, "exact.mars"},
		{"preview: exact ID", nil, preview(func(p *PreviewCutover) { p.Exact = map[string][]string{"center": {""}} }), ErrBadRouterID, "exact"},
		{"preview: exact ID twice", nil, preview(func(p *PreviewCutover) { p.Exact = map[string][]string{"center": {"x"}, "unbj": {"x"}} }), ErrExactConflict, "exact"},
		{"preview: to a unit that the domain lacks", func(w *world) { w.do(PutUnit{Unit{ID: "third"}}) },
			PreviewCutover{Exact: map[string][]string{"third": {"1"}}}, ErrUnknownUnit, "domains[websocket.msha.tech].units"},

		{"check: unknown", proposed, CheckCutover{Cutover: "c1", Checks: []Check{{ID: "weather", State: Pass}}}, ErrUnknownCheck, "check"},
		{"check: verdict", proposed, CheckCutover{Cutover: "c1", Checks: []Check{{ID: "edges-at-head", State: "fine"}}}, ErrBadValue, "check"},
		{"check: skipped by the measurer", proposed, CheckCutover{Cutover: "c1", Checks: []Check{{ID: "edges-at-head", State: Skipped}}}, ErrBadValue, "check"},
		{"retry: unknown", proposed, RetryCheck{Cutover: "c1", Check: "weather"}, ErrUnknownCheck, "check"},
		{"retry: another check's result", proposed, RetryCheck{Cutover: "c1", Check: "edges-at-head", Result: Check{ID: "journal-quorum", State: Pass}}, ErrBadValue, "check"},
		{"retry: long reason", proposed, RetryCheck{Cutover: "c1", Check: "edges-at-head", Reason: long, Result: Check{ID: "edges-at-head", State: Pass}}, ErrBadValue, "reason"},
		{"skip: nothing", proposed, SkipCheck{Cutover: "c1", Reason: "x"}, ErrMissingField, "check"},
		{"skip: both", fenced, SkipCheck{Cutover: "c1", Check: "edges-at-head", Edge: "bj-1", Reason: "x"}, ErrMissingField, "check"},
		{"skip: no reason", proposed, SkipCheck{Cutover: "c1", Check: "edges-at-head"}, ErrReasonMissing, "reason"},
		{"skip: long reason", proposed, SkipCheck{Cutover: "c1", Check: "edges-at-head", Reason: long}, ErrBadValue, "reason"},
		{"skip: unknown check", proposed, SkipCheck{Cutover: "c1", Check: "weather", Reason: "x"}, ErrUnknownCheck, "check"},
		{"skip: unknown edge", fenced, SkipCheck{Cutover: "c1", Edge: "mars", Reason: "x"}, ErrUnknownEdge, "edge"},
		{"start: unmeasured verdict", proposed, StartCutover{Cutover: "c1", Checks: []Check{{ID: "weather", State: Pass}}}, ErrUnknownCheck, "check"},
		{"start: checks missing", proposed, StartCutover{Cutover: "c1"}, ErrPrecheckFailed, ""},
		{"pause: long reason", started, PauseCutover{Cutover: "c1", Reason: long}, ErrBadValue, "reason"},
		{"pause: reason with a line feed", started, PauseCutover{Cutover: "c1", Reason: "a\nb"}, ErrBadValue, "reason"},
		{"abort: long reason", started, AbortCutover{Cutover: "c1", Reason: long}, ErrBadValue, "reason"},
		{"no command", nil, nil, ErrBadCommand, ""},
		{"a pointer to a command", nil, &LeaveEdge{ID: "hz-1"}, ErrBadCommand, ""},
	}
}
