package events

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// What people write beside the data goes into the journal and from there into logs, tables and terminals: one line that
// looks like what it is.

// checkLine bounds what people write: one line of UTF-8 in which every character can be seen.
func checkLine(s, field string) error {
	switch {
	case len(s) > maxText:
		return ErrBadValue.With("%d bytes, at most %d are allowed", len(s), maxText).At(field)
	case !utf8.ValidString(s):
		return ErrBadValue.With("control characters or no UTF-8").At(field)
	}
	for i, r := range s {
		switch {
		case unicode.IsControl(r):
			return ErrBadValue.With("control characters or no UTF-8").At(field)
		case unseen(r) && !joins(s, i, r):
			return ErrBadValue.With("%U at byte %d is not visible, or changes how what stands around it is shown: leave it out", r, i).At(field)
		}
	}
	return nil
}

// unseen tells characters by which two different lines look alike: control and format characters (Unicode's categories Cc
// and Cf: marks that turn the direction of writing, joiners, characters of no width, tags), separators of lines and
// paragraphs, and what else a reader shows nothing for by default.
func unseen(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point)
}

// joins tells whether r, at byte i, is a joiner that can be seen by what it does: in Persian and in the scripts of India it
// shapes letters, and it makes one emoji of several. Between letters that stand for themselves it only hides.
func joins(s string, i int, r rune) bool {
	const arabic = 0x600 // the first block of scripts that need it
	if r != '\u200c' && r != '\u200d' {
		return false
	}
	before, _ := utf8.DecodeLastRuneInString(s[:i])
	after, _ := utf8.DecodeRuneInString(s[i+utf8.RuneLen(r):])
	return !unseen(before) && !unseen(after) && before >= arabic && after >= arabic && before != utf8.RuneError && after != utf8.RuneError
}

// Line makes a line that a command takes of a text that is made up of others: without what cannot be seen, and cut where
// it is too long.
func Line(s string) string {
	s = strings.Map(func(r rune) rune {
		if unseen(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) <= maxText {
		return s
	}
	return cut(s, maxText-len("…"))
}
