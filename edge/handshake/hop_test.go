package handshake

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
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

// hopTime is when marks are made here, hopConn what binds them to their connection.
var (
	hopTime = time.Unix(1_800_000_000, 0)
	hopConn = bytes.Repeat([]byte{7}, HopBinding)
)

// forwarding is how an edge of unbj passes on to one of the center: over TLS, or with a mark of the version before.
func forwarding(unbj *View, peer netip.Addr, tls bool, binding []byte) *Forward {
	return &Forward{
		Peer: peer, TLS: tls, UnitType: "by_local", RequestID: "r-1", Epoch: "e", RuleVersion: 7,
		From: unbj.ID, To: unbj.Peers["hz-1"], Binding: binding, Now: hopTime,
	}
}

// passedOn is what an edge of the center gets of a handshake that came to one of unbj.
func passedOn(t *testing.T, unbj *View, raw string, peer netip.Addr, tls bool, binding []byte) string {
	t.Helper()
	req := parsed(t, raw)
	vd := Decide(req, unbj, peer, tls)
	if vd.Action != Proxy {
		t.Fatalf("%q: %s", raw, show(vd))
	}
	fw := forwarding(unbj, peer, tls, binding)
	fw.UnitType = vd.Type.Name
	return string(req.AppendOrigin(nil, fw))
}

// bothWays are the connections on which marks go: of the version before, and bound to a TLS connection.
var bothWays = map[string][]byte{"of the version before": nil, "over TLS": hopConn}

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
		{head("GET //%61/deep?routerId=1111 HTTP/1.1"), `serve by_local "1111" 1111 at center:3`, "192.0.2.7", false},
		{head("GET http://websocket.msha.tech/chat HTTP/1.1", "+Cookie: routerId=1111"), `serve by_local "1111" 1111 at center:1`, "fe80::1%eth0", false},
		{head("GET http://websocket.msha.tech/chat HTTP/1.1", "Host: evil", "+Cookie: routerId=1111"), `serve by_local "1111" 1111 at center:1`, "fe80::1%eth0", false},
		{head("+unitType: by_split"), `serve by_split "192.0.2.1" 5080 at center:1`, "192.0.2.1", false},
		// What the second edge decides by has to arrive there, whatever Connection says of it.
		{head("Connection: Upgrade, routerId, Cookie", "+routerId: 1111"), `serve by_local "1111" 1111 at center:1`, "192.0.2.7", false},
	} {
		for way, binding := range bothWays {
			peer := netip.MustParseAddr(c.peer)
			got := passedOn(t, unbj, c.raw, peer, c.tls, binding)
			req := parsed(t, got)
			hop := req.Recognize(center, binding, hopTime)
			if hop == nil || !req.Marked() || hop.Client != peer.Unmap().WithZone("") || hop.TLS != c.tls || hop.From != center.Peers["bj-1"] || hop.Sealed != (binding != nil) {
				t.Fatalf("%s: %q: %+v", way, got, hop)
			}
			other := netip.MustParseAddr("10.1.0.1")
			if vd := Decide(req, center, other, false); show(vd) != c.want {
				t.Errorf("%s: %q: %s, want %s", way, got, show(vd), c.want)
			}
			origin := string(req.AppendOrigin(nil, &Forward{Peer: hop.Client, TLS: hop.TLS, UnitType: "by_local", RequestID: req.ID()}))
			if strings.Contains(origin, "Unitgate-") || strings.Contains(origin, "6.6.6.6") || !strings.Contains(origin, "\r\nX-Request-Id: r-1\r\n") {
				t.Errorf("%s: the origin gets %q", way, origin)
			}
		}
	}
}

// A header by which a unit type knows its users arrives at the second edge even if no origin gets it.
func TestPassOnWhatIsReadAndDropped(t *testing.T) {
	unbj, center := hopViews(t)
	for _, v := range []*View{unbj, center} {
		v.Types["by_local"].Sources = []Source{{From: "header", Name: "X-Auth-Request-User"}}
	}
	req := parsed(t, passedOn(t, unbj, head("+X-Auth-Request-User: 1111"), testPeer, false, hopConn))
	req.Recognize(center, hopConn, hopTime)
	if got := show(Decide(req, center, testPeer, false)); got != `serve by_local "1111" 1111 at center:1` {
		t.Error(got)
	}
	if out := string(req.AppendOrigin(nil, &Forward{Peer: testPeer, UnitType: "u", RequestID: "r"})); strings.Contains(out, "1111") {
		t.Errorf("an origin gets %q", out)
	}
}

