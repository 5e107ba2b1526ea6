package handshake

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

// A domain that closes tells its clients a WebSocket URL, in what fits into a Close frame of it; otherwise nothing is
// different from one that redirects.
func TestCorrectByClosing(t *testing.T) {
	v := testView(t, "unbj", true)
	site := v.Sites["websocket.msha.tech"]
	site.Correction = "close"
	long := strings.Repeat("x", maxURL-len("ws://center.websocket.msha.tech/chat?"))
	for _, c := range []struct {
		name, scheme string
		tls          bool
		raw, want    string
	}{
		{"as the client came", "auto", false, head("+Cookie: routerId=1111"), "101 close ws://center.websocket.msha.tech/chat?routerId=1111"},
		{"as the client came, over TLS", "auto", true, head("+Cookie: routerId=1111"), "101 close wss://center.websocket.msha.tech/chat?routerId=1111"},
		{"a name without a scheme leaves it open, too", "protocol-relative", true, head("+Cookie: routerId=1111"), "101 close wss://center.websocket.msha.tech/chat?routerId=1111"},
		{"as the domain says", "https", false, head("+Cookie: routerId=1111"), "101 close wss://center.websocket.msha.tech/chat?routerId=1111"},
		{"as the domain says, plain", "ws", true, head("+Cookie: routerId=1111"), "101 close ws://center.websocket.msha.tech/chat?routerId=1111"},
		{"query and path are kept", "auto", false, head("GET /chat/a%20b?routerId=1111&y=%2F HTTP/1.1"), "101 close ws://center.websocket.msha.tech/chat/a%20b?routerId=1111&y=%2F"},
		{"the routerId goes before the query", "auto", false, head("GET /chat?"+long+" HTTP/1.1", "+Cookie: routerId=1111"), "101 close ws://center.websocket.msha.tech/chat?routerId=1111"},
		{"… if not both fit", "auto", false, head("GET /chat?"+long[:20]+" HTTP/1.1", "+Cookie: routerId=1111"), "101 close ws://center.websocket.msha.tech/chat?" + long[:20] + "&routerId=1111"},
		{"a long path", "auto", false, head("GET /chat/"+long+"x?z HTTP/1.1", "+Cookie: routerId=1111"), "101 close ws://center.websocket.msha.tech/?routerId=1111"},
		{"a field of the client's own is there again", "auto", false, head("+routerId: 1111"), "101 close ws://center.websocket.msha.tech/chat"},
		{"what travels by itself is not said twice", "auto", false, head("GET /chat?routerId=1111&" + long[:50] + " HTTP/1.1"), "101 close ws://center.websocket.msha.tech/chat?routerId=1111&" + long[:50]},
		{"a long query that names it", "auto", false, head("GET /chat?routerId=1111&" + long + " HTTP/1.1"), "101 close ws://center.websocket.msha.tech/chat?routerId=1111"},
		{"a key being handed over is held", "auto", false, head("+routerId: 6249"), `hold by_local "6249" 6249`},
		{"a key of this unit is served", "auto", false, head("+routerId: 8330"), `serve by_local "8330" 8330 at unbj:1`},
		{"no handshake is none", "auto", false, head("Upgrade: -", "+Cookie: routerId=1111"), "426 not_websocket"},
	} {
		site.Scheme = c.scheme
		vd := decide(c.raw, v, testPeer, c.tls)
		if got := show(vd); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		if vd.Action == Accept && len(vd.Reason) > maxURL {
			t.Errorf("%s: %d bytes", c.name, len(vd.Reason))
		}
	}
	site.Locations["center"] = strings.Repeat("a.", 70) + "example"
	if got := show(decide(head("+Cookie: routerId=1111"), v, testPeer, false)); !strings.HasPrefix(got, "302 redirect http://a.a.") {
		t.Errorf("a name that fits into no Close frame: %s", got)
	}
	third := testView(t, "third", false)
	third.Sites["websocket.msha.tech"].Correction = "close"
	if got := show(decide(head(), third, testPeer, false)); got != "101 close ws://center.websocket.msha.tech/chat" {
		t.Errorf("an unmarked client of a unit without slots: %s", got)
	}
	delete(site.Locations, "center")
	if got := show(decide(head("+Cookie: routerId=1111"), v, testPeer, false)); got != "502 no_location" {
		t.Errorf("a unit without an address: %s", got)
	}
}

func TestAppendAccept(t *testing.T) {
	for offered, want := range map[string]string{
		"":                                   "",
		"chat, superchat":                    "chat",
		"router-id.6249, chat":               "chat",
		"router-id.6249":                     "router-id.6249",
		"b@d, ,\tsuperchat":                  "superchat",
		"router-id.%E7%94%A8, router-id.%41": "router-id.%E7%94%A8",
	} {
		raw := head("+Cookie: routerId=1111")
		if offered != "" {
			raw = head("+sec-websocket-protocol: "+offered, "+Sec-WebSocket-Protocol: last", "+Sec-WebSocket-Extensions: permessage-deflate")
			if want == "" || strings.HasPrefix(want, "router-id.") {
				raw = head("+sec-websocket-protocol: " + offered)
			}
		}
		req, _, err := Parse([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		b := AppendAccept(nil, req)
		res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Connection") != "Upgrade" {
			t.Fatalf("%q: %v", b, err)
		}
		// RFC 6455 section 1.3 has the key and what is made of it.
		if got := res.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
			t.Errorf("accepted with %q", got)
		}
		if got := res.Header.Get("Sec-WebSocket-Protocol"); got != want || res.Header.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("offered %q: chose %q, want %q; %v", offered, got, want, res.Header)
		}
	}
}
