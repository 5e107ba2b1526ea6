package handshake

import (
	"strings"
	"testing"
)

// A routerId may stand in the path or, for browsers, among the subprotocols.
func TestMoreSources(t *testing.T) {
	v := testView(t, "unbj", false)
	typ := v.Types["by_reject"]
	typ.Sources = []Source{{From: "subprotocol"}, {From: "path", Number: 2}}
	for _, c := range []struct{ name, raw, want string }{
		{"path", head("GET /chat/8330/x HTTP/1.1"), "8330"},
		{"path, last segment", head("GET /chat/8330?y=1 HTTP/1.1"), "8330"},
		{"path, decoded", head("GET /chat/%E7%94%A8 HTTP/1.1"), "用"},
		{"path, spelled another way", head("GET //%63hat//833%30 HTTP/1.1"), "8330"},
		{"path, encoded twice is decoded once", head("GET /chat/a%252Fb HTTP/1.1"), "a%2Fb"},
		{"path too short", head("GET /chat HTTP/1.1"), "no_router_id"},
		{"path with an empty segment", head("GET /chat/ HTTP/1.1"), "no_router_id"},
		{"path, a space", head("GET /chat/a%20b HTTP/1.1"), "bad_router_id"},
		{"subprotocol", head("+Sec-WebSocket-Protocol: chat, router-id.8330"), "8330"},
		{"subprotocol goes first", head("GET /chat/1111 HTTP/1.1", "+Sec-WebSocket-Protocol: router-id.8330"), "8330"},
		{"subprotocol, decoded", head("+Sec-WebSocket-Protocol: router-id.%E7%94%A8"), "用"},
		{"subprotocol over two lines, the same", head("+Sec-WebSocket-Protocol: router-id.7, a", "+sec-websocket-protocol: router-id.7"), "7"},
		{"subprotocols that differ", head("+Sec-WebSocket-Protocol: router-id.7, router-id.8"), "bad_router_id"},
		{"subprotocol, empty", head("+Sec-WebSocket-Protocol: router-id."), "bad_router_id"},
		{"subprotocol, badly encoded", head("+Sec-WebSocket-Protocol: router-id.%zz"), "bad_router_id"},
		{"other subprotocols", head("+Sec-WebSocket-Protocol: xrouter-id.7, router-id"), "no_router_id"},
	} {
		req, _, err := Parse([]byte(c.raw))
		if err != nil || req == nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		w, code, reason := routerID(req, typ, testPeer)
		id := w.id
		if id+code != c.want || (code == "") != (reason == "") || strings.ContainsAny(reason, "\r\n") {
			t.Errorf("%s: %q, %q, %q; want %s", c.name, id, code, reason, c.want)
		}
	}
}
