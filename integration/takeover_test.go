package integration_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/certs/certstest"
	"github.com/unitgate/unitgate/integration/harness"
)

// takeOvers is an edge that is upgraded again and again, as processes, under clients that come without a pause.
type takeOvers struct {
	t        *testing.T
	system   *harness.System
	args     []string // of `unitgate edge`
	addr     string
	tlsAddr  string
	admin    string // URL
	stateDir string
	secure   *tls.Config
	kills    atomic.Int64 // of processes that have clients, counted before and after
}

func startTakeOvers(t *testing.T) *takeOvers {
	authority := certstest.New(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "edge.pem"), filepath.Join(dir, "edge.key")
	authority.Issue(cert, key, certstest.Leaf{Names: []string{"127.0.0.1"}})
	place := func() string { return "127.0.0.1:" + strconv.Itoa(harness.FreePort(t)) }
	o := &takeOvers{
		t: t, addr: place(), tlsAddr: place(), stateDir: filepath.Join(dir, "state"),
		secure: &tls.Config{RootCAs: authority.Pool, ServerName: "127.0.0.1"},
	}
	unit := harness.Unit{ID: "center", Range: "0-9999", Origins: []string{startEchoes(t)}}
	o.system = harness.StartSystem(t, harness.Config{Namespace: "upgrade", Domain: "upgrade.example.com", Units: []harness.Unit{unit}})
	admin := place()
	o.admin = "http://" + admin
	o.args = []string{
		"edge", "--nats", o.system.NATS, "-n", o.system.Namespace, "--unit", unit.ID, "--cluster", unit.Cluster(), "--listen", o.addr,
		"--listen-tls", o.tlsAddr, "--tls-cert", cert, "--tls-key", key, "--admin", admin, "--state-dir", o.stateDir, "--take-over",
	}
	return o
}

// first starts an edge that finds nobody to take over from.
func (o *takeOvers) first() *harness.Process {
	o.t.Helper()
	p := harness.Start(o.t, o.args...)
	harness.Eventually(o.t, within, "the edge serves", func() bool { return o.ready() == http.StatusOK })
	return p
}

// next starts another process in the place of the one that accepts.
func (o *takeOvers) next(flags ...string) *harness.Process {
	o.t.Helper()
	p := harness.Start(o.t, append(o.args, flags...)...)
	harness.Eventually(o.t, within, "it has taken over", func() bool {
		if !p.Running() {
			o.t.Fatalf("it has ended: %s", p.Stderr)
		}
		return strings.Contains(p.Stderr.String(), `msg="taken over"`)
	})
	if code := o.ready(); code != http.StatusOK {
		o.t.Errorf("/readyz after a take-over: %d", code)
	}
	return p
}

// ready is what /readyz answers, 0 if nobody does.
func (o *takeOvers) ready() int {
	resp, err := http.Get(o.admin + "/readyz")
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// open makes a session whose stream echoes.
func (o *takeOvers) open(secure bool, id int) (net.Conn, *bufio.Reader, error) {
	addr := o.addr
	if secure {
		addr = o.tlsAddr
	}
	tcp, err := net.DialTimeout("tcp", addr, within)
	if err != nil {
		return nil, nil, err
	}
	c := tcp
	_ = c.SetDeadline(time.Now().Add(3 * within))
	_ = tcp.(*net.TCPConn).SetLinger(0) // no port is kept in TIME_WAIT
	if secure {
		c = tls.Client(tcp, o.secure)
	}
	_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nrouterId: %d\r\n\r\n", o.system.Domain, id)
	br := bufio.NewReaderSize(c, 512)
	if err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(br, nil); err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
			err = errors.New(resp.Status)
		}
	}
	if err == nil {
		err = echo(c, br, "hello")
	}
	if err != nil {
		_ = tcp.Close()
		return nil, nil, err
	}
	return c, br, nil
}

func echo(c net.Conn, br *bufio.Reader, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(br, got); err != nil || string(got) != text {
		return fmt.Errorf("sent %q, got %q, %w", text, got, err)
	}
	return nil
}

// stream is a session that talks all the time.
type stream struct {
	stop chan struct{}
	end  chan error // gets one
}

// stand opens sessions that talk until they are stopped; any gap in what they say is an error.
func (o *takeOvers) stand(plain, secure int) []*stream {
	o.t.Helper()
	var all []*stream
	for i := range plain + secure {
		c, br, err := o.open(i >= plain, i)
		if err != nil {
			o.t.Fatal(err)
		}
		s := &stream{make(chan struct{}), make(chan error, 1)}
		all = append(all, s)
		go func() {
			defer c.Close()
			for n := 0; ; n++ {
				select {
				case <-s.stop:
					s.end <- nil
					return
				case <-time.After(20 * time.Millisecond):
				}
				_ = c.SetDeadline(time.Now().Add(within))
				if err := echo(c, br, fmt.Sprintf("%08d;", n)); err != nil {
					s.end <- fmt.Errorf("message %d: %w", n, err)
					return
				}
			}
		}()
	}
	return all
}

func (s *stream) close(t *testing.T) {
	t.Helper()
	close(s.stop)
	if err := <-s.end; err != nil {
		t.Errorf("a session of a former process: %v", err)
	}
}

