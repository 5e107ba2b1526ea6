package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

type edgeView struct {
	ID        string  `json:"id"`
	Unit      string  `json:"unit"`
	Cluster   string  `json:"cluster"`
	Address   string  `json:"address"`
	Applied   uint64  `json:"applied"` // sequence by which the edge decides; 0: it does not answer
	Head      uint64  `json:"head"`    // of the journal
	StateHash string  `json:"stateHash"`
	Staleness float64 `json:"staleness"` // seconds since the edge last knew that it was at the head; 0 too if it does not answer
	Live      bool    `json:"live"`      // it answers
	Sessions  int     `json:"sessions"`
	Lease     string  `json:"lease"`           // seconds for which it may serve; "0": it may not; "": it needs no lease, or does not answer
	Signed    bool    `json:"signed"`          // what it says counts under its signature only
	Error     string  `json:"error,omitempty"` // why it does not answer, or does not follow the journal any more
}

// members are the edges of a moment in the past, as the journal knows them.
func (g *get) members(s *events.State) error {
	return show(g, s.LiveEdges(), func(e events.Edge) string { return e.ID }, events.ErrUnknownEdge, []string{"ID", "UNIT", "CLUSTER", "ADDRESS", "JOINED"},
		func(e events.Edge) []any { return []any{e.ID, e.Unit, e.Cluster, e.Address, e.Joined} })
}

// edges asks every registered edge how it is.
func (g *get) edges(ctx context.Context, b *bus, s *events.State) error {
	var list []edgeView
	for _, a := range cutover.NewFleet(b.nc, s.Namespace).Status(ctx, s.LiveEdges()) {
		v := edgeView{ID: a.Edge.ID, Unit: a.Edge.Unit, Cluster: a.Edge.Cluster, Address: a.Edge.Address, Head: s.Seq, Signed: a.Edge.Signs()}
		if a.Err != nil {
			v.Error = a.Err.Error()
		} else {
			v.Live, v.Applied, v.StateHash = true, a.Value.Applied, a.Value.StateHash
			v.Head, v.Staleness, v.Error = max(v.Head, a.Value.Head), a.Value.Staleness, a.Value.Broken
			v.Lease = a.Value.Lease
			for _, n := range a.Value.Sessions {
				v.Sessions += n
			}
		}
		list = append(list, v)
	}
	head := []string{"ID", "UNIT", "CLUSTER", "ADDRESS", "LIVE", "APPLIED", "STALE", "SESSIONS"}
	leased := s.Policy.Ownership == "exclusive"
	if leased {
		head = append(head, "LEASE")
	}
	return show(g, list, func(e edgeView) string { return e.ID }, events.ErrUnknownEdge, head,
		func(e edgeView) []any {
			stale := "-"
			if e.Live {
				stale = time.Duration(e.Staleness * float64(time.Second)).Round(100 * time.Millisecond).String()
			}
			row := []any{e.ID, e.Unit, e.Cluster, e.Address, yesNo(e.Live), fmt.Sprintf("%d/%d", e.Applied, e.Head), stale, e.Sessions}
			if leased {
				row = append(row, leaseText(e.Lease))
			}
			return row
		})
}

// leaseText is for how long an edge may serve.
func leaseText(seconds string) string {
	switch seconds {
	case "":
		return "-"
	case "0":
		return "none"
	}
	return seconds + "s"
}

// findings are what the edges say that admit sessions now, if it is now that is asked about and somebody probes at all.
func (g *get) findings(ctx context.Context, b *bus, s *events.State) []cutover.Answer[events.EdgeStatus] {
	probed := slices.ContainsFunc(domainViews(s), func(d domainView) bool {
		return d.Active != nil && slices.ContainsFunc(d.Active.URIs, func(u events.URI) bool { return u.Health != nil && u.Health.Probe != "none" })
	})
	if past(g.at) || !probed {
		return nil
	}
	edges := slices.DeleteFunc(s.LiveEdges(), func(e events.Edge) bool { return !e.Accepts() })
	answers := cutover.NewFleet(b.nc, s.Namespace).Status(ctx, edges)
	for _, a := range answers {
		g.silent(a.Err)
	}
	return answers
}

// probesSay is what the probes of a unit's edges find of an origin, and why it is down. Edges of versions before say nothing.
func probesSay(answers []cutover.Answer[events.EdgeStatus], unit, origin string) (state, why string) {
	asked, down := 0, 0
	for _, a := range answers {
		if a.Err != nil || a.Edge.Unit != unit || a.Value.Down == nil {
			continue
		}
		asked++
		if reason, is := a.Value.Down[origin]; is {
			down++
			why = cmp.Or(why, a.Edge.ID+": "+reason)
		}
	}
	switch {
	case asked == 0:
		return "", ""
	case down == 0:
		return "up", ""
	case down == asked:
		return "down", why
	}
	return fmt.Sprintf("down at %d of %d edges", down, asked), why
}

type sessionView struct {
	Unit     string `json:"unit"`
	Edge     string `json:"edge"`
	UnitType string `json:"unitType"`
	Sessions int    `json:"sessions"`
	Proxied  int    `json:"proxied"` // passed on to edges of other units, which count them as sessions
}

// sessions counts live sessions by edge and unit type: all of them, or those of one routerId.
func (g *get) sessions(ctx context.Context, b *bus, s *events.State) error {
	fleet, edges := cutover.NewFleet(b.nc, s.Namespace), s.LiveEdges()
	if g.name != "" {
		edges = slices.DeleteFunc(edges, func(e events.Edge) bool { return e.ID != g.name })
		if len(edges) == 0 {
			return events.ErrUnknownEdge.With("there is no edge %q: see get edges", g.name)
		}
		g.name = ""
	}
	var list []sessionView
	if g.routerID == "" {
		for _, a := range fleet.Status(ctx, edges) {
			g.silent(a.Err)
			for _, ut := range slices.Sorted(maps.Keys(a.Value.Sessions)) {
				list = append(list, sessionView{a.Edge.Unit, a.Edge.ID, ut, a.Value.Sessions[ut], a.Value.Proxied[ut].Sessions})
			}
		}
	} else {
		types, err := keysIn(s.UnitTypes, g.routerID)
		if err != nil {
			return err
		}
		for _, ut := range types {
			q := events.CountQuestion{UnitType: ut.Name, RouterID: ut.key}
			for _, a := range fleet.Count(ctx, edges, func(string) events.CountQuestion { return q }) {
				g.silent(a.Err)
				if a.Value.Sessions+a.Value.Proxied > 0 {
					list = append(list, sessionView{a.Edge.Unit, a.Edge.ID, ut.Name, a.Value.Sessions, a.Value.Proxied})
				}
			}
		}
	}
	return show(g, list, nil, nil, []string{"UNIT", "EDGE", "UNIT TYPE", "SESSIONS", "PROXIED"},
		func(v sessionView) []any { return []any{v.Unit, v.Edge, v.UnitType, v.Sessions, v.Proxied} })
}

// silent warns that an answer is incomplete.
func (g *get) silent(err error) {
	if err != nil {
		fmt.Fprintf(g.err, "unitgate: not counted: %v\n", err)
	}
}
