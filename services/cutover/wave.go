package cutover

import (
	"fmt"
	"slices"
	"time"

	"github.com/unitgate/unitgate/events"
)

// rivalWindow is how long a report of another incarnation of an edge casts doubt: a live one is heard in that time.
const rivalWindow = events.ReportEvery + events.ReportEvery/4

// Voice is the newest report of one edge, with times on the owner's clock.
type Voice struct {
	events.EdgeReport
	Heard time.Duration // when it came
	Rival time.Duration // when another incarnation of this edge was last heard; valid if Rivals
	// Rivals reports whether there was another incarnation at all.
	Rivals bool
	// Held is L of the lease that it said to hold when it last asked for one, 0: none; HeldAt what it had applied then.
	Held   events.Duration
	HeldAt uint64
	// Nonce is that of the newest lease request heard of this incarnation; older ones are late, or sent once more by
	// another process.
	Nonce uint64
}

// Doubtful reports whether two processes have spoken under this edge's id a moment ago. Then neither counts: after a
// restart the old one falls silent by itself, and a cloned state directory (R7 forbids it) blocks until one is stopped.
func (v *Voice) Doubtful(now time.Duration) bool { return v.Rivals && now-v.Rival < rivalWindow }

// authentic reports whether what came in an edge's name is the edge's: signed by the key that the journal holds of it.
// An edge whose directory is of a version without signatures may come without one until it has signed once, or the
// operator has ended that (SignaturesRequired).
func (d *Driver) authentic(e events.Edge, signer string) bool {
	k, ok := d.keys[e.ID]
	if !ok || k.key != e.Key {
		k = signingKey{key: e.Key, signer: e.Signer()}
	}
	own := signer != "" && signer == k.signer
	k.used = k.used || own
	d.keys[e.ID] = k
	return own || signer == "" && !e.Signs() && d.cfg.Signatures != events.SignaturesRequired && !k.used
}

// signingKey is what the driver knows of an edge's key.
type signingKey struct {
	key    string // Edge.Key
	signer string // Edge.Signer, which takes a while to compute
	used   bool   // this driver has heard something that is signed by it
}

// hear takes a report. Those of another journal, of edges that the journal does not know, of a process that has an edge's
// id and another state directory (R7), those that are not signed by the edge's key, and those that are older than what
// the same process has said already, or sent once more, say nothing: then it is false.
func (d *Driver) hear(r events.EdgeReport, signer string) bool {
	if d.state == nil || r.Namespace != d.state.Namespace || r.Epoch != d.cfg.Epoch {
		return false
	}
	if e, ok := d.state.Edges[r.Edge]; !ok || e.Gone != "" || e.Unit != r.Unit || e.Directory != r.Directory || !d.authentic(e, signer) {
		return false
	}
	v, known := d.voices[r.Edge]
	switch {
	case known && v.Incarnation == r.Incarnation && (r.Applied < v.Applied || r.Serial > 0 && r.Serial <= v.Serial):
		return false
	case known && v.Incarnation != r.Incarnation:
		v = Voice{Rival: v.Heard, Rivals: true}
	}
	r.Serial = max(r.Serial, v.Serial) // a lease request has none
	v.EdgeReport, v.Heard = r, d.now
	d.voices[r.Edge] = v
	return true
}

// Voice is what an edge last said, if it was heard.
func (d *Driver) Voice(edge string) (Voice, bool) {
	v, ok := d.voices[edge]
	return v, ok
}

// judge says what an edge's newest report is worth for the fence under which wave i of c stands, and whether that is
// enough for the commit.
//
// R5: applied and drained are two reports; a losing edge needs both. R6: the report names the fence's own sequence, so
// that one from before it, or of a fence that was lifted meanwhile (R11), does not count. R8: a gaining edge must have
// applied the fence too. An operator's recorded skip stands for the report.
func judge(c *events.Cutover, i int, e events.NeededEdge, r *events.EdgeReport) (res events.EdgeResult, done bool) {
	w := c.Waves[i]
	res = events.EdgeResult{ID: e.ID, Unit: e.Unit}
	if r != nil {
		res.Applied = r.Applied
		for _, f := range r.Fences {
			if f.Cutover == c.ID && f.Wave == i && f.Fence == w.FenceSeq {
				res.Fence, res.Drained, res.Evicted = f.Fence, f.Drained, f.Evicted
			}
		}
	}
	_, res.Skipped = w.SkipEdges[e.ID]
	return res, res.Skipped || !e.Awaited && res.Applied >= w.FenceSeq && (res.Drained || !e.Loses)
}

// fence is what the driver remembers of a fence that it waits for.
type fence struct {
	seq    uint64        // of the WaveFenced
	seen   time.Duration // this driver first saw it in office then
	edges  map[string]*progress
	of     *events.State // the state that needed was made from
	needed []events.NeededEdge
}

// progress is how far a needed edge has come.
type progress struct {
	result events.EdgeResult
	when   time.Duration // of the last step forward
}

// rest is the time between a commit and the next fence.
type rest struct {
	next int           // wave that waits
	from time.Duration // this driver first saw the commit, or the resumption, in office then
}

