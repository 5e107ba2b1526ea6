package handshake

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A handshake that came to the wrong unit of a domain with correction "proxy" is passed on to an edge of the right one
// (R14: never to its origin), over TLS on which each of the two knows the other by its key in the journal. It carries a
// mark, the field hopField, as its last one, which says who passes it on and for whom:
//
//	Unitgate-Hop: 2 <edge id> <client's address> http|https <Unix time> <HMAC-SHA256 in base64>
//
// under a secret that these two edges share and nobody else, over all bytes of the head before it and over what no other
// TLS connection has (RFC 9266, with a label of ours): a mark is good on the connection that it was made for and nowhere
// else, once, since a connection carries one handshake. Whoever has no such secret gains nothing by a mark. One that is
// not right is refused, whatever the request asks for. One that is right gives the client's own address and scheme, which
// this edge knows otherwise only of its own connections, and in exchange takes away: a marked handshake is served or
// refused here, never passed on again and never redirected. So none goes in circles, however differently edges see the
// rules.
//
// Edges of versions before that speak no TLS to each other. Between one of these and this one the mark is
//
//	Unitgate-Hop: <edge id> <client's address> http|https <HMAC-SHA256 in base64>
//
// over the request's key, host and target alone, and nothing tells it from a copy. It counts only from edges that the
// journal does not show to be newer (Peer.Sure).
const hopField = "Unitgate-Hop"

// HopProtocol is by what edges agree to speak to each other on a listener that clients come to as well (ALPN, RFC 7301).
// Its two line ends are for versions that speak plain HTTP there: they end the head of what is no request, so that the
// answer comes at once.
const HopProtocol = "unitgate-hop/2\n\n"

// HopExporter is the label of what binds a mark to its TLS connection, of HopBinding bytes (RFC 8446 section 7.5).
const (
	HopExporter = "EXPORTER-unitgate-hop"
	HopBinding  = 32
)

// hopSkew is how far the clocks of two edges may be apart. A mark needs no clock to be good only once; this bounds how
// long whatever lies between two edges may keep one back.
const hopSkew = 30 * time.Second

// A marked request may be longer than a client's own by what edges add to it: so that what the first one has admitted
// passes at the second, together with Limits.Hop.
const (
	hopRoom   = 1280 // bytes; the three fields below are at most 410, and a ticket, which clients bring, is at most 780
	hopFields = 3    // lines: X-Request-Id, unitType, the mark
)

// Fields of an edge's own answer to a marked handshake, for the edge that has passed it on: the code of the verdict, and
// with CodeNotOwner the sequence by which it was decided, with CodeClockSkew this edge's Unix time.
const (
	RefusedField  = "Unitgate-Refused"
	SequenceField = "Unitgate-Sequence"
	TimeField     = "Unitgate-Time"
)

// CodeNotOwner says that a handshake was passed on to the wrong unit.
const CodeNotOwner = "not_owner"

// CodeBadHop says that a mark is none for this edge.
const CodeBadHop = "bad_hop"

// CodeClockSkew says that a mark was right but for its time.
const CodeClockSkew = "clock_skew"

// Peer is another edge to which handshakes are passed on, or from which they come.
type Peer struct {
	ID      string
	Address string            // HOST:PORT; "": nobody is to connect to it
	Secret  []byte            // what it shares with this edge
	Key     ed25519.PublicKey // by which it is known on TLS connections; nil: it has none
	Sure    bool              // it is known to speak TLS to other edges, and nothing else
	Before  *Peer             // the edge whose place it takes, and which accepts at its address until it does; nil: there is none
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
	From   *Peer // that edge
	Client netip.Addr
	TLS    bool // the client came over it
	Sealed bool // the mark is bound to the TLS connection between the edges
}

// mark is what a Request keeps of one.
type mark struct {
	head   string    // the whole head as it came
	target string    // the request-target as it came
	hop    Hop       // what it says, if code is ""
	code   string    // why it counts for nothing
	now    time.Time // when that was found
}

// Recognize reads the mark of a request that came over a connection between edges, with what binds marks to that one, or
// over a client's, with nil. Decide needs it of a marked request, and it is for whoever has parsed that: nobody else may
// know of the request yet. nil: it has no mark that counts. A ticket that the request has is read, too.
func (r *Request) Recognize(v *View, binding []byte, now time.Time) *Hop {
	r.checkTicket(v, now)
	m := r.mark
	switch {
	case m == nil && binding == nil:
		return nil
	case m == nil: // only edges have business on such a connection
		r.mark = &mark{code: CodeBadHop}
		return nil
	}
	m.code, m.now = CodeBadHop, now
	value, n := r.Get(hopField)
	if n != 1 || v == nil {
		return nil
	}
	words := strings.Split(value, " ")
	if binding != nil {
		m.code = r.checkSealed(v, words, binding, now)
	} else {
		m.code = r.checkPlain(v, words)
	}
	if m.code != "" {
		return nil
	}
	return &m.hop
}

