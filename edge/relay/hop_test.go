package relay

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/certs/certstest"
	"github.com/unitgate/unitgate/edge/deadman"
	"github.com/unitgate/unitgate/edge/front"
	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events/routing"
)

// wire stands between two edges and keeps what goes by.
type wire struct {
	ln net.Listener
	to string

	mu   sync.Mutex
	sent []*bytes.Buffer // by connection, towards the edge that serves
	back bytes.Buffer
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{ln: ln, to: to}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.carry(c) })
		}
	})
	return w
}

func (w *wire) carry(c net.Conn) {
	defer func() { _ = c.Close() }()
	o, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer func() { _ = o.Close() }()
	w.mu.Lock()
	sent := new(bytes.Buffer)
	w.sent = append(w.sent, sent)
	w.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { w.pass(o, c, sent) })
	both.Go(func() { w.pass(c, o, &w.back) })
	both.Wait()
}

func (w *wire) pass(to, from net.Conn, keep *bytes.Buffer) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		w.mu.Lock()
		keep.Write(b[:n])
		w.mu.Unlock()
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			_ = to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// seen is all that went by.
func (w *wire) seen() (sent [][]byte, all []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.sent {
		sent = append(sent, bytes.Clone(b.Bytes()))
		all = append(all, b.Bytes()...)
	}
	return sent, append(all, w.back.Bytes()...)
}

const victims = "Cookie: session=victim"

// Who listens between two edges learns nothing of a client, and what it sends again is no handshake.
func TestHopIsNotReadAndNotReplayed(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	w := newWire(t, p.far.Addrs()[0])
	p.far.advertise = w.ln.Addr().String()
	p.install(routing.Compile(rules(t, 50)))
	client := p.near.connect(strings.Replace(requestFor("70"), "routerId:", victims+"\r\nrouterId:", 1))
	origin, head := p.origin.next()
	if !strings.Contains(head, victims) {
		t.Fatalf("the origin got %q", head)
	}
	origin.send([]byte(switching)...)
	client.head()
	secret := frameOf(0x81, []byte("for the origin alone"), false)
	origin.send(secret...)
	client.want(secret...)
	sent, all := w.seen()
	for _, word := range []string{"victim", "routerId", "Unitgate", "GET /", "HTTP/1.1", "origin alone", "127.0.0.1"} {
		if bytes.Contains(all, []byte(word)) {
			t.Errorf("%q is read between the edges", word)
		}
	}
	if len(sent) != 1 || len(sent[0]) < 500 || !bytes.Contains(sent[0], []byte(handshake.HopProtocol)) {
		t.Fatalf("%d connections between the edges", len(sent))
	}
	for range 2 {
		c, err := net.Dial("tcp", p.far.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		again := newPeer(t, c)
		again.send(sent[0]...)
		_ = again.tcp().CloseWrite()
		got, _ := io.ReadAll(again.br)
		if bytes.Contains(got, []byte("HTTP/1.1")) {
			t.Errorf("a replay is answered with %q", got)
		}
	}
	if n := p.far.counts(); n.Sessions != 1 || n.Dials != 1 {
		t.Errorf("after the replays: %+v", n)
	}
}

// hopTo opens a connection to an edge as another one would.
func hopTo(t *testing.T, addr string) (*peer, []byte) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{handshake.HopProtocol}}) //nolint:gosec // a stranger
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	state := secure.ConnectionState()
	binding, err := state.ExportKeyingMaterial(handshake.HopExporter, nil, handshake.HopBinding)
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, &tlsTransport{secure, c.(*net.TCPConn)}), binding
}

