package relay

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/unitgate/unitgate/edge/certs/certstest"
	"github.com/unitgate/unitgate/events/routing"
)

// startTLS is start with clients that speak TLS.
func startTLS(t *testing.T, cfg Config, origins ...string) *fixture {
	t.Helper()
	secure := useTLS(t, &cfg, certstest.New(t))
	f := start(t, cfg, origins...)
	f.secure = secure
	return f
}

// scratchIsEmpty: what one session wrote may not wait for the next one to take it along.
func (f *fixture) scratchIsEmpty() {
	f.t.Helper()
	if n := f.sum(func(e *engine) int { return len(e.tls.out) + len(e.tls.in) }); n > 0 {
		f.t.Errorf("%d bytes wait in the engine's TLS buffers", n)
	}
}

func TestTLSAlertsStayInTheirSession(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{Engines: 1}, b.addr())
	f.own()
	c, o := f.openRaw(b, "1")
	go echo(o)
	other := func() {
		t.Helper()
		f.scratchIsEmpty()
		c.send([]byte("ping"))
		c.want([]byte("ping"))
	}
	for what, wrong := range map[string]func(*rawTLS) []byte{
		"tampered": func(c *rawTLS) []byte {
			r := c.out.seal(recordApplication, []byte("x"), 0)
			r[len(r)-1] ^= 1
			return r
		},
		"unknown type":   func(c *rawTLS) []byte { return c.out.seal(99, []byte("x"), 0) },
		"hello again":    func(c *rawTLS) []byte { return c.out.seal(recordHandshake, []byte{1, 0, 0, 0}, 0) },
		"no alert":       func(c *rawTLS) []byte { return c.out.seal(recordAlert, []byte{1, 2, 3}, 0) },
		"plain bytes":    func(*rawTLS) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") },
		"update, broken": func(c *rawTLS) []byte { return append(c.keyUpdate(updateBoth), c.out.seal(99, []byte("x"), 0)...) },
		"too long":       func(*rawTLS) []byte { return []byte{recordApplication, 3, 3, 0xff, 0xff} },
		"many empty ones": func(c *rawTLS) (all []byte) {
			for range 40 {
				all = append(all, c.out.seal(recordApplication, nil, 7)...)
			}
			return all
		},
	} {
		t.Run(what, func(t *testing.T) {
			bad, origin := f.openRaw(b, "2")
			bad.put(wrong(bad))
			for {
				kind, payload, err := bad.record()
				if err != nil {
					t.Fatalf("no alert came: %v", err)
				}
				if kind == recordAlert {
					if payload[0] != 2 {
						t.Errorf("alert %x, want a fatal one", payload)
					}
					break
				}
			}
			if _, _, err := bad.record(); err == nil {
				t.Error("the connection goes on after a fatal alert")
			}
			origin.wantReset()
			other()
		})
	}
	// An alert, or a close_notify, for a client that is not there any more.
	for range 5 {
		gone, origin := f.openRaw(b, "3")
		gone.put(append(gone.keyUpdate(updateBoth), gone.out.seal(99, nil, 0)...))
		_ = gone.tcp.SetLinger(0)
		_ = gone.tcp.Close()
		origin.wantReset()
		other()
		gone, origin = f.openRaw(b, "3")
		_ = gone.tcp.Close()
		origin.wantEnd()
		_ = origin.Close()
		other()
	}
}

func TestTLSKeyUpdate(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{}, b.addr())
	f.own()
	c, o := f.openRaw(b, "7")
	// The answer comes at once, not with the origin's next bytes.
	c.put(c.keyUpdate(updateBoth))
	c.wantRecord(recordHandshake, msgKeyUpdate, 0, 0, 1, updateMine)
	go echo(o)
	for i := range 40 {
		request := byte(i % 2)
		c.put(c.keyUpdate(request))
		c.send([]byte("under new keys"))
		if request == updateBoth {
			c.wantRecord(recordHandshake, msgKeyUpdate, 0, 0, 1, updateMine)
		}
		c.want([]byte("under new keys"))
	}
	// The message in several records, byte by byte.
	message := []byte{msgKeyUpdate, 0, 0, 1, updateBoth}
	for _, x := range message {
		c.put(c.out.seal(recordHandshake, []byte{x}, 0))
	}
	c.out = c.out.next()
	c.wantRecord(recordHandshake, msgKeyUpdate, 0, 0, 1, updateMine)
	c.send([]byte("ping"))
	c.want([]byte("ping"))
	// Answered even while the relay has nothing more to say otherwise; then nobody needs the answer.
	f.scratchIsEmpty()
}

