package events

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// The table of NormalPath: sections are of RFC 3986 unless another RFC is named. "" means that the path is refused.
func TestNormalPath(t *testing.T) {
	for _, c := range []struct{ proves, path, want string }{
		{"3.3: the root", "/", "/"},
		{"3.3: segments", "/a/b.c/d-e_f~g", "/a/b.c/d-e_f~g"},
		{"3.3: sub-delims, colon and at sign are no other characters", "/a!$&'()*+,=:@b", "/a!$&'()*+,=:@b"},
		{"3.3: an empty last segment is one", "/a/", "/a/"},
		{"6.2.2.1: the case of letters counts", "/Admin", "/Admin"},
		{"6.2.2.1: hexadecimal digits are in upper case", "/%e5%8c%97", "/%E5%8C%97"},
		{"2.1: as they were", "/%E5%8C%97", "/%E5%8C%97"},
		{"6.2.2.2: unreserved characters are decoded", "/%61%5A%30%2d%2E%5f%7e", "/aZ0-._~"},
		{"2.3: a word that hides its name", "/%61dmin/ws", "/admin/ws"},
		{"2.2: reserved ones are not: encoded, they are data", "/a%3fb%23c%3A%40", "/a%3Fb%23c%3A%40"},
		{"2.4: no octet is decoded twice", "/a/%252e%252e/b", "/a/%252e%252e/b"},
		{"2.4: … not even a slash", "/a%252Fb", "/a%252Fb"},
		{"slashes in a row are one", "//admin///ws//", "/admin/ws/"},
		{"a dot that is no segment", "/.unitgate/...//..a", "/.unitgate/.../..a"},
		{"parameters belong to their segment", "/a;x=1/b%3b", "/a;x=1/b%3B"},
		{"a percent-encoded space", "/a%20b", "/a%20b"},
		{"GBK is left alone", "/%C0%B4", "/%C0%B4"},

		{"5.2.4: dot segments: in the middle", "/nginx/../internal", ""},
		{"5.2.4: at the end", "/a/..", ""},
		{"5.2.4: at the start", "/../a", ""},
		{"5.2.4: a single one", "/nginx/./x", ""},
		{"5.2.4: of a path alone", "/.", ""},
		{"6.2.2.3: percent-encoded", "/nginx/%2e%2e/internal", ""},
		{"6.2.2.3: one of the two", "/nginx/.%2E/internal", ""},
		{"6.2.2.3: the other one", "/nginx/%2e./internal", ""},
		{"6.2.2.3: a single one", "/nginx/%2e/internal", ""},
		{"behind an empty segment", "/nginx//../internal", ""},
		{"with a parameter, which Tomcat takes off", "/nginx/..;/internal", ""},
		{"with a parameter of a value", "/nginx/..;a=b/internal", ""},
		{"with an encoded parameter", "/nginx/%2e%2e%3bx/internal", ""},
		{"a single one with a parameter", "/nginx/.;x/internal", ""},
		{"an encoded slash behind dots", "/nginx/..%2finternal", ""},
		{"an encoded slash", "/a%2Fb", ""},
		{"an encoded backslash", "/a%5cb", ""},
		{"a backslash", `/nginx/..\internal`, ""},
		{"NUL, encoded", "/a%00", ""},
		{"NUL", "/a\x00", ""},
		{"a line end, which servers decode into a Location", "/a%0d%0aSet-Cookie:x", ""},
		{"DEL", "/a%7f", ""},
		{"RFC 3629 3: a dot in two bytes", "/nginx/%c0%ae%c0%ae/internal", ""},
		{"RFC 3629 3: in three", "/nginx/%e0%80%ae./internal", ""},
		{"RFC 3629 3: in four", "/nginx/%f0%80%80%ae./internal", ""},
		{"RFC 3629 3: a slash", "/nginx/..%c0%afinternal", ""},
		{"RFC 3629 3: a backslash", "/nginx/..%c1%9cinternal", ""},
		{"RFC 3629 3: NUL", "/a%c0%80", ""},
		{"2.1: no digits", "/%zz", ""},
		{"2.1: one digit", "/%4", ""},
		{"2.1: none at all", "/a%", ""},
		{"IIS' own encoding is none", "/nginx/%u002e%u002e/internal", ""},
		{"3.3: no path", "", ""},
		{"3.3: no absolute path", "a/b", ""},
	} {
		got, err := NormalPath(c.path)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: NormalPath(%q) = %q, %v; want %q", c.proves, c.path, got, err, c.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = NormalPath("/chat/v1/room-12~x") }); n > 0 {
		t.Errorf("a path in normal form costs %v allocations", n)
	}
}

func TestBarePath(t *testing.T) {
	for p, want := range map[string]string{
		"/": "/", "/a/b/": "/a/b/", "/admin;x=1/ws": "/admin/ws", "/admin%3Bx/ws": "/admin/ws", "/;/admin": "/admin", "/;x": "/", "/a/;b=c": "/a",
	} {
		if got := BarePath(p); got != want {
			t.Errorf("%q: %q, want %q", p, got, want)
		}
	}
}

// FuzzNormalPath: what is accepted names the same as before to whoever decodes it once, and leaves nothing to resolve,
// to merge or to decode that would make another path of it.
func FuzzNormalPath(f *testing.F) {
	for _, s := range []string{"/", "/a/%2e%2E/b", "//a//b", "/%41;%3b/..;", "/%c0%ae", "/a%252e", "/%e5%8c%97/x", "/..%2f", "/.;/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := NormalPath(s)
		if err != nil {
			if got != "" {
				t.Fatalf("%q: %q with an error", s, got)
			}
			return
		}
		again, err := NormalPath(got)
		if err != nil || again != got {
			t.Fatalf("%q: %q, and of that %q, %v", s, got, again, err)
		}
		before, err1 := url.PathUnescape(s)
		after, err2 := url.PathUnescape(got)
		if err1 != nil || err2 != nil || merged(before) != after {
			t.Fatalf("%q names %q, %q names %q", s, before, got, after)
		}
		if clean := path.Clean(after); clean != after && clean+"/" != after {
			t.Fatalf("%q leaves %q to resolve, which is %q", s, after, clean)
		}
		for name := range strings.SplitSeq(after, "/") {
			if name, _, _ = strings.Cut(name, ";"); name == "." || name == ".." {
				t.Fatalf("%q leaves %q", s, after)
			}
		}
		if strings.ContainsAny(after, "\\\x00\r\n") {
			t.Fatalf("%q leaves %q", s, after)
		}
	})
}

func merged(p string) string {
	for strings.Contains(p, "//") {
		p = strings.ReplaceAll(p, "//", "/")
	}
	return p
}
