package handshake

import (
	"cmp"
	"iter"
	"net/netip"
	"net/url"
	"strings"

	"github.com/unitgate/unitgate/events/routing"
)

// unitType is the type that the unitType header names, else the site's. code is empty unless the header is bad.
func (v *View) unitType(req *Request, site *Site) (t *Type, code, reason string) {
	name, n := req.Get("unitType")
	if n == 0 {
		if req.ticket != nil && req.ticket.valid && v.Types[req.ticket.typ] != nil { // the client has lost the field
			return v.Types[req.ticket.typ], "", ""
		}
		if site.Type != nil {
			return site.Type, "", ""
		}
		return v.Default, "", ""
	}
	if n > 1 && req.differ("unitType", name) {
		return nil, "bad_unit_type", "more than one unitType header, with different values"
	}
	if first, rest, joined := strings.Cut(name, ","); joined && v.Types[name] == nil { // RFC 9110 section 5.3
		name = strings.Trim(first, " \t")
		for other := range strings.SplitSeq(rest, ",") {
			if strings.Trim(other, " \t") != name {
				return nil, "bad_unit_type", "more than one unit type in the unitType header"
			}
		}
	}
	if t = v.Types[name]; t == nil {
		return nil, "bad_unit_type", "unknown unit type in the unitType header"
	}
	return t, "", ""
}

// who is a client, as a request says.
type who struct {
	id     string // its routerId; "": it is unmarked
	source int    // number of the source that has it, or noSource
	said   bool   // the request says it there itself, and not only its ticket
}

// routerID looks for the routerId in the type's sources; the first that has one decides, good or bad. code is empty unless
// the request is to be refused.
//
// A source that names the routerId and leaves it empty is refused and not skipped: taken for unmarked, a user's
// session would silently land in the wrong unit.
func routerID(req *Request, t *Type, peer netip.Addr) (w who, code, reason string) {
	vouched := req.ticketOf(t)
	for i := range t.Sources {
		s := &t.Sources[i]
		f := finding{form: t.Form}
		f.read(req, s)
		said := f.n > 0
		if vouched != nil && vouched.source == s.text() {
			f.add(vouched.id)
		}
		if f.n == 0 {
			continue
		}
		if reason := f.wrong(s.From); reason != "" {
			return who{}, "bad_router_id", reason
		}
		return who{f.key, i, said}, "", ""
	}
	switch {
	case vouched != nil: // of an address, or of a source that is none any more
		if key, err := t.Form.Key(vouched.id); err == nil {
			return who{id: key, source: noSource}, "", ""
		}
		return who{}, "bad_ticket", badTicket
	case req.ticket != nil && req.ticket.late:
		return who{}, "bad_ticket", "this URL was made for one redirect, and that was too long ago: connect to the address that you were given first"
	case req.ticket != nil:
		return who{}, "bad_ticket", badTicket
	}
	switch t.Unmarked {
	case "reject":
		return who{}, "no_router_id", "this unit type needs a routerId"
	case "split":
		return who{id: addressID(peer, t.Form.Normal), source: noSource}, "", ""
	}
	return who{source: noSource}, "", ""
}

const badTicket = "the " + ticketParam + " in the query is none of an edge here: leave it out"

// addressID stands for the routerId of a client that has none. The addresses of one IPv6 network of 64 bits are one
// client's, who changes them as it likes (RFC 8981), as they are for limits.
func addressID(peer netip.Addr, networks bool) string {
	peer = peer.Unmap().WithZone("")
	if networks && peer.Is6() {
		if p, err := peer.Prefix(64); err == nil {
			return p.Addr().String()
		}
	}
	return peer.String()
}

// finding is what the places of one source say.
type finding struct {
	form    routing.Form
	key     string // of the first that has one
	n       int    // of them
	differs bool   // another one has another key
	why     string // one is no routerId; "": all are
}

// add takes one spelling, decoded.
func (f *finding) add(id string) {
	key, err := f.form.Key(id)
	f.n++
	switch {
	case err != nil:
		f.why = cmp.Or(f.why, strings.TrimPrefix(err.Error(), routing.ErrBadRouterID.Error()+": "))
	case f.key == "":
		f.key = key
	case f.key != key:
		f.differs = true
	}
}

// wrong says why what was found is no routerId; "": it is one.
func (f *finding) wrong(source string) string {
	switch {
	case f.differs:
		return "the " + source + " gives more than one routerId"
	case f.why != "":
		return "bad routerId in the " + source + ": " + f.why
	}
	return ""
}

// read takes what one source says.
func (f *finding) read(req *Request, s *Source) {
	switch s.From {
	case "header":
		f.header(req, s.Name)
	case "cookie":
		f.cookie(req, s.Name)
	case "query":
		f.query(req, s.Name)
	case "path":
		f.segment(req, s.Number)
	case "subprotocol":
		f.subprotocol(req)
	}
}

