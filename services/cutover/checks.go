package cutover

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// The prechecks that follow from the state. Every verdict says what was measured and what was wanted; one that is no pass
// says what to do.

// reading is what a precheck measured, and what it wanted.
type reading struct{ measured, wanted string }

func (r reading) pass(format string, args ...any) events.Check {
	return r.check(events.Pass, format, args)
}

func (r reading) warn(format string, args ...any) events.Check {
	return r.check(events.Warn, format, args)
}

func (r reading) fail(format string, args ...any) events.Check {
	return r.check(events.Fail, format, args)
}

func (r reading) check(state events.CheckState, format string, args []any) events.Check {
	return events.Check{State: state, Measured: r.measured, Threshold: r.wanted, Message: fmt.Sprintf(format, args...)}
}

func slotRange(from, to uint32) string { return routing.Range{From: from, To: to}.String() }

// rulesComplete: the new rules are still a change of the rules in force, cover every slot, and give keys only to units
// that can serve them: which exist and have, for each active domain of the unit type, a sub-domain, an effective
// cluster, and a registered edge in it.
func rulesComplete(s *events.State, c *events.Cutover) events.Check {
	covered := 0
	for _, a := range c.To.Assignments() {
		covered += a.Len()
	}
	owners := c.To.Units()
	domains := activeDomains(s, c.UnitType)
	r := reading{fmt.Sprintf("%d of %d slots, %d units, %d domains", covered, c.To.Slots(), len(owners), len(domains)), fmt.Sprintf("all %d served", c.To.Slots())}
	if v := s.Rules[c.UnitType].Version; v != c.RuleFrom {
		return r.fail("made against rule version %d, the rules are at %d: preview again", c.RuleFrom, v)
	}
	if t, ok := s.UnitType(c.UnitType); !ok || covered != int(t.Slots) {
		return r.fail("the rules cover %d slots and unit type %s has %d: preview again", covered, c.UnitType, t.Slots)
	}
	for _, unit := range owners {
		if _, ok := s.Units[unit]; !ok {
			return r.fail("unit %s owns slots or exact IDs and does not exist: preview again", unit)
		}
		for _, d := range domains {
			if why := cannotServe(s, d, unit); why != "" {
				return r.fail("unit %s cannot serve domain %s: %s", unit, d.Host, why)
			}
		}
	}
	if len(domains) == 0 {
		return r.warn("no active domain has unit type %s by default: activate one, or nobody may be served by these rules", c.UnitType)
	}
	return r.pass("every slot has one owner, and every owner serves every domain")
}

// cannotServe says what a unit lacks for a domain, "" if nothing.
func cannotServe(s *events.State, d *events.Domain, unit string) string {
	u, ok := d.Units[unit]
	if !ok {
		return "it is not in the domain: add it to the domain's units and activate it"
	}
	if u.Subdomain == "" {
		return "it has no sub-domain there"
	}
	if c, ok := s.Clusters[u.Cluster]; !ok || c.Unit != unit {
		return fmt.Sprintf("cluster %s is not one of its clusters", u.Cluster)
	}
	if !slices.ContainsFunc(s.LiveEdges(), func(e events.Edge) bool { return e.Unit == unit && e.Cluster == u.Cluster && e.Accepts() }) {
		return fmt.Sprintf("no edge has joined its effective cluster %s: start one", u.Cluster)
	}
	return ""
}

// activeDomains are the active domains of a unit type, by host.
func activeDomains(s *events.State, unitType string) []*events.Domain {
	var out []*events.Domain
	for _, host := range slices.Sorted(maps.Keys(s.Domains)) {
		d := s.Domains[host].Active
		if d == nil {
			continue
		}
		if t, ok := s.UnitType(d.UnitType); ok && t.Name == unitType {
			out = append(out, d)
		}
	}
	return out
}

// noOpenCutover: one cutover per unit type may run.
func noOpenCutover(s *events.State, c *events.Cutover) events.Check {
	if o, ok := s.Running(c.UnitType); ok && o.ID != c.ID {
		return reading{"1 running", "0 running"}.fail("cutover %s of unit type %s is %s: wait for its end, or end it", o.ID, c.UnitType, o.State)
	}
	return reading{"0 running", "0 running"}.pass("no other cutover of unit type %s runs", c.UnitType)
}

// gaining are the units that gain keys, sorted.
func gaining(c *events.Cutover) []string {
	set := map[string]bool{}
	routing.Compare(c.From, c.To).Sides(func(_, target string) { set[target] = true })
	return slices.Sorted(maps.Keys(set))
}

// origins are a unit's origins over every URI of the domains, each once, and the URIs that have none there.
func origins(domains []*events.Domain, unit string) (all, without []string) {
	set := map[string]bool{}
	for _, d := range domains {
		for _, u := range d.URIs {
			if len(u.Origins[unit]) == 0 {
				without = append(without, d.Host+u.Path)
			}
			for _, o := range u.Origins[unit] {
				set[o] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set)), without
}

// few names the first of many.
func few(what []string, separator string) string {
	const most = 4
	if len(what) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(what[:most], separator), len(what)-most)
	}
	return strings.Join(what, separator)
}
