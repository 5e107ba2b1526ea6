package integration_test

import (
	"strconv"
	"syscall"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// TestProxy has every user come to an edge of one unit, which passes those of the other one on. While the edge that serves
// them hangs, a cutover begins: who moves gets his Close from the edge that he came to, and who stays keeps his session,
// which goes on with the edge. When that dies, its users are told to try again.
func TestProxy(t *testing.T) {
	seen := harness.NewRegister()
	config := harness.Config{Namespace: "proxy", Domain: "websocket.example", Correction: "proxy", Units: []harness.Unit{
		{ID: "center", Range: "0-5999", Origins: []string{harness.StartOrigin(t, "center", seen, 0).Addr}},
		{ID: "unbj", Range: "6000-9999", Origins: []string{harness.StartOrigin(t, "unbj", seen, 0).Addr}},
	}}
	system := harness.StartSystem(t, config)
	addr := func() string { return "127.0.0.1:" + strconv.Itoa(harness.FreePort(t)) }
	serves := system.StartEdge(t, "center-1", config.Units[0], addr())
	comes := system.StartEdge(t, "unbj-1", config.Units[1], addr())
	handshake := func(id string) harness.Handshake {
		return harness.Handshake{Addr: comes.Addr, Host: config.Domain, RouterID: id}
	}
	welcome := func(id, unit string) *harness.Client {
		t.Helper()
		// An edge that has just joined is not known to the other one yet.
		harness.Eventually(t, within, id+" is let in", func() bool {
			c, _, err := harness.Dial(handshake(id))
			if c != nil {
				c.Drop()
			}
			return err == nil && c != nil
		})
		c := harness.MustDial(t, handshake(id))
		if text, err := c.Read(within); err != nil || string(text) != "Welcome to the server! "+unit {
			t.Fatalf("%s reads %q, %v", id, text, err)
		}
		return c
	}
	const moves, stays, local = "5500", "100", "7000"
	mover, stayer, neighbour := welcome(moves, "center"), welcome(stays, "center"), welcome(local, "unbj")
	harness.Eventually(t, within, "two are passed on, and each is counted once", func() bool {
		var list []struct {
			Edge              string
			Sessions, Proxied int
		}
		system.Run(t, "get", "sessions").OK(t).JSON(t, &list)
		at := map[string][2]int{}
		for _, s := range list {
			at[s.Edge] = [2]int{s.Sessions, s.Proxied}
		}
		return at["center-1"] == [2]int{2, 0} && at["unbj-1"] == [2]int{1, 2}
	})
	before := seen.Sessions(stays)

	id := system.Cutover(t, "preview", "--range", "center=0-4999", "--range", "unbj=5000-9999").ID
	if checked := system.Cutover(t, "check", id); checked.Sessions != 1 || !passed(checked) {
		t.Fatalf("%d sessions move, want 1; prechecks: %+v", checked.Sessions, checked.Checks)
	}
	serves.Signal(t, syscall.SIGSTOP)
	system.Cutover(t, "start", id)
	if _, err := mover.Read(within); !closedWith(err, 1012, "moved to unbj") {
		t.Errorf("the user who moves saw %v", err)
	}
	if c := system.Cutover(t, "show", id); !waveIs(c, "fenced") {
		t.Errorf("nobody knows what the stopped edge does, and the cutover goes on: %+v", c)
	}
	serves.Signal(t, syscall.SIGCONT)
	system.AwaitCutover(t, id, within, "completed", func(c harness.Cutover) bool { return c.State == "completed" })
	welcome(moves, "unbj")
	for _, c := range []struct {
		*harness.Client
		unit string
	}{{stayer, "center"}, {neighbour, "unbj"}} {
		if err := c.Send("still here"); err != nil {
			t.Error(err)
		}
		if text, err := c.Read(within); err != nil || string(text) != "still here:"+c.unit {
			t.Errorf("who stays reads %q, %v", text, err)
		}
	}
	if after := seen.Sessions(stays); len(after) != len(before) || after[len(after)-1].Ended() != nil {
		t.Errorf("who stays had %d sessions and has had %d", len(before), len(after))
	}
	for _, overlap := range seen.Overlaps() {
		t.Error(overlap)
	}

	serves.Kill()
	if _, err := stayer.Read(within); err == nil {
		t.Error("the session outlives its edge")
	}
	if _, answer, err := harness.Dial(handshake(stays)); err != nil || answer == nil || answer.StatusCode != 503 || answer.Header.Get("Retry-After") == "" {
		t.Errorf("a user of the dead edge: %v, %v", answer, err)
	}
}
