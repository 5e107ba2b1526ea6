package integration_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// nodeOrigin is a Node process that serves as an origin, see testdata/wsclient/origin.mjs.
type nodeOrigin struct{ *harness.Process }

// nodeEvent is one line of what it says.
type nodeEvent struct {
	Event    string `json:"event"` // listening, asked, opened, closed
	RouterID string `json:"routerId"`
	Path     string `json:"path"`
	Port     int    `json:"port"`
}

func startNodeOrigin(t *testing.T, library string, delay time.Duration) nodeOrigin {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		harness.Missing(t, "there is no node on the PATH")
	}
	dir := filepath.Join("testdata", "wsclient")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", library)); err != nil {
		harness.Missing(t, "the npm package "+library+" is missing: npm ci --prefix integration/testdata/wsclient")
	}
	o := nodeOrigin{harness.StartProgram(t, dir, node, "origin.mjs", library, strconv.FormatInt(delay.Milliseconds(), 10))}
	harness.Eventually(t, within, library+" listens", func() bool { return len(o.events(t, "listening")) == 1 })
	return o
}

// events are those of a kind, in order.
func (o nodeOrigin) events(t *testing.T, kind string) (out []nodeEvent) {
	t.Helper()
	for _, line := range o.Stdout.Lines() {
		var e nodeEvent
		if line == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("the origin said %q: %v", line, err)
		}
		if e.Event == kind {
			out = append(out, e)
		}
	}
	return out
}

// nodeBed is a system whose second unit is served by Node.
type nodeBed struct {
	t       *testing.T
	system  *harness.System
	origins []nodeOrigin
	addr    string               // of the edge with the sessions that are to stay
	args    []string             // of its program
	holder  *harness.Process     // which runs there
	other   *harness.EdgeProcess // of the same unit
}

func startNodeBed(t *testing.T) *nodeBed {
	b := &nodeBed{t: t}
	var addrs []string
	for _, library := range []string{"websocket", "ws"} {
		o := startNodeOrigin(t, library, 300*time.Millisecond)
		b.origins = append(b.origins, o)
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", o.events(t, "listening")[0].Port))
	}
	center := harness.Unit{ID: "center", Range: "0-5997", Origins: []string{harness.StartOrigin(t, "center", harness.NewRegister(), 0).Addr}}
	unbj := harness.Unit{ID: "unbj", Range: "5998-9999", Origins: addrs}
	b.system = harness.StartSystem(t, harness.Config{Namespace: "node", Domain: "node.example.com", Units: []harness.Unit{center, unbj}})
	place := func() string { return "127.0.0.1:" + strconv.Itoa(harness.FreePort(t)) }
	b.system.StartEdge(t, "center-1", center, place())
	b.addr = place()
	b.args = []string{ // without an id, which one that takes over could not have as long as sessions of the one before last
		"edge", "--nats", b.system.NATS, "-n", b.system.Namespace, "--unit", unbj.ID, "--cluster", unbj.Cluster(), "--listen", b.addr,
		"--advertise", b.addr, "--admin", "127.0.0.1:0", "--state-dir", t.TempDir(), "--take-over",
	}
	b.holder = harness.Start(t, b.args...)
	harness.Eventually(t, within, "the edge serves", func() bool { return len(b.system.Edges(t)) == 2 })
	b.other = b.system.StartEdge(t, "unbj-2", unbj, place())
	return b
}

// stay opens sessions and returns a channel that gets the error of each that ends.
func (b *nodeBed) stay(from, n int) <-chan error {
	b.t.Helper()
	ended, opened := make(chan error, n), make(chan error, n)
	for i := range n {
		id := strconv.Itoa(from + i)
		go func() {
			c, resp, err := harness.Dial(harness.Handshake{Addr: b.addr, Host: b.system.Domain, RouterID: id})
			if err == nil && c == nil {
				err = errors.New(resp.Status)
			}
			if opened <- err; err != nil {
				return
			}
			b.t.Cleanup(c.Drop)
			_, err = c.Read(time.Hour)
			ended <- fmt.Errorf("%s: %w", id, err)
		}()
	}
	for range n {
		if err := <-opened; err != nil {
			b.t.Fatal(err)
		}
	}
	return ended
}

