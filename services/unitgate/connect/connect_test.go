package connect_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/unitgate/unitgate/services/unitgate/connect"
)

// run starts a client and gives its output line by line. The client is stopped, and must stop, at the end of the test.
func run(t *testing.T, url string) (next func() string, wait func() error, stop context.CancelFunc) {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	c := &connect.Client{URL: url, RouterID: "6249", UnitType: "unit_type", RetryAfter: time.Millisecond, Out: w, ErrOut: w}
	ended := make(chan error, 1)
	go func() {
		err := c.Run(ctx)
		w.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(r)
	next = func() string {
		if !lines.Scan() {
			return "<end>"
		}
		return lines.Text()
	}
	wait = func() error {
		go io.Copy(io.Discard, r)
		select {
		case err := <-ended:
			return err
		case <-time.After(30 * time.Second):
			t.Fatal("the client does not stop")
			return nil
		}
	}
	t.Cleanup(func() { cancel(); r.Close() })
	return next, wait, cancel
}

// The walkthrough: redirected, connected, evicted with 1012, back at the address that the redirect named, and
// redirected from there.
func TestTheWalkthroughsLines(t *testing.T) {
	var hz, bj, entry *httptest.Server
	var moved atomic.Bool
	serve := func(w http.ResponseWriter, r *http.Request, unit string) {
		if r.Header.Get("routerId") != "6249" || r.Header.Get("unitType") != "unit_type" {
			http.Error(w, "headers are missing", http.StatusTeapot)
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.Write(r.Context(), websocket.MessageText, []byte("Welcome to the server! "+unit))
		_, hello, _ := c.Read(r.Context())
		if len(hello) != 13 {
			hello = []byte("no milliseconds: " + string(hello))
		}
		c.Write(r.Context(), websocket.MessageText, []byte(strings.Repeat("d", len(hello))+":"+unit))
		if unit == "unbj" {
			moved.Store(true)
			c.Close(1012, "moved to center")
			return
		}
		c.Read(r.Context())
	}
	hz = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, "center") }))
	bj = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if moved.Load() {
			w.Header().Set("Location", hz.URL+"/chat?x=1")
			w.WriteHeader(http.StatusFound)
			return
		}
		serve(w, r, "unbj")
	}))
	entry = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", strings.TrimPrefix(bj.URL, "http:")+r.URL.RequestURI()) // protocol-relative
		w.WriteHeader(http.StatusFound)
	}))
	for _, s := range []*httptest.Server{hz, bj, entry} {
		t.Cleanup(s.Close)
	}
	url := strings.Replace(entry.URL, "http:", "ws:", 1) + "/chat?x=1"
	next, wait, stop := run(t, url)
	bjHost := strings.TrimPrefix(bj.URL, "http:")
	for _, want := range []string{
		fmt.Sprintf("!!! redirecting... from  %s  to %s/chat?x=1", url, bjHost),
		"connected:6249", "msg: Welcome to the server! unbj", "msg: ddddddddddddd:unbj",
		"disconnected: 1012 moved to center", "!!! reconnecting in ...1 ms",
		fmt.Sprintf("!!! redirecting... from  ws:%s/chat?x=1  to %s/chat?x=1", bjHost, hz.URL),
		"connected:6249", "msg: Welcome to the server! center", "msg: ddddddddddddd:center",
	} {
		if got := next(); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
	stop()
	if err := wait(); err != nil {
		t.Error(err)
	}
}

func TestRedirectLoop(t *testing.T) {
	var hits atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", fmt.Sprintf("/%d", hits.Add(1)))
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer s.Close()
	_, wait, _ := run(t, s.URL)
	if err := wait(); !errors.Is(err, connect.ErrRedirectLoop) {
		t.Errorf("got %v", err)
	}
	if hits.Load() != 11 {
		t.Errorf("%d handshakes, want 11", hits.Load())
	}
}