// Even who has read a request between edges, whole and in clear, cannot use its mark: not again, not altered, not on
// another connection, not in plain. And a stranger who speaks TLS like an edge is nobody.
func TestHopMarkIsGoodOnce(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	spy := newBackend(t) // holds the other edge's key
	p.near.peers[0] = &fixture{Relay: p.far.Relay, unit: "there", id: "edge-there", advertise: spy.addr()}
	p.near.install(routing.Compile(rules(t, 50)))
	p.near.connect(strings.Replace(requestFor("70"), "routerId:", victims+"\r\nrouterId:", 1))
	edge := spy.nextHop(hopKeyOf("edge-there"))
	head := edge.head()
	if !strings.Contains(head, victims) || !strings.Contains(head, "\r\nUnitgate-Hop: 2 edge-here ") {
		t.Fatalf("the edge got %q", head)
	}
	forged := requestFor("70")
	requests := map[string]string{
		"again": head, "of another session": strings.Replace(head, "victim", "attacker", 1), "of another user": strings.Replace(head, "routerId: 70", "routerId: 77", 1),
		"without a mark": forged, "with a mark of its own": strings.Replace(forged, "routerId:", "Unitgate-Hop: 2 edge-here 6.6.6.6 http 1 AAAA\r\nrouterId:", 1),
		"with an old mark": strings.Replace(forged, "routerId:", "Unitgate-Hop: edge-here 6.6.6.6 http AAAA\r\nrouterId:", 1),
	}
	for name, request := range requests {
		stranger, _ := hopTo(t, p.far.Addrs()[0])
		stranger.send([]byte(request)...)
		if status, resp, body := stranger.status(); status != 421 || resp.Header.Get(handshake.RefusedField) != handshake.CodeBadHop {
			t.Errorf("%s, over TLS: %d %q", name, status, body)
		}
		if name == "without a mark" {
			continue // a client's, which is served
		}
		if status, _, body := p.far.connect(request).status(); status != 421 {
			t.Errorf("%s, in plain: %d %q", name, status, body)
		}
	}
	if n := p.far.counts(); n.Dials != 0 || n.Sessions != 0 {
		t.Errorf("%+v", n)
	}
}