// A client that asks for answers without end and does not read them: what waits for it is bounded.
func TestTLSKeyUpdateFlood(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{Engines: 1}, b.addr())
	f.own()
	c, o := f.openRaw(b, "7")
	_ = c.tcp.SetReadBuffer(4 << 10)
	go func() { _, _ = io.Copy(io.Discard, o.br) }()
	stop, most := make(chan struct{}), make(chan int)
	go func() {
		highest := 0
		for {
			select {
			case <-stop:
				most <- highest
				return
			default:
				highest = max(highest, f.sum(func(e *engine) (n int) {
					for s := range e.all {
						n = max(n, int(s.legs[client].pending))
					}
					return n
				}))
			}
		}
	}()
	var err error
	for sent := 0; err == nil && sent < 64<<20; {
		var batch []byte
		for range 200 {
			batch = append(batch, c.keyUpdate(updateBoth)...)
			batch = append(batch, c.out.seal(recordApplication, []byte("x"), 0)...)
		}
		var n int
		n, err = c.tcp.Write(batch)
		sent += n
	}
	close(stop)
	if err == nil {
		t.Error("the client may go on for ever")
	}
	if n := <-most; n > maxAnswers+64<<10 {
		t.Errorf("%d bytes waited", n)
	}
	f.waitCounts("the session ends", func(n Counts) bool { return n.Sessions == 0 })
}

// What stands behind the Finished in the same segment comes with no event of its own.
func TestTLSBytesBehindTheHandshake(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{}, b.addr())
	f.own()
	for _, size := range []int{0, 1, 5000, 1 << 20} { // the last one streams at once: it is paused, not refused
		c := f.dialRaw(true)
		glued := burst[:size]
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.send(append([]byte(requestFor("7")), glued...))
		}()
		o, _ := b.next()
		o.send([]byte(switching)...)
		c.want([]byte(switching))
		o.want(glued...)
		<-done
	}
}

// While the handshake waits for its turn, what the client sends waits in the kernel.
func TestTLSClientAheadOfTheHandshake(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{Engines: 1}, b.addr())
	f.own()
	c := f.dialRaw(true)
	for range cap(f.tlsPermits) {
		f.tlsPermits <- struct{}{}
	}
	glued := burst[:3<<20]
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.send(append([]byte(requestFor("7")), glued...))
	}()
	waiting := func() int {
		return f.sum(func(e *engine) (n int) {
			for s := range e.all {
				if s.state == stTLS {
					s.tls.hs.mu.Lock()
					n += len(s.tls.hs.in)
					s.tls.hs.mu.Unlock()
				}
			}
			return n
		})
	}
	eventually(t, "the client is far ahead", func() bool { return waiting() == tlsAhead })
	for range cap(f.tlsPermits) {
		<-f.tlsPermits
	}
	o, _ := b.next()
	o.send([]byte(switching)...)
	c.want([]byte(switching))
	o.want(glued...)
	<-done
}

func TestReadAll(t *testing.T) {
	buf := make([]byte, 100)
	// Bytes and an error in one call, as tls.Conn does it when an alert is there already.
	n, err := readAll(iotest.DataErrReader(strings.NewReader("last words")), buf)
	if string(buf[:n]) != "last words" || !errors.Is(err, io.EOF) {
		t.Errorf("%q %v", buf[:n], err)
	}
	n, err = readAll(io.MultiReader(strings.NewReader("some"), iotest.ErrReader(laterError{})), buf)
	if string(buf[:n]) != "some" || err != nil {
		t.Errorf("%q %v", buf[:n], err)
	}
	if n, err = readAll(endless{}, buf); n != len(buf) || err == nil {
		t.Errorf("a reader that never ends: %d %v", n, err)
	}
}

