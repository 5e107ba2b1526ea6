package agent

import (
	"crypto/ed25519"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// Dev are the conveniences of `unitgate dev`: it must work without DNS.
type Dev struct {
	AdvertisedLocations bool // Location names the address of the unit's first edge instead of its sub-domain
	FallbackHost        bool // unknown hosts are served by the only domain, if there is just one
}

// BuildView is everything that the pollers of an edge decide with, derived from a state. It is pure.
func BuildView(s *events.State, self Self, dev Dev) *handshake.View {
	return (&views{self: self, dev: dev}).build(s)
}

// views builds one view after another and compiles a rule table only when it differs from the one before: tables are
// large, and the relay sees by their identity that there is nothing to compare. One goroutine owns it.
type views struct {
	self   Self
	dev    Dev
	probe  string              // see handshake.View
	tables map[string]compiled // by unit type
	keys   hopKeys
	signer ed25519.PrivateKey           // this edge's; nil: it has none
	known  map[string]ed25519.PublicKey // of edges, by Edge.Directory, the key's fingerprint
}

// compiled is a table and what it was compiled from. Values in a State never change in place, so that their identity
// tells.
type compiled struct {
	from, to *routing.Rules
	cutover  string
	waves    []events.WaveState
	table    *routing.Table
}

func (v *views) build(s *events.State) *handshake.View {
	view := &handshake.View{
		Seq: s.Seq, Unit: v.self.Unit, Center: s.Center(), Admits: admits(s, v.self),
		Types: map[string]*handshake.Type{}, Sites: map[string]*handshake.Site{},
		Hold: time.Duration(s.Policy.Hold), CloseCode: uint16(s.Policy.CloseCode), Cuts: maps.Clone(s.Cuts), Probe: v.probe,
		ID: v.self.ID,
	}
	for _, t := range v.types(s) {
		view.Types[t.Name] = t
		if view.Default == nil {
			view.Default = t
		}
	}
	v.sites(s, view)
	v.vouch(s, view)
	return view
}

// vouch gives the view the keys of those whose tickets count: all edges that sign, also those that have left, whose
// clients may be on their way.
func (v *views) vouch(s *events.State, view *handshake.View) {
	known := make(map[string]ed25519.PublicKey, len(v.known))
	view.Signer, view.Signers = v.signer, map[string]ed25519.PublicKey{}
	for id, e := range s.Edges {
		if e.Gone == "retired" {
			continue
		}
		key, ok := v.known[e.Directory]
		if !ok && e.Signs() {
			key, _ = events.SigningKey(e.Key) // nil with an error
		}
		if key != nil {
			known[e.Directory], view.Signers[id] = key, key
		}
	}
	v.known = known
}

// admits: "An edge admits only with a state that holds its own join", and "a retired or left id never rejoins" (R7). An
// id that stands in the state for another unit or another state directory is not this edge's.
func admits(s *events.State, self Self) bool {
	e, ok := s.Edges[self.ID]
	return ok && e.Gone == "" && e.Unit == self.Unit && e.Directory == self.Directory
}

func (v *views) types(s *events.State) []*handshake.Type {
	out := make([]*handshake.Type, 0, len(s.UnitTypes))
	tables := map[string]compiled{}
	for _, t := range s.UnitTypes {
		c := v.compile(s, t.Name)
		tables[t.Name] = c
		h := &handshake.Type{Name: t.Name, Table: c.table, Version: s.Rules[t.Name].Version, Unmarked: t.Unmarked, Form: t.RouterForm(), Local: c.table != nil && c.table.Owns(v.self.Unit)}
		if cut, ok := s.InForce(t.Name); ok {
			h.Moved = cut.RuleTo
			if cut.Report == nil {
				h.Cutover, h.Committed = cut.ID, cut.NextWave()
				h.Trace, _ = cut.Trace()
				for _, w := range cut.Waves {
					h.Fences = append(h.Fences, w.FenceSeq)
				}
			}
		}
		for _, src := range t.RouterID {
			from, name, _ := strings.Cut(src, ":")
			number, _ := strconv.Atoi(name) // of "path:2"; the core has checked it
			h.Sources = append(h.Sources, handshake.Source{From: from, Name: name, Number: number})
		}
		out = append(out, h)
	}
	v.tables = tables
	return out
}

// compile is the table of a unit type, nil without rules: then its handshakes are answered with 503 until there are some.
// The cutover that made the rules in force stays compiled in until the next one starts, so that its keys stay marked as
// moved and landings are counted.
func (v *views) compile(s *events.State, unitType string) compiled {
	rules, ok := s.Rules[unitType]
	if !ok {
		return compiled{}
	}
	want := compiled{from: rules.Current, to: rules.Current}
	c, moving := s.InForce(unitType)
	if moving {
		want = compiled{from: c.From, to: c.To, cutover: c.ID}
		for _, w := range c.Waves {
			want.waves = append(want.waves, w.State)
		}
	}
	was := v.tables[unitType]
	if was.table != nil && was.from == want.from && was.to == want.to && was.cutover == want.cutover && slices.Equal(was.waves, want.waves) {
		return was
	}
	if moving {
		want.table = c.Table()
	} else {
		want.table = routing.Compile(rules.Current)
	}
	return want
}

// sites gives every active domain its host names. A domain's own name goes before a sub-domain of another one: both can
// claim a name for a while, since drafts are activated one by one.
func (v *views) sites(s *events.State, view *handshake.View) {
	locations := v.advertised(s)
	var active []*events.Domain
	for _, host := range slices.Sorted(maps.Keys(s.Domains)) {
		if d := s.Domains[host].Active; d != nil {
			active = append(active, d)
			view.Sites[strings.ToLower(d.Host)] = v.site(s, d, view, locations)
		}
	}
	for _, d := range active {
		site := view.Sites[strings.ToLower(d.Host)]
		for _, name := range d.Names() {
			if name = strings.ToLower(name); view.Sites[name] == nil {
				view.Sites[name] = site
			}
		}
	}
	v.hops(s, view, active)
	if v.dev.FallbackHost && len(active) == 1 {
		view.Fallback = view.Sites[strings.ToLower(active[0].Host)]
	}
}

func (v *views) site(s *events.State, d *events.Domain, view *handshake.View, advertised map[string]string) *handshake.Site {
	site := &handshake.Site{Domain: d.Host, Type: view.Default, Scheme: d.Scheme, Correction: d.Correction, Locations: map[string]string{}}
	if t, ok := s.UnitType(d.UnitType); ok {
		site.Type = view.Types[t.Name]
	}
	for unit, u := range d.Units {
		site.Locations[unit] = u.Subdomain
		if a := advertised[unit]; a != "" {
			site.Locations[unit] = a
		}
	}
	for _, u := range d.URIs {
		path, err := events.NormalPath(u.Path)
		if err != nil { // of a domain that is older than this check: no request has such a path
			continue
		}
		site.URIs = append(site.URIs, handshake.URI{
			Path: path, Origins: u.Origins[v.self.Unit], ConnectTimeout: time.Duration(u.ConnectTimeout),
			ReplyTimeout: time.Duration(u.ReplyTimeout), Health: u.Health,
		})
	}
	slices.SortStableFunc(site.URIs, func(a, b handshake.URI) int {
		return len(strings.TrimSuffix(b.Path, "/")) - len(strings.TrimSuffix(a.Path, "/"))
	})
	return site
}

// advertised is, by unit, the address of the edge that joined first of those to which clients come; empty unless the option is set.
func (v *views) advertised(s *events.State) map[string]string {
	if !v.dev.AdvertisedLocations {
		return nil
	}
	first := map[string]events.Edge{}
	for _, e := range s.LiveEdges() {
		if f, ok := first[e.Unit]; e.Accepts() && (!ok || e.Joined < f.Joined) {
			first[e.Unit] = e
		}
	}
	out := map[string]string{}
	for unit, e := range first {
		out[unit] = e.Address
	}
	return out
}
