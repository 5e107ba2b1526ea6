package relay

import (
	"bufio"
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// TestChaos lets everything happen at once: clients and origins that do what they please, rules that change, evictions
// at any rate. Afterwards nothing may be left and every count must be back at zero; a poller that panics or waits for
// ever shows here.
func TestChaos(t *testing.T) {
	b := newBackend(t)
	slow := 50 * time.Millisecond
	if overTLS(t) || throughAnEdge(t) {
		slow = time.Second
	}
	f := start(t, Config{Capacity: 300, MaxHeld: 20, HandshakeTimeout: slow}, b.addr(), refusing(t))
	f.hold = 20 * time.Millisecond
	f.own()
	f.hasten(20 * time.Millisecond)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(context.Background(), 2500*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for w := range 64 {
		rnd := rand.New(rand.NewPCG(seed, uint64(w)))
		wg.Go(func() {
			for ctx.Err() == nil {
				wildClient(f, rnd)
			}
		})
	}
	for w := range 4 {
		rnd := rand.New(rand.NewPCG(seed, uint64(100+w)))
		wg.Go(func() {
			for {
				select {
				case o := <-b.conns:
					own := rand.New(rand.NewPCG(seed, rnd.Uint64()))
					wg.Go(func() { wildOrigin(o.tcp(), own) })
				case <-ctx.Done():
					return
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(seed, 1000))
	opened := 0
	for ctx.Err() == nil {
		wildOperator(f, rnd)
		opened = max(opened, f.counts().Sessions)
		<-time.After(time.Duration(rnd.IntN(40)) * time.Millisecond)
	}
	f.own()
	wg.Wait()
	f.Evict(testType, 0)
	t.Logf("%d sessions at once, %+v", opened, f.counts())
	if opened == 0 && !(underRace && throughAnEdge(t)) { // whose clients leave before two edges have met
		t.Error("no session was ever open")
	}
	f.waitCounts("everything has ended", func(n Counts) bool {
		for len(b.conns) > 0 { // nobody looks after them any more
			_ = (<-b.conns).Close()
		}
		return n.Sessions+n.Victims+n.Held == 0 && f.sum(func(e *engine) int { return len(e.all) + len(e.awaited) }) == 0
	})
}

func wildOperator(f *fixture, rnd *rand.Rand) {
	split := uint32(40 + rnd.IntN(60)) // some slots always stay
	switch rnd.IntN(9) {
	case 0:
		f.own()
	case 1, 2, 4:
		f.fence(split)
		if rnd.IntN(2) == 0 {
			f.Evict(testType, 0)
		}
	case 3:
		f.commit(split)
	case 5:
		f.Evict(testType, []int{0, 0, 100, 5000}[rnd.IntN(4)])
	case 6:
		f.EvictRouter(testType, id(rnd.IntN(100)))
	case 7:
		if n := f.CountKeys(testType, routing.Keys{Slots: []routing.Range{{From: 0, To: 99}}}, routing.IDs{}); n < 0 {
			f.t.Error(n)
		}
	}
	if c := f.counts(); c.Sessions < 0 || c.Victims < 0 || c.Held < 0 || c.Held > 20 {
		f.t.Errorf("%+v", c)
	}
}

// wildBytes are some frames, or a part of them.
func wildBytes(rnd *rand.Rand, mask bool) []byte {
	size := []int{0, 5, 200, 5, 200, 5, 200, 70_000, 1 << 20}[rnd.IntN(9)]
	b := frameOf([]byte{0x81, 0x82, 0x81, 0x82, 0x81, 0x82, 0x81, 0x82, 0x02, 0x80, 0x89, 0x88}[rnd.IntN(12)], make([]byte, size), mask)
	if rnd.IntN(12) == 0 {
		b = b[:rnd.IntN(len(b))]
	}
	return b
}

// wildEnd ends a connection in one of the possible ways.
func wildEnd(c transport, rnd *rand.Rand) {
	switch rnd.IntN(4) {
	case 0:
		_ = c.SetLinger(0)
	case 1:
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, io.LimitReader(c, int64(rnd.IntN(1<<20))))
	case 2:
		_, _ = c.Write(closeFrame(1000, true))
		_, _ = io.Copy(io.Discard, c)
	}
	_ = c.Close()
}

func wildClient(f *fixture, rnd *rand.Rand) {
	c, err := f.dial()
	if err != nil {
		return
	}
	_ = c.SetDeadline(time.Now().Add(time.Duration(1+rnd.IntN(1000)) * time.Millisecond))
	request := []byte(requestFor(id(rnd.IntN(100))))
	switch rnd.IntN(10) {
	case 0:
		request = request[:rnd.IntN(len(request))]
	case 1:
		request[rnd.IntN(len(request))] ^= 0x15
	case 2:
		request = append(request, wildBytes(rnd, true)...)
	}
	_, _ = c.Write(request)
	if rnd.IntN(10) > 0 {
		_, _ = io.ReadFull(c, make([]byte, len(switching)))
	}
	for range rnd.IntN(5) {
		_, _ = c.Write(wildBytes(rnd, true))
		_, _ = io.CopyN(io.Discard, c, int64(rnd.IntN(100_000)))
	}
	wildEnd(c, rnd)
}

func wildOrigin(c transport, rnd *rand.Rand) {
	_ = c.SetDeadline(time.Now().Add(time.Duration(1+rnd.IntN(1000)) * time.Millisecond))
	br := bufio.NewReader(c)
	for {
		if line, err := br.ReadString('\n'); err != nil || line == "\r\n" {
			break
		}
	}
	switch rnd.IntN(10) {
	case 0:
		_, _ = c.Write([]byte("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"))
	case 1:
		_, _ = c.Write([]byte("what?\r\n\r\n"))
	case 2:
	default:
		_, _ = c.Write([]byte(switching))
		n := int64(rnd.IntN(1 << 20))
		go func() { _, _ = io.CopyN(io.Discard, br, n) }()
	}
	for range rnd.IntN(5) {
		_, _ = c.Write(wildBytes(rnd, false))
		<-time.After(time.Duration(rnd.IntN(200)) * time.Millisecond) // sessions live long enough to be evicted
	}
	wildEnd(c, rnd)
}
