// Package events is the core: commands, events, the state they lead to, and the rules between them.
//
// Decide turns a command into one event or a rejection, Evolve turns a state and a stored event into the next state.
// Both are pure: no clock, no randomness, no I/O; the same code runs in the control plane, the edges and the CLI.
// One command makes one event, so appending it is atomic.
package events

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// Decide says which event the command leads to, or rejects it with an *Error. namespace is the journal's name.
// It changes nothing. now is only compared with times that people see (the age of prechecks).
func Decide(s *State, namespace string, env Envelope, now time.Time) (Event, error) {
	if err := CheckEnvelope(env); err != nil {
		return nil, err
	}
	if err := CheckID(namespace, "namespace"); err != nil {
		return nil, err
	}
	if s.Namespace == "" {
		return open(namespace, env)
	}
	switch c := env.Command.(type) {
	case CreateNamespace:
		return nil, ErrNamespaceExists.With("namespace %q exists", namespace)
	case ApplyConfig:
		return s.decideApply(c, env)
	case PutUnit, PutCluster, PutLoadBalancer, PutDomain, ActivateDomain, InitRules:
		return s.decideConfig(c)
	case DeactivateDomain, RemoveDomain, RemoveUnit, RemoveCluster, RemoveLoadBalancer:
		return s.decideRemoval(c, env)
	case JoinEdge, LeaveEdge, RetireEdge, TakeOffice:
		return s.decideMember(c, env)
	case RefuseCommand:
		return CommandRefused(c), nil
	default:
		return s.decideCutover(env, now)
	}
}

// open decides the first command of a journal.
func open(namespace string, env Envelope) (Event, error) {
	s := NewState()
	switch c := env.Command.(type) {
	case CreateNamespace:
		cfg := Config{Namespace: namespace, Policy: c.Policy, UnitTypes: c.UnitTypes}
		plan, err := PlanConfig(s, cfg, PlanOptions{})
		if err != nil {
			return nil, err
		}
		return NamespaceCreated{Namespace: namespace, Changes: plan.Changes}, nil
	case ApplyConfig:
		if c.Config.Namespace != namespace {
			return nil, ErrBadValue.With("the config is for %q, the command for %q", c.Config.Namespace, namespace).At("config.namespace")
		}
		s.Namespace = namespace
		e, err := s.decideApply(c, env)
		if errors.Is(err, ErrNothingChanges) { // that there is a namespace is a change
			return ConfigApplied{Namespace: namespace}, nil
		}
		return e, err
	default:
		return nil, ErrUnknownNamespace.With("namespace %q does not exist: create it with namespace.create or apply a config", namespace)
	}
}

func (s *State) decideApply(c ApplyConfig, env Envelope) (Event, error) {
	if c.Config.Namespace != s.Namespace {
		return nil, ErrBadValue.With("the config is for %q, the command for %q", c.Config.Namespace, s.Namespace).At("config.namespace")
	}
	if c.Base != s.ConfigVersion {
		return nil, ErrStaleVersion.With("the plan was made against version %d, the configuration is at %d: plan again", c.Base, s.ConfigVersion).At("base")
	}
	plan, err := PlanConfig(s, c.Config, PlanOptions{Prune: c.Prune, Drafts: c.Drafts})
	if err != nil {
		return nil, err
	}
	if plan.Empty() {
		return nil, ErrNothingChanges.With("the configuration is already as the file says")
	}
	ended, err := s.ends(plan.Changes.Removed.Domains, ending{c.Counted, c.Force, env.why()})
	if err != nil {
		return nil, err
	}
	return ConfigApplied{Namespace: s.Namespace, Changes: plan.Changes, Ended: ended}, nil
}

