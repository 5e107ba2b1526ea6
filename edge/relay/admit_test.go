package relay

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

func TestAnswers(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	if code, _, _ := f.connect(requestFor("7")).status(); code != 503 {
		t.Errorf("before the first Install: %d, want 503", code)
	}
	f.install(routing.Compile(rules(t, 50)))
	for _, c := range []struct {
		request  string
		status   int
		location string
	}{
		{requestFor("77"), 302, "ws://there.example/chat"},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426, ""},
		{"nonsense\r\n\r\n", 400, ""},
		{requestFor(strings.Repeat("9", 300)), 400, ""},
		{"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 33_000) + "\r\n\r\n", 431, ""},
		// A body, far more than anybody reads: its bytes must not turn into a RST that takes the answer away.
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n" + strings.Repeat("x", 900_000), 426, ""},
	} {
		p := f.connect(c.request)
		code, resp, body := p.status()
		if code != c.status || resp.Header.Get("Location") != c.location || !resp.Close || !strings.HasSuffix(body, "\n") {
			t.Errorf("%.40q: %d %v %q", c.request, code, resp.Header, body)
		}
		p.wantEnd()
	}
	if n := f.counts(); n.Landed != 0 || n.Sessions != 0 {
		t.Errorf("%+v", n)
	}
}

func TestSlowHandshake(t *testing.T) {
	f := start(t, Config{HandshakeTimeout: 50 * time.Millisecond})
	for _, part := range []string{"", requestFor("7")[:100]} {
		p := f.connect(part)
		if code, _, _ := p.status(); code != 408 {
			t.Errorf("%d, want 408", code)
		}
		p.wantEnd()
	}
}

// refusing is an address where nobody listens.
func refusing(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestDialTriesTheNextOrigin(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 1}, refusing(t), b.addr(), refusing(t))
	f.own()
	for range 6 { // whichever comes first
		f.open(b, "7")
	}
	f.origins = []string{refusing(t), refusing(t)}
	f.install(routing.Compile(rules(t, 99))) // sessions on removed origins stay
	if n := f.counts(); n.Sessions != 6 || n.Victims != 0 {
		t.Errorf("%+v", n)
	}
	p := f.connect(requestFor("7"))
	if code, _, _ := p.status(); code != 502 {
		t.Errorf("%d, want 502", code)
	}
	p.wantEnd()
}

func TestOriginsTakeTurns(t *testing.T) {
	b1, b2 := newBackend(t), newBackend(t)
	f := start(t, Config{Engines: 1}, b1.addr(), b2.addr())
	f.own()
	var clients []*peer
	for range 6 {
		clients = append(clients, f.connect(requestFor("7")))
	}
	var origins []*peer
	for range 3 {
		o1, _ := b1.next()
		o2, _ := b2.next()
		origins = append(origins, o1, o2)
	}
	for _, c := range clients { // before the origins leave, or they would be taken to the other one
		_ = c.Close()
	}
	for _, o := range origins {
		o.wantEnd()
		_ = o.Close()
	}
	f.waitCounts("nothing is left", func(Counts) bool { return f.sum(func(e *engine) int { return len(e.all) }) == 0 })
}

