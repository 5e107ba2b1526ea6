package handshake

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
)

// A handshake that came to the wrong unit of a domain with correction "proxy" is passed on to an edge of the right one
// (R14: never to its origin). It carries a mark, the field hopField, which says who passes it on and for whom:
//
//	Unitgate-Hop: <edge id> <client's address> http|https <HMAC-SHA256 in base64>
//
// under a secret that these two edges share and nobody else, over the request that it belongs to. Whoever has no such
// secret gains nothing by a mark. One that is not right is refused, whatever the request asks for. One that is right
// gives the client's own address and scheme, which this edge knows otherwise only of its own connections, and in exchange
// takes away: a marked handshake is served or refused here, never passed on again and never redirected. So none goes in
// circles, however differently edges see the rules.
const hopField = "Unitgate-Hop"

// Fields of an edge's own answer to a marked handshake, for the edge that has passed it on: the code of the verdict, and
// with codeNotOwner the sequence by which it was decided.
const (
	RefusedField  = "Unitgate-Refused"
	SequenceField = "Unitgate-Sequence"
)

// CodeNotOwner says that a handshake was passed on to the wrong unit.
const CodeNotOwner = "not_owner"

// CodeBadHop says that a mark is none for this edge.
const CodeBadHop = "bad_hop"

// Peer is another edge to which handshakes are passed on, or from which they come.
type Peer struct {
	ID      string
	Address string // HOST:PORT; "": nobody is to connect to it
	Secret  []byte // what it shares with this edge
	Before  *Peer  // the edge whose place it takes, and which accepts at its address until it does; nil: there is none
}

// Edges are those edges of a unit to which handshakes are passed on.
type Edges struct {
	Unit  string
	Peers []*Peer
}

// At is the edge with an address; nil if there is none.
func (e *Edges) At(address string) *Peer {
	for _, p := range e.Peers {
		if p.Address == address {
			return p
		}
	}
	return nil
}

// Hop is what the edge that passed a handshake on says of the client.
type Hop struct {
	Client netip.Addr
	TLS    bool // the client came over it
}

// Hop reads the mark of a request. marked tells whether there is one, ok whether it is that of a member of the namespace
// and belongs to this very request; only then h says something.
func (v *View) Hop(req *Request) (h Hop, marked, ok bool) {
	mark, n := req.Get(hopField)
	if n != 1 || v == nil {
		return h, n > 0, false
	}
	f := strings.Split(mark, " ")
	if len(f) != 4 || f[2] != "http" && f[2] != "https" {
		return h, true, false
	}
	from := v.Peers[f[0]]
	client, err := netip.ParseAddr(f[1])
	if from == nil || err != nil {
		return h, true, false
	}
	mac, err := base64.StdEncoding.DecodeString(f[3])
	if err != nil || !hmac.Equal(mac, signHop(from.Secret, from.ID, v.ID, f[1], f[2], req)) {
		return h, true, false
	}
	return Hop{client, f[2] == "https"}, true, true
}

// appendHop appends the mark's line.
func appendHop(dst []byte, req *Request, fw *Forward) []byte {
	addr, proto := fw.Peer.Unmap().WithZone("").String(), "http"
	if fw.TLS {
		proto = "https"
	}
	dst = append(dst, hopField...)
	dst = append(dst, ": "...)
	for _, s := range [...]string{fw.From, addr, proto} {
		dst = append(dst, s...)
		dst = append(dst, ' ')
	}
	dst = base64.StdEncoding.AppendEncode(dst, signHop(fw.To.Secret, fw.From, fw.To.ID, addr, proto, req))
	return append(dst, "\r\n"...)
}

// signHop is the mark's HMAC. None of its parts holds a line end. The client's Sec-WebSocket-Key makes it one handshake's.
func signHop(secret []byte, from, to, addr, proto string, req *Request) []byte {
	key, _ := req.Get("Sec-WebSocket-Key")
	h := hmac.New(sha256.New, secret)
	for _, s := range [...]string{"unitgate hop 1", from, to, addr, proto, key, req.Authority, req.Target} {
		h.Write([]byte(s))
		h.Write([]byte{'\n'})
	}
	return h.Sum(nil)
}

// Marked tells whether another edge has passed the request on, or a client says so.
func (r *Request) Marked() bool {
	if r == nil {
		return false
	}
	_, n := r.Get(hopField)
	return n > 0
}

// notOwner refuses a marked handshake of a client that does not belong here. It is no error of this edge's; the one that
// passed it on knows less than this one, or more.
func (v *View) notOwner(vd Verdict) Verdict {
	no := Refuse(421, CodeNotOwner, "the edge that passed this on took it to the wrong unit")
	no.Type = vd.Type
	no.Header = []Field{{Name: SequenceField, Value: strconv.FormatUint(v.Seq, 10)}}
	return no
}

// Passes tells whether clients of a key may be passed on to a unit: it owns the key, and no cutover has fenced it.
// Unmarked clients are bound to no key, so that no cutover moves them.
func (v *View) Passes(typ, routerID, unit string) bool {
	t := v.Types[typ]
	if t == nil || t.Table == nil {
		return false
	}
	if routerID == "" {
		return true
	}
	r := t.Table.Lookup(routerID)
	return r.Unit == unit && r.Next == ""
}
