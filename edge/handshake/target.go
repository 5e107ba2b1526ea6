package handshake

import (
	"net/netip"
	"strings"
)

// splitTarget reads a request-target in origin-form or absolute-form (RFC 9112 section 3.2). authority is empty for
// origin-form. The other two forms cannot name a WebSocket resource.
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
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
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

// splitPath splits a target and checks the path's percent-encoding. A backslash in a path is refused, because URL
// parsers of browsers take it for a slash and others do not.
func splitPath(target string) (path, query string, ok bool) {
	path, query, _ = strings.Cut(target, "?")
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '\\':
			return "", "", false
		case '%':
			if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
				return "", "", false
			}
			i += 2
		}
	}
	return path, query, true
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

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// isToken tells whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
