package edge_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/edge/front"
	"github.com/unitgate/unitgate/edge/limit"
	"github.com/unitgate/unitgate/events"
)

// handshake is a request to the host of the namespace; see newNamespace. Each change is a header line that replaces that
// of its name; "-Name" removes it. The first one may be a request line instead.
func handshake(changes ...string) string {
	lines := []string{
		"GET / HTTP/1.1", "Host: websocket.localhost", "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "routerId: 8330",
	}
	for _, c := range changes {
		if strings.Contains(c, " HTTP/") {
			lines[0] = c
			continue
		}
		name, _, has := strings.Cut(strings.TrimPrefix(c, "-"), ":")
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") })
		if has {
			lines = append(lines, c)
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// line is a connection to an edge.
type line struct {
	net.Conn
	t  *testing.T
	br *bufio.Reader
}

// call connects from an address of loopback and sends a request.
func call(t *testing.T, from string, e *edge.Edge, request string) *line {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", e.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return &line{c, t, bufio.NewReader(c)}
}

// response reads the answer. But for a 101 it is whole: the edge closes behind it.
func (l *line) response() (*http.Response, string) {
	l.t.Helper()
	resp, err := http.ReadResponse(l.br, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || !resp.Close {
		l.t.Fatalf("%d: %v, close %v", resp.StatusCode, err, resp.Close)
	}
	if _, err := l.br.ReadByte(); err != io.EOF {
		l.t.Errorf("%d: not the end of the stream: %v", resp.StatusCode, err)
	}
	return resp, string(body)
}

func jittered(resp *http.Response) bool {
	n, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	return err == nil && n >= 1 && n <= 5
}

// deadOrigin is an address where nobody listens.
func deadOrigin(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// Every row of the contract's table of handshakes that is an answer, at a real edge with a real journal and real
// origins. What happens to a handshake that is held until its hand-over is committed, and to evicted sessions, is in
// TestCutover.
func TestHandshakeTable(t *testing.T) {
	ns := newNamespace(t, func(c *events.Config) {
		hold := events.Duration(200 * time.Millisecond)
		c.Policy = &events.PolicyPatch{Hold: &hold}
		units := map[string]events.DomainUnit{
			"center": {Cluster: "ws-center", Subdomain: "center.websocket.localhost:81"}, "unbj": {Cluster: "ws-unbj", Subdomain: "unbj.websocket.localhost"},
		}
		c.Domains[0].Units = units
		live := c.Domains[0].URIs[0].Origins
		dead := map[string]events.Origins{"center": {deadOrigin(t)}, "unbj": {deadOrigin(t), deadOrigin(t)}}
		c.Domains[0].URIs = []events.URI{{Path: "/chat", Origins: live}, {Path: "/down", Origins: dead}}
	})
	e, _ := ns.start("unbj", t.TempDir(), func(c *edge.Config) {
		c.Dev.FallbackHost, c.Dev.AdvertisedLocations = false, false
		c.HandshakeTimeout, c.Capacity = 2*time.Second, 3
		c.Limits = limit.Limits{Connections: 8, PerAddress: 5}
	})
	const chat = "GET /chat?a=b HTTP/1.1"
	for _, c := range []struct {
		row, request string
		status       int
		says         string
		header       string // a field that the answer has, NAME: VALUE
	}{
		{"key owned here", handshake(chat), 101, "", "Upgrade: websocket"},
		{"key owned elsewhere", handshake(chat, "routerId: 1111"), 302, "moved to center", "Location: http://center.websocket.localhost:81/chat?a=b"},
		{"an empty line before it", "\r\n" + handshake(chat), 101, "", ""},
		{"ws as the target's scheme", handshake("GET ws://websocket.localhost/chat HTTP/1.1", "routerId: 1111"), 302, "", "Location: http://center.websocket.localhost:81/chat"},
		{"raw UTF-8 in the target", handshake("GET /chat?name=北京 HTTP/1.1"), 400, "percent-encode", ""},
		{"unknown host", handshake(chat, "Host: other.localhost"), 421, "host name", ""},
		{"the Host header's port is ignored", handshake(chat, "Host: websocket.localhost:9"), 101, "", ""},
		{"no matching URI", handshake("GET /other HTTP/1.1"), 404, "path", ""},
		{"not a WebSocket handshake", handshake(chat, "-Upgrade"), 426, "not a WebSocket", "Upgrade: websocket"},
		{"version other than 13", handshake(chat, "Sec-WebSocket-Version: 8"), 426, "version 13", "Sec-WebSocket-Version: 13"},
		{"bad routerId", handshake(chat, "routerId: "+strings.Repeat("7", 257)), 400, "routerId", ""},
		{"bad unit type", handshake(chat, "unitType: nope"), 400, "unit type", ""},
		{"not HTTP", "\x16\x03\x01\r\n\r\n", 400, "no HTTP/1 request begins like this", ""},
		{"slow handshake", handshake(chat)[:60], 408, "too long", ""},
		{"headers too large", handshake(chat, "X: "+strings.Repeat("x", 33_000)), 431, "32 KiB", ""},
		{"origins all down", handshake("GET /down HTTP/1.1"), 502, "no origin", ""},
		{"locate", "GET /.unitgate/locate?routerId=1111&unitType=unit_type HTTP/1.1\r\nHost: websocket.localhost\r\n\r\n", 200,
			`{"unit":"center","url":"ws://center.websocket.localhost:81/","ruleVersion":1}`, "Access-Control-Allow-Origin: *"},
	} {
		l := call(t, "127.0.0.1", e, c.request)
		resp, body := l.response()
		name, value, _ := strings.Cut(c.header, ": ")
		if resp.StatusCode != c.status || !strings.Contains(body, c.says) || resp.Header.Get(name) != value {
			t.Errorf("%s: %d %v %q, want %d", c.row, resp.StatusCode, resp.Header, body, c.status)
		}
		if c.status != 101 && (strings.Count(body, "\n") != 1 || !strings.HasSuffix(body, "\n")) {
			t.Errorf("%s: %q is not one line", c.row, body)
		}
		_ = l.Close()
		ns.idle(e)
	}

	t.Run("at capacity", func(t *testing.T) {
		for range 3 {
			if resp, body := call(t, "127.0.0.1", e, handshake(chat)).response(); resp.StatusCode != 101 {
				t.Fatalf("%d %q", resp.StatusCode, body)
			}
		}
		if resp, body := call(t, "127.0.0.1", e, handshake(chat)).response(); resp.StatusCode != 503 || !jittered(resp) || !strings.Contains(body, "capacity") {
			t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
		}
	})
	ns.idle(e)
	t.Run("limits", func(t *testing.T) {
		for range 5 {
			call(t, "127.0.0.1", e, "") // it takes its time
		}
		ns.clients(e, 5)
		if resp, body := call(t, "127.0.0.1", e, handshake(chat)).response(); resp.StatusCode != 429 || !jittered(resp) || !strings.Contains(body, "this address") {
			t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
		}
	})
	ns.idle(e)
	if _, body := get(t, e, "/status"); !strings.Contains(body, `"cut":{"unread":0,"room":0},"acceptPauses":0}`) {
		t.Errorf("/status: %s", body)
	}
	t.Run("connections", func(t *testing.T) {
		for i := range 8 {
			call(t, []string{"127.0.0.1", "127.0.0.2"}[i%2], e, "")
		}
		ns.clients(e, 8)
		if resp, body := call(t, "127.0.0.3", e, handshake(chat)).response(); resp.StatusCode != 503 || !jittered(resp) || !strings.Contains(body, "connections") {
			t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
		}
	})
	ns.idle(e)
	t.Run("being handed over", func(t *testing.T) {
		ns.do(events.FenceWave{Cutover: begin(ns), Term: 1})
		ns.report(e.ID(), "the fence", func(r events.EdgeReport) bool { return len(r.Fences) == 1 })
		began := time.Now()
		resp, body := call(t, "127.0.0.1", e, handshake(chat, "routerId: 6249")).response()
		if resp.StatusCode != 503 || !jittered(resp) || !strings.Contains(body, "moving") || time.Since(began) < 200*time.Millisecond {
			t.Errorf("%d %v %q after %v", resp.StatusCode, resp.Header, body, time.Since(began))
		}
	})
}

// clients waits until an edge has n connections of clients, as its status says.
func (ns *namespace) clients(e *edge.Edge, n int) {
	ns.t.Helper()
	var st struct{ Clients limit.Counts }
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		_, body := get(ns.t, e, "/status")
		if err := json.Unmarshal([]byte(body), &st); err != nil {
			ns.t.Fatal(err)
		}
		if st.Clients.Connections == n {
			return
		}
	}
	ns.t.Fatalf("%+v, want %d connections", st.Clients, n)
}

func (ns *namespace) idle(e *edge.Edge) { ns.t.Helper(); ns.clients(e, 0) }

// Whatever a client asks for, a redirect leads to the configured sub-domain and to nowhere else, and is one header line.
func TestLocationLeadsToTheSubdomainOnly(t *testing.T) {
	const host = "center.websocket.localhost:81"
	ns := newNamespace(t, func(c *events.Config) {
		c.Domains[0].Units = map[string]events.DomainUnit{
			"center": {Cluster: "ws-center", Subdomain: host}, "unbj": {Cluster: "ws-unbj", Subdomain: "unbj.websocket.localhost"},
		}
	})
	// The only domain answers for every Host, so that the client's own name for us cannot be what leads away.
	e, _ := ns.start("unbj", t.TempDir(), func(c *edge.Config) { c.Dev.AdvertisedLocations = false })
	redirects := 0
	for _, target := range []string{
		"/", "//evil.example", "//evil.example/x", "///evil.example", "/.//evil.example", "/..//evil.example", "/@evil.example", "/:80@evil.example",
		"/?//evil.example", "/?@evil.example", "/?next=http://evil.example", "?x", "/%0d%0aLocation:%20http://evil.example", "/?%0d%0aSet-Cookie:%20a=b",
		"/%5cevil.example", "/\\evil.example", "/\\/evil.example", "/x\r\nLocation: http://evil.example", "/x\nLocation: http://evil.example", "/x\rLocation: y",
		"/\t//evil.example", "/x#@evil.example", "http://evil.example/x", "http://evil.example//evil.example", "HTTPS://user@evil.example/", "http://websocket.localhost//evil.example/",
		"//", "/%2f%2fevil.example", "/;@evil.example", "/\x00", "/é", "*", "evil.example:80",
	} {
		for _, name := range []string{"websocket.localhost", "evil.example"} {
			l := call(t, "127.0.0.1", e, handshake("GET "+target+" HTTP/1.1", "Host: "+name, "routerId: 1111"))
			raw, err := io.ReadAll(l.br)
			if err != nil {
				t.Fatalf("%q: %v", target, err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(raw))), nil)
			if err != nil {
				t.Fatalf("%q: %q %v", target, raw, err)
			}
			location := resp.Header.Values("Location")
			if resp.StatusCode != 302 {
				if resp.StatusCode != 400 || len(location) > 0 || resp.Header.Get("Set-Cookie") != "" {
					t.Errorf("%q: %q", target, raw)
				}
				continue
			}
			redirects++
			if len(location) != 1 || resp.Header.Get("Set-Cookie") != "" || !strings.HasPrefix(location[0], "http://"+host+"/") {
				t.Errorf("%q: %q", target, raw)
				continue
			}
			if u, err := url.Parse(location[0]); err != nil || u.Host != host || u.Scheme != "http" || u.User != nil || u.Fragment != "" {
				t.Errorf("%q leads to %q, %v", target, location[0], err)
			}
		}
	}
	if redirects < 30 {
		t.Errorf("only %d of these were redirected at all", redirects)
	}
}

// An edge whose own address is among the load balancers says at its own door that it speaks for itself.
func TestOwnDoorBehindABalancer(t *testing.T) {
	ns := newNamespace(t)
	e, _ := ns.start("unbj", t.TempDir(), func(c *edge.Config) { c.ProxyProtocol = front.Trusted{netip.MustParsePrefix("127.0.0.0/8")} })
	stranger := call(t, "127.0.0.1", e, handshake())
	if resp, _ := stranger.response(); resp.StatusCode != 400 {
		t.Errorf("a client without a header got %d", resp.StatusCode)
	}
	_ = stranger.Close()
	question, err := json.Marshal(events.HandshakeQuestion{Services: []events.Service{{Host: "websocket.localhost", Path: "/"}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := ns.srv.Connect().Request("unitgate.edge.demo.unbj."+e.ID()+".handshake", question, patience)
	if err != nil {
		t.Fatal(err)
	}
	var a events.HandshakeAnswer
	if err := json.Unmarshal(m.Data, &a); err != nil || len(a.Sessions) != 1 || a.Sessions[0].Status != 101 || a.Sessions[0].Failed != "" {
		t.Errorf("%s %v", m.Data, err)
	}
	ns.idle(e)
}
