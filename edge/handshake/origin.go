package handshake

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Forward is what the edge tells an origin of a client, each in a field of its own.
type Forward struct {
	Peer      netip.Addr // X-Forwarded-For, and Forwarded's "for": the client's address
	TLS       bool       // X-Forwarded-Proto, and Forwarded's "proto": the client came over it
	UnitType  string     // unitType: what the handshake was decided by, whether the client named it or not
	RequestID string     // X-Request-Id: see Request.ID
	// Epoch and RuleVersion are a fencing token for origins that want more than the edge can promise of bytes in kernel
	// buffers (Unitgate-Epoch, Unitgate-Rule-Version): within an epoch a key's version is higher with each owner. "": none.
	Epoch       string
	RuleVersion uint64

	Fields *Fields // what else is dropped of the client's, or passed

	// To is the edge to which the handshake is passed on by the edge From; nil: it goes to an origin. Binding is what
	// binds the mark to the TLS connection between the two, Now its time; without Binding it is one of the version before.
	To      *Peer
	From    string
	Binding []byte
	Now     time.Time
}

// AppendOrigin appends the request's head as the origin gets it: every header line as the client sent it and in its
// order, but for these.
//   - What a client may not say is dropped: claims and, of Forward, Fields. Some of it is ours to say, in fields that
//     follow its own: the client could have put anything there, and the origin could not tell which part to believe.
//     Peers that may be believed speak PROXY.
//   - Connection and Upgrade are for one hop (RFC 9110 sections 7.6.1 and 7.8) and leave as one line each, and the fields
//     that Connection names are for this hop, too. A client can then neither have the origin's front drop fields,
//     X-Forwarded-For for one, nor switch it to another protocol behind the back of our frame tracking.
//   - Of Sec-WebSocket-Protocol the members that name a routerId are the edge's: an origin that chose one would choose no
//     protocol.
//   - Of an absolute-form target the path remains, and its authority replaces Host (RFC 9112 section 3.2.2).
//
// An edge gets what the client has sent, so that it decides by the same, and a mark. What it tells its origin of the client
// it takes from that. One of a version before gets what an origin gets but for the subprotocols and what Connection names,
// because it passes the rest on.
func (r *Request) AppendOrigin(dst []byte, fw *Forward) []byte {
	if fw.Binding != nil {
		return r.appendSealed(dst, fw)
	}
	dst = r.appendRequestLine(dst, r.Target)
	var hop options
	var chosen *Fields
	if fw.To == nil {
		hop, chosen = r.options(), fw.Fields
	}
	connection, upgrade := false, false
	for i := range r.Fields {
		f := &r.Fields[i]
		switch {
		case strings.EqualFold(f.Name, "Connection"):
			dst, connection = appendOnce(dst, "Connection: Upgrade\r\n", connection), true
		case strings.EqualFold(f.Name, "Upgrade"):
			dst, upgrade = appendOnce(dst, "Upgrade: websocket\r\n", upgrade), true
		case chosen.drops(f.Name) || hop.has(f.Name):
		case fw.To == nil && strings.EqualFold(f.Name, protocolField):
			dst = f.appendProtocols(dst)
		default:
			dst = r.appendField(dst, f)
		}
	}
	if fw.To == nil {
		dst = r.appendForwarded(dst, fw)
	} else {
		dst = appendHop(dst, r, fw)
	}
	dst = append(dst, "X-Request-Id: "...)
	dst = append(dst, fw.RequestID...)
	dst = append(dst, "\r\nunitType: "...)
	dst = append(dst, fw.UnitType...)
	if fw.To == nil && fw.Epoch != "" {
		dst = append(dst, "\r\nUnitgate-Epoch: "...)
		dst = append(dst, fw.Epoch...)
		dst = append(dst, "\r\nUnitgate-Rule-Version: "...)
		dst = strconv.AppendUint(dst, fw.RuleVersion, 10)
	}
	return append(dst, "\r\n\r\n"...)
}

func (r *Request) appendRequestLine(dst []byte, target string) []byte {
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	dst = append(dst, target...)
	return append(dst, " HTTP/1.1\r\n"...)
}

