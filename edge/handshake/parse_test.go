package handshake

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const host = "Host: a\r\n"
	for _, c := range []struct {
		proves, raw string
		status      int // 0: accepted
	}{
		{"RFC 6455 section 1.2", rfc6455, 0},
		{`lines end in CRLF only, although "a recipient MAY recognize a single LF" (RFC 9112 2.2)`, "GET / HTTP/1.1\nHost: a\n\n", 400},
		{"one bare LF", "GET / HTTP/1.1\r\nHost: a.b\n\r\n", 400},
		{"one bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
		{`"A recipient of such a bare CR MUST consider that element to be invalid" (RFC 9112 2.2)`, "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400},
		{"CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400},
		{"white space in front", " " + rfc6455, 400},
		{`"A sender MUST NOT send whitespace between the start-line and the first header field" (RFC 9112 2.2)`, "GET / HTTP/1.1\r\n X: y\r\n" + host + "\r\n", 400},
		{`"MUST either reject the message by sending a 400" an obs-fold (RFC 9112 5.2)`, "GET / HTTP/1.1\r\n" + host + "X: y\r\n z\r\n\r\n", 400},
		{`"No whitespace is allowed between the field name and colon" (RFC 9112 5.1)`, "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
		{"no colon", "GET / HTTP/1.1\r\n" + host + "X\r\n\r\n", 400},
		{"no field name", "GET / HTTP/1.1\r\n" + host + ": y\r\n\r\n", 400},
		{"a field name that is no token", "GET / HTTP/1.1\r\n" + host + "X(y): z\r\n\r\n", 400},
		{`"Field values containing CR, LF, or NUL characters are invalid and dangerous" (RFC 9110 5.5)`, "GET / HTTP/1.1\r\n" + host + "X: y\x00\r\n\r\n", 400},
		{"DEL in a value", "GET / HTTP/1.1\r\n" + host + "X: \x7f\r\n\r\n", 400},
		{"obs-text in a value (RFC 9110 5.5)", "GET / HTTP/1.1\r\n" + host + "X: \xe5\x8c\x97\r\n\r\n", 0},
		{`"lacks a Host header field": 400 (RFC 9112 3.2)`, "GET / HTTP/1.1\r\n\r\n", 400},
		{`… also with an absolute-form target`, "GET http://a/ HTTP/1.1\r\n\r\n", 400},
		{`"more than one Host header field line": 400`, "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400},
		{`"an invalid field value": 400`, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
		{"an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
		{"a host of a port only", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400},
		{"a port that is none", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400},
		{"an unclosed IPv6 host", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
		{"an IPv4 host in brackets", "GET / HTTP/1.1\r\nHost: [127.0.0.1]\r\n\r\n", 400},
		{`user information is "an error" (RFC 9110 4.2.4)`, "GET http://u@a/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"authority-form", "CONNECT a:80 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"asterisk-form", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 400},
		{"another scheme", "GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a fragment", "GET /a#b HTTP/1.1\r\n" + host + "\r\n", 400},
		{"ws as the scheme of an absolute-form target", "GET ws://a/x HTTP/1.1\r\n" + host + "\r\n", 0},
		{"… and wss", "GET WSS://a:443/x?y HTTP/1.1\r\n" + host + "\r\n", 0},
		{"… but not their like", "GET wsx://a/x HTTP/1.1\r\n" + host + "\r\n", 400},
		{`an empty line "SHOULD be ignored" (RFC 9112 2.2)`, "\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 0},
		{"two of them", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 0},
		{"three", "\r\n\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"an empty line of LF alone", "\nGET / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a CR alone", "\rGET / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"an empty line, and what is no request", "\r\n\x00", 400},
		{"UTF-8 in the target", "GET /北 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a control character in the target", "GET /a\x01 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"two spaces", "GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a space in the target", "GET /a b HTTP/1.1\r\n" + host + "\r\n", 400},
		{"no version", "GET /\r\n" + host + "\r\n", 400},
		{"a method that is no token", "G@T / HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a TLS ClientHello", "\x16\x03\x01\x02\x00\x01\n\n", 400},
		{"a bad percent-encoding in the path", "GET /%4 HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a bad percent-encoding, first digit", "GET /%g4/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a bad percent-encoding, second digit", "GET /%4g/ HTTP/1.1\r\n" + host + "\r\n", 400},
		{"a percent-encoding at the end", "GET /%2B HTTP/1.1\r\n" + host + "\r\n", 0},
		{"a path that servers read in different ways", "GET /a/..%2Fb HTTP/1.1\r\n" + host + "\r\n", 400},
		{"… of an absolute-form target", "GET http://a/b/../c HTTP/1.1\r\n" + host + "\r\n", 400},
		{"… is no matter in the query", "GET /a?/../%2F%00\\%zz HTTP/1.1\r\n" + host + "\r\n", 0},
		{"an IPv6 host with a zone, which means nothing on this machine", "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", 400},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n" + host + "\r\n", 0},
		{"HTTP/1.0, which asks for no host", "GET / HTTP/1.0\r\n\r\n", 0},
		{"HTTP/1.0 with two", "GET / HTTP/1.0\r\n" + host + host + "\r\n", 400},
		{"another version", "GET / HTTP/2.0\r\n" + host + "\r\n", 505},
		{"no HTTP version", "GET / HTTP/1.10\r\n" + host + "\r\n", 400},
		{"a body of no length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", 0},
		{"a malformed length, which is no handshake's", "GET / HTTP/1.1\r\n" + host + "Content-Length: 0, 0\r\n\r\n", 0},
		{"a chunked body, too", "GET / HTTP/1.1\r\n" + host + "transfer-encoding: chunked\r\n\r\n", 0},
		{`"headers too large 431": too many lines`, "GET / HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", MaxFields) + "\r\n", 431},
		{"as many lines as are allowed", "GET / HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", MaxFields-1) + "\r\n", 0},
	} {
		req, n, err := Parse([]byte(c.raw))
		var e *Error
		switch {
		case c.status == 0 && (err != nil || req == nil || n != len(c.raw)):
			t.Errorf("%s: %d of %d bytes, %v", c.proves, n, len(c.raw), err)
		case c.status != 0 && (!errors.As(err, &e) || e.Status != c.status || req != nil || n != 0):
			t.Errorf("%s: %v, %v, want %d", c.proves, req, err, c.status)
		}
	}
}

// statusOf is that of the answer to an error of Parse.
func statusOf(err error) int {
	var e *Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Status
}

// "headers too large 431": a head of more than the limit, or as soon as not even one of another edge could end.
func TestParseCap(t *testing.T) {
	full := rfc6455[:len(rfc6455)-2] + "X: "
	full += strings.Repeat("y", MaxHead-len(full)-4) + "\r\n\r\n"
	if _, n, err := Parse([]byte(full + "tunnel")); n != MaxHead || err != nil {
		t.Errorf("as long as it may be: %d %v", n, err)
	}
	if req, _, err := Parse([]byte(full[:MaxHead-1])); req != nil || err != nil {
		t.Errorf("one byte less: %v %v", req, err)
	}
	longer := strings.Replace(full, "y", "yy", 1)
	checkSplits(t, []byte(full+"tunnel"))
	checkSplits(t, []byte(longer+"tunnel"))
	for _, raw := range []string{longer, strings.TrimSpace(longer) + strings.Repeat("y", hopRoom+9), strings.Repeat("y", Limits{}.MaxRead())} {
		if req, _, err := Parse([]byte(raw[:min(len(raw), Limits{}.MaxRead())-1])); req != nil || err != nil {
			t.Errorf("one byte less than %d: %v %v", len(raw), req, err)
		}
		if _, _, err := Parse([]byte(raw)); statusOf(err) != 431 {
			t.Errorf("%d bytes: %v", len(raw), err)
		}
	}
}

// What clients do send: two cookies of 4 KB, the bearer token of Kubernetes' web sockets, both and more. An edge may be told
// to take more or less, and says what it takes.
func TestLongHeads(t *testing.T) {
	with := func(lines ...string) string {
		return strings.TrimSuffix(rfc6455, "\r\n") + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	cookie := "Cookie: session=" + strings.Repeat("c", 4096) + "; profile=" + strings.Repeat("p", 4096)
	bearer := "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io." + strings.Repeat("t", 4096) + ", v4.channel.k8s.io"
	for _, c := range []struct {
		proves string
		limits Limits
		raw    string
		why    string
	}{
		{"two cookies of 4 KB", Limits{}, with(cookie), ""},
		{"a bearer subprotocol", Limits{}, with(bearer), ""},
		{"both, and 150 lines", Limits{}, with(cookie, bearer, strings.Repeat("X: y\r\n", 149)+"X: y"), ""},
		{"less is admitted", Limits{Head: SmallestHead}, with(cookie), "the request's head is longer than 8 KiB: send fewer or shorter cookies and header fields"},
		{"an odd number", Limits{Head: 8300}, with(cookie), "the request's head is longer than 8300 bytes: send fewer or shorter cookies and header fields"},
		{"more than is admitted", Limits{}, with(cookie, cookie, cookie, cookie), "the request's head is longer than 32 KiB: send fewer or shorter cookies and header fields"},
		{"more is admitted", Limits{Head: 64 << 10}, with(cookie, cookie, cookie, cookie), ""},
		{"another edge has admitted it", Limits{Head: SmallestHead, Hop: true}, with(cookie, cookie, cookie, cookie), ""},
		{"the most that another edge admits", Limits{Hop: true}, with("X: " + strings.Repeat("x", LargestHead)), "the request's head is longer than 256 KiB: send fewer or shorter cookies and header fields"},
	} {
		req, n, err := c.limits.Parse([]byte(c.raw))
		switch {
		case c.why == "" && (err != nil || req == nil || n != len(c.raw)):
			t.Errorf("%s: %d of %d bytes, %v", c.proves, n, len(c.raw), err)
		case c.why != "" && (statusOf(err) != 431 || err.Error() != c.why):
			t.Errorf("%s: %v, want %q", c.proves, err, c.why)
		}
	}
}

// What is wrong with a target is said, so that whoever has written the client knows what to write instead.
func TestBadTargets(t *testing.T) {
	for target, want := range map[string]string{
		"/北京":             "percent-encode",
		"/chat?name=北京":   "percent-encode",
		"http://a/\xff":   "percent-encode",
		"\xe5\x8c\x97":    "percent-encode",
		"/chat#here":      "leave the fragment out",
		"ftp://a/":        "http, https, ws or wss",
		"*":               "http, https, ws or wss",
		"ws://":           "http, https, ws or wss",
		"http://?x":       "http, https, ws or wss",
		"wss:/a":          "http, https, ws or wss",
		"ws://北京.example": "percent-encode",
	} {
		raw := "GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n"
		if _, _, err := Parse([]byte(raw)); statusOf(err) != 400 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", target, err, want)
		}
		checkSplits(t, []byte(raw))
	}
}

// An origin is sent neither the empty line nor the scheme, and the host that the target names.
func TestLeadingLinesAndSchemesStayHere(t *testing.T) {
	raw := "\r\n" + strings.Replace(rfc6455, "/chat", "ws://other.example/chat", 1)
	for i := range raw {
		if req, n, err := Parse([]byte(raw[:i])); req != nil || n != 0 || err != nil {
			t.Fatalf("%d bytes: %v %d %v", i, req, n, err)
		}
	}
	req, n, err := Parse([]byte(raw + "\x81\x00"))
	if err != nil || n != len(raw) || req.Host != "other.example" || req.Target != "/chat" {
		t.Fatalf("%+v %d %v", req, n, err)
	}
	out := string(req.AppendOrigin(nil, &Forward{Peer: testPeer, UnitType: "unit_type", RequestID: "x"}))
	if !strings.HasPrefix(out, "GET /chat HTTP/1.1\r\nHost: other.example\r\n") {
		t.Errorf("%q", out)
	}
}

// "bytes glued to the handshake (they belong to the tunnel)"; "a request split into single bytes".
func TestParseByteByByte(t *testing.T) {
	raw := []byte(rfc6455 + "\x81\x00\r\n\r\n")
	for i := range raw {
		req, n, err := Parse(raw[:i])
		if done := i >= len(rfc6455); err != nil || (req != nil) != done || done && n != len(rfc6455) {
			t.Fatalf("%d bytes: %v %d %v", i, req, n, err)
		}
	}
	req, _, _ := Parse(raw)
	clear(raw)
	if req.Method != "GET" || req.Target != "/chat" || req.Host != "server.example.com" || len(req.Fields) != 7 {
		t.Errorf("%+v", req)
	}
	if v, n := req.Get("sec-websocket-PROTOCOL"); v != "chat, superchat" || n != 1 {
		t.Errorf("%q %d", v, n)
	}
}

// browsers is a handshake as browsers send it.
func browsers() []byte {
	return []byte(head("GET /chat?room=12 HTTP/1.1", "+Origin: https://app.msha.tech",
		"+Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", "+unitType: by_local", "+routerId: 8330",
		"+Cookie: session=0123456789abcdef; theme=dark", "+User-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/130"))
}

func BenchmarkAppendOrigin(b *testing.B) {
	req, _, err := Parse(browsers())
	if err != nil {
		b.Fatal(err)
	}
	fw := &Forward{Peer: testPeer, UnitType: "by_local", RequestID: "0123456789abcdef0123456789abcdef", Epoch: "e", RuleVersion: 7}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = req.AppendOrigin(out[:0], fw)
	}
}

func BenchmarkParseDecide(b *testing.B) {
	v := testView(b, "unbj", false)
	raw := browsers()
	b.ReportAllocs()
	for b.Loop() {
		req, _, err := Parse(raw)
		if err != nil {
			b.Fatal(err)
		}
		if vd := Decide(req, v, testPeer, false); vd.Action != Serve {
			b.Fatal(show(vd))
		}
	}
}

// A handshake costs three allocations: the request, its text and its fields.
func TestAllocations(t *testing.T) {
	v := testView(t, "unbj", false)
	raw := []byte(head("+routerId: 8330"))
	if n := testing.AllocsPerRun(100, func() {
		req, _, _ := Parse(raw)
		Decide(req, v, testPeer, false)
	}); n > 3 {
		t.Errorf("%v allocations", n)
	}
}
