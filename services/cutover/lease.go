package cutover

import (
	"time"

	"github.com/unitgate/unitgate/events"
)

// tenure is what a driver has granted while it has been in office: what R5's silence is measured by. A term's tenure
// goes on through a moment in which the own term had run out and was renewed: the renewal proves that nobody else held
// the office in between, and this driver granted nothing then.
type tenure struct {
	term  uint64
	since time.Duration            // this driver first served in the term then
	given map[string]time.Duration // its last grant to an edge, by id
}

// enter begins a tenure with a new term. Nothing is known of what the driver before granted until the end of its own.
func (d *Driver) enter() {
	if d.Serving() && d.tenure.term != d.office.term {
		d.tenure = tenure{term: d.office.term, since: d.now, given: map[string]time.Duration{}}
	}
}

// granting reports whether leases may be granted in this journal at all.
//
// A journal that is restored or made anew knows nothing of the leases that were granted under the one before, and an edge
// that is cut off goes on by such a lease and by that journal's rules. So nothing is granted in a new epoch until a
// driver was in office there for L+m: then every lease of an earlier epoch has ended, since no driver of that one could
// be in office meanwhile. The office key keeps that this was so, and every later holder hands it on: a successor in the
// same epoch grants at once, and a journal that takes the place of this one, be it an old one again, waits anew.
func (d *Driver) granting() bool {
	return d.office.key.Epoch == d.cfg.Epoch || d.Serving() && d.tenure.term == d.office.term && d.now >= d.tenure.since+d.longest()+d.cfg.LeaseMargin
}

// longest is the longest lease that may run, as far as this journal knows (R13).
func (d *Driver) longest() time.Duration {
	return time.Duration(max(d.state.Exclusive.Lease, d.state.Policy.Lease))
}

// GrantsIn is how long this driver has to be in office still before it grants leases, because its journal is a new one; 0
// when it does, or is not in office.
func (d *Driver) GrantsIn() time.Duration {
	if !d.Serving() || d.granting() || d.state.Policy.Ownership != "exclusive" {
		return 0
	}
	return d.tenure.since + d.longest() + d.cfg.LeaseMargin - d.now
}

// asked answers an edge's request for a lease, and hears its report (R6).
//
// R1: only the driver in office answers, which asks its own term first and has read its taking office back. It is no harm
// if the answer leaves this process much later: the lease runs from before the request was sent (R2), and a successor
// grants the edge's keys to nobody before L+m of its own time in office are over (R5).
func (d *Driver) asked(in Asked) {
	r := &in.Request
	if v, ok := d.voices[r.Edge]; ok && v.Incarnation == r.Incarnation && r.Nonce <= v.Nonce {
		return // R2: only the newest one counts; this is late, or sent once more
	}
	heard := d.hear(r.EdgeReport, in.Signer)
	if heard {
		v := d.voices[r.Edge]
		v.Held, v.HeldAt, v.Nonce = r.Held, r.Applied, r.Nonce
		d.voices[r.Edge] = v
	}
	if !d.Serving() || r.Namespace != d.state.Namespace || r.Epoch != d.cfg.Epoch {
		return
	}
	a := events.LeaseAnswer{
		Namespace: r.Namespace, Epoch: r.Epoch, Edge: r.Edge, Incarnation: r.Incarnation, Nonce: r.Nonce, Term: d.office.term,
	}
	if a.Refused = d.refusal(r, in.Signer); a.Refused == nil && !heard {
		return // overtaken by what the same process has said since
	}
	switch {
	case a.Refused == nil:
		a.Lease = d.state.Policy.Lease
		d.enter()
		d.tenure.given[r.Edge] = d.now
	case a.Refused.Code == events.ErrBehind.Code:
		a.Needs = d.state.Exclusive.Needs()
	case a.Refused.Code == events.ErrWrongState.Code:
		a.Needs = d.state.Seq // by then it has read that no lease is needed
	}
	d.out = append(d.out, AnswerLease{in.Reply, a})
}

