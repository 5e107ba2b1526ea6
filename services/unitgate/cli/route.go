package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

// routeView explains where a routerId belongs.
type routeView struct {
	RouterID    string   `json:"routerId"`
	UnitType    string   `json:"unitType"`
	Slot        uint32   `json:"slot"`
	Unit        string   `json:"unit"`               // the owner
	Rule        string   `json:"rule"`               // range, exact, or unmarked for the empty routerId
	RuleVersion uint64   `json:"ruleVersion"`        // of the rules in force; the old one until a cutover's last wave is committed
	Unmarked    string   `json:"unmarked,omitempty"` // what happens to clients without a routerId, with rule unmarked
	Wave        *int     `json:"wave"`               // of the running cutover, if it moves this key
	Cutover     string   `json:"cutover,omitempty"`
	Next        string   `json:"next,omitempty"`    // the unit that gains the key, which is being handed over
	Address     string   `json:"address"`           // where clients are sent: the owner's sub-domain
	Edges       []string `json:"edges"`             // addresses of the owner's edges
	Seq         uint64   `json:"seq"`               // up to which the journal was read
	Explain     []string `json:"explain,omitempty"` // with --explain: how it came to that, step by step

	said string // the routerId as it was asked for, before it was put into the form of its type
}

type route struct {
	*cli
	routerID, unitType string
	explain            bool
	at                 reader.Point
}

func (c *cli) addRoute(p parent) {
	r := &route{cli: c}
	cmd := c.command(p, "route", "Explain which unit serves a routerId, and why", r.run)
	cmd.Arg("router-id", "the routerId; '' stands for a client without one").Required().StringVar(&r.routerID)
	cmd.Flag("unit-type", "unit type; the first one if not given").PlaceHolder("NAME").StringVar(&r.unitType)
	cmd.Flag("explain", "show how the slot and the unit come about").UnNegatableBoolVar(&r.explain)
	addAt(cmd, &r.at)
}

func (r *route) run(ctx context.Context) error {
	b, s, err := r.readAt(ctx, r.at)
	if err != nil {
		return err
	}
	defer b.close()
	v, err := explain(s, r.unitType, r.routerID)
	if err != nil {
		return err
	}
	if r.explain {
		v.Explain = steps(s, v)
	}
	if r.json() {
		return r.document(v)
	}
	if past(r.at) {
		r.say("after the event with sequence %d:", v.Seq)
	}
	r.text(v)
	return nil
}

// explain looks a routerId up in the rules as they hold at this moment.
func explain(s *events.State, unitType, id string) (routeView, error) {
	t, ok := s.UnitType(unitType)
	if !ok {
		return routeView{}, events.ErrUnknownUnitType.With("there is no unit type %q", unitType).At("unitType")
	}
	rules, ok := s.Rules[t.Name]
	if !ok {
		return routeView{}, events.ErrNoRules.With("unit type %q has no rules yet", t.Name).At("unitType")
	}
	said := id
	if id != "" {
		var err error
		if id, err = t.Key(said); err != nil {
			return routeView{}, err
		}
	}
	v := routeView{RouterID: id, said: said, UnitType: t.Name, Rule: "unmarked", RuleVersion: rules.Version, Edges: []string{}, Seq: s.Seq}
	if id == "" {
		v.Unmarked = t.Unmarked
		return v, nil
	}
	table := s.Table(t.Name)
	hit := table.Lookup(id)
	v.Slot, v.Unit, v.Next, v.Rule = table.Slot(id), hit.Unit, hit.Next, "range"
	if hit.Exact {
		v.Rule = "exact"
	}
	if c, ok := s.Running(t.Name); ok && hit.Wave >= 0 {
		v.Wave, v.Cutover = &hit.Wave, c.ID
	}
	for _, d := range domainViews(s) {
		if d.Active != nil && (d.Active.UnitType == t.Name || d.Active.UnitType == "" && t.Name == s.UnitTypes[0].Name) {
			v.Address = d.Active.Units[v.Unit].Subdomain
			break
		}
	}
	for _, e := range s.LiveEdges() {
		if e.Unit == v.Unit && e.Accepts() {
			v.Edges = append(v.Edges, e.Address)
		}
	}
	return v, nil
}

func (r *route) text(v routeView) {
	if v.Rule == "unmarked" {
		r.say("a client of %s without a routerId: %s", v.UnitType, v.Unmarked)
		return
	}
	why := fmt.Sprintf("slot %d", v.Slot)
	if v.Rule == "exact" {
		why = "exact ID"
	}
	r.say("routerId %s of %s: %s, unit %s", v.RouterID, v.UnitType, why, v.Unit)
	r.say("  rules    version %d", v.RuleVersion)
	if v.Cutover != "" {
		r.say("  cutover  %s moves it in wave %d", v.Cutover, *v.Wave)
	}
	if v.Next != "" {
		r.say("  next     %s: it is being handed over, handshakes are held", v.Next)
	}
	r.say("  address  %s", v.Address)
	for _, e := range v.Edges {
		r.say("  edge     %s", e)
	}
	for i, step := range v.Explain {
		r.say("  %d.       %s", i+1, step)
	}
}

// steps say how the rules lead from the routerId to its unit.
func steps(s *events.State, v routeView) []string {
	t, _ := s.UnitType(v.UnitType)
	sources := "a client's routerId is looked for in " + strings.Join(t.RouterID, ", ")
	if v.Rule == "unmarked" {
		return []string{sources, "it has none, and unmarked clients are treated as " + t.Unmarked}
	}
	rules := s.Rules[t.Name].Current
	if c, ok := s.Running(t.Name); ok {
		rules = c.Standing()
	}
	out := []string{sources}
	out = append(out, formStep(t))
	if v.said != v.RouterID {
		out = append(out, fmt.Sprintf("%q is %q in that form", v.said, v.RouterID))
	}
	part := t.Substring.Of(v.RouterID)
	if t.Substring != (routing.Part{}) {
		out = append(out, fmt.Sprintf("%q counts of it (substring from %d, length %d)", part, t.Substring.From, t.Substring.Length))
	}
	how := "FNV-1a 64 of its bytes"
	if strings.Trim(part, "0123456789") == "" {
		how = "its value"
	}
	out = append(out, fmt.Sprintf("%s modulo %d is slot %d", how, t.Slots, v.Slot))
	if v.Rule == "exact" {
		return append(out, fmt.Sprintf("an exact list gives %q to %s, whatever its slot", v.RouterID, v.Unit))
	}
	for _, a := range rules.Assignments() {
		if a.From <= v.Slot && v.Slot <= a.To {
			out = append(out, fmt.Sprintf("slots %s belong to %s", a.Range, a.Unit))
		}
	}
	return out
}

// formStep says which spellings of a routerId are one.
func formStep(t events.UnitType) string {
	switch f := t.RouterForm(); {
	case f.Fold:
		return "its spellings are one key (form normal), and so are upper and lower case (fold lower)"
	case f.Normal:
		return "its spellings are one key (form normal): decoded, without quotes, composed"
	}
	return "it counts as it was sent (form as-sent), each spelling for itself"
}

// keyed is a unit type, and the key that a routerId has in it.
type keyed struct {
	events.UnitType
	key string
}

// keysIn are the unit types in which an ID can be somebody's. The error is that of the last one if there are none.
func keysIn(types []events.UnitType, id string) (out []keyed, err error) {
	for _, t := range types {
		key, bad := t.Key(id)
		if bad != nil {
			err = bad
			continue
		}
		out = append(out, keyed{t, key})
	}
	if len(out) > 0 {
		return out, nil
	}
	return nil, err
}
