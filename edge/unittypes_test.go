package edge_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// Several unit types in one namespace, at a real edge of each unit: each has its own slots and rules; the header unitType
// chooses, without it the domain's does, and that is the first one unless the domain says otherwise; an unknown one gets 400.
func TestSeveralUnitTypes(t *testing.T) {
	var hosts []string
	ns := newNamespace(t, func(c *events.Config) {
		// Of type "shops" the slots are dealt out the other way round, and there are 7 of them.
		c.UnitTypes = append(c.UnitTypes,
			events.UnitType{Name: "shops", Slots: 7, RouterID: []string{"header:shopId", "header:routerId"}},
			events.UnitType{Name: "strict", Slots: 100, Unmarked: "reject"},
			events.UnitType{Name: "empty", Slots: 100}) // no rules yet
		c.Rules["shops"] = events.RulesConfig{
			Ranges: map[string][]routing.Range{"unbj": {{From: 0, To: 3}}, "center": {{From: 4, To: 6}}},
			Exact:  map[string][]string{"unbj": {"vip-7"}},
		}
		c.Rules["strict"] = events.RulesConfig{Ranges: map[string][]routing.Range{"center": {{From: 0, To: 99}}}}
		other := c.Domains[0]
		other.Host, other.UnitType = "shops.localhost", "shops"
		other.Units = map[string]events.DomainUnit{"center": {Cluster: "ws-center"}, "unbj": {Cluster: "ws-unbj"}}
		c.Domains = append(c.Domains, other)
		hosts = []string{c.Domains[0].Host, other.Host}
	})
	edges := map[string]*edge.Edge{}
	for _, unit := range []string{"center", "unbj"} {
		edges[unit], _ = ns.start(unit, t.TempDir(), func(c *edge.Config) { c.Dev.FallbackHost, c.Dev.AdvertisedLocations = false, false })
	}
	for _, c := range []struct {
		host, unitType, routerID string
		owner                    string // "": refused with the status
		status                   int
	}{
		{hosts[0], "", "8330", "unbj", 0},
		{hosts[0], "", "1", "center", 0},
		{hosts[0], "unit_type", "1", "center", 0},
		{hosts[0], "shops", "1", "unbj", 0},     // 1 of 7
		{hosts[0], "shops", "5", "center", 0},   // 5 of 7
		{hosts[0], "shops", "8330", "unbj", 0},  // 8330 mod 7 is 0
		{hosts[0], "shops", "vip-7", "unbj", 0}, // an exact ID of this type only
		{hosts[1], "", "5", "center", 0},        // the domain's type
		{hosts[1], "", "1", "unbj", 0},
		{hosts[1], "unit_type", "1", "center", 0}, // the header goes before the domain's
		{hosts[0], "strict", "8330", "center", 0},
		{hosts[0], "nope", "1", "", http.StatusBadRequest},
		{hosts[1], "nope", "1", "", http.StatusBadRequest},
		{hosts[0], "UNIT_TYPE", "1", "", http.StatusBadRequest},
		{hosts[0], "strict", "", "", http.StatusBadRequest},
		{hosts[0], "empty", "1", "", http.StatusServiceUnavailable},
	} {
		for unit, e := range edges {
			changes := []string{"Host: " + c.host, "routerId: " + c.routerID}
			if c.routerID == "" {
				changes[1] = "-routerId"
			}
			if c.unitType != "" {
				changes = append(changes, "unitType: "+c.unitType)
			}
			resp, _ := call(t, "127.0.0.1", e, handshake(changes...)).response()
			want, location := c.status, ""
			switch c.owner {
			case "":
			case unit:
				want = http.StatusSwitchingProtocols
			default:
				want, location = http.StatusFound, fmt.Sprintf("http://%s.%s/", c.owner, c.host)
			}
			if resp.StatusCode != want || resp.Header.Get("Location") != location {
				t.Errorf("%+v at %s: %d %q, want %d %q", c, unit, resp.StatusCode, resp.Header.Get("Location"), want, location)
			}
		}
	}
}

// Clients without a routerId under "unmarked: split": each source address belongs to one unit by the rules, whichever edge
// it comes to and however often.
func TestUnmarkedSplit(t *testing.T) {
	ns := newNamespace(t, func(c *events.Config) { c.UnitTypes[0].Unmarked = "split" })
	edges := map[string]*edge.Edge{}
	for _, unit := range []string{"center", "unbj"} {
		edges[unit], _ = ns.start(unit, t.TempDir())
	}
	table := ns.state.Table("unit_type")
	owners := map[string]int{}
	for n := range 24 {
		from := fmt.Sprintf("127.0.%d.%d", n, 7*n+1)
		want := table.Lookup(from).Unit
		owners[want]++
		for range 2 {
			for unit, e := range edges {
				resp, _ := call(t, from, e, handshake("-routerId")).response()
				if served := resp.StatusCode == http.StatusSwitchingProtocols; served != (unit == want) || !served && resp.StatusCode != http.StatusFound {
					t.Errorf("%s at %s: %d, it belongs to %s", from, unit, resp.StatusCode, want)
				}
			}
		}
	}
	if owners["center"] == 0 || owners["unbj"] == 0 {
		t.Errorf("24 addresses belong to %v", owners)
	}
}
