package events

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestDiffDomains(t *testing.T) {
	active, draft := shopDomain(), shopDomain()
	draft.Scheme = "wss"
	draft.DNS.MultiUnit = true
	draft.Units["unbj"] = DomainUnit{Subdomain: "bj.msha.tech", Cluster: "ws-bj-3"}
	delete(draft.Units, "center")
	draft.URIs = []URI{{Path: "/chat", Origins: map[string]Origins{}}, {Path: "/", Origins: map[string]Origins{"unbj": {"10.1.0.1:9000", "10.1.0.2:9000"}}}}
	got, err := json.Marshal(DiffDomains(&active, &draft))
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"field":"dns.multiUnit","becomes":true},` +
		`{"field":"scheme","becomes":"wss"},` +
		`{"field":"units.center.cluster","was":"ws-hz-2"},{"field":"units.center.subdomain","was":"center.websocket.msha.tech"},` +
		`{"field":"units.unbj.cluster","was":"ws-bj-2","becomes":"ws-bj-3"},{"field":"units.unbj.subdomain","becomes":"bj.msha.tech"},` +
		`{"field":"uris[/].origins.center","was":"10.0.0.1:9000,10.0.0.2:9000"},` +
		`{"field":"uris[/].origins.unbj","was":"10.1.0.1:9000","becomes":"10.1.0.1:9000,10.1.0.2:9000"},` +
		`{"field":"uris[/chat].origins","becomes":{}}]`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if d := DiffDomains(nil, &active); len(d) == 0 || d[0].Was != nil {
		t.Errorf("against nothing: %+v", d)
	}
}

// Two versions differ exactly where their JSON does, whichever way they are compared.
func TestDiffDomainsIsComplete(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 500 {
		one, other := randomConfig(r), randomConfig(r)
		if len(one.Domains)*len(other.Domains) == 0 {
			continue
		}
		a, b := one.Domains[0], other.Domains[0]
		there, back := DiffDomains(&a, &b), DiffDomains(&b, &a)
		if (len(there) == 0) != sameJSON(a, b) || len(there) != len(back) {
			t.Fatalf("%+v and back %+v between\n%+v\n%+v", there, back, a, b)
		}
		for i := range there {
			if there[i].Field != back[i].Field || !reflect.DeepEqual(there[i].Was, back[i].Becomes) {
				t.Fatalf("%+v, back %+v", there[i], back[i])
			}
		}
	}
}
