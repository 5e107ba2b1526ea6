package integration_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// tapped stands before an edge where other edges dial it, and keeps what they say.
type tapped struct {
	ln net.Listener
	to string

	mu  sync.Mutex
	got bytes.Buffer
}

func tap(t *testing.T, to string) *tapped {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &tapped{ln: ln, to: to}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go w.carry(c)
		}
	}()
	return w
}

func (w *tapped) addr() string { return w.ln.Addr().String() }

func (w *tapped) carry(c net.Conn) {
	defer func() { _ = c.Close() }()
	o, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer func() { _ = o.Close() }()
	go func() { _, _ = io.Copy(c, o); _ = c.Close() }()
	_, _ = io.Copy(io.MultiWriter(w, o), c)
}

func (w *tapped) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got.Write(b)
}

// take is what was said since it was asked last.
func (w *tapped) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.got.Reset()
	return w.got.String()
}

// TestUpgradeOfEdgesThatPassOn replaces edges of the version before, whose handshakes go from edge to edge in plain, by
// this one's: in place, by take-over, and with new directories. At each step clients are passed on in both directions;
// between two edges of this version nobody can read along.
func TestUpgradeOfEdgesThatPassOn(t *testing.T) {
	harness.Long(t, "the former version is built")
	t.Parallel()
	old, err := formerBinary()
	if err != nil {
		harness.Missing(t, "the commit "+former+" cannot be built, which needs git and the history: "+err.Error()+"\n"+old)
	}
	u := &upgrading{t: t, old: old, dirs: map[string]string{}, edges: map[string]*harness.Process{}}
	seen := harness.NewRegister()
	u.config = twoUnits(t, seen)
	u.config.Namespace, u.config.Correction = "passing", "proxy"
	taps := map[string]*tapped{}
	for i := range u.config.Units {
		unit := &u.config.Units[i]
		unit.Location = freeAddr(t)
		u.dirs[unit.ID], taps[unit.ID] = t.TempDir(), tap(t, unit.Location)
	}
	center, unbj := u.config.Units[0], u.config.Units[1]
	u.System = &harness.System{API: harness.API{NATS: harness.StartNATS(t), Namespace: "passing"}, Domain: u.config.Domain}
	u.startControl(0, true)
	file := u.config.File(t)
	harness.Eventually(t, recovers, "the config is applied", func() bool { return u.Run(t, "apply", "-f", file, "--yes").Code == 0 })
	start := func(unit harness.Unit, id string, isNew bool, flags ...string) {
		t.Helper()
		u.startEdge(unit, id, isNew, append([]string{"--advertise", taps[unit.ID].addr()}, flags...)...)
	}
	// passes has a user of each unit come to the other one's edge, and says whether that was to be read on the way.
	passes := func(when string, plain bool) {
		t.Helper()
		for _, c := range []struct {
			id       string
			to, from harness.Unit
		}{{"9000", unbj, center}, {"100", center, unbj}} {
			user := harness.Handshake{Addr: c.from.Location, Host: u.Domain, RouterID: c.id, Header: [][2]string{{"Cookie", "session=victim"}}}
			harness.Eventually(t, 2*recovers, when+": the edges know each other", func() bool {
				taps[c.to.ID].take()
				client, _, err := harness.Dial(user)
				if err != nil || client == nil {
					return false
				}
				defer client.Drop()
				text, err := client.Read(recovers)
				return err == nil && string(text) == "Welcome to the server! "+c.to.ID
			})
			if said := taps[c.to.ID].take(); strings.Contains(said, "session=victim") != plain {
				t.Errorf("%s, from %s to %s: to be read: %v, want %v: %.300q", when, c.from.ID, c.to.ID, !plain, plain, said)
			}
		}
	}
	start(center, "center-1", false)
	start(unbj, "unbj-1", false)
	passes("all of the former version", true)
	u.edges["unbj-1"].Stop(t)
	start(unbj, "unbj-1", true) // the same id and directory
	passes("one upgraded in place", true)

	stays := harness.MustDial(t, harness.Handshake{Addr: unbj.Location, Host: u.Domain, RouterID: "101"}) // by the edge that is replaced
	start(center, "center-2", true, "--take-over")
	passes("the other one taken over", false)
	if err := stays.Send("still here"); err != nil {
		t.Error(err)
	}
	for {
		text, err := stays.Read(recovers)
		if err != nil {
			t.Fatalf("a session that the former edge serves: %v", err)
		}
		if strings.HasPrefix(string(text), "still here") {
			break
		}
	}
	stays.Drop()
	u.edges["unbj-1"].Stop(t)
	u.Run(t, "edge-retire", "unbj-1", "--reason", "it gets a new directory").OK(t)
	u.dirs["unbj"] = t.TempDir()
	start(unbj, "unbj-2", true)
	passes("new directories", false)
}
