package relay

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// refusal is what the origin of these tests says: long enough for several reads, by length and in chunks.
var refusal = strings.Repeat("who are you? ", 4000)

// startRefusing is a relay before a real server that lets nobody in, and would keep its connections for the next request.
func startRefusing(t *testing.T) *fixture {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "keep-alive")
		w.Header().Set("Keep-Alive", "timeout=60")
		w.Header().Set("WWW-Authenticate", `Digest realm="shop"`)
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", strconv.Itoa(len(refusal)))
		}
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, refusal[:len(refusal)/2])
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, refusal[len(refusal)/2:])
	}))
	t.Cleanup(srv.Close)
	f := start(t, Config{}, srv.Listener.Addr().String())
	f.own()
	return f
}

// A client that keeps connections sends no request into one that ends with an answer: it is told so. Node's does not send
// a handshake again that was reset.
func TestRefusalsWithANodeAgent(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("UNITGATE_REQUIRE_ALL") != "" {
			t.Fatal("UNITGATE_REQUIRE_ALL is set, and there is no node: apt-get install nodejs")
		}
		t.Skip("there is no node: apt-get install nodejs")
	}
	f := startRefusing(t)
	const script = `
const http = require('http'), [host, port] = process.argv[1].split(':'), size = +process.argv[2];
const agent = new http.Agent({keepAlive: true, maxSockets: 1});
const headers = {Host: 'x', Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', routerId: '7'};
function ask(n) {
	if (n === 20) { console.log('done'); process.exit(); }
	const req = http.request({host, port, agent, headers, path: n % 2 ? '/length' : '/chunks'}, res => {
		let got = 0;
		res.on('data', b => { got += b.length; });
		res.on('end', () => {
			if (res.statusCode !== 401 || got !== size) { console.log(n, res.statusCode, got); process.exit(1); }
			ask(n + 1);
		});
	});
	req.on('error', err => { console.log(n, err.code); process.exit(1); });
	req.end();
}
ask(0);`
	out, err := exec.CommandContext(t.Context(), node, "-e", script, f.Addrs()[0], strconv.Itoa(len(refusal))).CombinedOutput()
	if err != nil || string(out) != "done\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// The same with Go's, which is told that its connection is over by each answer.
func TestRefusalsWithATransport(t *testing.T) {
	f := startRefusing(t)
	transport := &http.Transport{MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	for n := range 10 {
		path := [...]string{"/length", "/chunks"}[n%2]
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.Addrs()[0]+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "routerId": "7",
		} {
			req.Header.Set(name, value)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != 401 || string(body) != refusal || !resp.Close || resp.Header.Get("WWW-Authenticate") == "" ||
			resp.Header.Get("Keep-Alive") != "" || (resp.ContentLength > 0) != (path == "/length") {
			t.Errorf("%s: %d %v, %d bytes, %v", path, resp.StatusCode, resp.Header, len(body), err)
		}
	}
}
