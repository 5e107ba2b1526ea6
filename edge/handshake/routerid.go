package handshake

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/unitgate/unitgate/events/routing"
)

// unitType is the type that the unitType header names, else the site's. code is empty unless the header is bad.
func (v *View) unitType(req *Request, site *Site) (t *Type, code, reason string) {
	name, n := req.Get("unitType")
	if n == 0 {
		if site.Type != nil {
			return site.Type, "", ""
		}
		return v.Default, "", ""
	}
	if n > 1 && req.differ("unitType", name) {
		return nil, "bad_unit_type", "more than one unitType header, with different values"
	}
	if t = v.Types[name]; t == nil {
		return nil, "bad_unit_type", "unknown unit type in the unitType header"
	}
	return t, "", ""
}

// routerID looks for the routerId in the type's sources; the first that has one decides, good or bad. It is empty for
// an unmarked client. code is empty unless the request is to be refused.
//
// A source that names the routerId and leaves it empty is refused and not skipped: taken for unmarked, a user's
// session would silently land in the wrong unit.
func routerID(req *Request, t *Type, peer netip.Addr) (id, code, reason string) {
	for _, s := range t.Sources {
		var found, differs bool
		switch s.From {
		case "header":
			var n int
			id, n = req.Get(s.Name)
			found, differs = n > 0, n > 1 && req.differ(s.Name, id)
		case "cookie":
			id, found = req.cookie(s.Name)
		case "query":
			id, found, differs = req.param(s.Name)
		case "path":
			id, found = req.segment(s.Number)
		case "subprotocol":
			id, found, differs = req.subprotocol()
		}
		switch {
		case !found:
			continue
		case differs:
			return "", "bad_router_id", "the " + s.From + " gives more than one routerId"
		case routing.CheckRouterID(id) != nil:
			return "", "bad_router_id",
				"bad routerId in the " + s.From + ": " + wantRouterID
		}
		return id, "", ""
	}
	switch t.Unmarked {
	case "reject":
		return "", "no_router_id", "this unit type needs a routerId"
	case "split":
		return peer.Unmap().WithZone("").String(), "", ""
	}
	return "", "", ""
}

const wantRouterID = "want 1 to 256 bytes of UTF-8 without spaces and control characters"

// differ tells whether a field of that name has another value than value.
func (r *Request) differ(name, value string) bool {
	for i := range r.Fields {
		if strings.EqualFold(r.Fields[i].Name, name) && r.Fields[i].Value != value {
			return true
		}
	}
	return false
}

// cookie is the value of the first cookie of that name, without the quotes that may stand around it (RFC 6265 section
// 4.1.1), not decoded. Cookies of one name and different paths are legal, and the user agent puts the most specific
// first (section 5.4).
func (r *Request) cookie(name string) (value string, found bool) {
	for i := range r.Fields {
		if !strings.EqualFold(r.Fields[i].Name, "Cookie") {
			continue
		}
		for pair := range strings.SplitSeq(r.Fields[i].Value, ";") {
			k, v, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			if !ok || k != name {
				continue
			}
			if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
				v = v[1 : len(v)-1]
			}
			return v, true
		}
	}
	return "", false
}

// param is the decoded value of a query parameter, and whether it stands there again with another value. The query is
// read as application/x-www-form-urlencoded, as browsers write it: "+" is a space. A value that cannot be decoded
// counts as empty, which is refused, too.
func (r *Request) param(name string) (value string, found, differs bool) {
	if r.Query == "" {
		return "", false, false
	}
	for pair := range strings.SplitSeq(r.Query, "&") {
		k, v, _ := strings.Cut(pair, "=")
		if k, err := url.QueryUnescape(k); err != nil || k != name {
			continue
		}
		v, _ = url.QueryUnescape(v) // "" with an error
		if found && v != value {
			return value, true, true
		}
		value, found = v, true
	}
	return value, found, false
}

// segment is the n-th segment of the path, decoded; the first one is 1. An empty one is none: "/ws/" has one segment. A
// question for a location has a path of ours.
func (r *Request) segment(n int) (value string, found bool) {
	if r.Path == LocatePath {
		return "", false
	}
	path := strings.TrimPrefix(r.Path, "/")
	for seg := range strings.SplitSeq(path, "/") {
		if n--; n == 0 {
			value, err := url.PathUnescape(seg)
			return value, seg != "" && err == nil
		}
	}
	return "", false
}

// subprotocolPrefix begins the subprotocol by which a browser, whose scripts can set no header field, names the routerId.
const subprotocolPrefix = "router-id."

// subprotocol is the routerId that a member of Sec-WebSocket-Protocol names, percent-decoded, since a member is a token.
func (r *Request) subprotocol() (value string, found, differs bool) {
	for i := range r.Fields {
		if !strings.EqualFold(r.Fields[i].Name, protocolField) {
			continue
		}
		for member := range strings.SplitSeq(r.Fields[i].Value, ",") {
			v, ok := strings.CutPrefix(strings.Trim(member, " \t"), subprotocolPrefix)
			if !ok {
				continue
			}
			v, _ = url.PathUnescape(v) // "" with an error, which is refused
			if found && v != value {
				return value, true, true
			}
			value, found = v, true
		}
	}
	return value, found, false
}
