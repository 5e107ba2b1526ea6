package relay

import (
	"fmt"
	"testing"

	"github.com/lesismal/nbio"
)

// A new version of nbio with another layout works, but costs more: whoever takes it has to know.
func TestLayoutOfNbio(t *testing.T) {
	if a := newAdopter(nil); !a.fast {
		t.Error("nbio.Conn has other fields than fd and typ: every connection goes the long way, see adopt.go")
	}
	if !hookClose(nbio.NewEngine(nbio.Config{NPoller: 1}), func(*nbio.Conn, error) {}) {
		t.Error("nbio.Engine has other fields than onOpen and onClose: each closed connection costs a goroutine, see adopt.go")
	}
}

// An idle session costs at most 1.1 KiB of heap, and on the long way, which has to work as well, 1.5 KiB.
func TestIdleSessionCostsLittle(t *testing.T) {
	const n, size = 2000, 64 << 10
	for way, most := range map[string]int64{"short": 1126, "long": 1536} {
		t.Run(way, func(t *testing.T) {
			edge, crowd := startRole(t, "edge"), startRole(t, "crowd")
			origin := crowd.do(call{Do: "listen"}).Addr
			addr := edge.do(call{Do: "start", Addrs: []string{origin}, Target: way}).Addr
			open := func(n int, target string) {
				crowd.do(call{Do: "open", Addrs: []string{addr}, Target: target, N: n})
			}
			open(100, fmt.Sprintf("/flood/%d/%d", size, size)) // what every process has once
			crowd.do(call{Do: "read", Parallel: 8, Bytes: size})
			crowd.do(call{Do: "hang up"})
			eventually(t, "the first ones have ended", func() bool { return edge.do(call{Do: "counts"}).Counts.Sessions == 0 })
			before := edge.do(call{Do: "tidy memory"})
			open(n, "/wait")
			after := edge.do(call{Do: "tidy memory"})
			heap, rss := (after.Heap-before.Heap)/n, (after.RSS-before.RSS)/n
			t.Logf("an idle session costs %d B of heap, %d B of resident memory", heap, rss)
			if heap > most && !underRace {
				t.Errorf("want at most %d B of heap", most)
			}
		})
	}
}
