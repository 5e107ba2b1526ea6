package cutover

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/unitgate/unitgate/events"
)

// Inquire wants edges asked what they saw of a cutover, and an Inquired.
type Inquire struct {
	Round    uint64 // of this driver's inquiries
	Cutover  string
	Edges    []events.Edge
	Question events.CutoverQuestion
}

func (Inquire) isOutput() {}

// Inquired answers Inquire.
type Inquired struct {
	At
	Round   uint64
	Answers []Witness // of every edge that was asked
}

// Witness is what one edge said of a cutover, with times on the driver's clock.
type Witness struct {
	Edge      events.Edge
	Sent, Got time.Duration // the question left, the answer came
	Silent    bool          // it did not answer: Answer says nothing
	Answer    events.CutoverAnswer
}

// roundTrip is by how much times that the edge told may be wrong on the driver's clock.
func (w *Witness) roundTrip() time.Duration { return w.Got - w.Sent }

// at is when something happened on the driver's clock: as if the edge had answered halfway.
func (w *Witness) at(s events.Sighting) time.Duration {
	return (w.Sent+w.Got)/2 - time.Duration(s.Ago)*time.Microsecond
}

// Witnesses asks edges what they saw of a cutover; clock tells the time of the result.
func (f *Fleet) Witnesses(ctx context.Context, edges []events.Edge, q events.CutoverQuestion, clock func() time.Duration) []Witness {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	out := make([]Witness, len(edges))
	var all sync.WaitGroup
	for i, e := range edges {
		all.Go(func() {
			w := Witness{Edge: e, Sent: clock()}
			w.Silent = f.one(ctx, e, events.AskCutover, message(q), &w.Answer) != nil
			w.Got = clock()
			out[i] = w
		})
	}
	all.Wait()
	return out
}

// passage is what the witnesses together know of the evicted sessions of some fences.
type passage struct {
	compared  int             // of which both sides are known
	landed    int             // of those, back at their new owner
	blackouts []time.Duration // of those that are back, sorted
	within    time.Duration   // the error of each blackout is at most this
}

// laid lays both sides beside each other. Where edges had too many users to remember them all, those are compared that
// all of them remember. Of a user with several sessions the first that came back is paired with the first that was
// evicted, and so on; which of them is which nobody knows, and their mean does not depend on it.
func laid(all []Witness) passage {
	bound := ^uint64(0)
	for _, w := range all {
		if !w.Silent && w.Answer.Known {
			bound = min(bound, w.Answer.Bound)
		}
	}
	var p passage
	left, back := map[uint64][]time.Duration{}, map[uint64][]time.Duration{}
	for i := range all {
		w := &all[i]
		if w.Silent || !w.Answer.Known {
			continue
		}
		gather(left, w, w.Answer.Left, bound)
		gather(back, w, w.Answer.Back, bound)
		if len(w.Answer.Left)+len(w.Answer.Back) > 0 {
			p.within = max(p.within, w.roundTrip())
		}
	}
	for user, gone := range left {
		here := back[user]
		slices.Sort(gone)
		slices.Sort(here)
		p.compared += len(gone)
		for i := range min(len(gone), len(here)) {
			p.landed++
			p.blackouts = append(p.blackouts, max(0, here[i]-gone[i]))
		}
	}
	slices.Sort(p.blackouts)
	return p
}

func gather(into map[uint64][]time.Duration, w *Witness, told []byte, bound uint64) {
	for _, s := range events.Sightings(told) {
		if s.User <= bound {
			into[s.User] = append(into[s.User], w.at(s))
		}
	}
}

// quantile is the nearest-rank quantile of a sorted list, in milliseconds; 0 of an empty one.
func quantile(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*percent + 99) / 100
	return milliseconds(sorted[min(max(rank, 1), len(sorted))-1])
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// inquiry is a question that this driver has put, or is about to put again.
type inquiry struct {
	round   uint64        // of the one under way; 0: none is
	asked   time.Duration // the newest one was sent then
	next    time.Duration // the next one is due then
	gap     time.Duration // from one to the next; grows
	final   bool          // of the newest one: its answer is the last word
	answers []Witness     // to the newest one; valid if heard
	heard   bool
}

