package relay

import (
	"context"
	"testing"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events/routing"
)

// domains installs a view that serves two domains, x at its own name and y, with these cuts. gone ones are not served.
func (f *fixture) domains(cuts map[string]uint64, gone ...string) {
	f.t.Helper()
	v := f.view(routing.Compile(rules(f.t, 100)))
	v.Cuts = cuts
	for _, name := range []string{"x", "y"} {
		site := *v.Fallback
		site.Domain = name
		v.Sites[name] = &site
	}
	for _, name := range gone {
		delete(v.Sites, name)
	}
	v.Fallback = nil
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Install(ctx, v); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) wantDomains(x, y int) {
	f.t.Helper()
	eventually(f.t, "the sessions of the domains", func() bool {
		n := f.CountDomains([]string{"x", "y", "z"})
		return n["x"] == x && n["y"] == y && n["z"] == 0
	})
}

// When a domain goes without force its sessions stay. By force they are closed, with what the registry says, and nobody
// else's are; who comes when the domain is back is a session like any other, also where the edge saw only that.
func TestDomainsEndByForceOnly(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 2}, b.addr())
	f.domains(nil)
	c1, o1 := f.open(b, "7")
	c2, o2 := f.open(b, "8")
	f.wantDomains(2, 0)

	f.domains(nil, "x") // without force
	if n := f.counts(); n.Victims != 0 || n.Sessions != 2 {
		t.Fatalf("%+v", n)
	}
	if status, _, _ := f.connect(requestFor("9")).status(); status != 421 {
		t.Errorf("a domain out of service answers %d", status)
	}
	f.wantDomains(2, 0)

	other := f.connect("GET /chat HTTP/1.1\r\nHost: y\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nrouterId: 7\r\n\r\n")
	oo, _ := b.next()
	oo.send([]byte(switching)...)
	other.head()

	f.domains(map[string]uint64{"x": 5}) // by force, and it is back
	if n := f.counts(); n.Victims != 2 || n.Sessions != 3 {
		t.Fatalf("%+v", n)
	}
	f.wantDomains(0, 1)
	c3, o3 := f.open(b, "7")
	f.wantDomains(1, 1)
	f.Evict(testType, 0)
	for _, c := range []*peer{c1, c2} {
		c.wantClose(1001, "domain removed")
		c.send(closeFrame(1001, true)...)
	}
	for _, p := range []*peer{c1, c2, o1, o2} {
		_ = p.Close()
	}
	f.waitCounts("the victims are gone", func(n Counts) bool { return n.Victims == 0 && n.Sessions == 2 })
	if n := f.counts(); n.Evicted != 0 {
		t.Errorf("%+v: no cutover evicted them", n)
	}
	f.domains(map[string]uint64{"x": 5}) // the same again, as in every later state
	for _, s := range [][2]*peer{{c3, o3}, {other, oo}} {
		s[1].send([]byte("\x82\x02hi")...)
		s[0].want([]byte("\x82\x02hi")...)
	}
	f.domains(map[string]uint64{"x": 9, "y": 2}, "x", "y")
	if n := f.counts(); n.Victims != 2 {
		t.Errorf("%+v", n)
	}
}

// A handshake that is under way when its domain goes by force is decided again: nobody serves it any more.
func TestDialsOfACutDomain(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.domains(nil)
	c := f.connect(requestFor("7"))
	o, _ := b.next() // the origin has the request and does not answer
	f.wantDomains(1, 0)
	f.domains(map[string]uint64{"x": 5}, "x")
	if status, _, _ := c.status(); status != 421 {
		t.Errorf("answered with %d", status)
	}
	_ = o.Close()
	f.wantDomains(0, 0)
}

// The sequences of another journal cut nothing off: it was promoted, and nobody's domain went.
func TestCutsOfAnotherJournal(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 1}, b.addr())
	f.domains(map[string]uint64{"x": 5})
	c, o := f.open(b, "7")
	v := f.view(routing.Compile(rules(t, 100)))
	site := *v.Fallback
	site.Domain = "x"
	v.Sites, v.Epoch, v.Cuts = map[string]*handshake.Site{"x": &site}, "another", map[string]uint64{"x": 900}
	if err := f.Install(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if n := f.counts(); n.Victims != 0 {
		t.Errorf("%+v", n)
	}
	o.send([]byte("\x82\x02hi")...)
	c.want([]byte("\x82\x02hi")...)
}
