package sim

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/edge/handshake"
	registry "github.com/unitgate/unitgate/edge/session"
	"github.com/unitgate/unitgate/events/routing"
)

// relay models the data path of an edge: pollers that take a new view one after another, sessions with two legs, dials
// and held handshakes. What a handshake is answered, and which sessions a new view touches, is asked of the real code.
//
//	decide ──serve──▶ dialling ──connected, asked again──▶ asking ──101, asked again──▶ open ──Close──▶ closing ──▶ gone
//	   ▲  └───hold──▶ held                                                              (origin leg still open)
//	   └── new view ───┘
type relay struct {
	e       *edge
	pollers []*poller
	view    *handshake.View // the newest that was handed to the pollers
	counts  agent.Counts
	victims []*session // what evict is to come to, in order
	pace    time.Duration
	pacing  int // counts evictions, so that an old one ends
}

type poller struct {
	r        *relay
	view     *handshake.View
	answers  *answers // of the view
	registry registry.Registry[*session]
	held     []*session
}

type phase uint8

const (
	held phase = iota
	dialling
	asking  // the origin has been sent the first byte
	open    // the client has its 101
	closing // our Close was sent, the origin's leg is open
	ended
)

// session is a client's connection, and the origin's once there is one.
type session struct {
	entry  registry.Entry[*session]
	p      *poller
	c      *client
	phase  phase
	since  uint64 // sequence of the view that admitted it
	timed  bool   // its hold time runs
	victim bool
	served bool // counted in the world's serving
}

// peer is where every client comes from.
var peer = netip.MustParseAddr("192.0.2.1")

func newRelay(e *edge) *relay {
	r := &relay{e: e}
	for range 2 {
		r.pollers = append(r.pollers, &poller{r: r})
	}
	return r
}

// die drops everything, as the kernel does when a process is gone.
func (r *relay) die() {
	for _, p := range r.pollers {
		for _, s := range p.all() {
			c := s.Value.c
			s.Value.end()
			c.lost()
		}
		for _, s := range p.held {
			s.phase = ended
			s.c.lost()
		}
		p.view, p.answers = nil, nil
	}
}

// entries are those in some lists of the registry.
func (p *poller) entries(lists []routing.Range) (out []*registry.Entry[*session]) {
	for w := p.registry.Walk(unitType, lists); !w.Done(); {
		steps := math.MaxInt
		if e := w.Next(&steps); e != nil {
			out = append(out, e)
		}
	}
	return out
}

// all are all of them.
func (p *poller) all() []*registry.Entry[*session] { return p.entries(registry.Everything()) }

// install makes every poller decide by a view, each at its own moment, and calls done when all have been all the way.
func (r *relay) install(v *handshake.View, done func()) {
	w := r.e.w
	changes := registry.Changes(r.view, v)
	r.view = v
	left := len(r.pollers)
	answers := w.answersOf(v)
	for _, p := range r.pollers {
		w.after(w.span(3*time.Millisecond)+w.span(r.e.slow+1), r.e.mine(func() {
			p.install(v, answers, changes, func() {
				if left--; left == 0 {
					done()
				}
			})
		}))
	}
}

// install has a poller decide by a view from now on, and then ask it about its sessions, some at a time: others come, go and
// are decided meanwhile.
func (p *poller) install(v *handshake.View, a *answers, changes []registry.Change, done func()) {
	p.observe()
	p.view, p.answers = v, a
	p.r.e.w.viewed(p.r.e)
	var walks []*registry.Walk[*session]
	for _, c := range changes {
		if c.Slotting.Slots > 0 {
			p.registry.Resort(c.Type, c.Slotting)
		}
		walks = append(walks, p.registry.Walk(c.Type, c.Lists()))
	}
	p.proceed(walks, done)
}

// proceed asks the view about some sessions, and comes back for the others.
func (p *poller) proceed(walks []*registry.Walk[*session], done func()) {
	w := p.r.e.w
	p.observe()
	for _, walk := range walks {
		steps := (1 + w.rnd.IntN(4)) * registry.EntryStep
		for entry := walk.Next(&steps); entry != nil; entry = walk.Next(&steps) {
			p.review(entry.Value)
		}
		if !walk.Done() {
			w.after(w.span(time.Millisecond), p.r.e.mine(func() { p.proceed(walks, done) }))
			return
		}
	}
	done()
	waiting := p.held
	p.held = nil
	for _, s := range waiting {
		if s.phase == held {
			p.r.counts.Held--
			p.decide(s)
		}
	}
}

// review asks the new view about one session.
func (p *poller) review(s *session) {
	switch {
	case s.phase == ended: // a change may name a session twice
	case p.serves(s):
		p.pardon(s)
	case s.phase == dialling || s.phase == asking: // nothing of it has reached the client: decide its handshake anew
		s.end()
		p.decide(&session{p: p, c: s.c})
	default:
		p.accuse(s)
	}
}

