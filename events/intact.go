package events

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/unitgate/unitgate/events/routing"
)

// What a State is used by relies on more than its types say: maps are there, rules fit their unit type, waves hold what
// moves. Decide makes only events that keep it so. A record or a snapshot may have been written by someone else, so
// what would break it is refused here; whether an event was allowed is Decide's question, not asked again.

// DecodeState reads what Encode wrote, byte for byte: what this version would write otherwise, or cannot use, is an
// error, and the caller replays the journal instead.
func DecodeState(b []byte) (*State, error) {
	s := NewState()
	if err := s.decode(b); err != nil {
		return nil, err
	}
	if err := s.intact(); err != nil {
		return nil, err
	}
	if !bytes.Equal(s.Encode(), b) {
		return nil, errors.New("the state was written by another version")
	}
	return s, nil
}

func (s *State) intact() error {
	if s.Rules == nil || s.Units == nil || s.Clusters == nil || s.LoadBalancers == nil || s.Domains == nil || s.Cuts == nil || s.Edges == nil || s.Cutovers == nil {
		return errors.New("a part of the state is missing")
	}
	for host, d := range s.Domains {
		if d.Newest() == nil {
			return fmt.Errorf("domain %q is empty", host)
		}
	}
	if err := rulesFit(s.UnitTypes, s.Rules); err != nil {
		return err
	}
	running := map[string]string{}
	for id, c := range s.Cutovers {
		if c.ID != id {
			return fmt.Errorf("cutover %q is filed as %q", c.ID, id)
		}
		if err := s.cutoverFits(c); err != nil {
			return fmt.Errorf("cutover %s: %w", id, err)
		}
		if !c.State.Running() {
			continue
		}
		if other, ok := running[c.UnitType]; ok {
			return fmt.Errorf("cutovers %s and %s of %s are both running", other, id, c.UnitType)
		}
		running[c.UnitType] = id
	}
	return nil
}

// rulesFit checks that rules are there and have the slots of their unit type.
func rulesFit(types []UnitType, rules map[string]RuleSet) error {
	s := State{UnitTypes: types}
	for ut, r := range rules {
		t, ok := s.UnitType(ut)
		if !ok || t.Name != ut {
			return fmt.Errorf("there are rules of unit type %q, which does not exist", ut)
		}
		if r.Baseline == nil || r.Current == nil || !r.Baseline.Complete() || !r.Current.Complete() || r.Baseline.Slotting() != t.Slotting() || r.Current.Slotting() != t.Slotting() {
			return fmt.Errorf("unit type %q deals out routerIds by %+v, its rules do not, or lack their exact IDs", ut, t.Slotting())
		}
	}
	return nil
}

// cutoverFits checks what a cutover's table and its needed edges are computed from.
func (s *State) cutoverFits(c Cutover) error {
	r, ok := s.Rules[c.UnitType]
	if !ok || c.From == nil || c.To == nil || c.From.Slotting() != r.Current.Slotting() {
		return fmt.Errorf("its rules are missing or do not fit those of unit type %q", c.UnitType)
	}
	keys := make([]routing.Keys, len(c.Waves))
	for i, w := range c.Waves {
		keys[i] = w.Keys
		if w.State != PendingWave && w.State != FencedWave && w.State != CommittedWave {
			return fmt.Errorf("wave %d is %q", i, w.State)
		}
	}
	return routing.CheckWaves(c.From, c.To, keys)
}

// follows checks what every record must be to be the next one of s.
func (s *State) follows(rec Record, e Event) error {
	if y := rec.Time.Year(); y < 0 || y > 9999 || !utf8.ValidString(rec.Actor) || !utf8.ValidString(rec.Traceparent) {
		return errors.New("its time or its actor has no JSON form")
	}
	switch e := e.(type) {
	case NamespaceCreated:
		if s.Namespace != "" {
			return ErrNamespaceExists.With("namespace %q exists", s.Namespace)
		}
		return s.takes(e.Changes)
	case ConfigApplied:
		if s.Namespace != "" && s.Namespace != e.Namespace {
			return fmt.Errorf("it is for namespace %q, this is %q", e.Namespace, s.Namespace)
		}
		return s.takes(e.Changes)
	default:
		if s.Namespace == "" {
			return ErrUnknownNamespace.With("no event has opened the namespace")
		}
		if e, ok := e.(RulesInitialized); ok {
			return s.takes(Changes{Rules: map[string]*routing.Rules{e.UnitType: e.Rules}})
		}
		return nil
	}
}

// takes checks that rules and unit types still fit each other after the changes.
func (s *State) takes(c Changes) error {
	if c.UnitTypes == nil && c.Rules == nil {
		return nil
	}
	types, rules := s.UnitTypes, map[string]RuleSet{}
	if c.UnitTypes != nil {
		types = c.UnitTypes
	}
	for ut, r := range s.Rules {
		rules[ut] = r
	}
	for ut, r := range c.Rules {
		rules[ut] = RuleSet{Baseline: r, Current: r}
	}
	return rulesFit(types, rules)
}
