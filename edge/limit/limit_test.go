package limit

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
)

var (
	start = time.Unix(1_800_000_000, 0)
	one   = netip.MustParseAddr("192.0.2.1")
	two   = netip.MustParseAddr("192.0.2.2")
)

// come is a connection that arrives and asks to enter.
func (g *Gate) come(addr netip.Addr, now time.Time) (p Pass, why Refusal, answer bool) {
	p, ok := g.Arrive()
	if !ok {
		return p, Connections, false
	}
	why, answer = g.Enter(&p, addr, now)
	return p, why, answer
}

func (g *Gate) want(t *testing.T, addr netip.Addr, now time.Time, want Refusal) Pass {
	t.Helper()
	p, why, answer := g.come(addr, now)
	if why != want || !answer {
		t.Fatalf("%v: %d, answered %v; want %d", addr, why, answer, want)
	}
	return p
}

func TestConnections(t *testing.T) {
	g := New(Limits{Connections: 2})
	a := g.want(t, one, start, Taken)
	g.want(t, two, start, Taken)
	refused := g.want(t, one, start, Connections)
	g.want(t, two, start, Connections)
	g.Leave(&a)
	g.Leave(&a)                        // twice is once
	g.want(t, one, start, Connections) // the refused ones are still there
	g.Leave(&refused)
	if c := g.Counts(); c.Connections != 3 || c.Refused != (Reason{Connections: 3}) || c.Unanswered != 0 {
		t.Errorf("%+v", c)
	}
}

// A connection that came for the client of another address counts for that one, and only for that.
func TestReenter(t *testing.T) {
	three := netip.MustParseAddr("192.0.2.3")
	g := New(Limits{PerAddress: 1, Rate: 4})
	a := g.want(t, one, start, Taken)
	if why := g.Reenter(&a, Taken, two, start); why != Taken {
		t.Fatalf("refused: %d", why)
	}
	b := g.want(t, one, start, Taken) // one's place is free again
	c := g.want(t, one, start, PerAddress)
	if why := g.Reenter(&c, PerAddress, three, start); why != Taken {
		t.Fatalf("refused: %d", why)
	}
	if n := g.Counts(); n.Refused != (Reason{}) || n.Connections != 3 {
		t.Errorf("whom nobody has refused: %+v", n)
	}
	if why := g.Reenter(&b, Taken, two, start); why != PerAddress {
		t.Errorf("a second one of an address: %d", why)
	}
	if n := g.Counts(); n.Refused != (Reason{PerAddress: 1}) || g.away.Load() != 1 {
		t.Errorf("%+v", n)
	}
	for _, p := range []*Pass{&a, &b, &c} {
		g.Leave(p)
	}
	// The rate of all is asked once for each: three have entered, a fourth may, a fifth may not, whatever its address.
	g.want(t, one, start, Taken)
	e := g.want(t, two, start, Rate)
	if why := g.Reenter(&e, Rate, three, start); why != Rate {
		t.Errorf("too many in all: %d", why)
	}
	g.Leave(&e)
	if n := g.Counts(); n.Connections != 1 || len(g.sources) != 1 || g.away.Load() != 0 {
		t.Errorf("%+v, %d addresses, %d refused ones", n, len(g.sources), g.away.Load())
	}
	full := New(Limits{Connections: 1})
	full.want(t, one, start, Taken)
	f := full.want(t, one, start, Connections)
	if why := full.Reenter(&f, Connections, two, start); why != Connections {
		t.Errorf("full: %d", why)
	}
}

// What has been counted stays counted: to whoever scrapes it, a counter that goes down has begun anew.
func TestRefusalsNeverGoDown(t *testing.T) {
	g := New(Limits{PerAddress: 1, RatePerAddress: 1})
	g.want(t, one, start, Taken)
	p := g.want(t, one, start, PerAddress)
	seen := g.Counts().Refused
	if why := g.Reenter(&p, PerAddress, two, start); why != Taken {
		t.Fatalf("refused: %d", why)
	}
	if now := g.Counts().Refused; now != seen {
		t.Errorf("%+v, and then %+v", seen, now)
	}
	stays := g.want(t, one, start, PerAddress)
	g.Refused(&stays)
	g.Refused(&stays)
	g.Leave(&stays)
	silent := g.want(t, one, start, PerAddress)
	g.Leave(&silent)
	g.Leave(&p)
	if c := g.Counts(); c.Refused != (Reason{PerAddress: 2}) || g.away.Load() != 0 {
		t.Errorf("%+v, %d turned away", c, g.away.Load())
	}
}

