package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/unitgate/unitgate/events"
)

const (
	goodKey  = "c2VjcmV0LXVuaXRnYXRlLXRzaWcta2V5LTEyMzQ1Njc4OTA="
	wrongKey = "b3RoZXItdW5pdGdhdGUtdHNpZy1rZXktMTIzNDU2Nzg5MDA="
)

// zoneFile is a zone that somebody runs already.
const zoneFile = `$TTL 300
@    IN SOA ns.msha.test. admin.msha.test. 1 3600 600 86400 60
@    IN NS  ns.msha.test.
ns   IN A   127.0.0.1
www  IN A   192.0.2.99
txt  IN TXT "two words" "and more"
mx   IN MX  10 www
`

// primary is a DNS server of Debian's that holds msha.test, under a key that may change it, and frozen.test, which takes
// no updates.
type primary struct {
	t       *testing.T
	name    string // named or knotd
	program string
	dir     string
	addr    string
	stop    func()
}

func startPrimary(t *testing.T, name string) *primary {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			if os.Getenv("UNITGATE_REQUIRE_ALL") != "" {
				t.Fatalf("%s is missing: apt-get install bind9 knot", name)
			}
			t.Skipf("skipped: %s is missing (apt-get install bind9 knot)", name)
		}
	}
	p := &primary{t: t, name: name, program: program, dir: t.TempDir(), addr: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	for zone, text := range map[string]string{"msha.test": zoneFile, "frozen.test": strings.ReplaceAll(zoneFile, "msha", "frozen")} {
		p.write(zone+".zone", text)
	}
	p.start()
	return p
}

// freePort is a port that is free for TCP and UDP, below the ephemeral ones.
func freePort(t *testing.T) int {
	t.Helper()
	for port := 20000 + os.Getpid()%5000; port < 32000; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func (p *primary) write(name, text string) string {
	p.t.Helper()
	file := filepath.Join(p.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return file
}

// start runs the server until the test ends, or stop is called, and waits until it answers.
func (p *primary) start() {
	p.t.Helper()
	host, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	var cmd *exec.Cmd
	if p.name == "named" {
		cmd = exec.Command(p.program, "-g", "-c", p.write("named.conf", fmt.Sprintf(`
options { directory %q; listen-on port %s { %s; }; listen-on-v6 { none; }; recursion no; dnssec-validation no; pid-file none; session-keyfile none; };
controls { };
key "unitgate." { algorithm hmac-sha256; secret %q; };
key "writer." { algorithm hmac-sha256; secret %[4]q; };
zone "msha.test" { type primary; file "msha.test.zone"; allow-transfer { key unitgate.; }; update-policy { grant unitgate. zonesub ANY; }; };
zone "frozen.test" { type primary; file "frozen.test.zone"; allow-transfer { key unitgate.; }; };
`, p.dir, port, host, goodKey)))
	} else {
		cmd = exec.Command(p.program, "-c", p.write("knot.conf", fmt.Sprintf(`
server:
    rundir: %[1]q
    listen: %[2]s@%[3]s
database:
    storage: %[1]q
key:
  - id: unitgate.
    algorithm: hmac-sha256
    secret: %[4]s
  - id: writer.
    algorithm: hmac-sha256
    secret: %[4]s
acl:
  - id: all
    key: unitgate.
    action: [update, transfer]
  - id: read
    key: unitgate.
    action: transfer
zone:
  - domain: msha.test
    storage: %[1]q
    file: msha.test.zone
    acl: all
  - domain: frozen.test
    storage: %[1]q
    file: frozen.test.zone
    acl: read
`, p.dir, host, port, goodKey)))
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	stopped := false
	p.stop = func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	p.t.Cleanup(p.stop)
	for deadline := time.Now().Add(20 * time.Second); ; {
		if ips, err := p.lookup("www.msha.test"); err == nil && slices.Equal(ips, []string{"192.0.2.99"}) {
			return
		}
		if time.Now().After(deadline) {
			p.stop()
			p.t.Fatalf("%s does not answer: %s", p.name, said.String())
		}
	}
}

// lookup asks the server as a resolver would.
func (p *primary) lookup(name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, p.addr)
	}}
	ips, err := r.LookupHost(ctx, name+".")
	slices.Sort(ips)
	return ips, err
}

// reconciler is one that reaches the server with a key, given as an operator gives it.
func (p *primary) reconciler(key string, s *events.State) *Reconciler {
	p.t.Helper()
	return p.reconcilerAs("hmac-sha256:unitgate.:"+key, s)
}

func (p *primary) reconcilerAs(key string, s *events.State) *Reconciler {
	p.t.Helper()
	providers, err := Settings{RFC2136Server: p.addr, RFC2136KeyFile: p.write("key", key+"\n")}.Open()
	if err != nil {
		p.t.Fatal(err)
	}
	return New("shop", &fixed{s: s, ch: make(chan struct{})}, providers, func() bool { return true }, quiet())
}

