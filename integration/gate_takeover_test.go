package integration_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// gated is a namespace of separate processes with one edge in each unit, and users who move between them.
type gated struct {
	*harness.System
	edges map[string]*harness.EdgeProcess
}

func startGated(t *testing.T) *gated {
	t.Helper()
	g := &gated{edges: map[string]*harness.EdgeProcess{}}
	seen := harness.NewRegister()
	place := func() string { return "127.0.0.1:" + strconv.Itoa(harness.FreePort(t)) }
	units := []harness.Unit{
		{ID: "center", Range: "0-5997", Location: place(), Origins: []string{harness.StartOrigin(t, "center", seen, 0).Addr}},
		{ID: "unbj", Range: "5998-9999", Location: place(), Origins: []string{harness.StartOrigin(t, "unbj", seen, 0).Addr}},
	}
	g.System = harness.StartSystem(t, harness.Config{Namespace: "gated", Domain: "gated.example.com", Units: units})
	for _, u := range units {
		g.edges[u.ID] = g.StartEdge(t, u.ID+"-1", u, u.Location)
	}
	return g
}

// connect connects the users to a unit.
func (g *gated) connect(t *testing.T, unit string) {
	t.Helper()
	for i := range 3 {
		client := harness.MustDial(t, harness.Handshake{Addr: g.edges[unit].Addr, Host: g.Domain, RouterID: strconv.Itoa(6000 + i)})
		go drain(client)
	}
}

// move starts a cutover in one wave under a gate, and returns once that is committed.
func (g *gated) move(t *testing.T, gate string, ranges ...string) string {
	t.Helper()
	id := g.Cutover(t, append([]string{"preview", "--waves", "1", "--gate", gate}, ranges...)...).ID
	g.Run(t, "cutover", "start", id).OK(t)
	c := g.AwaitCutover(t, id, within, "committed", func(c harness.Cutover) bool { return waveIs(c, "committed") })
	if c.State != "started" {
		t.Fatalf("%s is %s before its gate can have judged: %+v", id, c.State, c.Reason)
	}
	return id
}

// TestGateOutlivesItsDriver: the driver is killed while the users are on their way; the next one judges by what the edges
// know. And an edge that is killed then has forgotten: that is said, and nobody goes back because of it.
func TestGateOutlivesItsDriver(t *testing.T) {
	harness.Long(t, "an office is taken over after seconds, and a gate has a whole window then")
	g := startGated(t)
	g.connect(t, "unbj")
	id := g.move(t, "landed=100,window=1m", toCenter...)
	g.Control.Kill()
	g.StartControl(t)
	harness.Eventually(t, within, "another controller answers", func() bool { return g.Run(t, "cutover", "show", id).Code == 0 })
	g.connect(t, "center")
	g.AwaitCutover(t, id, within, "completed by another driver", func(c harness.Cutover) bool { return c.State == "completed" })
	log := g.API.Run(t, "log").Stdout
	if took, judged := strings.LastIndex(log, "DriverTookOffice"), strings.Index(log, "WaveJudged"); took < 0 || judged < took {
		t.Errorf("the gate was not judged by the successor:\n%s", log)
	}

	id = g.move(t, "landed=100,window=5s,action=rollback", "--range", "center=0-5997", "--range", "unbj=5998-9999")
	g.edges["unbj"].Kill()
	g.edges["unbj"].Restart(t)
	c := g.AwaitCutover(t, id, within, "paused", func(c harness.Cutover) bool { return c.State != "started" })
	if c.State != "paused" || c.Reason.Code != "gate" || !strings.Contains(c.Reason.Message, "cannot be judged") && !strings.Contains(c.Reason.Message, "not all is known") ||
		!strings.Contains(c.Reason.Message, "edge unbj-1") {
		t.Errorf("%s, %+v", c.State, c.Reason)
	}
	g.edges["unbj"].Serves(t)
	g.Run(t, "cutover", "resume", id).OK(t)
	c = g.AwaitCutover(t, id, 2*within, "reported", func(c harness.Cutover) bool { return c.Report != nil })
	if !slices.Contains(c.Report.Silent, "unbj-1") || c.State != "completed" {
		t.Errorf("%s: %+v", c.State, c.Report)
	}
}
