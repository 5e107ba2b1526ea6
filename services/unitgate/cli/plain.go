package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What people and peers wrote reaches a terminal as letters only: control characters, escape sequences, marks that turn
// the direction of writing, and bytes that are no UTF-8 are shown as \u001b or \xff.

// plain is s on one line.
func plain(s string) string { return escaped(s, "") }

// escaped replaces what is no visible character, except for those in keep.
func escaped(s, keep string) string {
	visible := func(r rune) bool {
		return unicode.IsGraphic(r) || r == '\u200c' || r == '\u200d' || strings.ContainsRune(keep, r) // joiners make letters and emoji
	}
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !visible(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch _, n := utf8.DecodeRuneInString(s[i:]); {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case visible(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// letters is a writer of text for terminals and pipes: everything but letters, tabs and ends of lines is shown as plain
// does. Each Write holds whole characters.
type letters struct{ w io.Writer }

func (l letters) Write(p []byte) (int, error) {
	if _, err := io.WriteString(l.w, escaped(string(p), "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// documents is a writer of JSON, of which it keeps the meaning: what is not visible can only stand within strings, and
// stays the same there when it is escaped.
type documents struct{ w io.Writer }

func (d documents) Write(p []byte) (int, error) {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(string(p), "\ufffd") {
		switch {
		case unicode.IsGraphic(r) || r == '\n' || r == '\t':
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00 // RFC 8259 section 7
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	if _, err := io.WriteString(d.w, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}
