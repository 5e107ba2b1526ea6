package events

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

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
	case DomainRemoved:
		s.change(rec, Changes{Removed: Removed{Domains: []string{e.Host}}})
	case RulesInitialized:
		s.change(rec, Changes{Rules: map[string]*routing.Rules{e.UnitType: e.Rules}})
	case EdgeJoined:
		joined := rec.Seq
		if old, ok := s.Edges[e.ID]; ok {
			if old.Gone != "" { // R7
				return ErrEdgeGone.With("edge %q has %s", e.ID, old.Gone)
			}
			if err := old.CheckDirectory(e.Directory); err != nil {
				return err
			}
			joined = old.Joined
		}
		s.Edges[e.ID] = Edge{ID: e.ID, Directory: e.Directory, Unit: e.Unit, Cluster: e.Cluster, Address: e.Address, Capacity: e.Capacity, Joined: joined}
	case EdgeLeft:
		return s.gone(e.ID, "left")
	case EdgeRetired:
		return s.gone(e.ID, "retired")
	case DriverTookOffice:
		s.Office = Office(e)
	case CommandRefused:
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
	s.Edges[id] = e
	return nil
}

// change applies configuration changes; Decide has proved that they fit together.
func (s *State) change(rec Record, c Changes) {
	s.ConfigVersion = rec.Seq
	if c.Policy != nil {
		s.Policy = *c.Policy
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

// applyCutover applies the events of cutovers.
func (s *State) applyCutover(rec Record, e Event) error {
	if p, ok := e.(CutoverProposed); ok {
		return s.propose(rec, p)
	}
	id := cutoverOf(e)
	c, ok := s.Cutovers[id]
	if !ok {
		return ErrUnknownCutover.With("there is no cutover %q", id)
	}
	switch e := e.(type) {
	case CutoverChecked:
		c.Checks = c.merge(e.Checks)
		if c.State == Proposed && c.allChecked() {
			c.State = Checked
		}
	case CutoverSkipped:
		if e.Edge != "" && c.FencedWave() < 0 {
			return ErrWrongState.With("no wave of %s is fenced", c.ID)
		}
		c = c.skip(e, Skip{rec.Actor, e.Reason, rec.Time})
	case CutoverStarted:
		if r, ok := s.Running(c.UnitType); ok {
			return ErrCutoverOpen.With("cutover %s is %s", r.ID, r.State)
		}
		c.Checks = c.merge(e.Checks)
		c.State, c.StartedAt = Started, rec.Time
	case CutoverPaused:
		c.State, c.Why = Paused, &e.Why
		c.unfence()
	case CutoverResumed:
		c.State, c.Why = Started, nil
	case CutoverAborted:
		c.State, c.Why, c.EndedAt = Aborted, &e.Why, rec.Time
		c.unfence()
	case WaveFenced:
		if c.FencedWave() >= 0 || c.NextWave() != e.Wave || e.Wave >= len(c.Waves) {
			return ErrWrongState.With("wave %d of %s is not the next to fence", e.Wave, c.ID)
		}
		c.setWave(e.Wave, func(w *Wave) { w.State, w.FenceSeq, w.FencedAt, w.SkipEdges = FencedWave, rec.Seq, rec.Time, nil })
	case WaveCommitted:
		if e.Wave < 0 || c.FencedWave() != e.Wave {
			return ErrWrongState.With("wave %d of %s is not fenced", e.Wave, c.ID)
		}
		c.setWave(e.Wave, func(w *Wave) { w.State, w.Results = CommittedWave, e.Edges })
	case CutoverCompleted:
		if c.NextWave() < len(c.Waves) {
			return ErrWrongState.With("wave %d of %s is not committed", c.NextWave(), c.ID)
		}
		c.State, c.EndedAt = Completed, rec.Time
		r := s.Rules[c.UnitType]
		s.Rules[c.UnitType] = RuleSet{Version: c.RuleTo, Baseline: r.Baseline, Current: c.To}
	default:
		return fmt.Errorf("no rule says what %T changes", e)
	}
	s.Cutovers[id] = c
	s.forget()
	return nil
}

func cutoverOf(e Event) string {
	switch e := e.(type) {
	case CutoverChecked:
		return e.Cutover
	case CutoverSkipped:
		return e.Cutover
	case CutoverStarted:
		return e.Cutover
	case CutoverPaused:
		return e.Cutover
	case CutoverResumed:
		return e.Cutover
	case CutoverAborted:
		return e.Cutover
	case WaveFenced:
		return e.Cutover
	case WaveCommitted:
		return e.Cutover
	case CutoverCompleted:
		return e.Cutover
	default:
		return ""
	}
}

func (s *State) propose(rec Record, e CutoverProposed) error {
	r, ok := s.Rules[e.UnitType]
	if !ok {
		return ErrNoRules.With("unit type %q has no rules", e.UnitType)
	}
	if id := cutoverID(s.CutoverCount + 1); e.Cutover != id {
		return fmt.Errorf("it is called %q, the next cutover is %s", e.Cutover, id)
	}
	if e.Rules == nil {
		return errors.New("it has no rules")
	}
	if err := routing.CheckWaves(r.Current, e.Rules, e.Waves); err != nil {
		return err
	}
	c := Cutover{
		ID: e.Cutover, Number: s.CutoverCount + 1, State: Proposed, UnitType: e.UnitType, RuleFrom: e.RuleFrom, RuleTo: e.RuleTo,
		From: r.Current, To: e.Rules, Rate: e.Rate, Counted: e.Counted,
		Actor: rec.Actor, Traceparent: rec.Traceparent, ProposedAt: rec.Time,
	}
	for _, k := range e.Waves {
		c.Waves = append(c.Waves, Wave{Keys: k, State: PendingWave})
	}
	s.CutoverCount++
	s.Cutovers[c.ID] = c
	s.forget()
	return nil
}

// cutoverID is the id of a namespace's nth cutover.
func cutoverID(n uint64) string { return fmt.Sprintf("c%d", n) }

// forget drops the oldest cutovers that are not running, so that a State stays bounded.
func (s *State) forget() {
	if len(s.Cutovers) <= MaxIdleCutovers {
		return
	}
	var idle []Cutover
	for _, c := range s.CutoverList() {
		if !c.State.Running() {
			idle = append(idle, c)
		}
	}
	for _, c := range idle[:max(0, len(idle)-MaxIdleCutovers)] {
		delete(s.Cutovers, c.ID)
	}
}

// merge lays new verdicts over the ones there are; a skipped check stays skipped when it fails again.
func (c *Cutover) merge(checks []Check) []Check {
	all := map[string]Check{}
	for _, k := range c.Checks {
		all[k.ID] = k
	}
	for _, k := range checks {
		if _, ok := c.Skips[k.ID]; ok && k.State == Fail {
			k.State = Skipped
		}
		all[k.ID] = k
	}
	rank := func(k Check) int { return slices.Index(CheckIDs(), k.ID) }
	return slices.SortedFunc(maps.Values(all), func(a, b Check) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.ID, b.ID))
	})
}

