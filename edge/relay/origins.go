package relay

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
	origins "github.com/unitgate/unitgate/edge/origin"
	"github.com/unitgate/unitgate/events"
)

// group are the origins of one URI.
type group struct {
	*origins.Group
	timeout  time.Duration // for one of them to accept
	reply    time.Duration // then for it to answer, and after an interim answer once more
	replies  time.Duration // for that in all
	patience time.Duration // of a client whose leaving before an answer counts
	names    []string      // those of the configuration that are no addresses
}

// replySpans is how often the time for an answer may pass, each but the last one ended by an interim answer.
const replySpans = 10

// groupOf is a group for the origins of u.
func (r *Relay) groupOf(g *origins.Group, u *handshake.URI) group {
	reply := cmp.Or(u.ReplyTimeout, replyTimeout)
	return group{
		Group: g, timeout: cmp.Or(u.ConnectTimeout, r.cfg.DialTimeout), reply: reply, replies: replySpans * reply,
		patience: max(origins.TooLong, reply/5), names: namesOf(u.Origins),
	}
}

// now is the time by which origins are judged, the same for all engines and the prober.
func (r *Relay) now() time.Duration { return time.Since(r.epoch) }

// Origins tells how the origins of the installed view are.
func (r *Relay) Origins() []origins.Status { return r.book.Status(r.now()) }

// Down are those of some origins of the configuration that the probes hold for down, with the reason. A name is down when
// all of its addresses are.
func (r *Relay) Down(list []string) map[string]string {
	down := map[string]string{} // by address
	for _, st := range r.Origins() {
		if st.State == "down" {
			down[st.Address] = strings.TrimPrefix(st.Error, "probe: ")
		}
	}
	out := map[string]string{}
	if len(down) == 0 {
		return out
	}
	for _, o := range list {
		addrs := r.addressesOf(o)
		if !slices.ContainsFunc(addrs, func(a string) bool { _, is := down[a]; return !is }) {
			out[o] = down[addrs[0]]
		}
	}
	return out
}

// groupsOf enters a view's origins into the book and has them probed. Sessions are none of its business: those on an
// origin that is gone stay until they end, and count for it.
func (r *Relay) groupsOf(v *handshake.View) map[*handshake.URI]group {
	var uris []*handshake.URI
	var lists []origins.List
	seen := map[*handshake.Site]bool{nil: true}
	enter := func(site *handshake.Site) {
		if seen[site] {
			return // by another of its names
		}
		seen[site] = true
		for i := range site.URIs {
			u := &site.URIs[i]
			uris = append(uris, u)
			l := origins.List{Check: checkOf(u.Health, site.Domain)}
			for _, o := range u.Origins {
				l.Addresses = append(l.Addresses, r.addressesOf(o)...)
			}
			lists = append(lists, l)
		}
	}
	for _, site := range v.Sites {
		enter(site)
	}
	enter(v.Fallback)
	groups := make(map[*handshake.URI]group, len(uris))
	for i, g := range r.book.Update(lists) {
		groups[uris[i]] = r.groupOf(g, uris[i])
	}
	r.prober.Watch(r.book.Origins())
	return groups
}

func checkOf(h *events.Health, domain string) origins.Check {
	if h == nil {
		return origins.Check{}
	}
	host := ""
	if h.Probe == "http" {
		host = cmp.Or(h.Host, domain)
	}
	return origins.Check{
		Probe: h.Probe, Path: h.Path, Host: host, Expect: h.Expect, Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout),
		Rise: h.Rise, Fall: h.Fall,
	}
}

// pick chooses the origin that s is to try next, and counts s among its connections. It reports false if all were tried,
// or the client has waited for long enough.
func (e *engine) pick(s *session) bool {
	e.letGo(s)
	h, now := s.hs, e.r.now()
	if h.tried == nil {
		h.began = now
	} else if now-h.began > e.r.cfg.DialBudget {
		return false
	}
	e.turn++
	h.picked = now
	if s.probe() {
		s.origin = h.group.Look(now, e.turn, h.tried)
		return s.origin != nil
	}
	if s.origin = h.group.Pick(now, e.turn, h.tried); s.origin != nil {
		s.dealings().dials.Add(1)
	}
	return s.origin != nil
}

