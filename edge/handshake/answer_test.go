package handshake

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// answer reads vd's bytes as a client does.
func answer(t *testing.T, vd Verdict) (*http.Response, string) {
	t.Helper()
	raw := AppendAnswer([]byte("before"), nil, &vd)
	br := bufio.NewReader(bytes.NewReader(raw[len("before"):]))
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || br.Buffered() != 0 || !res.Close {
		t.Fatalf("%q: %v, %d bytes left, close %v", raw, err, br.Buffered(), res.Close)
	}
	return res, string(body)
}

// "plain-text body, one line that says why".
func TestAppendAnswer(t *testing.T) {
	vd := Refuse(503, "held_too_long", "no room\r\nX: y")
	vd.RetryAfter = 3
	vd.Header = []Field{{Name: "X-Test", Value: "a\r\nSet-Cookie: b"}}
	res, body := answer(t, vd)
	if res.StatusCode != 503 || body != "no room??X: y\n" || res.Header.Get("Retry-After") != "3" ||
		res.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%+v %q", res, body)
	}
	if res.Header.Get("X-Test") != "a??Set-Cookie: b" || len(res.Header) != 4 {
		t.Errorf("a field broke out of its line: %q", res.Header)
	}
	if res, _ := answer(t, Refuse(408, "slow", "the handshake took too long")); res.Header.Get("Retry-After") != "" {
		t.Error("a Retry-After that nobody asked for")
	}
}

// "The server MUST send an Upgrade header field in a 426 response" (RFC 9110 15.5.22), its sender "MUST also send an
// Upgrade connection option" (7.8), and CONTRACT: "version other than 13: 426 with Sec-WebSocket-Version: 13".
func TestUpgradeRequired(t *testing.T) {
	v := testView(t, "unbj", false)
	for _, raw := range []string{head("Upgrade: -"), head("Sec-WebSocket-Version: 8"), head("GET / HTTP/1.0")} {
		raw := AppendAnswer(nil, nil, new(decide(raw, v, testPeer, false)))
		for _, want := range []string{"HTTP/1.1 426 Upgrade Required\r\n", "\r\nUpgrade: websocket\r\n", "\r\nSec-WebSocket-Version: 13\r\n", "\r\nConnection: close, Upgrade\r\n"} {
			if !strings.Contains(string(raw), want) {
				t.Errorf("%q has no %q", raw, want)
			}
		}
	}
}

// "Location: <scheme>://<owner's sub-domain><same path and query>", scheme: "auto (http or https, as the client came)".
func TestLocation(t *testing.T) {
	const host = "unbj.websocket.msha.tech:81"
	for _, c := range []struct {
		scheme, target string
		tls            bool
		want           string
	}{
		{"auto", "/chat", false, "http://" + host + "/chat"},
		{"auto", "/chat?", true, "https://" + host + "/chat?"},
		{"http", "/chat?a=%0d%0a&b=c d", true, ""}, // a space ends the target: no request at all
		{"http", "/chat?a=%0d%0a", true, "http://" + host + "/chat?a=%0d%0a"},
		{"https", "/chat//%7ex%2c?y=http://z/..//%7e", false, "https://" + host + "/chat/~x%2C?y=http://z/..//%7e"},
		{"https", "/chat/../x", false, ""}, // what a client resolves here need not be what it has asked for
		{"ws", "/chat", true, "ws://" + host + "/chat"},
		{"wss", "/chat", false, "wss://" + host + "/chat"},
		{"protocol-relative", "/chat", false, "//" + host + "/chat"},
		// The client's path can not become another host, not even with the scheme left out.
		{"auto", "//evil.example/x", false, "http://" + host + "/evil.example/x"},
		{"protocol-relative", "//evil.example/x", false, "//" + host + "/evil.example/x"},
		{"protocol-relative", "/@evil.example", false, "//" + host + "/@evil.example"},
		{"auto", `/\evil.example`, false, ""},
		{"auto", "http://websocket.msha.tech", false, "http://" + host + "/"},
		{"auto", "https://WEBSOCKET.msha.tech:8?q", false, "http://" + host + "/?q"},
	} {
		v := testView(t, "center", false)
		site := v.Sites["websocket.msha.tech"]
		site.Scheme, site.URIs = c.scheme, []URI{{Path: "/"}}
		vd := decide(head("GET "+c.target+" HTTP/1.1", "+routerId: 8330"), v, testPeer, c.tls)
		if c.want == "" {
			if vd.Status != 400 {
				t.Errorf("%s: %s", c.target, show(vd))
			}
			continue
		}
		res, body := answer(t, vd)
		if got := res.Header.Get("Location"); got != c.want || res.StatusCode != 302 || body != "moved to unbj\n" {
			t.Errorf("%s: %d %q %q", c.target, res.StatusCode, got, body)
		}
		if u, err := url.Parse(c.want); err != nil || u.Host != host {
			t.Errorf("%s leads to %v, %v", c.want, u, err)
		}
	}
	v := testView(t, "center", false)
	delete(v.Sites["websocket.msha.tech"].Locations, "unbj")
	if got := show(decide(head("+routerId: 8330"), v, testPeer, false)); got != "502 no_location" {
		t.Error(got)
	}
}

