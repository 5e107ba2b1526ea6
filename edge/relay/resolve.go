package relay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// nameTTL is how long the addresses of an origin's name are used before it is looked up again.
const nameTTL = 5 * time.Second

// name is an origin's address HOST:PORT whose host is no literal address.
type name struct {
	addrs   []netip.AddrPort
	until   time.Duration // when the addresses are too old
	asking  bool          // a goroutine looks it up
	waiting []arrival     // sessions, and the numbers of their attempts
}

// lookUp connects to an origin that goes by a name. One goroutine per name is all that ever asks.
func (e *engine) lookUp(s *session, addr string) {
	n := e.names[addr]
	if n == nil {
		n = &name{}
		e.names[addr] = n
	}
	if len(n.addrs) > 0 && e.now() < n.until {
		e.connectAny(s, n.addrs)
		return
	}
	n.waiting = append(n.waiting, arrival{s: s, serial: s.hs.attempt.serial})
	if n.asking {
		return
	}
	n.asking = true
	e.r.running.Add(1)
	go func() {
		defer e.r.running.Done()
		addrs, err := lookUp(e.r.life, addr, e.r.cfg.DialTimeout)
		e.post(func() { e.found(addr, addrs, err) })
	}()
}

func lookUp(ctx context.Context, addr string, timeout time.Duration) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("look up %s: no address", host)
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip, uint16(port))
	}
	return addrs, nil
}

// found gives the answer to the sessions that still wait for it.
func (e *engine) found(addr string, addrs []netip.AddrPort, err error) {
	n := e.names[addr]
	waiting := n.waiting
	n.asking, n.waiting = false, nil
	if n.addrs, n.until = addrs, e.now()+nameTTL; err != nil {
		delete(e.names, addr)
	}
	e.takeTurns(each(waiting, stepDecide, func(w arrival) {
		switch {
		case !w.s.under(w.serial):
		case err != nil:
			e.hangUp(w.s.hs)
			e.dialFailed(w.s, err)
		default:
			e.connectAny(w.s, addrs)
		}
	}))
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
