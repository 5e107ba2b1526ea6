package relay

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	origins "github.com/unitgate/unitgate/edge/origin"
	"github.com/unitgate/unitgate/events"
)

// of is what the relay believes of an origin.
func (f *fixture) of(addr string) origins.Status {
	f.t.Helper()
	for _, o := range f.Origins() {
		if o.Address == addr {
			return o
		}
	}
	return origins.Status{}
}

func (f *fixture) becomes(addr, state string) {
	f.t.Helper()
	eventually(f.t, addr+" is "+state, func() bool { return f.of(addr).State == state })
}

// server is an origin that treats every connection alike.
func server(t *testing.T, addr string, serve func(c *net.TCPConn)) (*net.TCPListener, *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var conns atomic.Int32
	var work sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); work.Wait() })
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			work.Go(func() { serve(c.(*net.TCPConn)); _ = c.Close() })
		}
	})
	return ln.(*net.TCPListener), &conns
}

// echoing accepts the handshake and sends back what follows it.
func echoing(c *net.TCPConn) {
	var b []byte
	for buf := make([]byte, 4096); !bytes.Contains(b, []byte("\r\n\r\n")); {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		b = append(b, buf[:n]...)
	}
	_, rest, _ := bytes.Cut(b, []byte("\r\n\r\n"))
	_, _ = c.Write(append([]byte(switching), rest...))
	_, _ = io.Copy(c, struct{ io.Reader }{c})
}

// readHeadOf reads a request and ignores it.
func readHeadOf(c *net.TCPConn) { _, _ = c.Read(make([]byte, 4096)) }

// Before a byte of an answer came, a failing origin costs no client its session: another one gets the same request, and
// what the client sent along; and the origin is left alone after three failures.
func TestAnotherOriginAnswers(t *testing.T) {
	closing, _ := server(t, "127.0.0.1:0", func(*net.TCPConn) {})
	reading, _ := server(t, "127.0.0.1:0", readHeadOf)
	resetting, _ := server(t, "127.0.0.1:0", func(c *net.TCPConn) { readHeadOf(c); _ = c.SetLinger(0) })
	for _, bad := range []struct{ what, addr, err string }{
		{"refuses", refusing(t), "refused"},
		{"hangs on connect", fullBacklog(t), "time"},
		{"closes at once", closing.Addr().String(), "without an answer"},
		{"closes on the request", reading.Addr().String(), "without an answer"},
		{"resets", resetting.Addr().String(), "without an answer"},
	} {
		t.Run(bad.what, func(t *testing.T) {
			good := newBackend(t)
			f := start(t, Config{Engines: 1}, bad.addr, good.addr())
			f.timeout = 100 * time.Millisecond
			f.own()
			frame := frameOf(0x82, []byte("glued"), true)
			for n := range 9 {
				client := f.connect(requestFor("7") + string(frame))
				o, head := good.next()
				if !strings.HasPrefix(head, "GET /chat HTTP/1.1\r\nHost: x\r\n") {
					t.Fatalf("%q", head)
				}
				o.send([]byte(switching)...)
				client.want([]byte(switching)...)
				o.want(frame...)
				o.send(frameOf(0x82, []byte{byte(n)}, false)...)
				client.want(frameOf(0x82, []byte{byte(n)}, false)...)
			}
			if st := f.of(bad.addr); st.State != "ejected" || st.Sessions != 0 || !strings.Contains(st.Error, bad.err) {
				t.Errorf("%+v", st)
			}
			if st := f.of(good.addr()); st.State != "healthy" || st.Sessions != 9 || st.Error != "" {
				t.Errorf("%+v", st)
			}
		})
	}
}

// Every origin is tried once, the ejected ones too, and then the client is told.
func TestEachOriginIsTriedOnce(t *testing.T) {
	var addrs []string
	var conns []*atomic.Int32
	for range 3 {
		ln, n := server(t, "127.0.0.1:0", readHeadOf)
		addrs, conns = append(addrs, ln.Addr().String()), append(conns, n)
	}
	f := start(t, Config{}, addrs...)
	f.own()
	for client := range int32(5) { // from the fourth on, all are ejected
		code, _, body := f.connect(requestFor("7")).status()
		if code != 502 || !strings.HasPrefix(body, "no origin") {
			t.Errorf("%d %q", code, body)
		}
		for i, n := range conns {
			if n.Load() != client+1 {
				t.Errorf("client %d: origin %d was tried %d times", client, i, n.Load())
			}
		}
	}
	for _, o := range f.Origins() {
		if o.State != "ejected" {
			t.Errorf("%+v", o)
		}
	}
}

