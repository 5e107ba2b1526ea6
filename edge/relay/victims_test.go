package relay

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

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
	f.install(routing.Compile(from)) // a preview's question comes before anything of the new rules does
	open, origins := map[string]*peer{}, map[string]*peer{}
	for _, user := range []string{"60", "160", "10", "110", "20"} {
		open[user], origins[user] = f.open(b, user)
	}
	if n := f.CountKeys(testType, keys, routing.MustIDs("60")); n != 2 {
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
	wrong := ""
	for range 3 { // a machine that stands still for a moment shifts some of them; it is not to do so three times
		if wrong = evictPaced(t); wrong == "" {
			return
		}
		t.Log(wrong)
	}
	t.Error(wrong)
}

// evictPaced says what is wrong with the moments of evictions, "" if nothing is.
func evictPaced(t *testing.T) string {
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
	f.waitDrained()
	if got := f.counts().Evicted; got != n {
		t.Errorf("%d evicted", got)
	}
	slices.SortFunc(at, time.Time.Compare)
	if first := at[0].Sub(began); first < time.Second/rate/2 {
		return fmt.Sprintf("the first one after %v", first)
	}
	if total := at[n-1].Sub(began); total < n*time.Second/rate*9/10 || total > 3*n*time.Second/rate {
		return fmt.Sprintf("%d in %v, want about %v", n, total, n*time.Second/rate)
	}
	const window = n / 4 // no quarter of them comes in half its time
	for i := range n - window {
		if d := at[i+window].Sub(at[i]); d < window*time.Second/rate/2 {
			return fmt.Sprintf("%d evictions in %v", window, d)
		}
	}
	return ""
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
