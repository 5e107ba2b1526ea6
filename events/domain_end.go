package events

import (
	"fmt"
	"slices"
	"strings"
)

// What ends a domain: its removal, and its return to a draft. Both refuse while somebody has a session of it.

// DomainSessions is what the edges of a namespace said of a domain's sessions, all asked at one moment. A session that is
// admitted between that moment and the one at which its edge learns of the event is in no count and stays until it ends,
// unless the domain went by force.
type DomainSessions struct {
	Host        string   `json:"host"`
	Sessions    int      `json:"sessions"`              // handshakes under way included
	SilentEdges []string `json:"silentEdges,omitempty"` // edges that did not answer: what they have is not known
}

// DomainEnd is how a domain went out of service.
type DomainEnd struct {
	DomainSessions
	Forced bool `json:"forced,omitempty"` // by an operator's word, given with a reason: its sessions are closed
}

// maxCuts bounds State.Cuts: the oldest are forgotten. An edge that has missed so many of them, and has sessions of a
// domain from before, keeps those.
const maxCuts = 1024

// ending is on what terms domains go.
type ending struct {
	counted []DomainSessions
	force   bool
	reason  string
}

// ends decides whether domains may go, and says how each one went. A domain without an active version admits nobody, so
// that an edge which does not answer is no obstacle; sessions that are known to live are.
func (s *State) ends(hosts []string, e ending) ([]DomainEnd, error) {
	if e.force {
		if err := needReason(e.reason); err != nil {
			return nil, err
		}
	}
	var out []DomainEnd
	for _, host := range hosts {
		active, at := s.Domains[host].Active != nil, fmt.Sprintf("domains[%s]", host)
		i := slices.IndexFunc(e.counted, func(c DomainSessions) bool { return c.Host == host })
		if i < 0 {
			if active {
				return nil, ErrSessionsUnknown.With("nobody has counted the sessions of %s: send it again", host).At(at)
			}
			out = append(out, DomainEnd{DomainSessions: DomainSessions{Host: host}, Forced: e.force})
			continue
		}
		switch c := e.counted[i]; {
		case e.force:
		case c.Sessions > 0:
			return nil, ErrSessionsLive.With("%d sessions of %s live: let them end, or close them with force and a reason", c.Sessions, host).At(at)
		case active && len(c.SilentEdges) > 0:
			return nil, ErrSessionsUnknown.With("edges that do not answer may have sessions of %s: %s; repeat it when they do, or use force with a reason",
				host, strings.Join(c.SilentEdges, ", ")).At(at)
		}
		out = append(out, DomainEnd{e.counted[i], e.force})
	}
	return out, nil
}

// decideRemoval decides the commands that take something away.
func (s *State) decideRemoval(c Command, env Envelope) (Event, error) {
	var e Event
	var ch Changes
	switch c := c.(type) {
	case DeactivateDomain:
		if s.Domains[c.Host].Active == nil {
			return nil, ErrUnknownDomain.With("domain %q is not active", c.Host).At("host")
		}
		end, err := s.endOf(c.Host, ending{c.Counted, c.Force, env.why()})
		if err != nil {
			return nil, err
		}
		e, ch.deactivated = DomainDeactivated{end}, []string{c.Host}
	case RemoveDomain:
		if s.Domains[c.Host].Newest() == nil {
			return nil, ErrUnknownDomain.With("there is no domain %q", c.Host).At("host")
		}
		end, err := s.endOf(c.Host, ending{c.Counted, c.Force, env.why()})
		if err != nil {
			return nil, err
		}
		e, ch.Removed = DomainRemoved{end}, Removed{Domains: []string{c.Host}}
	case RemoveUnit:
		if _, ok := s.Units[c.ID]; !ok {
			return nil, ErrUnknownUnit.With("there is no unit %q", c.ID).At("id")
		}
		e, ch.Removed = UnitRemoved(c), Removed{Units: []string{c.ID}}
	case RemoveCluster:
		if _, ok := s.Clusters[c.ID]; !ok {
			return nil, ErrUnknownCluster.With("there is no cluster %q", c.ID).At("id")
		}
		e, ch.Removed = ClusterRemoved(c), Removed{Clusters: []string{c.ID}}
	case RemoveLoadBalancer:
		if _, ok := s.LoadBalancers[c.ID]; !ok {
			return nil, ErrUnknownBalancer.With("there is no load balancer %q", c.ID).At("id")
		}
		e, ch.Removed = LoadBalancerRemoved(c), Removed{LoadBalancers: []string{c.ID}}
	default:
		return nil, ErrBadCommand.With("%T is not decided here", c)
	}
	if err := s.fits(ch); err != nil {
		return nil, err
	}
	return e, nil
}

func (s *State) endOf(host string, e ending) (DomainEnd, error) {
	ends, err := s.ends([]string{host}, e)
	if err != nil {
		return DomainEnd{}, err
	}
	return ends[0], nil
}

// cut notes which domains' sessions are to be closed: those that were admitted before. It outlives the domain, because an
// edge sees only the newest state: by then the domain may be back.
func (s *State) cut(seq uint64, ends ...DomainEnd) {
	for _, e := range ends {
		if !e.Forced {
			continue
		}
		s.Cuts[e.Host] = seq
	}
	for len(s.Cuts) > maxCuts {
		oldest := ""
		for _, host := range sortedKeys(s.Cuts) {
			if oldest == "" || s.Cuts[host] < s.Cuts[oldest] {
				oldest = host
			}
		}
		delete(s.Cuts, oldest)
	}
}
