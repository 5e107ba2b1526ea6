package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

func (f *fixture) fence(split uint32)  { f.t.Helper(); f.move(split, routing.Fenced) }
func (f *fixture) commit(split uint32) { f.t.Helper(); f.move(split, routing.Committed) }

func (f *fixture) waitDrained() {
	f.t.Helper()
	f.waitCounts("no victim is left", func(n Counts) bool { return n.Victims == 0 })
}

// The contract's row "eviction", step by step: Close between two messages, the client's last messages and its own Close
// reach the origin, origin messages after our Close are lost, both connections end in order.
func TestEvictionInTheMiddleOfAMessage(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "60")
	stay, stayOrigin := f.open(b, "10")

	begin := frameOf(0x01, []byte("first fragment,"), false)
	second := frameOf(0x00, bytes.Repeat([]byte("x"), 70_000), false)
	o.send(begin...)
	o.send(second[:30_000]...) // in the middle of a frame
	c.want(begin...)
	c.want(second[:30_000]...)
	f.fence(50)
	if n := f.counts(); n.Victims != 1 || n.Evicted != 0 {
		t.Fatalf("after the fence: %+v", n)
	}
	f.Evict(testType, 0)
	f.waitState(stNotify)
	ping := frameOf(0x89, []byte("ping"), false)
	last := frameOf(0x80, []byte("last fragment"), false)
	lost := frameOf(0x81, []byte("this message is lost"), false)
	o.send(slices.Concat(second[30_000:], ping, last, lost)...)
	c.want(slices.Concat(second[30_000:], ping, last)...)
	c.wantClose(1012, "moved to there")
	o.send(lost...)

	message := frameOf(0x81, bytes.Repeat([]byte("the client's last message "), 10_000), true)
	answer := closeFrame(1012, true)
	c.send(message...)
	c.send(answer...)
	c.send([]byte("bytes behind the Close frame")...)
	o.want(message...)
	o.want(answer...)
	o.wantEnd()
	o.send(closeFrame(1012, false)...)
	_ = o.Close()
	c.wantEnd()
	_ = c.Close()
	f.waitDrained()
	if n := f.counts(); n.Evicted != 1 || n.Sessions != 1 {
		t.Errorf("%+v", n)
	}
	// The other session has not noticed anything, on the same connections.
	stay.send([]byte("still there?")...)
	stayOrigin.want([]byte("still there?")...)
	stayOrigin.send([]byte("yes")...)
	stay.want([]byte("yes")...)
}

// waitState waits until a session is in a state.
func (f *fixture) waitState(st state) {
	f.t.Helper()
	eventually(f.t, "a session comes into state "+id(int(st)), func() bool {
		return f.sum(func(e *engine) (n int) {
			for s := range e.all {
				if s.state == st {
					n++
				}
			}
			return n
		}) > 0
	})
}

// hasten shortens the 2 s of each step of an eviction.
func (f *fixture) hasten() (limit time.Duration) {
	const short = 200 * time.Millisecond
	f.sum(func(e *engine) int { e.evicting.timeout = short; return 0 })
	return short
}

func TestEvictionOfASilentClient(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "60")
	f.fence(50)
	began := time.Now()
	f.Evict(testType, 0)
	c.wantClose(1012, "moved to there")
	c.send(frameOf(0x81, []byte("not a Close"), true)...)
	o.want(frameOf(0x81, []byte("not a Close"), true)...)
	if op, body := o.frame(); op != 0x88 || !bytes.Equal(body, []byte{0x03, 0xe9}) {
		t.Fatalf("the origin got %#x %q, want Close 1001", op, body)
	}
	if d := time.Since(began); d < evictTimeout || d > evictTimeout+time.Second {
		t.Errorf("1001 after %v", d)
	}
	o.wantEnd()
	_ = o.Close()
	c.wantEnd()
	_ = c.Close()
	f.waitDrained()
}

// A client that goes away without a Close, after its last message.
func TestEvictionOfAClientThatJustEnds(t *testing.T) {
	for _, how := range []string{"fin", "rst"} {
		t.Run(how, func(t *testing.T) {
			b := newBackend(t)
			f := start(t, Config{}, b.addr())
			f.own()
			c, o := f.open(b, "60")
			f.fence(50)
			f.Evict(testType, 0)
			c.wantClose(1012, "moved to there")
			c.send(frameOf(0x81, []byte("bye"), true)...)
			o.want(frameOf(0x81, []byte("bye"), true)...)
			if how == "rst" {
				_ = c.tcp().SetLinger(0)
			}
			_ = c.Close()
			o.want(maskedGoingAway[:]...)
			o.wantEnd()
			_ = o.Close()
			f.waitDrained()
		})
	}
}

