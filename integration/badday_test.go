package integration_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// badDay is a namespace of separate processes: one edge in center, two in unbj, and users on
// both of these whose eviction takes some seconds, long enough for something to break meanwhile.
type badDay struct {
	*harness.System
	seen  *harness.Register
	edges map[string]*harness.EdgeProcess
	users []*harness.Client // all of them move
}

const usersPerEdge = 30

func startBadDay(t *testing.T) *badDay {
	t.Helper()
	d := &badDay{seen: harness.NewRegister(), edges: map[string]*harness.EdgeProcess{}}
	place := func() string { return "127.0.0.1:" + strconv.Itoa(harness.FreePort(t)) }
	addrs := map[string]string{"center-1": place(), "unbj-1": place(), "unbj-2": place()}
	units := []harness.Unit{
		{ID: "center", Range: "0-5997", Location: addrs["center-1"], Origins: []string{harness.StartOrigin(t, "center", d.seen, 0).Addr}},
		{ID: "unbj", Range: "5998-9999", Location: addrs["unbj-1"], Origins: []string{harness.StartOrigin(t, "unbj", d.seen, 0).Addr}},
	}
	d.System = harness.StartSystem(t, harness.Config{Namespace: "badday", Domain: "badday.example.com", Units: units})
	d.edges["center-1"] = d.StartEdge(t, "center-1", units[0], addrs["center-1"])
	for i, id := range []string{"unbj-1", "unbj-2"} {
		d.edges[id] = d.StartEdge(t, id, units[1], addrs[id])
		for n := range usersPerEdge {
			d.users = append(d.users, harness.MustDial(t, d.handshake(addrs[id], strconv.Itoa(6000+i*usersPerEdge+n))))
		}
	}
	return d
}

func (d *badDay) handshake(addr, id string) harness.Handshake {
	return harness.Handshake{Addr: addr, Host: d.Domain, RouterID: id}
}

// fence starts the walkthrough's cutover, slowly, and returns once its wave is fenced.
func (d *badDay) fence(t *testing.T) harness.Cutover {
	t.Helper()
	preview := d.API.Cutover(t, append(append([]string{"preview"}, toCenter...), "--rate", "10", "--waves", "1")...)
	if preview.Sessions != 2*usersPerEdge {
		t.Errorf("the preview counts %d sessions, want %d", preview.Sessions, 2*usersPerEdge)
	}
	d.API.Cutover(t, "start", preview.ID)
	return d.AwaitCutover(t, preview.ID, within, "fenced", func(c harness.Cutover) bool { return waveIs(c, "fenced") })
}

func waveIs(c harness.Cutover, state string) bool {
	return len(c.Waves) == 1 && c.Waves[0].State == state
}

// arrives checks that a moved user is served by center, and by nobody else.
func (d *badDay) arrives(t *testing.T, id string) {
	t.Helper()
	client := harness.MustDial(t, d.handshake(d.edges["center-1"].Addr, id))
	defer client.Drop()
	if text, err := client.Read(within); err != nil || string(text) != "Welcome to the server! center" {
		t.Errorf("%s reads %q, %v", id, text, err)
	}
	for _, overlap := range d.seen.Overlaps() {
		t.Error(overlap)
	}
}

