package relay

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/edge/names"
)

// An origin's name stands for what it leads to: each of its addresses is an origin, which gets its share of the sessions,
// is probed and ejected by itself. As long as nothing is known of a name, it is an origin of its own, whose sessions wait
// for the look-up. Edges of other units stay one each, whatever their name leads to.

// addressesOf is what an origin of the configuration stands for.
func (r *Relay) addressesOf(origin string) []string {
	if names.Literal(origin) {
		return []string{origin}
	}
	known := r.names.Addresses(origin)
	if len(known) == 0 {
		return []string{origin}
	}
	out := make([]string, len(known))
	for i, a := range known {
		out[i] = a.String()
	}
	return out
}

// namesOf are the names among the origins of a configuration.
func namesOf(list []string) (out []string) {
	for _, o := range list {
		if !names.Literal(o) {
			out = append(out, o)
		}
	}
	return out
}

// keepNames has the names of a view's origins and edges looked up, and no others.
func (r *Relay) keepNames(v *handshake.View) {
	var used []string
	for _, site := range append(slices.Collect(maps.Values(v.Sites)), v.Fallback) {
		if site == nil {
			continue
		}
		for i := range site.URIs {
			used = append(used, namesOf(site.URIs[i].Origins)...)
		}
		for _, edges := range site.Edges {
			for _, p := range edges.Peers {
				used = append(used, namesOf([]string{p.Address})...)
			}
		}
	}
	r.names.Keep(used)
}

// regroup has handshakes from now on go where names lead now. Sessions are none of its business.
func (r *Relay) regroup() {
	r.installing.Lock()
	defer r.installing.Unlock()
	v := r.view
	if v == nil {
		return
	}
	groups := r.groupsOf(v)
	done, asked := make(chan struct{}, len(r.engines)), 0
	for _, e := range r.engines {
		if e.queue(installs, func(*int) bool { // behind a view that may be on its way
			if e.view == v {
				e.groups = groups
			}
			done <- struct{}{}
			return true
		}) {
			asked++
		}
	}
	for range asked {
		<-done
	}
}

// awaitsNames has names of the origins looked up again, and reports whether s is to wait for that: once in its life, and
// no longer than for a connect.
func (e *engine) awaitsNames(s *session) bool {
	h := s.hs
	if len(h.group.names) == 0 || h.looked || s.via != 0 {
		return false
	}
	e.letGo(s)
	e.begins(h)
	serial := h.attempt.serial
	h.looked = e.r.names.Refresh(h.group.names, func(error) {
		e.post(func() {
			if s.under(serial) {
				e.lookedUp(s)
			}
		})
	})
	if h.looked {
		e.startConnect(s)
	}
	return h.looked
}

// lookedUp goes on with what is known now.
func (e *engine) lookedUp(s *session) {
	e.hangUp(s.hs)
	e.tryAgain(s)
}

// lookUp connects to an origin that goes by a name.
func (e *engine) lookUp(s *session, addr string) {
	serial := s.hs.attempt.serial
	found := each([]string{addr}, stepDecide, func(addr string) { e.found(s, serial, addr) })
	done := func(error) { e.post(func() { e.takeTurns(found) }) }
	switch addrs := e.r.names.Settled(addr); {
	case len(addrs) == 0:
		e.r.names.Ask(addr, done)
	case !e.r.names.Refresh([]string{addr}, done):
		e.connectAny(s, addrs)
	}
}

// found goes on with a session that has waited for the look-up of its origin's name.
func (e *engine) found(s *session, serial uint32, addr string) {
	if !s.under(serial) {
		return
	}
	switch addrs := e.r.names.Addresses(addr); {
	case len(addrs) == 0:
		e.hangUp(s.hs)
		e.dialFailed(s, e.r.names.Err(addr))
	case s.via != 0:
		e.connectAny(s, addrs)
	default:
		e.lookedUp(s) // they are origins by now, see regroup
	}
}

// connectAny connects to the first of an origin's addresses that takes the connection.
func (e *engine) connectAny(s *session, addrs []netip.AddrPort) {
	s.hs.attempt.others = addrs[1:]
	e.connect(s, addrs[0])
}

// sockaddr is an address as the kernel takes it.
func sockaddr(a netip.AddrPort) (family int, sa unix.Sockaddr, err error) {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}, nil
	}
	sa6 := &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
	if zone := ip.Zone(); zone != "" {
		ifi, err := net.InterfaceByName(zone)
		if err != nil {
			return 0, nil, fmt.Errorf("zone of %s: %w", a, err)
		}
		sa6.ZoneId = uint32(ifi.Index)
	}
	return unix.AF_INET6, sa6, nil
}
