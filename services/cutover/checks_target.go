package cutover

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/unitgate/unitgate/events"
)

// The prechecks of the units that gain users: their origins, their room, and a session through each of their edges.

// targetOrigins: the edges of every unit that gains keys reach every origin that the unit has for the unit type's
// domains, and their own probes do not hold it for down. At least one edge of the unit must answer, and each origin must be reached from every edge that answers.
func (p *Preparer) targetOrigins(ctx context.Context, s *events.State, c *events.Cutover) events.Check {
	domains := activeDomains(s, c.UnitType)
	good, total, asked, answered := 0, 0, 0, 0
	var why []string
	for _, unit := range gaining(c) {
		all, without := origins(domains, unit)
		for _, uri := range without {
			why = append(why, fmt.Sprintf("unit %s has no origin for %s: configure one", unit, uri))
		}
		if len(all) == 0 {
			why = append(why, fmt.Sprintf("unit %s has no origin for unit type %s: configure one", unit, c.UnitType))
			continue
		}
		total += len(all)
		edges := edgesOf(s, unit, c.UnitType)
		bad, n := p.probe(ctx, edges, all)
		asked, answered = asked+len(edges), answered+n
		if n == 0 {
			why = append(why, fmt.Sprintf("no edge of unit %s answers: start one", unit))
			continue
		}
		good += len(all) - len(bad)
		for _, o := range slices.Sorted(maps.Keys(bad)) {
			why = append(why, bad[o])
		}
	}
	r := reading{fmt.Sprintf("%d of %d origins, asked by %d of %d edges", good, total, answered, asked), fmt.Sprintf("%d of %d", total, total)}
	if len(why) > 0 {
		return r.fail("%s; then retry", few(why, "; "))
	}
	return r.pass("every origin of the gaining units can be connected to")
}

// probe has edges connect to origins. It returns those that some answering edge did not reach, with the reason, and how
// many edges answered every question.
func (p *Preparer) probe(ctx context.Context, edges []events.Edge, all []string) (bad map[string]string, answered int) {
	bad = map[string]string{}
	mute := map[string]bool{}
	for batch := range slices.Chunk(all, probeBatch) {
		for _, a := range p.fleet.Probe(ctx, edges, batch) {
			if a.Err != nil {
				mute[a.Edge.ID] = true
				continue
			}
			for o, reason := range a.Value.Failed {
				bad[o] = fmt.Sprintf("edge %s does not reach origin %s: %s", a.Edge.ID, o, reason)
			}
		}
	}
	return bad, len(edges) - len(mute)
}

// fullAt is the percentage of a unit's capacity from which on its share of users is worth a warning: they are never
// spread evenly over its edges.
const fullAt = 90

// targetCapacity: every unit that gains keys has room for the sessions that it has and those that come. A unit with an
// edge that takes any number has room.
func (p *Preparer) targetCapacity(ctx context.Context, s *events.State, c *events.Cutover) events.Check {
	state, r, why := events.Pass, reading{}, []string(nil)
	worst := func(to events.CheckState, format string, args ...any) {
		if why = append(why, fmt.Sprintf(format, args...)); state != events.Fail {
			state = to
		}
	}
	for _, unit := range gaining(c) {
		room := p.room(ctx, s, unit, c.UnitType)
		incoming, mute := p.incoming(ctx, s, c, unit)
		want := room.present + incoming
		of := "no limit"
		if !room.unlimited {
			of = fmt.Sprintf("%d", room.capacity)
		}
		r.measured = join(r.measured, fmt.Sprintf("%s: %d present + %d incoming of %s", unit, room.present, incoming, of))
		r.wanted = join(r.wanted, fmt.Sprintf("%s: at most %s", unit, of))
		switch {
		case room.edges == 0:
			worst(events.Fail, "no edge of unit %s answers: start one", unit)
		case !room.unlimited && want > room.capacity:
			worst(events.Fail, "unit %s would have %d sessions more than its edges take: start more of them, or move fewer users", unit, want-room.capacity)
		case !room.unlimited && want*100 > room.capacity*fullAt:
			worst(events.Warn, "unit %s would be more than %d %% full, and some of its edges fuller than others", unit, fullAt)
		}
		if len(room.silent)+len(mute) > 0 {
			worst(events.Warn, "not counted, for they do not answer: %s", few(append(room.silent, mute...), ", "))
		}
	}
	if state != events.Pass {
		return r.check(state, "%s", []any{few(why, "; ")})
	}
	return r.pass("the gaining units have room")
}

func join(list, item string) string {
	if list == "" {
		return item
	}
	return list + ", " + item
}

// room is what the answering edges of a unit carry and can carry.
type room struct {
	edges, present, capacity int
	unlimited                bool
	silent                   []string
}

