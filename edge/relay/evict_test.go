package relay

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

func (f *fixture) fence(split uint32) { f.t.Helper(); f.move(split, routing.Fenced) }

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
func (f *fixture) hasten(to time.Duration) {
	f.sum(func(e *engine) int { e.evicting.timeout = to; return 0 })
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
	if d := time.Since(began); d < evictTimeout { // how much later is the machine's affair; o reads with a deadline
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
	f.hasten(200 * time.Millisecond)
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
	const limit = 200 * time.Millisecond
	f.hasten(limit)
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
	f.hasten(200 * time.Millisecond)
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
