package outbound

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

func parse(t *testing.T, list string) *Policy {
	t.Helper()
	p, err := Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	p.own = func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.ParseIP("10.9.9.9"), Mask: net.CIDRMask(24, 32)}, &net.IPNet{IP: net.ParseIP("2001:db8::9"), Mask: net.CIDRMask(64, 128)}}, nil
	}
	return p
}

// What is refused unless an entry names it, in every form in which an address may be
// written.
func TestSpecialAddressesAreRefused(t *testing.T) {
	for _, addr := range []string{
		"127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "2002:7f00:1::", "64:ff9b:1::7f00:1",
		"0.0.0.0", "::", "0.1.2.3", "169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1", "fe80::1%eth0", "fec0::1",
		"100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254",
		"224.0.0.1", "239.1.1.1", "ff02::1", "255.255.255.255", "240.0.0.1", "198.18.0.1", "2001:0:7f00:1::",
		"10.9.9.9", "::ffff:10.9.9.9", "2001:db8::9", "64:ff9b::10.9.9.9",
	} {
		for _, list := range []string{"", "ops.example", "0.0.0.0/0,::/0", "ops.example,10.0.0.0/8,0.0.0.0/0,::/0,128.0.0.0/1"} {
			var r *RefusedError
			if err := parse(t, list).check("ops.example", netip.MustParseAddr(addr)); !errors.As(err, &r) {
				t.Errorf("list %q: %s is %v", list, addr, err)
			}
		}
	}
}

func TestOrdinaryAddressesAreNot(t *testing.T) {
	for _, addr := range []string{"10.0.0.7", "172.16.0.1", "192.168.1.1", "8.8.8.8", "2606:4700::1111", "fd12::7", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"} {
		for _, list := range []string{"", "ops.example", "0.0.0.0/0,::/0"} {
			if err := parse(t, list).check("ops.example", netip.MustParseAddr(addr)); err != nil {
				t.Errorf("list %q: %s: %v", list, addr, err)
			}
		}
		for _, list := range []string{"ops.example", "10.5.0.0/16,2001:db8::/32"} {
			if parse(t, list).check("other.example", netip.MustParseAddr(addr)) == nil {
				t.Errorf("list %q: %s is not on it", list, addr)
			}
		}
	}
}

// An entry opens what it names, as narrowly as it says.
func TestEntriesOpenWhatTheyName(t *testing.T) {
	for _, c := range []struct {
		list, host, addr string
		want             bool
	}{
		{"127.0.0.1", "127.0.0.1", "127.0.0.1", true}, {"127.0.0.1", "127.0.0.1", "127.0.0.2", false}, {"127.0.0.0/8", "x", "127.3.2.1", true},
		{"::ffff:127.0.0.1", "x", "127.0.0.1", true}, {"::ffff:127.0.0.0/104", "x", "127.9.9.9", true}, {"126.0.0.0/7", "x", "127.0.0.1", false},
		{"[::1]", "::1", "::1", true}, {"::/0", "::1", "::1", false}, {"169.254.0.0/16", "x", "169.254.169.254", true}, {"169.254.0.0/17", "x", "169.254.169.254", false},
		{"10.9.9.9", "x", "10.9.9.9", true}, {"10.0.0.0/8", "x", "10.9.9.9", false}, {"10.0.0.0/8", "x", "10.9.9.8", true},
		{"Ops.Example.", "ops.example", "8.8.8.8", true}, {"ops.example", "OPS.example.", "8.8.8.8", true}, {"ops.example", "evil.ops.example", "8.8.8.8", false},
		{"localhost", "localhost", "127.0.0.1", false}, {" a.example , 8.8.8.0/24", "b.example", "8.8.8.8", true},
	} {
		if err := parse(t, c.list).check(c.host, netip.MustParseAddr(c.addr)); (err == nil) != c.want {
			t.Errorf("list %q, host %q, %s: %v", c.list, c.host, c.addr, err)
		}
	}
}

