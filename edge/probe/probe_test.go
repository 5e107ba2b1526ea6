package probe

import (
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/origin"
)

const patience = 30 * time.Second // until a test gives up waiting

// bench is a prober with the book of what it probes.
type bench struct {
	*Prober
	t     *testing.T
	book  origin.Book
	start time.Time
}

func newBench(t *testing.T) *bench {
	before := runtime.NumGoroutine()
	b := &bench{t: t, start: time.Now()}
	b.Prober = New(func() time.Duration { return time.Since(b.start) }, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		b.Close()
		b.eventually("no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	})
	return b
}

func (b *bench) watch(check origin.Check, addrs ...string) {
	b.book.Update([]origin.List{{Addresses: addrs, Check: check}})
	b.Watch(b.book.Origins())
}

func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("never happened: %s: %+v", what, b.book.Status(0))
		}
	}
}

func (b *bench) state(i int) string { return b.book.Status(b.now())[i].State }

func (b *bench) becomes(state string) {
	b.t.Helper()
	b.eventually(state, func() bool { return b.state(0) == state })
}

func quick(kind string) origin.Check {
	return origin.Check{Probe: kind, Path: "/up?deep=1", Expect: "2xx-3xx", Interval: 5 * time.Millisecond, Timeout: time.Second, Rise: 2, Fall: 3}
}

// An origin that goes down is found down, and up again when it is back.
func TestDownAndUpAgain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	b := newBench(t)
	b.watch(quick("tcp"), addr)
	_ = ln.Close()
	b.becomes("down")
	if st := b.book.Status(b.now())[0]; !strings.Contains(st.Error, "probe: ") || !strings.Contains(st.Error, "refused") {
		t.Errorf("%+v", st)
	}
	if ln, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	b.becomes("healthy")
}

// Servers that check Host, as Django does by ALLOWED_HOSTS, answer 400 to anybody who names an address.
func TestHost(t *testing.T) {
	var stopped atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case stopped.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.Host != "app.example:8080":
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer srv.Close()
	b := newBench(t)
	for _, host := range []string{"", "app.example", "other.example:8080"} {
		check := quick("http")
		check.Host = host
		b.watch(check, srv.Listener.Addr().String())
		b.becomes("down")
	}
	stopped.Store(true)
	check := quick("http")
	check.Host = "app.example:8080"
	b.watch(check, srv.Listener.Addr().String())
	b.becomes("down")
	stopped.Store(false)
	b.becomes("healthy")
}

// An http probe is a GET of the path that says who asks, names no user, follows no redirect, and expects a status.
func TestHTTP(t *testing.T) {
	var status atomic.Int32
	var bad atomic.Pointer[http.Request]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.RequestURI != "/up?deep=1" || r.UserAgent() != "unitgate-probe" || r.Header.Get("Upgrade") != "" || r.Header.Get("routerId") != "" {
			bad.Store(r)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(status.Load()))
	}))
	defer srv.Close()
	b := newBench(t)
	status.Store(302)
	b.watch(quick("http"), srv.Listener.Addr().String())
	for _, c := range []struct {
		expect string
		status int32
		state  string
	}{
		{"2xx-3xx", 302, "healthy"}, {"2xx-3xx", 500, "down"}, {"2xx-3xx", 204, "healthy"}, {"2xx-3xx", 404, "down"},
		{"2xx", 302, "down"}, {"2xx", 200, "healthy"}, {"any", 503, "healthy"},
	} {
		check := quick("http")
		check.Expect = c.expect
		status.Store(c.status)
		b.watch(check, srv.Listener.Addr().String())
		b.becomes(c.state)
		if c.state == "healthy" {
			if err := b.once(t.Context(), srv.Listener.Addr().String(), check); err != nil {
				t.Errorf("%d of %s: %v", c.status, c.expect, err)
			}
		}
	}
	if r := bad.Load(); r != nil {
		t.Errorf("%s %s %v", r.Method, r.RequestURI, r.Header)
	}
}

// An origin whose queue of connections is full, and one that accepts and never answers, are found by the timeout.
func TestSilence(t *testing.T) {
	full := backlogged(t)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for kind, addr := range map[string]string{"tcp": full, "http": mute.Addr().String()} {
		b := newBench(t)
		check := quick(kind)
		check.Timeout = 30 * time.Millisecond
		b.watch(check, addr)
		b.becomes("down")
		if st := b.book.Status(b.now())[0]; !strings.Contains(st.Error, "no answer in 30ms") {
			t.Errorf("%s: %+v", kind, st)
		}
	}
}

// backlogged is an address whose connects hang: the queue of its listener, which nobody empties, is full.
func backlogged(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*syscall.SockaddrInet4).Port}).String()
	for {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// What stays is probed on as it was; what goes, and what is not to be probed, is left in peace.
func TestWatch(t *testing.T) {
	var dials [2]atomic.Int32
	var addrs [2]string
	for i := range addrs {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		addrs[i] = ln.Addr().String()
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				dials[i].Add(1)
				_ = c.Close()
			}
		}()
	}
	b := newBench(t)
	b.watch(quick("tcp"), addrs[:]...)
	b.eventually("both are probed", func() bool { return dials[0].Load() > 1 && dials[1].Load() > 1 })
	stays := maps.Clone(b.running)
	b.watch(quick("tcp"), addrs[0])
	for o := range b.running {
		if stays[o] == nil || len(b.running) != 1 {
			t.Error("the origin that stays is probed anew")
		}
	}
	n := dials[0].Load()
	b.eventually("it is probed on", func() bool { return dials[0].Load() > n+2 })
	b.watch(quick("none"), addrs[:]...)
	b.eventually("no probe is under way", func() bool { return len(b.turns) == 0 })
	if len(b.running) != 0 {
		t.Errorf("%d origins are probed", len(b.running))
	}
	b.Close()
	b.watch(quick("tcp"), addrs[:]...) // too late
	if len(b.running) != 0 {
		t.Error("a closed prober begins anew")
	}
}
