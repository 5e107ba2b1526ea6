package integration_test

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

const (
	burstMessage  = 64 << 10
	burstMessages = 384 // 24 MiB
	burstClients  = 40
	burstLimit    = 512 << 10 // memory of the edge for each client that does not read
)

// TestBurst has an origin send 24 MiB and end, to clients that do not read yet: everything
// arrives, and the edge holds little of it meanwhile.
func TestBurst(t *testing.T) {
	o := startBurstOrigin(t)
	unit := harness.Unit{ID: "center", Range: "0-9999", Origins: []string{o.addr}}
	system := harness.StartSystem(t, harness.Config{Namespace: "burst", Domain: "burst.example.com", Units: []harness.Unit{unit}})
	edge := system.StartEdge(t, "burst-1", unit, "127.0.0.1:"+strconv.Itoa(harness.FreePort(t)))
	dial := func(id int) *harness.Client {
		return harness.MustDial(t, harness.Handshake{Addr: edge.Addr, Host: system.Domain, RouterID: strconv.Itoa(id)})
	}

	// What the edge allocates once, it has after this one.
	o.checkReceived(t, dial(0))

	before := memory(t, edge.PID, "VmRSS")
	clients := make([]*harness.Client, burstClients)
	for i := range clients {
		clients[i] = dial(i + 1)
	}
	o.awaitStalled(t, burstClients)
	grown := memory(t, edge.PID, "VmRSS") - before
	var reading sync.WaitGroup
	for _, c := range clients {
		reading.Go(func() { o.checkReceived(t, c) })
	}
	reading.Wait()
	peak := memory(t, edge.PID, "VmHWM") - before
	t.Logf("memory for each of %d clients: %d KiB while none reads, %d KiB at the peak", burstClients, grown/burstClients>>10, peak/burstClients>>10)
	if !harness.Race && max(grown, peak)/burstClients >= burstLimit {
		t.Errorf("the edge grew by %d and %d bytes, the limit is %d for each client", grown, peak, burstLimit)
	}
}

// burstOrigin answers every handshake with the same burst, then ends the connection.
type burstOrigin struct {
	addr    string
	stream  []byte // as it goes over the wire
	digest  [sha256.Size]byte
	open    atomic.Int64 // connections whose burst is not written out
	written atomic.Int64
}

func startBurstOrigin(t *testing.T) *burstOrigin {
	t.Helper()
	o := &burstOrigin{}
	message := make([]byte, burstMessage)
	for i := range burstMessages {
		for j := range message {
			message[j] = byte(i + j + j>>8)
		}
		o.stream = harness.AppendFrame(o.stream, harness.OpBinary, nil, message)
	}
	o.digest = sha256.Sum256(o.stream)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	o.addr = l.Addr().String()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go o.serve(conn)
		}
	}()
	return o
}

func (o *burstOrigin) serve(conn net.Conn) {
	defer conn.Close()
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil || request.Header.Get("Upgrade") == "" {
		return // a probe
	}
	o.open.Add(1)
	defer o.open.Add(-1)
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
	for rest := o.stream; err == nil && len(rest) > 0; {
		n := 0
		n, err = conn.Write(rest[:min(len(rest), 16<<10)])
		o.written.Add(int64(n))
		rest = rest[n:]
	}
}

// awaitStalled waits until n bursts are under way and none of them gets on.
func (o *burstOrigin) awaitStalled(t *testing.T, n int64) {
	t.Helper()
	const quiet = 300 * time.Millisecond
	last, since := int64(-1), time.Now()
	harness.Eventually(t, within, "the origins are held back", func() bool {
		if now := o.written.Load(); now != last {
			last, since = now, time.Now()
		}
		return o.open.Load() == n && time.Since(since) > quiet
	})
}

// checkReceived reads to the end and compares.
func (o *burstOrigin) checkReceived(t *testing.T, c *harness.Client) {
	t.Helper()
	defer c.Drop()
	digest := sha256.New()
	n, err := io.Copy(digest, c.Raw())
	if err != nil || n != int64(len(o.stream)) || [sha256.Size]byte(digest.Sum(nil)) != o.digest {
		t.Errorf("%d of %d bytes arrived, ended with %v, the same bytes: %v", n, len(o.stream), err, [sha256.Size]byte(digest.Sum(nil)) == o.digest)
	}
}

// memory reads a size from /proc/<pid>/status, in bytes.
func memory(t *testing.T, pid int, field string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if errors.Is(err, os.ErrNotExist) {
		t.Fatalf("process %d is gone", pid)
	} else if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == field+":" {
			kib, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no %s in /proc", field)
	return 0
}
