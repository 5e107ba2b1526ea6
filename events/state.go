package events

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	"github.com/unitgate/unitgate/events/routing"
)

// MaxIdleCutovers bounds the cutovers that a State keeps besides the running ones; the journal keeps all of them.
const MaxIdleCutovers = 64

// State is a namespace as its events made it: a pure fold, equal wherever the same events were applied (G4).
//
// One goroutine owns a State and calls Apply; others get a Clone. The values in its maps are never changed in place,
// so a Clone costs the maps and not what they hold.
type State struct {
	Namespace     string                  `json:"namespace"`     // "" before the first event
	Seq           uint64                  `json:"seq"`           // sequence of the last event applied
	Chain         string                  `json:"chain"`         // Record.Hash of that event
	ConfigVersion uint64                  `json:"configVersion"` // sequence of the last event that changed the configuration
	Policy        Policy                  `json:"policy"`
	UnitTypes     []UnitType              `json:"unitTypes"` // the first one is the default
	Rules         map[string]RuleSet      `json:"rules"`     // by unit type; absent until the baseline is set
	Units         map[string]Unit         `json:"units"`
	Clusters      map[string]Cluster      `json:"clusters"`
	LoadBalancers map[string]LoadBalancer `json:"loadBalancers"`
	Domains       map[string]DomainState  `json:"domains"`        // by host
	Cuts          map[string]uint64       `json:"cuts,omitempty"` // by host: sequence of the newest event that closed a domain's sessions by force; see cut
	Edges         map[string]Edge         `json:"edges"`          // gone ones included: their ids never come back (R7)
	Hooks         []Hook                  `json:"hooks,omitempty"`
	Exclusive     Exclusive               `json:"exclusive,omitzero"`
	Office        Office                  `json:"office"`
	Cutovers      map[string]Cutover      `json:"cutovers"` // running ones, and the newest MaxIdleCutovers others
	CutoverCount  uint64                  `json:"cutoverCount"`
}

// RuleSet is what holds for one unit type.
type RuleSet struct {
	Version  uint64         `json:"version"`  // 1 for the baseline, one more for each completed cutover
	Baseline *routing.Rules `json:"baseline"` // as first set
	Current  *routing.Rules `json:"current"`  // in force, but for the committed waves of a running cutover
}

// DomainState is a domain's two versions; edges see Active only.
type DomainState struct {
	Draft  *Domain `json:"draft,omitempty"`  // nil once activated
	Active *Domain `json:"active,omitempty"` // nil until activated
}

// Newest is the draft, or the active version if there is none.
func (d DomainState) Newest() *Domain {
	if d.Draft != nil {
		return d.Draft
	}
	return d.Active
}

// Edge is one edge replica's membership.
type Edge struct {
	ID        string `json:"id"`
	Directory string `json:"directory"` // its state directory's UUID: a process with another one is not this edge (R7); see Signs
	Unit      string `json:"unit"`
	Cluster   string `json:"cluster"`
	Address   string `json:"address"` // "": a successor has it
	Capacity  int    `json:"capacity,omitempty"`
	Key       string `json:"key,omitempty"`  // X25519, in hex: what the edge says is signed by its twin, see SigningKey; "": it never signs
	Joined    uint64 `json:"joined"`         // sequence of its first join
	Gone      string `json:"gone,omitempty"` // "left" or "retired"
	// Successor is the edge that has taken over the listeners, and with them the address. This one serves its sessions to
	// their end, applies, reports, and is waited for like any other. "": there is none.
	Successor string `json:"successor,omitempty"`
	// Awaited: retired under exclusive ownership, and no commit has recorded its silence yet. Until then its last lease may
	// still run, so that commits wait for R5's silence (R7).
	Awaited bool `json:"awaited,omitempty"`
}

// Signs reports whether the edge's directory is the fingerprint of its key, as in those that
// are made since messages are signed: what is not signed by that key is not the edge's. An
// edge with an older directory may run a version that does not sign.
func (e Edge) Signs() bool { return e.Key != "" && e.Directory == Fingerprint(e.Key) }

// Accepts reports whether clients come to the edge.
func (e Edge) Accepts() bool { return e.Gone == "" && e.Address != "" }

// Exclusive is how far exclusive ownership has come; the zero value under "available".
type Exclusive struct {
	Since       uint64   `json:"since"`       // sequence of the policy in force: an edge that applied it serves by lease only
	Established uint64   `json:"established"` // sequence from which it counts (R13); 0: some registered edge may serve without a lease
	Lease       Duration `json:"lease"`       // longest lease that may run: the larger one of two while a change is not established
	Fence       uint64   `json:"fence"`       // sequence of the newest WaveFenced under exclusive ownership: no lease for an edge behind it (R4); 0: none yet
}

