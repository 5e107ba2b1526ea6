package demo

import (
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// Units are the ids of the demo's units, the center first.
func Units() []string { return []string{"center", "unbj"} }

// Config is the demo's namespace, as the walkthrough has it before its cutover. origins are HOST:PORT by unit.
func Config(origins map[string]string) events.Config {
	domain := events.Domain{
		Host:     "websocket.localhost",
		UnitType: "unit_type",
		Protocol: "websocket",
		Units: map[string]events.DomainUnit{
			"center": {Subdomain: "center.websocket.localhost", Cluster: "ws-hz-2"},
			"unbj":   {Subdomain: "unbj.websocket.localhost", Cluster: "ws-bj-2"},
		},
		URIs: []events.URI{{Path: "/", Origins: map[string]events.Origins{}}},
	}
	for unit, addr := range origins {
		domain.URIs[0].Origins[unit] = events.Origins{addr}
	}
	return events.Config{
		Namespace: "demo",
		UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 10000}},
		Units: []events.Unit{
			{ID: "center", Name: "杭州中心", Center: true},
			{ID: "unbj", Name: "北京单元"},
		},
		Clusters: []events.Cluster{
			{ID: "ws-hz-2", Unit: "center", Protocol: "websocket"},
			{ID: "ws-bj-2", Unit: "unbj", Protocol: "websocket"},
		},
		LoadBalancers: []events.LoadBalancer{
			{ID: "slb-hz-1", Cluster: "ws-hz-2", Address: "127.0.0.1"},
			{ID: "slb-bj-1", Cluster: "ws-bj-2", Address: "127.0.0.1"},
		},
		Domains: []events.Domain{domain},
		Rules: map[string]events.RulesConfig{"unit_type": {Ranges: map[string][]routing.Range{
			"center": {{From: 0, To: 5997}},
			"unbj":   {{From: 5998, To: 9999}},
		}}},
	}
}