// allChecked reports whether every precheck has a verdict.
func (c *Cutover) allChecked() bool {
	return !slices.ContainsFunc(CheckIDs(), func(id string) bool {
		return !slices.ContainsFunc(c.Checks, func(k Check) bool { return k.ID == id })
	})
}

func (c Cutover) skip(e CutoverSkipped, s Skip) Cutover {
	if e.Edge != "" {
		c.setWave(c.FencedWave(), func(w *Wave) {
			w.SkipEdges = maps.Clone(w.SkipEdges)
			if w.SkipEdges == nil {
				w.SkipEdges = map[string]Skip{}
			}
			w.SkipEdges[e.Edge] = s
		})
		return c
	}
	skips := maps.Clone(c.Skips)
	if skips == nil {
		skips = map[string]Skip{}
	}
	skips[e.Check] = s
	c.Skips = skips
	c.Checks = slices.Clone(c.Checks)
	for i, k := range c.Checks {
		if k.ID == e.Check && k.State == Fail {
			c.Checks[i].State = Skipped
		}
	}
	return c
}

// unfence returns the fenced wave, if any, to its owner (R11); reports for the old fence do not count for the next.
func (c *Cutover) unfence() {
	if w := c.FencedWave(); w >= 0 {
		c.setWave(w, func(w *Wave) { w.State, w.SkipEdges = PendingWave, nil })
	}
}

// setWave changes one wave in a fresh copy of the list.
func (c *Cutover) setWave(i int, change func(*Wave)) {
	c.Waves = slices.Clone(c.Waves)
	change(&c.Waves[i])
}
