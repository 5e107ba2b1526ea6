package relay

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/certs/certstest"
	"github.com/unitgate/unitgate/edge/front"
	"github.com/unitgate/unitgate/edge/limit"
	"github.com/unitgate/unitgate/events/routing"
)

const (
	frontV1    = "PROXY TCP4 203.0.113.9 10.0.0.1 56324 443\r\n"
	frontV2    = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\x0a\x00\x00\x01\xdc\x04\x01\xbb"
	frontV2TLS = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x14\xcb\x00\x71\x09\x0a\x00\x00\x01\xdc\x04\x01\xbb\x20\x00\x05\x01\x00\x00\x00\x00"
	frontLocal = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

// balanced is a relay behind a load balancer at 127.0.0.2, with a port for TLS as well.
func balanced(t *testing.T, cfg Config, origins ...string) (*fixture, *tls.Config) {
	t.Helper()
	cfg.ProxyProtocol = front.Trusted{netip.MustParsePrefix("127.0.0.2/32")}
	cfg.Addrs = []string{"127.0.0.1:0"}
	secure := useTLS(t, &cfg, certstest.New(t))
	f := start(t, cfg, origins...)
	f.own()
	return f, secure
}

// from connects from an address to the port for plain clients, or with secure to that for TLS, and says first before
// anything else, in one piece or byte by byte.
func (f *fixture) from(addr, first string, byteByByte bool, secure *tls.Config) *peer {
	f.t.Helper()
	to := f.Addrs()[0]
	if secure != nil {
		to = f.TLSAddrs()[0]
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	c, err := d.Dial("tcp", to)
	if err != nil {
		f.t.Fatal(err)
	}
	if byteByByte {
		for i := range len(first) {
			if _, err := io.WriteString(c, first[i:i+1]); err != nil {
				f.t.Fatal(err)
			}
			time.Sleep(time.Millisecond) // so that they come as several reads; whether they do is of no account
		}
	} else if secure == nil {
		_, err = io.WriteString(c, first)
	}
	if secure == nil {
		if err != nil {
			f.t.Fatal(err)
		}
		return newPeer(f.t, c)
	}
	// The header and the ClientHello in one piece, unless it went already.
	conn := &prefixed{Conn: c}
	if !byteByByte {
		conn.first = first
	}
	s := tls.Client(conn, secure)
	if err := s.Handshake(); err != nil {
		_ = c.Close()
		f.t.Fatal(err)
	}
	return newPeer(f.t, &tlsTransport{s, c.(*net.TCPConn)})
}

// prefixed puts something before the first write.
type prefixed struct {
	net.Conn
	first string
}

func (c *prefixed) Write(b []byte) (int, error) {
	if c.first == "" {
		return c.Conn.Write(b)
	}
	n, err := c.Conn.Write(append([]byte(c.first), b...))
	n = max(0, n-len(c.first))
	c.first = ""
	return n, err
}

// A header's source address is the client's for everything: X-Forwarded-For, and the key of a client without routerId
// under "unmarked: split". It may come in any pieces, alone or with what follows, before TLS as well.
func TestProxyHeader(t *testing.T) {
	b := newBackend(t)
	f, secure := balanced(t, Config{}, b.addr())
	v := f.view(routing.Compile(rules(t, 100)))
	v.Default.Unmarked = "split"
	if err := f.Install(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	unmarked := strings.Replace(requestFor("7"), "routerId: 7\r\n", "", 1)
	for _, c := range []struct{ what, header, source, proto string }{
		{"version 1", frontV1, "203.0.113.9", "http"},
		{"version 2", frontV2, "203.0.113.9", "http"},
		{"version 2, TLS ended there", frontV2TLS, "203.0.113.9", "https"},
		{"the balancer itself", frontLocal, "127.0.0.2", "http"},
		{"the balancer itself, version 1", "PROXY UNKNOWN\r\n", "127.0.0.2", "http"},
	} {
		for _, byteByByte := range []bool{false, true} {
			for _, secure := range []*tls.Config{nil, secure} {
				first, proto := c.header, c.proto
				if secure == nil {
					first += unmarked
				} else {
					proto = "https"
				}
				client := f.from("127.0.0.2", first, byteByByte, secure)
				if secure != nil {
					client.send([]byte(unmarked)...)
				}
				origin, head := b.next()
				if xff, xfp := fieldsOf(head, "X-Forwarded-For"), fieldsOf(head, "X-Forwarded-Proto"); len(xff) != 1 || xff[0] != c.source || len(xfp) != 1 || xfp[0] != proto {
					t.Errorf("%s, byte by byte %v, TLS %v: from %v over %v", c.what, byteByByte, secure != nil, xff, xfp)
				}
				origin.send([]byte(switching)...)
				client.want([]byte(switching)...)
				if n := f.CountRouter(testType, c.source); n != 1 {
					t.Errorf("%s: %d sessions of %s", c.what, n, c.source)
				}
				client.send(frameOf(0x81, []byte("hello"), true)...)
				origin.want(frameOf(0x81, []byte("hello"), true)...)
				_, _ = client.Close(), origin.Close()
				f.waitCounts("it ends", func(n Counts) bool { return n.Sessions == 0 })
			}
		}
	}
}

// Nobody else may say who he is, and the balancer must.
func TestProxyHeaderRefused(t *testing.T) {
	f, secure := balanced(t, Config{HandshakeTimeout: time.Hour}) // nobody is late, however slow the machine is
	hasty, _ := balanced(t, Config{HandshakeTimeout: 300 * time.Millisecond})
	for _, c := range []struct {
		what, from, first string
		status            int
		says              string
	}{
		{"missing", "127.0.0.2", requestFor("7"), 400, "no PROXY header"},
		{"bad", "127.0.0.2", "PROXY TCP4 nonsense\r\n" + requestFor("7"), 400, "bad PROXY header"},
		{"bad, version 2", "127.0.0.2", strings.Replace(frontV2, "\x21\x11", "\x22\x11", 1), 400, "bad PROXY header"},
		{"not complete", "127.0.0.2", frontV2[:20], 408, ""},
		{"nothing", "127.0.0.2", "", 408, ""},
		{"from somebody", "127.0.0.1", frontV1 + requestFor("7"), 400, "--proxy-protocol"},
		{"from somebody, version 2", "127.0.0.1", frontV2 + requestFor("7"), 400, "--proxy-protocol"},
		{"twice", "127.0.0.2", frontV1 + frontV1 + requestFor("7"), 400, "--proxy-protocol"},
	} {
		f := f
		if c.status == 408 {
			f = hasty
		}
		p := f.from(c.from, c.first, false, nil)
		if code, _, body := p.status(); code != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %q", c.what, code, body)
		}
		p.wantEnd()
	}
	// On the port for TLS whoever speaks HTTP learns why; a ClientHello has no answer that its sender understands.
	for _, c := range []struct{ what, from, first, says string }{
		{"missing, HTTP", "127.0.0.2", requestFor("7"), "HTTP/1.1 400"},
		{"missing, TLS", "127.0.0.2", "\x16\x03\x01\x00\x05hello", ""},
		{"not complete", "127.0.0.2", frontV1[:20], ""},
		{"from somebody", "127.0.0.1", frontV1, "HTTP/1.1 400"},
		{"from somebody, version 2", "127.0.0.1", frontV2, ""},
	} {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}}
		f := f
		if c.what == "not complete" {
			f = hasty
		}
		conn, err := d.Dial("tcp", f.TLSAddrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		p := newPeer(t, conn)
		p.send([]byte(c.first)...)
		got, _ := io.ReadAll(p.br)
		if c.says == "" && len(got) > 0 || !strings.HasPrefix(string(got), c.says) {
			t.Errorf("TLS, %s: %q", c.what, got)
		}
	}
	_ = secure
}

// Limits are answered with 503 or 429 and a jittered Retry-After, over TLS as well, and count by the address that the
// load balancer tells. A connection that ends makes room.
func TestLimits(t *testing.T) {
	b := newBackend(t)
	f, secure := balanced(t, Config{Limits: limit.Limits{Connections: 6, PerAddress: 2}}, b.addr())
	source := func(n string) string { return strings.Replace(frontV1, "203.0.113.9", n, 1) }
	open := func(addr, first string, secure *tls.Config) *peer {
		t.Helper()
		p := f.from(addr, first, false, secure)
		p.send([]byte(requestFor("7"))...)
		o, _ := b.next()
		o.send([]byte(switching)...)
		p.want([]byte(switching)...)
		return p
	}
	refused := func(addr, first string, secure *tls.Config, want int, says string) {
		t.Helper()
		p := f.from(addr, first, false, secure)
		p.send([]byte(requestFor("7"))...)
		if code, resp, body := p.status(); code != want || !jittered(resp.Header.Get("Retry-After")) || !strings.Contains(body, says) {
			t.Errorf("%d %v %q", code, resp.Header, body)
		}
		_ = p.Close()
		eventually(t, "it is gone", func() bool { return f.gate.Counts().Connections == f.counts().Sessions })
	}
	a := open("127.0.0.1", "", nil)
	open("127.0.0.1", "", secure)
	refused("127.0.0.1", "", nil, 429, "this address")
	refused("127.0.0.1", "", secure, 429, "this address")
	open("127.0.0.2", source("203.0.113.1"), nil)
	open("127.0.0.2", source("203.0.113.1"), secure)
	refused("127.0.0.2", source("203.0.113.1"), nil, 429, "this address")
	refused("127.0.0.2", source("203.0.113.1"), secure, 429, "this address")
	open("127.0.0.2", source("203.0.113.2"), nil)
	open("127.0.0.2", source("203.0.113.3"), nil)
	refused("127.0.0.2", source("203.0.113.4"), nil, 503, "all the connections")
	refused("127.0.0.3", "", secure, 503, "all the connections")
	_ = a.tcp().SetLinger(0)
	_ = a.Close()
	f.waitCounts("there is room", func(n Counts) bool { return n.Sessions == 5 })
	open("127.0.0.1", "", nil)
	if c := f.Clients(); c.Connections != 6 || c.Refused != (limit.Reason{Connections: 2, PerAddress: 4}) || c.Unanswered != 0 {
		t.Errorf("%+v", c)
	}
}

func TestRateLimits(t *testing.T) {
	f, _ := balanced(t, Config{Limits: limit.Limits{Rate: 3, RatePerAddress: 2}, HandshakeTimeout: 500 * time.Millisecond})
	var codes []int
	began := time.Now()
	for _, addr := range []string{"127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.3", "127.0.0.4"} {
		p := f.from(addr, "GET /.unitgate/locate?routerId=1 HTTP/1.1\r\nHost: x\r\n\r\n", false, nil)
		code, resp, _ := p.status()
		if codes = append(codes, code); code == 429 && !jittered(resp.Header.Get("Retry-After")) || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%d %v", code, resp.Header)
		}
	}
	c := f.Clients().Refused
	// In the time that this took, tokens may have come back: then fewer are refused, never more, and on a slow machine none.
	none := c.Rate+c.RatePerAddress == 0 && time.Since(began) < time.Second/3
	if codes[0] != 200 || codes[1] != 200 || codes[3] != 200 || c.PerAddress+c.Connections > 0 || c.Rate > 1 || c.RatePerAddress > 1 || none {
		t.Errorf("%v %+v", codes, c)
	}
	eventually(t, "they come in again", func() bool {
		p := f.from("127.0.0.1", "GET /.unitgate/locate?routerId=1 HTTP/1.1\r\nHost: x\r\n\r\n", false, nil)
		code, _, _ := p.status()
		return code == 200
	})
	// Who is refused and says nothing is answered in the end.
	for range 3 {
		p := f.from("127.0.0.5", "", false, nil)
		defer p.Close()
	}
	p := f.from("127.0.0.5", "", false, nil)
	if code, _, _ := p.status(); code != 429 && code != 408 {
		t.Errorf("%d", code)
	}
}

// What a balancer without PROXY headers does is counted and said, also where nothing can be answered.
func TestBalancerThatSendsNoHeaderIsNoticed(t *testing.T) {
	var said syncBuffer
	b := newBackend(t)
	f, secure := balanced(t, Config{Logger: slog.New(slog.NewTextHandler(&said, nil))}, b.addr())
	for range 3 {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}).Dial("tcp", f.TLSAddrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := tls.Client(c, secure).Handshake(); err == nil {
			t.Error("a handshake without a PROXY header is taken")
		}
		_ = c.Close()
	}
	eventually(t, "they are counted", func() bool {
		return f.Relay.counter(verdict{unitType: testType, code: "bad_front"}).Load() == 3
	})
	if n := strings.Count(said.String(), "level=WARN"); n != 1 || !strings.Contains(said.String(), "from=127.0.0.2") {
		t.Errorf("it says %s", said.String())
	}
}
