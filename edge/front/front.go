// Package front owns what may stand before a client's first byte: the PROXY protocol header (versions 1 and 2), by which
// a load balancer says whose connection it passes on, and the list of those that are believed.
//
// All of it is pure, and every function may be called concurrently.
package front

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/pires/go-proxyproto"
)

// The longest headers. Version 1 says so itself: 107 bytes; version 2 may have 64 KiB, and go-proxyproto takes 4 KiB
// behind its fixed part, enough for a client's certificate.
const (
	maxV1     = 107
	fixedV2   = 16
	MaxHeader = fixedV2 + 4096 // in bytes; Parse decides with no more
)

const (
	signatureV1 = "PROXY "
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
)

// Errors of Parse.
var (
	ErrMissing = errors.New("no PROXY header")
	ErrBad     = errors.New("bad PROXY header")
)

// Header is what a load balancer says of a connection.
type Header struct {
	Source netip.Addr // of the client; invalid if the balancer speaks for itself, to see whether anybody is here
	TLS    bool       // the client came to the balancer over TLS
}

// Parse reads a header from buf, everything received so far. With neither header nor error (n is 0) it needs more bytes:
// call it again with a longer buf. n is the length of the header: what follows is the client's. An error is ErrMissing
// or ErrBad, and stays, whatever follows.
func Parse(buf []byte) (h Header, n int, err error) {
	if n, err = length(buf); n == 0 || err != nil {
		return Header{}, 0, err
	}
	r := bufio.NewReaderSize(bytes.NewReader(buf[:n]), n) // it is read in one piece, which go-proxyproto insists on
	p, err := proxyproto.Read(r)
	switch {
	case err != nil:
		return Header{}, 0, fmt.Errorf("%w: %w", ErrBad, err)
	case r.Buffered() > 0:
		return Header{}, 0, fmt.Errorf("%w: %d bytes of it mean nothing", ErrBad, r.Buffered())
	}
	if h, err = meaning(p); err != nil {
		return Header{}, 0, err
	}
	return h, n, nil
}

// length is that of the header that b starts with; 0 if it takes more bytes to tell, or if not all of it is there.
func length(b []byte) (int, error) {
	switch {
	case begins(b, signatureV1):
		line := b[:min(len(b), maxV1)]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			return i + 1, nil
		}
		if len(line) == maxV1 {
			return 0, fmt.Errorf("%w: version 1 has at most %d bytes", ErrBad, maxV1)
		}
	case begins(b, signatureV2):
		if len(b) < fixedV2 {
			return 0, nil
		}
		n := fixedV2 + int(binary.BigEndian.Uint16(b[14:]))
		if n > MaxHeader {
			return 0, fmt.Errorf("%w: more than %d bytes", ErrBad, MaxHeader)
		}
		if len(b) >= n {
			return n, nil
		}
	default:
		return 0, ErrMissing
	}
	return 0, nil
}

// begins reports whether b begins with a signature, as far as it goes.
func begins(b []byte, signature string) bool {
	n := min(len(b), len(signature))
	return string(b[:n]) == signature[:n]
}

// Begins reports whether b begins with a header's whole signature.
func Begins(b []byte) bool {
	return bytes.HasPrefix(b, []byte(signatureV1)) || bytes.HasPrefix(b, []byte(signatureV2))
}

// meaning is what a header says.
func meaning(p *proxyproto.Header) (Header, error) {
	if p.Command.IsLocal() {
		return Header{}, nil
	}
	source, ok := p.SourceAddr.(*net.TCPAddr)
	if !ok {
		return Header{}, fmt.Errorf("%w: it is of no TCP connection", ErrBad)
	}
	addr, ok := netip.AddrFromSlice(source.IP)
	if !ok {
		return Header{}, fmt.Errorf("%w: it has no source address", ErrBad)
	}
	tlvs, err := p.TLVs()
	if err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrBad, err)
	}
	return Header{Source: addr.Unmap(), TLS: overTLS(tlvs)}, nil
}

// overTLS looks at pp2_tlv_ssl.client, bit PP2_CLIENT_SSL (section 2.2.6). Unlike go-proxyproto's own reading it does not
// ask for the version, which some balancers leave out.
func overTLS(tlvs []proxyproto.TLV) bool {
	for _, t := range tlvs {
		if t.Type == proxyproto.PP2_TYPE_SSL && len(t.Value) >= 5 && t.Value[0]&1 != 0 {
			return true
		}
	}
	return false
}

// Trusted are the addresses whose connections have to begin with a header. No other one may.
type Trusted []netip.Prefix

// ParseTrusted reads a list CIDR,…; an address alone stands for itself.
func ParseTrusted(list string) (Trusted, error) {
	var t Trusted
	for s := range strings.SplitSeq(list, ",") {
		s = strings.TrimSpace(s)
		p, err := netip.ParsePrefix(s)
		if addr, bad := netip.ParseAddr(s); bad == nil && addr.Zone() == "" {
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is no address and no CIDR", s)
		case p.Addr().Is4In6():
			return nil, fmt.Errorf("%q: write it as an IPv4 address", s)
		case p != p.Masked():
			return nil, fmt.Errorf("%q has bits beyond its length: do you mean %s?", s, p.Masked())
		}
		t = append(t, p)
	}
	return t, nil
}

// Has reports whether addr is one of them.
func (t Trusted) Has(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, p := range t {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
