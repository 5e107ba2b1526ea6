package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// resolver is a resolver that says what a test wants.
type resolver struct {
	mu    sync.Mutex
	addrs []netip.AddrPort
	err   error
	slow  chan struct{} // nil, or closed when it may answer
}

func (z *resolver) say(err error, addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addrs, z.err = nil, err
	for _, a := range addrs {
		z.addrs = append(z.addrs, netip.MustParseAddrPort(a))
	}
}

func (z *resolver) lookUp(ctx context.Context, _ string) ([]netip.AddrPort, error) {
	if z.slow != nil {
		select {
		case <-z.slow:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.addrs, z.err
}

// serves opens n sessions and wants each to get its 101.
func (f *fixture) serves(n int) (all []*peer) {
	f.t.Helper()
	for range n {
		p := f.connect(requestFor("7"))
		p.want([]byte(switching)...)
		all = append(all, p)
	}
	return all
}

// A name with several addresses is as many origins: each gets its share, and is left alone by itself when it fails.
func TestAddressesOfANameAreOrigins(t *testing.T) {
	var addrs []string
	for range 3 {
		ln, _ := server(t, "127.0.0.1:0", echoing)
		addrs = append(addrs, ln.Addr().String())
	}
	z := &resolver{slow: make(chan struct{})}
	z.say(nil, addrs...)
	f := start(t, Config{lookUp: z.lookUp}, "app.example:9000")
	f.own()
	first := f.connect(requestFor("7")) // it waits for the look-up
	f.waitState(stDial)
	close(z.slow)
	first.want([]byte(switching)...)
	f.serves(149)
	for _, a := range addrs {
		if st := f.of(a); st.Sessions != 50 || st.State != "healthy" {
			t.Errorf("%+v", st)
		}
	}
}

func TestBadAddressesOfANameHarmNobody(t *testing.T) {
	good, _ := server(t, "127.0.0.1:0", echoing)
	closing, _ := server(t, "127.0.0.1:0", func(*net.TCPConn) {})
	other, _ := server(t, "127.0.0.1:0", func(c *net.TCPConn) { _, _ = io.WriteString(c, "220 smtp\r\n") })
	for what, bad := range map[string]string{
		"it closes": closing.Addr().String(), "it refuses": refusing(t), "it is no HTTP": other.Addr().String(),
		"there is no way": "[2001:db8::1]:9000", "IPv6 refuses": "[::1]:1", "it is silent": fullBacklog(t),
	} {
		t.Run(what, func(t *testing.T) {
			z := &resolver{}
			z.say(nil, bad, good.Addr().String())
			f := start(t, Config{lookUp: z.lookUp, DialTimeout: 100 * time.Millisecond}, "app.example:9000")
			f.own()
			f.serves(12)
			if st := f.of(good.Addr().String()); st.Sessions != 12 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// What a name leads to changes: new addresses are in use after the TTL, without a change of the configuration, and the
// sessions on the old ones stay. A resolver that fails then takes nothing away.
func TestNameLeadsElsewhere(t *testing.T) {
	old, _ := server(t, "127.0.0.1:0", echoing)
	fresh, _ := server(t, "127.0.0.1:0", echoing)
	z := &resolver{}
	z.say(nil, old.Addr().String())
	f := start(t, Config{lookUp: z.lookUp}, "app.example:9000")
	f.own()
	stay := f.serves(4)
	z.say(nil, fresh.Addr().String())
	eventually(t, "the new address is used", func() bool {
		_ = f.serves(1)[0].Close()
		for _, o := range f.Origins() {
			if o.Address == fresh.Addr().String() && o.Connects > 0 {
				return true
			}
		}
		return false
	})
	if st := f.of(old.Addr().String()); st.State != "removed" || st.Sessions < 4 {
		t.Errorf("%+v", st)
	}
	for _, p := range stay {
		b := frameOf(0x82, []byte("still here"), true)
		p.send(b...)
		p.want(b...)
	}
	z.say(errors.New("SERVFAIL"))
	f.own()
	f.serves(3)
	if st := f.of(fresh.Addr().String()); st.State != "healthy" {
		t.Errorf("%+v", st)
	}
}

// A name that leads nowhere is told as such, and as soon as it leads somewhere it is used.
func TestNameLeadsNowhere(t *testing.T) {
	ln, _ := server(t, "127.0.0.1:0", echoing)
	z := &resolver{}
	z.say(errors.New("no such host"))
	f := start(t, Config{lookUp: z.lookUp}, "app.example:9000")
	f.own()
	if code, _, _ := f.connect(requestFor("7")).status(); code != 502 {
		t.Errorf("%d", code)
	}
	if st := f.of("app.example:9000"); st.Error != "no such host" {
		t.Errorf("%+v", st)
	}
	z.say(nil, ln.Addr().String())
	f.serves(2)
}
