package handshake

import (
	"net/netip"
	"strings"
	"testing"
)

// hopViews are the views of an edge of unbj and of one of the center that share a secret.
func hopViews(t *testing.T) (unbj, center *View) {
	t.Helper()
	unbj, center = testView(t, "unbj", true), testView(t, "center", true)
	secret := []byte("what these two share")
	unbj.ID, center.ID = "bj-1", "hz-1"
	unbj.Peers = map[string]*Peer{"hz-1": {ID: "hz-1", Address: "10.0.0.1:80", Secret: secret}}
	center.Peers = map[string]*Peer{"bj-1": {ID: "bj-1", Address: "10.1.0.1:80", Secret: secret}}
	for _, site := range unbj.Sites {
		site.Correction = "proxy"
		site.Edges = map[string]*Edges{"center": {Unit: "center", Peers: []*Peer{unbj.Peers["hz-1"]}}}
	}
	return unbj, center
}

func parsed(t *testing.T, raw string) *Request {
	t.Helper()
	req, _, err := Parse([]byte(raw))
	if err != nil || req == nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return req
}

// passedOn is what an edge of the center gets of a handshake that came to one of unbj.
func passedOn(t *testing.T, unbj *View, raw string, peer netip.Addr, tls bool) string {
	t.Helper()
	req := parsed(t, raw)
	vd := Decide(req, unbj, peer, tls)
	if vd.Action != Proxy {
		t.Fatalf("%q: %s", raw, show(vd))
	}
	fw := &Forward{Peer: peer, TLS: tls, UnitType: vd.Type.Name, RequestID: "r-1", Epoch: "e", RuleVersion: 7, From: unbj.ID, To: vd.Edges.At("10.0.0.1:80")}
	return string(req.AppendOrigin(nil, fw))
}

// R14: an edge of the owner decides what was passed on by the same rules as the client's own handshake, with the client's
// address and scheme; nothing of the hop reaches its origin.
func TestPassOn(t *testing.T) {
	unbj, center := hopViews(t)
	for _, c := range []struct {
		raw, want string
		peer      string
		tls       bool
	}{
		{head("+routerId: 1111"), `serve by_local "1111" 1111 at center:1`, "192.0.2.7", false},
		{head("+routerId: 1111", "+X-Forwarded-For: 6.6.6.6", "+Unitgate-Hopp: x"), `serve by_local "1111" 1111 at center:1`, "2001:db8::1", true},
		{head("GET /a/deep?routerId=1111 HTTP/1.1", "+unitType: by_reject"), `serve by_reject "1111" 1111 at center:3`, "::ffff:192.0.2.7", true},
		{head("GET http://websocket.msha.tech/chat HTTP/1.1", "+Cookie: routerId=1111"), `serve by_local "1111" 1111 at center:1`, "fe80::1%eth0", false},
		{head("+unitType: by_split"), `serve by_split "192.0.2.1" 5080 at center:1`, "192.0.2.1", false},
	} {
		peer := netip.MustParseAddr(c.peer)
		got := passedOn(t, unbj, c.raw, peer, c.tls)
		req := parsed(t, got)
		hop, marked, ok := center.Hop(req)
		if !marked || !ok || hop.Client != peer.Unmap().WithZone("") || hop.TLS != c.tls {
			t.Errorf("%q: %v %v %v", got, hop, marked, ok)
		}
		other := netip.MustParseAddr("10.1.0.1")
		if vd := Decide(req, center, other, false); show(vd) != c.want {
			t.Errorf("%q: %s, want %s", got, show(vd), c.want)
		}
		origin := string(req.AppendOrigin(nil, &Forward{Peer: hop.Client, TLS: hop.TLS, UnitType: "by_local", RequestID: req.ID()}))
		if strings.Contains(origin, "Unitgate-") || strings.Contains(origin, "6.6.6.6") || !strings.Contains(origin, "\r\nX-Request-Id: r-1\r\n") {
			t.Errorf("the origin gets %q", origin)
		}
	}
}

