// Package outbound decides whom the control plane connects to at the word of a
// configuration, which an operator of a namespace writes and who runs the control plane
// does not: hooks today. Whatever dials by such a word dials here.
//
// What is judged is the address that is dialled, after the name was resolved: a name says
// nothing about where it leads the next time. No proxy of the environment is used,
// because it would resolve and dial in our place.
//
// A Policy is fixed once it is made and may be used by any number of goroutines.
package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Policy says which hosts may be dialled. The zero value, and nil, are the default: every
// address of the internet and of private networks (RFC 1918, RFC 4193), none of those
// that are special and none of this machine's own.
type Policy struct {
	only  bool           // what is listed, and nothing else
	hosts []string       // names, in lower case, without the final dot
	nets  []netip.Prefix // masked, IPv4 as IPv4

	resolver *net.Resolver              // nil: the system's
	own      func() ([]net.Addr, error) // nil: this machine's interfaces
}

// RefusedError is an address that the policy does not let be dialled.
type RefusedError struct {
	Addr netip.Addr
	Why  string // "a loopback address"
}

func (r *RefusedError) Error() string { return fmt.Sprintf("%s is %s", r.Addr, r.Why) }

// ErrBadEntry is a part of a list that is neither a name, nor an address, nor a network.
var ErrBadEntry = errors.New("want names of hosts, addresses and networks, separated by commas: ops.example.com,10.0.0.7,10.1.0.0/16")

// Parse reads an allow-list: names of hosts, addresses and networks (CIDR), separated by
// commas. An empty one is the default policy; any other one allows what it names, and
// nothing else.
//
// A name allows what it resolves to, except special addresses and this machine's own: who
// answers for the name in DNS decides which these are. A special address is allowed by an
// entry that lies in the special range as a whole (127.0.0.1, 169.254.0.0/16), so that
// 0.0.0.0/0 does not open what its author did not think of; one of this machine's own by
// an entry for that address alone.
func Parse(list string) (*Policy, error) {
	p := &Policy{}
	if list == "" {
		return p, nil
	}
	p.only = true
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		if n, ok := network(entry); ok {
			p.nets = append(p.nets, n)
			continue
		}
		name := canonical(entry)
		if !isName(name) {
			return nil, fmt.Errorf("%q: %w", entry, ErrBadEntry)
		}
		p.hosts = append(p.hosts, name)
	}
	return p, nil
}

// network reads an address or a network. IPv4 written as IPv6 (::ffff:0:0/96) is taken
// for the IPv4 that it is.
func network(entry string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	n, err := netip.ParsePrefix(entry)
	if err != nil {
		return netip.Prefix{}, false
	}
	if n.Addr().Is4In6() {
		if n.Bits() < 96 {
			return netip.Prefix{}, false
		}
		n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
	}
	return n.Masked(), true
}

// isName accepts what can be a name of a host. A last label of digits alone is some
// spelling of an IPv4 address (127.1, 2130706433, 0x7f.1): it is not known by which rules
// a resolver reads it.
func isName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	last := labels[len(labels)-1]
	return last[0] < '0' || last[0] > '9'
}

func canonical(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// Names reports whether the list names that host alone: it, or its one address, and not
// only a network that holds it. Of such a host whoever made the list knows what it says
// to strangers.
func (p *Policy) Names(host string) bool {
	if p == nil {
		return false
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return p.single(a.Unmap())
	}
	return slices.Contains(p.hosts, canonical(host))
}

func (p *Policy) single(a netip.Addr) bool {
	return slices.ContainsFunc(p.nets, func(n netip.Prefix) bool { return n.IsSingleIP() && n.Addr() == a })
}

// AlsoAll is the default policy, with what the list opens of special addresses and of
// this machine's own. It is for what an allow-list is not meant for.
func (p *Policy) AlsoAll() *Policy {
	if p == nil {
		return nil
	}
	all := *p
	all.only = false
	return &all
}

// check judges one address to which a host has led. The error is a *RefusedError.
func (p *Policy) check(host string, a netip.Addr) error {
	a = embedded(a.WithZone(""))
	if s := specialRange(a); s != nil {
		if !slices.ContainsFunc(p.nets, func(n netip.Prefix) bool { return s.holds(n) && n.Contains(a) }) {
			return &RefusedError{a, s.what}
		}
		return nil
	}
	switch mine, err := p.isOwn(a); {
	case err != nil:
		return fmt.Errorf("the addresses of this machine cannot be read: %w", err)
	case mine && !p.single(a):
		return &RefusedError{a, "an address of the control plane's own machine"}
	}
	listed := func(n netip.Prefix) bool { return n.Contains(a) }
	if !p.only || slices.Contains(p.hosts, canonical(host)) || slices.ContainsFunc(p.nets, listed) {
		return nil
	}
	return &RefusedError{a, "not on the list of what may be called"}
}

// isOwn reports whether this machine would talk to itself: that is the loopback by
// another name.
func (p *Policy) isOwn(a netip.Addr) (bool, error) {
	list := p.own
	if list == nil {
		list = net.InterfaceAddrs
	}
	addrs, err := list()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(addrs, func(own net.Addr) bool {
		n, ok := own.(*net.IPNet)
		if !ok {
			return false
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		return ok && ip.Unmap() == a
	}), nil
}

// DialContext dials like net.Dialer's, for TCP. A refusal is a *RefusedError somewhere in the
// error.
func (p *Policy) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if p == nil {
		p = &Policy{}
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Resolver: p.resolver, Control: func(_, dialled string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(dialled)
		if err != nil {
			return fmt.Errorf("%s is no address", dialled)
		}
		return p.check(host, to.Addr())
	}}
	return d.DialContext(ctx, network, addr)
}

// Transport makes HTTP requests to where the policy allows, each over a connection of its
// own, with no proxy.
func (p *Policy) Transport() *http.Transport {
	return &http.Transport{
		DialContext: p.DialContext, DisableKeepAlives: true, TLSHandshakeTimeout: 10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
	}
}
