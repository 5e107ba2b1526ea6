package relay

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

// A drain of n sessions is over in its time, and in no part of it more of them go than it is long.
func TestSpreadOfADrain(t *testing.T) {
	const over = 20 * time.Second
	for name, within := range map[string]func(time.Duration) time.Duration{
		"early": atOnce, "late": late, "at random": rand.N[time.Duration],
	} {
		for _, n := range []int{1, 2, 7, 1000} {
			p, total := newSpread(n, over, time.Minute, within), 0
			for now := time.Duration(0); now <= over; now += time.Millisecond {
				total = min(total+p.take(time.Minute+now), n) // there is nobody left to close
				if even := int(now * time.Duration(n) / over); total < even || total > even+1 {
					t.Fatalf("%s: %d of %d after %v", name, total, n, now)
				}
			}
			if total != n {
				t.Errorf("%s: %d of %d after %v", name, total, n, over)
			}
		}
	}
}

// While sessions wait for their turn in a long drain, everything else goes on: a fence holds for its victims, which are
// not kept waiting, the others talk; whoever waits for an answer gets one, and new clients find nobody.
func TestDrainTakesItsTimeAndCutoversDoNot(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	stay, stayOrigin := f.open(b, "10")
	goes, goesOrigin := f.open(b, "60")
	f.fence(90)
	held := f.connect(requestFor("95"))
	f.waitCounts("the handshake is held", func(n Counts) bool { return n.Held == 1 })
	dialling := f.connect(requestFor("20"))
	diallingOrigin, _ := b.next()
	unfinished := f.connect(requestFor("30")[:40])
	f.waitState(stHead)
	resume := f.stall() // the next one is in the kernel's queue when the drain begins
	queued := f.connect(requestFor("40"))

	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan error, 1)
	go func() { drained <- f.Drain(ctx, 1000*time.Hour) }()
	eventually(t, "the drain begins", func() bool { return f.mailed() })
	resume()
	for _, p := range []*peer{held, dialling, queued} {
		status, resp, _ := p.status()
		if status != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%d %v", status, resp.Header)
		}
	}
	if _, err := diallingOrigin.br.ReadByte(); err == nil {
		t.Error("the origin that has not answered hears more")
	}
	unfinished.send([]byte(requestFor("30")[40:])...)
	if status, _, _ := unfinished.status(); status != http.StatusServiceUnavailable {
		t.Error(status)
	}
	if c, err := f.dial(); err == nil {
		t.Error("a draining relay accepts")
		_ = c.Close()
	}

	f.fence(50)
	if n := f.counts(); n.Victims != 1 || n.Sessions != 2 {
		t.Errorf("%+v", n)
	}
	f.Evict(testType, 0)
	goes.wantClose(1012, "moved to there")
	goes.send(closeFrame(1012, true)...)
	goesOrigin.want(closeFrame(1012, true)...)
	_ = goesOrigin.Close()
	_ = goes.Close()
	f.waitDrained()
	stay.send([]byte("still there?")...)
	stayOrigin.want([]byte("still there?")...)

	cancel()
	if err := <-drained; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() { _ = f.Close(context.Background()) }()
	stay.wantClose(1001, "edge is shutting down")
	_ = stay.Close()
}

// Everybody is told, and the drain is over with the last one.
func TestDrainEndsWithTheLastSession(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	const n = 25
	closed := make(chan error, n)
	for i := range n {
		c, o := f.open(b, id(i))
		go func() { _, _ = io.Copy(o, o.br); _ = o.Close() }()
		go func() {
			first, _, err := readFrame(c.br)
			if err == nil && first != 0x88 {
				err = errors.New("no Close frame")
			}
			if i%5 == 0 { // gone without an answer
				_ = c.Close()
			} else {
				_, _ = c.Write(closeFrame(1001, true))
				_, _ = io.Copy(io.Discard, c.br)
				_ = c.Close()
			}
			closed <- err
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.Drain(ctx, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
	if left := f.sum(func(e *engine) int { return len(e.all) }); left != 0 {
		t.Errorf("%d are left", left)
	}
}

// Sessions that end by themselves need no turn.
func TestDrainDoesNotWaitForNobody(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "1")
	drained := make(chan error, 1)
	go func() { drained <- f.Drain(t.Context(), 1000*time.Hour) }()
	eventually(t, "it drains", func() bool { return f.sum(func(e *engine) int { return len(e.parting) }) == 1 })
	_ = c.Close()
	_ = o.Close()
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// stall has no poller do anything until resume is called.
func (f *fixture) stall() (resume func()) {
	f.t.Helper()
	stalled, on := make(chan struct{}), make(chan struct{})
	for _, e := range f.engines {
		e.post(func() { stalled <- struct{}{}; <-on })
		<-stalled
	}
	return func() { close(on) }
}

// mailed tells whether something was posted to every poller.
func (f *fixture) mailed() bool {
	for _, e := range f.engines {
		e.mail.Lock()
		n := len(e.posts)
		e.mail.Unlock()
		if n == 0 {
			return false
		}
	}
	return true
}