// An edge that the journal knows to speak TLS gets nothing in plain and from nobody else, whatever answers at its address.
func TestHopIsNeverDowngraded(t *testing.T) {
	p := startPair(t, Config{DialTimeout: 5 * time.Second}, Config{})
	mallory := newBackend(t)
	p.near.peers[0] = &fixture{Relay: p.far.Relay, unit: "there", id: "edge-there", advertise: mallory.addr()}
	table := routing.Compile(rules(t, 50))
	p.near.install(table)
	refused := func(what string) {
		t.Helper()
		for len(mallory.conns) > 0 {
			c := <-mallory.conns
			if b, _ := io.ReadAll(c.br); bytes.Contains(b, []byte("GET ")) || bytes.Contains(b, []byte("routerId")) {
				t.Errorf("%s: it got %q", what, b)
			}
		}
	}
	try := func(what string, answer func(*peer)) {
		t.Helper()
		client := p.near.connect(requestFor("70"))
		answer(<-mallory.conns)
		p.near.refused(client)
		refused(what)
	}
	plain := func(c *peer) {
		c.read(5)
		c.send([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")...)
		if b, _ := io.ReadAll(c.br); bytes.Contains(b, []byte("GET ")) {
			t.Errorf("it got %q", b)
		}
	}
	shows := func(protocol string, id string) func(*peer) {
		return func(c *peer) {
			x, err := newHopTLS(hopKeyOf(id))
			if err != nil {
				t.Fatal(err)
			}
			config := x.server.Clone()
			config.NextProtos = []string{protocol}
			s := tls.Server(c.Conn, config)
			if err := s.Handshake(); err == nil {
				if b, _ := io.ReadAll(s); len(b) > 0 {
					t.Errorf("%s, which shows another key, got %q", id, b)
				}
			}
			_ = c.Close()
		}
	}
	try("an answer in plain", plain)
	try("another edge's key", shows(handshake.HopProtocol, "edge-here"))
	try("a stranger's key", shows(handshake.HopProtocol, "mallory"))
	try("another protocol", shows("http/1.1", "edge-there"))
	try("no answer but the end", func(c *peer) { c.read(5); _ = c.Close() })
	try("an alert", func(c *peer) { c.read(5); c.send(recordAlert, 3, 3, 0, 2, 2, 40); _ = c.tcp().CloseWrite() })

	// Of an older one the journal does not say so; but what has been met over TLS under its key is not forgotten.
	p.near.peers[0] = &fixture{Relay: p.far.Relay, unit: "there", id: "edge-there", older: true}
	p.near.install(table)
	p.open("70")
	p.near.peers[0] = &fixture{Relay: p.far.Relay, unit: "there", id: "edge-there", older: true, advertise: mallory.addr()}
	p.near.install(table)
	try("an answer in plain of an edge that has been met", plain)
}

// An edge whose directory is older is asked for TLS all the same.
func TestHopWithAnOlderDirectory(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	p.far.older, p.near.older = true, true
	w := newWire(t, p.far.Addrs()[0])
	p.far.advertise = w.ln.Addr().String()
	p.install(routing.Compile(rules(t, 50)))
	p.open("70")
	if _, all := w.seen(); bytes.Contains(all, []byte("routerId")) {
		t.Error("two edges of this version speak plain HTTP")
	}
	if n := p.near.counts().Proxied; n.Dials != 1 {
		t.Errorf("%+v", n)
	}
}

// One that answers in plain is asked again after a while, and as soon as it does not take what it gets.
func TestHopToAnEdgeThatLearns(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	old := p.edge(t, "there", "edge-there", Config{}, p.origin)
	old.r().hops = nil
	old.peers, old.older = []*fixture{p.near}, true
	p.near.older = true // the old one knows nothing of keys that sign
	table := routing.Compile(rules(t, 50))
	old.install(table)
	p.far.older = true
	p.near.peers[0] = old
	p.near.install(table)
	p.open("70")
	p.open("71")
	if n := p.near.counts().Proxied; n.Dials != 3 {
		t.Errorf("%d dials, want three: TLS is asked for once", n.Dials)
	}
	// It is upgraded in place, with a directory that is older. Its peers know this one for sure by now, and take no mark
	// of the version before.
	p.near.older = false
	p.far.install(table)
	p.near.peers[0] = p.far
	p.near.install(table)
	p.near.refused(p.near.connect(requestFor("72")))
	p.open("73")
	if n := p.near.counts().Proxied; n.Dials != 5 || n.Handshakes != 4 {
		t.Errorf("%+v", n)
	}
}

func (f *fixture) r() *Relay { return f.Relay }

// Other edges dial what an edge advertises: a port for clients with or without TLS, directly or behind a balancer that
// sends PROXY headers or is listed and sends none.
func TestHopFindsTheListener(t *testing.T) {
	trusted, err := front.ParseTrusted("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tls   bool
		front front.Trusted
	}{"plain": {}, "TLS": {tls: true}, "plain, listed": {front: trusted}, "TLS, listed": {true, trusted}} {
		t.Run(name, func(t *testing.T) {
			far := Config{ProxyProtocol: c.front}
			if c.tls {
				useTLS(t, &far, certstest.New(t))
			}
			p := startPair(t, Config{}, far)
			if c.tls {
				p.far.advertise = p.far.TLSAddrs()[0]
			}
			p.install(routing.Compile(rules(t, 50)))
			client := p.near.connect(requestFor("70"))
			origin, head := p.origin.next()
			if !strings.Contains(head, "\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n") {
				t.Errorf("the origin got %q", head)
			}
			origin.send([]byte(switching)...)
			client.head()
			if n := p.near.counts().Proxied; n.Dials != 1 || n.DialErrors != 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}

// On a port without TLS nobody but edges speaks it; where no edge is known it means nothing.
func TestHopIsForEdges(t *testing.T) {
	p := startPair(t, Config{}, Config{})
	for _, protocols := range [][]string{nil, {"http/1.1"}, {"unitgate-hop/1"}} {
		c, err := net.Dial("tcp", p.far.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		err = tls.Client(newPeer(t, c).Conn, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}).Handshake() //nolint:gosec // a stranger
		if err == nil || !strings.Contains(err.Error(), "remote error") {
			t.Errorf("%q: %v", protocols, err)
		}
	}
	// A client whose first byte is not TLS's is read like any other.
	if status, _, _ := p.far.connect("\x15\x03\x01\n\n").status(); status != 400 {
		t.Errorf("got %d", status)
	}
	alone := start(t, Config{HopKey: hopKeyOf("edge-here")}, p.origin.addr())
	alone.own()
	if status, _, _ := alone.connect("\x16\x03\x01\x02\x00\x01\n\n").status(); status != 400 {
		t.Errorf("got %d", status)
	}
}

// The clocks of two edges are too far apart: both say so, and a client is told to come again.
func TestHopClockSkew(t *testing.T) {
	var log syncBuffer
	var skew atomic.Int64
	late := func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
	p := startPair(t, Config{clock: late, Logger: slog.New(slog.NewJSONHandler(&log, nil))}, Config{})
	for _, d := range []time.Duration{-25 * time.Second, 25 * time.Second} { // a loaded machine takes some time, too
		skew.Store(int64(d))
		c, _ := p.open("70")
		_ = c.Close()
	}
	for _, d := range []time.Duration{-time.Minute, time.Minute} {
		skew.Store(int64(d))
		c := p.near.connect(requestFor("70"))
		p.near.refused(c)
	}
	if said := log.String(); strings.Count(said, `"code":"clock_skew"`) != 1 || !strings.Contains(said, `"edge":"edge-there"`) || !strings.Contains(said, `"level":"WARN"`) {
		t.Errorf("the log says %q", said)
	}
	if n := p.far.Relay.counter(verdict{unitType: testType, code: handshake.CodeClockSkew}).Load(); n != 2 {
		t.Errorf("the edge that refuses counts %+v", p.far.Readings().Handshakes)
	}
	if s := p.near.Peers(); len(s) != 1 || !strings.Contains(s[0].Error, "clock") {
		t.Errorf("the edge that passes on says %+v", s)
	}
}

// While the TLS handshake with the other edge is under way, a session ends, is held or goes elsewhere as in a dial.
func TestHopInTheMiddle(t *testing.T) {
	stuck := func(t *testing.T, cfg Config) (*pair, *backend) {
		p := startPair(t, cfg, Config{})
		hung := newBackend(t)
		p.near.peers = append([]*fixture{{Relay: p.far.Relay, unit: "there", id: "edge-there-2", advertise: hung.addr()}}, p.near.peers...)
		p.near.install(routing.Compile(rules(t, 50)))
		return p, hung
	}
	// begin has a client wait for the edge that says nothing.
	begin := func(p *pair, hung *backend) (client, edge *peer) {
		for {
			client = p.near.connect(requestFor("85"))
			select {
			case edge = <-hung.conns:
				p.near.waitState(stHop)
				return client, edge
			case origin := <-p.origin.conns: // the other one's turn
				_ = origin.Close()
				_ = client.Close()
			}
		}
	}
	t.Run("the client leaves", func(t *testing.T) {
		p, hung := stuck(t, Config{DialTimeout: 2 * patience})
		client, edge := begin(p, hung)
		_ = client.Close()
		_, _ = io.Copy(io.Discard, edge.br)
		p.near.waitCounts("nothing is left", func(n Counts) bool { return p.near.sum(func(e *engine) int { return len(e.all) + len(e.hops) }) == 0 })
	})
	t.Run("the key is fenced", func(t *testing.T) {
		p, hung := stuck(t, Config{DialTimeout: 2 * patience})
		client, _ := begin(p, hung)
		p.near.install(back(t, routing.Fenced))
		p.near.waitCounts("it is held", func(n Counts) bool { return n.Held == 1 && n.Victims == 0 })
		p.near.install(back(t, routing.Committed))
		origin, _ := p.local.next()
		origin.send([]byte(switching)...)
		client.head()
	})
	t.Run("the lease ends", func(t *testing.T) {
		p, hung := stuck(t, Config{Engines: 1, DialTimeout: 2 * patience})
		if !p.near.Serve(deadman.Now() + time.Hour) {
			t.Fatal("a lease is not taken")
		}
		client, _ := begin(p, hung)
		p.near.letGo(p.near.Forbid())
		p.near.refused(client)
	})
	t.Run("the edge stops", func(t *testing.T) {
		p, hung := stuck(t, Config{DialTimeout: 2 * patience})
		client, _ := begin(p, hung)
		closed := make(chan error, 1)
		go func() { closed <- p.near.Close(t.Context()) }()
		p.near.refused(client)
		_ = client.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
	t.Run("it takes too long", func(t *testing.T) {
		p, hung := stuck(t, Config{DialTimeout: time.Second})
		client, _ := begin(p, hung)
		origin, _ := p.origin.next() // by the other edge
		origin.send([]byte(switching)...)
		if h := client.head(); h != switching {
			t.Fatalf("the client got %q", h)
		}
		if n := p.near.counts().Proxied; n.DialErrors == 0 {
			t.Errorf("%+v", n)
		}
	})
}

// An edge takes the place of another one. Whichever accepts at their address shows its key, and is given what is meant for
// it: nobody is dialled twice. Where the one before is of a version before, that is asked in plain until its successor has
// been met, and never again.
func TestHopInATakeOver(t *testing.T) {
	for _, version := range []string{"this", "before"} {
		t.Run(version, func(t *testing.T) {
			p := startPair(t, Config{}, Config{})
			next := p.edge(t, "there", "edge-there-2", Config{}, p.origin)
			next.peers = []*fixture{p.near}
			dials := 1
			if version == "before" {
				p.far.r().hops, p.far.cfg.HopKey, dials = nil, nil, 2
				p.far.install(routing.Compile(rules(t, 50)))
			}
			at := func(address string) {
				p.near.peers[0] = &fixture{Relay: next.Relay, unit: "there", id: "edge-there-2", before: "edge-there", beforeOlder: version == "before", advertise: address}
				p.near.install(routing.Compile(rules(t, 50)))
			}
			served := func(f *fixture, id string, want int) {
				t.Helper()
				was := p.near.counts().Proxied.Dials
				before := f.counts().Sessions
				p.open(id)
				if n := p.near.counts().Proxied.Dials - was; n != want || f.counts().Sessions != before+1 {
					t.Errorf("%d dials, want %d; %+v", n, want, f.counts())
				}
			}
			next.install(routing.Compile(rules(t, 50)))
			at(p.far.Addrs()[0])
			served(p.far, "70", dials)
			served(p.far, "71", dials)
			at(next.Addrs()[0])
			served(next, "72", 1)
			at(p.far.Addrs()[0]) // as if it came back, or somebody else had put himself there
			if version == "before" {
				p.near.refused(p.near.connect(requestFor("73")))
			} else {
				served(p.far, "73", 1)
			}
		})
	}
}

// A head as long as a client's may be at the first edge passes at the second one, which takes less of its own clients.
func TestHopTakesALongHead(t *testing.T) {
	p := startPair(t, Config{}, Config{MaxHead: handshake.SmallestHead})
	request := strings.Replace(requestFor("70"), "routerId:", "Cookie: a=\r\nrouterId:", 1)
	request = strings.Replace(request, "Cookie: a=", "Cookie: a="+strings.Repeat("c", handshake.MaxHead-len(request)), 1)
	client := p.near.connect(request)
	origin, head := p.origin.next()
	if !strings.Contains(head, strings.Repeat("c", 4096)) {
		t.Error("the cookie is cut")
	}
	origin.send([]byte(switching)...)
	client.head()
	if status, _, _ := p.near.connect(strings.Replace(request, "Cookie: a=", "Cookie: a=c", 1)).status(); status != 431 {
		t.Errorf("a longer one: %d", status)
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
