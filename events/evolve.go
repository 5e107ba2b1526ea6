package events

import (
	"fmt"

	"github.com/unitgate/unitgate/events/routing"
)

// Evolve is the state after rec; s stays as it is.
func Evolve(s *State, rec Record) (*State, error) {
	n := s.Clone()
	if err := n.Apply(rec); err != nil {
		return nil, err
	}
	return n, nil
}

// Apply is Evolve in place, for the owner of s. On an error s is unchanged: records that do not follow s, or that this
// version cannot read, are refused with their sequence.
func (s *State) Apply(rec Record) error {
	if rec.Seq != s.Seq+1 {
		return fmt.Errorf("record %d does not follow %d", rec.Seq, s.Seq)
	}
	if rec.Prev != s.Chain {
		return fmt.Errorf("record %d names %q as its predecessor's hash, it is %q", rec.Seq, rec.Prev, s.Chain)
	}
	e, err := rec.Event()
	if err != nil {
		return err
	}
	hash := rec.Hash()
	rec.Time = rec.Time.UTC() // the zone is the reader's
	if err = s.follows(rec, e); err == nil {
		err = s.apply(rec, e)
	}
	if err != nil {
		return fmt.Errorf("record %d: %s: %w", rec.Seq, rec.Type, err)
	}
	s.Seq, s.Chain = rec.Seq, hash
	return nil
}

func (s *State) apply(rec Record, e Event) error {
	switch e := e.(type) {
	case NamespaceCreated:
		s.Namespace = e.Namespace
		s.change(rec, e.Changes)
	case ConfigApplied:
		s.Namespace = e.Namespace
		s.change(rec, e.Changes)
		s.cut(rec.Seq, e.Ended...)
	case UnitPut:
		s.change(rec, Changes{Units: []Unit{e.Unit}})
	case ClusterPut:
		s.change(rec, Changes{Clusters: []Cluster{e.Cluster}})
	case LoadBalancerPut:
		s.change(rec, Changes{LoadBalancers: []LoadBalancer{e.LoadBalancer}})
	case DomainPut:
		s.change(rec, Changes{Drafts: []Domain{e.Domain}})
	case DomainActivated:
		s.change(rec, Changes{Activated: []string{e.Host}})
	case DomainDeactivated:
		s.change(rec, Changes{deactivated: []string{e.Host}})
		s.cut(rec.Seq, e.DomainEnd)
	case DomainRemoved:
		s.change(rec, Changes{Removed: Removed{Domains: []string{e.Host}}})
		s.cut(rec.Seq, e.DomainEnd)
	case UnitRemoved:
		s.change(rec, Changes{Removed: Removed{Units: []string{e.ID}}})
	case ClusterRemoved:
		s.change(rec, Changes{Removed: Removed{Clusters: []string{e.ID}}})
	case LoadBalancerRemoved:
		s.change(rec, Changes{Removed: Removed{LoadBalancers: []string{e.ID}}})
	case RulesInitialized:
		s.change(rec, Changes{Rules: map[string]*routing.Rules{e.UnitType: e.Rules}})
	case EdgeJoined:
		return s.joined(rec.Seq, e)
	case EdgeLeft:
		return s.gone(e.ID, "left")
	case EdgeRetired:
		return s.gone(e.ID, "retired")
	case DriverTookOffice:
		s.Office = Office(e)
	case CommandRefused:
	case OwnershipEstablished:
		return s.establish(rec.Seq)
	default:
		return s.applyCutover(rec, e)
	}
	return nil
}

func (s *State) gone(id, how string) error {
	e, ok := s.Edges[id]
	if !ok {
		return ErrUnknownEdge.With("there is no edge %q", id)
	}
	e.Gone = how
	e.Awaited = how == "retired" && s.Policy.Ownership == "exclusive"
	s.Edges[id] = e
	return nil
}

// change applies configuration changes; Decide has proved that they fit together.
func (s *State) change(rec Record, c Changes) {
	s.ConfigVersion = rec.Seq
	if c.Policy != nil {
		s.exclude(rec.Seq, s.Policy, *c.Policy)
		s.Policy = *c.Policy
	}
	if c.Hooks != nil {
		s.Hooks = *c.Hooks
	}
	if c.UnitTypes != nil {
		s.UnitTypes = c.UnitTypes
	}
	put(s.Units, c.Units, func(u Unit) string { return u.ID }, c.Removed.Units)
	put(s.Clusters, c.Clusters, func(c Cluster) string { return c.ID }, c.Removed.Clusters)
	put(s.LoadBalancers, c.LoadBalancers, func(l LoadBalancer) string { return l.ID }, c.Removed.LoadBalancers)
	for _, d := range c.Drafts {
		s.Domains[d.Host] = DomainState{Draft: &d, Active: s.Domains[d.Host].Active}
	}
	for _, host := range c.Activated {
		if d := s.Domains[host]; d.Draft != nil {
			s.Domains[host] = DomainState{Active: d.Draft}
		}
	}
	for _, host := range c.deactivated {
		if d := s.Domains[host]; d.Active != nil {
			s.Domains[host] = DomainState{Draft: d.Newest()}
		}
	}
	for _, host := range c.Removed.Domains {
		delete(s.Domains, host)
	}
	for ut, r := range c.Rules {
		s.Rules[ut] = RuleSet{Version: 1, Baseline: r, Current: r}
	}
}

func put[T any](m map[string]T, values []T, id func(T) string, removed []string) {
	for _, v := range values {
		m[id(v)] = v
	}
	for _, k := range removed {
		delete(m, k)
	}
}
