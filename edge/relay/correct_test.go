package relay

import (
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/deadman"
	"github.com/unitgate/unitgate/edge/limit"
	"github.com/unitgate/unitgate/events/routing"
)

// startClosing is a relay of a domain that corrects with a Close frame; slots from 50 on are another unit's.
func startClosing(t *testing.T, cfg Config) *fixture {
	t.Helper()
	f := start(t, cfg)
	f.correct = "close"
	f.install(routing.Compile(rules(t, 50)))
	return f
}

const belongs = "ws://there.example/chat"

// wantElsewhere reads a whole answer to a client that does not belong here.
func (p *peer) wantElsewhere() {
	p.t.Helper()
	if h := p.head(); !strings.HasPrefix(h, "HTTP/1.1 101 ") || !strings.Contains(h, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") {
		p.t.Fatalf("the client got %q", h)
	}
	p.wantClose(4302, belongs)
}

// A client of another unit is let in only to be told where it belongs; then its Close is waited for, and the end follows.
func TestClosedElsewhere(t *testing.T) {
	f := startClosing(t, Config{})
	c := f.connect(requestFor("70"))
	c.wantElsewhere()
	c.send(frameOf(0x81, []byte("early"), true)...)
	c.send(frameOf(0x89, nil, true)...)
	c.send(closeFrame(4302, true)...)
	c.wantEnd()
	if n := f.counts(); n.Handshakes != 1 || n.HandshakeErrors != 0 || n.Sessions != 0 || n.Evicted != 0 {
		t.Errorf("%+v", n)
	}

	// All that it has to say may come along with its request, in one piece or byte by byte.
	all := append([]byte(requestFor("71")), append(frameOf(0x82, make([]byte, 300), true), closeFrame(1000, true)...)...)
	c = f.connect(string(all))
	c.wantElsewhere()
	c.wantEnd()
	c = f.connect("")
	for _, b := range all {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	c.wantElsewhere()
	c.wantEnd()

	// Who only ends the stream is let go.
	c = f.connect(requestFor("72"))
	c.wantElsewhere()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.wantEnd()
}

// A client that answers nothing, or goes on sending without an end, has its time and no more, and no memory.
func TestClosedElsewhereInSilence(t *testing.T) {
	f := startClosing(t, Config{})
	f.sum(func(e *engine) int {
		e.lingering.timeout, e.evicting.timeout = 50*time.Millisecond, 50*time.Millisecond
		return 0
	})
	silent, flood := f.connect(requestFor("70")), f.connect(requestFor("71"))
	silent.wantElsewhere()
	silent.wantEnd()
	flood.wantElsewhere()
	chunk := frameOf(0x82, make([]byte, 60<<10), true)
	deadline := time.Now().Add(patience)
	for {
		if _, err := flood.Write(chunk); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it may send for ever")
		}
	}
	// Who reads nothing either: what is written to it fits into the kernel's buffer, and the end comes all the same.
	_ = f.connect(requestFor("72"))
	f.waitCountsOf(stAnswer, 0)
	f.waitCountsOf(stFinish, 0)
	eventually(t, "nobody is left", func() bool { return f.Clients().Connections == 0 })
}

// It counts against the limits of connections like anybody else, also while its answer is awaited.
func TestClosedElsewhereCounts(t *testing.T) {
	f := startClosing(t, Config{Limits: limit.Limits{PerAddress: 1}})
	c := f.connect(requestFor("70"))
	c.wantElsewhere()
	if n := f.Clients().Connections; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	more := f.connect(requestFor("71"))
	if h := more.head(); !strings.HasPrefix(h, "HTTP/1.1 429 ") {
		t.Errorf("one more got %q", h)
	}
	_ = more.Close()
	c.send(closeFrame(4302, true)...)
	c.wantEnd()
	_ = c.Close()
	eventually(t, "its place is free", func() bool { return f.gate.Counts().Connections == 0 })
}

// R9: without a lease nobody is sent anywhere. Who was told already may say goodbye: it has no session here.
func TestClosedElsewhereWithoutALease(t *testing.T) {
	f := startClosing(t, Config{Engines: 1})
	if !f.Serve(deadman.Now() + time.Hour) {
		t.Fatal("a lease is not taken")
	}
	c := f.connect(requestFor("70"))
	c.wantElsewhere()
	f.letGo(f.Forbid())
	f.refused(f.connect(requestFor("71")))
	c.send(closeFrame(4302, true)...)
	c.wantEnd()
}

// An edge that stops does not wait for it longer than for anybody else.
func TestClosedElsewhereWhileStopping(t *testing.T) {
	f := startClosing(t, Config{Engines: 1})
	f.sum(func(e *engine) int {
		e.lingering.timeout, e.evicting.timeout = time.Hour, 20*time.Millisecond
		return 0
	})
	c := f.connect(requestFor("70"))
	c.wantElsewhere()
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
	c.wantEnd()
}

// A handshake that was held for a key that moves elsewhere is answered in the same way, once.
func TestHeldThenClosedElsewhere(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.correct = "close"
	f.move(50, routing.Fenced)
	c := f.connect(requestFor("70"))
	f.waitCounts("one is held", func(n Counts) bool { return n.Held == 1 })
	f.move(50, routing.Committed)
	c.wantElsewhere()
	c.send(closeFrame(4302, true)...)
	c.wantEnd()
	if n := f.counts(); n.Held != 0 || n.Sessions != 0 {
		t.Errorf("%+v", n)
	}
}
