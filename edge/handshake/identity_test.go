package handshake

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// normalType looks in every source there is, and takes IDs in normal form.
func normalType(fold bool) *Type {
	return &Type{
		Name: "by_reject", Unmarked: "reject", Form: routing.Form{Normal: true, Fold: fold},
		Sources: []Source{
			{From: "header", Name: "routerId"}, {From: "cookie", Name: "routerId"}, {From: "query", Name: "routerId"},
			{From: "path", Number: 2}, {From: "subprotocol"},
		},
	}
}

// found is the key of a request, or the code of its refusal.
func found(t *testing.T, raw string, typ *Type) string {
	t.Helper()
	req, _, err := Parse([]byte(raw))
	if err != nil {
		vd, _ := RefuseError(err)
		return vd.Code
	}
	w, code, reason := routerID(req, typ, testPeer)
	id := w.id
	if (code == "") != (reason == "") || strings.ContainsAny(reason, "\r\n") {
		t.Fatalf("%q: code %q, reason %q", raw, code, reason)
	}
	return id + code
}

func TestSpellings(t *testing.T) {
	const bad = "bad_router_id"
	mail := "user@example.com"
	for _, c := range []struct{ raw, want string }{
		{head("+routerId: user%40example.com"), mail},
		{head("+Cookie: routerId=user%40example.com"), mail},
		{head("+Cookie: routerId=\"user%40example.com\""), mail},
		{head("+Cookie: a=b; routerId = user@example.com ; c"), mail},
		{head("GET /chat?routerId=user%40example.com HTTP/1.1"), mail},
		{head("GET /chat/user@example.com HTTP/1.1"), mail},
		{head("GET //chat//user%40example.com HTTP/1.1"), mail},
		{head("+Sec-WebSocket-Protocol: router-id.user%40example.com"), mail},
		{head("+routerId: \"user@example.com\""), mail},

		{head("+routerId: 6249,6249"), "6249"},
		{head("+routerId: 6249", "+ROUTERID: 6249 , 6249"), "6249"},
		{head("+routerId: ,6249,"), "6249"},
		{head("+routerId: 6249,8330"), bad},
		{head("+routerId: 6249", "+routerId: 8330"), bad},
		{head("+routerId: , ,"), bad},
		{head("+routerId: a%2Cb"), "a,b"},
		{head("+Cookie: routerId=1111; routerId=%31111"), "1111"},
		{head("+Cookie: routerId=1111", "+cookie: routerId=8330"), bad},
		{head("+Cookie: routerId="), bad},
		{head("+Cookie: a=b, routerId=1111"), bad},
		{head("+Cookie: routerId=1111,routerId=1111"), bad},
		{head("+Cookie: routerId=1111,a=b"), bad},
		{head("+Cookie: a=b,c; routerId=1111"), "1111"},
		{head("+Cookie: routerId=a%2Cb"), "a,b"},
		{head("GET /chat?routerId=1111&routerId=%31111 HTTP/1.1"), "1111"},
		{head("GET /chat?routerId=%2B8613800000000 HTTP/1.1"), "+8613800000000"},
		{head("GET /chat?routerId=+8613800000000 HTTP/1.1"), bad},
		{head("+Cookie: routerId=+8613800000000"), "+8613800000000"},
		{head("+Cookie: routerId=%2B8613800000000"), "+8613800000000"},
		{head("GET /chat/1111;v=2 HTTP/1.1"), bad},
		{head("GET /chat/11%3B11 HTTP/1.1"), "11;11"},
		{head("+routerId: 100%"), "100%"},
		{head("GET /chat?routerId=100%25 HTTP/1.1"), "100%"},
		{head("+routerId: a%2541"), bad}, // encoded twice: decoded once it still reads as encoded
		{head("+Cookie: routerId=%22x%22"), bad},
		{head("+Cookie: routerId=%EF%BB%BF4001"), bad},
		{head("GET /chat?routerId=4001%E2%80%8B HTTP/1.1"), bad},
		{head("+routerId: Rene%CC%81"), "René"},
		{head("+Cookie: routerId=Ren%C3%A9"), "René"},
		{head("+Cookie: routerId=%ff"), bad},
		{head("GET /chat?routerId=%zz HTTP/1.1"), bad},
	} {
		if got := found(t, c.raw, normalType(false)); got != c.want {
			t.Errorf("%q: %q, want %q", c.raw, got, c.want)
		}
	}
	for _, raw := range []string{
		head("+routerId: F47AC10B-58CC-4372-A567-0E02B2C3D479"), head("+Cookie: routerId=f47ac10b-58cc-4372-a567-0e02b2c3d479"),
		head("+routerId: F47AC10B-58CC-4372-A567-0E02B2C3D479, f47ac10b-58cc-4372-a567-0e02b2c3d479"),
	} {
		if got := found(t, raw, normalType(true)); got != "f47ac10b-58cc-4372-a567-0e02b2c3d479" {
			t.Errorf("folded: %q: %q", raw, got)
		}
	}
}