func TestPerAddress(t *testing.T) {
	g := New(Limits{PerAddress: 2})
	a := g.want(t, one, start, Taken)
	g.want(t, netip.MustParseAddr("::ffff:192.0.2.1"), start, Taken) // the same by another name
	refused := g.want(t, one, start, PerAddress)
	g.want(t, two, start, Taken)
	g.Leave(&refused) // it was not counted
	g.want(t, one, start, PerAddress)
	g.Leave(&a)
	g.want(t, one, start, Taken)

	for _, addr := range []string{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"} { // one customer
		g.want(t, netip.MustParseAddr(addr), start, Taken)
	}
	g.want(t, netip.MustParseAddr("2001:db8::2"), start, PerAddress)
	g.want(t, netip.MustParseAddr("2001:db8:0:1::2"), start, Taken)
}

func TestRates(t *testing.T) {
	g := New(Limits{Rate: 4, RatePerAddress: 2})
	g.want(t, one, start, Taken)
	g.want(t, one, start, Taken)
	for range 10 { // a loud address takes no turns from others
		g.want(t, one, start, RatePerAddress)
	}
	g.want(t, two, start, Taken)
	g.want(t, two, start, Taken)
	g.want(t, netip.MustParseAddr("192.0.2.3"), start, Rate)
	later := start.Add(500 * time.Millisecond)
	g.want(t, one, later, Taken)
	g.want(t, one, later, RatePerAddress)
	g.want(t, netip.MustParseAddr("192.0.2.3"), later, Taken)
	g.want(t, two, later, Rate)
}

// More refused connections than can be answered are cut, and counted.
func TestTurnedAwayAreBounded(t *testing.T) {
	g := New(Limits{Connections: 1})
	g.want(t, one, start, Taken)
	var refused []Pass
	for range maxTurnedAway {
		refused = append(refused, g.want(t, one, start, Connections))
	}
	if _, ok := g.Arrive(); ok {
		t.Error("one more is to be answered")
	}
	if c := g.Counts(); c.Connections != 1+maxTurnedAway || c.Unanswered != 1 {
		t.Errorf("%+v", c)
	}
	g.Leave(&refused[0])
	g.want(t, one, start, Connections)

	g = New(Limits{PerAddress: 1})
	g.want(t, one, start, Taken)
	for range maxTurnedAway {
		g.want(t, one, start, PerAddress)
	}
	if p, why, answer := g.come(one, start); why != PerAddress || answer {
		t.Errorf("%+v %d %v", p, why, answer)
	}
}

// What is no session is bounded for each address; what has become one is not, and costs nothing more here.
func TestHandshakesPerAddress(t *testing.T) {
	g := New(Limits{HandshakesPerAddress: 2})
	a, b := g.want(t, one, start, Taken), g.want(t, netip.MustParseAddr("::ffff:192.0.2.1"), start, Taken)
	c := g.want(t, one, start, HandshakesPerAddress)
	g.want(t, two, start, Taken)
	g.Opened(&a)
	g.Opened(&a) // twice is once
	d := g.want(t, one, start, Taken)
	g.want(t, one, start, HandshakesPerAddress)
	g.Leave(&a) // a session's end makes no room
	g.want(t, one, start, HandshakesPerAddress)
	g.Leave(&b)
	e := g.want(t, one, start, Taken)
	for _, p := range []*Pass{&d, &e} {
		g.Opened(p)
	}
	if len(g.sources) != 1 { // two's
		t.Errorf("%d addresses are remembered", len(g.sources))
	}
	g.Leave(&c)
	g.Opened(&c) // it was refused, and is gone
	if n := g.Counts(); n.Refused.HandshakesPerAddress != 1 || n.Connections != 5 {
		t.Errorf("%+v", n)
	}
	// With a bound of all, sessions count there and not here.
	g = New(Limits{HandshakesPerAddress: 1, PerAddress: 2})
	a = g.want(t, one, start, Taken)
	g.want(t, one, start, HandshakesPerAddress)
	g.Opened(&a)
	b = g.want(t, one, start, Taken)
	g.Opened(&b)
	g.want(t, one, start, PerAddress)
	g.Leave(&a)
	g.want(t, one, start, Taken)
	// One who comes for another address's client takes a place there.
	g = New(Limits{HandshakesPerAddress: 1})
	a = g.want(t, one, start, Taken)
	if why := g.Reenter(&a, Taken, two, start); why != Taken {
		t.Fatalf("refused: %d", why)
	}
	g.want(t, one, start, Taken)
	g.want(t, two, start, HandshakesPerAddress)
}