func (p *poller) serves(s *session) bool {
	_, ok := p.view.Serves(s.entry.Key.Type, s.entry.Key.RouterID)
	return ok
}

func (p *poller) accuse(s *session) {
	if !s.victim {
		s.victim = true
		p.r.counts.Victims++
		p.r.victims = append(p.r.victims, s)
	}
}

func (p *poller) pardon(s *session) {
	if s.victim {
		s.victim = false
		p.r.counts.Victims--
		p.r.signal()
	}
}

// signal is Changed: the runner counts.
func (r *relay) signal() { r.e.w.after(0, r.e.mine(r.e.count)) }

// accept takes a handshake.
func (r *relay) accept(c *client) {
	p := r.pollers[r.e.w.rnd.IntN(len(r.pollers))]
	p.observe()
	if p.view == nil {
		c.refused()
		return
	}
	p.decide(&session{p: p, c: c})
}

func (p *poller) decide(s *session) {
	w := p.r.e.w
	if !p.r.e.leased() { // R9: not even a redirect
		s.phase, s.c.session = ended, nil
		s.c.refused()
		return
	}
	vd := handshake.Decide(s.c.req, p.view, peer, false)
	switch vd.Action {
	case handshake.Hold:
		s.phase = held
		p.held = append(p.held, s)
		p.r.counts.Held++
		s.c.session = s
		if !s.timed { // who was let in and out again waits no longer than any other
			s.timed = true
			p.r.e.after(p.view.Hold, func() { p.unhold(s) })
		}
	case handshake.Serve:
		s.phase, s.since, s.c.session = dialling, p.view.Seq, s
		s.entry.Key, s.entry.Value = vd.Key(), s
		p.registry.Add(&s.entry, vd.Type.Table.Slotting()) // R10: before the dial
		took := time.Millisecond + w.span(30*time.Millisecond)
		if w.chance(0.05) {
			took = w.span(3 * time.Second)
		}
		w.after(took, p.r.e.mine(func() { p.connected(s, vd.Route.Moved) }))
	case handshake.Answer:
		s.phase, s.c.session = ended, nil
		if vd.Code == "redirect" {
			s.c.redirected(locationOf(&vd))
		} else {
			s.c.refused()
		}
	}
}

// unhold: the hold time is over.
func (p *poller) unhold(s *session) {
	p.observe()
	if i := slices.Index(p.held, s); i >= 0 && s.phase == held {
		p.held = slices.Delete(p.held, i, i+1)
		p.r.counts.Held--
		s.phase, s.c.session = ended, nil
		s.c.refused()
	}
}

// connected: R10 asks again before the first byte to the origin, and before the 101.
func (p *poller) connected(s *session, moved bool) {
	w := p.r.e.w
	p.observe()
	if s.phase != dialling {
		return
	}
	if !p.serves(s) {
		p.review(s)
		return
	}
	s.phase = asking
	w.serve(s)
	w.after(time.Millisecond+w.span(8*time.Millisecond), p.r.e.mine(func() {
		p.observe()
		if s.phase != asking {
			return
		}
		if !p.serves(s) {
			p.review(s)
			return
		}
		s.phase = open
		p.r.counts.Sessions++
		if moved {
			p.r.counts.Landed++
			p.r.signal()
		}
		s.c.opened()
	}))
}

// end closes both legs and forgets the session.
func (s *session) end() {
	if s.phase == ended {
		return
	}
	if s.phase == open || s.phase == closing {
		s.p.r.counts.Sessions--
	}
	s.phase = ended
	s.p.registry.Remove(&s.entry)
	s.p.pardon(s)
	s.p.r.e.w.unserve(s)
	s.c.session = nil
}

// evict closes the victims at a rate, 0 for all at once.
func (r *relay) evict(rate int) {
	r.pacing++
	r.pace = 0
	if rate > 0 {
		r.pace = time.Second / time.Duration(rate)
	}
	r.evictNext(r.pacing)
}

func (r *relay) evictNext(pacing int) {
	for _, p := range r.pollers {
		p.observe()
	}
	for len(r.victims) > 0 && r.pacing == pacing {
		s := r.victims[0]
		r.victims = r.victims[1:]
		if !s.victim || s.phase == ended {
			continue
		}
		if s.p.serves(s) {
			s.p.pardon(s)
			continue
		}
		s.close()
		if r.pace > 0 {
			r.e.after(r.pace, func() { r.evictNext(pacing) })
			return
		}
	}
}

// close sends the client our Close. Both legs end a moment later, or when the client has not answered for 2 s.
func (s *session) close() {
	if s.phase != open {
		return
	}
	w := s.p.r.e.w
	w.closes(s)
	s.phase = closing
	s.p.r.counts.Evicted++
	s.p.r.signal()
	took := w.span(40 * time.Millisecond)
	if w.chance(0.1) {
		took = 2 * time.Second
	}
	c := s.c
	w.after(took, s.p.r.e.mine(func() {
		if s.phase == closing {
			s.end()
			s.p.r.signal()
			c.lost()
		}
	}))
}