// Where the list is not meant, it opens what it names and closes nothing.
func TestAlsoAll(t *testing.T) {
	p := parse(t, "ops.example,127.0.0.0/8").AlsoAll()
	for addr, want := range map[string]bool{"8.8.8.8": true, "10.0.0.7": true, "127.0.0.1": true, "::1": false, "169.254.169.254": false, "10.9.9.9": false} {
		if err := p.check("other.example", netip.MustParseAddr(addr)); (err == nil) != want {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestBadLists(t *testing.T) {
	for _, list := range []string{",", "a,,b", "http://ops.example", "ops.example:443", "127.1", "2130706433", "0x7f.1", "10.0.0.0/33", "fe80::1%eth0", "::ffff:0:0/90", "*.example", "-a.example", "ops example", "10.0.0.1/"} {
		if _, err := Parse(list); !errors.Is(err, ErrBadEntry) {
			t.Errorf("%q: %v", list, err)
		}
	}
}

func TestNames(t *testing.T) {
	p := parse(t, "ops.example,10.0.0.7,10.1.0.0/16,::ffff:10.0.0.8")
	for host, want := range map[string]bool{"ops.example": true, "OPS.example.": true, "10.0.0.7": true, "::ffff:10.0.0.7": true, "10.0.0.8": true, "10.1.0.1": false, "a.ops.example": false, "": false} {
		if p.Names(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
	if (*Policy)(nil).Names("ops.example") {
		t.Error("without a list nothing is named")
	}
}

// internal is a service on the loopback that no request may reach.
func internal(t *testing.T) (addr, port string) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the service on the loopback was reached") }))
	t.Cleanup(s.Close)
	addr = s.Listener.Addr().String()
	_, port, _ = net.SplitHostPort(addr)
	return addr, port
}

func get(t *testing.T, p *Policy, url string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := p.Transport().RoundTrip(req)
	if err == nil {
		answer.Body.Close()
	}
	return err
}

// Every spelling of the loopback that a resolver may take for it ends at the dialled
// address, or resolves to nothing.
func TestSpellingsOfTheLoopback(t *testing.T) {
	_, port := internal(t)
	for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST.", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "[64:ff9b::127.0.0.1]"} {
		if err := get(t, &Policy{}, "http://"+host+":"+port+"/"); err == nil {
			t.Errorf("%s was called", host)
		}
	}
}

// A name that leads to a public address when it is looked at and to the loopback when it
// is dialled (DNS rebinding) is refused: what is judged is what is dialled, each time.
func TestRebinding(t *testing.T) {
	_, port := internal(t)
	var asked atomic.Int64
	p := parse(t, "ops.example")
	p.resolver = resolver(t, func(n int64) []string {
		asked.Store(n)
		return []string{[]string{"192.88.99.7", "127.0.0.1"}[min(n-1, 1)]}
	})
	if addrs, err := p.resolver.LookupHost(t.Context(), "ops.example"); err != nil || len(addrs) != 1 || addrs[0] != "192.88.99.7" {
		t.Fatalf("%q, %v", addrs, err)
	}
	for range 3 {
		var r *RefusedError
		if err := get(t, p, "http://ops.example:"+port+"/"); !errors.As(err, &r) || r.Addr.String() != "127.0.0.1" {
			t.Errorf("%v", err)
		}
	}
	if asked.Load() != 4 {
		t.Errorf("%d lookups", asked.Load())
	}
}

// A name with one good address among bad ones does not lead to the bad ones when the good
// one fails.
func TestSeveralAddresses(t *testing.T) {
	_, port := internal(t)
	p := parse(t, "192.0.2.1/32")
	p.resolver = resolver(t, func(int64) []string { return []string{"127.0.0.1", "127.0.0.2", "0.0.0.0"} })
	var r *RefusedError
	if err := get(t, p, "http://ops.example:"+port+"/"); !errors.As(err, &r) {
		t.Errorf("%v", err)
	}
}

// resolver asks a DNS server that answers A questions with what addrs says to the n-th of
// them.
func resolver(t *testing.T, addrs func(n int64) []string) *net.Resolver {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			for _, a := range addrs(n.Add(1)) {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.ParseIP(a)})
			}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// A proxy of the environment would dial in our place, whatever the list says: none is
// used.
func TestProxiesOfTheEnvironmentAreNotUsed(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	defer proxy.Close()
	for _, v := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(v, proxy.URL)
	}
	tr := parse(t, "127.0.0.1").Transport()
	if tr.Proxy != nil {
		u, err := tr.Proxy(&http.Request{URL: &url.URL{Scheme: "http", Host: "192.0.2.1"}})
		t.Errorf("proxy %v, %v", u, err)
	}
	if err := get(t, parse(t, ""), "http://169.254.169.254/latest/meta-data/"); err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("%v", err)
	}
}

// A redirect of a good host leads nowhere that could not be called itself, also for a
// client that follows it.
func TestRedirectToTheLoopback(t *testing.T) {
	_, port := internal(t)
	good := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.2:"+port+"/", http.StatusTemporaryRedirect)
	}))
	good.Start()
	defer good.Close()
	client := &http.Client{Transport: parse(t, "127.0.0.1").Transport()}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, good.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(req)
	if err == nil {
		answer.Body.Close()
	}
	var r *RefusedError
	if !errors.As(err, &r) || r.Addr.String() != "127.0.0.2" {
		t.Errorf("%v", err)
	}
}