// resting reports whether the cutover's interval has still to pass before its next wave. A successor, and a resumption,
// begin it anew: an operator who looks between two waves has the whole of it.
func (d *Driver) resting(c *events.Cutover, next int) bool {
	if c.Interval == 0 || next == 0 || next == len(c.Waves) {
		return false
	}
	r, ok := d.rests[c.ID]
	if !ok || r.next != next {
		r = rest{next, d.now}
		d.rests[c.ID] = r
	}
	return d.now-r.from < time.Duration(c.Interval)
}

// await commits a fenced wave once every needed edge has reported, or gives it up.
func (d *Driver) await(c *events.Cutover, i int) {
	w := c.Waves[i]
	f := d.fences[c.ID]
	if f == nil || f.seq != w.FenceSeq {
		f = &fence{seq: w.FenceSeq, seen: d.now, edges: map[string]*progress{}}
		d.fences[c.ID] = f
	}
	if f.of != d.state { // NeededEdges costs as much as there are slots
		f.of, f.needed = d.state, d.state.NeededEdges(c, i) // R7: from the journal, never from presence
	}
	results := make([]events.EdgeResult, 0, len(f.needed))
	var late, missing []string
	for _, e := range f.needed {
		res, done := d.weigh(c, i, f, e)
		results = append(results, res)
		if done {
			continue
		}
		missing = append(missing, e.ID)
		if d.now-f.edges[e.ID].when >= d.patience() {
			late = append(late, e.ID)
		}
	}
	limit := d.patience() + 2*expectedEviction(c)
	if d.exclusive() { // it may be the last moment that an edge fell silent
		limit += time.Duration(d.state.Exclusive.Lease) + d.cfg.LeaseMargin
	}
	switch deserted := d.state.Deserted(c, i); {
	case len(deserted) > 0: // the last edges were retired in mid-wave: its users go back to where they are served
		d.giveUp(c, i, fmt.Sprintf("unit %s has no edge left to serve its new users", few(deserted, ", ")))
	case len(missing) == 0:
		d.want(c, wish{"commit", i, f.seq}, events.CommitWave{Cutover: c.ID, Wave: i, Term: d.office.term, Edges: results})
	case d.excuse(c, i, f, missing):
	case len(late) > 0:
		d.giveUp(c, i, fmt.Sprintf("no progress for %s at edge %s", d.patience(), few(late, ", ")))
	case d.now-f.seen >= limit:
		d.giveUp(c, i, fmt.Sprintf("not drained %s after the fence: edge %s", limit, few(missing, ", ")))
	}
}

// patience is how long one edge may show no progress on a fence, see Driver.
func (d *Driver) patience() time.Duration {
	if !d.exclusive() {
		return d.cfg.Patience
	}
	return max(d.cfg.Patience, time.Duration(d.state.Exclusive.Lease)+d.cfg.LeaseMargin+silenceSlack)
}

// weigh judges one edge's voice and notes its progress. R5: silence stands for both reports; nothing else does for an
// edge that was retired (R7).
func (d *Driver) weigh(c *events.Cutover, i int, f *fence, e events.NeededEdge) (events.EdgeResult, bool) {
	var r *events.EdgeReport
	if v, ok := d.voices[e.ID]; ok && !v.Doubtful(d.now) {
		r = &v.EdgeReport
	}
	res, done := judge(c, i, e, r)
	if !done && d.exclusive() && d.silentIn(e.ID) <= 0 {
		res.Silent, done = true, true
	}
	p := f.edges[e.ID]
	if p == nil {
		p = &progress{when: d.now}
		f.edges[e.ID] = p
	}
	if r != nil {
		was := p.result
		if res.Applied >= f.seq && was.Applied < f.seq || res.Drained && !was.Drained || res.Evicted > was.Evicted {
			p.when = d.now
		}
		p.result = res
	}
	return res, done
}

// giveUp pauses a cutover whose fence waits for too long: pausing lifts the fence (R11), a later one is a new fence.
func (d *Driver) giveUp(c *events.Cutover, i int, why string) {
	d.want(c, wish{"pause", i, c.Waves[i].FenceSeq}, events.PauseCutover{
		Cutover: c.ID, Term: d.office.term, Code: "deadline",
		Reason: events.Line(fmt.Sprintf("wave %d was unfenced: %s", i, why)),
	})
}

// expectedEviction is how long a cutover's evictions take at most: all the sessions that the preview counted on one
// edge, at the cutover's rate.
func expectedEviction(c *events.Cutover) time.Duration {
	if c.Rate == 0 {
		return 0
	}
	return time.Duration(c.Counted.Sessions) * time.Second / time.Duration(c.Rate)
}

// waitingFor are the edges without whose report the fenced wave i of c cannot be committed.
func waitingFor(s *events.State, c *events.Cutover, i int, voices map[string]Report) []string {
	out := []string{}
	for _, e := range s.NeededEdges(c, i) {
		var r *events.EdgeReport
		if v, ok := voices[e.ID]; ok && !v.Doubtful {
			r = &v.EdgeReport
		}
		if _, done := judge(c, i, e, r); !done {
			out = append(out, e.ID)
		}
	}
	slices.Sort(out)
	return out
}