// No byte beyond a record is handed out, however records arrive, and all of them are.
func TestRecordEnd(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var stream []byte
		ends := map[int]bool{}
		for range 1 + rnd.IntN(5) {
			n := []int{0, 1, 2, 300, 16640}[rnd.IntN(5)]
			stream = append(stream, 23, 3, 3, byte(n>>8), byte(n))
			stream = append(stream, make([]byte, n)...)
			ends[len(stream)] = true
		}
		var r recordEnd
		for at := 0; at < len(stream); {
			fed := min(1+rnd.IntN(1+rnd.IntN(20000)), len(stream)-at)
			n := r.within(stream[at : at+fed])
			for i := at + 1; i < at+n; i++ {
				if ends[i] {
					t.Fatalf("%d bytes from %d cross the end of a record at %d", n, at, i)
				}
			}
			if n < fed && !ends[at+n] || n == 0 {
				t.Fatalf("only %d bytes of %d from %d", n, fed, at)
			}
			at += n
		}
	}
}

// crypto/tls keeps a buffer of twice what it was handed beyond one record.
func TestTLSKeepsSmallBuffers(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{Engines: 1}, b.addr())
	f.own()
	c, o := f.openRaw(b, "7")
	go echo(o)
	buffered := func() (n int) {
		f.sum(func(e *engine) int {
			for s := range e.all {
				n = reflect.ValueOf(s.tls.conn).Elem().FieldByName("rawInput").FieldByName("buf").Cap()
			}
			return 0
		})
		return n
	}
	for _, r := range []struct{ size, most int }{{14, 3 << 10}, {16 << 10, 20 << 10}} {
		var all, want []byte
		for range 400_000 / r.size {
			all = append(all, c.out.seal(recordApplication, burst[:r.size], 0)...)
			want = append(want, burst[:r.size]...)
		}
		go c.put(all)
		c.want(want)
		if n := buffered(); n > r.most {
			t.Errorf("after records of %d bytes crypto/tls holds %d", r.size, n)
		} else {
			t.Logf("after records of %d bytes crypto/tls holds %d", r.size, n)
		}
	}
}

// Hellos are longer than browsers' when a client offers a lot: up to 32 KiB, which arrive in parts, are taken.
func TestTLSLongHello(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{}, b.addr())
	f.own()
	for range 100 {
		f.secure.NextProtos = append(f.secure.NextProtos, strings.Repeat("x", 200))
	}
	f.secure.NextProtos = append(f.secure.NextProtos, "http/1.1")
	f.open(b, "7")
	f.secure.NextProtos = append(f.secure.NextProtos, f.secure.NextProtos...)
	if c, err := f.dial(); err == nil {
		_ = c.Close()
		t.Error("a hello of 40 KB was taken")
	}
}

// Clients that stop in the middle of their handshake take no turn from others.
func TestTLSHandshakeWaitsWithoutAPermit(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{}, b.addr())
	f.own()
	for range cap(f.tlsPermits) + 4 {
		f.dialRaw(true) // its Finished never comes
	}
	f.openRaw(b, "7")
}

// A handshake that dies takes everything with it: the fixture counts goroutines and descriptors.
func TestTLSDeadHandshakes(t *testing.T) {
	f := startTLS(t, Config{HandshakeTimeout: 300 * time.Millisecond})
	f.own()
	hello := helloOf(t, f.secure)
	var all sync.WaitGroup // most are waited for until their time is over
	for name, sent := range map[string][]byte{
		"nothing": nil, "half a header": hello[:3], "half a hello": hello[:len(hello)/2], "a hello": hello,
		"a hello and half a record": append(bytes.Clone(hello), 22, 3, 3, 0, 100, 1), "garbage": []byte("\x16\x03\x01\x00\x05hello"),
		"another protocol": []byte("\x00\x01\x02"), "an endless hello": endlessHello(),
	} {
		for _, how := range []string{"silent", "fin", "rst"} {
			c, err := net.Dial("tcp", f.TLSAddrs()[0])
			if err != nil {
				t.Fatal(err)
			}
			p := newPeer(t, c)
			_, _ = c.Write(sent)
			switch how {
			case "fin":
				_ = p.tcp().CloseWrite()
			case "rst":
				_ = p.tcp().SetLinger(0)
				_ = c.Close()
				continue
			}
			all.Go(func() {
				if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
					t.Errorf("%s, %s: %v", name, how, err)
				}
				_ = c.Close()
			})
		}
	}
	all.Wait()
	// A request's head is under the same deadline as the handshake before it.
	c := f.dialRaw(false)
	c.send([]byte(requestFor("7")[:50]))
	c.want([]byte("HTTP/1.1 408 "))
	f.waitCounts("nothing is left", func(Counts) bool { return f.sum(func(e *engine) int { return len(e.all) }) == 0 })
}

