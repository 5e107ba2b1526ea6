package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/certs/certstest"
	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

const (
	testType = "unit_type"
	patience = 30 * time.Second // until a test gives up waiting
)

// fixture is a relay with two slots' worth of rules: by default unit "here" owns all of 100 slots.
type fixture struct {
	*Relay
	t       *testing.T
	seq     uint64
	origins []string
	hold    time.Duration
	secure  *tls.Config    // for clients; nil: they speak no TLS
	timeout time.Duration  // to connect to an origin; 0: Config's
	reply   time.Duration  // for an origin to answer; 0: as always
	health  *events.Health // of the origins
	domain  string         // whose they are
	correct string         // how clients of other units are sent there; "": redirect
	unit    string         // of this edge
	id      string         // of this edge
	peers   []*fixture     // other edges, to which clients are passed on
	before  string         // as a peer: the edge whose place it takes

	beforeOlder bool // that one is of a version before

	advertise string // where other edges find it; "": its first address without TLS
	older     bool   // its state directory is older than keys that sign: the journal does not show that it speaks TLS

	front *fixture // the edge of another unit to which clients come; nil: they come to this one
}

func start(t *testing.T, cfg Config, origins ...string) *fixture {
	t.Helper()
	before := resources()
	if cfg.Addrs == nil {
		cfg.Addrs = []string{"127.0.0.1:0"}
	}
	if cfg.Engines == 0 {
		cfg.Engines = 2
	}
	var secure *tls.Config
	if overTLS(t) {
		secure = useTLS(t, &cfg, certstest.New(t))
	}
	through := throughAnEdge(t) && cfg.HopKey == nil
	if through {
		cfg.HopKey = hopKeyOf("edge-here")
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Relay: r, t: t, origins: origins, hold: patience, secure: secure, unit: "here", id: "edge-here"}
	if through {
		defer f.startFront()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		if c := r.Counts(testType); c.Sessions != 0 || c.Victims != 0 || c.Held != 0 || c.Proxied.Sessions != 0 {
			t.Errorf("after Close: %+v", c)
		}
		for _, o := range append(r.Origins(), r.Peers()...) {
			if o.Sessions != 0 {
				t.Errorf("after Close: %+v", o)
			}
		}
		if n := r.Clients().Connections; n != 0 {
			t.Errorf("after Close: %d connections of clients are counted", n)
		}
		if n := r.admitted.Load(); n != 0 {
			t.Errorf("after Close: %d sessions count against the capacity", n)
		}
		if n := r.longHeads.Used(); n != 0 {
			t.Errorf("after Close: %d places for long heads are taken", n)
		}
		got := r.Readings()
		if c, o := got.ToClients.Paused, got.ToOrigins.Paused; c != 0 || o != 0 || got.Types[testType].Closing != 0 || got.Admitted != 0 {
			t.Errorf("after Close: %+v", got)
		}
		if n := r.statsOf(testType).waitingAll(); n != 0 {
			t.Errorf("after Close: %d victims wait", n)
		}
		eventually(t, "goroutines and descriptors are back to what they were", func() bool {
			now := resources()
			return now[0] <= before[0] && now[1] <= before[1]
		})
	})
	return f
}

// resources are the numbers of goroutines and of open descriptors, without those of the pipes that io.Copy splices
// through and keeps.
func resources() [2]int {
	n := strings.Count(openFiles(), "\n") - strings.Count(openFiles(), " pipe:")
	return [2]int{runtime.NumGoroutine(), n}
}

// openFiles lists the descriptors, sockets with their addresses.
func openFiles() string {
	fds, _ := os.ReadDir("/proc/self/fd")
	var b strings.Builder
	for _, fd := range fds {
		link, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		n, _ := strconv.Atoi(fd.Name())
		local, _ := syscall.Getsockname(n)
		remote, _ := syscall.Getpeername(n)
		fmt.Fprintf(&b, "%s %s %s %s\n", fd.Name(), link, inet(local), inet(remote))
	}
	return b.String()
}

