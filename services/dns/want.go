// Package dns publishes the names of active domains: the domain's own and each unit's sub-domain, as the addresses of the
// load balancers that stand before them.
//
// Want says what a state asks for, Compare what that means for a zone as it is, and a Reconciler brings the two together
// through a provider. It changes only names that it owns: those with its marker, a TXT record at _unitgate.<name>. Want and
// Compare are pure; a Reconciler may be used by any number of goroutines.
package dns

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events"
)

// TTL of every record: how long a resolver may go on sending clients to where a name led before.
const TTL = time.Minute

// Set is all the records of one type at one name.
type Set struct {
	Name   string   `json:"name"`   // absolute, in lower case, without the root's dot
	Type   string   `json:"type"`   // A, AAAA or CNAME
	Values []string `json:"values"` // addresses, or one absolute name without the root's dot; sorted
}

// Zone is what is wanted in one zone of a provider.
type Zone struct {
	Provider string    `json:"provider"`
	Name     string    `json:"zone"` // without the root's dot
	Sets     []Set     `json:"sets"` // by name and type
	Problems []Problem `json:"problems,omitempty"`
}

// Problem is why what a name asks for cannot be published. The name stays as it is.
type Problem struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Want is what the active domains of a state ask for, by provider and zone. What cannot be published is a problem of its
// zone: the rest is published all the same.
func Want(s *events.State) []Zone {
	zones := map[[2]string]*Zone{}
	for _, host := range slices.Sorted(maps.Keys(s.Domains)) {
		d := s.Domains[host].Active
		if d == nil || d.DNS.Provider == "" || d.DNS.Provider == "none" {
			continue
		}
		key := [2]string{d.DNS.Provider, d.DNS.Zone}
		z := zones[key]
		if z == nil {
			z = &Zone{Provider: key[0], Name: key[1]}
			zones[key] = z
		}
		z.domain(s, d)
	}
	out := make([]Zone, 0, len(zones))
	for _, z := range zones {
		slices.SortFunc(z.Sets, func(a, b Set) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
		})
		out = append(out, *z)
	}
	slices.SortFunc(out, func(a, b Zone) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// domain adds a domain's names: its own leads to every unit with multi-unit resolution, else to the center. Units that
// share a host name, and differ in its port, share its addresses.
func (z *Zone) domain(s *events.State, d *events.Domain) {
	names := map[string][]string{d.Host: nil}
	for unit, u := range d.Units {
		addresses := balancers(s, u.Cluster)
		if name := events.HostOnly(u.Subdomain); name != d.Host {
			names[name] = append(names[name], addresses...)
		}
		if d.DNS.MultiUnit || s.Units[unit].Center {
			names[d.Host] = append(names[d.Host], addresses...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		z.name(name, names[name])
	}
}

// balancers are the addresses of a cluster's load balancers.
func balancers(s *events.State, cluster string) []string {
	var out []string
	for _, lb := range s.LoadBalancers {
		if lb.Cluster == cluster {
			out = append(out, lb.Address)
		}
	}
	return out
}

// name wants a name to lead to addresses. A CNAME must be alone at its name (RFC 1034 section 3.6.2), so that several load
// balancers of which one is known by name only cannot be published.
func (z *Zone) name(name string, addresses []string) {
	addresses = slices.Compact(slices.Sorted(slices.Values(addresses)))
	sets := map[string][]string{}
	for _, a := range addresses {
		switch ip, err := netip.ParseAddr(a); {
		case err != nil:
			sets["CNAME"] = append(sets["CNAME"], strings.ToLower(strings.TrimSuffix(a, ".")))
		case ip.Is4():
			sets["A"] = append(sets["A"], ip.String())
		default:
			sets["AAAA"] = append(sets["AAAA"], ip.String())
		}
	}
	switch {
	case len(addresses) == 0:
		z.Problems = append(z.Problems, Problem{name, "no load balancer stands before its cluster: add one"})
		return
	case len(sets["CNAME"]) > 0 && len(addresses) > 1:
		z.Problems = append(z.Problems, Problem{name, fmt.Sprintf("a host name (%s) cannot be published beside other load balancers: give it as addresses", sets["CNAME"][0])})
		return
	case len(sets["CNAME"]) > 0 && name == z.Name:
		z.Problems = append(z.Problems, Problem{name, fmt.Sprintf("the top of a zone cannot be a CNAME: give %s as addresses", sets["CNAME"][0])})
		return
	}
	for _, typ := range slices.Sorted(maps.Keys(sets)) {
		z.Sets = append(z.Sets, Set{name, typ, slices.Sorted(slices.Values(sets[typ]))})
	}
}
