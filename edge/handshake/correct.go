package handshake

import (
	"crypto/sha1" //nolint:gosec // what RFC 6455 asks for; nothing rests on it
	"encoding/base64"
	"net/url"
	"strings"
)

// correct is the verdict for a client that came to the wrong unit: how it is told depends on the domain.
func (v *View) correct(vd Verdict, req *Request, site *Site, uri *URI, unit string, tls bool) Verdict {
	switch {
	case req.Marked():
		return v.notOwner(vd)
	case site.Locations[unit] == "":
		return noLocation()
	case site.Correction == "proxy":
		if edges := site.Edges[unit]; edges != nil {
			vd.Action, vd.Code, vd.Edges, vd.URI = Proxy, "proxy", edges, uri
			return vd
		}
		vd := Refuse(503, "no_edge", "no edge of the unit that serves this client is known, try again")
		vd.RetryAfter = 1
		return vd
	case site.Correction == "close":
		if url := site.closeURL(req, &vd, unit, tls); url != "" {
			vd.Action, vd.Code, vd.Status, vd.Reason, vd.To = Accept, "close", 101, url, unit
			return vd
		}
	}
	return redirect(vd, req, site, unit, tls)
}

// redirect sends the client to a unit. Location is built from the configured host and the client's own target, which
// starts with "/" and is printable ASCII: with the host always in front, a path like "//evil" stays a path.
func redirect(vd Verdict, req *Request, site *Site, unit string, tls bool) Verdict {
	host := site.Locations[unit]
	var prefix string
	switch site.Scheme {
	case "http", "https", "ws", "wss":
		prefix = site.Scheme + "://"
	case "protocol-relative":
		prefix = "//"
	default: // auto
		if prefix = "http://"; tls {
			prefix = "https://"
		}
	}
	vd.Action, vd.Code, vd.Status, vd.Reason, vd.To = Answer, "redirect", 302, "moved to "+unit, unit
	vd.Header = []Field{{Name: "Location", Value: prefix + host + req.Target}}
	return vd
}

// maxURL is the longest text of a Close frame, in bytes (RFC 6455 section 5.5: 125 of payload, two of them the code).
const maxURL = 123

// closeURL is where the client belongs, as a WebSocket URL that fits into a Close frame: with its own path and query, or
// without the query, or without both, whatever fits; "" if not even that does. A client therefore takes scheme and host
// from it and keeps path and query of its own.
//
// There is no room for a ticket. If the routerId would not get there by itself, it is put into the query, where the unit
// type looks for it and any client might have put it; that goes before path and query of the client's own.
func (s *Site) closeURL(req *Request, vd *Verdict, unit string, tls bool) string {
	base := s.webSocketScheme(tls) + "://" + s.Locations[unit]
	targets := []string{req.Target, req.Path, "/"}
	if vd.travels() {
		if url := base + req.Target; len(url) <= maxURL {
			return url
		}
		targets = targets[1:]
	}
	if name := vd.param(); name != "" {
		for _, target := range targets {
			if url := withParam(base+target, name, url.QueryEscape(vd.RouterID)); len(url) <= maxURL {
				return url
			}
		}
	}
	for _, target := range targets {
		if url := base + target; len(url) <= maxURL {
			return url
		}
	}
	return ""
}

// param is the parameter in which the client's routerId would be found; "" if there is none.
func (vd *Verdict) param() string {
	if vd.RouterID == "" {
		return ""
	}
	for i := range vd.Type.Sources {
		if s := &vd.Type.Sources[i]; s.From == "query" {
			return url.QueryEscape(s.Name)
		}
	}
	return ""
}

func noLocation() Verdict {
	return Refuse(502, "no_location", "the unit that serves this client has no address for this host name")
}

// AppendAccept appends the response that opens the WebSocket connection (RFC 6455 section 4.2.2) of a client that is only
// told something in a Close frame.
//
// No extension is agreed on. But a subprotocol is, if the client offers any: browsers and npm's ws fail a connection of
// whose subprotocols none is chosen, before they read a frame. Whichever it is, a Close frame means the same in it.
func AppendAccept(dst []byte, req *Request) []byte {
	key, _ := req.Get("Sec-WebSocket-Key")
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see the import
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = base64.StdEncoding.AppendEncode(dst, sum[:])
	if p := req.offered(); p != "" {
		dst = append(dst, "\r\nSec-WebSocket-Protocol: "...)
		dst = append(dst, p...)
	}
	return append(dst, "\r\n\r\n"...)
}

// offered is the first subprotocol that the client offers, other than one that names its routerId if there is one; "" if
// there is none at all.
func (r *Request) offered() (protocol string) {
	for i := range r.Fields {
		if !strings.EqualFold(r.Fields[i].Name, protocolField) {
			continue
		}
		for member := range strings.SplitSeq(r.Fields[i].Value, ",") {
			switch member = strings.Trim(member, " \t"); {
			case !isToken(member):
			case !strings.HasPrefix(member, subprotocolPrefix):
				return member
			case protocol == "":
				protocol = member
			}
		}
	}
	return protocol
}
