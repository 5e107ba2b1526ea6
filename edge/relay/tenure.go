package relay

import (
	"github.com/unitgate/unitgate/edge/handshake"
)

// tenure is a domain's time in service on one poller, which owns it: from a session that is admitted to it until an
// operator closes the domain's sessions by force, or the last of them has ended. Whoever is admitted afterwards, because the
// domain is back, belongs to another one.
type tenure struct {
	domain string
	cut    uint64 // View.Cuts of the domain when it began
	over   bool   // its sessions are to be closed
	n      int    // sessions registered under it, those of handshakes under way included
}

// tenures are those of one poller, by their number, of which a session keeps no more than that: a pointer would cost an idle
// one its size class. The zero value is ready to use.
type tenures struct {
	list []tenure // number 0 is nobody's
	free []uint32
	of   map[string]uint32 // by domain: those that are not over
}

// serveFor has a session that is being registered belong to its domain's tenure.
func (e *engine) serveFor(s *session, domain string) {
	ts := &e.tenures
	if len(ts.list) == 0 {
		ts.list, ts.of = make([]tenure, 1), map[string]uint32{}
	}
	number, ok := ts.of[domain]
	if !ok {
		if last := len(ts.free) - 1; last >= 0 {
			number, ts.free = ts.free[last], ts.free[:last]
		} else {
			number, ts.list = uint32(len(ts.list)), append(ts.list, tenure{})
		}
		ts.list[number] = tenure{domain: domain, cut: e.view.Cuts[domain]}
		ts.of[domain] = number
	}
	ts.list[number].n++
	s.tenure = number
}

// servedFor takes it out again; it does nothing if the session has none.
func (e *engine) servedFor(s *session) {
	if s.tenure == 0 {
		return
	}
	ts, number := &e.tenures, s.tenure
	t := &ts.list[number]
	s.tenure = 0
	if t.n--; t.n > 0 {
		return
	}
	if !t.over {
		delete(ts.of, t.domain)
	}
	*t = tenure{}
	ts.free = append(ts.free, number)
}

// disowned reports whether the session's domain went by force after it had been admitted.
func (e *engine) disowned(s *session) bool { return s.tenure != 0 && e.tenures.list[s.tenure].over }

// endTenures ends those that a view, which is about to be installed, cuts off, and reports whether there are any. The
// numbers of another journal cannot be compared: a new one begins with what it says.
func (e *engine) endTenures(v *handshake.View) bool {
	anew := e.view != nil && e.view.Epoch != v.Epoch
	ended := false
	for domain, number := range e.tenures.of {
		t := &e.tenures.list[number]
		switch cut := v.Cuts[domain]; {
		case anew:
			t.cut = cut
		case cut > t.cut:
			t.over, ended = true, true
			delete(e.tenures.of, domain)
		}
	}
	return ended
}

// reviewCutOff asks the view about the sessions whose tenure is over. It looks at every session: a domain's end is rare,
// and no cutover waits for it.
func (e *engine) reviewCutOff() {
	var list []*session
	for s := range e.all {
		if e.disowned(s) {
			list = append(list, s)
		}
	}
	for _, s := range list {
		e.review(s)
	}
}

// CountDomains is the number of sessions of each of these domains, handshakes under way included, without those that have
// none. Sessions that are to be closed because their domain went by force do not count.
func (r *Relay) CountDomains(hosts []string) map[string]int {
	results := make(chan map[string]int, len(r.engines))
	asked := 0
	for _, e := range r.engines {
		if e.post(func() { results <- e.countDomains(hosts) }) {
			asked++
		}
	}
	sum := map[string]int{}
	for range asked {
		for host, n := range <-results {
			sum[host] += n
		}
	}
	return sum
}

func (e *engine) countDomains(hosts []string) map[string]int {
	out := map[string]int{}
	for _, host := range hosts {
		if number, ok := e.tenures.of[host]; ok {
			out[host] = e.tenures.list[number].n
		}
	}
	return out
}
