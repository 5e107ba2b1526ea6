package events

import (
	"strconv"
	"strings"
)

// The grammar of JSON, RFC 8259, for strict: what follows the next value, whatever it is.

func (s *strict) space() {
	for s.pos < len(s.data) && strings.IndexByte(" \t\r\n", s.data[s.pos]) >= 0 {
		s.pos++
	}
}

// peek is the next byte, 0 at the end.
func (s *strict) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *strict) unexpected(where string) error {
	if s.pos >= len(s.data) {
		return s.notJSON("it ends " + where)
	}
	return s.notJSON(strconv.QuoteToASCII(short(s.data[s.pos:])) + " stands " + where)
}

func (s *strict) isNull() bool {
	if !strings.HasPrefix(string(s.data[s.pos:min(s.pos+4, len(s.data))]), "null") {
		return false
	}
	rest := s.data[s.pos+4:]
	return len(rest) == 0 || strings.IndexByte(" \t\r\n,]}", rest[0]) >= 0
}

// more passes over what stands between two entries, and tells whether there is another one.
func (s *strict) more(n int, end byte) (bool, error) {
	s.space()
	switch c := s.peek(); {
	case c == end:
		s.pos++
		return false, nil
	case n == 0:
		return true, nil
	case c != ',':
		return false, s.unexpected("where a comma or the end is wanted")
	}
	s.pos++
	s.space()
	if s.peek() == end {
		return false, s.unexpected("behind a comma")
	}
	return true, nil
}

// key reads a key and its colon.
func (s *strict) key() (string, error) {
	begin := s.pos
	if s.peek() != '"' {
		return "", s.unexpected("where a key is wanted")
	}
	if err := s.quoted(); err != nil {
		return "", err
	}
	raw := s.data[begin:s.pos]
	if s.space(); s.peek() != ':' {
		return "", s.unexpected("where a colon is wanted")
	}
	s.pos++
	if len(raw) > maxTextInJSON {
		return "", ErrTooLarge.With("a key of %d bytes, at most %d are allowed", len(raw), maxTextInJSON).At(s.at())
	}
	return string(unquote(raw)), nil
}

// skip passes over one value.
func (s *strict) skip(depth int) error {
	if depth > maxDepth {
		return ErrBadCommand.With("nested deeper than %d", maxDepth).At(s.at())
	}
	switch c := s.peek(); {
	case c == '"':
		return s.quoted()
	case c == '{':
		return s.skipAll('}', depth)
	case c == '[':
		return s.skipAll(']', depth)
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if strings.HasPrefix(string(s.data[s.pos:min(s.pos+len(word), len(s.data))]), word) {
			s.pos += len(word)
			return nil
		}
	}
	return s.unexpected("where a value is wanted")
}

// skipAll passes over an object or a list.
func (s *strict) skipAll(end byte, depth int) error {
	s.pos++
	for n := 0; ; n++ {
		more, err := s.more(n, end)
		if err != nil || !more {
			return err
		}
		if end == '}' {
			if _, err := s.key(); err != nil {
				return err
			}
			s.space()
		}
		if err := s.skip(depth + 1); err != nil {
			return err
		}
	}
}

// quoted passes over a string.
func (s *strict) quoted() error {
	for s.pos++; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return nil
		case c < ' ':
			return s.unexpected("in a string")
		case c == '\\':
			if s.pos++; strings.IndexByte(`"\/bfnrtu`, s.peek()) < 0 {
				return s.unexpected("behind a backslash")
			}
			if s.data[s.pos] == 'u' && !s.fourHex() {
				return s.unexpected(`behind \u`)
			}
		}
	}
	return s.unexpected("in a string")
}

// fourHex passes over the digits of a \u, but for the last.
func (s *strict) fourHex() bool {
	for range 4 {
		s.pos++
		if strings.IndexByte("0123456789abcdefABCDEF", s.peek()) < 0 {
			return false
		}
	}
	return true
}

// number passes over a number.
func (s *strict) number() error {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return s.unexpected("in a number")
	}
	if s.peek() == '.' {
		if s.pos++; !s.digits() {
			return s.unexpected("in a number")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		if s.pos++; s.peek() == '+' || s.peek() == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.unexpected("in a number")
		}
	}
	return nil
}

// digits passes over digits, of which there must be one.
func (s *strict) digits() bool {
	begin := s.pos
	for '0' <= s.peek() && s.peek() <= '9' {
		s.pos++
	}
	return s.pos > begin
}
