package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

// rulesAt says of which rules `rules diff` speaks: those of a version, or those in force at a point in history, which is the
// head by default. Waves of a running cutover are not counted: its rules are in force once it is completed.
type rulesAt struct {
	version uint64 // 0: the point counts
	point   reader.Point
}

func (a *rulesAt) String() string {
	if a.version > 0 {
		return "v" + strconv.FormatUint(a.version, 10)
	}
	return a.point.String()
}

// Set reads v3, 42 or a time.
func (a *rulesAt) Set(s string) error {
	if v, ok := strings.CutPrefix(s, "v"); ok {
		if n, err := strconv.ParseUint(v, 10, 64); err == nil && n > 0 {
			a.version = n
			return nil
		}
	}
	p, err := reader.ParsePoint(s)
	if err != nil {
		return fmt.Errorf("%q: want a version of the rules (v2), a sequence (42) or a time (2026-01-31T12:00:00Z)", s)
	}
	a.point = p
	return nil
}

type rulesDiff struct {
	*cli
	from, to rulesAt
	unitType string
}

func (c *cli) addRules(p parent) {
	d := &rulesDiff{cli: c}
	group := p.Command("rules", "Rules in the course of time")
	cmd := c.command(group, "diff", "Show what changed its owner between two sets of rules", d.run)
	cmd.Arg("from", "v2 (a version), 42 (a sequence) or a time").Required().SetValue(&d.from)
	cmd.Arg("to", "likewise; now if not given").SetValue(&d.to)
	cmd.Flag("unit-type", "unit type; the first one if not given").PlaceHolder("NAME").StringVar(&d.unitType)
}

// ruleSide is one side of a comparison.
type ruleSide struct {
	Version uint64 `json:"version"`
	Seq     uint64 `json:"seq"`               // up to which the journal was read
	Cutover string `json:"cutover,omitempty"` // one was running then
	rules   *routing.Rules
}

// diffView has the names of a cutover's preview.
type diffView struct {
	UnitType   string              `json:"unitType"`
	From       ruleSide            `json:"from"`
	To         ruleSide            `json:"to"`
	Moves      []routing.Move      `json:"moves"`
	ExactMoves []routing.ExactMove `json:"exactMoves"` // the first routing.MaxShown
	ExactCount int                 `json:"exactCount"` // exact IDs that move
	Slots      int                 `json:"slots"`
	Diff       string              `json:"diff"`
}

func (d *rulesDiff) run(ctx context.Context) error {
	b, r, err := d.history(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	v := diffView{}
	if v.UnitType, v.From, err = d.side(ctx, r, d.from); err != nil {
		return err
	}
	d.unitType = v.UnitType // the default one may be another at the other side
	if v.UnitType, v.To, err = d.side(ctx, r, d.to); err != nil {
		return err
	}
	if v.From.rules.Slots() != v.To.rules.Slots() {
		return events.ErrBadSlots.With("there were %d slots, and %d later: they cannot be compared", v.From.rules.Slots(), v.To.rules.Slots())
	}
	diff := routing.Compare(v.From.rules, v.To.rules)
	v.Moves, v.ExactMoves, v.ExactCount, v.Slots = append([]routing.Move{}, diff.Moves...), diff.ExactMoves(routing.MaxShown), diff.Exact.Len(), diff.Slots()
	v.Diff = routing.DiffText(v.From.rules, v.To.rules)
	if d.json() {
		return d.document(v)
	}
	d.text(v)
	return nil
}

// side finds the rules of one side.
func (d *rulesDiff) side(ctx context.Context, r *reader.Reader, a rulesAt) (unitType string, side ruleSide, err error) {
	var s *events.State
	if a.version > 0 {
		s, err = r.When(ctx, func(s *events.State) bool {
			t, _ := s.UnitType(d.unitType)
			return s.Rules[t.Name].Version >= a.version
		})
	} else {
		s, err = r.At(ctx, a.point)
	}
	if err != nil {
		return "", side, err
	}
	t, ok := s.UnitType(d.unitType)
	if !ok {
		return "", side, events.ErrUnknownUnitType.With("there is no unit type %q at sequence %d", d.unitType, s.Seq)
	}
	set, ok := s.Rules[t.Name]
	switch {
	case a.version > 0 && set.Version != a.version:
		return "", side, reader.ErrBeyondHead.With("rules of %s have no version %d yet: the newest one is %d", t.Name, a.version, set.Version)
	case !ok:
		return "", side, events.ErrNoRules.With("unit type %q has no rules at sequence %d", t.Name, s.Seq)
	}
	side = ruleSide{Version: set.Version, Seq: s.Seq, rules: set.Current}
	if c, ok := s.Running(t.Name); ok {
		side.Cutover = c.ID
	}
	return t.Name, side, nil
}

func (d *rulesDiff) text(v diffView) {
	d.say("rules of %s: version %d (sequence %d) -> version %d (sequence %d)", v.UnitType, v.From.Version, v.From.Seq, v.To.Version, v.To.Seq)
	for _, side := range []ruleSide{v.From, v.To} {
		if side.Cutover != "" {
			d.say("  at %d, cutover %s was running: see unitgate route ID --at %d", side.Seq, side.Cutover, side.Seq)
		}
	}
	if len(v.Moves)+v.ExactCount == 0 {
		d.say("  nothing has another owner")
	}
	for _, m := range v.Moves {
		d.say("  %d-%d from %s to %s", m.From, m.To, m.Source, m.Target)
	}
	for _, m := range v.ExactMoves {
		d.say("  exact %s from %s to %s", m.ID, m.Source, m.Target)
	}
	if more := v.ExactCount - len(v.ExactMoves); more > 0 {
		d.say("  and %d more exact IDs", more)
	}
	for line := range strings.Lines(v.Diff) {
		d.say("    %s", strings.TrimRight(line, "\n"))
	}
}