func TestRealServers(t *testing.T) {
	for _, name := range []string{"named", "knotd"} {
		t.Run(name, func(t *testing.T) {
			p := startPrimary(t, name)
			two := shop(multi, map[string][]string{"hz": {"192.0.2.9", "192.0.2.10", "2001:db8::1"}, "bj": {"192.0.2.20"}})
			r := p.reconciler(goodKey, two)
			follow := func(s *events.State, want map[string]string) {
				t.Helper()
				if !r.Reconcile(t.Context(), s) {
					t.Fatal(r.failed)
				}
				for name, ips := range want {
					if got, err := p.lookup(name); strings.Join(got, " ") != ips {
						t.Errorf("%s leads to %v, %v; want %q", name, got, err, ips)
					}
				}
				for _, z := range r.Show(t.Context(), s) {
					for _, d := range z.Names {
						if d.State != OK && d.State != Kept {
							t.Errorf("%+v", d)
						}
					}
				}
			}
			follow(two, map[string]string{
				"ws.msha.test": "192.0.2.10 192.0.2.20 192.0.2.9 2001:db8::1", "center.ws.msha.test": "192.0.2.10 192.0.2.9 2001:db8::1",
				"unbj.ws.msha.test": "192.0.2.20", "www.msha.test": "192.0.2.99",
			})
			follow(shop(multi, map[string][]string{"hz": {"192.0.2.9"}, "bj": {"www.msha.test"}}), map[string]string{
				"center.ws.msha.test": "192.0.2.9", "unbj.ws.msha.test": "192.0.2.99", // from addresses to a name
				"ws.msha.test": "192.0.2.10 192.0.2.20 192.0.2.9 2001:db8::1", // cannot be published: stays as it was
			})
			follow(shop(multi, map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.21"}}), map[string]string{"unbj.ws.msha.test": "192.0.2.21", "ws.msha.test": "192.0.2.21 192.0.2.9"})
			follow(shop(events.DNS{Provider: "none"}, nil), map[string]string{"ws.msha.test": "", "unbj.ws.msha.test": "", "www.msha.test": "192.0.2.99"})

			fails := func(what string, r *Reconciler, s *events.State, says ...string) {
				t.Helper()
				if r.Reconcile(t.Context(), s) {
					t.Errorf("%s: that is well", what)
				}
				said := strings.Join(slices.Collect(func(yield func(string) bool) {
					for _, why := range r.failed {
						yield(why)
					}
				}), "; ")
				if !slices.ContainsFunc(says, func(w string) bool { return strings.Contains(said, w) }) || strings.Contains(said, goodKey) || strings.Contains(said, wrongKey) {
					t.Errorf("%s: %q", what, said)
				}
			}
			fails("wrong secret", p.reconciler(wrongKey, two), two, "BADSIG: the secret of the key unitgate. is another one there")
			fails("wrong name", p.reconcilerAs("hmac-sha256:unitgates:"+goodKey, two), two, "BADKEY: it knows no key unitgates of hmac-sha256")
			fails("wrong algorithm", p.reconcilerAs("hmac-sha512:unitgate.:"+goodKey, two), two, "BADKEY")
			fails("no right to transfer", p.reconcilerAs("writer:"+goodKey, two), two, "REFUSED: the key writer may not do that with zone msha.test", "BADKEY: it knows no key writer of hmac-sha256, or lets it do nothing with zone msha.test")
			ahead := r.providers["rfc2136"].(primaryServer)
			ahead.now = func() time.Time { return time.Now().Add(10 * time.Minute) }
			for _, q := range []*dns.Msg{new(dns.Msg).SetAxfr("msha.test."), new(dns.Msg).SetUpdate("msha.test.")} {
				if err := ahead.explain(t.Context(), "msha.test", q, errors.New("bad")); !strings.Contains(err.Error(), "BADTIME: its clock and this machine's differ by more than five minutes ("+time.Now().UTC().Format("2006-01-02")) {
					t.Errorf("clock ahead: %v", err)
				}
			}
			frozen := shop(events.DNS{Provider: "rfc2136", Zone: "frozen.test"}, map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}})
			d := *frozen.Domains["ws.msha.test"].Active
			d.Host, d.Units = "ws.frozen.test", map[string]events.DomainUnit{"center": {Subdomain: "center.ws.frozen.test", Cluster: "hz"}}
			frozen.Domains = map[string]events.DomainState{d.Host: {Active: &d}}
			fails("a zone that takes no updates", p.reconciler(goodKey, frozen), frozen, "REFUSED", "bad authentication")
			p.stop()
			fails("server down", r, two, "connection refused")
			p.start()
			follow(two, map[string]string{"unbj.ws.msha.test": "192.0.2.20"})
		})
	}
}

func TestSettings(t *testing.T) {
	file := func(text string) string {
		f := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	t.Setenv(RFC2136KeyVariable, "")
	for _, c := range []struct {
		name  string
		s     Settings
		fails string
	}{
		{"nothing", Settings{}, ""},
		{"key by file", Settings{RFC2136Server: "127.0.0.1", RFC2136KeyFile: file("name:c2VjcmV0")}, ""},
		{"no key", Settings{RFC2136Server: "127.0.0.1"}, "neither a file nor"},
		{"no such file", Settings{RFC2136Server: "127.0.0.1", RFC2136KeyFile: "/does/not/exist"}, "no such file"},
		{"half a key", Settings{RFC2136Server: "127.0.0.1", RFC2136KeyFile: file("topsecret")}, "want [ALGORITHM:]NAME:SECRET"},
		{"alidns", Settings{AliDNSKeyFile: file("id:topsecret")}, ""},
		{"half an access key", Settings{AliDNSKeyFile: file("topsecret")}, "want ID:SECRET"},
	} {
		got, err := c.s.Open()
		if (err == nil) != (c.fails == "") || err != nil && (!strings.Contains(err.Error(), c.fails) || strings.Contains(err.Error(), "topsecret")) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	t.Setenv(RFC2136KeyVariable, "name:c2VjcmV0")
	if p, err := (Settings{RFC2136Server: "[::1]:5353"}).Open(); err != nil || p["rfc2136"] == nil {
		t.Error(p, err)
	}
}
