package events

import (
	"errors"
	"strings"
)

// Why NormalPath refuses a path. Each text is an answer to a client, too.
var (
	errPathStart    = errors.New("a path begins with a slash")
	errPathEncoding = errors.New(`a "%" in the path is not followed by two hexadecimal digits (RFC 3986 section 2.1)`)
	errPathDots     = errors.New(`the path has a segment "." or "..", plain or percent-encoded: resolve it first (RFC 3986 section 5.2.4)`)
	errPathSlash    = errors.New("the path has a percent-encoded slash or a backslash: servers do not agree whether it ends a segment")
	errPathControl  = errors.New("the path has a control character")
	errPathOverlong = errors.New("the path has a percent-encoded character in more bytes than UTF-8 has for it (RFC 3629 section 3)")
)

// NormalPath is the one form of a path of a URI in which paths are compared, stored and sent to origins. It is the
// normal form of RFC 3986 section 6.2.2 without its last step:
//
//   - Hexadecimal digits of percent-encodings are in upper case (6.2.2.1). The rest keeps its case, which counts.
//   - Letters, digits and "-._~" are not percent-encoded (6.2.2.2).
//   - Several slashes in a row are one, as in nginx and Apache: they name the same thing almost everywhere, so that
//     //admin has to be found below /admin.
//   - Dot segments are not removed (6.2.2.3) but refused: clients that mean well have removed them (5.2.4), and a
//     server may do it after decoding more than this function may.
//
// What servers are known to read differently is an error, whose text names the reason: dot segments, also with
// parameters behind them ("..;x", which Tomcat takes for ".."), encoded slashes, backslashes, control characters and
// overlong UTF-8. "%25" stays as it is: a server that decodes once, as it should (section 2.4), finds a "%" there.
// A path in normal form is returned as it is and costs one pass and no allocation.
func NormalPath(path string) (string, error) {
	if !strings.HasPrefix(path, "/") {
		return "", errPathStart
	}
	if plainPath(path) {
		return path, nil
	}
	b := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '%':
			decoded, err := escaped(path[i:])
			if err != nil {
				return "", err
			}
			if unreserved(decoded) {
				b = append(b, decoded)
			} else {
				b = append(b, '%', upperHex(path[i+1]), upperHex(path[i+2]))
			}
			i += 2
		case c == '\\':
			return "", errPathSlash
		case c < ' ' || c == 0x7f:
			return "", errPathControl
		case c == '/' && len(b) > 0 && b[len(b)-1] == '/':
		default:
			b = append(b, c)
		}
	}
	if hasDots(b) {
		return "", errPathDots
	}
	if string(b) == path {
		return path, nil
	}
	return string(b), nil
}

// plainPath reports whether nothing of a path needs a closer look.
func plainPath(path string) bool {
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '%', c == '\\', c < ' ', c == 0x7f:
			return false
		case c == '/' && i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.'):
			return false
		}
	}
	return true
}

// escaped is the byte that s begins with, percent-encoded, if it may stand in a path at all.
func escaped(s string) (byte, error) {
	c, ok := percent(s)
	switch {
	case !ok:
		return 0, errPathEncoding
	case c == '/' || c == '\\':
		return 0, errPathSlash
	case c < ' ' || c == 0x7f:
		return 0, errPathControl
	case c >= 0xc0 && overlong(s):
		return 0, errPathOverlong
	}
	return c, nil
}

// percent decodes one percent-encoding.
func percent(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	high, low := hexDigit(s[1]), hexDigit(s[2])
	return byte(high<<4 | low), high|low < 16
}

// overlong reports whether s begins with a character that has a meaning in paths, or none, in a form that is too long
// for it: decoders that do not mind would find it only behind the edge.
func overlong(s string) bool {
	var b [4]byte
	n := 0
	for ; n < len(b); n++ {
		c, ok := percent(s[min(3*n, len(s)):])
		if !ok {
			break
		}
		b[n] = c
	}
	rest := func(i int) int { return int(b[i] & 0x3f) }
	r := -1
	switch {
	case n >= 2 && b[0]&0xe0 == 0xc0:
		r = int(b[0]&0x1f)<<6 | rest(1)
	case n >= 3 && b[0] == 0xe0:
		r = rest(1)<<6 | rest(2)
	case n >= 4 && b[0] == 0xf0:
		r = rest(1)<<12 | rest(2)<<6 | rest(3)
	}
	return r >= 0 && r < 0x80 && (r < ' ' || r == 0x7f || strings.IndexByte("./\\;%", byte(r)) >= 0)
}

// hasDots reports whether one of the segments is "." or "..", with or without parameters.
func hasDots(path []byte) bool {
	for segment := range strings.SplitSeq(string(path), "/") {
		if name := withoutParameters(segment); name == "." || name == ".." {
			return true
		}
	}
	return false
}

// withoutParameters is a segment without what follows its first ";" (RFC 3986 section 3.3), encoded or not.
func withoutParameters(segment string) string {
	name, _, _ := strings.Cut(segment, ";")
	name, _, _ = strings.Cut(name, "%3B")
	return name
}

// BarePath is a path in normal form without the parameters of its segments: what a server matches that takes them off.
func BarePath(path string) string {
	if !HasParameters(path) {
		return path
	}
	var b strings.Builder
	for segment := range strings.SplitSeq(path[1:], "/") {
		if name := withoutParameters(segment); name != "" {
			b.WriteByte('/')
			b.WriteString(name)
		}
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// HasParameters reports whether a segment of a path in normal form has parameters.
func HasParameters(path string) bool {
	return strings.IndexByte(path, ';') >= 0 || strings.Contains(path, "%3B")
}

// unreserved characters are the same percent-encoded or not (RFC 3986 section 2.3).
func unreserved(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("-._~", c) >= 0
}

// hexDigit is the value of a hexadecimal digit, 16 if c is none.
func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return 16
}

func upperHex(c byte) byte {
	if 'a' <= c && c <= 'f' {
		return c - 'a' + 'A'
	}
	return c
}
