package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/unitgate/unitgate/events"
)

// hostile is what someone with full rights may have written into a journal.
const hostile = "a\x1b[2J\x07\r\nb\t\u0085\u009b31m\u202e\u2028\ufeff\xff\x00\x7f杭州 👩‍💻 \U000e0041"

// harmless reports whether nothing in s can move a cursor, colour a line, or turn what follows.
func harmless(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return r != '\n' && r != '\u200d' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar)
	}) < 0
}

func TestPlain(t *testing.T) {
	got := plain(hostile)
	if !harmless(got) || strings.Contains(got, "\n") || !strings.Contains(got, `a\u001b[2J\u0007\u000d\u000ab\u0009`) || !strings.Contains(got, "杭州 👩‍💻") || !strings.Contains(got, `\xff`) {
		t.Errorf("%q", got)
	}
	if s := "杭州 {\"a\": 1}"; plain(s) != s {
		t.Errorf("%q", plain(s))
	}
}

// TestDocumentsKeepTheirMeaning: the JSON of hostile text is harmless, and says the same.
func TestDocumentsKeepTheirMeaning(t *testing.T) {
	var out bytes.Buffer
	c := &cli{out: documents{&out}}
	in := map[string]string{"x": strings.ToValidUTF8(hostile, "?"), "\u202e": `back\slash"`}
	if err := c.line(in); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got["x"] != in["x"] || got["\u202e"] != in["\u202e"] {
		t.Errorf("%v: %q", err, out.String())
	}
	if !harmless(strings.ReplaceAll(out.String(), `\u200d`, "")) {
		t.Errorf("%q", out.String())
	}
}

// TestLogIsHarmless: every field of a record may be hostile, and one record stays one line.
func TestLogIsHarmless(t *testing.T) {
	rec := events.Record{Seq: 7, Time: time.Unix(0, 0), Type: hostile, Actor: hostile, Reason: hostile, CommandID: hostile, Data: []byte(hostile)}
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		c := &cli{out: letters{&out}, format: format}
		if c.json() {
			c.out = documents{&out}
		}
		if err := (&logCmd{cli: c}).record(rec); err != nil {
			t.Fatal(err)
		}
		if s := out.String(); !harmless(strings.ReplaceAll(s, "\ufffd", "")) || strings.Count(s, "\n") != 1 {
			t.Errorf("%s: %q", format, s)
		}
		if c.json() && !json.Valid(out.Bytes()) {
			t.Errorf("%q", out.String())
		}
	}
}

func TestMeter(t *testing.T) {
	now := time.Unix(0, 0)
	read := func(total uint64) string {
		var out bytes.Buffer
		m := newMeter(&out, "reading", func() time.Time { now = now.Add(time.Millisecond); return now })
		for i := uint64(1); i <= total; i++ {
			m(i, total)
		}
		return out.String()
	}
	if s := read(longRead - 1); s != "" {
		t.Errorf("a short reading shows %q", s)
	}
	s := read(1_000_000)
	if !strings.HasPrefix(s, "\r\x1b[Kreading: 4096 of 1000000 (0%)") || !strings.HasSuffix(s, "\r\x1b[K") || strings.Count(s, "reading") < 2 || strings.Count(s, "reading") > 3 {
		t.Errorf("a long reading shows %q", s)
	}
}
