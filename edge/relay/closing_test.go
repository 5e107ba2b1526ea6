package relay

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// ending are sessions on moving keys, prepared so that each is in another state once they are being ended.
type ending struct {
	peers   []*peer
	stuck   *peer // its Close is still to come, behind the message that its origin has begun
	answers *peer // answers its Close
	thinker *peer // its origin
}

func openEnding(f *fixture, b *backend) *ending {
	f.t.Helper()
	var x ending
	open := func(routerID string) (c, o *peer) {
		c, o = f.open(b, routerID)
		x.peers = append(x.peers, c, o)
		return c, o
	}
	open("60") // ignores its Close: stAnswer
	_, o := open("61")
	x.stuck = o
	o.send(frameOf(0x01, []byte("half"), false)...) // stNotify
	c, o := open("62")
	c.send(closeFrame(1000, true)...)
	o.want(closeFrame(1000, true)...) // stEnding
	x.answers, x.thinker = open("63")
	c, o = open("64")
	_ = o.tcp().CloseWrite()
	c.wantEnd()
	_ = o.tcp().SetLinger(0)
	_ = o.Close()
	f.waitCountsOf(stLinger, 1)
	p := f.connect(requestFor("65"))
	o, _ = b.next()
	x.peers = append(x.peers, p, o)
	o.send([]byte("HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\nsor")...)
	f.waitCountsOf(stPass, 1)
	return &x
}

// begun waits until every session is in the state that it was prepared for.
func (x *ending) begun(f *fixture, code uint16, text string) {
	f.t.Helper()
	x.answers.wantClose(code, text)
	x.answers.send(closeFrame(code, true)...)
	x.thinker.want(closeFrame(code, true)...)
	_ = x.answers.Close() // only its origin's connection is left
	for _, st := range []state{stAnswer, stNotify, stEnding, stFinish, stLinger, stPass} {
		f.waitCountsOf(st, 1)
	}
}

