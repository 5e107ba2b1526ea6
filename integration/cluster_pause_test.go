package integration_test

import (
	"syscall"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// pausesVariable says how many leaders in a row are paused, if not one.
const pausesVariable = "UNITGATE_PAUSES"

// TestClusterLeaderPaused stops the NATS server that leads the journal (SIGSTOP) while commands flow: its connections
// stay open, so nobody is told. The other two elect a leader and commands flow again. The old one then goes on, in the
// belief that it leads, with all that it was sent before it stopped: nothing of that is stored a second time, and
// nothing that it acknowledges is lost (G3).
func TestClusterLeaderPaused(t *testing.T) {
	harness.Long(t, "a server that hangs is noticed after seconds")
	c := startClustered(t, "paused")
	c.replicated(t)
	c.start(t)
	for range number(t, pausesVariable, 1) {
		old := c.nats.Leader(t, c.js, c.stream())
		server := c.nats.Server(old)
		server.Signal(t, syscall.SIGSTOP)
		took := c.askers.goesOn(t, 20, "commands are acknowledged by the other two")
		led := ""
		harness.Eventually(t, recovers, "another server leads", func() bool {
			led = c.nats.Leader(t, c.js, c.stream())
			return led != old
		})
		t.Logf("%s paused: 20 more commands took %v, %s leads", old, took, led)
		server.Signal(t, syscall.SIGCONT)
		c.askers.goesOn(t, 20, "commands are acknowledged by all three")
		c.current(t)
	}
	c.settle(t)
}