// What is not an edge's word, or not for this edge, or not of this request or connection, is refused whatever it asks for;
// what is one's is never passed on again.
func TestMarks(t *testing.T) {
	unbj, center := hopViews(t)
	for way, binding := range bothWays {
		good := passedOn(t, unbj, head("+routerId: 1111", "+Cookie: session=victim"), testPeer, false, binding)
		change := func(old, new string) string {
			if strings.Count(good, old) != 1 {
				t.Fatalf("%q stands not once in %q", old, good)
			}
			return strings.Replace(good, old, new, 1)
		}
		line := good[strings.Index(good, "Unitgate-Hop: "):]
		line = line[:strings.Index(line, "\r\n")+2]
		end := line[len(line)-7:] // of the HMAC
		const bad = "421 bad_hop"
		altered := bad // what a mark of the version before does not cover
		if binding == nil {
			altered = `serve by_local "1111" 1111 at center:1`
		}
		for name, c := range map[string]struct {
			v         *View
			raw, want string
		}{
			"as it was sent":                    {center, good, `serve by_local "1111" 1111 at center:1`},
			"another address":                   {center, change(" 192.0.2.8 ", " 192.0.2.9 "), bad},
			"another scheme":                    {center, change(" http ", " https "), bad},
			"another handshake":                 {center, change("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZA=="), bad},
			"another target":                    {center, change("GET /chat ", "GET /chat/x "), bad},
			"another host":                      {center, change("Host: websocket.msha.tech", "Host: unbj.websocket.msha.tech"), bad},
			"another session":                   {center, change("session=victim", "session=attacker"), altered},
			"one more field":                    {center, change("\r\nrouterId: ", "\r\nCookie: session=attacker\r\nrouterId: "), altered},
			"another request id":                {center, change("X-Request-Id: r-1", "X-Request-Id: r-2"), altered},
			"another spelling":                  {center, change("\r\nrouterId: ", "\r\nRouterId: "), altered},
			"an edge that is none":              {center, change(" bj-1 ", " bj-2 "), bad},
			"sent back to whom it comes from":   {unbj, good, bad},
			"twice":                             {center, change(line, line+line), bad},
			"cut off":                           {center, change(end, end[1:]), bad},
			"empty":                             {center, change(line, "Unitgate-Hop:\r\n"), bad},
			"one more word":                     {center, change(end, end[:5]+" x\r\n"), bad},
			"no address":                        {center, change(" 192.0.2.8 ", " client "), bad},
			"a client's own, where it belongs":  {center, head("+routerId: 1111", "+Unitgate-Hop: bj-1 6.6.6.6 http AAAA"), bad},
			"a client's own, where it does not": {unbj, head("+routerId: 1111", "+unitgate-hop: hz-1 6.6.6.6 http AAAA"), bad},
			"a client's own, for no handshake":  {unbj, head("GET /.unitgate/locate HTTP/1.1", "+unitgate-hop: x"), bad},
			"where nobody passes anything on":   {testView(t, "center", true), good, bad},
			"an edge that admits nobody":        {&View{}, good, "503 not_admitting"},
			"a fenced key is held here":         {center, fencedKey(unbj, binding), `hold by_local "6249" 6249`},
		} {
			req := parsed(t, c.raw)
			req.Recognize(c.v, binding, hopTime)
			vd := Decide(req, c.v, netip.MustParseAddr("10.1.0.1"), false)
			if show(vd) != c.want {
				t.Errorf("%s, %s: %s, want %s", way, name, show(vd), c.want)
			}
			if vd.Action == Answer && !strings.Contains(string(AppendAnswer(nil, req, &vd)), "\r\n"+RefusedField+": "+vd.Code+"\r\n") {
				t.Errorf("%s, %s: the edge that passed it on does not learn why it is refused", way, name)
			}
		}
	}
	center2, _ := hopViews(t)
	if vd := decide(head("+routerId: 8"), center2, testPeer, false); strings.Contains(string(AppendAnswer(nil, parsed(t, head()), &vd)), "Unitgate") {
		t.Error("a client is told what is for edges")
	}
}

// fencedKey is a handshake of a key that is being handed over, passed on by an edge that has not heard of it.
func fencedKey(unbj *View, binding []byte) string {
	req, _, _ := Parse([]byte(head("+routerId: 6249")))
	return string(req.AppendOrigin(nil, forwarding(unbj, testPeer, false, binding)))
}

