package integration_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// TestEdgeAsInit runs an edge as the entry point of a container does, as PID 1 of a pid namespace: it serves from a
// child, which a kernel timer can end, says so, and ends well on SIGTERM.
func TestEdgeAsInit(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		harness.Missing(t, "a pid namespace needs root")
	}
	u := harness.Unit{ID: "center", Range: "0-9999", Location: "127.0.0.1:" + strconv.Itoa(harness.FreePort(t))}
	u.Origins = []string{harness.StartOrigin(t, u.ID, harness.NewRegister(), 0).Addr}
	s := harness.StartSystem(t, harness.Config{Namespace: "init", Domain: "init.example.com", Units: []harness.Unit{u}})
	e := s.StartEdgeAsInit(t, "center-1", u, u.Location, "--drain-time", "0s")
	client := harness.MustDial(t, harness.Handshake{Addr: e.Addr, Host: s.Domain, RouterID: "1"})
	if text, err := client.Read(within); err != nil || string(text) != "Welcome to the server! center" {
		t.Fatalf("%q, %v", text, err)
	}
	e.Signal(t, syscall.SIGTERM)
	if _, err := client.Read(within); !closedWith(err, 1001, "edge is shutting down") {
		t.Errorf("the session ended with %v", err)
	}
	if code := e.Wait(t, within); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	if text := e.Stderr.String(); strings.Count(text, "the work is done by a child") != 1 || strings.Count(text, "edge has stopped") != 1 {
		t.Errorf("the log is %s", text)
	}
}

// TestEdgeEndsWithItsLease stops edges that serve by a lease, an ordinary process and the child of a PID 1: nothing in
// them runs any more that could end the service, and the kernel does it in time (R12).
func TestEdgeEndsWithItsLease(t *testing.T) {
	harness.Long(t, "it waits for leases to run out")
	t.Parallel()
	if os.Geteuid() != 0 {
		harness.Missing(t, "a pid namespace needs root")
	}
	const lease, margin = 15 * time.Second, time.Second
	u := harness.Unit{ID: "center", Range: "0-9999"}
	u.Origins = []string{harness.StartOrigin(t, u.ID, harness.NewRegister(), 0).Addr}
	s := harness.StartSystem(t, harness.Config{Namespace: "ends", Domain: "ends.example.com", Units: []harness.Unit{u}, Policy: "ownership: exclusive, lease: 15s"})
	addr := func() string { return "127.0.0.1:" + strconv.Itoa(harness.FreePort(t)) }
	plain, inside := s.StartEdge(t, "center-1", u, addr()), s.StartEdgeAsInit(t, "center-2", u, addr())
	harness.Eventually(t, lease+within, "both edges hold a lease", func() bool {
		edges := s.API.Edges(t)
		return len(edges) == 2 && !slices.ContainsFunc(edges, func(e harness.Edge) bool { return e.Lease == "" || e.Lease == "0" })
	})
	var clients []*harness.Client
	for _, e := range []*harness.EdgeProcess{plain, inside} {
		clients = append(clients, harness.MustDial(t, harness.Handshake{Addr: e.Addr, Host: s.Domain, RouterID: "1"}))
	}
	stopped := time.Now()
	plain.Signal(t, syscall.SIGSTOP)
	if err := syscall.Kill(childOf(t, inside.PID), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		*harness.EdgeProcess
		code int
	}{{plain, -1}, {inside, 128 + int(syscall.SIGKILL)}} {
		if code := e.Wait(t, 2*lease); code != e.code {
			t.Errorf("edge %s: exit code %d, want %d", e.ID, code, e.code)
		}
		if took := time.Since(stopped); took > lease+margin {
			t.Errorf("edge %s ended %v after it was stopped, its lease is %v", e.ID, took, lease)
		}
	}
	for _, c := range clients {
		_, _ = c.Read(within) // the welcome
		if text, err := c.Read(within); err == nil {
			t.Errorf("a dead edge said %q", text)
		}
	}
}

// childOf is the only child of a process.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // the process may have gone
		number, rest, _ := strings.Cut(string(text), " (")
		_, rest, _ = strings.Cut(rest, ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(number)
			if err != nil {
				t.Fatal(err)
			}
			return child
		}
	}
	t.Fatalf("process %d has no child", pid)
	return 0
}
