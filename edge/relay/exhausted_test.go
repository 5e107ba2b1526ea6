package relay

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// A process that runs into its limit of descriptors: it keeps some for other things than clients, it does not spin, its
// sessions go on, and who waited is served as soon as there are descriptors again.
func TestOutOfDescriptors(t *testing.T) {
	const limit = 100
	origin := startRole(t, "crowd").do(call{Do: "listen"}).Addr
	edge := startRole(t, "edge")
	addr := edge.do(call{Do: "start", Addrs: []string{origin}, N: limit, Young: time.Hour}).Addr
	dial := func(request string) *peer {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		p := newPeer(t, c)
		p.send([]byte(request)...)
		return p
	}
	before := dial(requestFor("7"))
	if code, _, _ := before.status(); code != 101 {
		t.Fatalf("%d", code)
	}
	var silent []*peer
	for range 150 { // each takes one
		silent = append(silent, dial(""))
	}
	// Only then may the late client come: which of two engines takes more of the descriptors is the scheduler's choice, and
	// one that takes all of its queue would take the late client, too.
	clients, dials := ceilingsOf(limit)
	reserve := limit - dials
	eventually(t, "there are none left for clients", func() bool {
		return edge.do(call{Do: "counts"}).Rest == 2 && edge.do(call{Do: "descriptors"}).N <= limit-clients
	})
	late := dial(requestFor("8"))

	began, spent := time.Now(), edge.do(call{Do: "counts"}).CPU
	_ = late.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := late.br.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the late client is answered with none left: %v", err)
	}
	a := edge.do(call{Do: "counts"})
	spent = a.CPU - spent
	if passed := time.Since(began); spent > passed/5 {
		t.Errorf("%v of CPU in %v in which there was nothing to do", spent, passed)
	}
	if a.Counts.Sessions != 1 || a.Shed != 0 {
		t.Errorf("%+v", a)
	}
	if n := edge.do(call{Do: "descriptors"}).N; n < reserve {
		t.Errorf("%d descriptors are left for other things, want %d", n, reserve)
	}
	t.Logf("a second without descriptors costs %v", spent)
	// As many as everybody who waits needs, at one moment: with one only, the late client would be let in and refused a
	// connection to its origin, rightly.
	edge.do(call{Do: "limit", N: 1000})
	_ = late.SetDeadline(time.Now().Add(patience))
	if code, _, _ := late.status(); code != 101 {
		t.Errorf("the late client: %d", code)
	}
	for _, p := range silent {
		_ = p.Close()
	}
	if code, _, _ := dial(requestFor("9")).status(); code != 101 {
		t.Errorf("another one: %d", code)
	}
	if n := edge.do(call{Do: "counts"}).Counts.Sessions; n != 3 {
		t.Errorf("%d sessions", n)
	}
}

// Clients that say nothing, or half of something, give way to those that are served, however many they are and from however
// many addresses: handshakes go through, the reserve stays, and no session is touched.
//
// The attack goes on by steps, so that how long one lasts until it gives way does not hang on the machine: a handshake is
// never among the oldest, of whom there are hundreds.
func TestGiveWay(t *testing.T) {
	const limit = 1500
	origin := startRole(t, "crowd").do(call{Do: "listen"}).Addr
	edge := startRole(t, "edge")
	addr := edge.do(call{Do: "start", Addrs: []string{origin}, N: limit, Young: time.Millisecond}).Addr
	f := &fixture{t: t, Relay: &Relay{addrs: []string{addr}}}
	before := f.connect(requestFor("7"))
	if code, _, _ := before.status(); code != 101 {
		t.Fatalf("%d", code)
	}
	n := 0
	attack := func(more int) {
		for range more {
			n++
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(n))}}
			c, err := d.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			if n%2 == 0 {
				_, _ = c.Write([]byte("GET / HTTP/1.1\r\n")) // and no more
			}
		}
	}
	attack(2 * limit)
	eventually(t, "some have given way", func() bool { return edge.do(call{Do: "counts"}).Shed > 0 })
	for i := range 20 {
		attack(50)
		p := f.connect(requestFor(id(i)))
		if code, _, _ := p.status(); code != 101 {
			t.Errorf("handshake %d: %d", i, code)
		}
	}
	if _, dials := ceilingsOf(limit); edge.do(call{Do: "descriptors"}).N < limit-dials {
		t.Error("no descriptors are left for other things")
	}
	if a := edge.do(call{Do: "counts"}); a.Counts.Sessions != 21 {
		t.Errorf("%+v", a)
	}
}

func TestCeilings(t *testing.T) {
	for descriptors, want := range map[int][2]int{100: {50, 75}, 256: {128, 192}, 1024: {896, 960}, 20_000: {19_200, 19_600}, 1 << 20: {1<<20 - 41942, 1<<20 - 20971}} {
		if clients, dials := ceilingsOf(descriptors); clients != want[0] || dials != want[1] {
			t.Errorf("of %d descriptors: %d and %d, want %d", descriptors, clients, dials, want)
		}
	}
}
