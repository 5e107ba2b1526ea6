package integration_test

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

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
	e := s.StartEdgeAsInit(t, "center-1", u, u.Location)
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