// A client in the middle of a frame that it never ends: no frame may stand there, both legs are reset.
func TestEvictionInTheMiddleOfAClientsFrame(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.hasten()
	f.own()
	c, o := f.open(b, "60")
	c.send(frameOf(0x81, []byte("half"), true)[:8]...)
	o.read(8)
	f.fence(50)
	f.Evict(testType, 0)
	c.wantClose(1012, "moved to there")
	c.wantReset()
	o.wantReset()
	f.waitDrained()
}

// A reader that stands still, with a huge message under way to it: reset after 2 s.
func TestEvictionOfAStuckReader(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	limit := f.hasten()
	f.own()
	c, o := f.open(b, "60")
	go func() { _, _ = o.Write(frameOf(0x82, burst, false)) }()
	f.waitPaused()
	f.fence(50)
	began := time.Now()
	f.Evict(testType, 0)
	f.waitDrained()
	if d := time.Since(began); d < limit || d > limit+time.Second {
		t.Errorf("reset after %v", d)
	}
	c.wantReset()
	if n := f.counts(); n.Evicted != 1 {
		t.Errorf("%+v", n)
	}
}

// An origin that does not end after the client's Close is not waited for longer than 2 s.
func TestEvictionWithAnOriginThatStays(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.hasten()
	f.own()
	c, o := f.open(b, "60")
	f.fence(50)
	f.Evict(testType, 0)
	c.wantClose(1012, "moved to there")
	c.send(closeFrame(1012, true)...)
	c.wantEnd()
	_ = c.Close()
	o.want(closeFrame(1012, true)...)
	o.wantEnd()
	f.waitDrained()
}

// A Close that is under way already is not doubled.
func TestEvictionOfASessionThatIsClosing(t *testing.T) {
	for _, who := range []string{"client", "origin"} {
		t.Run(who, func(t *testing.T) {
			b := newBackend(t)
			f := start(t, Config{}, b.addr())
			f.own()
			c, o := f.open(b, "60")
			one, other := c, o
			if who == "origin" {
				one, other = o, c
			}
			first, second := closeFrame(1000, who == "client"), closeFrame(1000, who != "client")
			one.send(first...)
			other.want(first...)
			f.fence(50)
			f.Evict(testType, 0)
			f.waitState(stEnding)
			other.send(second...)
			one.want(second...)
			_, _ = c.tcp().CloseWrite(), o.tcp().CloseWrite()
			c.wantEnd()
			o.wantEnd()
			f.waitDrained()
		})
	}
}

// The peers' own Close comes while the edge waits for the end of a message.
func TestClosesThatCrossAnEviction(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c1, o1 := f.open(b, "60")
	c2, o2 := f.open(b, "70")
	half := frameOf(0x01, []byte("half"), false)
	for _, o := range []*peer{o1, o2} {
		o.send(half...)
	}
	c1.want(half...)
	c2.want(half...)
	f.fence(50)
	f.Evict(testType, 0)
	f.waitCountsOf(stNotify, 2)
	o1.send(closeFrame(1000, false)...) // between two fragments
	c1.wantClose(1000, "")
	c2.send(closeFrame(1001, true)...)
	o2.want(closeFrame(1001, true)...)
	f.waitCountsOf(stEnding, 2)
	c1.send(closeFrame(1000, true)...)
	o1.want(closeFrame(1000, true)...)
	o2.send(closeFrame(1001, false)...)
	c2.wantClose(1001, "")
	for _, p := range []*peer{c1, o1, c2, o2} {
		_ = p.Close()
	}
	f.waitDrained()
}

func (f *fixture) waitCountsOf(st state, want int) {
	f.t.Helper()
	eventually(f.t, "sessions in state "+id(int(st)), func() bool {
		return f.sum(func(e *engine) (n int) {
			for s := range e.all {
				if s.state == st {
					n++
				}
			}
			return n
		}) == want
	})
}