func inet(sa syscall.Sockaddr) string {
	if a, ok := sa.(*syscall.SockaddrInet4); ok {
		return fmt.Sprintf("%v:%d", a.Addr, a.Port)
	}
	return "-"
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("never happened: %s\n%v\n%s\n%s", what, resources(), openFiles(), buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// rules of 100 slots: "there" owns the slots from split on and the exact IDs.
func rules(t testing.TB, split uint32, exactThere ...string) *routing.Rules {
	t.Helper()
	ranges := map[string][]routing.Range{}
	if split > 0 {
		ranges["here"] = []routing.Range{{From: 0, To: split - 1}}
	}
	if split < 100 {
		ranges["there"] = []routing.Range{{From: split, To: 99}}
	}
	r, err := routing.NewRules(100, ranges, map[string][]string{"there": exactThere})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// probeSecret is by what these edges know their own handshakes.
const probeSecret = "probe"

func (f *fixture) view(table *routing.Table) *handshake.View {
	f.seq++
	typ := &handshake.Type{
		Name: testType, Table: table, Unmarked: "local", Local: table.Owns(f.unit),
		Sources: []handshake.Source{{From: "header", Name: "routerId"}},
	}
	site := &handshake.Site{
		Domain: f.domain, Type: typ, Scheme: "ws", Correction: f.correct,
		Locations: map[string]string{"here": "here.example", "there": "there.example"},
		URIs:      []handshake.URI{{Path: "/", Origins: f.origins, ConnectTimeout: f.timeout, ReplyTimeout: f.reply, Health: f.health}},
	}
	peers := map[string]*handshake.Peer{}
	for _, p := range f.peers {
		// What two edges share, in these tests, is what their ids are in order.
		peer := f.knows(p.id)
		peer.Address, peer.Sure = p.advertised(), f.cfg.HopKey != nil && p.cfg.HopKey != nil && !p.older
		if b := p.before; b != "" {
			peer.Before = f.knows(b)
			peer.Before.Sure = peer.Sure && !p.beforeOlder
		}
		if peers[p.id] = peer; p.unit == f.unit {
			continue
		}
		if site.Edges == nil {
			site.Edges = map[string]*handshake.Edges{}
		}
		if site.Edges[p.unit] == nil {
			site.Edges[p.unit] = &handshake.Edges{Unit: p.unit}
		}
		site.Edges[p.unit].Peers = append(site.Edges[p.unit].Peers, peer)
	}
	return &handshake.View{
		Seq: f.seq, Unit: f.unit, Center: "there", Admits: true, ID: f.id, Peers: peers,
		Types: map[string]*handshake.Type{testType: typ}, Default: typ,
		Sites: map[string]*handshake.Site{}, Fallback: site,
		Hold: f.hold, CloseCode: 1012, Probe: probeSecret,
	}
}

// knows is another edge by its id.
func (f *fixture) knows(id string) *handshake.Peer {
	return &handshake.Peer{ID: id, Secret: []byte(min(f.id, id) + max(f.id, id)), Key: hopKeyOf(id).Public().(ed25519.PublicKey)}
}

// hopKeyOf is an edge's private key.
func hopKeyOf(id string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(id))
	return ed25519.NewKeyFromSeed(seed[:])
}

// advertised is where other edges find this one.
func (f *fixture) advertised() string {
	if f.advertise != "" {
		return f.advertise
	}
	return f.Addrs()[0]
}

func (f *fixture) install(table *routing.Table) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Install(ctx, f.view(table)); err != nil {
		f.t.Fatal(err)
	}
	if f.front != nil {
		f.front.install(table)
	}
}

// own lets unit "here" own everything.
func (f *fixture) own() { f.t.Helper(); f.install(routing.Compile(rules(f.t, 100))) }

// move puts the slots from split on in a phase of their way from here to there.
func (f *fixture) move(split uint32, phase routing.Phase) {
	f.t.Helper()
	from, to := rules(f.t, 100), rules(f.t, split)
	waves := routing.Compare(from, to).Split(1)
	f.install(routing.CompileCutover(from, to, []routing.Wave{{Keys: waves[0], Phase: phase}}))
}

func (f *fixture) counts() Counts { return f.Counts(testType) }

func (f *fixture) waitCounts(what string, ok func(Counts) bool) {
	f.t.Helper()
	eventually(f.t, what, func() bool { return ok(f.counts()) })
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

// requestFor is the handshake of a user.
func requestFor(routerID string) string {
	return "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nrouterId: " + routerID + "\r\n\r\n"
}

// connect opens a connection to the relay and sends request.
func (f *fixture) connect(request string) *peer {
	f.t.Helper()
	c, err := f.dial()
	if err != nil {
		f.t.Fatal(err)
	}
	p := newPeer(f.t, c)
	p.send([]byte(request)...)
	return p
}

// open makes a session and returns both ends of its tunnel.
func (f *fixture) open(b *backend, routerID string) (client, origin *peer) {
	f.t.Helper()
	client = f.connect(requestFor(routerID))
	origin, _ = b.next()
	origin.send([]byte(switching)...)
	if h := client.head(); h != switching {
		f.t.Fatalf("the client got %q", h)
	}
	return client, origin
}

func id(n int) string { return fmt.Sprint(n) }
