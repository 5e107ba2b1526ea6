package relay

import (
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Many sessions of two edge processes are evicted all at once, while others on the same pollers stream both ways: not a
// byte of theirs is lost, added or changed, and they are not connected anew. By default few are evicted;
// UNITGATE_EVICTIONS=10000 takes that many.
func TestSurvivorsOfACrowd(t *testing.T) {
	victims := 600
	if v := os.Getenv("UNITGATE_EVICTIONS"); v != "" {
		var err error
		if victims, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	const split = 50 // the slots from here on go
	edges := []*role{startRole(t, "edge"), startRole(t, "edge")}
	origins, clients := startRole(t, "crowd"), startRole(t, "crowd")
	origin := origins.do(call{Do: "listen"}).Addr
	var addrs []string
	for _, e := range edges {
		addrs = append(addrs, e.do(call{Do: "start", Addrs: []string{origin}}).Addr)
	}
	clients.do(call{Do: "open", Addrs: addrs, Target: "/wait", N: victims, Split: split})

	stop := make(chan struct{})
	var moved atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		p := survivor(t, addrs[i%2], i)
		s := newStream(uint64(i), true)
		sent := make(chan int, 1)
		wg.Go(func() {
			n, err := s.write(p, stop, &moved)
			if sent <- n; err != nil {
				t.Errorf("survivor %d: %v", i, err)
			}
		})
		wg.Go(func() {
			got, err := s.check(p.br)
			if n := <-sent; err != nil || got != n {
				t.Errorf("survivor %d: %d of %d bytes came back and %v", i, got, n, err)
			}
		})
	}
	eventually(t, "the survivors stream", func() bool { return moved.Load() > 5<<20 })

	clients.begin(call{Do: "leave"})
	all(edges, call{Do: "fence", Split: split})
	before, began := moved.Load(), time.Now()
	all(edges, call{Do: "evict"})
	evicted := 0
	for _, a := range all(edges, call{Do: "drain"}) {
		evicted += a.Counts.Evicted
		if a.Counts.Sessions != 4 {
			t.Errorf("%d sessions are left on an edge, want the 4 survivors", a.Counts.Sessions)
		}
	}
	clients.end()
	t.Logf("%d evicted in %v beside %d MiB of the survivors", evicted, time.Since(began), (moved.Load()-before)>>20)
	if evicted != victims {
		t.Errorf("%d evicted, want %d", evicted, victims)
	}
	close(stop)
	wg.Wait()
}

// survivor is a session whose origin sends back what it gets.
func survivor(t *testing.T, addr string, user int) *peer {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, c)
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	p.send([]byte(strings.Replace(requestFor(id(user)), "/chat", "/echo", 1))...)
	p.want([]byte(switching)...)
	return p
}