// refusal says why an edge gets no lease, nil if it gets one.
//
// R4: only an edge that has applied the newest fence, whatever became of it; R7: only a registered edge, from its own
// state directory, by its own signature, and none while two processes speak under its id. R5: that it has not drained is no reason.
func (d *Driver) refusal(r *events.LeaseRequest, signer string) *events.Error {
	s := d.state
	e, ok := s.Edges[r.Edge]
	v := d.voices[r.Edge]
	switch {
	case s.Policy.Ownership != "exclusive":
		return events.ErrWrongState.With("ownership is %s: an edge needs no lease", s.Policy.Ownership)
	case !ok || e.Unit != r.Unit:
		return events.ErrUnknownEdge.With("edge %q has not joined unit %q", r.Edge, r.Unit)
	case e.Gone != "":
		return events.ErrEdgeGone.With("edge %q has %s", r.Edge, e.Gone)
	case e.Directory != r.Directory:
		return events.ErrEdgeElsewhere.With("edge %q has another state directory", r.Edge)
	case !d.authentic(e, signer):
		return events.ErrBadSignature.With("edge %q speaks by its signature, and this has none of its key", r.Edge)
	case v.Doubtful(d.now):
		return events.ErrTwoProcesses.With("another process has spoken as edge %q a moment ago: after a restart this passes by itself", r.Edge)
	case r.Applied < s.Exclusive.Needs():
		return events.ErrBehind.With("edge %q has applied %d and a lease needs %d", r.Edge, r.Applied, s.Exclusive.Needs())
	case !d.granting():
		return events.ErrNewEpoch.With("the journal is a new one, and leases of an earlier one may run: none is granted for another %s", d.GrantsIn().Round(time.Second))
	}
	return nil
}

// silentIn is how long it takes until an edge's last lease has surely run out if it is granted none any more; 0 or less:
// it has (R5). It counts on this driver's own clock, from the later of its last grant to the edge and its taking office,
// with the longest lease that may run (R13), and never from the time of an event. Valid while serving.
func (d *Driver) silentIn(edge string) time.Duration {
	from := max(d.tenure.since, d.tenure.given[edge])
	return from + time.Duration(d.state.Exclusive.Lease) + d.cfg.LeaseMargin - d.now
}

// exclusive reports whether silence stands for a report: exclusive ownership counts (R13).
func (d *Driver) exclusive() bool {
	return d.state.Policy.Ownership == "exclusive" && d.state.Exclusive.Counts()
}

// Silence is, by id, how long it takes until an edge is silent if it is granted nothing any more, 0 or less if it is: of
// every edge that a wave may need, registered, or retired and waited for. Nil unless this driver may commit by silence.
func (d *Driver) Silence() map[string]time.Duration {
	if !d.Serving() || !d.exclusive() {
		return nil
	}
	out := map[string]time.Duration{}
	for id, e := range d.state.Edges {
		if e.Gone == "" || e.Awaited {
			out[id] = d.silentIn(id)
		}
	}
	return out
}

// establish makes exclusive ownership count once every registered edge has said that it holds a lease of the policy in
// force: from then on none serves without one (R13).
func (d *Driver) establish() {
	s := d.state
	if s.Policy.Ownership != "exclusive" || s.Exclusive.Counts() || len(d.Unleased()) > 0 {
		return
	}
	d.wantAs("ownership", "", wish{"establish", 0, s.Exclusive.Since}, events.EstablishOwnership{Term: d.office.term, Since: s.Exclusive.Since})
}

// Unleased are the registered edges that have not said yet that they hold a lease of the policy in force, by id.
func (d *Driver) Unleased() []string {
	var out []string
	s := d.state
	for _, e := range s.LiveEdges() {
		v, ok := d.voices[e.ID]
		if !ok || v.Held == 0 || v.Held > s.Policy.Lease || v.HeldAt < s.Exclusive.Since || v.Doubtful(d.now) {
			out = append(out, e.ID)
		}
	}
	return out
}
