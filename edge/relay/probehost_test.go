package relay

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// Probes name the domain whose origins they ask, or the host that the configuration says: a server that answers to its own
// names only is not down for that. Without a name this one answers as Django does by ALLOWED_HOSTS.
func TestProbesNameTheDomain(t *testing.T) {
	picky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "ws.shop.example" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer picky.Close()
	probesByName(t, picky.Listener.Addr().String(), "answered 400")
}

// The same with the virtual hosts of an nginx, which closes the connections of who asks for another name.
func TestProbesFindAVirtualHost(t *testing.T) {
	probesByName(t, startNginx(t, `server_name ws.shop.example; location / { return 200 ok; } }
	server { listen ADDR default_server; return 444;`), "EOF")
}

// probesByName probes, through an origin that comes up later, a server that answers to ws.shop.example only. says is what
// others get.
func probesByName(t *testing.T, behind, says string) {
	t.Helper()
	const ms = events.Duration(time.Millisecond)
	addr := refusing(t)
	f := start(t, Config{}, addr)
	f.domain = "ws.shop.example"
	probe := func(host string) {
		f.health = &events.Health{
			Probe: "http", Path: "/healthz", Host: host, Expect: "2xx-3xx", Interval: 5 * ms, Timeout: 5000 * ms, Rise: 1, Fall: 1,
		}
		f.own()
	}
	probe("")
	f.becomes(addr, "down")
	server(t, addr, func(c *net.TCPConn) {
		to, err := net.Dial("tcp", behind)
		if err != nil {
			return
		}
		defer to.Close()
		go func() { _, _ = io.Copy(to, c); _ = to.(*net.TCPConn).CloseWrite() }()
		_, _ = io.Copy(c, to)
	})
	f.becomes(addr, "healthy")
	if down := f.Down([]string{addr}); len(down) != 0 {
		t.Errorf("%q", down)
	}
	probe("app.example:81")
	f.becomes(addr, "down")
	if down := f.Down([]string{addr, "127.0.0.1:1"}); len(down) != 1 || !strings.Contains(down[addr], says) {
		t.Errorf("%q", down)
	}
}
