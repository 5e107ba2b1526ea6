package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/cutover"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

type get struct {
	*cli
	kind, name, routerID string
	at                   reader.Point
}

func (c *cli) addGet(p parent) {
	g := &get{cli: c}
	kinds := []string{"namespaces", "units", "clusters", "loadbalancers", "domains", "origins", "rules", "cutovers", "edges", "sessions", "dns"}
	cmd := c.command(p, "get", "Show what there is", g.run)
	cmd.Arg("kind", strings.Join(kinds, " ")).Required().HintOptions(kinds...).EnumVar(&g.kind, kinds...)
	cmd.Arg("name", "only the one with this id, host or unit type; of origins those of a domain, of dns those of a zone, of sessions those on an edge").StringVar(&g.name)
	cmd.Flag("router-id", "with sessions: where this user is connected").PlaceHolder("ID").StringVar(&g.routerID)
	addAt(cmd, &g.at)
}

func (g *get) run(ctx context.Context) error {
	if g.routerID != "" && g.kind != "sessions" {
		return usage("--router-id goes with get sessions")
	}
	if past(g.at) && slices.Contains([]string{"sessions", "namespaces", "dns"}, g.kind) {
		return usage("--at does not go with get %s: journals do not say what they were", g.kind)
	}
	switch g.kind {
	case "namespaces":
		return g.namespaces(ctx)
	case "dns":
		return g.dns(ctx)
	}
	b, s, err := g.readAt(ctx, g.at)
	if err != nil {
		return err
	}
	defer b.close()
	switch g.kind {
	case "units":
		return g.units(s)
	case "clusters":
		return g.clusters(ctx, b, s)
	case "loadbalancers":
		return g.loadBalancers(s)
	case "domains":
		return g.domains(s)
	case "origins":
		return g.origins(ctx, b, s)
	case "rules":
		return g.rules(s)
	case "cutovers":
		return g.cutovers(s)
	case "edges":
		if past(g.at) {
			return g.members(s)
		}
		return g.edges(ctx, b, s)
	default:
		return g.sessions(ctx, b, s)
	}
}

// show prints a list, or with a name the one entry that has it. unknown is the error if there is none.
func show[T any](g *get, list []T, id func(T) string, unknown *events.Error, head []string, row func(T) []any) error {
	if g.name != "" {
		i := slices.IndexFunc(list, func(v T) bool { return id(v) == g.name })
		if i < 0 {
			return unknown.With("%q is none of the %s: see get %s", g.name, g.kind, g.kind)
		}
		if g.json() {
			return g.document(list[i])
		}
		list = list[i : i+1]
	}
	if g.json() {
		return g.document(append([]T{}, list...))
	}
	if len(list) == 0 {
		g.say("no %s", g.kind)
		return nil
	}
	t := newTable(head...)
	for _, v := range list {
		t.row(row(v)...)
	}
	return t.write(g.out)
}

