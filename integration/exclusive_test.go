package integration_test

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// TestExclusive takes real processes under `ownership: exclusive` through what leases are for. A cutover goes through by
// reports. Then one edge of the losing unit is cut off from NATS, and another one stopped (SIGSTOP): the first resets all
// of its sessions when its lease ends and answers 503 from then on, the kernel ends the second; the next cutover waits for
// their silence, shows it, and is committed by it. The origins see nobody in two units, and their tokens rise. It takes
// the time of two leases of 15 s: a journal that has just been made grants nothing until those of an earlier one had ended.
func TestExclusive(t *testing.T) {
	harness.Long(t, "it waits for a lease to run out")
	t.Parallel()
	const lease = 15 * time.Second
	seen := harness.NewRegister()
	config := twoUnits(t, seen)
	config.Namespace, config.Policy = "exclusive", "ownership: exclusive, lease: 15s"
	edges := map[string]*harness.EdgeProcess{}
	for i := range config.Units {
		config.Units[i].Location = freeAddr(t)
	}
	system := harness.StartSystem(t, config)
	wire := startWire(t, system.NATS)
	far := *system
	far.NATS = wire.url
	center, unbj := config.Units[0], config.Units[1]
	edges["center-1"] = system.StartEdge(t, "center-1", center, center.Location)
	edges["unbj-1"] = system.StartEdge(t, "unbj-1", unbj, unbj.Location)
	edges["unbj-2"] = far.StartEdge(t, "unbj-2", unbj, freeAddr(t))
	edges["unbj-3"] = system.StartEdge(t, "unbj-3", unbj, freeAddr(t))
	leased := func(id string) bool {
		all := system.Edges(t)
		i := slices.IndexFunc(all, func(e harness.Edge) bool { return e.ID == id })
		left, _ := strconv.ParseFloat(all[i].Lease, 64)
		return left > 0
	}
	for id := range edges {
		harness.Eventually(t, lease+within, id+" has a lease", func() bool { return leased(id) })
	}

	first := harness.MustDial(t, harness.Handshake{Addr: edges["unbj-1"].Addr, Host: config.Domain, RouterID: mover})
	id := system.Cutover(t, append([]string{"preview"}, toCenter...)...).ID
	if done := system.Cutover(t, "start", id, "--wait"); done.State != "completed" {
		t.Fatalf("the cutover ended as %s", done.State)
	}
	if _, err := readToEnd(first); err == nil || !strings.Contains(err.Error(), "moved to center") {
		t.Errorf("the moved session ends with %v", err)
	}
	harness.MustDial(t, harness.Handshake{Addr: edges["center-1"].Addr, Host: config.Domain, RouterID: mover})

	stays := harness.MustDial(t, harness.Handshake{Addr: edges["unbj-1"].Addr, Host: config.Domain, RouterID: "9001"})
	far2 := harness.MustDial(t, harness.Handshake{Addr: edges["unbj-2"].Addr, Host: config.Domain, RouterID: "9002"})
	harness.MustDial(t, harness.Handshake{Addr: edges["unbj-3"].Addr, Host: config.Domain, RouterID: "9003"})

	wire.cut()
	cut := time.Now()
	edges["unbj-3"].Signal(t, syscall.SIGSTOP)
	go func() { time.Sleep(lease / 3); _ = far2.Send("still there") }()
	var heard int
	var end error
	ended := make(chan time.Duration, 1)
	go func() {
		heard, end = readToEnd(far2)
		ended <- time.Since(cut) // now: what goes on beside takes its time on a slow machine
	}()
	moves := []string{"preview", "--range", "center=0-7999", "--range", "unbj=8000-9999"}
	id = system.Cutover(t, moves...).ID
	for _, check := range []string{"edges-at-head", "target-capacity", "target-handshake", "target-origins"} {
		harness.Run(t, "cutover", "skip", id, check, "--reason", "test", "--nats", system.NATS, "-n", config.Namespace)
	}
	system.Cutover(t, "start", id)
	harness.Eventually(t, lease, "show says whose silence is waited for", func() bool {
		text := harness.Run(t, "cutover", "show", id, "--nats", system.NATS, "-n", config.Namespace).Stdout
		return strings.Contains(text, "waiting for silence of edge unbj-2: ") && strings.Contains(text, "waiting for silence of edge unbj-3: ")
	})
	took := <-ended
	if end == nil || heard == 0 || !strings.Contains(end.Error(), "reset") {
		t.Errorf("the session of the edge that is cut off ends with %v, after %d messages", end, heard)
	}
	if took < lease-5*time.Second || took > lease {
		t.Errorf("it ended %s after the cut", took)
	}
	if _, resp, err := harness.Dial(harness.Handshake{Addr: edges["unbj-2"].Addr, Host: config.Domain, RouterID: "1"}); err != nil ||
		resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("without a lease: %+v, %v", resp, err)
	}
	edges["unbj-3"].Wait(t, lease)
	done := system.AwaitCutover(t, id, 2*lease, "completed", func(c harness.Cutover) bool { return c.State == "completed" })
	if took := time.Since(cut); took < lease-5*time.Second {
		t.Errorf("committed %s after the cut: %+v", took, done)
	}
	if err := stays.Send("still here"); err != nil {
		t.Error(err)
	}
	for range 5 { // its origin speaks ten times a second
		if _, err := stays.Read(within); err != nil {
			t.Errorf("a session that stays on an edge with a lease ends with %v", err)
			break
		}
	}
	wire.mend(t)
	harness.Eventually(t, within, "the edge that was cut off has a lease again", func() bool { return leased("unbj-2") })
	harness.MustDial(t, harness.Handshake{Addr: edges["unbj-2"].Addr, Host: config.Domain, RouterID: "9002"})

	if o := seen.Overlaps(); len(o) > 0 {
		t.Errorf("served by two units at once: %v", o)
	}
	version := 0
	for _, s := range seen.Sessions(mover) {
		v, err := strconv.Atoi(s.Header.Get("Unitgate-Rule-Version"))
		if err != nil || v <= version || s.Header.Get("Unitgate-Epoch") == "" {
			t.Errorf("%s at %s: token %v after %d", s.RouterID, s.Unit, s.Header, version)
		}
		version = v
	}
}

func freeAddr(t *testing.T) string { return "127.0.0.1:" + strconv.Itoa(harness.FreePort(t)) }

// readToEnd reads until the end, and counts.
func readToEnd(c *harness.Client) (n int, err error) {
	for {
		if _, err = c.Read(within); err != nil {
			return n, err
		}
		n++
	}
}

// wire is the way of one process to NATS.
type wire struct {
	url  string
	addr string // of the listener
	to   string

	mu    sync.Mutex // guards what follows
	ln    net.Listener
	conns []net.Conn
}

func startWire(t *testing.T, target string) *wire {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{to: u.Host, addr: freeAddr(t)}
	u.Host = w.addr
	w.url = u.String()
	w.mend(t)
	t.Cleanup(w.cut)
	return w
}

// mend lets connections through, from now on.
func (w *wire) mend(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.ln = ln
	w.mu.Unlock()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go w.carry(c)
		}
	}()
}

func (w *wire) carry(c net.Conn) {
	d, err := net.Dial("tcp", w.to)
	if err != nil {
		_ = c.Close()
		return
	}
	w.mu.Lock()
	w.conns = append(w.conns, c, d)
	w.mu.Unlock()
	go func() { _, _ = io.Copy(c, d); _ = c.Close() }()
	_, _ = io.Copy(d, c)
	_ = d.Close()
}

// cut severs everything and lets nobody in.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.ln.Close()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}
