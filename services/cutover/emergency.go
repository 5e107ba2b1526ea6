package cutover

import (
	"fmt"
	"time"

	"github.com/unitgate/unitgate/events"
)

// Silence is how long an edge of a unit that is drained in an emergency may say nothing before the driver does without it:
// three reports that did not come.
const Silence = 3 * events.ReportEvery

// excuse skips, under its own name in the journal, a silent edge of the unit that an emergency drains; the operator who
// declared it gave the reason. That is the recorded exception of G2 under available ownership: an edge that is alive and
// cut off may serve its old users for as long as it does not hear of the fence. Under exclusive ownership nobody is
// skipped, R5's silence decides. It reports whether it wants something.
func (d *Driver) excuse(c *events.Cutover, i int, f *fence, missing []string) bool {
	if !c.Emergency || d.state.Policy.Ownership == "exclusive" {
		return false
	}
	for _, id := range missing {
		last := f.seen // what was not heard before this driver listened counts against no edge
		if v, ok := d.voices[id]; ok {
			last = max(last, v.Heard)
		}
		if d.state.Edges[id].Unit != c.Drain || d.now-last < Silence {
			continue
		}
		d.want(c, wish{"excuse " + id, i, f.seq}, events.SkipCheck{
			Cutover: c.ID, Edge: id, Term: d.office.term,
			Reason: events.Line(fmt.Sprintf("emergency: %s; not heard for %s", c.Reason, (d.now - last).Round(time.Second))),
		})
		return true
	}
	return false
}