func TestOriginsOwnAnswers(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	for _, c := range []struct{ sent, want string }{
		{"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\nsorry\nleft over", "HTTP/1.1 403 No\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsorry\n"},
		{"HTTP/1.1 401 No\nTransfer-Encoding: chunked\n\n2\r\nhi\r\n0\r\n\r\n", "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhi\r\n0\r\n\r\n"},
		{"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		{"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 None\r\n\r\n", "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 None\r\nConnection: close\r\n\r\n"},
	} {
		p := f.connect(requestFor("7") + "glued bytes that nobody wants")
		o, _ := b.next()
		o.send([]byte(c.sent)...)
		if got, err := io.ReadAll(p.br); string(got) != c.want || err != nil {
			t.Errorf("got %q and %v, want %q", got, err, c.want)
		}
	}
	// Without a length the body ends with the connection; it may be large and its reader slow.
	p := f.connect(requestFor("7"))
	o, _ := b.next()
	go func() {
		o.send([]byte("HTTP/1.1 500 No\r\n\r\n")...)
		o.send(burst[:5<<20]...)
		_ = o.Close()
	}()
	if code, _, body := p.status(); code != 500 || len(body) != 5<<20 {
		t.Errorf("%d with %d bytes", code, len(body))
	}
	if n := f.counts(); n.Sessions != 0 {
		t.Errorf("%+v", n)
	}
}

func TestBadOriginAnswers(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	for _, sent := range []string{
		"", "HTTP/1.1 101 Swi", "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 101 x\r\nbroken line\r\n\r\n",
		"HTTP/1.1 101 x\r\nX: " + strings.Repeat("x", 17<<10) + "\r\n\r\n",
	} {
		p := f.connect(requestFor("7"))
		o, _ := b.next()
		if sent != "" {
			o.send([]byte(sent)...)
		}
		_ = o.tcp().CloseWrite()
		if code, _, _ := p.status(); code != 502 {
			t.Errorf("%.40q: %d, want 502", sent, code)
		}
		p.wantEnd()
	}
}

func TestClientLeavesWhileDialling(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	p := f.connect(requestFor("7"))
	o, _ := b.next()
	_ = p.Close()
	o.wantFarewell()
	f.waitCounts("nothing is left", func(Counts) bool { return f.sum(func(e *engine) int { return len(e.all) }) == 0 })
}

func TestCapacity(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Capacity: 2}, b.addr())
	f.install(routing.Compile(rules(t, 50)))
	c1, o1 := f.open(b, "1")
	f.open(b, "2")
	p := f.connect(requestFor("3"))
	if code, resp, _ := p.status(); code != 503 || !jittered(resp.Header.Get("Retry-After")) {
		t.Errorf("%d %v, want 503", code, resp.Header)
	}
	if code, _, _ := f.connect(requestFor("99")).status(); code != 302 {
		t.Errorf("a redirect takes no capacity, got %d", code)
	}
	_, _ = c1.Close(), o1.Close()
	f.waitCounts("there is room again", func(n Counts) bool { return n.Sessions == 1 })
	f.open(b, "3")
}

func jittered(retryAfter string) bool {
	n, err := strconv.Atoi(retryAfter)
	return err == nil && n >= 1 && n <= 5
}

func TestHeldUntilTheMoveIsDecided(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.move(50, routing.Fenced)
	p1, p2 := f.connect(requestFor("60")+"glued"), f.connect(requestFor("70"))
	f.waitCounts("both are held", func(n Counts) bool { return n.Held == 2 })
	f.open(b, "10") // not moving: not held
	f.move(50, routing.Committed)
	for _, p := range []*peer{p1, p2} {
		if code, resp, _ := p.status(); code != 302 || resp.Header.Get("Location") != "ws://there.example/chat" {
			t.Errorf("%d %v", code, resp.Header)
		}
	}
	if n := f.counts(); n.Held != 0 || n.Sessions != 1 {
		t.Errorf("%+v", n)
	}
}

func TestHeldAreLetInWhenTheKeyArrives(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	arriving := func(phase routing.Phase) {
		from, to := rules(t, 50), rules(t, 100)
		keys := routing.Compare(from, to).Split(1)[0]
		f.install(routing.CompileCutover(from, to, []routing.Wave{{Keys: keys, Phase: phase}}))
	}
	arriving(routing.Fenced)
	p := f.connect(requestFor("60") + "glued")
	f.waitCounts("held", func(n Counts) bool { return n.Held == 1 })
	arriving(routing.Fenced) // an unrelated change
	arriving(routing.Committed)
	o, _ := b.next()
	o.send([]byte(switching)...)
	p.want([]byte(switching)...)
	o.want([]byte("glued")...)
	if n := f.counts(); n.Held != 0 || n.Landed != 1 || n.Sessions != 1 {
		t.Errorf("%+v", n)
	}
	f.open(b, "10") // was here all along
	if n := f.counts(); n.Landed != 1 {
		t.Errorf("%+v", n)
	}
}

