package relay

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
)

func TestTunnelPassesHeadsUnchanged(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c := f.connect(strings.Replace(requestFor("7"), "\r\n\r\n", "\r\nSec-WebSocket-Protocol: a, b\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n", 1))
	o, head := b.next()
	for _, want := range []string{"GET /chat HTTP/1.1\r\n", "\r\nHost: x\r\n", "\r\nSec-WebSocket-Protocol: a, b\r\n",
		"\r\nrouterId: 7\r\n", "\r\nX-Forwarded-For: 127.0.0.1\r\n", "\r\nX-Forwarded-Proto: http\r\n"} {
		if !strings.Contains(head, want) {
			t.Errorf("the origin got %q without %q", head, want)
		}
	}
	if strings.Contains(head, "6.6.6.6") {
		t.Errorf("the origin got the client's idea of its address: %q", head)
	}
	odd := "HTTP/1.1  101 Whatever\nupGrade: websocket\nX:  spaced \n\n" // lenient in, byte-exact out
	o.send([]byte(odd)...)
	c.want([]byte(odd)...)
}

// echo copies everything back.
func echo(p *peer) {
	_, _ = io.Copy(p.Conn, p.br)
	_ = p.tcp().CloseWrite()
}

func TestTunnelIsByteExact(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	rnd := rand.New(rand.NewPCG(3, 4))
	sizes := []int{0, 1, 125, 126, 65535, 65536, 200_000, 8 << 20}
	for range 12 {
		sizes = append(sizes, rnd.IntN(100_000))
	}
	var stream []byte
	for _, n := range sizes {
		payload := make([]byte, n)
		for i := range payload {
			payload[i] = byte(rnd.Uint32())
		}
		cut := rnd.IntN(n + 1) // a fragmented message with control frames inside
		stream = append(stream, frameOf(0x02, payload[:cut], true)...)
		stream = append(stream, frameOf(0x89, payload[:min(cut, 125)], true)...)
		stream = append(stream, frameOf(0x00, nil, true)...)
		stream = append(stream, frameOf(0x8a, nil, true)...)
		stream = append(stream, frameOf(0x80, payload[cut:], true)...)
	}
	c, o := f.open(b, "7")
	go echo(o)
	go func() {
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(300_000))
			if _, err := c.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		_ = c.tcp().CloseWrite()
	}()
	got, err := io.ReadAll(c.br)
	if err != nil || !bytes.Equal(got, stream) {
		t.Fatalf("%d bytes came back and %v, want %d", len(got), err, len(stream))
	}
	f.waitCounts("the session ends with its streams", func(n Counts) bool { return n.Sessions == 0 })
}

func TestBytesGluedToTheHandshake(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	// More than fits beside the head: the rest waits in the kernel. All of it belongs to the tunnel.
	glued := bytes.Repeat([]byte("0123456789"), 3000)
	c := f.connect(requestFor("7") + string(glued))
	o, _ := b.next()
	first := frameOf(0x81, []byte("at once"), false)
	o.send(append([]byte(switching), first...)...)
	o.want(glued...)
	if h := c.head(); h != switching {
		t.Fatalf("%q", h)
	}
	c.want(first...)
	// The frames in the glued bytes were followed: a Close frame finds the border behind them.
	o.send(frameOf(0x01, []byte("half"), false)...)
	c.want(frameOf(0x01, []byte("half"), false)...)
}

func TestRequestAndResponseInSingleBytes(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c := f.connect("")
	for _, x := range []byte(requestFor("7") + "!") {
		c.send(x)
	}
	o, _ := b.next()
	for _, x := range []byte(switching + "?") {
		o.send(x)
	}
	if h := c.head(); h != switching {
		t.Fatalf("%q", h)
	}
	c.want('?')
	o.want('!')
}

func TestHalfClose(t *testing.T) {
	for _, first := range []string{"client", "origin"} {
		t.Run(first, func(t *testing.T) {
			b := newBackend(t)
			f := start(t, Config{}, b.addr())
			f.own()
			c, o := f.open(b, "7")
			one, other := c, o
			if first == "origin" {
				one, other = o, c
			}
			one.send([]byte("last words")...)
			if err := one.tcp().CloseWrite(); err != nil {
				t.Fatal(err)
			}
			other.want([]byte("last words")...)
			other.wantEnd()
			// The other direction goes on, more than the buffers in between hold, and ends on its own.
			want := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
			go func() {
				_, _ = other.Write(want)
				_ = other.Close()
			}()
			got, err := io.ReadAll(one.br)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes and %v, want %d", len(got), err, len(want))
			}
			f.waitCounts("the session ends", func(n Counts) bool { return n.Sessions == 0 })
		})
	}
}

// The FIN of a side that was shut before makes the kernel report a hang-up, on which nbio closes: nothing may be lost
// even though the reader is slow at that moment.
func TestHalfCloseWithASlowReader(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	for range 5 {
		c, o := f.open(b, "7")
		if err := c.tcp().CloseWrite(); err != nil {
			t.Fatal(err)
		}
		o.wantEnd()
		sent := make(chan error, 1)
		go func() {
			_, err := o.Write(burst[:3<<20])
			_ = o.Close()
			sent <- err
		}()
		want := sha256.Sum256(burst[:3<<20])
		f.waitPaused()
		h := sha256.New()
		if n, err := io.Copy(h, &trickle{r: c.br}); err != nil || [32]byte(h.Sum(nil)) != want {
			t.Fatalf("%d bytes and %v", n, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// trickle gives the sender time to fill what is between, now and then.
type trickle struct {
	r io.Reader
	n int
}

func (s *trickle) Read(b []byte) (int, error) {
	if s.n++; s.n%64 == 0 {
		runtime.Gosched()
	}
	return s.r.Read(b[:min(len(b), 10_000)])
}

// waitPaused waits until some leg is paused by its peer's pending bytes.
func (f *fixture) waitPaused() {
	f.t.Helper()
	eventually(f.t, "a reader is too slow", func() bool { return f.pausedLegs() > 0 })
}

func (f *fixture) pausedLegs() int {
	return f.sum(func(e *engine) (n int) {
		for s := range e.all {
			for i := range s.legs {
				if s.legs[i].is(paused) {
					n++
				}
			}
		}
		return n
	})
}

func TestResetPassesThrough(t *testing.T) {
	for _, who := range []string{"client", "origin"} {
		t.Run(who, func(t *testing.T) {
			b := newBackend(t)
			f := start(t, Config{}, b.addr())
			f.own()
			c, o := f.open(b, "7")
			one, other := c, o
			if who == "origin" {
				one, other = o, c
			}
			_ = one.tcp().SetLinger(0)
			_ = one.Close()
			other.wantReset()
			f.waitCounts("the session ends", func(n Counts) bool { return n.Sessions == 0 })
		})
	}
}

// An origin that sends, ends and is gone, so that what the client still sends is answered with a RST: what came before
// the end is the client's all the same, though it reads late.
func TestResetAfterTheEndTakesNothingAway(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "7")
	_ = c.tcp().SetReadBuffer(16 << 10)
	sent := 0
	for f.pausedLegs() == 0 {
		o.send(burst[sent : sent+16<<10]...)
		sent += 16 << 10
	}
	o.send(burst[sent : sent+32<<10]...) // waits in the relay's kernel, behind a paused leg
	sent += 32 << 10
	_ = o.Close()
	c.send([]byte("is anybody there?")...)
	f.waitState(stLinger)
	got, err := io.ReadAll(c.br)
	if err != nil || !bytes.Equal(got, burst[:sent]) {
		t.Errorf("%d bytes and %v, want %d", len(got), err, sent)
	}
}
