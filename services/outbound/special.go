package outbound

import "net/netip"

// special is a range of addresses behind which no receiver stands unless an operator says
// so.
type special struct {
	prefix netip.Prefix
	what   string
}

// holds reports whether a network lies in the range as a whole.
func (s *special) holds(n netip.Prefix) bool {
	return s.prefix.Bits() <= n.Bits() && s.prefix.Contains(n.Addr())
}

// specials are from IANA's registries of special-purpose addresses (RFC 6890), and where
// clouds keep the metadata and credentials of a machine, as far as these are not
// link-local.
var specials = []special{
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("0.0.0.0/8"), "an address of this host on this network (RFC 1122)"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("fec0::/10"), "a site-local address (RFC 3879)"},
	{netip.MustParsePrefix("100.64.0.0/10"), "an address of the shared space (RFC 6598), where Alibaba Cloud keeps its metadata"},
	{netip.MustParsePrefix("192.0.0.0/24"), "an address for protocols (RFC 6890), where Oracle Cloud keeps its metadata"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the address of Azure's own services"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "an address of AWS's own services"},
	{netip.MustParsePrefix("fd20:ce::/32"), "an address of Google Cloud's own services"},
	{netip.MustParsePrefix("198.18.0.0/15"), "an address for benchmarks (RFC 2544)"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved or broadcast address"},
	{netip.MustParsePrefix("::/96"), "an unspecified or IPv4-compatible address (RFC 4291)"},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), "an IPv4 address in another form (RFC 7915)"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "an IPv4 address in another form (RFC 8215)"},
	{netip.MustParsePrefix("2002::/16"), "an IPv4 address in another form (6to4)"},
	{netip.MustParsePrefix("2001::/32"), "an IPv4 address in another form (Teredo)"},
	{netip.MustParsePrefix("5f00::/16"), "a segment identifier (RFC 9602)"},
}

// nat64 holds IPv4 addresses as seen through DNS64, the only way to IPv4 in networks of
// IPv6 alone (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// embedded is the IPv4 address that an address leads to, or the address itself.
func embedded(a netip.Addr) netip.Addr {
	if a = a.Unmap(); nat64.Contains(a) {
		b := a.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a
}

// specialRange is the range that an address (see embedded) stands in, nil if it is an
// ordinary one.
func specialRange(a netip.Addr) *special {
	for i := range specials {
		if specials[i].prefix.Contains(a) {
			return &specials[i]
		}
	}
	return nil
}