// TestLosingEdgeDies kills a losing edge while it evicts: the wave waits for it by name, and
// an operator's skip with a reason, and nothing less, lets it go on (R7, ownership available).
func TestLosingEdgeDies(t *testing.T) {
	d := startBadDay(t)
	started := d.fence(t)
	d.edges["unbj-2"].Kill()
	waits := func(c harness.Cutover) bool {
		return waveIs(c, "fenced") && slices.Equal(c.Waves[0].WaitingFor, []string{"unbj-2"}) && c.Evicted >= usersPerEdge
	}
	d.AwaitCutover(t, started.ID, within, "waits for unbj-2 only", waits)
	// Silence is no consent, however long: the edge is known to be gone, and the wave waits all the same.
	harness.Eventually(t, within, "unbj-2 is not live any more", func() bool {
		return slices.ContainsFunc(d.Edges(t), func(e harness.Edge) bool { return e.ID == "unbj-2" && !e.Live })
	})
	d.Run(t, "cutover", "skip", started.ID, "--edge", "unbj-2").Refused(t, 3, "reason_missing")
	if c := d.API.Cutover(t, "show", started.ID); !waits(c) {
		t.Errorf("refused skip, and the cutover: %+v", c)
	}
	if route := d.Route(t, "6000"); route.Unit != "unbj" {
		t.Errorf("before the commit 6000 belongs to %s", route.Unit)
	}

	d.Run(t, "cutover", "skip", started.ID, "--edge", "unbj-2", "--reason", "its machine burnt down").OK(t)
	d.AwaitCutover(t, started.ID, within, "completed after the skip", func(c harness.Cutover) bool { return c.State == "completed" })
	d.arrives(t, "6000")
	d.arrives(t, strconv.Itoa(6000+usersPerEdge))
}

// TestControllerDies kills the only controller between fence and commit: edges go on evicting
// (G5), and whoever takes office next finishes what the journal says was begun (R1).
func TestControllerDies(t *testing.T) {
	d := startBadDay(t)
	started := d.fence(t)
	d.Control.Kill()
	for _, user := range d.users {
		_, err := user.Read(within) // the welcome
		for err == nil {
			_, err = user.Read(within)
		}
		if !closedWith(err, 1012, "moved to center") {
			t.Fatalf("without a controller a user of the fenced wave saw %v", err)
		}
	}
	d.StartControl(t)
	var last harness.Result
	if !harness.Poll(within, func() bool {
		// Until it serves there are no responders, which is an error of its own.
		last = d.Run(t, "cutover", "show", started.ID)
		var c harness.Cutover
		if last.Code != 0 {
			return false
		}
		last.JSON(t, &c)
		return c.State == "completed" && c.Evicted == 2*usersPerEdge
	}) {
		t.Fatalf("the second controller did not finish the cutover: %s%s", last.Stdout, last.Stderr)
	}
	d.arrives(t, "6000")
}

// TestRegionFails kills every edge of a unit at once; one command moves its users to the other one, and the journal holds
// what it did without, and why.
func TestRegionFails(t *testing.T) {
	d := startBadDay(t)
	for _, id := range []string{"unbj-1", "unbj-2"} {
		d.edges[id].Kill()
	}
	d.Run(t, "cutover", "drain", "unbj").Refused(t, 3, "precheck_failed") // proposes c1, which stays a proposal
	d.Run(t, "cutover", "drain", "unbj", "--emergency").Exits(t, 2)
	done := d.API.Cutover(t, "drain", "unbj", "--emergency", "--reason", "the region is dark", "--wait")
	if done.State != "completed" || done.ID != "c2" {
		t.Fatalf("%+v", done)
	}
	d.arrives(t, "6000")
	d.arrives(t, "9999")
	skips := map[string]bool{}
	for line := range strings.Lines(d.Run(t, "log", "--entity", "cutover").OK(t).Stdout) {
		var e struct {
			Type, Actor string
			Data        struct {
				Edge, Reason string
				Checks       []harness.Check
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Type == "CutoverSkipped" && e.Actor == "driver" && strings.Contains(e.Data.Reason, "the region is dark"):
			skips[e.Data.Edge] = true
		case e.Type == "CutoverStarted":
			for _, c := range e.Data.Checks {
				skips[c.ID] = skips[c.ID] || c.State == "skipped"
			}
		}
	}
	for _, want := range []string{"unbj-1", "unbj-2", "edges-at-head"} {
		if !skips[want] {
			t.Errorf("the journal does not say that %s was done without: %v", want, skips)
		}
	}
}
