package cutover

import (
	"context"
	"slices"

	"github.com/unitgate/unitgate/events"
)

// removedBy are the domains that a plan would remove. A plan that is refused removes none.
func removedBy(s *events.State, c events.ApplyConfig) []string {
	if !c.Prune || c.Base != s.ConfigVersion {
		return nil
	}
	plan, err := events.PlanConfig(s, c.Config, events.PlanOptions{Prune: c.Prune, Drafts: c.Drafts})
	if err != nil {
		return nil
	}
	return plan.Changes.Removed.Domains
}

// countDomains asks every edge of the namespace, now, how many sessions it has of domains that are to go. An edge that
// does not answer every question is named for all of them.
func (p *Preparer) countDomains(ctx context.Context, s *events.State, hosts []string) []events.DomainSessions {
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return s.Domains[h].Newest() == nil })
	if len(hosts) == 0 {
		return nil
	}
	edges := s.LiveEdges()
	sum, mute := map[string]int{}, map[string]bool{}
	for batch := range slices.Chunk(hosts, events.MaxDomains) {
		for _, a := range p.fleet.Count(ctx, edges, func(string) events.CountQuestion { return events.CountQuestion{Domains: batch} }) {
			if a.Err != nil {
				mute[a.Edge.ID] = true
				continue
			}
			for host, n := range a.Value.Domains {
				sum[host] += n
			}
		}
	}
	var silent []string
	for _, e := range edges {
		if mute[e.ID] {
			silent = append(silent, e.ID)
		}
	}
	out := make([]events.DomainSessions, 0, len(hosts))
	for _, host := range hosts {
		out = append(out, events.DomainSessions{Host: host, Sessions: sum[host], SilentEdges: silent})
	}
	return out
}
