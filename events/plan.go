package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/unitgate/unitgate/events/routing"
)

// PlanOptions say how a config is laid over a state.
type PlanOptions struct {
	Prune  bool // remove what a part of the config does not name
	Drafts bool // leave changed domains as drafts
	Warn   bool // fill in Plan.Warnings, which costs a look at every exact ID
}

// Plan is what a config would change.
type Plan struct {
	Changes  Changes
	Lines    []string // for people: "+ unit center", "~ domain shop.example (activated)", "- cluster old"
	Warnings []string // what is allowed, and seldom meant; see PlanOptions.Warn
}

// Empty reports whether nothing would change.
func (p Plan) Empty() bool { return reflect.DeepEqual(p.Changes, Changes{}) }

// PlanConfig compares a config with a state. Rules equal to the baseline or to the rules in force count as unchanged:
// once set, they change through a cutover only. Errors are *Error, with paths into the config.
func PlanConfig(s *State, cfg Config, o PlanOptions) (Plan, error) {
	p := planner{s: s, o: o}
	for _, step := range []func(Config) error{p.policy, p.unitTypes, p.units, p.clusters, p.loadBalancers, p.domains, p.hooks, p.rules} {
		if err := step(cfg); err != nil {
			return Plan{}, err
		}
	}
	if err := s.fits(p.Changes); err != nil {
		return Plan{}, err
	}
	if o.Warn {
		p.warn()
	}
	return p.Plan, nil
}

type planner struct {
	Plan
	s *State
	o PlanOptions
}

func (p *planner) note(mark, format string, args ...any) {
	p.Lines = append(p.Lines, mark+" "+fmt.Sprintf(format, args...))
}

func (p *planner) policy(cfg Config) error {
	next := cfg.Policy.Over(p.s.Policy)
	if err := checkPolicy(&next, "policy"); err != nil {
		return err
	}
	if next != p.s.Policy {
		p.Changes.Policy = &next
		p.note("~", "policy")
	}
	return nil
}

func (p *planner) unitTypes(cfg Config) error {
	seen := map[string]bool{}
	var types []UnitType
	for i, t := range cfg.UnitTypes {
		at := fmt.Sprintf("unitTypes[%d]", i)
		if err := t.normalize(at); err != nil {
			return err
		}
		if seen[t.Name] {
			return ErrDuplicateName.With("unit type %q stands here twice", t.Name).At(at)
		}
		seen[t.Name] = true
		types = append(types, t)
	}
	if types == nil {
		return nil
	}
	if err := settleForms(p.s.UnitTypes, types); err != nil {
		return err
	}
	if !p.o.Prune {
		types = overUnitTypes(p.s.UnitTypes, types)
	}
	if !sameJSON(types, p.s.UnitTypes) {
		p.Changes.UnitTypes = types
		p.note("~", "unit types")
	}
	return nil
}

// overUnitTypes is what there is with the named ones replaced, new ones behind it: naming a new one alone must not make
// it the default. The config's order counts only if it names all there are.
func overUnitTypes(have, named []UnitType) []UnitType {
	at := func(list []UnitType, name string) int {
		return slices.IndexFunc(list, func(t UnitType) bool { return t.Name == name })
	}
	if !slices.ContainsFunc(have, func(t UnitType) bool { return at(named, t.Name) < 0 }) {
		return named
	}
	out := slices.Clone(have)
	for _, t := range named {
		if i := at(out, t.Name); i >= 0 {
			out[i] = t
		} else {
			out = append(out, t)
		}
	}
	return out
}

// part plans one list of entities: what is new or changed, and under prune what is gone.
func part[T any](p *planner, kind string, list []T, have map[string]T, normalize func(*T, string) error, id func(T) string) (changed []T, removed []string, err error) {
	field := map[string]string{"unit": "units", "cluster": "clusters", "load balancer": "loadBalancers", "domain": "domains"}[kind]
	seen := map[string]bool{}
	for i, v := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		if err := normalize(&v, at); err != nil {
			return nil, nil, err
		}
		if seen[id(v)] {
			return nil, nil, ErrDuplicateName.With("%s %q stands here twice", kind, id(v)).At(at)
		}
		seen[id(v)] = true
		old, ok := have[id(v)]
		switch {
		case !ok:
			p.note("+", "%s %s", kind, id(v))
		case !sameJSON(old, v):
			p.note("~", "%s %s", kind, id(v))
		default:
			continue
		}
		changed = append(changed, v)
	}
	if list == nil || !p.o.Prune {
		return changed, nil, nil
	}
	for _, k := range sortedKeys(have) {
		if !seen[k] {
			p.note("-", "%s %s", kind, k)
			removed = append(removed, k)
		}
	}
	return changed, removed, nil
}

