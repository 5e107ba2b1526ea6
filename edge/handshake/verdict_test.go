package handshake

import (
	"net/netip"
	"strings"
	"testing"
)

const (
	toCenter   = "302 redirect http://center.websocket.msha.tech"
	toUnbj     = "302 redirect http://unbj.websocket.msha.tech:81"
	not        = "426 not_websocket"
	badRouter  = "400 bad_router_id"
	badVersion = "426 bad_version"
)

// TestDecide holds the table of CONTRACT "Edge, as a client sees it": an edge of unbj answers.
func TestDecide(t *testing.T) {
	v := testView(t, "unbj", false)
	id300 := strings.Repeat("7", 300)
	for _, c := range []struct {
		proves, raw, want string
	}{
		{`"key owned here: 101"`, head("+routerId: 8330"), `serve by_local "8330" 8330 at unbj:1`},
		{`"key owned elsewhere: 302 with Location" (the walkthrough's 1111)`, head("+routerId: 1111"), toCenter + "/chat"},
		{`"exact … wins over ranges"`, head("+routerId: 4001"), `serve by_local "4001" 4001 at unbj:1`},
		{`"compares the raw value"`, head("+routerId: 04001"), toCenter + "/chat"},

		{`"unknown host 421"`, head("Host: evil.example"), "421 unknown_host"},
		{`"the Host header's port is ignored"`, head("Host: websocket.msha.tech:8443", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:1`},
		{`host names know no case (RFC 9110 4.2.3), the root's dot is the same name`, head("Host: WebSocket.MSHA.tech.", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:1`},
		{`a sub-domain corrects, too: "a client keeps the Location it was given"`, head("Host: unbj.websocket.msha.tech", "+routerId: 1111"), toCenter + "/chat"},
		{`an IPv6 host goes without brackets`, head("Host: [::1]:7101", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:1`},
		{`absolute-form: "MUST ignore the received Host header field" (RFC 9112 3.2.2)`, head("GET http://websocket.msha.tech/chat HTTP/1.1", "Host: evil.example", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:1`},
		{`absolute-form, the other way round`, head("GET http://evil.example/chat HTTP/1.1"), "421 unknown_host"},

		{`"no matching URI 404"`, head("GET /other HTTP/1.1"), "404 unknown_uri"},
		{`"longest prefix on segment borders": /a is /a`, head("GET /a HTTP/1.1", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:2`},
		{`… and /a/b`, head("GET /a/b?c HTTP/1.1", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:2`},
		{`… but not /ab`, head("GET /ab HTTP/1.1"), "404 unknown_uri"},
		{`… and the longest wins`, head("GET /a/deep/x HTTP/1.1", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:3`},
		{`a final slash of the config makes no difference`, head("GET /b HTTP/1.1", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:4`},
		{`RFC 3986 6.2.2: another spelling is the same path`, head("GET //%61//deep HTTP/1.1", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:3`},
		{`… which it is not in another case (6.2.2.1)`, head("GET /A/deep HTTP/1.1", "+routerId: 8330"), "404 unknown_uri"},
		{`dot segments name nothing`, head("GET /a/../none HTTP/1.1"), "400 bad_path"},
		{`parameters are a server's affair`, head("GET /a/deep/x;y=1 HTTP/1.1", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:3`},
		{`… but not where they decide whose it is`, head("GET /a/deep;y=1/x HTTP/1.1"), "400 bad_path"},
		{`… or whether it is anything`, head("GET /chat%3by HTTP/1.1"), "400 bad_path"},
		{`"origins all down 502": the unit has none for the URI`, head("GET /none HTTP/1.1", "+routerId: 8330"), "502 no_origins"},
		{`… which is the owner's affair only`, head("GET /none HTTP/1.1", "+routerId: 1111"), toCenter + "/none"},

		{`"not a WebSocket handshake 426": other method`, head("POST /chat HTTP/1.1"), not},
		{`"not a WebSocket handshake 426": no Upgrade`, head("Upgrade: -"), not},
		{`"not a WebSocket handshake 426": other protocol`, head("Upgrade: h2c"), not},
		{`"not a WebSocket handshake 426": no Connection`, head("Connection: -"), not},
		{`"not a WebSocket handshake 426": Connection without upgrade`, head("Connection: keep-alive"), not},
		{`"not a WebSocket handshake 426": HTTP/1.0`, head("GET /chat HTTP/1.0"), not},
		{`"treated as an ASCII case-insensitive value", in a list (RFC 6455 4.2.1)`, head("Connection: keep-alive, UPGRADE", "Upgrade: foo/1, WebSocket", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:1`},
		{`lists may span lines (RFC 9110 5.3)`, head("+Connection: close", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:1`},
		{`"version other than 13: 426"`, head("Sec-WebSocket-Version: 8"), badVersion},
		{`"version other than 13: 426", none at all`, head("Sec-WebSocket-Version: -"), badVersion},
		{`"MUST NOT appear more than once" (RFC 6455 11.3.5)`, head("+Sec-WebSocket-Version: 13"), "400 bad_version"},
		{`Sec-WebSocket-Key missing`, head("Sec-WebSocket-Key: -"), "400 bad_key"},
		{`Sec-WebSocket-Key twice (RFC 6455 11.3.1)`, head("+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), "400 bad_key"},
		{`Sec-WebSocket-Key of 15 bytes`, head("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"), "400 bad_key"},
		{`Sec-WebSocket-Key of 18 bytes, 24 in base64`, head("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWFh"), "400 bad_key"},
		{`Sec-WebSocket-Key not base64`, head("Sec-WebSocket-Key: !!hlIHNhbXBsZSBub25jZQ=="), "400 bad_key"},

		{`"bad unit type 400": unknown`, head("+unitType: nope"), "400 bad_unit_type"},
		{`"bad unit type 400": empty`, head("+unitType:"), "400 bad_unit_type"},
		{`"bad unit type 400": two of them`, head("+unitType: by_local", "+unitType: by_reject"), "400 bad_unit_type"},
		{`the same twice says it once`, head("+UNITTYPE: by_reject", "+unittype: by_reject", "+routerId: 8330"), `serve by_reject "8330" 8330 at unbj:1`},
		{`a type before its first rules`, head("+unitType: ruleless"), "503 no_rules"},

		{`"bad routerId 400": empty header`, head("+routerId:"), badRouter},
		{`"bad routerId 400": only spaces`, head("+routerId:   "), badRouter},
		{`"bad routerId 400": empty header does not fall through to the cookie`, head("+routerId:", "+Cookie: routerId=8330"), badRouter},
		{`"Longest routerId: 256 bytes": 300`, head("+routerId: " + id300), badRouter},
		{`"Longest routerId: 256 bytes": 300 in the query`, head("GET /chat?routerId=" + id300 + " HTTP/1.1"), badRouter},
		{`"Longest routerId: 256 bytes": 256`, head("+routerId: " + strings.Repeat("0", 252) + "8330"), `serve by_local "` + strings.Repeat("0", 252) + `8330" 8330 at unbj:1`},
		{`negative: "anything else → FNV-1a 64 of its bytes mod slots"`, head("+routerId: -5"), `serve by_local "-5" 9815 at unbj:1`},
		{`"bad routerId 400": a space inside`, head("+routerId: 83 30"), badRouter},
		{`"bad routerId 400": a tab inside`, head("+routerId: 83\t30"), badRouter},
		{`"bad routerId 400": no UTF-8`, head("+routerId: \xff"), badRouter},
		{`a control character in a header is bad syntax`, head("+routerId: 83\x0130"), "400 bad_request"},
		{`"bad routerId 400": a control character in the query`, head("GET /chat?routerId=83%0d%0a30 HTTP/1.1"), badRouter},
		{`"bad routerId 400": "+" is a space in a query`, head("GET /chat?routerId=83+30 HTTP/1.1"), badRouter},
		{`"bad routerId 400": undecodable`, head("GET /chat?routerId=%zz HTTP/1.1"), badRouter},
		{`"bad routerId 400": no value`, head("GET /chat?routerId HTTP/1.1"), badRouter},
		{`"bad routerId 400": two headers`, head("+routerId: 8330", "+RouterID: 8331"), badRouter},
		{`"bad routerId 400": two parameters`, head("GET /chat?routerId=8330&routerId=1 HTTP/1.1"), badRouter},
		{`the same twice says it once`, head("+routerId: 8330", "+routerid: 8330"), `serve by_local "8330" 8330 at unbj:1`},
		{`the same twice says it once, encoded or not`, head("GET /chat?routerId=8330&router%49d=833%30 HTTP/1.1"), `serve by_local "8330" 8330 at unbj:1`},
		{`UTF-8 is fine`, head("GET /chat?routerId=%E5%8C%97%E4%BA%AC HTTP/1.1"), toCenter + "/chat?routerId=%E5%8C%97%E4%BA%AC"},

		{`"routerId: [header, cookie, query] in this order": header first`, head("GET /chat?routerId=1 HTTP/1.1", "+Cookie: routerId=2", "+routerId: 8330"), `serve by_local "8330" 8330 at unbj:1`},
		{`… then the cookie`, head("GET /chat?routerId=1 HTTP/1.1", "+Cookie: a=b; routerId=8330;c=d"), `serve by_local "8330" 8330 at unbj:1`},
		{`… then the query`, head("GET /chat?a=b&routerId=8330&c HTTP/1.1", "+Cookie: a=b", "+Cookie: routerid=7"), `serve by_local "8330" 8330 at unbj:1`},
		{`"cookies with longer paths are listed before cookies with shorter paths" (RFC 6265 5.4)`, head("+Cookie: routerId=8330; routerId=1"), `serve by_local "8330" 8330 at unbj:1`},
		{`quotes may stand around a cookie's value (RFC 6265 4.1.1)`, head(`+Cookie: routerId="8330"`), `serve by_local "8330" 8330 at unbj:1`},
		{`"bad routerId 400": empty cookie`, head("+Cookie: routerId="), badRouter},

		{`"unmarked: local"`, head(), `serve by_local "" 0 at unbj:1`},
		{`"unmarked: reject"`, head("+unitType: by_reject"), "400 no_router_id"},
		{`"split (the source address stands for the routerId)"`, head("+unitType: by_split"), `serve by_split "192.0.2.8" 7603 at unbj:1`},
	} {
		if got := show(decide(c.raw, v, testPeer, false)); got != c.want {
			t.Errorf("%s\n%q\ngot  %s\nwant %s", c.proves, c.raw, got, c.want)
		}
	}
}

// "key being handed over: the handshake is held until the hand-over commits", at the edges of either side and of any
// other unit; "what moves is a key: a slot without its exact IDs".
func TestDecideHolds(t *testing.T) {
	for unit, served := range map[string]string{"center": toUnbj + "/chat", "unbj": `serve by_local "6381" 6381 at unbj:1`, "third": toUnbj + "/chat"} {
		v := testView(t, unit, true)
		if got := show(decide(head("+routerId: 6249"), v, testPeer, false)); got != `hold by_local "6249" 6249` {
			t.Errorf("%s, fenced key: %s", unit, got)
		}
		if got := show(decide(head("+routerId: 6381"), v, testPeer, false)); got != served {
			t.Errorf("%s, key beside the fence: %s", unit, got)
		}
		if _, ok := v.Serves("by_local", "6249"); ok {
			t.Errorf("%s serves a fenced key", unit)
		}
	}
}

// "An edge admits only with a state that holds its own join" (R7), and every handshake gets 503 until then.
func TestDecideBeforeJoin(t *testing.T) {
	v := testView(t, "unbj", false)
	v.Admits = false
	for _, v := range []*View{v, nil} {
		vd := decide(head("Host: evil.example"), v, testPeer, false)
		if vd.Status != 503 || vd.RetryAfter != 1 {
			t.Errorf("got %d, Retry-After %d", vd.Status, vd.RetryAfter)
		}
	}
}

// "Fallback answers for unknown hosts": dev's "an unknown Host falls to the only domain".
func TestDecideFallback(t *testing.T) {
	v := testView(t, "unbj", false)
	v.Fallback = v.Sites["websocket.msha.tech"]
	if got := show(decide(head("Host: 127.0.0.1:7101", "+routerId: 1111"), v, testPeer, false)); got != toCenter+"/chat" {
		t.Error(got)
	}
}

// "A unit without slots redirects unmarked clients to the center." The center itself serves them even then, since a
// redirect would lead back to it.
func TestUnmarked(t *testing.T) {
	third := testView(t, "third", false)
	if got := show(decide(head(), third, testPeer, false)); got != toCenter+"/chat" {
		t.Error("a unit without slots:", got)
	}
	center := testView(t, "center", false)
	center.Types["by_local"].Local = false
	if got := show(decide(head(), center, testPeer, false)); got != `serve by_local "" 0 at center:1` {
		t.Error("the center without slots:", got)
	}
	for _, c := range []struct {
		v    *View
		want bool
	}{{third, false}, {center, true}, {testView(t, "unbj", false), true}} {
		if r, ok := c.v.Serves("by_local", ""); ok != c.want || r != nil {
			t.Errorf("%s serves unmarked clients: %v", c.v.Unit, ok)
		}
	}
}

// The split address is stable: an IPv4 client over a dual-stack listener is the same client, a zone is of no account.
func TestSplitAddress(t *testing.T) {
	v := testView(t, "unbj", false)
	for peer, want := range map[string]string{"::ffff:192.0.2.7": "192.0.2.7", "fe80::1%eth0": "fe80::1"} {
		if vd := decide(head("+unitType: by_split"), v, netip.MustParseAddr(peer), false); vd.RouterID != want {
			t.Errorf("%s: %q", peer, vd.RouterID)
		}
	}
}

func TestServes(t *testing.T) {
	v := testView(t, "unbj", false)
	for id, want := range map[string]bool{"8330": true, "1111": false, "4001": true, "04001": false} {
		if r, ok := v.Serves("by_local", id); ok != want || (r.Unit == "unbj") != want {
			t.Errorf("%s: %v %+v", id, ok, r)
		}
	}
	for _, typ := range []string{"nope", "ruleless"} {
		if r, ok := v.Serves(typ, "8330"); ok || r != nil {
			t.Errorf("%s is served", typ)
		}
	}
	vd := decide(head("+routerId: 8330"), v, testPeer, false)
	if k := vd.Key(); k != (Key{"by_local", 8330, "8330"}) || vd.Route.Unit != "unbj" {
		t.Errorf("%+v", vd)
	}
}
