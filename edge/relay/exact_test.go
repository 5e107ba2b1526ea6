package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// A message of 100 MB, and a short one behind it, both ways at once.
func TestMessageOf100MB(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "7")
	const size = 100 << 20
	results := make(chan error, 4)
	for i, p := range []*peer{c, o} {
		go func() {
			err := writeFlood(p, i, size, 64<<10)
			if err == nil {
				err = p.tcp().CloseWrite()
			}
			results <- err
		}()
		go func() {
			n, err := checkFlood(p.br, 1-i, size)
			if err != nil {
				err = fmt.Errorf("of %d bytes %d: %w", size, n, err)
			}
			results <- err
		}()
	}
	for range 4 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	f.waitCounts("the session ends", func(n Counts) bool { return n.Sessions == 0 })
}

// Bytes that the origin sends along with its 101, more than one read takes, and the end of its stream with them.
func TestBytesGluedToTheResponse(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	for _, n := range []int{1, 5000, 16 << 10, 300_000} {
		c := f.connect(requestFor("7"))
		o, _ := b.next()
		glued := frameOf(0x82, burst[:n], false)
		o.send(append([]byte(switching), glued...)...)
		_ = o.tcp().CloseWrite()
		if h := c.head(); h != switching {
			t.Fatalf("%q", h)
		}
		c.want(glued...)
		c.wantEnd()
		_ = c.Close()
	}
}

// Messages that client and origin, of a library that knows nothing of us, compress with permessage-deflate (RFC 7692):
// the extension is agreed through the relay, and the frames pass as they are. With context takeover a single byte that
// is lost or doubled spoils everything behind it.
func TestCompressedMessages(t *testing.T) {
	for name, mode := range map[string]websocket.CompressionMode{
		"context takeover": websocket.CompressionContextTakeover, "no context takeover": websocket.CompressionNoContextTakeover,
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: mode, InsecureSkipVerify: true})
				if err != nil {
					t.Error(err)
					return
				}
				defer c.CloseNow()
				c.SetReadLimit(-1)
				for {
					typ, b, err := c.Read(r.Context())
					if err != nil {
						return
					}
					if err := c.Write(r.Context(), typ, b); err != nil {
						return
					}
				}
			}))
			defer srv.Close()
			f := start(t, Config{}, strings.TrimPrefix(srv.URL, "http://"))
			f.own()
			talkCompressed(t, f, mode)
		})
	}
}

func talkCompressed(t *testing.T, f *fixture, mode websocket.CompressionMode) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c, res, err := websocket.Dial(ctx, "ws://"+f.Addrs()[0]+"/chat", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: http.Header{"routerId": {"7"}}, CompressionMode: mode,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if ext := res.Header.Get("Sec-WebSocket-Extensions"); !strings.HasPrefix(ext, "permessage-deflate") {
		t.Fatalf("the extension is %q", ext)
	}
	c.SetReadLimit(-1)
	rnd := rand.New(rand.NewPCG(7, 8))
	for _, size := range []int{0, 1, 600, 70_000, 3 << 20, 600, 512, 1 << 20, 5} {
		msg := bytes.Repeat([]byte("compressible "), size/13+1)[:size]
		for i := 0; i < size; i += 100 {
			msg[i] = byte(rnd.Uint32())
		}
		sent := make(chan error, 1)
		go func() { sent <- c.Write(ctx, websocket.MessageBinary, msg) }()
		_, got, err := c.Read(ctx)
		if err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("%d bytes came back and %v, want %d", len(got), err, size)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Error(err)
	}
}

// Both directions stream at once, in pieces of any size, and each ends while the other one goes on: every order of the
// four events, last byte and end of either side, is byte-exact.
func TestStreamsOfAnyLengthsBothWays(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	rnd := rand.New(rand.NewPCG(9, 10))
	var wg sync.WaitGroup
	for range 40 {
		c, o := f.open(b, "7")
		for _, way := range [][2]*peer{{c, o}, {o, c}} {
			n := []int{0, 1, 1000, 100_000, 1 << 20, 5 << 20}[rnd.IntN(6)]
			seed := rnd.Uint64()
			wg.Go(func() {
				own := rand.New(rand.NewPCG(seed, 0))
				for at := 0; at < n; {
					k := min(n-at, 1+own.IntN(1<<own.IntN(18)))
					if _, err := way[0].Write(burst[at : at+k]); err != nil {
						t.Error(err)
						return
					}
					at += k
				}
				_ = way[0].tcp().CloseWrite()
			})
			wg.Go(func() {
				h := sha256.New()
				got, err := io.CopyBuffer(h, &trickle{r: way[1].br}, make([]byte, 9000))
				if err != nil || int(got) != n || [32]byte(h.Sum(nil)) != sha256.Sum256(burst[:n]) {
					t.Errorf("%d of %d bytes arrived and %v", got, n, err)
				}
			})
		}
	}
	wg.Wait()
	f.waitCounts("the sessions end", func(n Counts) bool { return n.Sessions == 0 })
}
