package handshake

import (
	"net/netip"
	"strings"

	"github.com/unitgate/unitgate/events"
)

// splitTarget reads a request-target in origin-form or absolute-form (RFC 9112 section 3.2). authority is empty for
// origin-form. The other two forms cannot name a WebSocket resource. ws is taken like http and wss like https: clients put
// the URL there that they were given, where RFC 6455 section 4.1 wants an http URL, and the two mean the same.
func splitTarget(s string) (authority, target string, ok bool) {
	for i := 0; i < len(s); i++ {
		// Printable ASCII only, so that the target may be copied into a Location. "#" would cut it short there.
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '#' {
			return "", "", false
		}
	}
	if strings.HasPrefix(s, "/") {
		return "", s, true
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return "", "", false
	}
	switch strings.ToLower(scheme) {
	case "http", "https", "ws", "wss":
	default:
		return "", "", false
	}
	end := strings.IndexAny(rest, "/?")
	switch {
	case end < 0:
		authority, target = rest, "/"
	case rest[end] == '?': // RFC 9110 section 4.2.3: an empty path is the same as "/"
		authority, target = rest[:end], "/"+rest[end:]
	default:
		authority, target = rest[:end], rest[end:]
	}
	return authority, target, authority != ""
}

// badTarget says why a target is none.
func badTarget(target string) *Error {
	for i := range len(target) {
		switch c := target[i]; {
		case c >= 0x80:
			return malformed("the request target holds bytes that are not ASCII: percent-encode them (RFC 3986 section 2.1)")
		case c == '#':
			return malformed("the request target holds a #: leave the fragment out, or write %23")
		}
	}
	return malformed("the request target must be a path or an absolute URL of http, https, ws or wss, in printable ASCII")
}

// setTarget splits a target, and has the path in the one form in which it is matched and passed on: what an origin, or a
// Location, is given is what this edge has decided by. The query stays as it was sent, byte for byte.
func (r *Request) setTarget(target string) *Error {
	path, query, asked := strings.Cut(target, "?")
	if own := r.takeTicket(query); len(own) != len(query) {
		query, asked = own, own != ""
		target = path
		if asked {
			target += "?" + query
		}
	}
	normal, err := events.NormalPath(path)
	if err != nil {
		return &Error{Status: 400, Code: "bad_path", Reason: err.Error()}
	}
	r.Target, r.Path, r.Query = target, normal, query
	if len(normal) != len(path) || normal != path {
		if r.Target = normal; asked {
			r.Target += "?" + query
		}
	}
	return nil
}

// hostOf is the lower-case host of an authority host[:port], without port, brackets and the root's trailing dot.
// User information is refused (RFC 9110 section 4.2.4), and so are percent-encoded names, which no DNS name needs.
func hostOf(authority string) (host string, ok bool) {
	host = authority
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 || !isPort(host[end+1:]) {
			return "", false
		}
		a, err := netip.ParseAddr(host[1:end])
		return strings.ToLower(host[1:end]), err == nil && a.Is6() && a.Zone() == ""
	}
	if i := strings.IndexByte(host, ':'); i >= 0 {
		if !isPort(host[i:]) {
			return "", false
		}
		host = host[:i]
	}
	for i := 0; i < len(host); i++ {
		if !isAlnum(host[i]) && strings.IndexByte("-._~!$&'()*+,;=", host[i]) < 0 { // reg-name, RFC 3986 section 3.2.2
			return "", false
		}
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host, host != ""
}

// isPort tells whether s is empty or a colon and digits (RFC 3986 section 3.2.3 allows none of them, too).
func isPort(s string) bool {
	if s == "" {
		return true
	}
	return s[0] == ':' && strings.Trim(s[1:], "0123456789") == ""
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isToken tells whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenChar(c byte) bool { return isAlnum(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 }