// Needs is the sequence that an edge must have applied to be given a lease: the policy in force, and the newest fence,
// however that ended (R4).
func (x Exclusive) Needs() uint64 { return max(x.Since, x.Fence) }

// Counts reports whether a driver may rely on leases: exclusive ownership is established.
func (x Exclusive) Counts() bool { return x.Established > 0 }

// Office is the driver's: who may fence and commit.
type Office struct {
	Term   uint64 `json:"term"`
	Holder string `json:"holder"`
	Key    string `json:"key,omitempty"` // Ed25519, hex: the holder signs its beacons and its grants with it; "": it sends no beacons
}

// Signs reports whether the holder signs its grants: its incarnation is the fingerprint of its
// key. That of a version which signs beacons only is a random UUID.
func (o Office) Signs() bool { return o.Key != "" && o.Holder == Fingerprint(o.Key) }

// NewState is the state before the first event.
func NewState() *State {
	return &State{
		Policy:        DefaultPolicy(),
		Rules:         map[string]RuleSet{},
		Units:         map[string]Unit{},
		Clusters:      map[string]Cluster{},
		LoadBalancers: map[string]LoadBalancer{},
		Domains:       map[string]DomainState{},
		Cuts:          map[string]uint64{},
		Edges:         map[string]Edge{},
		Cutovers:      map[string]Cutover{},
	}
}

// Clone is a copy that Apply on the original does not change.
func (s *State) Clone() *State {
	c := *s
	c.Rules = maps.Clone(s.Rules)
	c.Units = maps.Clone(s.Units)
	c.Clusters = maps.Clone(s.Clusters)
	c.LoadBalancers = maps.Clone(s.LoadBalancers)
	c.Domains = maps.Clone(s.Domains)
	c.Cuts = maps.Clone(s.Cuts)
	c.Edges = maps.Clone(s.Edges)
	c.Cutovers = maps.Clone(s.Cutovers)
	return &c
}

// Hash is the hex SHA-256 of the state's canonical JSON. Its cost grows with the state.
func (s *State) Hash() string {
	sum := sha256.Sum256(s.Encode())
	return hex.EncodeToString(sum[:])
}

// stateJSON is a State with the long exact lists of its rule sets beside them: those in force, the baseline and those of
// the kept cutovers mostly have the same ones.
type stateJSON struct {
	*State
	Lists routing.Lists `json:"exactLists,omitempty"`
}

// Encode is the canonical JSON of the state: equal states give equal bytes.
func (s *State) Encode() []byte {
	c := *s
	j := stateJSON{State: &c, Lists: routing.Lists{}}
	c.Rules, c.Cutovers = maps.Clone(s.Rules), maps.Clone(s.Cutovers)
	for ut, r := range c.Rules {
		r.Baseline, r.Current = j.Lists.Outline(r.Baseline), j.Lists.Outline(r.Current)
		c.Rules[ut] = r
	}
	for id, cut := range c.Cutovers {
		cut.From, cut.To = j.Lists.Outline(cut.From), j.Lists.Outline(cut.To)
		c.Cutovers[id] = cut
	}
	b, err := json.Marshal(j)
	if err != nil {
		panic(err) // every type in a State marshals
	}
	return b
}

// decode reads what Encode wrote, without a look at whether it makes sense.
func (s *State) decode(b []byte) error {
	j := stateJSON{State: s}
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	f := routing.NewFiller(j.Lists)
	for _, r := range s.Rules {
		if err := cmp.Or(f.Fill(r.Baseline), f.Fill(r.Current)); err != nil {
			return err
		}
	}
	for _, c := range s.Cutovers {
		if err := cmp.Or(f.Fill(c.From), f.Fill(c.To)); err != nil {
			return err
		}
	}
	return nil
}

// UnitType finds a unit type; "" means the default one.
func (s *State) UnitType(name string) (UnitType, bool) {
	for _, t := range s.UnitTypes {
		if name == "" || t.Name == name {
			return t, true
		}
	}
	return UnitType{}, false
}

// Center is the id of the center unit, "" if none is set.
func (s *State) Center() string {
	for _, id := range slices.Sorted(maps.Keys(s.Units)) {
		if s.Units[id].Center {
			return id
		}
	}
	return ""
}

// Running is the cutover that holds a unit type's place, if any.
func (s *State) Running(unitType string) (Cutover, bool) {
	for _, c := range s.Cutovers {
		if c.UnitType == unitType && c.State.Running() {
			return c, true
		}
	}
	return Cutover{}, false
}

// AnyRunning is a running cutover of any unit type, the oldest one.
func (s *State) AnyRunning() (Cutover, bool) {
	for _, c := range s.CutoverList() {
		if c.State.Running() {
			return c, true
		}
	}
	return Cutover{}, false
}

