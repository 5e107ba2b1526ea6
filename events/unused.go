package events

import (
	"fmt"
	"slices"
)

// unused checks that nothing in s refers to what was removed, and that no name which was published leads nowhere by it. s
// is the state as it would be, was the one before. The error is ErrInUse and names the user, and where that stands.
func (s *State) unused(was *State, gone Removed) error {
	for _, id := range gone.Units {
		if err := s.unitUnused(id); err != nil {
			return err
		}
	}
	for _, id := range gone.Clusters {
		if err := s.clusterUnused(id); err != nil {
			return err
		}
	}
	if len(gone.LoadBalancers) > 0 {
		return s.balancersLeft(was)
	}
	return nil
}

func (s *State) unitUnused(unit string) error {
	if _, ok := s.Units[unit]; ok {
		return nil // the same change puts it back
	}
	used := func(by, at string) error { return ErrInUse.With("unit %q cannot go: %s", unit, by).At(at) }
	for _, id := range sortedKeys(s.Clusters) {
		if s.Clusters[id].Unit == unit {
			return used(fmt.Sprintf("cluster %q is in it", id), fmt.Sprintf("clusters[%s].unit", id))
		}
	}
	for _, host := range sortedKeys(s.Domains) {
		for _, d := range []*Domain{s.Domains[host].Active, s.Domains[host].Draft} {
			if d == nil {
				continue
			}
			if _, ok := d.Units[unit]; ok {
				return used(fmt.Sprintf("domain %s is in it", host), fmt.Sprintf("domains[%s].units.%s", host, unit))
			}
		}
	}
	for _, ut := range sortedKeys(s.Rules) {
		if slices.Contains(s.Rules[ut].Current.Units(), unit) {
			return used(fmt.Sprintf("the rules of %s give it slots or exact IDs; move them away with a cutover", ut), "rules."+ut)
		}
	}
	return nil
}

func (s *State) clusterUnused(cluster string) error {
	if _, ok := s.Clusters[cluster]; ok {
		return nil
	}
	used := func(by, at string) error { return ErrInUse.With("cluster %q cannot go: %s", cluster, by).At(at) }
	for _, id := range sortedKeys(s.LoadBalancers) {
		if s.LoadBalancers[id].Cluster == cluster {
			return used(fmt.Sprintf("load balancer %q stands before it", id), fmt.Sprintf("loadBalancers[%s].cluster", id))
		}
	}
	for _, host := range sortedKeys(s.Domains) {
		for _, d := range []*Domain{s.Domains[host].Active, s.Domains[host].Draft} {
			if d == nil {
				continue
			}
			for _, unit := range sortedKeys(d.Units) {
				if d.Units[unit].Cluster == cluster {
					return used(fmt.Sprintf("it is the effective one of domain %s in unit %s", host, unit), fmt.Sprintf("domains[%s].units.%s.cluster", host, unit))
				}
			}
		}
	}
	for _, e := range s.LiveEdges() {
		if e.Cluster == cluster {
			return used(fmt.Sprintf("edge %s is in it; retire it first", e.ID), fmt.Sprintf("clusters[%s]", cluster))
		}
	}
	return nil
}

// balancersLeft: a domain whose names are published keeps a load balancer before every cluster that had one.
func (s *State) balancersLeft(was *State) error {
	before, after := was.balanced(), s.balanced()
	for _, host := range sortedKeys(s.Domains) {
		d := s.Domains[host].Active
		if d == nil || d.DNS.Provider == "none" || d.DNS.Provider == "" {
			continue
		}
		for _, unit := range sortedKeys(d.Units) {
			if c := d.Units[unit].Cluster; before[c] != "" && after[c] == "" {
				return ErrInUse.With("load balancer %q cannot go: it is the last one to which domain %s leads in unit %s", before[c], host, unit).
					At(fmt.Sprintf("domains[%s].units.%s.cluster", host, unit))
			}
		}
	}
	return nil
}

// balanced is, for each cluster with load balancers, one of them.
func (s *State) balanced() map[string]string {
	out := map[string]string{}
	for _, id := range sortedKeys(s.LoadBalancers) {
		out[s.LoadBalancers[id].Cluster] = id
	}
	return out
}