func TestUnfencedVictimsAreLetGo(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c1, o1 := f.open(b, "60")
	c2, o2 := f.open(b, "70")
	half := frameOf(0x01, []byte("half"), false)
	o2.send(half...)
	c2.want(half...)
	f.fence(50)
	if n := f.counts(); n.Victims != 2 {
		t.Fatalf("%+v", n)
	}
	f.own()
	if n := f.counts(); n.Victims != 0 {
		t.Fatalf("%+v", n)
	}
	f.Evict(testType, 0) // too late
	// The same while the eviction waits for the end of a message: the client has seen nothing of it.
	f.fence(65)
	f.Evict(testType, 0)
	f.waitState(stNotify)
	f.own()
	for _, s := range [][2]*peer{{c1, o1}, {c2, o2}} {
		end := frameOf(0x80, []byte("end"), false)
		s[1].send(end...)
		s[0].want(end...)
		s[0].send([]byte("hello")...)
		s[1].want([]byte("hello")...)
	}
	if n := f.counts(); n.Victims != 0 || n.Evicted != 0 || n.Sessions != 2 {
		t.Errorf("%+v", n)
	}
}

// An exact ID inside a moving slot stays, one inside a staying slot moves.
func TestEvictionByExactIDs(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	ranges := func(split uint32) map[string][]routing.Range {
		return map[string][]routing.Range{"here": {{From: 0, To: split - 1}}, "there": {{From: split, To: 99}}}
	}
	from, err := routing.NewRules(100, ranges(99), map[string][]string{"here": {"60", "10"}})
	if err != nil {
		t.Fatal(err)
	}
	to, err := routing.NewRules(100, ranges(50), map[string][]string{"here": {"60"}, "there": {"10"}})
	if err != nil {
		t.Fatal(err)
	}
	keys := routing.Compare(from, to).Split(1)[0]
	f.install(routing.CompileCutover(from, to, []routing.Wave{{Keys: keys}}))
	open, origins := map[string]*peer{}, map[string]*peer{}
	for _, user := range []string{"60", "160", "10", "110", "20"} {
		open[user], origins[user] = f.open(b, user)
	}
	if n := f.CountKeys(testType, keys); n != 2 {
		t.Errorf("the preview counts %d sessions, want 2", n)
	}
	if n := f.CountRouter(testType, "160"); n != 1 {
		t.Errorf("%d sessions of one user", n)
	}
	f.install(routing.CompileCutover(from, to, []routing.Wave{{Keys: keys, Phase: routing.Fenced}}))
	if n := f.counts(); n.Victims != 2 {
		t.Fatalf("%+v", n)
	}
	f.Evict(testType, 0)
	for _, user := range []string{"160", "10"} {
		open[user].wantClose(1012, "moved to there")
		open[user].send(closeFrame(1012, true)...)
		_, _ = open[user].Close(), origins[user].Close()
	}
	f.waitCounts("the others stay", func(n Counts) bool { return n.Sessions == 3 && n.Victims == 0 })
}

// Victims are evicted one after the other, evenly and without a burst, over all engines together.
func TestEvictionIsPaced(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 2}, b.addr())
	f.own()
	const n, rate = 40, 50
	var mu sync.Mutex
	var at []time.Time
	var wg sync.WaitGroup
	for i := range n {
		c, o := f.open(b, id(50+i))
		wg.Go(func() {
			c.wantClose(1012, "moved to there")
			mu.Lock()
			at = append(at, time.Now())
			mu.Unlock()
			c.send(closeFrame(1012, true)...)
			_, _ = io.Copy(io.Discard, o.br)
			_ = o.Close()
		})
	}
	f.fence(50)
	began := time.Now()
	f.Evict(testType, rate)
	f.Evict(testType, rate) // idempotent
	wg.Wait()
	slices.SortFunc(at, time.Time.Compare)
	if first := at[0].Sub(began); first < time.Second/rate/2 {
		t.Errorf("the first one after %v", first)
	}
	if total := at[n-1].Sub(began); total < n*time.Second/rate*9/10 || total > 3*n*time.Second/rate {
		t.Errorf("%d in %v, want about %v", n, total, n*time.Second/rate)
	}
	const window = n / 4 // no quarter of them comes in half its time
	for i := range n - window {
		if d := at[i+window].Sub(at[i]); d < window*time.Second/rate/2 {
			t.Errorf("%d evictions in %v", window, d)
		}
	}
	f.waitDrained()
	if got := f.counts().Evicted; got != n {
		t.Errorf("%d evicted", got)
	}
}