// A mark is good on the connection that it was made for, near the time at which it was made, in the form that its edge
// uses, and in no other case.
func TestMarksAreBound(t *testing.T) {
	unbj, center := hopViews(t)
	other := bytes.Clone(hopConn)
	other[HopBinding-1]++
	sealed := passedOn(t, unbj, head("+routerId: 1111"), testPeer, false, hopConn)
	plain := passedOn(t, unbj, head("+routerId: 1111"), testPeer, false, nil)
	const served = `serve by_local "1111" 1111 at center:1`
	for name, c := range map[string]struct {
		raw     string
		binding []byte
		late    time.Duration
		sure    bool
		want    string
	}{
		"its own connection":                    {sealed, hopConn, 0, true, served},
		"a copy on another one":                 {sealed, other, 0, false, "421 bad_hop"},
		"a copy on a client's":                  {sealed, nil, 0, false, "421 bad_hop"},
		"half a minute later":                   {sealed, hopConn, hopSkew, true, served},
		"half a minute before":                  {sealed, hopConn, -hopSkew, true, served},
		"later than that":                       {sealed, hopConn, hopSkew + time.Second, true, "421 clock_skew"},
		"before that":                           {sealed, hopConn, -hopSkew - time.Second, true, "421 clock_skew"},
		"a copy, later than that":               {sealed, other, hopSkew + time.Second, true, "421 bad_hop"},
		"its time changed":                      {strings.Replace(sealed, " 1800000000 ", " 1800000001 ", 1), hopConn, 0, true, "421 bad_hop"},
		"something behind it":                   {strings.Replace(sealed, "\r\n\r\n", "\r\nX: y\r\n\r\n", 1), hopConn, 0, true, "421 bad_hop"},
		"a plain one of an edge that may":       {plain, nil, time.Hour, false, served},
		"a plain one of an edge that knows TLS": {plain, nil, 0, true, "421 bad_hop"},
		"a plain one over TLS":                  {plain, hopConn, 0, false, "421 bad_hop"},
		"none, between edges":                   {head("+routerId: 1111"), hopConn, 0, true, "421 bad_hop"},
	} {
		center.Peers["bj-1"].Sure = c.sure
		req := parsed(t, c.raw)
		hop := req.Recognize(center, c.binding, hopTime.Add(c.late))
		vd := Decide(req, center, testPeer, false)
		if show(vd) != c.want || (hop != nil) != (c.want == served) {
			t.Errorf("%s: %s, %v; want %s", name, show(vd), hop, c.want)
		}
		if vd.Code == CodeClockSkew && !strings.Contains(string(AppendAnswer(nil, req, &vd)), "\r\n"+TimeField+": "+strconv.FormatInt(hopTime.Add(c.late).Unix(), 10)+"\r\n") {
			t.Errorf("%s: the other edge does not learn this one's time", name)
		}
	}
	// A handshake that was held is decided again: by then its edge may be gone.
	req := parsed(t, sealed)
	req.Recognize(center, hopConn, hopTime)
	if got := show(Decide(req, center, testPeer, false)); got != served {
		t.Error(got)
	}
	center.Peers = map[string]*Peer{}
	if got := show(Decide(req, center, testPeer, false)); got != "421 bad_hop" {
		t.Errorf("of an edge that is gone: %s", got)
	}
}

// What the first edge has admitted passes at the second, and is bounded all the same.
func TestMarkedRequestsHaveRoom(t *testing.T) {
	unbj, center := hopViews(t)
	longest := strings.Repeat("i", 63)
	// By however much less the second one would take of a client.
	small := Limits{Head: SmallestHead, Hop: true}
	unbj.ID = longest
	center.Peers[longest] = &Peer{ID: longest, Secret: center.Peers["bj-1"].Secret}
	big := head("+routerId: 1111", "+X: y")
	big = strings.Replace(big, "X: y", "X: "+strings.Repeat("y", MaxHead-len(big)+1), 1)
	many := head("+routerId: 1111")
	many = strings.TrimSuffix(many, "\r\n") + strings.Repeat("X:\r\n", MaxFields-6) + "\r\n"
	for name, raw := range map[string]string{"the longest": big, "the most lines": many} {
		req := parsed(t, raw)
		for way, binding := range bothWays {
			fw := forwarding(unbj, netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666"), true, binding)
			fw.RequestID, fw.UnitType = strings.Repeat("r", maxRequestID), strings.Repeat("u", 64)
			out := req.AppendOrigin(nil, fw)
			limits := Limits{}
			if binding != nil {
				limits = small
			}
			again, n, err := limits.Parse(out)
			if err != nil || n != len(out) || again.Recognize(center, binding, hopTime) == nil {
				t.Errorf("%s, %s: %d bytes are refused: %v", name, way, len(out), err)
			}
			checkSplits(t, out)
		}
		longer := strings.Replace(raw, "X:", "X: 1\r\nX:", 1)
		if _, _, err := Parse([]byte(longer)); statusOf(err) != 431 {
			t.Errorf("%s and some, of a client: %v", name, err)
		}
	}
}

// Whose client a marked handshake is not, that edge says so, and by which state: whatever its domain does with clients.
func TestNotOwner(t *testing.T) {
	unbj, center := hopViews(t)
	good := passedOn(t, unbj, head("+routerId: 1111"), testPeer, false, hopConn)
	center.Seq, center.Unit = 41, "third"
	center.Sites["websocket.msha.tech"].Edges = map[string]*Edges{"center": {Unit: "center", Peers: []*Peer{{ID: "x"}}}}
	for _, correction := range []string{"redirect", "close", "proxy"} {
		center.Sites["websocket.msha.tech"].Correction = correction
		req := parsed(t, good)
		req.Recognize(center, hopConn, hopTime)
		vd := Decide(req, center, testPeer, false)
		if show(vd) != "421 not_owner" || !strings.Contains(string(AppendAnswer(nil, req, &vd)), "\r\n"+SequenceField+": 41\r\n") {
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
