package cutover

import (
	"cmp"
	"slices"
	"time"

	"github.com/unitgate/unitgate/events"
)

// reportUsers is how many users each edge tells of for a report.
const reportUsers = 8192

// report makes the report of a cutover that has moved somebody and has ended, once its users had time to come back: when
// all that are compared are back, at the latest the gate's window, or DefaultGateWindow, after the end. It is made at once when the next
// cutover of the unit type runs, for edges count for one at a time. A driver that takes over asks as this one would: what
// the report is made of stands with the edges.
func (d *Driver) report(c *events.Cutover) {
	if !d.reports(c) {
		return
	}
	from, ok := d.ends[c.ID]
	if !ok {
		from = d.now
		d.ends[c.ID] = from
	}
	end := from + time.Duration(cmp.Or(c.Gate.Window, events.DefaultGateWindow))
	if f, ok := d.state.InForce(c.UnitType); !ok || f.ID != c.ID {
		end = from
	}
	answers, final := d.inquire(inquiryKey{c.ID, -1}, c, d.state.LiveEdges(), events.CutoverQuestion{
		Cutover: c.ID, UnitType: c.UnitType, Fences: fencesOf(c, 0, c.NextWave()), Users: reportUsers,
	}, from, end)
	if answers == nil {
		return
	}
	known := slices.ContainsFunc(answers, func(w Witness) bool { return !w.Silent && w.Answer.Known })
	if !known { // it ended long ago: nobody remembers it, and a report would be made up
		d.forgotten[c.ID] = d.forgotten[c.ID] || final
		return
	}
	rep := reportOf(d.state, c, answers)
	if final || rep.NotSeen == 0 && len(rep.Silent) == 0 {
		d.want(c, wish{"report", 0, 0}, events.ReportCutover{Cutover: c.ID, Term: d.office.term, Report: rep})
	}
}

// reports reports whether a cutover's report is still to be made.
func (d *Driver) reports(c *events.Cutover) bool {
	return c.State.Ended() && c.NextWave() > 0 && c.Report == nil && !d.forgotten[c.ID]
}

// reportOf is the report that the witnesses make together. What the journal knows of evictions counts where an edge has
// forgotten.
func reportOf(s *events.State, c *events.Cutover, answers []Witness) events.CutoverReport {
	evicted, sides := map[string]int{}, map[string]bool{}
	edges := map[string]events.ReportedEdge{}
	for _, w := range c.Waves[:c.NextWave()] {
		for _, r := range w.Results {
			evicted[r.ID] += r.Evicted
			sides[r.Unit] = true
			edges[r.ID] = events.ReportedEdge{ID: r.ID, Unit: r.Unit, Evicted: evicted[r.ID]}
		}
	}
	var rep events.CutoverReport
	for _, w := range answers {
		e := events.ReportedEdge{ID: w.Edge.ID, Unit: w.Edge.Unit, Evicted: evicted[w.Edge.ID]}
		// An edge that joined after the first fence has missed nothing.
		if w.Silent || !w.Answer.Known || !w.Answer.Whole && w.Edge.Joined < c.Waves[0].FenceSeq {
			rep.Silent = append(rep.Silent, w.Edge.ID)
		}
		if !w.Silent && w.Answer.Known {
			e.Evicted, e.Landed = max(e.Evicted, w.Answer.Evicted), w.Answer.Landed
			rep.Untouched.Add(w.Answer.Untouched)
		}
		if sides[e.Unit] {
			edges[e.ID] = e
		}
	}
	for _, e := range edges {
		rep.Evicted, rep.Landed = rep.Evicted+e.Evicted, rep.Landed+e.Landed
		rep.Edges = append(rep.Edges, e)
		if _, live := s.Edges[e.ID]; !live || s.Edges[e.ID].Gone != "" {
			rep.Silent = append(rep.Silent, e.ID)
		}
	}
	slices.SortFunc(rep.Edges, func(a, b events.ReportedEdge) int { return cmp.Compare(a.ID, b.ID) })
	slices.Sort(rep.Silent)
	rep.Untouched.Judge()
	p := laid(answers)
	rep.Compared, rep.NotSeen = p.compared, p.compared-p.landed
	rep.Blackout = events.Blackout{
		Samples: len(p.blackouts), P50: quantile(p.blackouts, 50), P99: quantile(p.blackouts, 99), Within: milliseconds(p.within),
	}
	return rep
}