// A unit that cannot redirect says in a Close frame where the client belongs, maybe without its path and query.
func TestClosedElsewhere(t *testing.T) {
	right := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.Write(r.Context(), websocket.MessageText, []byte("asked for "+r.URL.RequestURI()))
		c.Read(r.Context())
		c.Read(r.Context())
	}))
	defer right.Close()
	to := strings.Replace(right.URL, "http:", "ws:", 1) + "/"
	var nowhere atomic.Bool
	wrong := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil && nowhere.Load() {
			c.Close(4302, "nowhere")
		} else if err == nil {
			c.Close(4302, to)
		}
	}))
	defer wrong.Close()
	next, wait, stop := run(t, wrong.URL+"/chat?x=1")
	for _, want := range []string{
		"connected:6249", "disconnected: 4302 " + to,
		fmt.Sprintf("!!! redirecting... from  %s/chat?x=1  to %s", wrong.URL, to),
		"connected:6249", "msg: asked for /chat?x=1",
	} {
		if got := next(); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
	stop()
	if err := wait(); err != nil {
		t.Error(err)
	}
	nowhere.Store(true)
	_, wait, _ = run(t, wrong.URL)
	if err := wait(); !errors.Is(err, connect.ErrRefused) {
		t.Errorf("sent nowhere: %v", err)
	}
}

func TestAnswersThatEndIt(t *testing.T) {
	for _, c := range []struct {
		status   int
		location string
		want     error
	}{{400, "", connect.ErrRefused}, {426, "", connect.ErrRefused}, {302, "ftp://elsewhere/", connect.ErrRefused}} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.location != "" {
				w.Header().Set("Location", c.location)
			}
			w.WriteHeader(c.status)
			fmt.Fprintln(w, "bad routerId")
		}))
		_, wait, _ := run(t, s.URL)
		if err := wait(); !errors.Is(err, c.want) {
			t.Errorf("%d %s: got %v", c.status, c.location, err)
		}
		s.Close()
	}
}

func TestTroubleIsRetried(t *testing.T) {
	var hits atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch hits.Add(1) {
		case 1:
			http.Error(w, "held for too long", http.StatusServiceUnavailable)
		case 2:
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
		case 3:
			c, err := websocket.Accept(w, r, nil)
			if err == nil {
				c.CloseNow()
			}
		default:
			c, err := websocket.Accept(w, r, nil)
			for err == nil {
				_, _, err = c.Read(r.Context())
			}
		}
	}))
	defer s.Close()
	next, wait, stop := run(t, s.URL)
	again := "!!! reconnecting in ...1 ms"
	for _, want := range []string{
		"err: " + s.URL + " answers 503 Service Unavailable: held for too long", "disconnected", again,
		"err: cannot connect to " + s.URL + ": EOF", "disconnected", again,
		"connected:6249", "disconnected: 1006 EOF", again, "connected:6249",
	} {
		if got := next(); got != want && !strings.HasPrefix(got, "disconnected: 1006 ") { // EOF or a reset
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
	stop()
	if err := wait(); err != nil {
		t.Error(err)
	}
}

// A server that ignores the Close cannot keep the client.
func TestStopsWithoutTheServersConsent(t *testing.T) {
	ignore := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil {
			<-ignore
			c.CloseNow()
		}
	}))
	defer s.Close()
	defer close(ignore)
	next, wait, stop := run(t, s.URL)
	if got := next(); got != "connected:6249" {
		t.Fatal(got)
	}
	began := time.Now()
	stop()
	if err := wait(); err != nil || time.Since(began) > 3*time.Second {
		t.Errorf("stopped after %s with %v", time.Since(began), err)
	}
}

func TestCheck(t *testing.T) {
	for _, bad := range []string{"", "localhost:7101", "ftp://x/", "ws://", "ws:///path", "http://%zz/", "ws://a b/"} {
		if connect.Check(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	for _, good := range []string{"ws://127.0.0.1:7101/", "wss://a.example/b?c=d", "http://websocket.localhost", "https://[::1]:7101/"} {
		if err := connect.Check(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}
