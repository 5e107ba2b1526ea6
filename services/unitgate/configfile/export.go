package configfile

import (
	"cmp"
	"maps"
	"slices"

	"github.com/unitgate/unitgate/events"
)

// Of is the config that made a state, or would: applied to that state it changes nothing, applied to an empty one it gives
// the same configuration. The rules are those in force, also after cutovers; the new rules of a cutover that still runs are not in it.
//
// Of a domain it holds the active version. With drafts it holds the newest one instead, to be applied as drafts. left are
// the hosts of which the other version is not in it.
func Of(s *events.State, drafts bool) (cfg events.Config, left []string) {
	cfg = events.Config{
		Namespace: s.Namespace,
		Policy: &events.PolicyPatch{
			Ownership: &s.Policy.Ownership, Lease: &s.Policy.Lease, Hold: &s.Policy.Hold, CloseCode: &s.Policy.CloseCode, EvictRate: &s.Policy.EvictRate,
		},
		UnitTypes:     unitTypes(s),
		Units:         inOrder(s.Units),
		Clusters:      inOrder(s.Clusters),
		LoadBalancers: inOrder(s.LoadBalancers),
	}
	if s.Policy.Gate.Set() {
		cfg.Policy.Gate = &s.Policy.Gate
	}
	if len(s.Hooks) > 0 {
		cfg.Hooks = &s.Hooks
	}
	for _, host := range slices.Sorted(maps.Keys(s.Domains)) {
		d := s.Domains[host]
		v := d.Active
		if drafts {
			v = d.Newest()
		}
		if v != nil {
			cfg.Domains = append(cfg.Domains, *v)
		}
		if !drafts && d.Draft != nil || drafts && d.Draft != nil && d.Active != nil {
			left = append(left, host)
		}
	}
	for ut, r := range s.Rules {
		if cfg.Rules == nil {
			cfg.Rules = map[string]events.RulesConfig{}
		}
		cfg.Rules[ut] = events.RulesConfig{Ranges: r.Current.Ranges(), Exact: r.Current.Exact()}
	}
	return cfg, left
}

// unitTypes says what journals that are older than forms leave unsaid: a new namespace would take the normal one.
func unitTypes(s *events.State) []events.UnitType {
	out := slices.Clone(s.UnitTypes)
	for i := range out {
		out[i].Form = cmp.Or(out[i].Form, events.FormAsSent)
	}
	return out
}

func inOrder[T any](m map[string]T) []T {
	var out []T
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}