// Times of inquiries.
const (
	firstInquiry = 200 * time.Millisecond // after what is inquired about
	maxInquiry   = 2 * time.Second        // between two
	inquiryLimit = 10 * time.Second       // then nobody has answered
)

// inquired takes answers.
func (d *Driver) inquired(in Inquired) {
	for _, q := range d.inquiries {
		if q.round == in.Round && in.Round > 0 {
			q.round, q.answers, q.heard = 0, in.Answers, true
		}
	}
}

// inquire asks edges again and again, with growing pauses, until end, and then a last time. It returns the answers to the
// newest question once they are there, and whether they are the last word.
func (d *Driver) inquire(key inquiryKey, c *events.Cutover, edges []events.Edge, q events.CutoverQuestion, from, end time.Duration) (answers []Witness, final bool) {
	i := d.inquiries[key]
	if i == nil {
		i = &inquiry{next: min(from+firstInquiry, end), gap: firstInquiry}
		d.inquiries[key] = i
	}
	if i.round > 0 && d.now-i.asked >= inquiryLimit { // whoever should have asked has told nothing
		i.round, i.heard, i.answers = 0, true, nil
		for _, e := range edges {
			i.answers = append(i.answers, Witness{Edge: e, Silent: true})
		}
	}
	if i.heard && (i.final || d.now < i.next) {
		return i.answers, i.final
	}
	if i.round > 0 || d.now < i.next {
		return nil, false
	}
	d.rounds++
	i.round, i.asked, i.heard, i.answers = d.rounds, d.now, false, nil
	i.final = d.now >= end
	i.gap = min(2*i.gap, maxInquiry)
	i.next = min(d.now+i.gap, max(end, d.now))
	d.out = append(d.out, Inquire{i.round, c.ID, edges, q})
	return nil, false
}

// inquiryKey says what an inquiry is for.
type inquiryKey struct {
	cutover string
	wave    int // that a gate judges; -1: the cutover's report
}

// fencesOf are the fences under which waves [from, to) of a cutover were committed.
func fencesOf(c *events.Cutover, from, to int) []uint64 {
	var out []uint64
	for _, w := range c.Waves[from:to] {
		out = append(out, w.FenceSeq)
	}
	return out
}

// plain are needed edges as edges, by id.
func plain(needed []events.NeededEdge) []events.Edge {
	out := make([]events.Edge, len(needed))
	for i, e := range needed {
		out[i] = e.Edge
	}
	slices.SortFunc(out, func(a, b events.Edge) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// asks is what a driver remembers of gates and reports, by cutover id.
type asks struct {
	inquiries map[inquiryKey]*inquiry
	commits   map[string]seenCommit
	ends      map[string]time.Duration // this driver first saw the end in office then
	rechecks  map[string]time.Duration // of a way back that failed a precheck: the last ones ran then
	forgotten map[string]bool          // no edge remembers it: there will be no report
}

func newAsks() asks {
	return asks{
		inquiries: map[inquiryKey]*inquiry{}, commits: map[string]seenCommit{}, ends: map[string]time.Duration{},
		rechecks: map[string]time.Duration{}, forgotten: map[string]bool{},
	}
}

// forgetAsks forgets what is over: cutovers that the state does not keep, gates that have judged, reports that are stored.
func (a *asks) forgetAsks(s *events.State) {
	for key := range a.inquiries {
		c, ok := s.Cutovers[key.cutover]
		switch {
		case !ok, key.wave < 0 && c.Report != nil, key.wave >= 0 && (c.State != events.Started || c.Waves[key.wave].Gate != nil):
			delete(a.inquiries, key)
		}
	}
	for id := range a.commits {
		if c, ok := s.Cutovers[id]; !ok || c.State != events.Started {
			delete(a.commits, id) // a resumption gives the whole window again
		}
	}
	for _, m := range []map[string]time.Duration{a.ends, a.rechecks} {
		for id := range m {
			if _, ok := s.Cutovers[id]; !ok {
				delete(m, id)
			}
		}
	}
	for id := range a.forgotten {
		if _, ok := s.Cutovers[id]; !ok {
			delete(a.forgotten, id)
		}
	}
}

// busyWith reports whether this driver has something to do for a cutover that is not started.
func (d *Driver) busyWith(c *events.Cutover) bool {
	return d.calling(c) || d.reports(c) || d.goesBack(c) || d.auto(c)
}