// "Host, subprotocols, extensions and headers pass through; X-Forwarded-For/Proto are set".
func TestAppendOrigin(t *testing.T) {
	const rest = "Sec-WebSocket-Protocol: chat, superchat\r\nsec-websocket-extensions:permessage-deflate; a=\"b\" \r\nX-A: 1\r\nx-a:\t2\r\nCookie: k=v\r\n"
	for _, c := range []struct{ proves, in, out string }{
		{
			"lines pass byte for byte and in order",
			"GET /chat?a=b%20 HTTP/1.1\r\nhOST:  A:81\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + rest + "\r\nGLUED",
			"GET /chat?a=b%20 HTTP/1.1\r\nhOST:  A:81\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + rest,
		},
		{
			"a client cannot forge what the origin believes of it",
			"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 127.0.0.1\r\nX-FORWARDED-PROTO: https\r\nX-Forwarded-For:\r\nX: y\r\n" +
				"x-request-id: 1\r\nUNITTYPE: other\r\nUnitgate-Epoch: 7\r\nunitgate-Hop: 1\r\nUnitgate-: \r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n",
		},
		{
			"not even for an application that takes _ for -",
			"GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 127.0.0.1\r\nx-forwarded_proto: https\r\nX_REQUEST_ID: 1\r\nUNITGATE_EPOCH: 7\r\nUnitgate_Rule-Version: 7\r\nX: y\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n",
		},
		{
			"names that only look like them pass",
			"GET / HTTP/1.1\r\nHost: a\r\nXForwarded-For: 1\r\nForwarde: 1\r\nX-Request-Ie: 1\r\nunit-type: 1\r\nUnitgate: 1\r\nxUnitgate-A: 1\r\nX-Real: 1\r\nX-: 1\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nXForwarded-For: 1\r\nForwarde: 1\r\nX-Request-Ie: 1\r\nunit-type: 1\r\nUnitgate: 1\r\nxUnitgate-A: 1\r\nX-Real: 1\r\nX-: 1\r\n",
		},
		{
			"nor make the origin's front drop it (RFC 9110 7.6.1), nor leave the protocol that the edge follows",
			"GET / HTTP/1.1\r\nHost: a\r\nconnection: upgrade, X-Forwarded-For\r\nUPGRADE: h2c, websocket\r\nConnection: close\r\nUpgrade: x\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
		},
		{
			`"remove any header … with the same name as the connection-option" (RFC 9110 7.6.1), but for what makes the handshake`,
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade ,x-hop,, Host\r\nX-Hop: 1\r\nx-HOP: 2\r\nX-Hop-2: 3\r\nconnection:Cookie, Sec-WebSocket-Extensions\r\nCookie: k=v\r\nSec-WebSocket-Extensions: x\r\nKeep-Alive: 1\r\nTE: gzip\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nX-Hop-2: 3\r\nSec-WebSocket-Extensions: x\r\n",
		},
		{
			"subprotocols that name the routerId are the edge's, the others pass",
			"GET / HTTP/1.1\r\nHost: a\r\nsec-websocket-Protocol: chat ,router-id.6249,  superchat\r\nSec-WebSocket-Protocol: router-id.6249\r\nSec-WebSocket-Protocol:x,  y\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nsec-websocket-Protocol: chat, superchat\r\nSec-WebSocket-Protocol:x,  y\r\n",
		},
		{
			`absolute-form: "replace it with the host information of the request-target" (RFC 9112 3.2.2)`,
			"GET HTTPS://b:8?q HTTP/1.1\r\nX: y\r\nHost: a\r\n\r\n",
			"GET /?q HTTP/1.1\r\nX: y\r\nHost: b:8\r\n",
		},
	} {
		req, _, err := Parse([]byte(c.in))
		if err != nil {
			t.Fatal(c.proves, err)
		}
		host := req.Authority
		if strings.Contains(host, ":") {
			host = `"` + host + `"`
		}
		got := string(req.AppendOrigin([]byte("before"), &Forward{Peer: netip.MustParseAddr("::ffff:192.0.2.7"), UnitType: "unit_type", RequestID: "r-1"}))
		if got != "before"+c.out+"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nForwarded: for=192.0.2.7;proto=http;host="+host+"\r\nX-Request-Id: r-1\r\nunitType: unit_type\r\n\r\n" {
			t.Errorf("%s: %q", c.proves, got)
		}
		fencing := &Forward{Peer: netip.MustParseAddr("192.0.2.7"), UnitType: "unit_type", RequestID: "r-1", Epoch: "E1", RuleVersion: 12}
		if got := string(req.AppendOrigin(nil, fencing)); !strings.HasSuffix(got, "\r\nunitType: unit_type\r\nUnitgate-Epoch: E1\r\nUnitgate-Rule-Version: 12\r\n\r\n") {
			t.Errorf("the fencing token: %q", got)
		}
		fw := &Forward{Peer: netip.IPv6Loopback(), TLS: true, UnitType: "other", RequestID: "r-2"}
		if got := string(req.AppendOrigin(nil, fw)); got != c.out+"X-Forwarded-For: ::1\r\nX-Forwarded-Proto: https\r\nForwarded: for=\"[::1]\";proto=https;host="+host+"\r\nX-Request-Id: r-2\r\nunitType: other\r\n\r\n" {
			t.Errorf("%s, over TLS: %q", c.proves, got)
		}
	}
}

// A client's request id is kept if it is one that is safe to pass on and to log.
func TestRequestID(t *testing.T) {
	for header, want := range map[string]string{
		"":                                  "",
		"X-Request-Id: 7b1f-4E.x_~:+/=\r\n": "7b1f-4E.x_~:+/=",
		"x-REQUEST-id:\t" + strings.Repeat("a", 128) + " \r\n": strings.Repeat("a", 128),
		"X-Request-Id: " + strings.Repeat("a", 129) + "\r\n":   "",
		"X-Request-Id:\r\n":                      "",
		"X-Request-Id: a b\r\n":                  "",
		"X-Request-Id: a\"b\r\n":                 "",
		"X-Request-Id: \xe5\r\n":                 "",
		"X-Request-Id: a\r\nX-Request-Id: a\r\n": "",
		"X_Request_Id: a\r\n":                    "",
	} {
		req, _, err := Parse([]byte("GET / HTTP/1.1\r\nHost: a\r\n" + header + "\r\n"))
		if err != nil {
			t.Fatalf("%q: %v", header, err)
		}
		if got := req.ID(); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}