// An answer is passed on, whatever it says, and so is half of one: the origin has begun to serve the request. What is an
// answer at all says that the origin is well.
func TestAnswersAreNotRetried(t *testing.T) {
	for _, c := range []struct {
		sent    string
		status  int
		blamed  bool
		failure string
	}{
		{"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nbad", 500, false, ""},
		{"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n", 503, false, ""},
		{"HTTP/1.1 101 Swi", 502, true, "without an answer"},
		{"HTTP/1.1 101 OK\r\nbroken\r\n\r\n", 502, true, "else than HTTP"},
	} {
		t.Run(c.sent[:15], func(t *testing.T) {
			answer := func(conn *net.TCPConn) { readHeadOf(conn); _, _ = conn.Write([]byte(c.sent)) }
			a, conns1 := server(t, "127.0.0.1:0", answer)
			b, conns2 := server(t, "127.0.0.1:0", answer)
			f := start(t, Config{Engines: 1}, a.Addr().String(), b.Addr().String())
			f.own()
			for client := range int32(6) {
				if code, _, _ := f.connect(requestFor("7")).status(); code != c.status {
					t.Errorf("%d, want %d", code, c.status)
				}
				if n := conns1.Load() + conns2.Load(); n != client+1 {
					t.Fatalf("client %d: %d connections to origins", client, n)
				}
			}
			for _, o := range f.Origins() {
				if (o.State == "ejected") != c.blamed || !strings.Contains(o.Error, c.failure) {
					t.Errorf("%+v", o)
				}
			}
		})
	}
}

// An interim response has reached the client: what follows comes from the same origin, or not at all.
func TestInterimAnswersAreNotRetried(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr(), refusing(t))
	f.own()
	p := f.connect(requestFor("7"))
	o, _ := b.next()
	o.send([]byte("HTTP/1.1 103 Hints\r\n\r\n")...)
	_ = o.Close()
	if got, err := io.ReadAll(p.br); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 502 ") {
		t.Errorf("%q %v", got, err)
	}
}

// An origin that takes connections and says nothing is found, though every client leaves before the edge gives up.
func TestImpatientClients(t *testing.T) {
	mute := newBackend(t)
	f := start(t, Config{}, mute.addr())
	f.own()
	var clients sync.WaitGroup
	for range 3 {
		p := f.connect(requestFor("7"))
		mute.next()
		_ = p.SetReadDeadline(time.Now().Add(2 * time.Second)) // its patience
		clients.Go(func() { _, _ = p.Read(make([]byte, 1)); _ = p.Close() })
	}
	clients.Wait()
	f.becomes(mute.addr(), "ejected")
}

// A client does not wait for every origin of a long list that hangs.
func TestDialBudget(t *testing.T) {
	f := start(t, Config{Engines: 1, DialTimeout: 100 * time.Millisecond, DialBudget: 150 * time.Millisecond},
		fullBacklog(t), fullBacklog(t), fullBacklog(t), fullBacklog(t))
	f.own()
	if code, _, _ := f.connect(requestFor("7")).status(); code != 502 {
		t.Errorf("%d", code)
	}
	tried := 0
	for _, o := range f.Origins() {
		tried += o.Failures
	}
	if tried < 1 || tried > 2 { // 2, or 1 where the first timeout is noticed as late as the end of the budget
		t.Errorf("%d origins were tried, want 2", tried)
	}
}