// encode percent-encodes what has to be, and some of what may be, in digits of either case.
func encode(r *rand.Rand, id string, must func(c byte) bool) string {
	var b strings.Builder
	for i := range len(id) {
		if c := id[i]; must(c) || r.IntN(4) == 0 {
			fmt.Fprintf(&b, []string{"%%%02X", "%%%02x"}[r.IntN(2)], c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func oneOf(chars string) func(byte) bool {
	return func(c byte) bool { return c < '!' || c > '~' || c == '%' || strings.IndexByte(chars, c) >= 0 }
}

// namings are requests that name one ID, each in one source, in the ways that RFC 9110, 6265 and 3986 allow.
func namings(r *rand.Rand, id string) map[string]string {
	cookieOctet := oneOf("\",;\\")
	pchar := oneOf("/?#[]\"<>\\^`{|};")
	token := func(c byte) bool { return !isTokenChar(c) || c == '%' }
	raw := oneOf(",\"")
	again := func(one func() string, join string) string {
		s := one()
		for range r.IntN(3) {
			s += join + one()
		}
		return s
	}
	header := func() string {
		v := encode(r, id, raw)
		if r.IntN(4) == 0 {
			v = `"` + v + `"`
		}
		return []string{"", " ", "\t"}[r.IntN(3)] + v
	}
	cookie := func() string {
		v := encode(r, id, cookieOctet)
		if r.IntN(4) == 0 {
			v = `"` + v + `"`
		}
		return "routerId=" + v
	}
	query := func() string { return "router%49d=" + encode(r, id, oneOf("&+#;")) }
	path := encode(r, id, pchar)
	out := map[string]string{
		"header":      head("+ROUTERID:" + again(header, ",")),
		"headers":     head("+"+again(func() string { return "routerId:" + header() }, "\r\n"), "+x: y"),
		"cookie":      head("+Cookie: a=b; " + again(cookie, "; ")),
		"query":       head("GET /chat?x=y&" + again(query, "&") + " HTTP/1.1"),
		"path":        head("GET " + strings.Repeat("/", 1+r.IntN(2)) + "ch%61t" + strings.Repeat("/", 1+r.IntN(2)) + path + " HTTP/1.1"),
		"subprotocol": head("+Sec-WebSocket-Protocol: " + again(func() string { return "router-id." + encode(r, id, token) }, ", ") + ", chat"),
	}
	return out
}

// Whoever names an ID, in whichever source and spelling and how often: it is one key, or the request is refused. Never
// is it another one, and never is such a client taken for unmarked.
func TestOneUserOneKey(t *testing.T) {
	letters := []rune("abcXYZ0123456789@.+-_~%\"'();:=/?&,é漢ß😀e\u0301")
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	refused, all := 0, 0
	for range 4000 {
		var b strings.Builder
		for range 1 + r.IntN(12) {
			b.WriteRune(letters[r.IntN(len(letters))])
		}
		id := b.String()
		typ := normalType(r.IntN(2) == 0)
		key, err := typ.Form.Key(id)
		for source, raw := range namings(r, id) {
			got := found(t, raw, typ)
			all++
			switch {
			case got == key && err == nil:
			case got == "bad_router_id" || got == "bad_path":
				refused++
				if err == nil && source != "path" {
					t.Fatalf("seed %d: %s: %q is refused, though %q is its key: %q", seed, source, id, key, raw)
				}
			default:
				t.Fatalf("seed %d: %s: %q has the key %q (%v), but in %q it is %q", seed, source, id, key, err, raw, got)
			}
		}
	}
	if refused > all/2 {
		t.Errorf("%d of %d refused: this proves little", refused, all)
	}
}

// FuzzRouterID: what is read from a request is the key of its type, whatever the request is, or the request is refused; and
// to name that key once more in another source changes nothing.
func FuzzRouterID(f *testing.F) {
	f.Add("routerId: 6249,6249", "/chat?routerId=%2B86", false)
	f.Add("Cookie: routerId=user%40example.com", "/chat/a;b", true)
	f.Add("Sec-WebSocket-Protocol: router-id.%E7%94%A8", "//chat/%E7%94%A8", true)
	f.Add("x: y", "/chat/?"+ticketParam+"=AAAA&"+ticketParam+"=BBBB", true)
	f.Fuzz(func(t *testing.T, field, target string, fold bool) {
		req, _, err := Parse([]byte(head("GET "+target+" HTTP/1.1", "+"+field)))
		if err != nil || req == nil {
			return
		}
		typ := normalType(fold)
		w, code, reason := routerID(req, typ, testPeer)
		id := w.id
		if id == "" && code == "" || id != "" && code != "" || strings.ContainsAny(reason, "\r\n") {
			t.Fatalf("%q %q: id %q, code %q, reason %q", field, target, id, code, reason)
		}
		if strings.Contains("&"+req.Query, "&"+ticketParam+"=") {
			t.Fatalf("an origin would get the ticket: %q", req.Target)
		}
		if code != "" {
			return
		}
		if !typ.Form.Is(id) {
			t.Fatalf("%q %q: %q is no key", field, target, id)
		}
		req.Fields = append(req.Fields, Field{Name: "routerId", Value: url.QueryEscape(id)})
		if again, code, _ := routerID(req, typ, testPeer); again.id != id || code != "" {
			t.Fatalf("%q %q: %q, and named once more %q %q", field, target, id, again.id, code)
		}
	})
}

// signers gives two views keys by which each knows the other's tickets.
func signers(t *testing.T) (unbj, center *View) {
	t.Helper()
	unbj, center = testView(t, "unbj", false), testView(t, "center", false)
	unbj.ID, center.ID = "bj-1", "hz-1"
	known := map[string]ed25519.PublicKey{}
	for i, v := range []*View{unbj, center} {
		v.Signer = ed25519.NewKeyFromSeed([]byte(strings.Repeat(fmt.Sprint(i), ed25519.SeedSize)))
		v.Signers = known
		known[v.ID] = v.Signer.Public().(ed25519.PublicKey)
		for _, typ := range v.Types {
			typ.Form = routing.Form{Normal: true}
		}
	}
	return unbj, center
}

var sentAt = time.Unix(1_800_000_000, 0)

// follow is what an edge of the other unit says to a client that follows a redirect, with other fields.
func follow(t *testing.T, from, to *View, raw string, after time.Duration, fields ...string) Verdict {
	t.Helper()
	target := sent(t, from, raw, testPeer)
	if len(fields) > 0 && strings.HasPrefix(fields[0], "GET&") {
		target, fields = target+fields[0][len("GET"):], nil
	}
	req := parsed(t, head(append([]string{"GET " + target + " HTTP/1.1"}, fields...)...))
	req.Recognize(to, nil, sentAt.Add(after))
	return Decide(req, to, netip.MustParseAddr("2001:db8::9"), false)
}

// sent is the target of the Location that a client gets.
func sent(t *testing.T, from *View, raw string, peer netip.Addr) string {
	t.Helper()
	req := parsed(t, raw)
	req.Recognize(from, nil, sentAt)
	vd := Decide(req, from, peer, false)
	vd.Vouch(from, sentAt)
	if vd.Code != "redirect" {
		t.Fatalf("%q: %s", raw, show(vd))
	}
	u, err := url.Parse(vd.Header[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return u.RequestURI()
}

// A client that drops its cookies and its fields at another host is still who it was.
func TestTickets(t *testing.T) {
	unbj, center := signers(t)
	const served = `serve by_local "1111" 1111 at center:1`
	for _, c := range []struct {
		name, raw string
		after     time.Duration
		fields    []string
		want      string
	}{
		{"a cookie that is dropped", head("+Cookie: routerId=1111"), 0, nil, served},
		{"behind a query", head("GET /chat?x=%2F HTTP/1.1", "+Cookie: routerId=1111"), 0, nil, served},
		{"with its unit type", head("+Cookie: routerId=1111", "+unitType: by_reject"), 0, nil, `serve by_reject "1111" 1111 at center:1`},
		{"a slow client", head("+Cookie: routerId=1111"), TicketLife + hopSkew, nil, served},
		{"a clock behind", head("+Cookie: routerId=1111"), -hopSkew, nil, served},
		{"too late", head("+Cookie: routerId=1111"), TicketLife + hopSkew + time.Second, nil, "400 bad_ticket"},
		{"a clock too far behind", head("+Cookie: routerId=1111"), -hopSkew - time.Second, nil, "400 bad_ticket"},
		{"too late, but it says so itself", head("+Cookie: routerId=1111"), time.Hour, []string{"+Cookie: routerId=1111"}, served},
		{"the same once more", head("+Cookie: routerId=1111"), 0, []string{"+Cookie: routerId=1111"}, served},
		{"another one in the same source", head("+Cookie: routerId=1111"), 0, []string{"+Cookie: routerId=1112"}, "400 bad_router_id"},
		{"another one in a source behind it", head("+Cookie: routerId=1111"), 0, []string{"GET&routerId=1112"}, served},
		{"another one in a source before it", head("+Cookie: routerId=1111"), 0, []string{"+routerId: 1112"}, `serve by_local "1112" 1112 at center:1`},
		{"for another unit type", head("+Cookie: routerId=1111"), 0, []string{"+unitType: by_reject"}, "400 bad_ticket"},
	} {
		if got := show(follow(t, unbj, center, c.raw, c.after, c.fields...)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	for _, raw := range []string{head("GET /chat?routerId=1111 HTTP/1.1"), head("+routerId: 1111")} {
		if target := sent(t, unbj, raw, testPeer); strings.Contains(target, ticketParam) {
			t.Errorf("what is there again needs no ticket: %s", target)
		}
	}
	old := *center
	old.Signers = map[string]ed25519.PublicKey{"bj-1": center.Signers["hz-1"]}
	if got := show(follow(t, unbj, &old, head("+Cookie: routerId=1111"), 0)); got != "400 bad_ticket" {
		t.Errorf("signed by nobody who is known: %s", got)
	}
	target := sent(t, unbj, head("+Cookie: routerId=1111"), testPeer)
	for i := len(target) - 1; target[i] != '='; i-- {
		forged := []byte(target)
		if forged[i] = 'A'; target[i] == 'A' {
			forged[i] = 'B'
		}
		req := parsed(t, head("GET "+string(forged)+" HTTP/1.1"))
		req.Recognize(center, nil, sentAt)
		if vd := Decide(req, center, testPeer, false); vd.Code != "bad_ticket" {
			t.Fatalf("byte %d changed: %s", i, show(vd))
		}
	}
	req := parsed(t, head("GET "+target+"&y=1 HTTP/1.1"))
	if req.Target != "/chat?y=1" || req.Query != "y=1" {
		t.Errorf("the origin gets %q", req.Target)
	}
	if req = parsed(t, head("GET "+target+"&"+ticketParam+"=x HTTP/1.1")); req.ticket.text != "" {
		t.Error("two tickets")
	}
}

// A client with several addresses comes to an end: it stays the one that was sent.
func TestAddressesEnd(t *testing.T) {
	unbj, center := signers(t)
	for n := range 200 {
		peer := netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
		raw := head("+unitType: by_split")
		req := parsed(t, raw)
		if vd := Decide(req, unbj, peer, false); vd.Code != "redirect" {
			continue
		}
		target := sent(t, unbj, raw, peer)
		again := parsed(t, head("GET "+target+" HTTP/1.1", "+unitType: by_split"))
		again.Recognize(center, nil, sentAt)
		vd := Decide(again, center, netip.MustParseAddr("2001:db8::9"), false)
		if vd.Action != Serve || vd.RouterID != peer.String() {
			t.Fatalf("%s: %s", peer, show(vd))
		}
	}
	for _, c := range []struct{ a, b string }{{"2001:db8:1:2::7", "2001:db8:1:2:ffff::1"}, {"::ffff:192.0.2.7", "192.0.2.7"}} {
		if a, b := addressID(netip.MustParseAddr(c.a), true), addressID(netip.MustParseAddr(c.b), true); a != b {
			t.Errorf("%s and %s are %s and %s", c.a, c.b, a, b)
		}
	}
	if addressID(netip.MustParseAddr("2001:db8::7"), false) != "2001:db8::7" {
		t.Error("as sent, an address counts whole")
	}
}

// A head that the first edge has admitted passes at the one that it sends the client to, also if it is as long as it may be.
func TestTicketsTakeNoRoom(t *testing.T) {
	unbj, center := signers(t)
	id := strings.Repeat("k", routing.MaxRouterID)
	if v := unbj.Types["by_local"]; v.Table.Lookup(id).Unit != "center" {
		id = id[1:]
	}
	raw := head("+Cookie: routerId="+id, "+X: ")
	raw = head("+Cookie: routerId="+id, "+X: "+strings.Repeat("x", MaxHead-len(raw)))
	if len(raw) != MaxHead {
		t.Fatal(len(raw))
	}
	target := sent(t, unbj, raw, testPeer)
	req := parsed(t, strings.Replace(raw, "/chat", target, 1))
	req.Recognize(center, nil, sentAt)
	if vd := Decide(req, center, testPeer, false); vd.Action != Serve {
		t.Error(show(vd))
	}
	if _, _, err := Parse([]byte(strings.Replace(raw, "/chat", "/chat?"+ticketParam+"="+strings.Repeat("A", maxTicket+1), 1))); err == nil {
		t.Error("what cannot be a ticket makes room")
	}
}

// What another edge is passed has the ticket, an origin's handshake has not.
func TestTicketsBetweenEdges(t *testing.T) {
	unbj, center := signers(t)
	target := sent(t, unbj, head("+Cookie: routerId=1111"), testPeer)
	req := parsed(t, head("GET "+target+" HTTP/1.1"))
	req.Recognize(center, nil, sentAt)
	if got := string(req.AppendOrigin(nil, &Forward{Peer: testPeer})); strings.Contains(got, ticketParam) {
		t.Errorf("an origin gets it: %q", got)
	}
	got := string(req.AppendOrigin(nil, &Forward{Peer: testPeer, To: &Peer{ID: "x", Secret: []byte("s")}, From: "hz-1", Binding: hopConn, Now: hopTime}))
	if !strings.HasPrefix(got, "GET "+target+" HTTP/1.1\r\n") {
		t.Errorf("an edge gets %q", got)
	}
}

func TestLocateGivesATicket(t *testing.T) {
	unbj, center := signers(t)
	req := parsed(t, strings.Replace(head(), "/chat", LocatePath+"?routerId=1111", 1))
	vd := Decide(req, unbj, testPeer, false)
	vd.Vouch(unbj, sentAt)
	if strings.Contains(vd.Reason, "ticket") {
		t.Errorf("the page says it again in the query: %s", vd.Reason)
	}
	req = parsed(t, strings.Replace(head("+Cookie: routerId=1111"), "/chat", LocatePath, 1))
	vd = Decide(req, unbj, testPeer, false)
	vd.Vouch(unbj, sentAt)
	_, rest, ok := strings.Cut(vd.Reason, `"ticket":"`)
	if vd.Code != "located" || !ok {
		t.Fatalf("%s %s", vd.Code, vd.Reason)
	}
	ticket, _, _ := strings.Cut(rest, `"`)
	req = parsed(t, head("GET /chat?"+ticket+" HTTP/1.1"))
	req.Recognize(center, nil, sentAt)
	if got := show(Decide(req, center, testPeer, false)); got != `serve by_local "1111" 1111 at center:1` {
		t.Error(got)
	}
}

// A ticket's word is passed on when the client is sent once more, also where its source would have travelled.
func TestTicketsGoOn(t *testing.T) {
	unbj, center := signers(t)
	for _, v := range []*View{unbj, center} {
		v.Types["by_local"].Sources = []Source{{From: "cookie", Name: "routerId"}, {From: "query", Name: "id"}}
	}
	req := parsed(t, strings.Replace(head(), "/chat", LocatePath+"?routerId=1111", 1))
	vd := Decide(req, center, testPeer, false)
	vd.Vouch(center, sentAt)
	_, rest, _ := strings.Cut(vd.Reason, `"ticket":"`)
	ticket, _, _ := strings.Cut(rest, `"`)
	if target := sent(t, unbj, head("GET /chat?"+ticket+" HTTP/1.1"), testPeer); !strings.Contains(target, ticketParam) || strings.Contains(target, ticket) {
		t.Errorf("sent on to %s", target)
	}
	unbj.Sites["websocket.msha.tech"].Correction = "close"
	req = parsed(t, head("GET /chat?"+ticket+" HTTP/1.1"))
	req.Recognize(unbj, nil, sentAt)
	if got := show(Decide(req, unbj, testPeer, false)); got != "101 close ws://center.websocket.msha.tech/chat?id=1111" {
		t.Error(got)
	}
}

func BenchmarkRedirectWithTicket(b *testing.B) {
	v := &View{ID: "hz-1", Signer: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	typ := normalType(false)
	b.ReportAllocs()
	for b.Loop() {
		vd := Verdict{Code: "redirect", Type: typ, RouterID: "1111", Header: []Field{{Name: "Location", Value: "http://unbj.example/chat"}}}
		vd.Vouch(v, sentAt)
	}
}

// What was read of requests as they were sent, and would be read otherwise now, is nobody's key any more.
func TestOutgrownKeys(t *testing.T) {
	_, center := signers(t)
	for id, want := range map[string]bool{"6249,6249": true, "CP001;v=2": true, "2001:db8:1:2::7": true, "2001:db8:1:2::": false, "192.0.2.7": false, "1111": false, "": false, ProbeID: false} {
		if got := center.Outgrown(&Key{Type: "by_split", RouterID: id}); got != want {
			t.Errorf("%q: %v", id, got)
		}
	}
	if center.Outgrown(&Key{Type: "by_local", RouterID: "2001:db8:1:2::7"}) {
		t.Error("an ID that looks like an address")
	}
}

func BenchmarkCheckTicket(b *testing.B) {
	v := &View{ID: "hz-1", Signer: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	v.Signers = map[string]ed25519.PublicKey{v.ID: v.Signer.Public().(ed25519.PublicKey)}
	vd := Verdict{Type: normalType(false), RouterID: "1111", found: noSource}
	text := vd.ticket(v, sentAt)
	b.ReportAllocs()
	for b.Loop() {
		r := Request{ticket: &ticket{text: text}}
		if r.checkTicket(v, sentAt); !r.ticket.valid {
			b.Fatal("a ticket is none")
		}
	}
}
