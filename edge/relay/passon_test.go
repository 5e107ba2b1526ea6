package relay

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/deadman"
	"github.com/unitgate/unitgate/edge/front"
	"github.com/unitgate/unitgate/edge/limit"
	"github.com/unitgate/unitgate/events/routing"
)

// pair are edges of two units: near, of unit "here", passes the clients of slots from 50 on to far, of unit "there".
type pair struct {
	near, far *fixture
	origin    *backend // of the unit of far
	local     *backend // of the unit of near
}

func startPair(t *testing.T, near, far Config) *pair {
	t.Helper()
	p := &pair{origin: newBackend(t), local: newBackend(t)}
	p.far = p.edge(t, "there", "edge-there", far, p.origin)
	p.near = p.edge(t, "here", "edge-here", near, p.local)
	p.far.peers, p.near.peers = []*fixture{p.near}, []*fixture{p.far}
	p.install(routing.Compile(rules(t, 50)))
	return p
}

func (p *pair) edge(t *testing.T, unit, id string, cfg Config, origins ...*backend) *fixture {
	t.Helper()
	var addrs []string
	for _, o := range origins {
		addrs = append(addrs, o.addr())
	}
	if !ofBefore(t, id) {
		cfg.HopKey = hopKeyOf(id)
	}
	f := start(t, cfg, addrs...)
	f.unit, f.id, f.correct = unit, id, "proxy"
	return f
}

// TestPassedOnWithVersionsBefore runs these tests with edges that speak plain HTTP to each other, as they did before, and
// with one of these beside one of this version: during an upgrade nothing is lost in either direction.
func TestPassedOnWithVersionsBefore(t *testing.T) {
	for _, who := range []string{"both", "edge-here", "edge-there"} {
		for name, test := range map[string]func(*testing.T){
			"PassedOn":                TestPassedOn,
			"IsEvicted":               TestPassedOnIsEvicted,
			"IsHeld":                  TestPassedOnIsHeld,
			"InNoCircle":              TestPassedOnInNoCircle,
			"ForgedMark":              TestForgedMark,
			"ToAnotherEdge":           TestPassedOnToAnotherEdge,
			"OriginIsNotTaken":        TestOriginIsNotTakenForItsEdge,
			"Answers":                 TestPassedOnAnswers,
			"WithinLimits":            TestPassedOnWithinLimits,
			"ToAnEdgeBehindABalancer": TestPassedOnToAnEdgeBehindABalancer,
			"ByLease":                 TestPassedOnByLease,
			"Scheme":                  TestPassedOnScheme,
			"ByAnEdgeThatStops":       TestPassedOnByAnEdgeThatStops,
			"IsEvictedByAnOperator":   TestPassedOnIsEvictedByAnOperator,
			"InATakeOver":             testPassedOnInATakeOver,
		} {
			if who != "both" && name == "InATakeOver" {
				continue // TestHopInATakeOver
			}
			t.Run(who+"/"+name, test)
		}
	}
}

// asked is how many dials it takes to learn that the other edge knows no TLS.
func asked(t *testing.T) int {
	if ofBefore(t, "edge-there") && !ofBefore(t, "edge-here") {
		return 1
	}
	return 0
}

// ofBefore reports whether an edge is to be of a version that knows no TLS between edges.
func ofBefore(t *testing.T, id string) bool {
	part := strings.Split(t.Name(), "/")
	return part[0] == "TestPassedOnWithVersionsBefore" && (part[1] == "both" || strings.HasPrefix(id, part[1]))
}

func (p *pair) install(table *routing.Table) {
	p.far.install(table)
	p.near.install(table)
}