func (p *Preparer) room(ctx context.Context, s *events.State, unit, unitType string) room {
	var r room
	for _, a := range p.fleet.Status(ctx, edgesOf(s, unit, unitType)) {
		if a.Err != nil {
			r.silent = append(r.silent, a.Edge.ID)
			continue
		}
		r.edges++
		r.capacity += a.Edge.Capacity
		r.unlimited = r.unlimited || a.Edge.Capacity == 0
		for _, n := range a.Value.Sessions {
			r.present += n
		}
	}
	return r
}

// incoming counts the live sessions on the keys that a unit gains, and names losing edges that did not answer.
func (p *Preparer) incoming(ctx context.Context, s *events.State, c *events.Cutover, unit string) (sessions int, mute []string) {
	lost := losses(c.From, c.To, unit)
	edges := slices.DeleteFunc(s.LiveEdges(), func(e events.Edge) bool { _, loses := lost[e.Unit]; return !loses })
	for _, a := range p.fleet.Count(ctx, edges, func(unit string) events.CountQuestion {
		q := lost[unit]
		q.UnitType = c.UnitType
		return q
	}) {
		if a.Err != nil {
			mute = append(mute, a.Edge.ID)
		} else {
			sessions += a.Value.Sessions
		}
	}
	return sessions, mute
}

// edgesOf are the edges of a unit to which a unit type's clients come: those of the clusters that are the effective ones of
// its active domains, of all clusters where no domain says. One that another process has taken over from only serves its
// sessions to their end.
func edgesOf(s *events.State, unit, unitType string) []events.Edge {
	effective := map[string]bool{}
	for _, d := range activeDomains(s, unitType) {
		if u, ok := d.Units[unit]; ok {
			effective[u.Cluster] = true
		}
	}
	return slices.DeleteFunc(s.LiveEdges(), func(e events.Edge) bool {
		return e.Unit != unit || !e.Accepts() || len(effective) > 0 && !effective[e.Cluster]
	})
}

// maxServices bounds the services that are tried at every edge: a domain's URIs often share their origins.
const maxServices = 4 * events.MaxHandshakes

// targetHandshake: through every edge of the gaining units a session reaches an origin of each service and answers a
// ping. It is opened at the edge's own address, as a client's would be, but carries no routerId (R14). An origin that
// answers and lets nobody in without credentials gives a warning, and so does one that opens the session and sends no
// pong, or that is there and closes the connection, as a Socket.IO server does without its parameters: more cannot be
// measured from here. Whether an origin is there at all, target-origins tells.
func (p *Preparer) targetHandshake(ctx context.Context, s *events.State, c *events.Cutover) events.Check {
	var services []events.Service
	for _, d := range activeDomains(s, c.UnitType) {
		for _, u := range d.URIs {
			services = append(services, events.Service{Host: d.Host, Path: u.Path})
		}
	}
	skipped := max(0, len(services)-maxServices)
	services = services[:len(services)-skipped]
	good, total := 0, 0
	var bad, odd []string
	for _, unit := range gaining(c) {
		edges := edgesOf(s, unit, c.UnitType)
		if len(edges) == 0 {
			bad = append(bad, fmt.Sprintf("unit %s has no edge: start one", unit))
		}
		total += len(edges) * len(services)
		for batch := range slices.Chunk(services, events.MaxHandshakes) {
			for _, a := range p.fleet.Handshake(ctx, edges, batch) {
				if a.Err != nil {
					bad = append(bad, a.Err.Error())
					continue
				}
				for _, t := range a.Value.Sessions {
					switch said := fmt.Sprintf("edge %s, %s%s: %s", a.Edge.ID, t.Host, t.Path, t.Failed); {
					case t.Failed == "":
						good++
					case t.Closed, t.Status == 101, t.Status >= 400 && t.Status < 500 && t.Status != 404 && t.Status != 421 && t.Status != 426:
						odd = append(odd, said)
					default:
						bad = append(bad, said)
					}
				}
			}
		}
	}
	r := reading{fmt.Sprintf("%d of %d sessions", good, total), fmt.Sprintf("%d of %d", total, total)}
	switch {
	case len(bad) > 0:
		return r.fail("%s; then retry", few(bad, "; "))
	case len(odd) > 0:
		return r.warn("origins are reached, and a session without credentials is not answered as RFC 6455 has it: %s", few(odd, "; "))
	case len(services) == 0:
		return r.warn("no active domain has unit type %s by default, so that nothing can be tried", c.UnitType)
	case skipped > 0:
		return r.warn("%d more services were not tried", skipped)
	}
	return r.pass("a session through every gaining edge reaches an origin and answers")
}