func TestDefaultHandshakes(t *testing.T) {
	for descriptors, want := range map[int]int{256: 500, 10_000: 500, 20_000: 1000, 1 << 20: 5000} {
		if got := DefaultHandshakes(descriptors); got != want {
			t.Errorf("%d descriptors: %d, want %d", descriptors, got, want)
		}
	}
}

func address(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|uint32(n))
	return netip.AddrFrom4(b)
}

// Whatever addresses come, the table holds those with connections and a bounded number of others; and addresses that may
// do everything again are forgotten.
func TestTableIsBounded(t *testing.T) {
	g := New(Limits{PerAddress: 5, RatePerAddress: 5})
	stays := g.want(t, one, start, Taken)
	for n := range 2 * maxIdle {
		p := g.want(t, address(n), start, Taken)
		g.Leave(&p)
	}
	if len(g.sources) != maxIdle+1 || g.idles != maxIdle {
		t.Fatalf("%d addresses, %d of them idle", len(g.sources), g.idles)
	}
	for n := range maxIdle {
		p := g.want(t, address(n), start.Add(time.Minute), Taken)
		g.Leave(&p)
	}
	for range 6 {
		p, _, _ := g.come(two, start.Add(2*time.Minute))
		g.Leave(&p)
	}
	g.want(t, two, start.Add(2*time.Minute), RatePerAddress) // it is remembered
	if g.idles >= maxIdle {
		t.Errorf("%d addresses are idle, and nobody forgets them", g.idles)
	}
	g.Leave(&stays)

	g = New(Limits{PerAddress: 5})
	for n := range 100 {
		p := g.want(t, address(n), start, Taken)
		g.Leave(&p)
	}
	if len(g.sources) != 0 {
		t.Errorf("%d addresses are remembered without a rate to remember", len(g.sources))
	}
}

// From many goroutines: nothing is lost or counted twice, and limits hold at every moment.
func TestConcurrently(t *testing.T) {
	g := New(Limits{Connections: 50, PerAddress: 10, Rate: 1e6, RatePerAddress: 1e6, HandshakesPerAddress: 5})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 0))
			var mine []Pass
			for i := range 5000 {
				if rnd.IntN(2) == 0 && len(mine) > 0 {
					g.Leave(&mine[0])
					mine = mine[1:]
					continue
				}
				p, why, answer := g.come(address(rnd.IntN(20)), start.Add(time.Duration(i)*time.Millisecond))
				if why == Taken || answer {
					if rnd.IntN(2) == 0 {
						g.Opened(&p)
					}
					mine = append(mine, p)
				} else {
					g.Leave(&p)
				}
			}
			for i := range mine {
				g.Leave(&mine[i])
			}
		})
	}
	wg.Wait()
	if g.conns.Load() != 0 || g.away.Load() != 0 || g.idles != len(g.sources) {
		t.Errorf("%d connections, %d turned away, %d addresses, %d idle", g.conns.Load(), g.away.Load(), len(g.sources), g.idles)
	}
	for _, s := range g.sources {
		if s.conns != 0 || s.opening != 0 {
			t.Errorf("%v has %d connections, %d of them opening", s.addr, s.conns, s.opening)
		}
	}
}
