package clients

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// within bounds every wait: generous, since a browser starts on two cores that have other work. Timings prove nothing here.
const within = 2 * time.Minute

// ways are how a client of the wrong unit gets to the right one: its mode, and what its domain says.
var ways = []struct{ name, mode, correction string }{
	{"redirect", "follow", "redirect"},
	{"close", "close", "close"},
	{"proxy", "plain", "proxy"},
	{"locate", "locate", "redirect"},
}

// cannot are the clients that a way does not serve, however they are set up.
var cannot = map[[2]string]bool{{"Chromium", "redirect"}: true, {"npm websocket", "redirect"}: true}

// wantsHTTP are the clients that follow a Location of http and none of ws, see follows.
var wantsHTTP = map[string]bool{"Python aiohttp": true}

// stage is a namespace whose domain has one of the corrections: its users of slots 5000 to 5999 belong to the center, and
// all come to an edge of the other unit.
type stage struct {
	*harness.Dev
	seen *harness.Register
}

func newStage(t *testing.T, correction, scheme string) *stage {
	t.Helper()
	s := &stage{seen: harness.NewRegister()}
	config := harness.Config{
		Namespace: "clients", Domain: "websocket.example", Scheme: scheme, Correction: correction, Policy: "hold: 1m", RouterID: `"header:routerId", "query:routerId"`,
		Units: []harness.Unit{{ID: "center", Range: "0-5999"}, {ID: "unbj", Range: "6000-9999"}},
	}
	for i := range config.Units {
		config.Units[i].Origins = []string{harness.StartOrigin(t, config.Units[i].ID, s.seen, 0).Addr}
	}
	s.Dev = harness.StartDev(t, "-f", config.File(t))
	return s
}

// entry is where everybody comes.
func (s *stage) entry(t *testing.T) string {
	t.Helper()
	return "ws://" + s.Edges(t, "unbj")[0] + "/"
}

// cell is one client on one way.
type cell struct {
	client, way string
	routerID    string
	stage       *stage
	trail
}

// TestClients: every client comes to the wrong unit, is brought to the right one, hears its origin, is evicted by a cutover,
// comes back, and is where it belongs again. Browsers are not served by redirects.
func TestClients(t *testing.T) {
	harness.Long(t, "it starts four namespaces and a browser")
	all := programs(t)
	stages := map[string]*stage{}
	for _, correction := range []string{"redirect", "close", "proxy"} {
		stages[correction] = newStage(t, correction, "ws")
	}
	stages["redirect to http"] = newStage(t, "redirect", "http")
	var cells []*cell
	for _, p := range all {
		var orders []order
		var mine []*cell
		for _, way := range ways {
			c := &cell{client: p.name, way: way.name, routerID: strconv.Itoa(5100 + len(cells) + len(mine)), stage: stages[way.correction]}
			if way.name == "redirect" && wantsHTTP[p.name] {
				c.stage = stages["redirect to http"]
			}
			mine, orders = append(mine, c), append(orders, order{mode: way.mode, entry: c.stage.entry(t), routerID: c.routerID})
		}
		for i, trail := range p.start(t, orders) {
			mine[i].trail = trail
		}
		cells = append(cells, mine...)
	}

	for _, c := range cells {
		c.arrives(t, "center", 0)
	}
	for _, s := range stages {
		preview := s.Cutover(t, "preview", "--range", "center=0-4999", "--range", "unbj=5000-9999")
		if done := s.Cutover(t, "start", preview.ID, "--wait"); done.State != "completed" {
			t.Errorf("the cutover ended as %s", done.State)
		}
	}
	for _, c := range cells {
		c.isMoved(t)
	}
	for _, s := range stages {
		for _, overlap := range s.seen.Overlaps() {
			t.Error(overlap)
		}
	}
	checkPage(t, table(all))
}

// table says what works with which of the clients.
func table(all []program) []string {
	var rows []string
	for _, p := range all {
		cells := []string{p.name}
		for _, way := range ways {
			cells = append(cells, yes(!cannot[[2]string{p.name, way.name}]))
		}
		rows = append(rows, row(cells...))
	}
	return rows
}

// arrives waits for the welcome of a unit's origin, behind n events that were there before.
func (c *cell) arrives(t *testing.T, unit string, n int) {
	t.Helper()
	var last []event
	if c.refused() {
		if !harness.Poll(within, func() bool { last = c.events(t); return len(last) > 0 }) {
			t.Fatalf("%s by %s: nothing happens", c.client, c.way)
		}
		if i := slices.IndexFunc(last, func(e event) bool { return e.Event != "error" && e.Event != "closed" }); i >= 0 {
			t.Errorf("%s by %s: it can do it after all, or something else: %+v", c.client, c.way, last)
		}
		return
	}
	welcome := event{Event: "message", Data: "Welcome to the server! " + unit}
	if !harness.Poll(within, func() bool {
		last = c.events(t)
		return slices.Contains(last[min(n, len(last)):], welcome)
	}) {
		t.Fatalf("%s by %s does not arrive at %s: %+v", c.client, c.way, unit, last)
	}
}

func (c *cell) refused() bool { return cannot[[2]string{c.client, c.way}] }

// isMoved waits until the client has come back after its eviction, and looks at all that happened to it.
func (c *cell) isMoved(t *testing.T) {
	t.Helper()
	if c.refused() {
		return
	}
	c.arrives(t, "unbj", 0)
	var got []string
	for _, e := range c.events(t) {
		switch e.Event {
		case "message":
			got = append(got, strings.TrimPrefix(e.Data, "Welcome to the server! "))
		case "closed":
			got = append(got, strings.TrimSpace(fmt.Sprint(e.Code, " ", strings.SplitN(e.Reason, ":", 2)[0])))
		default:
			got = append(got, e.Event)
		}
	}
	want := map[string][]string{
		"redirect": {"connected", "center", "1012 moved to unbj", "connected", "unbj"},
		"close": {"connected", "4302 ws", "corrected", "connected", "center", "1012 moved to unbj",
			"connected", "4302 ws", "corrected", "connected", "unbj"},
		"proxy":  {"connected", "center", "1012 moved to unbj", "connected", "unbj"},
		"locate": {"corrected", "connected", "center", "1012 moved to unbj", "corrected", "connected", "unbj"},
	}[c.way]
	if c.way == "redirect" && c.client == "npm ws" { // the only one that says so
		want = append([]string{"corrected"}, want...)
	}
	if c.client == "Python websocket-client" { // 1.2.3 knows no 1012 and takes it for an error
		want[slices.Index(want, "1012 moved to unbj")] = "error"
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s by %s saw %q, want %q: %+v", c.client, c.way, got, want, c.events(t))
	}
	sessions := c.stage.seen.Sessions(c.routerID)
	if c.client == "Chromium" {
		return // its routerId is no header
	}
	if len(sessions) != 2 || sessions[0].Unit != "center" || sessions[0].Ended() == nil || sessions[1].Unit != "unbj" || sessions[1].Ended() != nil {
		t.Errorf("%s by %s had %d sessions, want one in center that ended and one in unbj that lasts", c.client, c.way, len(sessions))
	}
}
