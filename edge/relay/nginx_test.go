package relay

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events/routing"
)

// startNginx runs an nginx with the locations of a server, and returns its address.
func startNginx(t *testing.T, locations string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // Debian has it there, on no user's PATH
	}
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("UNITGATE_REQUIRE_ALL") != "" {
			t.Fatal("UNITGATE_REQUIRE_ALL is set, and there is no nginx: apt-get install nginx")
		}
		t.Skip("there is no nginx: apt-get install nginx")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	dir := t.TempDir()
	conf := fmt.Sprintf(`
daemon off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 64; }
http {
	access_log off; default_type text/plain;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	server { listen %[2]s; %[3]s }
}`, dir, addr, locations)
	conf = strings.ReplaceAll(conf, "ADDR", addr) // of further servers
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-p", dir, "-e", filepath.Join(dir, "start.log"), "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	eventually(t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return addr
}

// startBefore is a relay whose paths lead to origins.
func startBefore(t *testing.T, origins map[string]string) *fixture {
	t.Helper()
	f := start(t, Config{})
	v := f.view(routing.Compile(rules(t, 100)))
	v.Fallback.URIs = nil
	for _, path := range []string{"/admin", "/nginx", "/public", "/"} { // the longest first
		if o, ok := origins[path]; ok {
			v.Fallback.URIs = append(v.Fallback.URIs, handshake.URI{Path: path, Origins: []string{o}})
		}
	}
	if err := f.Install(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) get(target string, fields ...string) (status int, body string) {
	f.t.Helper()
	request := strings.Replace(requestFor("1"), "GET /chat ", "GET "+target+" ", 1)
	for _, line := range fields {
		request = strings.Replace(request, "routerId:", line+"\r\nrouterId:", 1)
	}
	status, _, body = f.connect(request).status()
	return status, body
}

// What a path list lets through is all that a real server can be brought to answer of an origin's.
func TestNginxBehindAPathList(t *testing.T) {
	addr := startNginx(t, `
		location / { return 200 "INTERNAL SECRET $uri"; }
		location /nginx { return 200 "public $uri"; }`)
	other := startNginx(t, `location / { return 200 "other $uri"; }`)
	f := startBefore(t, map[string]string{"/nginx": addr, "/": other})
	for _, target := range []string{
		"/nginx/../internal", "/nginx/%2e%2e/internal", "/nginx/..%2finternal", "/nginx/./../internal", "/nginx//../internal", // as the attacker did
		"/nginx/%2E./internal", "/nginx/..%2Finternal", `/nginx/..\internal`, "/nginx/..%5cinternal", "/nginx/..;/internal",
		"/nginx/a/../../internal", "/nginx/..", "/nginx%2f..%2finternal", "/nginx/%2e%2e;x/internal", "/nginx/%c0%ae%c0%ae/internal",
		"//nginx/../internal", "/nginx/x%00/../../internal", "/./nginx/../internal", "/nginx/%2e%2e%2f%2e%2e/internal", "http://x/nginx/../internal",
		"/nginx;a/../internal", "/nginx/.%2e//internal?x=/nginx",
	} {
		if status, body := f.get(target); status != 400 || strings.Contains(body, "SECRET") {
			t.Errorf("%s: %d %q, want 400", target, status, body)
		}
	}
	for target, want := range map[string]string{
		"/nginx": "public /nginx", "/nginx/a": "public /nginx/a", "/nginx?/../internal": "public /nginx",
		"//nginx///a": "public /nginx/a", "/%6eginx/%61": "public /nginx/a", "/nginx/%252e%252e/internal": "public /nginx/%2e%2e/internal",
		"/nginx/%25%32%65/x": "public /nginx/%2e/x", "/internal": "other /internal", "/nginx.": "other /nginx.", "/Nginx": "other /Nginx",
	} {
		if status, body := f.get(target); status != 200 || body != want {
			t.Errorf("%s: %d %q, want %q", target, status, body, want)
		}
	}
}

// A path is below the one of its list that it is below at the origin, however it is spelled.
func TestNginxBehindALongerPath(t *testing.T) {
	general := startNginx(t, `location / { return 200 "A"; } location /admin { return 200 "A's admin"; }`)
	admin := startNginx(t, `location / { return 200 "B"; }`)
	f := startBefore(t, map[string]string{"/": general, "/admin": admin})
	for _, target := range []string{"/admin/ws", "//admin/ws", "///admin//ws", "/%61dmin/ws", "/admi%6E", "//%61%64min"} {
		if status, body := f.get(target); status != 200 || body != "B" {
			t.Errorf("%s: %d %q, want that of /admin", target, status, body)
		}
	}
	for _, target := range []string{"/x/../admin/ws", "/./admin/ws", "/%2fadmin/ws", "/;x/admin/ws", "/admin;x/ws", `/\admin`} {
		if status, body := f.get(target); status != 400 {
			t.Errorf("%s: %d %q, want 400", target, status, body)
		}
	}
	public := startBefore(t, map[string]string{"/public": general})
	for _, target := range []string{"/public/../admin/ws", "/public/%2e%2e/admin/ws"} {
		if status, body := public.get(target); status != 400 {
			t.Errorf("%s: %d %q, want 400", target, status, body)
		}
	}
}

// What nginx, told to believe the edge, takes for the client's address is the client's, whatever it sends.
func TestNginxRealIP(t *testing.T) {
	const echo = `return 200 "$remote_addr realip=$http_x_real_ip fwd=$http_forwarded xff=$http_x_forwarded_for xfh=$http_x_forwarded_host ` +
		`xfp=$http_x_forwarded_port true=$http_true_client_ip url=$http_x_original_url proxy=$http_proxy host=$http_host";`
	forged := []string{
		"Forwarded: for=6.6.6.6;proto=https;host=evil", "X-Real-IP: 6.6.6.6", "X-Forwarded-Host: evil", "X-Forwarded-Port: 6666",
		"X-Forwarded-Prefix: /evil", "X-Original-URL: /evil", "X.Forwarded.For: 6.6.6.6", "X-Forwarded-For: 6.6.6.6", // as the attacker did
		"True-Client-IP: 6.6.6.6", "X_Real_IP: 6.6.6.6", "forwarded: for=6.6.6.6", "Proxy: http://evil", "Connection: X-Forwarded-For, Forwarded",
	}
	for _, field := range []string{"X-Forwarded-For", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X_Real_IP"} {
		addr := startNginx(t, `underscores_in_headers on; ignore_invalid_headers off; set_real_ip_from 127.0.0.0/8; real_ip_header `+field+`; real_ip_recursive on; location / { `+echo+` }`)
		f := startBefore(t, map[string]string{"/": addr})
		status, body := f.get("/", forged...)
		want := `127.0.0.1 realip= fwd=for=127.0.0.1;proto=http;host=x xff=127.0.0.1 xfh= xfp= true= url= proxy= host=x`
		if status != 200 || body != want {
			t.Errorf("real_ip_header %s: %d\n%s, want\n%s", field, status, body, want)
		}
	}
}
