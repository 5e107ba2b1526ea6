package routing

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Form says which spellings of a routerId are one user's. The zero value takes an ID as it was sent, which is how unit
// types that are older than forms keep the slots of their users.
type Form struct {
	Normal bool // percent-encodings are decoded, joined header fields split, characters composed; what stays unclear is refused
	Fold   bool // of Normal: upper and lower case are the same, as in UUIDs (RFC 9562 section 4)
}

// Key is the one form of a decoded ID under which its user is routed, counted and evicted. The error wraps
// ErrBadRouterID: beside what CheckRouterID refuses, in normal form that is an ID which shows no difference to another
// one (invisible characters), and one that a second decoder would take for another one: a percent-encoding that is
// left, quotes around the whole. An ID in normal form is returned as it is, without an allocation.
func (f Form) Key(id string) (string, error) {
	if err := CheckRouterID(id); err != nil || !f.Normal {
		return id, err
	}
	if n := len(id); n > 1 && id[0] == '"' && id[n-1] == '"' {
		return "", fmt.Errorf("%w: it stands in quotes: write it without", ErrBadRouterID)
	}
	ascii, upper := true, false
	for i := range len(id) {
		switch c := id[i]; {
		case c >= utf8.RuneSelf:
			ascii = false
		case 'A' <= c && c <= 'Z':
			upper = true
		case c == '%' && i+2 < len(id) && isHex(id[i+1]) && isHex(id[i+2]):
			return "", fmt.Errorf("%w: it is percent-encoded: write it decoded", ErrBadRouterID)
		}
	}
	if ascii {
		if upper && f.Fold {
			id = strings.ToLower(id)
		}
		return id, nil
	}
	return f.compose(id)
}

// KeyOf is Key of a spelling as people and other systems write it down: decoded, without quotes around it.
func (f Form) KeyOf(spelling string) (string, error) {
	if f.Normal {
		spelling = Decode(Unquote(spelling))
	}
	return f.Key(spelling)
}

// Unquote takes off the quotes around a spelling.
func Unquote(s string) string {
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// compose is Key of an ID with characters beyond ASCII.
func (f Form) compose(id string) (string, error) {
	for _, c := range id {
		if invisible(c) {
			return "", fmt.Errorf("%w: it has an invisible character, %U", ErrBadRouterID, c)
		}
	}
	key := norm.NFC.String(id)
	if f.Fold {
		key = norm.NFC.String(strings.ToLower(key))
	}
	if len(key) > MaxRouterID {
		return "", fmt.Errorf("%w: %d bytes in normal form, want at most %d", ErrBadRouterID, len(key), MaxRouterID)
	}
	return key, nil
}

// Is reports whether an ID is its own key.
func (f Form) Is(id string) bool {
	key, err := f.Key(id)
	return err == nil && key == id
}

// invisible characters change an ID without showing it: a byte order mark, joiners, fillers, variation selectors.
func invisible(c rune) bool {
	const blankBraille = '\u2800'
	return c == blankBraille || unicode.In(c, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Decode is a spelling with its percent-encodings decoded, once. A "%" before anything else than two hexadecimal digits
// stands for itself: not everybody who writes a header field or a cookie encodes.
func Decode(spelling string) string {
	at := strings.IndexByte(spelling, '%')
	if at < 0 {
		return spelling
	}
	b := append(make([]byte, 0, len(spelling)), spelling[:at]...)
	for i := at; i < len(spelling); i++ {
		if c := spelling[i]; c == '%' && i+2 < len(spelling) && isHex(spelling[i+1]) && isHex(spelling[i+2]) {
			b = append(b, unhex(spelling[i+1])<<4|unhex(spelling[i+2]))
			i += 2
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&0xf + 9
}

// Keys are the keys of all IDs of a set, and how many of them are written otherwise in it; two spellings of one user
// become one. The error is KeyOf's for the first that has none.
func (f Form) Keys(s IDs) (keys IDs, changed int, err error) {
	if !f.Normal || len(s.ends) == 0 {
		return s, 0, nil // a number is its own key
	}
	for i := range s.ends {
		id := s.textAt(i)
		key, err := f.KeyOf(id)
		if err != nil {
			return IDs{}, 0, fmt.Errorf("%w (%.300q)", err, id)
		}
		if key != id {
			changed++
		}
	}
	if changed == 0 {
		return s, 0, nil
	}
	list := make([]string, 0, len(s.ends))
	seen := make(map[string]bool, len(s.ends))
	for i := range s.ends {
		key, _ := f.KeyOf(s.textAt(i)) // it has one, see above
		if !seen[key] {
			seen[key] = true
			list = append(list, key)
		}
	}
	out, err := NewIDs(list)
	if err == nil {
		out = out.With(IDs{nums: s.nums})
	}
	return out, changed, err
}