func TestEvictAdjustsTheRate(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	const n = 300
	for i := range n {
		c, o := f.open(b, id(50+i%50))
		go func() {
			_, _ = c.br.Peek(4)
			_, _ = c.Close(), o.Close()
		}()
	}
	f.fence(50)
	f.Evict(testType, 1)
	<-f.Changed()
	f.Evict(testType, 0)
	f.waitDrained()
	if got := f.counts(); got.Evicted != n || got.Sessions != 0 {
		t.Errorf("%+v", got)
	}
}

func TestChangedTellsOfTheLastVictim(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "60")
	f.fence(50)
	f.Evict(testType, 0)
	c.wantClose(1012, "moved to there")
	c.send(closeFrame(1012, true)...)
	_, _ = c.Close(), o.Close()
	timeout := time.After(patience)
	for f.counts().Victims > 0 {
		select {
		case <-f.Changed():
		case <-timeout:
			t.Fatal("no signal")
		}
	}
}

// A victim that ends by itself is no victim any more, and was not evicted.
func TestVictimsThatEndThemselves(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "60")
	f.fence(50)
	_, _ = c.Close(), o.Close()
	f.waitDrained()
	f.Evict(testType, 0)
	if n := f.counts(); n.Evicted != 0 || n.Sessions != 0 {
		t.Errorf("%+v", n)
	}
}

func TestEvictRouter(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c1, o1 := f.open(b, "60")
	c2, o2 := f.open(b, "60")
	f.open(b, "160") // same slot
	if n := f.EvictRouter(testType, "60"); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	if n := f.EvictRouter(testType, "60"); n != 0 {
		t.Errorf("%d sessions the second time", n)
	}
	for _, c := range []*peer{c1, c2} {
		c.wantClose(1012, "evicted by operator")
		c.send(closeFrame(1012, true)...)
		_ = c.Close()
	}
	_, _ = o1.Close(), o2.Close()
	f.waitCounts("the other stays", func(n Counts) bool { return n.Sessions == 1 })
	if n := f.counts(); n.Victims != 0 || n.Evicted != 0 {
		t.Errorf("%+v", n)
	}
}

func TestCommitWithoutAFence(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, _ := f.open(b, "60")
	f.commit(50) // as it comes when events are replayed: the reason names the owner
	f.Evict(testType, 0)
	c.wantClose(1012, "moved to there")
}

func TestCloseTellsEverybody(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "10")
	dialling := f.connect(requestFor("20"))
	thinking, _ := b.next()
	_ = thinking
	f.fence(50)
	held := f.connect(requestFor("60"))
	f.waitCounts("held", func(n Counts) bool { return n.Held == 1 })
	closed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		closed <- f.Close(ctx)
	}()
	c.wantClose(1001, "edge is shutting down")
	c.send(closeFrame(1001, true)...)
	o.want(closeFrame(1001, true)...)
	for _, p := range []*peer{held, dialling} {
		if code, _, _ := p.status(); code != 503 {
			t.Errorf("%d, want 503", code)
		}
		_ = p.Close()
	}
	_, _ = c.Close(), o.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := f.Install(context.Background(), f.view(routing.Compile(rules(t, 100)))); !errors.Is(err, ErrClosed) {
		t.Errorf("Install after Close: %v", err)
	}
	f.Evict(testType, 0)
	if n := f.CountKeys(testType, routing.Keys{}) + f.CountRouter(testType, "1") + f.EvictRouter(testType, "1"); n != 0 {
		t.Error(n)
	}
}

func TestCloseResetsWhenItsContextEnds(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	_, o := f.open(b, "10")
	f.connect(requestFor("20"))
	f.connect("GET / HT")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := io.Copy(io.Discard, o.br); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// A client that has shut its sending side cannot answer: it gets its Close and is not waited for.
func TestEvictionOfAHalfClosedClient(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "60")
	_ = c.tcp().CloseWrite()
	o.wantEnd()
	f.fence(50)
	f.Evict(testType, 0)
	c.wantClose(1012, "moved to there")
	c.wantEnd()
	_ = o.Close()
	f.waitDrained()
}
