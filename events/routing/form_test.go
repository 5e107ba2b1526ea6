package routing

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

func TestKey(t *testing.T) {
	normal, fold := Form{Normal: true}, Form{Normal: true, Fold: true}
	for _, c := range []struct {
		form     Form
		id, want string // want "": refused
	}{
		{Form{}, "user%40example.com", "user%40example.com"},
		{Form{}, "\ufeff4001", "\ufeff4001"},
		{normal, "4001", "4001"},
		{normal, "user@example.com", "user@example.com"},
		{normal, "user%40example.com", ""},
		{normal, "100%", "100%"},
		{normal, "50%zz", "50%zz"},
		{normal, `"4001"`, ""},
		{normal, `"`, `"`},
		{normal, "\ufeff4001", ""},
		{normal, "4001\u200b", ""},
		{normal, "a\u00adb", ""},
		{normal, "a\u3164b", ""},
		{normal, "a\ufe0fb", ""},
		{normal, "a\u2800b", ""},
		{normal, "a b", ""},
		{normal, "Rene\u0301", "René"},
		{normal, "\u212a1", "K1"}, // the Kelvin sign
		{normal, "F47AC10B-58CC-4372-A567-0E02B2C3D479", "F47AC10B-58CC-4372-A567-0E02B2C3D479"},
		{fold, "F47AC10B-58CC-4372-A567-0E02B2C3D479", "f47ac10b-58cc-4372-a567-0e02b2c3d479"},
		{fold, "RENÉ", "rené"},
		{fold, "\u212a1", "k1"},
	} {
		got, err := c.form.Key(c.id)
		if c.want == "" && err == nil || c.want != "" && (got != c.want || err != nil) {
			t.Errorf("%+v %q: %q, %v", c.form, c.id, got, err)
		}
	}
}

// A key is its own key, and what is the same text in Unicode has the same one.
func TestKeysAreStable(t *testing.T) {
	letters := []rune("aZ09%+;,=\"'@.-_~/éİßΣςKÅ한글漢字\u0301\u0307\u0327ﬁ😀")
	for range 20000 {
		var b strings.Builder
		for range 1 + rand.IntN(8) {
			b.WriteRune(letters[rand.IntN(len(letters))])
		}
		id := b.String()
		for _, f := range []Form{{Normal: true}, {Normal: true, Fold: true}} {
			key, err := f.Key(id)
			if err != nil {
				continue
			}
			if again, err := f.Key(key); again != key || err != nil {
				t.Fatalf("%+v: %q has the key %q, and that has %q, %v", f, id, key, again, err)
			}
			if other, err := f.Key(norm.NFD.String(id)); err == nil && other != key {
				t.Fatalf("%+v: %q has the key %q, decomposed %q", f, id, key, other)
			}
			if Decode(url.PathEscape(key)) != key || Decode(key) != key {
				t.Fatalf("%q does not come back from being encoded", key)
			}
		}
	}
}

func TestKeysOfASet(t *testing.T) {
	fold := Form{Normal: true, Fold: true}
	got, changed, err := fold.Keys(MustIDs("7", "b", "A", "a", "C"))
	if err != nil || changed != 2 || !got.Equal(MustIDs("7", "a", "b", "c")) {
		t.Errorf("%v, %d changed, %v", got, changed, err)
	}
	if _, _, err := fold.Keys(MustIDs("a%2541")); err == nil {
		t.Error("an ID without a key is taken")
	}
	same := MustIDs("7", "x%41")
	if got, changed, err := (Form{}).Keys(same); err != nil || changed != 0 || !got.Equal(same) {
		t.Errorf("as sent: %v, %d, %v", got, changed, err)
	}
}

func BenchmarkKey(b *testing.B) {
	f := Form{Normal: true, Fold: true}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Key("f47ac10b-58cc-4372-a567-0e02b2c3d479"); err != nil {
			b.Fatal(err)
		}
	}
}