// helloOf is what a client says first.
func helloOf(t *testing.T, cfg *tls.Config) []byte {
	t.Helper()
	c, s := net.Pipe()
	defer s.Close()
	go func() { _ = tls.Client(c, cfg).Handshake(); _ = c.Close() }()
	b := make([]byte, 16<<10)
	n, err := s.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// endlessHello is a hello of 60,000 bytes in many records.
func endlessHello() []byte {
	b := []byte{22, 3, 1, 0, 4, 1, 0, 0xea, 0x60}
	for range 600 {
		b = append(b, 22, 3, 1, 0, 100)
		b = append(b, make([]byte, 100)...)
	}
	return b
}

func TestTLSSaysItsEnd(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{}, b.addr())
	f.own()
	t.Run("origin ends", func(t *testing.T) {
		c, o := f.openRaw(b, "1")
		o.send([]byte("bye")...)
		_ = o.tcp().CloseWrite()
		c.want([]byte("bye"))
		c.wantEnd()
		// Its own direction goes on, beyond the deadlines that crypto/tls sets around close_notify.
		for range 20 {
			c.send([]byte("still here"))
			o.want([]byte("still here")...)
		}
		c.put(c.keyUpdate(updateBoth)) // nothing may be sent any more
		c.put(c.out.seal(recordAlert, []byte{1, alertClosed}, 0))
		o.wantEnd()
		f.scratchIsEmpty()
	})
	t.Run("client ends", func(t *testing.T) {
		c, o := f.openRaw(b, "2")
		c.put(append(c.out.seal(recordApplication, []byte("bye"), 0), c.out.seal(recordAlert, []byte{1, alertClosed}, 0)...))
		o.want([]byte("bye")...)
		o.wantEnd()
		o.send([]byte("still here")...)
		c.want([]byte("still here"))
		_ = o.Close()
		c.wantEnd()
	})
	t.Run("client ends without a word", func(t *testing.T) {
		c, o := f.openRaw(b, "3")
		c.send([]byte("bye"))
		_ = c.tcp.CloseWrite()
		o.want([]byte("bye")...)
		o.wantEnd()
		_ = o.Close()
		c.wantEnd()
	})
	t.Run("client is cut off in a record", func(t *testing.T) {
		c, o := f.openRaw(b, "4")
		r := c.out.seal(recordApplication, []byte("bye"), 0)
		c.put(r[:len(r)-1])
		_ = c.tcp.CloseWrite()
		o.wantReset()
	})
	t.Run("client gives up with an alert", func(t *testing.T) {
		c, o := f.openRaw(b, "5")
		c.put(c.out.seal(recordAlert, []byte{2, 80}, 0))
		o.wantReset()
	})
	f.waitCounts("the sessions end", func(n Counts) bool { return n.Sessions == 0 })
}

// The closing handshake of an eviction: Close frame, close_notify, FIN.
func TestTLSEviction(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{}, b.addr())
	f.own()
	c, o := f.openRaw(b, "60")
	f.fence(50)
	f.Evict(testType, 0)
	c.want(append([]byte{0x88, 16, 3, 0xf4}, "moved to there"...))
	c.send(closeFrame(1012, true))
	o.want(closeFrame(1012, true)...)
	o.wantEnd()
	c.wantEnd()
	_, _ = o.Close(), c.tcp.Close()
	f.waitDrained()
}