// decideConfig decides the commands for single parts: the same validation as a plan of one part.
func (s *State) decideConfig(c Command) (Event, error) {
	var e Event
	var ch Changes
	var err error
	switch c := c.(type) {
	case PutUnit:
		err = c.normalize("")
		e, ch.Units = UnitPut(c), []Unit{c.Unit}
	case PutCluster:
		err = c.normalize("")
		e, ch.Clusters = ClusterPut(c), []Cluster{c.Cluster}
	case PutLoadBalancer:
		err = c.normalize("")
		e, ch.LoadBalancers = LoadBalancerPut(c), []LoadBalancer{c.LoadBalancer}
	case PutDomain:
		err = c.normalize("")
		e, ch.Drafts = DomainPut(c), []Domain{c.Domain}
	case ActivateDomain:
		if s.Domains[c.Host].Draft == nil {
			return nil, ErrUnknownDomain.With("there is no draft of domain %q", c.Host).At("host")
		}
		e, ch.Activated = DomainActivated(c), []string{c.Host}
	case InitRules:
		return s.decideRules(c)
	default:
		return nil, ErrBadCommand.With("%T is not decided here", c)
	}
	if err != nil {
		return nil, err
	}
	if err := s.fits(ch); err != nil {
		return nil, err
	}
	return e, nil
}

func (s *State) decideRules(c InitRules) (Event, error) {
	t, ok := s.UnitType(c.UnitType)
	if !ok {
		return nil, ErrUnknownUnitType.With("there is no unit type %q", c.UnitType).At("unitType")
	}
	if _, ok := s.Rules[t.Name]; ok {
		return nil, ErrRulesExist.With("unit type %q has rules: they change through a cutover", t.Name)
	}
	r, err := c.rules(t, "ranges", "exact", "exactDelta")
	if err != nil {
		return nil, err
	}
	if err := s.fits(Changes{Rules: map[string]*routing.Rules{t.Name: r}}); err != nil {
		return nil, err
	}
	return RulesInitialized{UnitType: t.Name, Rules: r}, nil
}

// decideMember decides the commands of edges and of the driver's office.
func (s *State) decideMember(c Command, env Envelope) (Event, error) {
	switch c := c.(type) {
	case JoinEdge:
		return s.decideJoin(c, env)
	case LeaveEdge:
		return s.decideLeave(c, env)
	case RetireEdge:
		if e, ok := s.Edges[c.ID]; !ok || e.Gone != "" {
			return nil, ErrUnknownEdge.With("there is no edge %q; see get edges", c.ID).At("id")
		}
		c.Reason = env.why()
		if err := needReason(c.Reason); err != nil {
			return nil, err
		}
		return EdgeRetired(c), nil
	case TakeOffice:
		if c.Term <= s.Office.Term {
			return nil, ErrStaleTerm.With("term %d is over, the office is in term %d", c.Term, s.Office.Term)
		}
		if c.Holder == "" {
			return nil, ErrMissingField.With("say which process takes the office").At("holder")
		}
		if err := checkLine(c.Holder, "holder"); err != nil {
			return nil, err
		}
		if c.Key != "" && !keyForm.MatchString(c.Key) {
			return nil, ErrBadValue.With("want an Ed25519 public key in hex").At("key")
		}
		return DriverTookOffice(c), nil
	default:
		return nil, ErrBadCommand.With("%T is not decided here", c)
	}
}

// decideLeave lets an edge leave that nobody waits for: a wave that needs its report must get it, or an operator's word.
func (s *State) decideLeave(c LeaveEdge, env Envelope) (Event, error) {
	e, ok := s.Edges[c.ID]
	if !ok || e.Gone != "" {
		return nil, ErrUnknownEdge.With("there is no edge %q", c.ID).At("id")
	}
	if err := e.CheckDirectory(c.Directory); err != nil {
		return nil, err
	}
	if err := e.checkSigner(env, ""); err != nil {
		return nil, err
	}
	for _, cut := range s.CutoverList() {
		w := cut.FencedWave()
		if w < 0 || !cut.State.Running() {
			continue
		}
		if slices.ContainsFunc(s.NeededEdges(&cut, w), func(n NeededEdge) bool { return n.ID == c.ID }) {
			return nil, ErrWrongState.With("wave %d of %s waits for edge %s: it may leave afterwards", w, cut.ID, c.ID)
		}
	}
	return EdgeLeft{ID: c.ID}, nil
}

