package handshake

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// rfc6455 is the client's handshake of RFC 6455 section 1.2.
const rfc6455 = "GET /chat HTTP/1.1\r\n" +
	"Host: server.example.com\r\n" +
	"Upgrade: websocket\r\n" +
	"Connection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Origin: http://example.com\r\n" +
	"Sec-WebSocket-Protocol: chat, superchat\r\n" +
	"Sec-WebSocket-Version: 13\r\n\r\n"

var slashes = regexp.MustCompile("//+")

var nasty = []string{
	rfc6455,
	rfc6455 + "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
	strings.ReplaceAll(rfc6455, "\r\n", "\n"),
	"\r\n" + rfc6455,
	"GET http://Example.COM:8080/a%2Fb?q=%zz HTTP/1.1\r\nHost: other\r\n\r\n",
	"\r\n\r\n" + rfc6455,
	"\r\n\r\n\r\n" + rfc6455,
	"\r" + rfc6455,
	"GET ws://Example.COM:8080/a HTTP/1.1\r\nHost: other\r\n\r\n",
	"GET wss://h?q HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET /\xe5\x8c\x97 HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET http://h?q HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET http://[::1]:80/ HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n",
	"GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET //evil/x?//y HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a|b[c]{d}^\"<> HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /%7e//b;c/%e5?%7e//.. HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET http://h//a/%2e./b HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET / HTTP/1.0\r\n\r\n",
	"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
	"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
	"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost:\t a \t\r\n: x\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX:\xff \t\r\nx: 2\r\nY:\r\nPragma: no-cache\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\ncontent-length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\n\r\nGET /two HTTP/1.1\r\nHost: b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X:\r\n", MaxFields) + "\r\n",
}

// FuzzParseSplit: "same verdict under any split". The seeds are short, since a run costs the square of the length;
// TestParseCap does the same at the cap.
func FuzzParseSplit(f *testing.F) {
	for _, s := range nasty {
		f.Add([]byte(s))
	}
	f.Fuzz(checkSplits)
}

// checkSplits: Parse sees a connection's bytes in pieces of any size, that is some of their prefixes. Every prefix must
// give either "more" or the final verdict, and once decided stay decided.
func checkSplits(t *testing.T, data []byte) {
	want, wantN, wantErr := Parse(data)
	decided := false
	for i := range len(data) + 1 {
		req, n, err := Parse(data[:i])
		if i > 0 && !decided { // and whoever knows what was undecided is told the same
			again, m, why := Limits{}.ParseOn(data[:i], i-1)
			if m != n || !reflect.DeepEqual(why, err) || !reflect.DeepEqual(again, req) {
				t.Fatalf("prefix of %d bytes: %+v, %d, %v, and read on: %+v, %d, %v", i, req, n, err, again, m, why)
			}
		}
		if req == nil && err == nil {
			if decided || n != 0 {
				t.Fatalf("prefix of %d bytes: undecided (n %d) after a shorter one was decided", i, n)
			}
			continue
		}
		if n != wantN || !reflect.DeepEqual(err, wantErr) || !decided && !reflect.DeepEqual(req, want) {
			t.Fatalf("prefix of %d bytes: %+v, %d, %v; all of it: %+v, %d, %v", i, req, n, err, want, wantN, wantErr)
		}
		decided = true
	}
}

// FuzzParseAgreesWithNetHTTP: whatever Parse accepts, http.ReadRequest accepts and reads the same from it, but for empty
// lines before it, which no origin is sent. An origin in Go then serves what the edge decided about.
func FuzzParseAgreesWithNetHTTP(f *testing.F) {
	for _, s := range nasty {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		req, n, err := Parse(data)
		if err != nil || req == nil || req.hasBody() { // of a body, Parse says no more
			return
		}
		lead := emptyLines(data)
		checkAgainstNetHTTP(t, req, data[lead:], n-lead)
		// And what the origin is sent is accepted again, and says the same.
		if req.old { // which no origin is sent
			return
		}
		out := req.AppendOrigin(nil, &Forward{Peer: testPeer, UnitType: "unit_type", RequestID: "x"})
		again, m, err := Parse(append(out, "glued"...))
		switch {
		case err != nil && len(out) > MaxHead-250-len(req.Authority): // our five fields may take it over a cap
		case err != nil && len(req.Fields) > MaxFields-5:
		case err != nil || m != len(out):
			t.Fatalf("%q\nis sent to the origin as\n%q\nand refused: %v", data[:n], out, err)
		case again.Target != req.Target || again.Host != req.Host || again.Method != req.Method:
			t.Fatalf("%+v\nis sent to the origin as\n%+v", req, again)
		default:
			checkAgainstNetHTTP(t, again, out, m)
		}
	})
}

func checkAgainstNetHTTP(t *testing.T, req *Request, data []byte, n int) {
	t.Helper()
	br := bufio.NewReader(bytes.NewReader(data))
	std, err := http.ReadRequest(br)
	if err != nil {
		t.Fatalf("Parse accepts %q, http.ReadRequest does not: %v", data[:n], err)
	}
	if rest, _ := io.ReadAll(br); !bytes.Equal(rest, data[n:]) {
		t.Fatalf("%q: the head ends at %d, %d bytes before http.ReadRequest's", data, n, len(data)-len(rest)-n)
	}
	path, err := url.PathUnescape(req.Path)
	named := slashes.ReplaceAllString(std.URL.Path, "/") // what the origin is sent has one
	if err != nil || path != named && !(path == "/" && named == "") || req.Query != std.URL.RawQuery {
		t.Fatalf("%q: path %q query %q, http.ReadRequest has %q and %q", data[:n], path, req.Query, std.URL.Path, std.URL.RawQuery)
	}
	if target, query := req.Path, strings.Contains(req.Target, "?"); req.Target != target && !(query && req.Target == target+"?"+req.Query) {
		t.Fatalf("%q: target %q of %q and %q", data[:n], req.Target, req.Path, req.Query)
	}
	if req.Method != std.Method || req.Authority != std.Host {
		t.Fatalf("%q: %s %q, http.ReadRequest has %s %q", data[:n], req.Method, req.Authority, std.Method, std.Host)
	}
	ours := http.Header{}
	for _, f := range req.Fields {
		key := textproto.CanonicalMIMEHeaderKey(f.Name)
		ours[key] = append(ours[key], f.Value)
	}
	// What http.ReadRequest itself changes in the header: Host goes, equal lengths become one, Pragma adds a field.
	for _, key := range []string{"Host", "Content-Length"} {
		ours.Del(key)
		std.Header.Del(key)
	}
	if _, ok := ours["Cache-Control"]; !ok {
		std.Header.Del("Cache-Control")
	}
	if !reflect.DeepEqual(ours, std.Header) {
		t.Fatalf("%q: header %q, http.ReadRequest has %q", data[:n], ours, std.Header)
	}
}
