package integration_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// TestLostStateDirectory is the fixed pod name with a lost volume: while a losing edge hangs with its sessions open, a
// process with its id and a new state directory comes up. It must not speak for the one that still serves (R7, G2): it is
// refused, at its own address and at the old one, and the wave waits for the old edge until that goes on.
func TestLostStateDirectory(t *testing.T) {
	t.Parallel() // it waits, most of the time
	d := startBadDay(t)
	started := d.fence(t)
	old := d.edges["unbj-2"]
	old.Signal(t, syscall.SIGSTOP)
	waits := func(c harness.Cutover) bool {
		return waveIs(c, "fenced") && slices.Equal(c.Waves[0].WaitingFor, []string{"unbj-2"})
	}
	d.AwaitCutover(t, started.ID, within, "waits for unbj-2 only", waits)
	head := d.Head(t)
	for _, advertised := range []string{"127.0.0.1:1", old.Addr} {
		lost := harness.Run(t, "edge", "--nats", d.NATS, "--namespace", d.Namespace, "--unit", "unbj", "--cluster", "ws-unbj",
			"--listen", "127.0.0.1:0", "--advertise", advertised, "--id", "unbj-2", "--state-dir", t.TempDir()).Exits(t, 3)
		if !strings.Contains(lost.Stderr, "edge_elsewhere") || !strings.Contains(lost.Stderr, "new id") {
			t.Errorf("at %s it ends with %s", advertised, lost.Stderr)
		}
	}
	if c := d.API.Cutover(t, "show", started.ID); !waits(c) || d.Head(t) != head {
		t.Errorf("the journal was at %d and is at %d; the cutover: %+v", head, d.Head(t), c)
	}
	old.Signal(t, syscall.SIGCONT)
	d.AwaitCutover(t, started.ID, within, "completed", func(c harness.Cutover) bool { return c.State == "completed" })
	d.arrives(t, "6000")
	d.arrives(t, "6059")
}
