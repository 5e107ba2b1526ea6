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
		{"over HTTP/1.0, as nginx asks", strings.Replace(locate("?routerId=1111"), "HTTP/1.1", "HTTP/1.0", 1), center},
		{"a POST with a body", strings.Replace(locate("?routerId=1"), "GET", "POST", 1) + "Content-Length: 2\r\n", "405 bad_method"},
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
		if shared := strings.Contains(raw, "\r\nAccess-Control-Allow-Origin: https://shop.example\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n"); shared != (req.Path == LocatePath) {
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

// A page may read every answer to its question, also that to one which cannot be read to its end; without an origin the
// answer is for all.
func TestLocateIsShared(t *testing.T) {
	origin := "\r\nAccess-Control-Allow-Origin: https://shop.example\r\nAccess-Control-Allow-Credentials: true\r\n"
	for name, raw := range map[string]string{
		"too long":              locate("?routerId=1") + "Cookie: " + strings.Repeat("x", Limits{}.MaxRead()) + "\r\n\r\n",
		"the query is too long": strings.Replace(locate(""), "locate", "locate?x="+strings.Repeat("x", Limits{}.MaxRead()), 1),
		"two hosts":             locate("?routerId=1") + "Host: other\r\n\r\n",
		"a bad field":           locate("?routerId=1") + "b@d: x\r\n\r\n",
		"another version":       strings.Replace(locate("?routerId=1"), "HTTP/1.1", "HTTP/1.2", 1) + "\r\n",
	} {
		_, _, err := Parse([]byte(raw))
		if err == nil {
			t.Fatal(name, "is accepted")
		}
		vd, req := RefuseError(err)
		got := string(AppendAnswer(nil, req, &vd))
		if cut := name == "the query is too long"; strings.Contains(got, origin) == cut { // no line of it has come
			t.Errorf("%s: %q", name, got)
		}
	}
	req, _, err := Parse([]byte("OPTIONS /.unitgate/locate HTTP/1.1\r\nHost: websocket.msha.tech\r\nOrigin: null\r\nAccess-Control-Request-Headers: authorization\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	vd := Decide(req, testView(t, "unbj", false), testPeer, false)
	if got := string(AppendAnswer(nil, req, &vd)); !strings.Contains(got, "\r\nAccess-Control-Allow-Headers: authorization\r\n") || !strings.Contains(got, "\r\nAccess-Control-Allow-Origin: null\r\n") {
		t.Errorf("%q", got)
	}
	if req, _, err = Parse([]byte("GET /.unitgate/locate HTTP/1.1\r\nHost: websocket.msha.tech\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	vd = Decide(req, testView(t, "unbj", false), testPeer, false)
	if got := string(AppendAnswer(nil, req, &vd)); !strings.Contains(got, "\r\nAccess-Control-Allow-Origin: *\r\n") || strings.Contains(got, "Credentials") {
		t.Errorf("%q", got)
	}
}

// A balancer asks as it is used to, and is told what clients would be told; whatever else is no handshake has one answer.
func TestHealth(t *testing.T) {
	v := testView(t, "unbj", false)
	for raw, want := range map[string]string{
		"GET /.unitgate/health HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n":                       "200 healthy",
		"HEAD /.unitgate/health HTTP/1.1\r\nHost: 10.0.0.1:8081\r\n\r\n":                 "200 healthy",
		"GET /.unitgate/health HTTP/1.0\r\n\r\n":                                         "200 healthy",
		"OPTIONS /.unitgate/health HTTP/1.0\r\n\r\n":                                     "200 healthy",
		"DELETE /.unitgate/health HTTP/1.1\r\nHost: a\r\n\r\n":                           "405 bad_method",
		head("GET /chat HTTP/1.0"):                                                       "426 not_websocket",
		head("GET /chat HTTP/1.1", "Upgrade: -"):                                         "426 not_websocket",
		head("HEAD /chat HTTP/1.1"):                                                      "426 not_websocket",
		head("POST /hub/negotiate HTTP/1.1", "Content-Length: 0"):                        "426 not_websocket",
		head("POST /hub/negotiate HTTP/1.1", "Content-Length: 2"):                        "426 not_websocket",
		head("POST /hub/negotiate HTTP/1.1", "Transfer-Encoding: chunked", "Upgrade: -"): "426 not_websocket",
		head("GET /chat HTTP/1.1", "Content-Length: 2"):                                  "400 bad_request",
		head("GET /chat HTTP/1.1", "Transfer-Encoding: chunked"):                         "400 bad_request",
	} {
		if got := show(decide(raw, v, testPeer, false)); got != want {
			t.Errorf("%q: %s, want %s", raw, got, want)
		}
	}
	v.Admits = false
	if got := show(decide("GET /.unitgate/health HTTP/1.0\r\n\r\n", v, testPeer, false)); got != "503 not_admitting" {
		t.Errorf("before the join: %s", got)
	}
}

// The answer to HEAD has no body, which the client would take for the next answer (RFC 9110 section 9.3.2).
func TestHeadHasNoBody(t *testing.T) {
	for _, raw := range []string{
		"HEAD /.unitgate/health HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /chat HTTP/1.1\r\nHost: nobody\r\n\r\n",
		"HEAD /chat HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "HEAD /chat HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", Limits{}.MaxRead()) + "\r\n\r\n",
		"HEAD /.unitgate/locate?routerId=1111 HTTP/1.1\r\nHost: websocket.msha.tech\r\n\r\n",
	} {
		req, _, err := Parse([]byte(raw))
		var vd Verdict
		if err != nil {
			vd, req = RefuseError(err)
		} else {
			vd = Decide(req, testView(t, "unbj", false), testPeer, false)
		}
		if got := string(AppendAnswer(nil, req, &vd)); !strings.HasSuffix(got, "\r\n\r\n") || strings.Contains(got, "Content-Length: 0") {
			t.Errorf("%.80q: %q", raw, got)
		}
	}
}