func needReason(reason string) error {
	if reason == "" {
		return ErrReasonMissing.With("say why: the reason goes into the journal").At("reason")
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// fits proves that the state with the changes applied is sound, and will be when the running cutovers complete.
func (s *State) fits(ch Changes) error {
	next := s.Clone()
	next.change(Record{Seq: s.Seq + 1}, ch)
	if err := next.unused(s, ch.Removed); err != nil {
		return err
	}
	if err := next.sound(); err != nil {
		return err
	}
	if err := s.reforms(next); err != nil {
		return err
	}
	c, open := s.AnyRunning()
	if !open {
		return nil
	}
	blocked := ""
	for _, host := range slices.Concat(ch.Removed.Domains, ch.deactivated) { // its users, and those that move, would be turned away
		if a := s.Domains[host].Active; a != nil {
			if t, _ := s.UnitType(a.UnitType); t.Name == c.UnitType {
				blocked = "domains"
			}
		}
	}
	switch {
	case ch.Policy != nil && *ch.Policy != s.Policy: // R13
		blocked = "policy"
	case ch.UnitTypes != nil:
		blocked = "unitTypes"
	case len(ch.Removed.Units) > 0:
		blocked = "units"
	}
	if blocked != "" {
		return ErrCutoverOpen.With("cutover %s is running: wait for its end, then change this", c.ID).At(blocked)
	}
	for _, c := range s.CutoverList() {
		if c.State.Running() {
			if err := next.soundUnder(c.UnitType, c.To); err != nil {
				return err
			}
		}
	}
	return nil
}

// soundUnder is sound with other rules in force for one unit type.
func (s *State) soundUnder(ut string, rules *routing.Rules) error {
	n := s.Clone()
	r := n.Rules[ut]
	n.Rules[ut] = RuleSet{Version: r.Version, Baseline: r.Baseline, Current: rules}
	return n.sound()
}

// sound checks that everything refers to something that exists, and that what edges see is complete.
func (s *State) sound() error {
	if err := s.soundUnits(); err != nil {
		return err
	}
	for _, id := range sortedKeys(s.Clusters) {
		if c := s.Clusters[id]; s.Units[c.Unit].ID == "" {
			return ErrUnknownUnit.With("there is no unit %q", c.Unit).At(fmt.Sprintf("clusters[%s].unit", id))
		}
	}
	for _, id := range sortedKeys(s.LoadBalancers) {
		if l := s.LoadBalancers[id]; s.Clusters[l.Cluster].ID == "" {
			return ErrUnknownCluster.With("there is no cluster %q", l.Cluster).At(fmt.Sprintf("loadBalancers[%s].cluster", id))
		}
	}
	for _, e := range s.LiveEdges() {
		if c := s.Clusters[e.Cluster]; c.Unit != e.Unit {
			return ErrInUse.With("edge %s is in cluster %q of unit %q: retire it first", e.ID, e.Cluster, e.Unit).At(fmt.Sprintf("clusters[%s]", e.Cluster))
		}
	}
	for _, ut := range sortedKeys(s.Rules) {
		if err := s.soundRules(ut); err != nil {
			return err
		}
	}
	return s.soundDomains()
}

func (s *State) soundUnits() error {
	if len(s.Units) > maxUnits || len(s.UnitTypes) > maxUnitTypes || max(len(s.Clusters), len(s.LoadBalancers), len(s.Domains)) > maxEntities {
		return ErrTooLarge.With("at most %d units, %d unit types, and %d clusters, load balancers and domains", maxUnits, maxUnitTypes, maxEntities)
	}
	center := ""
	for _, id := range sortedKeys(s.Units) {
		if !s.Units[id].Center {
			continue
		}
		if center != "" {
			return ErrCenter.With("both %q and %q are the center", center, id).At(fmt.Sprintf("units[%s].center", id))
		}
		center = id
	}
	return nil
}

func (s *State) soundRules(ut string) error {
	t, ok := s.UnitType(ut)
	if !ok {
		return ErrInUse.With("unit type %q has rules and cannot go", ut).At("unitTypes")
	}
	r := s.Rules[ut].Current
	if r.Slots() != t.Slots {
		return ErrBadSlots.With("the rules of %q have %d slots: their number cannot change", ut, r.Slots()).At(fmt.Sprintf("unitTypes[%s].slots", ut))
	}
	if r.Slotting() != t.Slotting() {
		return ErrBadSlots.With("the rules of %q count another part of the routerId: it cannot change", ut).At(fmt.Sprintf("unitTypes[%s].substring", ut))
	}
	for _, u := range r.Units() {
		if _, ok := s.Units[u]; !ok {
			return ErrUnknownUnit.With("the rules give slots or exact IDs to unit %q, which does not exist", u).At(fmt.Sprintf("rules.%s", ut))
		}
	}
	return nil
}
