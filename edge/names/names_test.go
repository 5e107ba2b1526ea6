package names

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// zone is what a resolver says.
type zone struct {
	addrs   map[string][]string
	err     error
	takes   time.Duration
	asked   int
	changes int
}

func (z *zone) lookUp(_ context.Context, addr string) (out []netip.AddrPort, _ error) {
	z.asked++
	time.Sleep(z.takes)
	for _, a := range z.addrs[addr] {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out, z.err
}

func (z *zone) names(t *testing.T) *Names {
	began := time.Now()
	n := New(func() time.Duration { return time.Since(began) }, z.lookUp, time.Second, func() { z.changes++ })
	t.Cleanup(n.Close)
	return n
}

func (n *Names) want(t *testing.T, addr, want string) {
	t.Helper()
	synctest.Wait()
	if got := fmt.Sprint(n.Addresses(addr)); got != want {
		t.Errorf("%s: %s, want %s", addr, got, want)
	}
}

func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{addrs: map[string][]string{"a:1": {"10.0.0.2:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"}}}
		n := z.names(t)
		n.want(t, "a:1", "[]")
		n.Keep([]string{"a:1"})
		n.want(t, "a:1", "[10.0.0.1:1 10.0.0.2:1]")
		n.Keep([]string{"a:1"})
		z.addrs["a:1"] = []string{"10.0.0.1:1", "10.0.0.2:1"} // in another order
		if n.Refresh([]string{"a:1"}, nil) {
			t.Error("what is fresh is waited for")
		}
		if synctest.Wait(); z.asked != 1 {
			t.Errorf("asked %d times", z.asked)
		}

		time.Sleep(TTL) // it may be used still, and is asked for besides
		if n.Refresh([]string{"a:1"}, nil) {
			t.Error("what is not too old is waited for")
		}
		n.want(t, "a:1", "[10.0.0.1:1 10.0.0.2:1]")
		if z.asked != 2 || z.changes != 1 {
			t.Errorf("asked %d times, %d changes", z.asked, z.changes)
		}

		time.Sleep(Stale)
		z.addrs["a:1"], z.takes = []string{"10.0.0.3:1"}, time.Second/2
		answers := 0
		for range 3 {
			if !n.Refresh([]string{"a:1"}, func(err error) {
				if answers++; err != nil || z.changes != 2 {
					t.Errorf("answered with %v after %d changes", err, z.changes)
				}
			}) {
				t.Error("what is too old is not waited for")
			}
		}
		time.Sleep(z.takes)
		n.want(t, "a:1", "[10.0.0.3:1]")
		if answers != 3 || z.asked != 3 {
			t.Errorf("%d answers, asked %d times", answers, z.asked)
		}
	})
}

// A resolver that is down takes nothing away, and is not asked all the time.
func TestResolverIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{addrs: map[string][]string{"a:1": {"10.0.0.1:1"}}}
		n := z.names(t)
		n.Keep([]string{"a:1"})
		synctest.Wait()
		z.addrs["a:1"], z.err = nil, errors.New("no such host")
		time.Sleep(Stale)
		var got error
		if !n.Refresh([]string{"a:1"}, func(err error) { got = err }) {
			t.Error("newer is not waited for")
		}
		n.want(t, "a:1", "[10.0.0.1:1]")
		if got != z.err {
			t.Errorf("%v", got)
		}
		if n.Refresh([]string{"a:1"}, nil) {
			t.Error("it is asked again at once")
		}
		got = nil
		n.Ask("b:1", func(err error) { got = err })
		if synctest.Wait(); got != z.err {
			t.Errorf("who asks is told %v", got)
		}
		n.Keep(nil)
		n.want(t, "a:1", "[]")
	})
}

func TestTooManyAddresses(t *testing.T) {
	var all []netip.AddrPort
	for i := range 20_000 {
		all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1))
	}
	if n := len(tidy(all)); n != Most {
		t.Errorf("%d", n)
	}
}

// No packet tells that there is no way: an address of a family that this host does not have is left out.
func TestSystem(t *testing.T) {
	got, err := System(t.Context(), "localhost:80")
	if err != nil || len(got) == 0 {
		t.Fatalf("%v %v", got, err)
	}
	for _, a := range got {
		if !hasRoute(a) && len(got) > 1 {
			t.Errorf("no way leads to %s", a)
		}
	}
	if hasRoute(netip.MustParseAddrPort("[fe80::1%nowhere]:80")) {
		t.Error("there is a way to a zone that there is not")
	}
}