// CutoverList are the kept cutovers, oldest first.
func (s *State) CutoverList() []Cutover {
	return slices.SortedFunc(maps.Values(s.Cutovers), func(a, b Cutover) int { return cmp.Compare(a.Number, b.Number) })
}

// Table compiles the rules of a unit type as they hold at this moment, waves of a running cutover included.
// It is nil without rules.
func (s *State) Table(unitType string) *routing.Table {
	r, ok := s.Rules[unitType]
	if !ok {
		return nil
	}
	if c, ok := s.Running(unitType); ok {
		return c.Table()
	}
	return routing.Compile(r.Current)
}

// Table compiles the cutover's rules with its waves as they stand.
func (c *Cutover) Table() *routing.Table {
	waves := make([]routing.Wave, len(c.Waves))
	for i, w := range c.Waves {
		waves[i] = routing.Wave{Keys: w.Keys, Phase: w.State.Phase()}
	}
	return routing.CompileCutover(c.From, c.To, waves)
}

// Standing are the rules as the committed waves have made them.
func (c *Cutover) Standing() *routing.Rules {
	var keys []routing.Keys
	for _, w := range c.Waves[:c.NextWave()] {
		keys = append(keys, w.Keys)
	}
	return routing.Standing(c.From, c.To, keys)
}

// InForce is the cutover by which a unit type is routed at this moment: the running one, or else the one that made the
// rules in force, of which a table can still tell which keys it moved.
func (s *State) InForce(unitType string) (Cutover, bool) {
	if c, ok := s.Running(unitType); ok {
		return c, true
	}
	rules, ok := s.Rules[unitType]
	if !ok {
		return Cutover{}, false
	}
	for _, c := range s.Cutovers {
		if c.UnitType == unitType && c.State.Ended() && c.NextWave() > 0 && c.RuleTo == rules.Version {
			return c, true
		}
	}
	return Cutover{}, false
}

// FencedWave is the index of the fenced wave, -1 if none is.
func (c *Cutover) FencedWave() int {
	return slices.IndexFunc(c.Waves, func(w Wave) bool { return w.State == FencedWave })
}

// NextWave is the index of the first wave that is not committed, len(Waves) if all are.
func (c *Cutover) NextWave() int {
	i := slices.IndexFunc(c.Waves, func(w Wave) bool { return w.State != CommittedWave })
	if i < 0 {
		return len(c.Waves)
	}
	return i
}

// LiveEdges are the registered edges that are not gone, sorted by id.
func (s *State) LiveEdges() []Edge {
	var out []Edge
	for _, e := range s.Edges {
		if e.Gone == "" {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Edge) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// NeededEdge is an edge whose reports a wave's commit needs (R7), and on which side it stands.
type NeededEdge struct {
	Edge
	Loses bool // its unit gives keys away: it must report drained
	Gains bool // its unit receives keys: it must report applied (R8)
}

// NeededEdges are the edges of the units between which a wave's keys move, from the journal and never from presence:
// the registered ones, and under exclusive ownership retired ones whose last lease may still run (R7).
func (s *State) NeededEdges(c *Cutover, wave int) []NeededEdge {
	loses, gains := c.sides(wave)
	var out []NeededEdge
	for _, e := range s.Edges {
		if (e.Gone == "" || e.Awaited) && (loses[e.Unit] || gains[e.Unit]) {
			out = append(out, NeededEdge{e, loses[e.Unit], gains[e.Unit]})
		}
	}
	slices.SortFunc(out, func(a, b NeededEdge) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Deserted are the units that gain keys from a wave and have no registered edge to which clients could come, sorted. A cutover whose
// precheck rules-complete was skipped has none: its operator knows.
func (s *State) Deserted(c *Cutover, wave int) []string {
	if _, ok := c.Skips["rules-complete"]; ok {
		return nil
	}
	_, gains := c.sides(wave)
	for _, e := range s.LiveEdges() {
		if e.Accepts() {
			delete(gains, e.Unit)
		}
	}
	return sortedKeys(gains)
}

// sides are the units that lose keys in a wave, and those that gain some.
func (c *Cutover) sides(wave int) (loses, gains map[string]bool) {
	loses, gains = map[string]bool{}, map[string]bool{}
	w := c.Waves[wave]
	for _, rg := range w.Slots {
		for _, unit := range c.From.UnitsIn(rg) {
			loses[unit] = true
		}
		for _, unit := range c.To.UnitsIn(rg) {
			gains[unit] = true
		}
	}
	for id := range w.Exact.All() {
		from, _ := c.From.Owner(id)
		to, _ := c.To.Owner(id)
		loses[from], gains[to] = true, true
	}
	return loses, gains
}