// The same for an origin whose answer the edge waited for in vain.
func TestSilentOrigin(t *testing.T) {
	mute, _ := server(t, "127.0.0.1:0", func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	f := start(t, Config{}, mute.Addr().String())
	f.reply = 20 * time.Millisecond
	f.own()
	for range 3 {
		if code, _, body := f.connect(requestFor("7")).status(); code != 504 || !strings.Contains(body, "in time") {
			t.Errorf("%d %q", code, body)
		}
	}
	f.becomes(mute.Addr().String(), "ejected")
}

// Counts are the edge's, not an engine's.
func TestLeastConnectionsOverEngines(t *testing.T) {
	var addrs []string
	for range 4 {
		ln, _ := server(t, "127.0.0.1:0", echoing)
		addrs = append(addrs, ln.Addr().String())
	}
	f := start(t, Config{Engines: 3}, addrs...)
	f.own()
	var clients []*peer
	for range 40 {
		p := f.connect(requestFor("7"))
		p.want([]byte(switching)...)
		clients = append(clients, p)
	}
	for _, o := range f.Origins() {
		if o.Sessions != 10 {
			t.Errorf("%+v", o)
		}
	}
	for _, p := range clients[:7] { // whoever has fewer gets the next ones
		_ = p.Close()
	}
	f.waitCounts("7 sessions end", func(c Counts) bool { return c.Sessions == 33 })
	for range 7 {
		f.connect(requestFor("7")).want([]byte(switching)...)
	}
	for _, o := range f.Origins() {
		if o.Sessions != 10 {
			t.Errorf("%+v", o)
		}
	}
}

// Probes take an origin out before a client meets it, and bring it back; without any they would all be down, and are
// used all the same.
func TestProbedOrigin(t *testing.T) {
	const ms = events.Duration(time.Millisecond)
	ln, _ := server(t, "127.0.0.1:0", echoing)
	other, _ := server(t, "127.0.0.1:0", echoing)
	addr := ln.Addr().String()
	f := start(t, Config{}, addr, other.Addr().String())
	f.health = &events.Health{Probe: "tcp", Interval: 5 * ms, Timeout: 1000 * ms, Rise: 2, Fall: 2}
	f.own()
	_ = ln.Close()
	f.becomes(addr, "down")
	for range 4 {
		f.connect(requestFor("7")).want([]byte(switching)...)
	}
	if st := f.of(addr); st.Sessions != 0 || st.Failures != 0 || st.Probe != "tcp" {
		t.Errorf("%+v", st)
	}
	_ = other.Close()
	f.becomes(other.Addr().String(), "down")
	server(t, addr, echoing)
	f.becomes(addr, "healthy")
	for range 4 {
		f.connect(requestFor("7")).want([]byte(switching)...)
	}
	if st := f.of(addr); st.Sessions != 4 {
		t.Errorf("%+v", st)
	}
}

// An origin that comes back is used again, also without probes: when all are ejected, clients still find it.
func TestOriginRecovers(t *testing.T) {
	addr := refusing(t)
	f := start(t, Config{}, addr)
	f.own()
	for range 3 {
		if code, _, _ := f.connect(requestFor("7")).status(); code != 502 {
			t.Errorf("%d", code)
		}
	}
	f.becomes(addr, "ejected")
	server(t, addr, echoing)
	f.connect(requestFor("7")).want([]byte(switching)...)
	f.becomes(addr, "healthy")
}

// A client whose origin fails after the list has changed goes to an origin of the new list.
func TestRetryOnTheNewList(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, fullBacklog(t))
	f.timeout = 300 * time.Millisecond
	f.own()
	p := f.connect(requestFor("7"))
	f.waitState(stDial)
	f.origins = []string{b.addr()}
	f.own()
	o, _ := b.next()
	o.send([]byte(switching)...)
	p.want([]byte(switching)...)
}

// G1: while the list changes again and again under load, no session notices, those of removed origins included: every
// byte comes back, on the same connection.
func TestListChangesUnderLoad(t *testing.T) {
	var addrs []string
	for range 5 {
		ln, _ := server(t, "127.0.0.1:0", echoing)
		addrs = append(addrs, ln.Addr().String())
	}
	f := start(t, Config{}, addrs[:3]...)
	f.own()
	const sessions = 40
	var chats sync.WaitGroup
	var rounds atomic.Int64
	stop := make(chan struct{})
	for n := range sessions {
		p := f.connect(requestFor(id(n)))
		p.want([]byte(switching)...)
		chats.Go(func() {
			if err := exact(p, uint64(n), stop, &rounds); err != nil {
				t.Errorf("session %d: %v", n, err)
			}
		})
	}
	r := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		r.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
		f.origins = append([]string(nil), addrs[:1+r.IntN(3)]...)
		f.timeout = time.Duration(1+r.IntN(2)) * time.Second
		f.own()
		p := f.connect(requestFor("7"))
		p.want([]byte(switching)...)
		_ = p.Close()
	}
	before := rounds.Load()
	eventually(t, "all talk on", func() bool { return rounds.Load() > before+10*sessions })
	var counted int64
	for _, o := range f.Origins() {
		counted += o.Sessions
		if in := strings.Contains(fmt.Sprint(f.origins), o.Address); (o.State == "removed") == in {
			t.Errorf("%+v with the list %v", o, f.origins)
		}
	}
	if counted < sessions || f.counts().Victims != 0 {
		t.Errorf("%d connections are counted for %d sessions, and %+v", counted, sessions, f.counts())
	}
	close(stop)
	chats.Wait()
}

// exact sends random messages and wants each back, until stop is closed.
func exact(p *peer, seed uint64, stop <-chan struct{}, rounds *atomic.Int64) error {
	r := rand.New(rand.NewPCG(seed, 1))
	for {
		select {
		case <-stop:
			return p.Close()
		default:
		}
		b := make([]byte, r.IntN(3000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b = frameOf(0x82, b, true)
		if _, err := p.Write(b); err != nil {
			return err
		}
		got := make([]byte, len(b))
		if _, err := io.ReadFull(p.br, got); err != nil {
			return err
		}
		if !bytes.Equal(got, b) {
			return fmt.Errorf("%d bytes came back changed", len(b))
		}
		rounds.Add(1)
	}
}
