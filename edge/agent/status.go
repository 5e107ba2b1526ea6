package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/unitgate/unitgate/events"
)

// Status is what an edge says of itself when asked, on `….status` and on its admin listener.
type Status struct {
	events.EdgeReport
	Address     string            `json:"address"`
	Capacity    int               `json:"capacity,omitempty"`
	Installed   uint64            `json:"installed"`   // sequence that every poller decides by; Applied is stored, too
	Joined      bool              `json:"joined"`      // that state holds this edge's own join: it admits sessions (R7)
	Head        uint64            `json:"head"`        // newest sequence that the journal told of
	Staleness   float64           `json:"staleness"`   // as in events.EdgeStatus, in seconds
	Lease       string            `json:"lease"`       // as in events.EdgeStatus
	Connected   bool              `json:"connected"`   // to NATS
	Broken      string            `json:"broken"`      // why the edge does not follow the journal any more; "": it does
	RuleVersion map[string]uint64 `json:"ruleVersion"` // by unit type
	Held        map[string]int    `json:"held"`        // waiting handshakes by unit type
	Victims     map[string]int    `json:"victims"`     // sessions and dials to be closed by unit type
	Down        map[string]string `json:"down"`        // as in events.EdgeStatus
}

// Status says how the edge stands. It asks the journal for its head if no beacon tells it.
func (r *Runner) Status(ctx context.Context) Status {
	asking, cancel := context.WithTimeout(ctx, time.Second)
	r.follower.look(asking)
	cancel()
	head, stale, broken := r.follower.standing(time.Now())
	p := r.shown.Load()
	st := Status{
		EdgeReport: p.report, Address: r.cfg.Advertise, Capacity: r.cfg.Capacity, Head: head,
		Staleness: seconds(stale), Lease: p.lease.left(fromBoot(r.cfg.Clock())), Connected: r.nc.IsConnected(),
		RuleVersion: map[string]uint64{}, Held: map[string]int{}, Victims: map[string]int{},
	}
	st.Sessions, st.Proxied = maps.Clone(p.report.Sessions), maps.Clone(p.report.Proxied)
	if broken != nil {
		st.Broken = broken.Error()
	}
	for t, n := range p.counts {
		st.Held[t], st.Victims[t] = n.Held, n.Victims
	}
	if p.state == nil {
		return st
	}
	st.Down = r.down(p.state)
	st.Installed, st.Joined = p.state.Seq, admits(p.state, r.self)
	for t, rules := range p.state.Rules {
		st.RuleVersion[t] = rules.Version
	}
	return st
}

// down are the origins of this edge's unit that the probes hold for down, with the reason, as many as one question may name.
func (r *Runner) down(s *events.State) map[string]string {
	set := map[string]bool{}
	for _, d := range s.Domains {
		if d.Active == nil {
			continue
		}
		for _, u := range d.Active.URIs {
			if u.Health == nil {
				continue
			}
			for _, o := range u.Origins[r.self.Unit] {
				set[o] = true
			}
		}
	}
	down := r.cfg.Relay.Down(slices.Sorted(maps.Keys(set)))
	for _, o := range slices.Sorted(maps.Keys(down))[min(len(down), events.MaxProbes):] {
		delete(down, o)
	}
	return down
}

// Standing is how the edge stands for whoever asks often: as a Status, but nobody is asked for it.
type Standing struct {
	Namespace                string
	Applied, Installed, Head uint64
	Staleness                time.Duration
	Connected                bool
	Broken                   string
	RuleVersion              map[string]uint64 // by unit type
	LeaseNeeded              bool              // ownership is exclusive
	LeaseLeft                time.Duration     // valid if one is needed; 0: there is none
}

// Standing says how the edge stands.
func (r *Runner) Standing() Standing {
	head, stale, broken := r.follower.standing(time.Now())
	p := r.shown.Load()
	st := Standing{
		Namespace: r.self.Namespace, Applied: p.report.Applied, Head: head, Staleness: stale, Connected: r.nc.IsConnected(),
		RuleVersion: map[string]uint64{}, LeaseNeeded: p.lease.phase != free,
	}
	if now := fromBoot(r.cfg.Clock()); st.LeaseNeeded && p.lease.serving(now) {
		st.LeaseLeft = p.lease.ends.Sub(now)
	}
	if broken != nil {
		st.Broken = broken.Error()
	}
	if p.state == nil {
		return st
	}
	st.Installed = p.state.Seq
	for t, rules := range p.state.Rules {
		st.RuleVersion[t] = rules.Version
	}
	return st
}

func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// Ready tells whether the edge admits sessions: every poller decides by a state that holds its own join, and there is a
// lease if one is needed (R9).
func (r *Runner) Ready() bool {
	p := r.shown.Load()
	return p.state != nil && admits(p.state, r.self) && p.lease.serving(fromBoot(r.cfg.Clock()))
}