// ask sends handshakes and waits until the origins have them all.
func (b *nodeBed) ask(addr, path string, from, n int) []*net.TCPConn {
	b.t.Helper()
	before := b.count("asked")
	var all []*net.TCPConn
	for i := range n {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			b.t.Cleanup(func() { _ = c.Close() })
			_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nrouterId: %d\r\n\r\n", path, b.system.Domain, from+i)
		}
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, c.(*net.TCPConn))
	}
	harness.Eventually(b.t, within, "the origins are asked", func() bool { return b.count("asked") >= before+n })
	return all
}

func (b *nodeBed) count(kind string) (n int) {
	for _, o := range b.origins {
		n += len(o.events(b.t, kind))
	}
	return n
}

// alive wants both processes to serve still, also after what they had put off.
func (b *nodeBed) alive(when string) {
	b.t.Helper()
	for _, o := range b.origins {
		if !o.Running() {
			b.t.Fatalf("after %s an origin is dead: %s", when, o.Stderr)
		}
	}
}

// settled waits until the origins have come to every handshake that they mean to answer: one more on each edge of the unit
// is answered later than all before it.
func (b *nodeBed) settled() {
	b.t.Helper()
	var all sync.WaitGroup
	for range 2 * len(b.origins) {
		all.Go(func() {
			c, resp, err := harness.Dial(harness.Handshake{Addr: b.addr, Host: b.system.Domain, Target: "/slow", RouterID: "9999"})
			if err != nil || c == nil {
				b.t.Errorf("a handshake afterwards: %v %v", resp, err)
				return
			}
			c.Drop()
		})
	}
	all.Wait()
}

// An edge harms no origin: whatever handshakes are given up for, Node processes that come to them later live on, and so do
// the sessions of users whom none of it concerns.
func TestNodeOriginsLiveThroughGivenUpHandshakes(t *testing.T) {
	b := startNodeBed(t)
	const stayers = 200
	ended := b.stay(6400, stayers)
	for _, o := range b.origins {
		if n := len(o.events(t, "opened")); n < stayers/4 {
			t.Errorf("an origin has only %d of %d sessions", n, stayers)
		}
	}
	leave := func(path string) {
		for i, c := range b.ask(b.addr, path, 7000, 40) {
			if i%2 == 0 {
				_ = c.SetLinger(0)
			}
			_ = c.Close()
		}
		b.settled()
		b.alive("clients that left " + path)
	}
	leave("/")
	leave("/deny")

	preview := b.system.Cutover(t, append([]string{"preview"}, toCenter...)...)
	moving := b.ask(b.addr, "/slow", 6000, 40)
	if done := b.system.Cutover(t, "start", preview.ID, "--wait"); done.State != "completed" {
		t.Fatalf("the cutover: %+v", done)
	}
	for _, c := range moving {
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusFound {
			t.Errorf("a client whose key has moved meanwhile: %v %v", resp, err)
		}
	}
	b.settled()
	b.alive("a cutover")

	b.ask(b.other.Addr, "/slow", 7100, 40)
	b.other.Stop(t)
	b.settled()
	b.alive("a drain")

	before := b.holder
	b.ask(b.addr, "/slow", 7200, 40)
	b.holder = harness.Start(t, b.args...)
	harness.Eventually(t, within, "it has taken over", func() bool { return strings.Contains(b.holder.Stderr.String(), `msg="taken over"`) })
	b.settled()
	b.alive("a take-over")

	var silent sync.WaitGroup
	for _, c := range b.ask(b.addr, "/never", 7300, 2) {
		silent.Go(func() { _, _ = io.ReadAll(c) }) // until the edge has given up
	}
	silent.Wait()
	b.settled()
	b.alive("a deadline")

	select {
	case err := <-ended:
		t.Errorf("an unmoved session has ended: %v", err)
	default:
	}
	for _, o := range b.origins {
		for _, e := range o.events(t, "closed") {
			if id, _ := strconv.Atoi(e.RouterID); id >= 6400 && id < 6400+stayers {
				t.Errorf("the origin has seen the end of an unmoved session: %+v", e)
			}
		}
	}
	before.Signal(t, syscall.SIGKILL) // it would wait for its sessions
}
