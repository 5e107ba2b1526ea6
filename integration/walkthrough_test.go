package integration_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// within bounds every wait of these tests: generous, since timings are not what they prove.
const within = 30 * time.Second

// The walkthrough: three clients, all of which come to Beijing's edge first, and a cutover
// that moves the slots 5998 to 6380 from there to Hangzhou, the center.
const (
	stayer  = "1111" // belongs to the center before and after
	mover   = "6249" // lies in the moving range
	neutral = "8330" // belongs to unbj before and after
)

var toCenter = []string{"--range", "center=0-6380", "--range", "unbj=6381-9999"}

func TestWalkthrough(t *testing.T) {
	for _, client := range []struct {
		name  string
		start startWalker
	}{{"npm ws", startNode}, {"unitgate connect", startConnect}, {"coder websocket", startGo}} {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			t.Run("demo", func(t *testing.T) {
				t.Parallel()
				walkthrough(t, harness.StartDev(t), nil, client.start)
			})
			t.Run("origins of ours", func(t *testing.T) {
				t.Parallel()
				seen := harness.NewRegister()
				config := twoUnits(t, seen)
				walkthrough(t, harness.StartDev(t, "-f", config.File(t)), seen, client.start)
			})
		})
	}
}

// twoUnits is the walkthrough's namespace with origins that the test watches.
func twoUnits(t *testing.T, seen *harness.Register) harness.Config {
	t.Helper()
	center := harness.StartOrigin(t, "center", seen, 100*time.Millisecond)
	unbj := harness.StartOrigin(t, "unbj", seen, 100*time.Millisecond)
	return harness.Config{Namespace: "walk", Domain: "websocket.msha.tech", Units: []harness.Unit{
		{ID: "center", Range: "0-5997", Origins: []string{center.Addr}},
		{ID: "unbj", Range: "5998-9999", Origins: []string{unbj.Addr}},
	}}
}

// walkthrough takes three clients through the cutover. seen is the register of the origins, nil where they are the demo's.
func walkthrough(t *testing.T, dev *harness.Dev, seen *harness.Register, start startWalker) {
	entry := "ws://" + dev.Edges(t, "unbj")[0] + "/"
	clients := map[string]walker{}
	for _, id := range []string{stayer, mover, neutral} {
		clients[id] = start(t, entry, id)
	}
	awaitMessages(t, clients[stayer], "center", 2)
	awaitMessages(t, clients[mover], "unbj", 2)
	awaitMessages(t, clients[neutral], "unbj", 2)
	before := peers(seen)

	preview := dev.Cutover(t, append([]string{"preview"}, toCenter...)...)
	checkPreview(t, preview)
	if checked := dev.Cutover(t, "check", preview.ID); !passed(checked) {
		t.Errorf("prechecks: %+v", checked.Checks)
	}
	if done := dev.Cutover(t, "start", preview.ID, "--wait"); done.State != "completed" || done.Evicted != 1 {
		t.Errorf("started cutover ended as %s with %d evicted, want completed with 1", done.State, done.Evicted)
	}
	if route := dev.Route(t, mover); route.Unit != "center" || route.Slot != 6249 || route.Rule != "range" {
		t.Errorf("after the cutover: %+v", route)
	}

	awaitMessages(t, clients[mover], "center", 2)
	for _, id := range []string{stayer, neutral} {
		unit := map[string]string{stayer: "center", neutral: "unbj"}[id]
		awaitMessages(t, clients[id], unit, 1+messages(clients[id].steps(t), unit))
	}
	centerURL := "http://" + dev.Edges(t, "center")[0] + "/"
	checkTrail(t, stayer, clients[stayer].steps(t), centerURL, "redirecting", "connected")
	checkTrail(t, neutral, clients[neutral].steps(t), "", "connected")
	checkTrail(t, mover, clients[mover].steps(t), centerURL, "connected", "disconnected", "reconnecting", "redirecting", "connected")
	if seen != nil {
		checkOrigins(t, seen, before)
	}
}

func checkPreview(t *testing.T, c harness.Cutover) {
	t.Helper()
	moves := []harness.Move{{From: 5998, To: 6380, Source: "unbj", Target: "center"}}
	if c.State != "proposed" || c.UnitType != "unit_type" || !slices.Equal(c.Moves, moves) || len(c.ExactMoves) != 0 ||
		c.Slots != 383 || c.Sessions != 1 || len(c.SilentEdges) != 0 || c.RuleTo != c.RuleFrom+1 || c.Diff == "" {
		t.Errorf("preview: %+v", c)
	}
}

func passed(c harness.Cutover) bool {
	return len(c.Checks) == 8 && !slices.ContainsFunc(c.Checks, func(check harness.Check) bool {
		return check.State != "pass" && check.State != "warn"
	})
}

// awaitMessages waits until the client has had n messages from the unit, its welcomes apart.
func awaitMessages(t *testing.T, w walker, unit string, n int) {
	t.Helper()
	var steps []step
	if !harness.Poll(within, func() bool {
		steps = w.steps(t)
		return messages(steps, unit) >= n
	}) {
		t.Fatalf("not %d messages of %s within %v: %+v", n, unit, within, steps)
	}
}

func messages(steps []step, unit string) int {
	n := 0
	for _, s := range steps {
		if s.Event == "message" && strings.HasSuffix(s.Data, ":"+unit) {
			n++
		}
	}
	return n
}

// checkTrail compares what happened to a client, its messages apart, and follows its messages:
// each comes from the unit that the client is connected to.
func checkTrail(t *testing.T, id string, steps []step, location string, want ...string) {
	t.Helper()
	var got []string
	unit := ""
	for _, s := range steps {
		if s.Event != "message" {
			got = append(got, s.Event)
			unit = ""
		}
		switch s.Event {
		case "message":
			from := strings.TrimPrefix(s.Data[strings.LastIndexByte(s.Data, ':')+1:], "Welcome to the server! ")
			if unit != "" && from != unit {
				t.Errorf("%s: %q on a connection to %s", id, s.Data, unit)
			}
			unit = from
		case "redirecting":
			if s.Location != location {
				t.Errorf("%s was redirected to %q, want %q", id, s.Location, location)
			}
		case "disconnected":
			if s.Code != 1012 || s.Reason != "moved to center" {
				t.Errorf("%s was closed with %d %q, want 1012 moved to center", id, s.Code, s.Reason)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s saw %q, want %q: %+v", id, got, want, steps)
	}
}

// peers maps each user to the edge's end of the TCP connection to the origin.
func peers(seen *harness.Register) map[string]string {
	out := map[string]string{}
	if seen == nil {
		return out
	}
	for _, s := range seen.All() {
		out[s.RouterID] = s.Peer
	}
	return out
}

// checkOrigins holds what the origins saw against what they saw before the cutover.
func checkOrigins(t *testing.T, seen *harness.Register, before map[string]string) {
	t.Helper()
	for _, id := range []string{stayer, neutral} {
		sessions := seen.Sessions(id)
		if len(sessions) != 1 || sessions[0].Peer != before[id] || sessions[0].Ended() != nil {
			t.Errorf("%s is not on the TCP connection that it had before the cutover", id)
		}
	}
	sessions := seen.Sessions(mover)
	if len(sessions) != 2 || sessions[0].Unit != "unbj" || sessions[1].Unit != "center" || sessions[0].Ended() == nil || sessions[1].Ended() != nil {
		t.Errorf("%s had %d sessions, want one in unbj that ended and one in center that lasts", mover, len(sessions))
	}
	for _, overlap := range seen.Overlaps() {
		t.Error(overlap)
	}
}
