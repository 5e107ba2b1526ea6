package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

// clusterView is a cluster with its members as they are at this moment.
type clusterView struct {
	events.Cluster
	LoadBalancers []string     `json:"loadBalancers"` // ids of those that stand before it
	Members       []memberView `json:"members"`
	Capacity      int          `json:"capacity"` // most sessions of the members that take new ones; 0: one of them has no limit, or there is none
	Sessions      int          `json:"sessions"` // of the members that answer
	Versions      []string     `json:"versions"` // of their binaries, each once
	SilentEdges   []string     `json:"silentEdges"`
}

// memberView is one edge of a cluster.
type memberView struct {
	ID       string `json:"id"`
	Address  string `json:"address"`  // "": another process has taken over its listeners
	Version  string `json:"version"`  // of its binary; "": it does not say
	Capacity int    `json:"capacity"` // 0: not limited
	Sessions int    `json:"sessions"`
	Live     bool   `json:"live"` // it answers
	Error    string `json:"error,omitempty"`
}

// clusters asks every registered edge what it runs and how many sessions it has; of the past the journal says who the
// members were, and nothing else is known.
func (g *get) clusters(ctx context.Context, b *bus, s *events.State) error {
	var answers []cutover.Answer[events.EdgeStatus]
	if edges := s.LiveEdges(); past(g.at) {
		for _, e := range edges {
			answers = append(answers, cutover.Answer[events.EdgeStatus]{Edge: e})
		}
	} else {
		answers = cutover.NewFleet(b.nc, s.Namespace).Status(ctx, edges)
	}
	var list []clusterView
	for _, c := range byID(s.Clusters) {
		v := clusterView{Cluster: c, LoadBalancers: []string{}, Members: []memberView{}, Versions: []string{}, SilentEdges: []string{}}
		for _, l := range byID(s.LoadBalancers) {
			if l.Cluster == c.ID {
				v.LoadBalancers = append(v.LoadBalancers, l.ID)
			}
		}
		v.add(answers, past(g.at))
		list = append(list, v)
	}
	if i := slices.IndexFunc(list, func(c clusterView) bool { return c.ID == g.name }); i >= 0 && !g.json() {
		return g.cluster(list[i])
	}
	return show(g, list, func(c clusterView) string { return c.ID }, events.ErrUnknownCluster, []string{"ID", "UNIT", "PROTOCOL", "MEMBERS", "SESSIONS", "CAPACITY", "VERSIONS", "INSTANCES"},
		func(c clusterView) []any {
			return []any{c.ID, c.Unit, c.Protocol, c.members(), c.Sessions, c.limit(), strings.Join(c.Versions, ","), strings.Join(c.Instances, ",")}
		})
}

// add counts the edges of the cluster among those that were asked.
func (c *clusterView) add(answers []cutover.Answer[events.EdgeStatus], past bool) {
	accepting, unlimited := 0, false
	for _, a := range answers {
		if a.Edge.Cluster != c.ID {
			continue
		}
		m := memberView{ID: a.Edge.ID, Address: a.Edge.Address, Capacity: a.Edge.Capacity}
		if a.Edge.Accepts() {
			accepting += a.Edge.Capacity
			unlimited = unlimited || a.Edge.Capacity == 0
		}
		switch {
		case past:
		case a.Err != nil:
			m.Error = a.Err.Error()
			c.SilentEdges = append(c.SilentEdges, m.ID)
		default:
			m.Live, m.Version = true, a.Value.Version
			for _, n := range a.Value.Sessions {
				m.Sessions += n
			}
			if m.Version != "" && !slices.Contains(c.Versions, m.Version) {
				c.Versions = append(c.Versions, m.Version)
			}
			c.Sessions += m.Sessions
		}
		c.Members = append(c.Members, m)
	}
	if !unlimited {
		c.Capacity = accepting
	}
	slices.Sort(c.Versions)
}

func (c *clusterView) members() string {
	var ids []string
	for _, m := range c.Members {
		if id := m.ID; slices.Contains(c.SilentEdges, id) {
			ids = append(ids, id+" (silent)")
		} else {
			ids = append(ids, id)
		}
	}
	return strings.Join(ids, ", ")
}

// limit is the capacity in words.
func (c *clusterView) limit() any {
	if c.Capacity == 0 && len(c.Members) > 0 {
		return "no limit"
	}
	return c.Capacity
}

// cluster shows one cluster in text, member by member.
func (g *get) cluster(c clusterView) error {
	g.say("cluster %s of unit %s, %s: %d sessions, capacity %v", c.ID, c.Unit, c.Protocol, c.Sessions, c.limit())
	if len(c.Instances) > 0 {
		g.say("  only these may join: %s", strings.Join(c.Instances, ", "))
	}
	if len(c.LoadBalancers) > 0 {
		g.say("  behind: %s", strings.Join(c.LoadBalancers, ", "))
	}
	if len(c.Members) == 0 {
		g.say("  no edge has joined: unitgate edge --unit %s --cluster %s …", c.Unit, c.ID)
		return nil
	}
	t := newTable("ID", "ADDRESS", "LIVE", "SESSIONS", "CAPACITY", "VERSION")
	for _, m := range c.Members {
		var limit any = m.Capacity
		if m.Capacity == 0 {
			limit = "no limit"
		}
		t.row(m.ID, m.Address, yesNo(m.Live), m.Sessions, limit, m.Version)
	}
	return t.write(g.out)
}