// letGo ends what pick counted.
func (e *engine) letGo(s *session) {
	if s.origin != nil {
		s.origin.Release()
		s.origin = nil
	}
}

// tryNext has s go to another origin; each is tried once.
//
// Nothing of an answer has reached the client. The origin that failed may have got the request, but nothing behind it:
// what a client sends along stays here until the 101. A WebSocket handshake is a GET, which is safe and so idempotent: it
// may be sent again, elsewhere (RFC 9110 section 9.2.2).
func (e *engine) tryNext(s *session) {
	e.tryAfter(s, s.origin)
}

// tryAfter is tryNext after an origin that s may have let go of.
func (e *engine) tryAfter(s *session, failed *origins.Origin) {
	s.hs.tried = append(s.hs.tried, failed)
	e.tryAgain(s)
}

// tryAgain has s go to one of those that it has not tried, if it is still to.
func (e *engine) tryAgain(s *session) {
	h := s.hs
	vd := handshake.Decide(h.req, e.view, h.peer, s.secure())
	switch same := !e.closing && vd.Action != handshake.Answer && vd.Type != nil && vd.Key() == s.entry.Key; {
	case same && vd.Action == handshake.Serve && s.via == 0:
		h.group = e.groups[vd.URI] // the list may have changed
		e.dial(s)
	case same && vd.Action == handshake.Proxy && s.via != 0 && e.units[s.via] == vd.Edges.Unit:
		h.edges, h.group = vd.Edges, e.edgesFor(&vd)
		e.dial(s)
	default:
		e.decideAgain(s)
	}
}

// unanswered handles that the origin closed the connection, or broke it, before its answer was complete.
func (e *engine) unanswered(s *session) {
	e.blame(s, "closed the connection without an answer")
	if s.hs.answered {
		e.refuse(s, 502, "origin_failed", "the origin closed the connection in the middle of its answer")
		return
	}
	if s.probe() && e.shutsProbeOut(s) {
		return
	}
	e.tryNext(s)
}

// probePatience is how long after its first dial one of the edge's own handshakes goes on to further origins once one has
// closed the connection: some take a second for that, and who made it waits for a few.
const probePatience = 2 * time.Second

// shutsProbeOut notes that an origin has closed the connection of the edge's own handshake, and ends that if it has tried
// enough.
func (e *engine) shutsProbeOut(s *session) bool {
	h := s.hs
	h.shut = true
	if e.r.now()-h.began <= probePatience {
		return false
	}
	e.noneAnswers(s)
	return true
}

// blame tells the origin's record that it failed s. What becomes of the edge's own handshakes says nothing of it: no user
// sends what they do.
func (e *engine) blame(s *session, why string) {
	if s.probe() {
		e.r.log.Debug("origin failed the edge's own handshake", "origin", s.origin.Address(), "error", why)
		return
	}
	s.dealings().dialErrors.Add(1)
	e.r.log.Debug("origin failed", "origin", s.origin.Address(), "error", why)
	e.sayEjected(s, s.origin.Failed(e.r.now(), why), why)
}

// blameSlow tells the origin's record that it has not answered s in time.
func (e *engine) blameSlow(s *session, why string) {
	if s.probe() {
		return
	}
	s.dealings().dialErrors.Add(1)
	e.r.log.Debug("origin is slow", "origin", s.origin.Address(), "error", why)
	e.sayEjected(s, s.origin.Slow(e.r.now(), s.hs.sent, why), why)
}

// blameLeft does so for a client that left before there was an answer, if it has waited for long.
func (e *engine) blameLeft(s *session) {
	if h := s.hs; s.origin != nil && !h.answered && !s.probe() {
		if e.r.now()-h.picked >= h.group.patience {
			s.dealings().dialErrors.Add(1)
		}
		e.sayEjected(s, s.origin.Abandoned(e.r.now(), h.picked, h.group.patience), "clients leave without an answer")
	}
}

func (e *engine) sayEjected(s *session, ejected time.Duration, why string) {
	if ejected > 0 {
		e.r.log.Warn("origin gets no sessions for a while", "origin", s.origin.Address(), "while", ejected, "error", why)
	}
}

// ours tells whether an error of a connect is this host's and says nothing about the origin.
func ours(err error) bool {
	for _, no := range [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}
