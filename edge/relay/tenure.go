package relay

import (
	registry "github.com/unitgate/unitgate/edge/session"
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
func (e *engine) endTenures(in *installation) bool {
	if in.anew {
		for domain, number := range e.tenures.of {
			e.tenures.list[number].cut = in.view.Cuts[domain]
		}
	}
	ended := false
	for _, domain := range in.cuts {
		number, ok := e.tenures.of[domain]
		if t := &e.tenures.list; ok && in.view.Cuts[domain] > (*t)[number].cut {
			(*t)[number].over, ended = true, true
			delete(e.tenures.of, domain)
		}
	}
	return ended
}

// reviewCutOff asks the view about the sessions whose tenure is over. It looks at every session: a domain's end is rare,
// and no cutover waits for it.
func (e *engine) reviewCutOff() (walks []chore) {
	for _, typ := range e.registry.Types() {
		walks = append(walks, e.walkThrough(typ, registry.Everything(), func(s *session, steps *int) {
			if e.disowned(s) {
				*steps -= stepLookup
				e.review(s, steps)
			}
		}))
	}
	return walks
}

// CountDomains is the number of sessions of each of these domains, handshakes under way included, without those that have
// none. Sessions that are to be closed because their domain went by force do not count.
func (r *Relay) CountDomains(hosts []string) map[string]int {
	sum := map[string]int{}
	ask(r, func(e *engine, answer func(map[string]int)) chore {
		found := map[string]int{}
		count := each(hosts, stepLookup, func(host string) {
			if number, ok := e.tenures.of[host]; ok {
				found[host] = e.tenures.list[number].n
			}
		})
		return func(steps *int) bool {
			if !count(steps) {
				return false
			}
			answer(found)
			return true
		}
	}, func(found map[string]int) {
		for host, n := range found {
			sum[host] += n
		}
	})
	return sum
}
