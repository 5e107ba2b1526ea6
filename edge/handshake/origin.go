package handshake

import (
	"net/netip"
	"strings"
)

// AppendOrigin appends the request's head as the origin gets it: every header line as the client sent it and in its
// order, but for these.
//   - X-Forwarded-For and X-Forwarded-Proto are ours: the client's are dropped, because it could have put any address
//     there, and the origin could not tell which part to believe. Peers that may be believed speak PROXY.
//   - ProbeField is the edge's own secret and goes no further.
//   - Connection and Upgrade are for one hop (RFC 9110 sections 7.6.1 and 7.8) and leave as one line each. A client can
//     then neither have the origin's front drop fields, X-Forwarded-For for one, nor switch it to another protocol
//     behind the back of our frame tracking.
//   - Of an absolute-form target the path remains, and its authority replaces Host (RFC 9112 section 3.2.2).
func (r *Request) AppendOrigin(dst []byte, peer netip.Addr, tls bool) []byte {
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	dst = append(dst, r.Target...)
	dst = append(dst, " HTTP/1.1\r\n"...)
	connection, upgrade := false, false
	for i := range r.Fields {
		f := &r.Fields[i]
		switch {
		case strings.EqualFold(f.Name, "X-Forwarded-For") || strings.EqualFold(f.Name, "X-Forwarded-Proto"):
		case strings.EqualFold(f.Name, ProbeField):
		case strings.EqualFold(f.Name, "Connection"):
			dst, connection = appendOnce(dst, "Connection: Upgrade\r\n", connection), true
		case strings.EqualFold(f.Name, "Upgrade"):
			dst, upgrade = appendOnce(dst, "Upgrade: websocket\r\n", upgrade), true
		case r.absolute && strings.EqualFold(f.Name, "Host"):
			dst = append(dst, "Host: "...)
			dst = append(dst, r.Authority...)
			dst = append(dst, "\r\n"...)
		default:
			dst = append(dst, f.line...)
			dst = append(dst, "\r\n"...)
		}
	}
	dst = append(dst, "X-Forwarded-For: "...)
	dst = peer.Unmap().WithZone("").AppendTo(dst)
	dst = append(dst, "\r\nX-Forwarded-Proto: http"...)
	if tls {
		dst = append(dst, 's')
	}
	return append(dst, "\r\n\r\n"...)
}

func appendOnce(dst []byte, line string, done bool) []byte {
	if done {
		return dst
	}
	return append(dst, line...)
}
