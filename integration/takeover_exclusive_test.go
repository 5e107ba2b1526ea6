package integration_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// TestTakeOverExclusive upgrades edges under exclusive ownership, ordinary ones and such that are PID 1 of containers of
// their own: former and new process hold leases of their own, sessions outlive the length of one, a cutover waits for both
// processes, and the origins see nobody in two units. A successor that is killed gives the sockets back to a process whose
// lease went on; a former process that is stopped is ended by the kernel, and its successor serves on.
func TestTakeOverExclusive(t *testing.T) {
	harness.Long(t, "it waits for leases")
	t.Parallel()
	for name, start := range map[string]func(testing.TB, ...string) *harness.Process{"process": harness.Start, "PID 1": harness.StartInit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "PID 1" && os.Geteuid() != 0 {
				harness.Missing(t, "a pid namespace needs root")
			}
			takeOverExclusive(t, start)
		})
	}
}

// upgraded is an edge of unbj that is upgraded, and the system that it is in.
type upgraded struct {
	*harness.System
	t                   *testing.T
	seen                *harness.Register
	start               func(testing.TB, ...string) *harness.Process
	args                []string
	addr, admin, center string
}

const upgradeLease = 15 * time.Second

func newUpgraded(t *testing.T, start func(testing.TB, ...string) *harness.Process) *upgraded {
	u := &upgraded{t: t, seen: harness.NewRegister(), start: start, addr: freeAddr(t), admin: freeAddr(t)}
	config := twoUnits(t, u.seen)
	config.Namespace, config.Policy = "leased", "ownership: exclusive, lease: 15s"
	center, unbj := &config.Units[0], &config.Units[1]
	center.Location, unbj.Location = freeAddr(t), u.addr
	u.System = harness.StartSystem(t, config)
	u.center = center.Location
	u.StartEdge(t, "center-1", *center, u.center)
	u.args = []string{
		"edge", "--nats", u.NATS, "-n", u.Namespace, "--unit", unbj.ID, "--cluster", unbj.Cluster(), "--listen", u.addr,
		"--admin", u.admin, "--state-dir", filepath.Join(t.TempDir(), "state"), "--take-over",
	}
	return u
}

// next starts the process that takes over, or the first one.
func (u *upgraded) next(said string) *harness.Process {
	u.t.Helper()
	p := u.start(u.t, u.args...)
	harness.Eventually(u.t, upgradeLease+within, "it serves", func() bool {
		if !p.Running() {
			u.t.Fatalf("it has ended: %s", p.Stderr)
		}
		return strings.Contains(p.Stderr.String(), said) && u.ready()
	})
	return p
}

func (u *upgraded) ready() bool {
	resp, err := http.Get("http://" + u.admin + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// leases are the seconds for which the edges of unbj may serve.
func (u *upgraded) leases() (left []float64) {
	for _, e := range u.Edges(u.t) {
		if e.Unit == "unbj" {
			s, _ := strconv.ParseFloat(e.Lease, 64)
			left = append(left, s)
		}
	}
	return left
}

func (u *upgraded) leased(n int) func() bool {
	return func() bool {
		all := u.leases()
		for _, left := range all {
			if left <= 0 {
				return false
			}
		}
		return len(all) == n
	}
}

func (u *upgraded) dial(id string) *harness.Client {
	u.t.Helper()
	return harness.MustDial(u.t, harness.Handshake{Addr: u.addr, Host: u.Domain, RouterID: id})
}

// talks reads what the origin says ten times a second, for so long.
func (u *upgraded) talks(c *harness.Client, d time.Duration, who string) {
	u.t.Helper()
	for end := time.Now().Add(d); ; {
		if _, err := c.Read(within); err != nil {
			u.t.Fatalf("%s: %v", who, err)
		}
		if time.Now().After(end) {
			return
		}
	}
}

func takeOverExclusive(t *testing.T, start func(testing.TB, ...string) *harness.Process) {
	u := newUpgraded(t, start)
	old := u.next("edge starts")
	if pid, inside := childIn(t, old); inside {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		out, err := exec.CommandContext(ctx, "nsenter", append([]string{"--pid", "--target", strconv.Itoa(pid), harness.Binary(t)}, u.args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "the container ends with it") {
			t.Errorf("in a container that ends with the former process: %v, %s", err, out)
		}
	}
	stays, moves := u.dial(neutral), u.dial(mover)
	u.talks(stays, 0, "before")

	killed := u.next(`msg="taken over"`)
	killed.Kill()
	harness.Eventually(t, within, "the former process accepts again and has a lease", func() bool {
		return u.ready() && u.leased(1)()
	})
	u.talks(u.dial("9001"), 0, "after the successor was killed")

	next := u.next(`msg="taken over"`)
	harness.Eventually(t, within, "both processes hold a lease", u.leased(2))
	stays2, moves2 := u.dial("9002"), u.dial("6300")
	u.talks(stays, upgradeLease+2*time.Second, "a session of the former process")
	u.talks(stays2, 0, "a session of the new process")
	if !u.leased(2)() {
		t.Errorf("leases of %v seconds are left", u.leases())
	}

	id := u.Cutover(t, append([]string{"preview"}, toCenter...)...).ID
	if done := u.Cutover(t, "start", id, "--wait"); done.State != "completed" {
		t.Fatalf("the cutover ended as %s", done.State)
	}
	for who, c := range map[string]*harness.Client{"former": moves, "new": moves2} {
		if _, err := readToEnd(c); err == nil || !strings.Contains(err.Error(), "moved to center") {
			t.Errorf("the moved session of the %s process ends with %v", who, err)
		}
	}
	harness.MustDial(t, harness.Handshake{Addr: u.center, Host: u.Domain, RouterID: mover})
	u.talks(stays, 0, "a session that stays")

	stop := old.PID
	if pid, inside := childIn(t, old); inside {
		stop = pid
	}
	if err := syscall.Kill(stop, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	old.Wait(t, 2*upgradeLease)
	if _, err := readToEnd(stays); err == nil {
		t.Error("a session of a process that was ended goes on")
	}
	harness.Eventually(t, within, "the edge that was ended has left", u.leased(1))
	u.talks(stays2, 0, "a session of the successor")
	u.talks(u.dial(neutral), 0, "a new session")
	if !next.Running() {
		t.Errorf("the successor has ended: %s", next.Stderr)
	}
	if o := u.seen.Overlaps(); len(o) > 0 {
		t.Errorf("served by two units at once: %v", o)
	}
}

// childIn is the process that does the work of one that is PID 1.
func childIn(t *testing.T, p *harness.Process) (pid int, inside bool) {
	if !strings.Contains(p.Stderr.String(), "the work is done by a child") {
		return 0, false
	}
	return childOf(t, p.PID), true
}
