// Package names knows which addresses the names of origins lead to.
//
// A name with several addresses, a headless service of Kubernetes, say, is as many origins: sessions are dealt out to its
// addresses, and each is judged by what it does itself. What a name has led to stays until it is known to lead elsewhere:
// a resolver that is down takes no origin away.
//
// Names asks in goroutines of its own, one for each name at a time, and only for names that are used. It may be used
// concurrently.
package names

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// TTL is how long what was found is used before it is asked for again.
	TTL = 5 * time.Second
	// Stale is how old what was found may be without a dial waiting for newer.
	Stale = 2 * TTL
	// Most is how many addresses of a name are used.
	Most = 256
)

var errNone = errors.New("the name has no address")

// LookUp finds the addresses of HOST:PORT.
type LookUp func(ctx context.Context, addr string) ([]netip.AddrPort, error)

// Names are those that are in use.
type Names struct {
	now     func() time.Duration
	lookUp  LookUp
	timeout time.Duration
	changed func()

	mu    sync.Mutex // guards what follows
	known map[string]*name
	work  sync.WaitGroup
	life  context.Context
	end   context.CancelFunc
}

// name is one HOST:PORT whose host is no literal address.
type name struct {
	addrs   []netip.AddrPort // sorted; none: nothing was found yet
	checked time.Duration    // when it was asked for last; valid once asked
	asked   bool
	asking  bool
	err     error // of the last time
	waiting []func(error)
}

// New makes Names that know none. now is any clock; a look-up may take timeout; changed is called after what a name leads
// to has changed, by any goroutine, and before those are answered that wait for it.
func New(now func() time.Duration, lookUp LookUp, timeout time.Duration, changed func()) *Names {
	n := &Names{now: now, lookUp: lookUp, timeout: timeout, changed: changed, known: map[string]*name{}}
	n.life, n.end = context.WithCancel(context.Background())
	return n
}

// Close ends the look-ups under way and waits for them.
func (n *Names) Close() {
	n.mu.Lock()
	n.end()
	n.mu.Unlock()
	n.work.Wait()
}

// Literal reports whether HOST:PORT is an address and no name.
func Literal(addr string) bool {
	_, err := netip.ParseAddrPort(addr)
	return err == nil
}

// Keep says which names there are from now on, has the new ones looked up, and forgets the others.
func (n *Names) Keep(used []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for addr, k := range n.known {
		if !k.asking && !slices.Contains(used, addr) {
			delete(n.known, addr)
		}
	}
	for _, addr := range used {
		if k := n.of(addr); !k.asked && !k.asking {
			n.ask(addr, k)
		}
	}
}

// Addresses is what a name is known to lead to, as far as it is, in order.
func (n *Names) Addresses(addr string) []netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := n.known[addr]; k != nil {
		return k.addrs
	}
	return nil
}

// Err is why the last look-up of a name has found nothing; nil if it has, or none has ended.
func (n *Names) Err(addr string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := n.known[addr]; k != nil {
		return k.err
	}
	return errNone
}

// Refresh has those of the names asked for again that were found TTL ago or earlier. It reports whether what is known of
// one is so old that newer is to be waited for; then done is called once, with the result of that.
func (n *Names) Refresh(used []string, done func(error)) (wait bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	for _, addr := range used {
		k := n.of(addr)
		if k.asked && now-k.checked < TTL {
			continue
		}
		if !k.asking {
			n.ask(addr, k)
		}
		if !wait && k.asking && len(k.addrs) > 0 && now-k.checked >= Stale {
			wait = true
			k.waiting = append(k.waiting, done)
		}
	}
	return wait
}

// Settled is what a name leads to, once what changed does about it is done.
func (n *Names) Settled(addr string) []netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := n.known[addr]; k != nil && !k.asking {
		return k.addrs
	}
	return nil
}

// Ask has done called with the result of a look-up that ends from now on.
func (n *Names) Ask(addr string, done func(error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := n.of(addr)
	k.waiting = append(k.waiting, done)
	if !k.asking {
		n.ask(addr, k)
	}
}

// of is called with mu locked.
func (n *Names) of(addr string) *name {
	k := n.known[addr]
	if k == nil {
		k = &name{}
		n.known[addr] = k
	}
	return k
}

// ask is called with mu locked. After Close nothing is asked, and nobody answered.
func (n *Names) ask(addr string, k *name) {
	if n.life.Err() != nil {
		return
	}
	k.asking = true
	n.work.Go(func() {
		ctx, cancel := context.WithTimeout(n.life, n.timeout)
		defer cancel()
		addrs, err := n.lookUp(ctx, addr)
		n.found(k, addrs, err)
	})
}

func (n *Names) found(k *name, addrs []netip.AddrPort, err error) {
	if addrs = tidy(addrs); err == nil && len(addrs) == 0 {
		err = errNone
	}
	n.mu.Lock()
	k.asked, k.checked, k.err = true, n.now(), err
	changed := err == nil && !slices.Equal(addrs, k.addrs)
	if changed {
		k.addrs = addrs
	}
	n.mu.Unlock()
	if changed && n.life.Err() == nil {
		n.changed()
	}
	n.mu.Lock()
	waiting := k.waiting
	k.asking, k.waiting = false, nil
	n.mu.Unlock()
	if n.life.Err() != nil {
		return
	}
	for _, done := range waiting {
		done(err)
	}
}

// tidy sorts addresses and bounds their number. The order in which a resolver names them changes with every answer.
func tidy(addrs []netip.AddrPort) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	out = slices.Compact(out)
	return out[:min(len(out), Most)]
}

// System looks names up as this host does. Addresses to which it has no way at all are left out, unless there are no
// others: a name may have IPv6 addresses where there is no IPv6 (RFC 6724 section 6, rule 1).
func System(ctx context.Context, addr string) ([]netip.AddrPort, error) {
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
	var all, reachable []netip.AddrPort
	for _, ip := range ips {
		a := netip.AddrPortFrom(ip.Unmap(), uint16(port))
		if all = append(all, a); hasRoute(a) {
			reachable = append(reachable, a)
		}
	}
	switch {
	case len(all) == 0:
		return nil, errNone
	case len(reachable) == 0:
		return all, nil
	}
	return reachable, nil
}

// hasRoute reports whether the kernel knows a way to an address. Nothing is sent.
func hasRoute(a netip.AddrPort) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(a))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