// sameJSON compares what would be stored: a nil and an empty list are the same there.
func sameJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

func (p *planner) units(cfg Config) (err error) {
	ch := &p.Changes
	ch.Units, ch.Removed.Units, err = part(p, "unit", cfg.Units, p.s.Units, (*Unit).normalize, func(u Unit) string { return u.ID })
	return err
}

func (p *planner) clusters(cfg Config) (err error) {
	ch := &p.Changes
	ch.Clusters, ch.Removed.Clusters, err = part(p, "cluster", cfg.Clusters, p.s.Clusters, (*Cluster).normalize, func(c Cluster) string { return c.ID })
	return err
}

func (p *planner) loadBalancers(cfg Config) (err error) {
	ch := &p.Changes
	ch.LoadBalancers, ch.Removed.LoadBalancers, err = part(p, "load balancer", cfg.LoadBalancers, p.s.LoadBalancers, (*LoadBalancer).normalize,
		func(l LoadBalancer) string { return l.ID })
	return err
}

func (p *planner) domains(cfg Config) (err error) {
	have := map[string]Domain{}
	for host, d := range p.s.Domains {
		have[host] = *d.Newest()
	}
	ch := &p.Changes
	ch.Drafts, ch.Removed.Domains, err = part(p, "domain", cfg.Domains, have, (*Domain).normalize, func(d Domain) string { return d.Host })
	if err != nil || p.o.Drafts {
		return err
	}
	for _, d := range cfg.Domains {
		changed := slices.ContainsFunc(ch.Drafts, func(c Domain) bool { return c.Host == d.Host })
		if changed || p.s.Domains[d.Host].Draft != nil {
			ch.Activated = append(ch.Activated, d.Host)
			p.note("~", "domain %s: activate", d.Host)
		}
	}
	return nil
}

func (p *planner) hooks(cfg Config) error {
	if cfg.Hooks == nil {
		return nil
	}
	hooks := slices.Clone(*cfg.Hooks)
	if err := checkHooks(hooks, "hooks"); err != nil {
		return err
	}
	if !slices.Equal(hooks, p.s.Hooks) {
		p.Changes.Hooks = &hooks
		p.note("~", "hooks")
	}
	return nil
}

func (p *planner) rules(cfg Config) error {
	for _, ut := range sortedKeys(cfg.Rules) {
		at := "rules." + ut
		t, ok := p.unitType(ut)
		if !ok || t.Name != ut { // an empty name would stand for the default one
			return ErrUnknownUnitType.With("there is no unit type %q", ut).At(at)
		}
		r, err := cfg.Rules[ut].rules(t, at, at, at+".exactDelta")
		if err != nil {
			return err
		}
		have, ok := p.s.Rules[ut]
		if ok && !t.same(r, have.Baseline) && !t.same(r, have.Current) {
			return ErrRulesExist.With("unit type %q has rules: they change through a cutover, not through apply; see get rules", ut).At(at)
		}
		if !ok {
			if p.Changes.Rules == nil {
				p.Changes.Rules = map[string]*routing.Rules{}
			}
			p.Changes.Rules[ut] = r
			p.note("+", "rules of %s", ut)
		}
	}
	return nil
}

// warn says what the state would be like that is seldom meant.
func (p *planner) warn() {
	types, domains := p.s.UnitTypes, []Domain{}
	if p.Changes.UnitTypes != nil {
		types = p.Changes.UnitTypes
	}
	for _, host := range sortedKeys(p.s.Domains) {
		if !slices.ContainsFunc(p.Changes.Drafts, func(d Domain) bool { return d.Host == host }) && !slices.Contains(p.Changes.Removed.Domains, host) {
			domains = append(domains, *p.s.Domains[host].Newest())
		}
	}
	domains = append(domains, p.Changes.Drafts...)
	p.Warnings = append(formWarnings(p.s, types, p.Changes.Rules), closeWarnings(domains, p.unitType)...)
}

// unitType finds a unit type among the planned ones, or in the state.
func (p *planner) unitType(name string) (UnitType, bool) {
	s := State{UnitTypes: p.s.UnitTypes}
	if p.Changes.UnitTypes != nil {
		s.UnitTypes = p.Changes.UnitTypes
	}
	return s.UnitType(name)
}
