package cli

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/unitgate/unitgate/events"
)

type domainView struct {
	Host   string         `json:"host"`
	State  string         `json:"state"` // active, draft (never activated), changed (active, with a draft)
	Active *events.Domain `json:"active"`
	Draft  *events.Domain `json:"draft"`

	Changes []events.FieldChange `json:"changes"` // that activating the draft would make
}

func domainViews(s *events.State) []domainView {
	var list []domainView
	for host, d := range s.Domains {
		v := domainView{Host: host, State: "active", Active: d.Active, Draft: d.Draft, Changes: []events.FieldChange{}}
		if d.Active == nil {
			v.State = "draft"
		} else if d.Draft != nil {
			v.State = "changed"
		}
		if d.Draft != nil {
			v.Changes = append(v.Changes, events.DiffDomains(d.Active, d.Draft)...)
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b domainView) int { return strings.Compare(a.Host, b.Host) })
	return list
}

// shown is the version that counts: the active one, if there is one.
func (d domainView) shown() *events.Domain {
	if d.Active != nil {
		return d.Active
	}
	return d.Draft
}

// viewOf is the view of one domain.
func viewOf(s *events.State, host string) (domainView, bool) {
	for _, v := range domainViews(s) {
		if v.Host == host {
			return v, true
		}
	}
	return domainView{}, false
}

func (g *get) domains(s *events.State) error {
	if v, ok := viewOf(s, g.name); ok && !g.json() {
		return g.domain(s, v)
	}
	return show(g, domainViews(s), func(d domainView) string { return d.Host }, events.ErrUnknownDomain, []string{"HOST", "STATE", "UNIT TYPE", "UNITS"},
		func(d domainView) []any {
			var units []string
			for _, id := range slices.Sorted(maps.Keys(d.shown().Units)) {
				units = append(units, id+"="+d.shown().Units[id].Subdomain)
			}
			return []any{d.Host, d.State, d.shown().UnitType, strings.Join(units, " ")}
		})
}

// domain shows one domain in text: what is in force, or the draft that never was, and what activating the draft changes.
func (g *get) domain(s *events.State, v domainView) error {
	d := v.shown()
	g.say("domain %s: %s", v.Host, v.State)
	g.say("  unit type   %s", cmp.Or(d.UnitType, s.UnitTypes[0].Name+" (the first)"))
	g.say("  scheme      %s", d.Scheme)
	g.say("  correction  %s", d.Correction)
	leads := "the center"
	if d.DNS.MultiUnit {
		leads = "every unit"
	}
	if d.DNS.Provider == "none" {
		g.say("  DNS         nobody publishes its names")
	} else {
		g.say("  DNS         %s, zone %s; the domain's own name leads to %s", d.DNS.Provider, d.DNS.Zone, leads)
	}
	t := newTable("UNIT", "SUBDOMAIN", "CLUSTER", "LOAD BALANCERS")
	for _, unit := range slices.Sorted(maps.Keys(d.Units)) {
		u := d.Units[unit]
		var before []string
		for _, l := range byID(s.LoadBalancers) {
			if l.Cluster == u.Cluster {
				before = append(before, l.Address)
			}
		}
		t.row(unit, u.Subdomain, u.Cluster, strings.Join(before, ","))
	}
	if err := t.write(g.out); err != nil {
		return err
	}
	t = newTable("PATH", "UNIT", "ORIGINS")
	for _, u := range d.URIs {
		for _, unit := range slices.Sorted(maps.Keys(u.Origins)) {
			t.row(u.Path, unit, strings.Join(u.Origins[unit], ","))
		}
	}
	if err := t.write(g.out); err != nil {
		return err
	}
	if v.State == "changed" {
		g.say("unitgate domain activate %s would change", v.Host)
		g.changes("  ", v.Changes)
	}
	return nil
}