// G2: whatever ends a session when its key is fenced, it is a victim from the moment Install returns until its
// connections are closed. Before that its user must not be served anywhere else.
func TestSessionsThatEndAlreadyAreVictims(t *testing.T) {
	for _, how := range []string{"shutdown", "operator", "shutdown of victims"} {
		t.Run(how, func(t *testing.T) {
			b := newBackend(t)
			f := start(t, Config{}, b.addr())
			f.hasten(time.Hour)
			f.own()
			x := openEnding(f, b)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			closed := make(chan error, 1)
			if how == "operator" {
				for i := 60; i < 66; i++ {
					f.EvictRouter(testType, id(i))
				}
				x.begun(f, 1012, "evicted by operator")
			} else {
				if how != "shutdown" {
					f.fence(50)
				}
				go func() { closed <- f.Close(ctx) }()
				x.begun(f, 1001, "edge is shutting down")
			}
			f.fence(50)
			if n := f.counts(); n.Victims != 6 {
				t.Errorf("the fence is installed and there are %d victims of 6", n.Victims)
			}
			f.own() // unfenced: nothing waits for them any more, and they end all the same
			if n := f.counts(); n.Victims != 0 || n.Sessions != 5 {
				t.Errorf("after the unfence: %+v", n)
			}
			f.fence(50)
			if n := f.counts(); n.Victims != 6 || n.Sessions != 5 {
				t.Errorf("after the next fence: %+v", n)
			}
			f.Evict(testType, 0)
			x.stuck.send(frameOf(0x80, []byte("whole"), false)...)
			for _, p := range x.peers {
				_ = p.Close()
			}
			f.waitDrained()
			if n := f.counts(); n.Sessions != 0 || n.Evicted != 0 {
				t.Errorf("%+v", n)
			}
			if how != "operator" {
				if err := <-closed; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// An eviction that has begun is taken back by an unfence; a closing edge must end the session nevertheless.
func TestUnfenceWhileClosing(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.hasten(time.Hour)
	f.own()
	c, o := f.open(b, "60")
	half := frameOf(0x01, []byte("half"), false)
	o.send(half...)
	c.want(half...)
	f.fence(50)
	f.Evict(testType, 0)
	f.waitState(stNotify)
	closed := make(chan error, 1)
	go func() { closed <- f.Close(context.Background()) }()
	f.waitClosing()
	f.own()
	if n := f.counts(); n.Victims != 0 {
		t.Errorf("%+v", n)
	}
	o.send(frameOf(0x80, []byte("whole"), false)...)
	c.want(frameOf(0x80, []byte("whole"), false)...)
	if op, _ := c.frame(); op != 0x88 {
		t.Errorf("got frame %#x, want a Close", op)
	}
	_, _ = c.Close(), o.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func (f *fixture) waitClosing() {
	f.t.Helper()
	eventually(f.t, "the relay is closing", func() bool {
		return f.sum(func(e *engine) int {
			if e.closing {
				return 1
			}
			return 0
		}) == len(f.engines)
	})
}

// A connect under way ends with the edge at once: nothing is left that could still come about.
func TestDialsEndWithTheEdge(t *testing.T) {
	full := fullBacklog(t)
	f := start(t, Config{Engines: 1, DialTimeout: time.Minute}, full)
	f.own()
	p := f.connect(requestFor("60"))
	eventually(t, "the dial hangs", func() bool { return f.registered() == 1 })
	before := resources()[1]
	left := f.sum(func(e *engine) int {
		e.shutDown()
		return e.registry.Len(testType) + len(e.awaited)
	})
	if now := resources()[1]; left != 0 || now > before-2 {
		t.Errorf("%d dials are left, %d descriptors are open, were %d with one of a listener and one of the dial", left, now, before)
	}
	if code, _, _ := p.status(); code != 503 {
		t.Errorf("%d, want 503", code)
	}
}

// A question that comes while the relay closes is answered, or refused, but its asker does not wait for ever.
func TestQuestionsToAClosingRelayReturn(t *testing.T) {
	var asked sync.WaitGroup
	var rounds atomic.Int64
	for range 40 {
		r, err := New(Config{Engines: 2})
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan struct{})
		for i := range 4 {
			asked.Go(func() {
				for {
					switch i {
					case 0:
						r.EvictRouter(testType, "1")
					case 1:
						_ = r.Install(context.Background(), (&fixture{t: t}).view(routing.Compile(rules(t, 100))))
					default:
						r.CountKeys(testType, routing.Keys{}, routing.IDs{})
					}
					rounds.Add(1)
					select {
					case <-closed:
						return
					default:
					}
				}
			})
		}
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
		close(closed)
	}
	done := make(chan struct{})
	go func() { asked.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("an asker waits for ever, after %d questions", rounds.Load())
	}
}

// Within a relay the engines share a port, with anybody else they do not: clients would land on a stranger.
func TestPortsAreNotSharedWithOthers(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Engines: 2}, b.addr())
	f.own()
	addr := f.Addrs()[0]
	for _, cfg := range []Config{{Addrs: []string{addr}}, {Addrs: []string{"127.0.0.1:0", addr}}} {
		r, err := New(cfg)
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "listen on "+addr+": ") {
			t.Errorf("%v", err)
		}
		if err == nil {
			_ = r.Close(context.Background())
		}
	}
	eventually(t, "both engines have sessions", func() bool {
		f.open(b, "7")
		return f.sum(func(e *engine) int { return min(len(e.all), 1) }) == 2
	})
	// The edge's own side ends first, which leaves its port in TIME_WAIT: that is no obstacle for its successor.
	ctx, cancel := context.WithCancel(context.Background())
	c, o := f.open(b, "7")
	go func() {
		c.wantClose(1001, "edge is shutting down")
		c.send(closeFrame(1001, true)...)
		c.wantEnd()
		cancel()
	}()
	_ = o
	if err := f.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	next := start(t, Config{Addrs: []string{addr}}, b.addr())
	next.own()
	next.open(b, "8")
}
