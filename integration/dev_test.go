package integration_test

import (
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// TestDev holds the ready file against the contract and what it says against what serves, ends dev both
// ways, and starts it again on the same data.
func TestDev(t *testing.T) {
	harness.Binary(t) // not part of the start that is measured
	data := t.TempDir()
	for _, run := range []struct {
		signal syscall.Signal
		args   []string
	}{{syscall.SIGINT, nil}, {syscall.SIGTERM, nil}, {syscall.SIGTERM, []string{"--data", data}}, {syscall.SIGTERM, []string{"--data", data}}} {
		began := time.Now()
		dev := harness.StartDev(t, run.args...)
		took := time.Since(began)
		t.Logf("ready after %v", took.Round(time.Millisecond))
		// The promise is 3 s; a loaded machine and the race detector get more.
		if limit := 15 * time.Second; took > limit {
			t.Errorf("ready after %v, more than %v", took, limit)
		}
		checkReady(t, dev)
		checkEdges(t, dev)
		dev.Signal(t, run.signal)
		if code := dev.Wait(t, within); code != 0 {
			t.Errorf("exit code %d after %v", code, run.signal)
		}
		if left, err := os.ReadDir(dev.Temp); err != nil || len(left) > 0 {
			t.Errorf("temporary files are left after %v: %v, %v", run.signal, left, err)
		}
		for _, u := range dev.Ready.Units {
			if conn, err := net.Dial("tcp", u.Edges[0]); err == nil {
				conn.Close()
				t.Errorf("%s still answers", u.Edges[0])
			}
		}
	}
}

func checkReady(t *testing.T, dev *harness.Dev) {
	t.Helper()
	r := dev.Ready
	if r.Namespace != "demo" || r.Domain != "websocket.localhost" || r.UnitType != "unit_type" || len(r.Units) != 2 {
		t.Fatalf("ready file: %+v", r)
	}
	names := []string{r.Units[0].ID, r.Units[0].Name, r.Units[1].ID, r.Units[1].Name}
	if !slices.Equal(names, []string{"center", "杭州中心", "unbj", "北京单元"}) {
		t.Errorf("units: %q", names)
	}
	for _, u := range r.Units {
		if len(u.Edges) != 2 {
			t.Errorf("%s has the edges %q, want two", u.ID, u.Edges)
		}
		for _, addr := range u.Edges {
			client := harness.MustDial(t, harness.Handshake{Addr: addr, RouterID: map[string]string{"center": "1111", "unbj": "8330"}[u.ID]})
			if text, err := client.Read(within); err != nil || string(text) != "Welcome to the server! "+u.ID {
				t.Errorf("%s welcomes with %q, %v", addr, text, err)
			}
			client.Drop()
		}
	}
}

// checkEdges expects every edge at the journal's head, and all with the same state (G4).
func checkEdges(t *testing.T, dev *harness.Dev) {
	t.Helper()
	head := dev.Head(t)
	var edges []harness.Edge
	if !harness.Poll(within, func() bool {
		edges = dev.API.Edges(t)
		return len(edges) == 4 && !slices.ContainsFunc(edges, func(e harness.Edge) bool {
			return !e.Live || e.Applied != head || e.StateHash == "" || e.StateHash != edges[0].StateHash
		})
	}) {
		t.Errorf("the journal's head is %d, the edges are %+v", head, edges)
	}
}