func TestTLSVersionsAndProtocols(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{}, b.addr())
	f.own()
	for _, c := range []struct {
		min, max uint16
		protos   []string
		want     string
	}{
		{tls.VersionTLS10, tls.VersionTLS11, nil, "error"},
		{tls.VersionTLS12, tls.VersionTLS12, nil, ""},
		{tls.VersionTLS12, tls.VersionTLS12, []string{"h2", "http/1.1"}, "http/1.1"},
		{tls.VersionTLS13, tls.VersionTLS13, []string{"http/1.1"}, "http/1.1"},
		{tls.VersionTLS13, tls.VersionTLS13, []string{"h2"}, "error"},
	} {
		cfg := f.secure.Clone()
		cfg.MinVersion, cfg.MaxVersion, cfg.NextProtos = c.min, c.max, c.protos
		conn, err := tls.Dial("tcp", f.TLSAddrs()[0], cfg)
		got := "error"
		if err == nil {
			got = conn.ConnectionState().NegotiatedProtocol
			_ = conn.Close()
		} else if !strings.Contains(err.Error(), "remote error") {
			t.Errorf("%+v: %v, want an alert", c, err)
		}
		if got != c.want {
			t.Errorf("%+v: got %q and %v", c, got, err)
		}
	}
	// TLS 1.2 has its own record layer; the tunnel is the same.
	f.secure.MaxVersion = tls.VersionTLS12
	c, o := f.open(b, "7")
	go echo(o)
	go c.send(burst[:1<<20]...)
	c.want(burst[:1<<20]...)
}

func TestTLSResumption(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{}, b.addr())
	f.own()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f.secure.MaxVersion, f.secure.ClientSessionCache = version, tls.NewLRUClientSessionCache(10)
		for _, resumed := range []bool{false, true, true} {
			c, o := f.open(b, "7")
			if got := c.Conn.(*tlsTransport).ConnectionState().DidResume; got != resumed {
				t.Errorf("%s: resumed %v, want %v", tls.VersionName(version), got, resumed)
			}
			o.send([]byte("hello")...)
			c.want([]byte("hello")...) // the ticket comes before it
		}
	}
}

// What the request says of itself, and where a redirect leads, follows from how the client came.
func TestTLSIsPassedOn(t *testing.T) {
	b := newBackend(t)
	f := startTLS(t, Config{}, b.addr())
	f.own()
	f.connect(strings.Replace(requestFor("7"), "\r\n\r\n", "\r\nX-Forwarded-Proto: ftp\r\n\r\n", 1))
	if _, head := b.next(); !strings.Contains(head, "\r\nX-Forwarded-Proto: https\r\n") || strings.Contains(head, "ftp") {
		t.Errorf("the origin got %q", head)
	}
	v := f.view(routing.Compile(rules(t, 50)))
	v.Fallback.Scheme = "auto"
	if err := f.Install(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	p := f.connect(requestFor("77"))
	if code, resp, _ := p.status(); code != 302 || resp.Header.Get("Location") != "https://there.example/chat" {
		t.Errorf("%d %v", code, resp.Header)
	}
	f.secure = nil
	p = f.connect(requestFor("77"))
	if code, resp, _ := p.status(); code != 302 || resp.Header.Get("Location") != "http://there.example/chat" {
		t.Errorf("without TLS: %d %v", code, resp.Header)
	}
}

func TestPlainRequestOnATLSPort(t *testing.T) {
	f := startTLS(t, Config{})
	c, err := net.Dial("tcp", f.TLSAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, c)
	p.send([]byte(requestFor("7"))...)
	if code, _, body := p.status(); code != 400 || !strings.Contains(body, "https") {
		t.Errorf("%d %q", code, body)
	}
	p.wantEnd()
}

func TestTLSNeedsACertificate(t *testing.T) {
	r, err := New(Config{TLSAddrs: []string{"127.0.0.1:0"}})
	if err == nil {
		_ = r.Close(t.Context())
		t.Error("no error")
	}
}

// Close ends what is in the middle of its handshake.
func TestCloseDuringTLSHandshakes(t *testing.T) {
	f := startTLS(t, Config{HandshakeTimeout: time.Hour})
	f.own()
	for range 5 {
		c := f.dialRaw(true)
		_ = c
	}
	eventually(t, "the handshakes wait", func() bool { return f.waitingHandshakes() == 5 })
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func (f *fixture) waitingHandshakes() int {
	return f.sum(func(e *engine) (n int) {
		for s := range e.all {
			if s.state == stTLS && s.tls.hs.room() == tlsAhead {
				n++
			}
		}
		return n
	})
}
