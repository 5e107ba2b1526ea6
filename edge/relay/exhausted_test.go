package relay

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// A process that runs into its limit of descriptors: it does not spin, its sessions go on, and who waited is served as
// soon as there are descriptors again.
func TestOutOfDescriptors(t *testing.T) {
	origin := startRole(t, "crowd").do(call{Do: "listen"}).Addr
	edge := startRole(t, "edge")
	addr := edge.do(call{Do: "start", Addrs: []string{origin}, N: 100}).Addr
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
	eventually(t, "there are none left", func() bool { return edge.do(call{Do: "descriptors"}).N == 0 })
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
	if a.Counts.Sessions != 1 {
		t.Errorf("%+v", a.Counts)
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
