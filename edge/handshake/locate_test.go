package handshake

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// locate is a question for a location on websocket.msha.tech, without its final line.
func locate(query string) string {
	return "GET /.unitgate/locate" + query + " HTTP/1.1\r\nHost: websocket.msha.tech\r\nOrigin: https://shop.example\r\n"
}

// "GET /.unitgate/locate?routerId=…&unitType=…: {"unit":"center","url":"ws://…","ruleVersion":7} with CORS". An edge of
// unbj answers.
func TestLocate(t *testing.T) {
	const center, unbj = `{"unit":"center","url":"ws://center.websocket.msha.tech/","ruleVersion":7}`, `{"unit":"unbj","url":"ws://unbj.websocket.msha.tech:81/","ruleVersion":7}`
	for _, c := range []struct{ proves, raw, want string }{
		{"another unit's", locate("?routerId=1111"), center},
		{"its own", locate("?routerId=8330"), unbj},
		{"an exact ID", locate("?routerId=4001"), unbj},
		{"with the type", locate("?unitType=by_reject&routerId=1111"), center},
		{"encoded", locate("?router%49d=1%3111&x=y"), center},
		{"the query goes before what the request carries", locate("?routerId=1111") + "Cookie: routerId=8330\r\nunitType: by_split\r\n", center},
		{"but that counts as well", locate("") + "Cookie: routerId=1111\r\n", center},
		{"unmarked: local", locate(""), unbj},
		{"unmarked: split, by address", locate("?unitType=by_split"), unbj},
		{"unmarked: reject", locate("?unitType=by_reject"), "400 no_router_id"},
		{"no such type", locate("?routerId=1&unitType=nope"), "400 bad_unit_type"},
		{"no type at all", locate("?routerId=1&unitType="), "400 bad_unit_type"},
		{"two types", locate("?routerId=1&unitType=by_local&unitType=by_split"), "400 bad_unit_type"},
		{"no such type in the header", locate("?routerId=1") + "unitType: nope\r\n", "400 bad_unit_type"},
		{"a type without rules", locate("?routerId=1&unitType=ruleless"), "503 no_rules"},
		{"an empty routerId", locate("?routerId="), "400 bad_router_id"},
		{"two routerIds", locate("?routerId=1&routerId=2"), "400 bad_router_id"},
		{"CR LF", locate("?routerId=1%0d%0aX:%20y"), "400 bad_router_id"},
		{"a routerId of 300 bytes", locate("?routerId=" + strings.Repeat("1", 300)), "400 bad_router_id"},
		{"a host that is not served", strings.Replace(locate("?routerId=1"), "websocket", "evil", 1), "421 unknown_host"},
		{"other methods", strings.Replace(locate("?routerId=1"), "GET", "DELETE", 1), "405 bad_method"},
		{"before a browser asks with fields of its own", strings.Replace(locate("?routerId=1"), "GET", "OPTIONS", 1), "200 locate_preflight"},
		{"another path", strings.Replace(locate("?routerId=1"), "locate", "locates", 1), "426 not_websocket"},
	} {
		v := testView(t, "unbj", false)
		for _, typ := range v.Types {
			typ.Version = 7
		}
		req, _, err := Parse([]byte(c.raw + "\r\n"))
		if err != nil {
			t.Fatal(c.proves, err)
		}
		vd := Decide(req, v, testPeer, false)
		got := show(vd)
		if got == "200 located" {
			got = vd.Reason
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.proves, got, c.want)
		}
		raw := string(AppendAnswer(nil, req, &vd))
		if shared := strings.Contains(raw, "\r\nAccess-Control-Allow-Origin: *\r\n"); shared != (req.Path == LocatePath) {
			t.Errorf("%s: %q", c.proves, raw)
		}
		if strings.HasPrefix(c.want, "{") && (!strings.Contains(raw, "\r\nContent-Type: application/json\r\n") || !strings.HasSuffix(raw, "\r\n\r\n"+c.want+"\n")) {
			t.Errorf("%s: %q", c.proves, raw)
		}
	}
}

// The path of the question is no client's: a type that looks for the routerId in the path has none here but in the query.
func TestLocateByPath(t *testing.T) {
	v := testView(t, "unbj", false)
	typ := v.Types["by_reject"]
	typ.Sources = []Source{{From: "path", Number: 1}, {From: "path", Number: 2}}
	if got := show(decide(locate("?unitType=by_reject")+"\r\n", v, testPeer, false)); got != "400 no_router_id" {
		t.Error(got)
	}
	typ.Sources = append(typ.Sources, Source{From: "cookie", Name: "routerId"})
	for _, raw := range []string{locate("?unitType=by_reject&routerId=1111"), locate("?unitType=by_reject") + "Cookie: routerId=1111\r\n"} {
		if vd := decide(raw+"\r\n", v, testPeer, false); !strings.Contains(vd.Reason, `"unit":"center"`) {
			t.Errorf("%q: %s %s", raw, show(vd), vd.Reason)
		}
	}
}

// A page opens the URL as it is: its scheme follows from that of the site's redirects.
func TestLocateScheme(t *testing.T) {
	for _, c := range []struct {
		scheme string
		tls    bool
		want   string
	}{
		{"auto", false, "ws"}, {"auto", true, "wss"}, {"protocol-relative", false, "ws"}, {"protocol-relative", true, "wss"},
		{"http", true, "ws"}, {"ws", true, "ws"}, {"https", false, "wss"}, {"wss", false, "wss"},
	} {
		v := testView(t, "unbj", false)
		v.Sites["websocket.msha.tech"].Scheme = c.scheme
		var got struct{ URL string }
		vd := decide(locate("?routerId=1111")+"\r\n", v, testPeer, c.tls)
		if err := json.Unmarshal([]byte(vd.Reason), &got); err != nil || got.URL != c.want+"://center.websocket.msha.tech/" {
			t.Errorf("%s, TLS %v: %+v %v", c.scheme, c.tls, got, err)
		}
	}
}

// What nobody can tell yet is not guessed, and what is not known says so.
func TestLocateUndecided(t *testing.T) {
	const raw = "?routerId=6249"
	v := testView(t, "unbj", true)
	if got := show(decide(locate(raw)+"\r\n", v, testPeer, false)); got != `hold by_local "6249" 6249` {
		t.Error("a key that is being handed over:", got)
	}
	delete(v.Sites["websocket.msha.tech"].Locations, "center")
	if vd := decide(locate("?routerId=1")+"\r\n", v, testPeer, false); vd.Status != http.StatusBadGateway {
		t.Error("a unit without an address:", show(vd))
	}
	third := testView(t, "third", false)
	if vd := decide(locate("")+"\r\n", third, testPeer, false); !strings.Contains(vd.Reason, `"unit":"center"`) {
		t.Error("unmarked at a unit without slots:", show(vd), vd.Reason)
	}
	v.Admits = false
	if vd := decide(locate(raw)+"\r\n", v, testPeer, false); vd.Status != http.StatusServiceUnavailable {
		t.Error("before the join:", show(vd))
	}
}