// What is not an edge's word, or not for this edge, or not of this request, is refused whatever it asks for; what is one's
// is never passed on again.
func TestMarks(t *testing.T) {
	unbj, center := hopViews(t)
	good := passedOn(t, unbj, head("+routerId: 1111"), testPeer, false)
	change := func(old, new string) string {
		if strings.Count(good, old) != 1 {
			t.Fatalf("%q stands not once in %q", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	line := good[strings.Index(good, "Unitgate-Hop: "):]
	line = line[:strings.Index(line, "\r\n")+2]
	const bad = "421 bad_hop"
	for name, c := range map[string]struct {
		v         *View
		raw, want string
	}{
		"as it was sent":                     {center, good, `serve by_local "1111" 1111 at center:1`},
		"another address":                    {center, change(" 192.0.2.8 ", " 192.0.2.9 "), bad},
		"another scheme":                     {center, change(" http ", " https "), bad},
		"another handshake":                  {center, change("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZA=="), bad},
		"another target":                     {center, change("GET /chat ", "GET /chat/x "), bad},
		"another host":                       {center, change("Host: websocket.msha.tech", "Host: unbj.websocket.msha.tech"), bad},
		"an edge that is none":               {center, change(": bj-1 ", ": bj-2 "), bad},
		"sent back to whom it comes from":    {unbj, good, bad},
		"twice":                              {center, change(line, line+line), bad},
		"cut off":                            {center, change("=\r\nX-", "\r\nX-"), bad},
		"empty":                              {center, change(line, "Unitgate-Hop:\r\n"), bad},
		"one more word":                      {center, change("=\r\nX-", "= x\r\nX-"), bad},
		"no address":                         {center, change(" 192.0.2.8 ", " client "), bad},
		"a client's own, where it belongs":   {center, head("+routerId: 1111", "+Unitgate-Hop: bj-1 6.6.6.6 http AAAA"), bad},
		"a client's own, where it does not":  {unbj, head("+routerId: 1111", "+unitgate-hop: hz-1 6.6.6.6 http AAAA"), bad},
		"a client's own, for no handshake":   {unbj, head("GET /.unitgate/locate HTTP/1.1", "+unitgate-hop: x"), bad},
		"where nobody passes anything on":    {testView(t, "center", true), good, bad},
		"an edge that admits nobody":         {&View{}, good, "503 not_admitting"},
		"what the marked client asks counts": {center, change("\r\nrouterId: 1111", "\r\nrouterId: "), badRouter},
		"a fenced key is held here":          {center, passedOnFenced(t, unbj), `hold by_local "6249" 6249`},
	} {
		vd := decide(c.raw, c.v, netip.MustParseAddr("10.1.0.1"), false)
		if show(vd) != c.want {
			t.Errorf("%s: %s, want %s", name, show(vd), c.want)
		}
		req, _, _ := Parse([]byte(c.raw))
		if vd.Action == Answer && !strings.Contains(string(AppendAnswer(nil, req, &vd)), "\r\n"+RefusedField+": "+vd.Code+"\r\n") {
			t.Errorf("%s: the edge that passed it on does not learn why it is refused", name)
		}
	}
	if vd := decide(head("+routerId: 8"), center, testPeer, false); strings.Contains(string(AppendAnswer(nil, parsed(t, head()), &vd)), "Unitgate") {
		t.Error("a client is told what is for edges")
	}
}

// passedOnFenced is a handshake of a key that is being handed over, passed on by an edge that has not heard of it.
func passedOnFenced(t *testing.T, unbj *View) string {
	t.Helper()
	raw := head("+routerId: 6249")
	req := parsed(t, raw)
	return string(req.AppendOrigin(nil, &Forward{Peer: testPeer, UnitType: "by_local", RequestID: "r", From: unbj.ID, To: unbj.Peers["hz-1"]}))
}

// Whose client a marked handshake is not, that edge says so, and by which state: whatever its domain does with clients.
func TestNotOwner(t *testing.T) {
	unbj, center := hopViews(t)
	good := passedOn(t, unbj, head("+routerId: 1111"), testPeer, false)
	center.Seq, center.Unit = 41, "third"
	center.Sites["websocket.msha.tech"].Edges = map[string]*Edges{"center": {Unit: "center", Peers: []*Peer{{ID: "x"}}}}
	for _, correction := range []string{"redirect", "close", "proxy"} {
		center.Sites["websocket.msha.tech"].Correction = correction
		vd := decide(good, center, testPeer, false)
		if show(vd) != "421 not_owner" || !strings.Contains(string(AppendAnswer(nil, parsed(t, good), &vd)), "\r\n"+SequenceField+": 41\r\n") {
			t.Errorf("%s: %s %v", correction, show(vd), vd.Header)
		}
	}
}

func TestProxy(t *testing.T) {
	unbj, _ := hopViews(t)
	for raw, want := range map[string]string{
		head("+routerId: 1111"): "proxy center", head("+routerId: 8330"): `serve by_local "8330" 8330 at unbj:1`,
		head("+routerId: 6249"): `hold by_local "6249" 6249`, head("GET /none HTTP/1.1", "+routerId: 1111"): "proxy center",
		head("GET /other HTTP/1.1", "+routerId: 1111"): "404 unknown_uri", head("+routerId:"): badRouter,
	} {
		if got := show(decide(raw, unbj, testPeer, false)); got != want {
			t.Errorf("%q: %s, want %s", raw, got, want)
		}
	}
	third, _ := hopViews(t)
	third.Unit = "third"
	for _, typ := range third.Types {
		typ.Local = false
	}
	if got := show(decide(head(), third, testPeer, false)); got != "proxy center" {
		t.Errorf("an unmarked client of a unit without slots: %s", got)
	}
	for _, site := range unbj.Sites {
		site.Edges = nil
	}
	if vd := decide(head("+routerId: 1111"), unbj, testPeer, false); show(vd) != "503 no_edge" || vd.RetryAfter != 1 {
		t.Errorf("a unit without edges: %s", show(vd))
	}
}

// A session may go on while the unit to which it is passed on serves its key, and no cutover has fenced that.
func TestPasses(t *testing.T) {
	v := testView(t, "unbj", true)
	for _, c := range []struct {
		typ, id, unit string
		want          bool
	}{
		{"by_local", "1111", "center", true}, {"by_local", "1111", "third", false}, {"by_local", "6249", "unbj", false},
		{"by_local", "6249", "center", false}, {"by_local", "", "center", true}, {"by_local", "4001", "unbj", true},
		{"nope", "1111", "center", false}, {"ruleless", "1111", "center", false}, {"ruleless", "", "center", false},
	} {
		if got := v.Passes(c.typ, c.id, c.unit); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
