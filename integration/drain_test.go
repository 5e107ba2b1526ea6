package integration_test

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// TestSIGTERM drains an edge: every client gets its 1001, not all of them together, and the process ends with 0 after
// the last one, well before its time is over. A second SIGTERM does not wait.
func TestSIGTERM(t *testing.T) {
	unit := harness.Unit{ID: "center", Range: "0-9999", Origins: []string{harness.StartOrigin(t, "center", harness.NewRegister(), 0).Addr}}
	system := harness.StartSystem(t, harness.Config{Namespace: "term", Domain: "term.example.com", Units: []harness.Unit{unit}})
	edge := system.StartEdge(t, "term-1", unit, "127.0.0.1:"+strconv.Itoa(harness.FreePort(t)), "--drain-time", "4s")
	dial := func(addr string, id int) *harness.Client {
		return harness.MustDial(t, harness.Handshake{Addr: addr, Host: system.Domain, RouterID: strconv.Itoa(id)})
	}
	const n = 60
	ended := make(chan time.Time, n)
	var clients sync.WaitGroup
	for i := range n {
		c := dial(edge.Addr, i)
		clients.Go(func() {
			defer c.Drop()
			var err error
			for err == nil {
				_, err = c.Read(within)
			}
			var closed *harness.CloseError
			if !errors.As(err, &closed) || closed.Code != 1001 {
				t.Errorf("a client ends with %v", err)
			}
			ended <- time.Now()
		})
	}
	admin := adminOf(t, edge)
	edge.Signal(t, syscall.SIGTERM)
	first := <-ended
	if code, body := fetch(t, admin+"/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz of a draining edge: %d %s", code, body)
	}
	if code := edge.Wait(t, within); code != 0 {
		t.Errorf("exit code %d", code)
	}
	clients.Wait()
	close(ended)
	last := first
	for at := range ended {
		last = at
	}
	// They are due over 3 s.
	if d := last.Sub(first); d < 2*time.Second {
		t.Errorf("all %d sessions were closed within %v", n, d)
	}

	patient := system.StartEdge(t, "term-2", unit, "127.0.0.1:"+strconv.Itoa(harness.FreePort(t)), "--drain-time", "24h")
	c := dial(patient.Addr, 1)
	defer c.Drop()
	admin = adminOf(t, patient)
	patient.Signal(t, syscall.SIGTERM)
	harness.Eventually(t, within, "it drains", func() bool { code, _ := fetch(t, admin+"/readyz"); return code == http.StatusServiceUnavailable })
	patient.Signal(t, syscall.SIGTERM)
	if code := patient.Wait(t, within); code == 0 {
		t.Error("a second SIGTERM was waited for")
	}
}

var adminLine = regexp.MustCompile(`msg="admin listener" addr=(\S+)`)

// adminOf is the URL of an edge's admin listener.
func adminOf(t *testing.T, e *harness.EdgeProcess) string {
	t.Helper()
	m := adminLine.FindStringSubmatch(e.Stderr.String())
	if m == nil {
		t.Fatalf("no admin listener: %s", e.Stderr)
	}
	return "http://" + m[1]
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