// header reads fields of a name. Whoever passes a request on may join them with commas (RFC 9110 section 5.3), and
// an empty member says nothing (section 5.6.1).
func (f *finding) header(req *Request, name string) {
	empty := false
	for i := range req.Fields {
		field := &req.Fields[i]
		switch {
		case !strings.EqualFold(field.Name, name):
		case !f.form.Normal:
			f.add(field.Value)
		case strings.IndexByte(field.Value, ',') < 0:
			f.member(field.Value, &empty)
		default:
			for member := range strings.SplitSeq(field.Value, ",") {
				f.member(strings.Trim(member, " \t"), &empty)
			}
		}
	}
	if empty && f.n == 0 {
		f.add("")
	}
}

func (f *finding) member(value string, empty *bool) {
	if value == "" {
		*empty = true
		return
	}
	f.add(routing.Decode(routing.Unquote(value)))
}

// cookie reads the cookies of a name, without the quotes that may stand around a value (RFC 6265 section 4.1.1). Cookies of
// one name and different paths are legal, and their order is nothing to rely on (section 4.2.2).
func (f *finding) cookie(req *Request, name string) {
	for i := range req.Fields {
		if !strings.EqualFold(req.Fields[i].Name, "Cookie") {
			continue
		}
		for pair := range strings.SplitSeq(req.Fields[i].Value, ";") {
			k, v, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			switch {
			case !ok:
			case f.form.Normal:
				f.normalCookie(name, k, v)
			case k == name:
				f.add(routing.Unquote(v)) // the first one, which user agents take for the most specific (section 5.4)
				return
			}
		}
	}
}

// normalCookie reads one cookie. No value has a comma (RFC 6265 section 4.1.1); where one stands, somebody may have joined
// two fields by it, so that no one can tell where the value ends.
func (f *finding) normalCookie(name, k, v string) {
	v, joined, comma := strings.Cut(v, ",")
	mine := strings.TrimRight(k, " \t") == name
	for other := range strings.SplitSeq(joined, ",") {
		k, _, ok := strings.Cut(other, "=")
		mine = mine || comma && ok && strings.Trim(k, " \t") == name
	}
	switch {
	case mine && comma:
		f.n, f.why = f.n+1, `a comma in the Cookie field, write %2C`
	case mine:
		f.add(routing.Decode(routing.Unquote(strings.TrimLeft(v, " \t"))))
	}
}

// query reads a parameter. The query is read as application/x-www-form-urlencoded, as browsers write it: "+" is a space.
func (f *finding) query(req *Request, name string) {
	for v := range req.params(name) {
		id, err := url.QueryUnescape(v)
		switch {
		case err != nil:
			f.n, f.why = f.n+1, `a "%" is not followed by two hexadecimal digits`
		case strings.IndexByte(v, '+') >= 0:
			f.n, f.why = f.n+1, `"+" is a space here, write %2B`
		default:
			f.add(id)
		}
	}
}

// segment reads the n-th segment of the path; the first one is 1. An empty one is none: "/ws/" has one segment. A question
// for a location has a path of ours.
func (f *finding) segment(req *Request, n int) {
	if req.Path == LocatePath {
		return
	}
	for seg := range strings.SplitSeq(strings.TrimPrefix(req.Path, "/"), "/") {
		if n--; n > 0 {
			continue
		}
		switch {
		case seg == "":
		case f.form.Normal && strings.IndexByte(seg, ';') >= 0:
			f.n, f.why = 1, `a ";" begins parameters, write %3B`
		default:
			f.add(routing.Decode(seg)) // NormalPath lets only percent-encodings pass
		}
		return
	}
}

// subprotocolPrefix begins the subprotocol by which a browser, whose scripts can set no header field, names the routerId.
const subprotocolPrefix = "router-id."

// subprotocol reads the members of Sec-WebSocket-Protocol that name a routerId, percent-encoded, since a member is a token.
func (f *finding) subprotocol(req *Request) {
	for i := range req.Fields {
		if !strings.EqualFold(req.Fields[i].Name, protocolField) {
			continue
		}
		for member := range strings.SplitSeq(req.Fields[i].Value, ",") {
			v, ok := strings.CutPrefix(strings.Trim(member, " \t"), subprotocolPrefix)
			if !ok {
				continue
			}
			if id, err := url.PathUnescape(v); err == nil {
				f.add(id)
			} else {
				f.n, f.why = f.n+1, `a "%" is not followed by two hexadecimal digits`
			}
		}
	}
}

// differ tells whether a field of that name has another value than value.
func (r *Request) differ(name, value string) bool {
	for i := range r.Fields {
		if strings.EqualFold(r.Fields[i].Name, name) && r.Fields[i].Value != value {
			return true
		}
	}
	return false
}

// params are the values of a query parameter, as they were sent.
func (r *Request) params(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if r.Query == "" {
			return
		}
		for pair := range strings.SplitSeq(r.Query, "&") {
			k, v, _ := strings.Cut(pair, "=")
			if k, err := url.QueryUnescape(k); err == nil && k == name && !yield(v) {
				return
			}
		}
	}
}

// param is the decoded value of a query parameter, and whether it stands there again with another value. A value that
// cannot be decoded counts as empty.
func (r *Request) param(name string) (value string, found, differs bool) {
	for v := range r.params(name) {
		v, _ = url.QueryUnescape(v) // "" with an error
		if found && v != value {
			return value, true, true
		}
		value, found = v, true
	}
	return value, found, false
}
