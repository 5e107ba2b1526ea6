package relay

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/edge/certs/certstest"
	"github.com/unitgate/unitgate/edge/front"
	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events/routing"
)

// through sends a user's handshake from an address to a proxy in front of f, and returns what the origin got.
func through(t *testing.T, b *backend, proxy, from string, secure *tls.Config) string {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	if secure != nil {
		c = tls.Client(c, secure)
	}
	p := newPeer(t, c)
	p.send([]byte(requestFor("7"))...)
	o, head := b.next()
	// HAProxy looks at it; RFC 6455 section 1.3 has this one for the key of ours.
	o.send([]byte(strings.Replace(switching, "\r\n\r\n", "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", 1))...)
	if code, _, _ := p.status(); code != 101 {
		t.Errorf("through the proxy: %d", code)
	}
	o.send(0x81, 2, 'h', 'i')
	p.want(0x81, 2, 'h', 'i')
	return head
}

// wantFields wants these lines in a head, and none of the others.
func wantFields(t *testing.T, head string, want, without []string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains(head, "\r\n"+line+"\r\n") {
			t.Errorf("the origin got\n%swithout %s", head, line)
		}
	}
	for _, s := range without {
		if strings.Contains(head, s) {
			t.Errorf("the origin got\n%swith %s", head, s)
		}
	}
}

// nginx in front of an edge, as a proxy of HTTP: what it says of the client in header fields is not believed, unless it is
// a field that the edge is told to pass; what the edge answers reaches the client as it is.
func TestBehindNginx(t *testing.T) {
	b := newBackend(t)
	fields, err := handshake.NewFields(nil, []string{"X-Real-IP"})
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, Config{Fields: fields}, b.addr())
	f.install(routing.Compile(rules(t, 50)))
	proxy := startNginx(t, `location / {
		proxy_pass http://`+f.Addrs()[0]+`; proxy_http_version 1.1; proxy_redirect off; proxy_set_header Host $http_host;
		proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
		proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https;
	}`)
	head := through(t, b, proxy, "127.0.0.5", nil)
	wantFields(t, head, []string{"Host: x", "X-Real-IP: 127.0.0.5", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http"}, []string{"X-Forwarded-For: 127.0.0.5", "https"})
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, c)
	p.send([]byte(requestFor("77"))...)
	if code, resp, _ := p.status(); code != http.StatusFound || resp.Header.Get("Location") != "ws://there.example/chat" {
		t.Errorf("of another unit: %d %v", code, resp.Header)
	}
}

// HAProxy in front of an edge, as a proxy of HTTP that ends TLS: it says by PROXY whose connection it is and that it came
// over TLS, and that is believed.
func TestBehindHAProxy(t *testing.T) {
	program := "/usr/sbin/haproxy"
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("UNITGATE_REQUIRE_ALL") != "" {
			t.Fatal("UNITGATE_REQUIRE_ALL is set, and there is no haproxy: apt-get install haproxy")
		}
		t.Skip("there is no haproxy: apt-get install haproxy")
	}
	trusted, err := front.ParseTrusted("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	b := newBackend(t)
	f := start(t, Config{ProxyProtocol: trusted}, b.addr())
	f.own()
	dir := t.TempDir()
	authority := certstest.New(t)
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "cert.key")
	authority.Issue(cert, key, certstest.Leaf{Names: []string{"127.0.0.1"}})
	plain, overTLS := refusing(t), refusing(t)
	file := filepath.Join(dir, "haproxy.cfg")
	conf := fmt.Sprintf(`
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
frontend clients
	bind %s
	bind %s ssl crt %s
	default_backend edges
backend edges
	server edge %s source 127.0.0.1 send-proxy-v2-ssl
`, plain, overTLS, cert, f.Addrs()[0])
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-db", "-f", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for _, addr := range []string{plain, overTLS} {
		eventually(t, "haproxy listens", func() bool {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
	head := through(t, b, plain, "127.0.0.5", nil)
	wantFields(t, head, []string{"X-Forwarded-For: 127.0.0.5", "X-Forwarded-Proto: http"}, nil)
	head = through(t, b, overTLS, "127.0.0.6", &tls.Config{RootCAs: authority.Pool, ServerName: "127.0.0.1"})
	wantFields(t, head, []string{"X-Forwarded-For: 127.0.0.6", "X-Forwarded-Proto: https"}, nil)
}