// crowd has rate clients a second come, whatever becomes of those before, one in thirty over TLS. stop ends it and returns how
// many came; each that was not served is an error of the test.
func (o *takeOvers) crowd(rate int) (came *atomic.Int64, stop func() int) {
	end, done := make(chan struct{}), make(chan struct{})
	came = new(atomic.Int64)
	var all sync.WaitGroup
	go func() {
		defer close(done)
		began := time.Now()
		for n := 0; ; {
			select {
			case <-end:
				return
			case <-time.After(2 * time.Millisecond):
			}
			for due := int(time.Since(began).Seconds() * float64(rate)); n < due; n++ {
				id := n
				all.Go(func() {
					before := o.kills.Load()
					c, _, err := o.open(id%30 == 0, id)
					lost := o.kills.Load() != before || before%2 == 1 // it may have been with the process that was killed
					if err != nil && lost && !errors.Is(err, syscall.ECONNREFUSED) {
						return
					}
					if err != nil {
						o.t.Errorf("client %d was not served: %v", id, err)
						return
					}
					came.Add(1)
					_ = c.Close()
				})
			}
		}
	}()
	return came, func() int {
		close(end)
		<-done
		all.Wait()
		return int(came.Load())
	}
}

// TestTakeOver upgrades an edge under load: nobody is refused or reset, no session is touched, and every former process
// ends by itself with its last session. UNITGATE_TAKEOVERS=20 does it 20 times with 1,000 handshakes a second.
func TestTakeOver(t *testing.T) {
	times, rate := 4, 300
	if n, err := strconv.Atoi(os.Getenv("UNITGATE_TAKEOVERS")); err == nil {
		times, rate = n, 1000
	}
	o := startTakeOvers(t)
	processes := []*harness.Process{o.first()}
	streams := [][]*stream{o.stand(4, 2)}
	came, stop := o.crowd(rate)
	began := time.Now()
	for i := range times {
		// They come before, between and after.
		harness.Eventually(t, within, "the clients keep coming", func() bool { return came.Load() > int64(i*rate/2) })
		processes = append(processes, o.next())
		streams = append(streams, o.stand(4, 2))
	}
	took := time.Since(began)
	n := stop()
	t.Logf("%d clients during %d take-overs in %v: %.0f handshakes/s", n, times, took.Round(time.Millisecond), float64(n)/took.Seconds())

	accepting := 0
	edges := o.system.Edges(t)
	for _, e := range edges {
		if e.Address != "" {
			accepting++
		}
	}
	if len(edges) != times+1 || accepting != 1 {
		t.Errorf("the journal knows %+v", edges)
	}
	for i, p := range processes[:times] {
		if !p.Running() {
			t.Errorf("process %d has ended and had sessions: %s", i, p.Stderr)
		}
		for _, s := range streams[i] {
			s.close(t)
		}
		if code := p.Wait(t, within); code != 0 {
			t.Errorf("process %d ends with %d: %s", i, code, p.Stderr)
		}
	}
	if edges := o.system.Edges(t); len(edges) != 1 || edges[0].Address != o.addr || !edges[0].Live {
		t.Errorf("in the end the journal knows %+v", edges)
	}
	if dirs, err := filepath.Glob(filepath.Join(o.stateDir, "*", "state.json")); err != nil || len(dirs) != 1 {
		t.Errorf("in the end there are %v, %v", dirs, err)
	}
	for _, s := range streams[times] {
		s.close(t)
	}
}

// TestTakeOverFails: whatever becomes of a process that wants to take over, and when, somebody accepts. The clients that a
// killed process has are lost with it, and nobody else.
func TestTakeOverFails(t *testing.T) {
	o := startTakeOvers(t)
	old := o.first()
	streams := o.stand(2, 1)
	_, stop := o.crowd(100)

	// It cannot be what runs here.
	wrong := harness.Run(t, append(o.args, "--cluster", "ws-other")...)
	if wrong.Code == 0 || !strings.Contains(wrong.Stderr, "cluster") {
		t.Errorf("%d %s", wrong.Code, wrong.Stderr)
	}
	// Without the flag, two of them are one too many.
	double := harness.Run(t, o.args[:len(o.args)-1]...)
	if double.Code == 0 || !strings.Contains(double.Stderr, "--take-over") {
		t.Errorf("%d %s", double.Code, double.Stderr)
	}
	// It dies before it is ready: the control plane does not let it join.
	o.system.Control.Kill()
	never := harness.Start(t, o.args...)
	harness.Eventually(t, within, "it tries", func() bool { return strings.Contains(never.Stderr.String(), "edge starts") })
	never.Kill()
	harness.Eventually(t, within, "the other one goes on", func() bool { return strings.Contains(old.Stderr.String(), "this edge goes on") })
	o.system.StartControl(t)

	// It dies after it has taken over: the other one, which has sessions, accepts again, and gets its address back.
	for range 2 {
		next := o.next()
		o.kills.Add(1)
		next.Kill()
		o.kills.Add(1)
		harness.Eventually(t, within, "the former process is registered with its address again, and the dead one is gone", func() bool {
			edges := o.system.Edges(t)
			return len(edges) == 1 && edges[0].Address == o.addr && edges[0].Live
		})
		if o.ready() != http.StatusOK {
			t.Error("the former process is not ready")
		}
	}
	// And told to, it closes what it has.
	last := o.next("--take-over-rate", "100")
	if code := old.Wait(t, within); code != 0 {
		t.Errorf("the former process ends with %d: %s", code, old.Stderr)
	}
	for _, s := range streams {
		if err := <-s.end; err == nil {
			t.Error("a session was not closed")
		}
	}
	if n := stop(); n == 0 {
		t.Error("nobody came")
	}
	if edges := o.system.Edges(t); len(edges) != 1 {
		t.Errorf("%+v", edges)
	}
	last.Stop(t)
}

// startEchoes starts an origin that switches protocols, whatever it is asked, and sends every byte back.
func startEchoes(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				br := bufio.NewReaderSize(c, 1024)
				for line := ""; line != "\r\n"; {
					if line, err = br.ReadString('\n'); err != nil {
						return
					}
				}
				if _, err = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"); err == nil {
					_, _ = io.Copy(c, br)
				}
			}()
		}
	}()
	return ln.Addr().String()
}
