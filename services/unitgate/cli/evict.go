package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

// errSilentEdges: not every edge answered, so what was asked for is done in part.
var errSilentEdges = &events.Error{Code: "silent_edges"}

type evict struct {
	*cli
	routerID, unitType, reason string
}

func (c *cli) addEvict(p parent) {
	e := &evict{cli: c}
	cmd := c.command(p, "evict", "Close one user's sessions, wherever they are", e.run)
	cmd.Flag("router-id", "the user").Required().PlaceHolder("ID").StringVar(&e.routerID)
	cmd.Flag("unit-type", "only those of this unit type; all if not given").PlaceHolder("NAME").StringVar(&e.unitType)
	cmd.Flag("reason", "goes into the logs of the edges").StringVar(&e.reason)
}

// evicted is what `evict -o json` prints.
type evicted struct {
	RouterID    string        `json:"routerId"`
	Sessions    int           `json:"sessions"`    // that are being closed
	Edges       []sessionView `json:"edges"`       // where
	SilentEdges []string      `json:"silentEdges"` // did not answer: sessions there may go on
}

// run asks every edge itself. Nothing changes for the namespace, so nothing goes into its journal: the user may come back
// at once, and is admitted by the same rules. The edges log who asked for it and why.
func (e *evict) run(ctx context.Context) error {
	b, s, err := e.read(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	types := s.UnitTypes
	if e.unitType != "" {
		t, ok := s.UnitType(e.unitType)
		if !ok {
			return events.ErrUnknownUnitType.With("there is no unit type %q", e.unitType).At("unitType")
		}
		types = []events.UnitType{t}
	}
	keys, err := keysIn(types, e.routerID)
	if err != nil {
		return err
	}
	out, why := e.ask(ctx, cutover.NewFleet(b.nc, s.Namespace), s.LiveEdges(), keys)
	if why != nil {
		why = shown{errSilentEdges.With("sessions may go on there: %v", why)}
	}
	if e.json() {
		if err := e.document(out); err != nil {
			return err
		}
		return why
	}
	if len(out.Edges) > 0 {
		t := newTable("UNIT", "EDGE", "UNIT TYPE", "CLOSED")
		for _, v := range out.Edges {
			t.row(v.Unit, v.Edge, v.UnitType, v.Sessions)
		}
		if err := t.write(e.out); err != nil {
			return err
		}
	}
	e.say("closed %d sessions of routerId %s", out.Sessions, e.routerID)
	return why
}

func (e *evict) ask(ctx context.Context, fleet *cutover.Fleet, edges []events.Edge, types []keyed) (evicted, error) {
	out := evicted{RouterID: e.routerID, Edges: []sessionView{}, SilentEdges: []string{}}
	var silent []string
	for _, t := range types {
		q := events.EvictQuestion{UnitType: t.Name, RouterID: t.key, Actor: actor(), Reason: e.reason}
		asked := edges
		edges = nil // those that answer are asked about the next unit type, too
		for _, a := range fleet.Evict(ctx, asked, q) {
			if a.Err != nil {
				out.SilentEdges = append(out.SilentEdges, a.Edge.ID)
				silent = append(silent, a.Err.Error())
				continue
			}
			edges = append(edges, a.Edge)
			if a.Value.Sessions > 0 {
				out.Sessions += a.Value.Sessions
				out.Edges = append(out.Edges, sessionView{Unit: a.Edge.Unit, Edge: a.Edge.ID, UnitType: t.Name, Sessions: a.Value.Sessions})
			}
		}
	}
	if silent != nil {
		return out, fmt.Errorf("%s", strings.Join(silent, "; "))
	}
	return out, nil
}
