package clients

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// npm's ws drops the Cookie field when it follows a redirect to another host. Its user is still who it was: the operator
// finds its session by the routerId, a cutover moves it, and it comes back as the same.
func TestWhoIsRedirectedStaysWhoItWas(t *testing.T) {
	startNode := haveNode("ws", "table.mjs")(t)
	const user = "user@example.com" // which stands percent-encoded in a cookie
	seen := harness.NewRegister()
	config := harness.Config{
		Namespace: "clients", Domain: "websocket.example", Scheme: "ws", Policy: "hold: 1m", RouterID: `"cookie:routerId"`,
		Units: []harness.Unit{{ID: "center", Range: "0-4999"}, {ID: "unbj", Range: "5000-9999"}},
	}
	for i := range config.Units {
		config.Units[i].Origins = []string{harness.StartOrigin(t, config.Units[i].ID, seen, 0).Addr}
	}
	d := harness.StartDev(t, "-f", config.File(t))
	owner, other := d.Route(t, user).Unit, "unbj"
	if owner == other {
		other = "center"
	}
	trail := startNode(t, []order{{mode: "follow", entry: "ws://" + d.Edges(t, other)[0] + "/chat?a=b", routerID: user, source: "cookie"}})[0]
	arrived := func(unit string, times int) {
		t.Helper()
		welcome := event{Event: "message", Data: "Welcome to the server! " + unit}
		var last []event
		if !harness.Poll(within, func() bool {
			last = trail.events(t)
			n := 0
			for _, e := range last {
				if e == welcome {
					n++
				}
			}
			return n >= times
		}) {
			t.Fatalf("it does not arrive at %s: %+v", unit, last)
		}
	}
	sessions := func() (out []string) {
		t.Helper()
		var list []struct{ Unit string }
		if err := json.Unmarshal([]byte(d.Run(t, "get", "sessions", "--router-id", user).Stdout), &list); err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			out = append(out, s.Unit)
		}
		return out
	}
	arrived(owner, 1)
	if got := sessions(); !slices.Equal(got, []string{owner}) {
		t.Errorf("get sessions finds it in %q, want %s", got, owner)
	}
	moves := []string{"--range", "center=5000-9999", "--range", "unbj=0-4999"}
	if preview := d.Cutover(t, append([]string{"preview"}, moves...)...); d.Cutover(t, "start", preview.ID, "--wait").State != "completed" {
		t.Fatal("the cutover does not complete")
	}
	arrived(other, 1)
	if got := sessions(); !slices.Equal(got, []string{other}) {
		t.Errorf("after the cutover get sessions finds it in %q, want %s", got, other)
	}
	if r := d.Run(t, "evict", "--router-id", user); r.Code != 0 {
		t.Errorf("evict: %+v", r)
	}
	arrived(other, 2)
}