func TestHeldTooLong(t *testing.T) {
	f := start(t, Config{})
	f.hold = 50 * time.Millisecond
	f.move(50, routing.Fenced)
	p := f.connect(requestFor("60"))
	if code, resp, _ := p.status(); code != 503 || !jittered(resp.Header.Get("Retry-After")) {
		t.Errorf("%d %v, want 503", code, resp.Header)
	}
	p.wantEnd()
	if n := f.counts(); n.Held != 0 {
		t.Errorf("%+v", n)
	}
}

func TestHeldAreBounded(t *testing.T) {
	f := start(t, Config{MaxHeld: 2})
	f.move(50, routing.Fenced)
	p := f.connect(requestFor("60"))
	f.connect(requestFor("61"))
	f.waitCounts("two are held", func(n Counts) bool { return n.Held == 2 })
	if code, resp, _ := f.connect(requestFor("62")).status(); code != 503 || !jittered(resp.Header.Get("Retry-After")) {
		t.Errorf("%d %v, want 503", code, resp.Header)
	}
	_ = p.Close() // a client that leaves makes room
	f.waitCounts("one is held", func(n Counts) bool { return n.Held == 1 })
	f.connect(requestFor("62") + "with bytes that nobody reads yet")
	f.waitCounts("two are held", func(n Counts) bool { return n.Held == 2 })
}

// R10: the dial is registered before dialling, and the rules are asked again before the first byte to the origin.
func TestInstallWhileConnecting(t *testing.T) {
	full := fullBacklog(t)
	f := start(t, Config{DialTimeout: time.Minute}, full)
	f.own()
	p := f.connect(requestFor("60"))
	eventually(t, "the dial hangs", func() bool { return f.registered() == 1 })
	f.move(50, routing.Fenced)
	f.waitCounts("the client is held, the dial is over", func(n Counts) bool { return n.Held == 1 && n.Victims == 0 })
	if n := f.registered(); n != 0 {
		t.Errorf("%d dials are registered", n)
	}
	f.move(50, routing.Committed)
	if code, _, _ := p.status(); code != 302 {
		t.Errorf("%d, want 302", code)
	}
}

// registered counts the sessions and dials that have a key.
func (f *fixture) registered() int {
	return f.sum(func(e *engine) int { return e.registry.Len(testType) })
}

// R10: and again before the 101 goes to the client.
func TestInstallWhileTheOriginThinks(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	p := f.connect(requestFor("60") + "glued")
	stay := f.connect(requestFor("10"))
	origins := map[string]*peer{}
	for range 2 {
		o, head := b.next()
		_, rest, _ := strings.Cut(head, "routerId: ")
		origins[rest[:2]] = o
	}
	f.move(50, routing.Fenced)
	origins["60"].wantFarewell()
	f.waitCounts("the client is held", func(n Counts) bool { return n.Held == 1 && n.Victims == 0 })
	f.own() // aborted: the key is ours again
	o, _ := b.next()
	o.send([]byte(switching)...)
	p.want([]byte(switching)...)
	o.want([]byte("glued")...)
	// The other dial was not touched.
	origins["10"].send([]byte(switching)...)
	stay.want([]byte(switching)...)
	if n := f.counts(); n.Sessions != 2 || n.Evicted != 0 {
		t.Errorf("%+v", n)
	}
}

func TestInstallEndsWithItsContext(t *testing.T) {
	f := start(t, Config{Engines: 1})
	release := make(chan struct{})
	f.engines[0].post(func() { <-release })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Install(ctx, f.view(routing.Compile(rules(t, 100)))); err == nil {
		t.Error("Install returned though a poller has not taken the view")
	}
	close(release)
	f.own()
}

func TestUnmarkedClients(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c := f.connect(strings.Replace(requestFor("7"), "routerId: 7\r\n", "", 1))
	o, _ := b.next()
	o.send([]byte(switching)...)
	c.want([]byte(switching)...)
	f.move(0, routing.Fenced) // every slot moves, but no key of an unmarked client
	if n := f.counts(); n.Victims != 0 {
		t.Errorf("%+v", n)
	}
	f.move(0, routing.Committed) // the unit has no slots left: unmarked clients go to the center
	f.waitCounts("it is a victim", func(n Counts) bool { return n.Victims == 1 })
	f.Evict(testType, 0)
	c.wantClose(1012, "moved to there")
}