// checkSealed reads a mark that is bound to a connection; the result is why it does not count.
func (r *Request) checkSealed(v *View, words []string, binding []byte, now time.Time) string {
	if len(words) != 6 || words[0] != "2" || r.Fields[len(r.Fields)-1].Name != hopField {
		return CodeBadHop
	}
	at, err := strconv.ParseInt(words[4], 10, 64)
	if err != nil || !r.reads(v, words[1:4]) {
		return CodeBadHop
	}
	hop := &r.mark.hop
	hop.Sealed = true
	signed := r.mark.head[:len(r.mark.head)-len(r.Fields[len(r.Fields)-1].line)-len("\r\n\r\n")]
	want, err := base64.StdEncoding.DecodeString(words[5])
	if err != nil || !hmac.Equal(want, sealHop(hop.From.Secret, v.ID, words[1:5], binding, []byte(signed))) {
		return CodeBadHop
	}
	if apart := now.Sub(time.Unix(at, 0)); apart > hopSkew || apart < -hopSkew {
		return CodeClockSkew
	}
	return ""
}

// checkPlain reads a mark of a version before.
func (r *Request) checkPlain(v *View, words []string) string {
	if len(words) != 4 || !r.reads(v, words) {
		return CodeBadHop
	}
	hop := &r.mark.hop
	mac, err := base64.StdEncoding.DecodeString(words[3])
	if err != nil || hop.From.Sure || !hmac.Equal(mac, signHop(hop.From.Secret, hop.From.ID, v.ID, words[1], words[2], r, r.mark.target)) {
		return CodeBadHop
	}
	return ""
}

// reads takes from a mark who passes the handshake on and for whom.
func (r *Request) reads(v *View, words []string) bool {
	from := v.Peers[words[0]]
	client, err := netip.ParseAddr(words[1])
	if from == nil || err != nil || words[2] != "http" && words[2] != "https" {
		return false
	}
	r.mark.hop = Hop{From: from, Client: client, TLS: words[2] == "https"}
	return true
}

// hop is what a marked request says, if a view still knows the edge that passed it on; else vd is the answer.
func (v *View) hop(r *Request) (h *Hop, vd Verdict) {
	m := r.mark
	switch {
	case m.code == CodeClockSkew:
		vd = Refuse(421, m.code, "the clocks of this edge and of the one that passed this on are more than 30 s apart")
		vd.Header = []Field{{Name: TimeField, Value: strconv.FormatInt(m.now.Unix(), 10)}}
		return nil, vd
	case m.code != "" || m.hop.From == nil || v.Peers[m.hop.From.ID] == nil:
		return nil, Refuse(421, CodeBadHop, "no edge that this one knows has passed this on to it")
	}
	return &m.hop, vd
}

// appendHop appends the line of a mark of the version before.
func appendHop(dst []byte, req *Request, fw *Forward) []byte {
	addr, proto := fw.Peer.Unmap().WithZone("").String(), scheme(fw.TLS)
	dst = append(dst, hopField...)
	dst = append(dst, ": "...)
	for _, s := range [...]string{fw.From, addr, proto} {
		dst = append(dst, s...)
		dst = append(dst, ' ')
	}
	dst = base64.StdEncoding.AppendEncode(dst, signHop(fw.To.Secret, fw.From, fw.To.ID, addr, proto, req, req.Target))
	return append(dst, "\r\n"...)
}

// appendSeal appends the line of a mark to a head that ends before it and begins at start.
func appendSeal(dst []byte, start int, fw *Forward) []byte {
	words := []string{fw.From, fw.Peer.Unmap().WithZone("").String(), scheme(fw.TLS), strconv.FormatInt(fw.Now.Unix(), 10)}
	mac := sealHop(fw.To.Secret, fw.To.ID, words, fw.Binding, dst[start:])
	dst = append(dst, hopField...)
	dst = append(dst, ": 2 "...)
	for _, s := range words {
		dst = append(dst, s...)
		dst = append(dst, ' ')
	}
	dst = base64.StdEncoding.AppendEncode(dst, mac)
	return append(dst, "\r\n"...)
}

func scheme(tls bool) string {
	if tls {
		return "https"
	}
	return "http"
}

// sealHop is the HMAC of a mark whose words are given, but for the first and the last. None of them holds a line end, and
// the binding has one length.
func sealHop(secret []byte, to string, words []string, binding, head []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("unitgate hop 2\n" + to + "\n"))
	for _, s := range words {
		h.Write([]byte(s))
		h.Write([]byte{'\n'})
	}
	h.Write(binding)
	h.Write(head)
	return h.Sum(nil)
}

// signHop is the HMAC of a mark of the version before. None of its parts holds a line end. The client's Sec-WebSocket-Key
// makes it one handshake's.
func signHop(secret []byte, from, to, addr, proto string, req *Request, target string) []byte {
	key, _ := req.Get("Sec-WebSocket-Key")
	h := hmac.New(sha256.New, secret)
	for _, s := range [...]string{"unitgate hop 1", from, to, addr, proto, key, req.Authority, target} {
		h.Write([]byte(s))
		h.Write([]byte{'\n'})
	}
	return h.Sum(nil)
}

// Marked tells whether another edge has passed the request on, or a client says so.
func (r *Request) Marked() bool { return r != nil && r.mark != nil }

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