// back is a phase of the move of slots from 80 on, from there to here.
func back(t *testing.T, phase routing.Phase) *routing.Table {
	t.Helper()
	from := rules(t, 50)
	to, err := routing.NewRules(100, map[string][]routing.Range{
		"here": {{From: 0, To: 49}, {From: 80, To: 99}}, "there": {{From: 50, To: 79}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	waves := routing.Compare(from, to).Split(1)
	return routing.CompileCutover(from, to, []routing.Wave{{Keys: waves[0], Phase: phase}})
}

// open makes a session that is passed on.
func (p *pair) open(routerID string) (client, origin *peer) { return p.near.open(p.origin, routerID) }

func (p *pair) waitProxied(n int) {
	p.near.t.Helper()
	p.near.waitCounts(fmt.Sprint(n, " are passed on"), func(c Counts) bool { return c.Proxied.Sessions == n })
}

// R14: a client of another unit is passed on to an edge of that, which knows it as its own: what arrives at the origin is
// what would arrive if the client had come to the right unit.
func TestPassedOn(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	c, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}, addrOfFixture(t, p.near))
	if err != nil {
		t.Fatal(err)
	}
	client := newPeer(t, c)
	client.send([]byte(strings.Replace(requestFor("70"), "routerId:", "X-Forwarded-For: 6.6.6.6\r\nUnitgate-Epoch: 9\r\nSec-WebSocket-Protocol: router-id.70, chat\r\nX-Request-Id: r-1\r\nrouterId:", 1))...)
	origin, head := p.origin.next()
	for _, want := range []string{"\r\nX-Forwarded-For: 127.0.0.9\r\n", "\r\nX-Forwarded-Proto: http\r\n", "\r\nX-Request-Id: r-1\r\n", "\r\nrouterId: 70\r\n",
		"\r\nSec-WebSocket-Protocol: chat\r\n", "\r\nunitType: unit_type\r\n"} {
		if strings.Count(head, want) != 1 {
			t.Errorf("the origin got %q, without %q", head, want)
		}
	}
	if strings.Contains(head, "Unitgate-Hop") || strings.Contains(head, "6.6.6.6") {
		t.Errorf("the origin got %q", head)
	}
	origin.send([]byte(switching)...)
	if h := client.head(); h != switching {
		t.Fatalf("the client got %q", h)
	}
	big := frameOf(0x82, make([]byte, 3<<20), true)
	go func() { _, _ = client.Write(big) }()
	origin.want(big...)
	unmasked := frameOf(0x81, []byte("to the client"), false)
	origin.send(unmasked...)
	client.want(unmasked...)

	// Each edge counts it once, in its own way.
	p.waitProxied(1)
	near, far := p.near.counts(), p.far.counts()
	if near.Sessions != 0 || near.Handshakes != 0 || near.Dials != 0 || near.Proxied.Handshakes != 1 || near.Proxied.Dials != 1+asked(t) {
		t.Errorf("the edge that passes on counts %+v", near)
	}
	if far.Sessions != 1 || far.Handshakes != 1+asked(t) || far.Dials != 1 || far.Proxied.Sessions != 0 || far.Proxied.Handshakes != 0 {
		t.Errorf("the edge that serves counts %+v", far)
	}
	all := routing.Keys{Slots: []routing.Range{{From: 0, To: 99}}}
	if n, f := p.near.CountKeys(testType, all, routing.IDs{}), p.far.CountKeys(testType, all, routing.IDs{}); n != 0 || f != 1 {
		t.Errorf("%d and %d sessions on keys", n, f)
	}
	if p.near.CountRouter(testType, "70") != 0 || p.near.CountProxied(testType, "70") != 1 || p.far.CountRouter(testType, "70") != 1 {
		t.Error("the user is not where it is")
	}
	if s := p.near.Peers(); len(s) != 1 || s[0].Address != p.far.Addrs()[0] || s[0].Sessions != 1 {
		t.Errorf("peers: %+v", s)
	}
	_ = client.tcp().CloseWrite() // a half-close passes through both
	origin.wantEnd()
	_ = origin.Close()
	client.wantEnd()
	p.waitProxied(0)
}

func addrOfFixture(t *testing.T, f *fixture) *net.TCPAddr {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", f.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A cutover evicts those whose owner changes, whichever edge comes first, with one Close that reaches the client as it was
// written; the others keep their connections (G1).
func TestPassedOnIsEvicted(t *testing.T) {
	for _, who := range []string{"the edge that serves", "the edge that passes on", "both"} {
		t.Run(who, func(t *testing.T) {
			p := startPair(t, Config{}, Config{})
			moves, movesOrigin := p.open("85")
			stays, staysOrigin := p.open("70")
			mine, mineOrigin := p.near.open(p.local, "7")
			p.waitProxied(2)
			p.install(back(t, routing.Fenced))
			if n, f := p.near.counts().Victims, p.far.counts().Victims; n != 1 || f != 1 {
				t.Fatalf("%d and %d victims, want one each", n, f)
			}
			if who != "the edge that passes on" {
				p.far.Evict(testType, 0)
			}
			if who != "the edge that serves" {
				p.near.Evict(testType, 0)
			}
			moves.wantClose(1012, "moved to here")
			moves.send(frameOf(0x81, []byte("last words"), true)...)
			moves.send(closeFrame(1012, true)...)
			movesOrigin.want(frameOf(0x81, []byte("last words"), true)...)
			movesOrigin.want(closeFrame(1012, true)...)
			movesOrigin.wantEnd()
			_ = movesOrigin.Close()
			moves.wantEnd() // nothing behind the one Close
			_ = moves.Close()
			p.near.waitCounts("it is gone here", func(n Counts) bool { return n.Victims == 0 && n.Proxied.Sessions == 1 })
			p.far.waitCounts("it is gone there", func(n Counts) bool { return n.Victims == 0 && n.Sessions == 1 })
			near, far := p.near.counts(), p.far.counts()
			if near.Evicted != 0 || near.Landed != 0 || who == "the edge that serves" && (near.Proxied.Evicted != 0 || far.Evicted != 1) ||
				who == "the edge that passes on" && (near.Proxied.Evicted != 1 || far.Evicted != 0) {
				t.Errorf("evicted: %+v, %+v", near, far)
			}
			p.install(back(t, routing.Committed))
			hello := frameOf(0x81, []byte("still here"), true)
			for _, both := range [][2]*peer{{stays, staysOrigin}, {mine, mineOrigin}} {
				both[0].send(hello...)
				both[1].want(hello...)
			}
			// The moved user comes back to the same edge, which is the right one now.
			again, _ := p.near.open(p.local, "85")
			if n := p.near.counts(); n.Landed != 1 || n.Sessions != 2 {
				t.Errorf("after it came back: %+v", n)
			}
			_ = again.Close()
		})
	}
}

// The serving edge hangs: the kernel takes what is written, nobody answers. The edge that passes on evicts all the same.
func TestPassedOnIsEvictedFromADeadEdge(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	hung := newBackend(t)
	p.near.peers = []*fixture{{Relay: &Relay{cfg: Config{HopKey: hopKeyOf("edge-there")}}, unit: "there", id: "edge-there", advertise: hung.addr()}}
	p.near.install(routing.Compile(rules(t, 50)))
	client := p.near.connect(requestFor("85"))
	edge := hung.nextHop(hopKeyOf("edge-there"))
	if head := edge.head(); !strings.Contains(head, "\r\nUnitgate-Hop: 2 edge-here 127.0.0.1 http ") {
		t.Fatalf("the other edge got %q", head)
	}
	edge.send([]byte(switching)...)
	if h := client.head(); h != switching {
		t.Fatalf("the client got %q", h)
	}
	p.near.hasten(50 * time.Millisecond)
	p.near.install(back(t, routing.Fenced))
	p.near.Evict(testType, 0)
	client.wantClose(1012, "moved to here")
	client.send(closeFrame(1012, true)...)
	client.wantEnd()
	p.near.waitCounts("it is gone", func(n Counts) bool { return n.Victims == 0 && n.Proxied.Sessions == 0 })
}

// The key is fenced while the handshake is under way: whoever learns of it first holds the client, and it is let in at its
// new unit. Nobody answers it anything else.
func TestPassedOnIsHeld(t *testing.T) {
	for _, order := range []string{"far, far, near", "near, far"} {
		t.Run(order, func(t *testing.T) {
			p := startPair(t, Config{}, Config{})
			far, near := func(ph routing.Phase) { p.far.install(back(t, ph)) }, func(ph routing.Phase) { p.near.install(back(t, ph)) }
			var client *peer
			if order == "near, far" {
				near(routing.Fenced)
				client = p.near.connect(requestFor("85"))
				p.near.waitCounts("it is held here", func(n Counts) bool { return n.Held == 1 })
				far(routing.Fenced)
				far(routing.Committed)
			} else {
				far(routing.Fenced)
				client = p.near.connect(requestFor("85"))
				p.far.waitCounts("it is held there", func(n Counts) bool { return n.Held == 1 })
				far(routing.Committed) // it says that it is not the owner, by a newer state than the other one's
				p.near.waitCounts("it is held here", func(n Counts) bool { return n.Held == 1 })
			}
			if n := p.near.counts(); n.Proxied.Sessions != 0 || n.Victims != 0 {
				t.Errorf("while it is held: %+v", n)
			}
			near(routing.Committed)
			origin, _ := p.local.next()
			origin.send([]byte(switching)...)
			if h := client.head(); h != switching {
				t.Fatalf("the client got %q", h)
			}
		})
	}
}

// Edges that disagree at one sequence, as after a journal was made anew, send a handshake round no circle.
func TestPassedOnInNoCircle(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	p.far.seq = 0
	p.far.install(routing.Compile(rules(t, 100))) // thinks that it owns nothing
	client := p.near.connect(requestFor("70"))
	p.near.refused(client)
	client.wantEndOfAnswer()
	if near, far := p.near.counts(), p.far.counts(); near.Proxied.Dials != 1+asked(t) || far.Proxied.Dials != 0 || far.Handshakes != 1+asked(t) || far.HandshakeErrors != 0 {
		t.Errorf("%+v, %+v", near, far)
	}
}

// wantEndOfAnswer reads the rest of an answer, to the end of the stream.
func (p *peer) wantEndOfAnswer() {
	p.t.Helper()
	buf := make([]byte, 1024)
	for {
		if _, err := p.br.Read(buf); err != nil {
			if err.Error() != "EOF" {
				p.t.Fatal(err)
			}
			return
		}
	}
}

// A mark that is not an edge's gives nothing: the handshake is refused, also where it belongs.
func TestForgedMark(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	for _, mark := range []string{
		"edge-here 6.6.6.6 http AAAA", "edge-here 6.6.6.6 http " + strings.Repeat("A", 43) + "=", "edge-there 6.6.6.6 http AAAA", "x", "",
	} {
		forged := func(id string) string {
			return strings.Replace(requestFor(id), "routerId:", "Unitgate-Hop: "+mark+"\r\nrouterId:", 1)
		}
		for _, c := range []*peer{p.near.connect(forged("70")), p.near.connect(forged("7")), p.far.connect(forged("70"))} {
			if status, _, body := c.status(); status != 421 {
				t.Errorf("%q: %d %q", mark, status, body)
			}
		}
	}
	if n := p.near.counts().Proxied.Dials + p.near.counts().Dials + p.far.counts().Dials; n != 0 {
		t.Errorf("%d dials", n)
	}
}

// The unit's edges take turns, and one that refuses or is gone is no end.
func TestPassedOnToAnotherEdge(t *testing.T) {
	p := startPair(t, Config{}, Config{Capacity: 1})
	second := p.edge(t, "there", "edge-there-2", Config{}, p.origin)
	second.peers = []*fixture{p.near}
	second.install(routing.Compile(rules(t, 50)))
	p.near.peers = append(p.near.peers, second)
	p.near.install(routing.Compile(rules(t, 50)))
	for i := range 6 { // the first takes one
		p.open(id(50 + i))
	}
	if n, m := p.far.counts().Sessions, second.counts().Sessions; n != 1 || m != 5 {
		t.Errorf("%d and %d sessions", n, m)
	}
	if n := p.near.counts().Proxied; n.Handshakes != 6 || n.HandshakeErrors != 0 || n.Dials <= 6 {
		t.Errorf("%+v", n)
	}
	second.hasten(20 * time.Millisecond)
	if err := second.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := p.near.connect(requestFor("70"))
	p.near.refused(c)
	if n := p.near.counts(); n.Proxied.HandshakeErrors != 1 || n.HandshakeErrors != 0 {
		t.Errorf("none takes it: %+v", n)
	}
}

// Only an edge says that it has turned a handshake down. What an origin puts under those names is no word of its edge's, and
// gets the client nowhere else.
func TestOriginIsNotTakenForItsEdge(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	for _, mark := range []string{
		"Unitgate-Refused: not_owner\r\nUnitgate-Sequence: 999999\r\n", "unitgate-refused: at_capacity\r\n",
		"Unitgate-Refused: not_owner\r\n Unitgate-Sequence: 999999\r\nunitgate_sequence: 999999\r\nUnitgate-Sequence: 999999\r\n",
	} {
		client := p.near.connect(requestFor("70"))
		o, _ := p.origin.next()
		o.send([]byte("HTTP/1.1 403 No\r\nX-A: 1\r\n" + mark + "Content-Length: 5\r\n\r\nsorry")...)
		if status, resp, body := client.status(); status != 403 || body != "sorry" || resp.Header.Get("X-A") != "1" {
			t.Errorf("%q: %d %q", mark, status, body)
		}
	}
	if n := p.near.counts(); n.Held != 0 || n.Proxied.Dials != 3+asked(t) {
		t.Errorf("%+v", n)
	}
}

// An edge that takes over has joined, and the one before still accepts at its address: the other edges' handshakes find
// either, and no third one.
func testPassedOnInATakeOver(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	p.near.peers = []*fixture{{Relay: p.far.Relay, unit: "there", id: "edge-there-2", before: "edge-there"}}
	table := routing.Compile(rules(t, 50))
	p.near.install(table)
	wantDials := func(n int) {
		t.Helper()
		if c := p.near.counts().Proxied; c.Dials != n {
			t.Errorf("%d dials, want %d", c.Dials, n)
		}
	}
	p.open("70")
	wantDials(2)
	p.far.id = "edge-there-2"
	p.far.install(table)
	p.open("71")
	wantDials(3)
	if n := p.near.counts().Proxied; n.Handshakes != 2 || n.HandshakeErrors != 0 {
		t.Errorf("%+v", n)
	}
	p.far.id = "edge-there-3"
	p.far.install(table)
	c := p.near.connect(requestFor("72"))
	p.near.refused(c)
	wantDials(5)
}

// What the unit itself answers is the client's.
func TestPassedOnAnswers(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	c := p.near.connect(requestFor("70"))
	o, _ := p.origin.next()
	o.send([]byte("HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nsorry")...)
	if status, _, body := c.status(); status != 403 || body != "sorry" {
		t.Errorf("%d %q", status, body)
	}
	_ = p.origin.ln.Close()
	if status, _, body := p.near.connect(requestFor("70")).status(); status != 502 || !strings.Contains(body, "no origin") {
		t.Errorf("%d %q", status, body)
	}
}

// Limits of the serving edge count the client, not the edge that passes it on.
func TestPassedOnWithinLimits(t *testing.T) {
	p := startPair(t, Config{}, Config{Limits: limit.Limits{PerAddress: 1}})
	from := func(last byte) *peer {
		c, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, last)}, addrOfFixture(t, p.near))
		if err != nil {
			t.Fatal(err)
		}
		q := newPeer(t, c)
		q.send([]byte(requestFor("70"))...)
		return q
	}
	for last := byte(2); last < 6; last++ {
		c := from(last)
		o, _ := p.origin.next()
		o.send([]byte(switching)...)
		if h := c.head(); h != switching {
			t.Fatalf("a client of its own address got %q", h)
		}
	}
	if status, _, _ := from(2).status(); status != 429 {
		t.Errorf("a second one of an address got %d", status)
	}
	if r := p.far.Clients(); r.Connections < 4 || r.Refused.PerAddress != 1 {
		t.Errorf("%+v", r)
	}
}

