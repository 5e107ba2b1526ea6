package relay

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// Clients that do not read, with 24 MB waiting for each, cost the relay at most 32 KiB of its own memory each, are not
// disconnected, and get every byte when they read again. The relay and its peers are processes of their own, so that the
// memory is the relay's alone.
//
// By default there are few of them with 2 MB each; UNITGATE_SLOW_READERS=1000 takes that many with 24 MB. Those are 24 GiB
// that two processes write and read and one relays: 14 s on two idle cores, and as much longer as others use these cores.
func TestSlowReadersCostLittle(t *testing.T) {
	n, size := 120, int64(2<<20)
	if v := os.Getenv("UNITGATE_SLOW_READERS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
		size = 24 << 20
	}
	edge, crowd := startRole(t, "edge"), startRole(t, "crowd")
	origin := crowd.do(call{Do: "listen"}).Addr
	addr := edge.do(call{Do: "start", Addrs: []string{origin}}).Addr
	// The pieces that the relay reads are those that the origin writes if it is slow, else the relay's own: how much of a
	// piece is left over differs.
	pieces := []int{9000, 64 << 10}
	open := func(n int) {
		for i, piece := range pieces {
			target := fmt.Sprintf("/flood/%d/%d", size, piece)
			crowd.do(call{Do: "open", Addrs: []string{addr}, Target: target, First: i * n, N: n})
		}
	}
	// Some that read at once come first: what every process has, such as buffers in pools, is not theirs who wait.
	open(4)
	crowd.do(call{Do: "read", Parallel: 8, Bytes: size})
	crowd.do(call{Do: "hang up"})
	before := edge.do(call{Do: "tidy memory"})
	began := time.Now()
	open(n / len(pieces))
	eventually(t, "all readers are too slow", func() bool { return edge.do(call{Do: "counts"}).N == n })
	during := edge.do(call{Do: "memory"})
	heap, rss := (during.Heap-before.Heap)/int64(n), (during.RSS-before.RSS)/int64(n)
	t.Logf("%d slow readers with %d MiB waiting each: %d B of heap, %d B of resident memory each", n, size>>20, heap, rss)
	if heap > 32<<10 || rss > 32<<10 && !underRace {
		t.Errorf("a slow reader costs more than 32 KiB")
	}
	if during.Counts.Sessions != n {
		t.Errorf("%d sessions of %d", during.Counts.Sessions, n)
	}
	stood := time.Now()
	if got := crowd.do(call{Do: "read", Parallel: 16, Bytes: size}).Bytes; got != int64(n)*size {
		t.Errorf("%d bytes arrived, want %d", got, int64(n)*size)
	}
	t.Logf("waiting came about in %v, reading took %v: %.0f MB/s", stood.Sub(began), time.Since(stood), float64(n)*float64(size)/1e6/time.Since(stood).Seconds())
	eventually(t, "the sessions end", func() bool { return edge.do(call{Do: "counts"}).Counts.Sessions == 0 })
}