// byID are a map's values in the order of their keys.
func byID[T any](m map[string]T) []T {
	out := make([]T, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

type namespaceView struct {
	Name  string `json:"name"`
	Epoch string `json:"epoch"` // identity of the journal
	Head  uint64 `json:"head"`  // its last sequence
}

func (g *get) namespaces(ctx context.Context) error {
	b, err := g.connect()
	if err != nil {
		return err
	}
	defer b.close()
	found, err := journal.ListAsking(ctx, b.js)
	if err != nil {
		return reader.Unavailable(err)
	}
	list := make([]namespaceView, 0, len(found))
	for _, ns := range found {
		list = append(list, namespaceView(ns))
	}
	return show(g, list, func(n namespaceView) string { return n.Name }, events.ErrUnknownNamespace, []string{"NAME", "HEAD", "EPOCH"},
		func(n namespaceView) []any { return []any{n.Name, n.Head, n.Epoch} })
}

func (g *get) units(s *events.State) error {
	return show(g, byID(s.Units), func(u events.Unit) string { return u.ID }, events.ErrUnknownUnit, []string{"ID", "CENTER", "NAME"},
		func(u events.Unit) []any { return []any{u.ID, yesNo(u.Center), u.Name} })
}

func (g *get) loadBalancers(s *events.State) error {
	return show(g, byID(s.LoadBalancers), func(l events.LoadBalancer) string { return l.ID }, events.ErrUnknownBalancer, []string{"ID", "CLUSTER", "ADDRESS"},
		func(l events.LoadBalancer) []any { return []any{l.ID, l.Cluster, l.Address} })
}

type originView struct {
	Domain string `json:"domain"`
	Path   string `json:"path"`
	Unit   string `json:"unit"`
	Origin string `json:"origin"` // HOST:PORT
	Active bool   `json:"active"` // its domain has been activated

	// What the probes of the unit's edges find, as far as these answer: up, down, or down at some of the edges; "" where
	// nobody probes, or nobody answers.
	Probes string `json:"probes,omitempty"`
	Error  string `json:"error,omitempty"` // why it is down, says one of them
}

func (g *get) origins(ctx context.Context, b *bus, s *events.State) error {
	var list []originView
	found := g.findings(ctx, b, s)
	for _, d := range domainViews(s) {
		for _, u := range d.shown().URIs {
			for _, unit := range slices.Sorted(maps.Keys(u.Origins)) {
				for _, o := range u.Origins[unit] {
					v := originView{Domain: d.Host, Path: u.Path, Unit: unit, Origin: o, Active: d.Active != nil}
					if h := u.Health; v.Active && h != nil && h.Probe != "none" {
						v.Probes, v.Error = probesSay(found, unit, o)
					}
					list = append(list, v)
				}
			}
		}
	}
	if g.name != "" { // a domain's: there may be many
		list = slices.DeleteFunc(list, func(o originView) bool { return o.Domain != g.name })
		if len(list) == 0 {
			return events.ErrUnknownDomain.With("there is no domain %q", g.name)
		}
		g.name = ""
	}
	return show(g, list, nil, nil, []string{"DOMAIN", "PATH", "UNIT", "ORIGIN", "ACTIVE", "PROBES", "ERROR"},
		func(o originView) []any {
			return []any{o.Domain, o.Path, o.Unit, o.Origin, yesNo(o.Active), cmp.Or(o.Probes, "-"), cmp.Or(o.Error, "-")}
		})
}

type rulesView struct {
	UnitType string                     `json:"unitType"`
	Slots    uint32                     `json:"slots"`
	Version  uint64                     `json:"version"`
	Ranges   map[string][]routing.Range `json:"ranges"`
	Exact    map[string][]string        `json:"exact"`
	Baseline *routing.Rules             `json:"baseline"`
	Cutover  string                     `json:"cutover,omitempty"` // the one that is running
}

func (g *get) rules(s *events.State) error {
	var list []rulesView
	for _, ut := range slices.Sorted(maps.Keys(s.Rules)) {
		r := s.Rules[ut]
		v := rulesView{UnitType: ut, Slots: r.Current.Slots(), Version: r.Version, Ranges: r.Current.Ranges(), Exact: r.Current.Exact(), Baseline: r.Baseline}
		if c, ok := s.Running(ut); ok {
			v.Cutover = c.ID
		}
		list = append(list, v)
	}
	return show(g, list, func(r rulesView) string { return r.UnitType }, events.ErrUnknownUnitType, []string{"UNIT TYPE", "SLOTS", "VERSION", "CUTOVER", "RANGES"},
		func(r rulesView) []any { return []any{r.UnitType, r.Slots, r.Version, r.Cutover, r.text()} })
}

func (r rulesView) text() string {
	var out []string
	for _, unit := range slices.Sorted(maps.Keys(r.Ranges)) {
		for _, rg := range r.Ranges[unit] {
			out = append(out, unit+"="+rg.String())
		}
	}
	for _, unit := range slices.Sorted(maps.Keys(r.Exact)) {
		ids, more := r.Exact[unit], ""
		if n := len(ids) - routing.ShortList; n > 0 {
			ids, more = ids[:routing.ShortList], fmt.Sprintf(" and %d more", n)
		}
		out = append(out, "exact "+unit+"="+strings.Join(ids, ",")+more)
	}
	return strings.Join(out, " ")
}

// cutovers are shown as the journal knows them: without what edges say at this moment.
func (g *get) cutovers(s *events.State) error {
	var list []cutover.View
	for _, c := range s.CutoverList() {
		list = append(list, cutover.Show(s, c, nil))
	}
	return show(g, list, func(v cutover.View) string { return v.ID }, events.ErrUnknownCutover, []string{"ID", "STATE", "UNIT TYPE", "SLOTS", "RULES", "EVICTED", "ACTOR"},
		func(v cutover.View) []any {
			return []any{v.ID, v.State, v.UnitType, v.Slots, ruleVersions(v), v.Evicted, v.Actor}
		})
}