// Addresses that are listed as load balancers have to begin with a PROXY header, but for edges: their marks say more.
func TestPassedOnToAnEdgeBehindABalancer(t *testing.T) {
	trusted, err := front.ParseTrusted("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	p := startPair(t, Config{}, Config{ProxyProtocol: trusted, Limits: limit.Limits{PerAddress: 1}})
	client := p.near.connect(requestFor("70"))
	origin, head := p.origin.next()
	if !strings.Contains(head, "\r\nX-Forwarded-For: 127.0.0.1\r\n") {
		t.Errorf("the origin got %q", head)
	}
	origin.send([]byte(switching)...)
	if h := client.head(); h != switching {
		t.Fatalf("the client got %q", h)
	}
	if status, _, _ := p.near.connect(requestFor("71")).status(); status != 429 {
		t.Errorf("a second one of its address got %d", status)
	}
	for _, raw := range []string{
		requestFor("70"), strings.Replace(requestFor("70"), "routerId:", "Unitgate-Hop: edge-here 6.6.6.6 http AAAA\r\nrouterId:", 1), "GET /\r\n\r\n",
	} {
		if status, _, body := p.far.connect(raw).status(); status != 400 || !strings.Contains(body, "load balancer") {
			t.Errorf("%q without a header: %d %q", raw, status, body)
		}
	}
	if n := p.far.Clients().Refused; n.PerAddress != 1 {
		t.Errorf("%+v", n)
	}
}

// R3, R9: without its own lease an edge passes nobody on, and what it did is reset; it is the same where the lease of the
// serving edge ends.
func TestPassedOnByLease(t *testing.T) {
	for _, whose := range []string{"near", "far"} {
		t.Run(whose, func(t *testing.T) {
			p := startPair(t, Config{Engines: 1}, Config{Engines: 1})
			edge := map[string]*fixture{"near": p.near, "far": p.far}[whose]
			if !edge.Serve(deadman.Now() + time.Hour) {
				t.Fatal("a lease is not taken")
			}
			client, origin := p.open("70")
			edge.letGo(edge.Forbid())
			client.wantReset()
			origin.wantReset()
			c := p.near.connect(requestFor("71"))
			p.near.refused(c)
			if n := p.far.counts().Dials; n != 1 {
				t.Errorf("%d dials of origins", n)
			}
		})
	}
}

// Over TLS the origin learns so, though edges speak plainly to each other.
func TestPassedOnScheme(t *testing.T) {
	names := []string{}
	p := startPair(t, Config{}, Config{})
	client := p.near.connect(requestFor("70"))
	_, head := p.origin.next()
	if i := strings.Index(head, "X-Forwarded-Proto: "); i >= 0 {
		names = append(names, strings.SplitN(head[i:], "\r\n", 2)[0])
	}
	want := "X-Forwarded-Proto: http"
	if overTLS(t) {
		want += "s"
	}
	if !slices.Equal(names, []string{want}) {
		t.Errorf("got %q, want %q", names, want)
	}
	_ = client.Close()
}

// An edge that stops says goodbye to those whom it passes on; one that serves says so through the other.
func TestPassedOnByAnEdgeThatStops(t *testing.T) {
	for _, whose := range []string{"near", "far"} {
		t.Run(whose, func(t *testing.T) {
			p := startPair(t, Config{}, Config{})
			client, origin := p.open("70")
			edge := map[string]*fixture{"near": p.near, "far": p.far}[whose]
			closed := make(chan error, 1)
			go func() { closed <- edge.Close(t.Context()) }()
			client.wantClose(1001, "edge is shutting down")
			client.send(closeFrame(1001, true)...)
			origin.want(closeFrame(1001, true)...)
			origin.wantEnd()
			_ = origin.Close()
			client.wantEnd()
			_ = client.Close()
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
	}
}

// An operator's eviction of a user reaches him wherever he comes in, and counts once.
func TestPassedOnIsEvictedByAnOperator(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	client, _ := p.open("70")
	p.waitProxied(1)
	if n := p.near.EvictRouter(testType, "70") + p.far.EvictRouter(testType, "70"); n != 1 {
		t.Errorf("%d sessions were evicted", n)
	}
	client.wantClose(1012, "evicted by operator")
}