// appendField appends a line as it came, but for a Host that an absolute-form target overrides.
func (r *Request) appendField(dst []byte, f *Field) []byte {
	if f.Value != r.Authority && strings.EqualFold(f.Name, "Host") {
		dst = append(dst, "Host: "...)
		dst = append(dst, r.Authority...)
	} else {
		dst = append(dst, f.line...)
	}
	return append(dst, "\r\n"...)
}

// appendSealed appends the head for another edge.
func (r *Request) appendSealed(dst []byte, fw *Forward) []byte {
	start := len(dst)
	target := r.Target
	if r.ticket != nil { // it decides by the same
		target = withParam(target, ticketParam, r.ticket.text)
	}
	dst = r.appendRequestLine(dst, target)
	for i := range r.Fields {
		if f := &r.Fields[i]; !betweenEdges.holds(f.Name) {
			dst = r.appendField(dst, f)
		}
	}
	dst = append(dst, "X-Request-Id: "...)
	dst = append(dst, fw.RequestID...)
	dst = append(dst, "\r\nunitType: "...)
	dst = append(dst, fw.UnitType...)
	dst = append(dst, "\r\n"...)
	return append(appendSeal(dst, start, fw), "\r\n"...)
}

// appendForwarded appends where the request comes from: in the fields that everybody reads, and in the one that is
// specified (RFC 7239). The host is the one that the client asked for, which Host names as well: X-Forwarded-Host and
// -Port would say nothing more.
func (r *Request) appendForwarded(dst []byte, fw *Forward) []byte {
	peer, proto := fw.Peer.Unmap().WithZone(""), scheme(fw.TLS)
	dst = append(dst, "X-Forwarded-For: "...)
	dst = peer.AppendTo(dst)
	dst = append(dst, "\r\nX-Forwarded-Proto: "...)
	dst = append(dst, proto...)
	dst = append(dst, "\r\nForwarded: for="...)
	if peer.Is4() {
		dst = peer.AppendTo(dst)
	} else { // section 6: in brackets, and these only stand in a quoted string
		dst = append(dst, `"[`...)
		dst = peer.AppendTo(dst)
		dst = append(dst, `]"`...)
	}
	dst = append(dst, ";proto="...)
	dst = append(dst, proto...)
	dst = append(dst, ";host="...)
	if isToken(r.Authority) {
		dst = append(dst, r.Authority...)
	} else { // with a port, say; hostOf lets in no character that would have to be escaped
		dst = append(dst, '"')
		dst = append(dst, r.Authority...)
		dst = append(dst, '"')
	}
	return append(dst, "\r\n"...)
}

const protocolField = "Sec-WebSocket-Protocol"

// appendProtocols appends a line of subprotocols without those that name a routerId, nothing if no other is left.
func (f *Field) appendProtocols(dst []byte) []byte {
	if !strings.Contains(f.Value, subprotocolPrefix) {
		return append(append(dst, f.line...), "\r\n"...)
	}
	start := len(dst)
	for member := range strings.SplitSeq(f.Value, ",") {
		member = strings.Trim(member, " \t")
		if member == "" || strings.HasPrefix(member, subprotocolPrefix) {
			continue
		}
		if len(dst) == start {
			dst = append(dst, f.Name...)
			dst = append(dst, ": "...)
		} else {
			dst = append(dst, ", "...)
		}
		dst = append(dst, member...)
	}
	if len(dst) == start {
		return dst
	}
	return append(dst, "\r\n"...)
}

func appendOnce(dst []byte, line string, done bool) []byte {
	if done {
		return dst
	}
	return append(dst, line...)
}

// maxRequestID is the longest id that is taken from a client: what fits into a line of a log.
const maxRequestID = 128

// ID is the request's X-Request-Id, if the client sent one that every log and every database takes: 1 to 128 letters,
// digits and - . _ ~ : + / =. Otherwise it is empty, and the edge makes one.
func (r *Request) ID() string {
	id, n := r.Get("X-Request-Id")
	if n != 1 || id == "" || len(id) > maxRequestID {
		return ""
	}
	for i := range len(id) {
		if !isAlnum(id[i]) && strings.IndexByte("-._~:+/=", id[i]) < 0 {
			return ""
		}
	}
	return id
}
