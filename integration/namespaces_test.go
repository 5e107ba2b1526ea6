package integration_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/unitgate/unitgate/integration/harness"
)

// The subjects that the processes of one namespace need.
var (
	edgePublishes     = []string{"unitgate.edge.<ns>.>"}
	edgeHears         = []string{"unitgate.edge.<ns>.>", "unitgate.beacon.<ns>", "unitgate.news.<ns>"}
	operatorPublishes = []string{
		"unitgate.api.<ns>.*.*", "unitgate.cmd.<ns>.*.*", "unitgate.edge.<ns>.*.*.status", "unitgate.edge.<ns>.*.*.sessions",
		"unitgate.journal.<ns>", "unitgate.namespaces",
	}
	operatorHears = []string{"unitgate.live.<ns>.>", "unitgate.beacon.<ns>", "unitgate.news.<ns>"}
	reads         = []string{"$JS.API.DIRECT.GET.KV_UNITGATE_SNAPSHOTS.$KV.UNITGATE_SNAPSHOTS.<ns>.>"} // snapshots, key by key
)

// tenants is one deployment with two namespaces that have the same units, clusters, edge ids and domain: one NATS server
// and one controller, and of each namespace an operator and edges that may use the subjects of their own one only.
type tenants struct {
	url     string // "%s": the user
	systems map[string]*harness.System
	configs map[string]harness.Config
	edges   map[string]map[string]*harness.EdgeProcess // by namespace and unit
	seen    map[string]*harness.Register
}

func startTenants(t *testing.T) *tenants {
	t.Helper()
	d := &tenants{
		systems: map[string]*harness.System{}, configs: map[string]harness.Config{}, edges: map[string]map[string]*harness.EdgeProcess{}, seen: map[string]*harness.Register{},
	}
	users := []*server.User{{Username: "control", Password: "pw"}}
	of := func(ns string, subjects ...[]string) (out []string) {
		for _, list := range subjects {
			for _, s := range list {
				out = append(out, strings.ReplaceAll(s, "<ns>", ns))
			}
		}
		return out
	}
	for _, ns := range []string{"shop", "mall"} {
		for role, may := range map[string][2][]string{
			"edge":     {of(ns, edgePublishes, reads), of(ns, edgeHears)},
			"operator": {of(ns, operatorPublishes, reads), of(ns, operatorHears)},
		} {
			inbox := []string{"_INBOX.>"}
			users = append(users, &server.User{Username: role + "-" + ns, Password: "pw", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: may[0]}, Subscribe: &server.SubjectPermission{Allow: append(inbox, may[1]...)},
				Response: &server.ResponsePermission{MaxMsgs: 1},
			}})
		}
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: harness.FreePort(t), JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, Users: users})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(within) {
		t.Fatal("the NATS server does not start")
	}
	d.url = strings.Replace(s.ClientURL(), "nats://", "nats://%s:pw@", 1)
	harness.Start(t, "control", "--nats", d.as("control"), "--admin", "127.0.0.1:0")
	for ns, border := range map[string]int{"shop": 6000, "mall": 3000} {
		d.start(t, ns, border)
	}
	return d
}

func (d *tenants) as(user string) string { return fmt.Sprintf(d.url, user) }

func (d *tenants) head(t *testing.T, ns string) uint64 {
	t.Helper()
	return harness.API{NATS: d.as("control"), Namespace: ns}.Head(t)
}

// start applies a namespace's config as its operator, and starts an edge in each unit.
func (d *tenants) start(t *testing.T, ns string, border int) {
	t.Helper()
	d.seen[ns] = harness.NewRegister()
	cfg := harness.Config{Namespace: ns, Domain: "websocket.example.com"}
	for _, u := range []harness.Unit{{ID: "center", Range: fmt.Sprintf("0-%d", border-1)}, {ID: "unbj", Range: fmt.Sprintf("%d-9999", border)}} {
		u.Origins, u.Location = []string{harness.StartOrigin(t, u.ID, d.seen[ns], 0).Addr}, freeAddr(t)
		cfg.Units = append(cfg.Units, u)
	}
	d.configs[ns] = cfg
	operator := harness.API{NATS: d.as("operator-" + ns), Namespace: ns}
	file := cfg.File(t)
	harness.Eventually(t, within, "the config of "+ns+" is applied", func() bool { return operator.Run(t, "apply", "-f", file, "--yes").Code == 0 })
	d.systems[ns] = &harness.System{API: operator, Domain: cfg.Domain, EdgesNATS: d.as("edge-" + ns)}
	d.edges[ns] = map[string]*harness.EdgeProcess{}
	for _, u := range cfg.Units {
		d.edges[ns][u.ID] = d.systems[ns].StartEdge(t, u.ID+"-1", u, u.Location)
	}
}

func (d *tenants) connect(t *testing.T, ns, unit, id string) (*harness.Client, *http.Response) {
	t.Helper()
	c, response, err := harness.Dial(harness.Handshake{Addr: d.edges[ns][unit].Addr, Host: "websocket.example.com", RouterID: id})
	if err != nil {
		t.Fatal(err)
	}
	if c != nil {
		t.Cleanup(c.Drop)
	}
	return c, response
}

// echoes tells whether a session still reaches its origin.
func echoes(c *harness.Client, text string) bool {
	if c.Send(text) != nil {
		return false
	}
	for {
		b, err := c.Read(within)
		if err != nil {
			return false
		}
		if strings.HasPrefix(string(b), text) {
			return true
		}
	}
}

// Namespaces of one deployment are isolated: the same unit, domain, edge ids, cutover ids and routerIds in two of them never
// meet; each has its own rules, office and journal; a broken journal of one is nothing to the other; and processes that may
// use the subjects of one namespace only do all that they have to, and nothing in the other one.
func TestNamespacesAreIsolated(t *testing.T) {
	d := startTenants(t)
	shop, mall := d.systems["shop"], d.systems["mall"]

	// 4000 is center's in shop and unbj's in mall; each edge knows its own rules and its own origins.
	for ns, owner := range map[string]string{"shop": "center", "mall": "unbj"} {
		for unit := range d.edges[ns] {
			c, response := d.connect(t, ns, unit, "4000")
			if (c != nil) != (unit == owner) {
				t.Errorf("%s: the edge of %s answers %s, %s owns 4000", ns, unit, response.Status, owner)
			}
			for _, u := range d.configs[ns].Units {
				if location := response.Header.Get("Location"); c == nil && u.ID == owner && location != "http://"+u.Location+"/" {
					t.Errorf("%s: 4000 is sent to %q, want %s", ns, location, u.Location)
				}
			}
		}
	}

	// Cutovers with one id at one time, and of one namespace nothing is felt in the other.
	moved, _ := d.connect(t, "shop", "unbj", "6100")
	stays, _ := d.connect(t, "mall", "unbj", "6100")
	both := map[string]harness.Cutover{}
	for ns, border := range map[string]int{"shop": 6200, "mall": 3100} {
		api := d.systems[ns].API
		c := api.Cutover(t, "preview", "--range", fmt.Sprintf("center=0-%d", border-1), "--range", fmt.Sprintf("unbj=%d-9999", border))
		api.Run(t, "cutover", "start", c.ID).OK(t)
		both[ns] = c
	}
	var closed *harness.CloseError
	if _, err := readToEnd(moved); !errors.As(err, &closed) || closed.Reason != "moved to center" {
		t.Errorf("6100 of shop ended with %v", err)
	}
	if both["shop"].ID != "c1" || both["mall"].ID != "c1" {
		t.Errorf("the first cutovers are %s and %s", both["shop"].ID, both["mall"].ID)
	}
	for ns, c := range both {
		d.systems[ns].AwaitCutover(t, c.ID, within, "completed", func(c harness.Cutover) bool { return c.State == "completed" })
	}
	if !echoes(stays, "still here") {
		t.Error("6100 of mall was touched")
	}

	d.trespass(t)

	// A record that nobody decided, in the journal of one of them.
	nc := harness.Connect(t, d.as("control"))
	if _, err := nc.Request("unitgate.evt.mall.unit.put."+uuid.NewString(), []byte(`{"id":"forged"}`), within); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, within, "mall refuses commands", func() bool {
		r := mall.API.Run(t, "cutover", "preview", "--range", "center=0-3200", "--range", "unbj=3201-9999")
		return r.Code != 0 && strings.Contains(r.Stderr, "projector_stopped")
	})
	if !echoes(stays, "and here") {
		t.Error("a broken journal ended a session")
	}
	c := shop.API.Cutover(t, "preview", "--range", "center=0-5999", "--range", "unbj=6000-9999")
	shop.API.Run(t, "cutover", "start", c.ID, "--wait").OK(t)
	if c, _ := d.connect(t, "shop", "unbj", "6100"); c == nil {
		t.Error("shop does not go on")
	}
	for ns, owner := range map[string]string{"shop": "center", "mall": "unbj"} {
		for _, s := range d.seen[ns].Sessions("4000") {
			if s.Unit != owner {
				t.Errorf("%s: 4000 was at an origin of %s", ns, s.Unit)
			}
		}
	}
}

// trespass has the processes of one namespace try the other one's doors.
func (d *tenants) trespass(t *testing.T) {
	t.Helper()
	mall := d.systems["mall"]
	head, edges := d.head(t, "mall"), len(mall.API.Edges(t))

	// An operator of shop in mall: neither a command nor a look.
	stranger := harness.API{NATS: d.as("operator-shop"), Namespace: "mall"}
	for _, args := range [][]string{
		{"cutover", "preview", "--range", "center=0-9999"}, {"get", "units"}, {"cutover", "show", "c1"},
	} {
		if r := stranger.Run(t, args...); r.Code == 0 {
			t.Errorf("%v as shop's operator: %s", args, r.Stdout)
		}
	}
	// An edge with the user of shop in mall.
	u := d.configs["mall"].Units[0]
	args := []string{"edge", "--namespace", "mall", "--unit", u.ID, "--cluster", u.Cluster(), "--listen", "127.0.0.1:0", "--advertise", freeAddr(t), "--admin", "127.0.0.1:0"}
	outsider := harness.Start(t, append(args, "--nats", d.as("edge-shop"), "--id", "outsider", "--state-dir", t.TempDir())...)
	harness.Eventually(t, within, "the edge is told that it may not", func() bool {
		return !outsider.Running() || strings.Contains(strings.ToLower(outsider.Stderr.String()), "permissions violation") || strings.Contains(outsider.Stderr.String(), "denied")
	})
	outsider.Kill()
	// An edge of shop, with what it has stored, under mall's user: it is no member there.
	old := d.edges["shop"]["center"]
	old.Kill()
	renamed := harness.Start(t, append(args, "--nats", d.as("edge-mall"), "--id", old.ID, "--state-dir", old.StateDir())...)
	harness.Eventually(t, within, "the edge is refused", func() bool { return !renamed.Running() })
	if code := renamed.Wait(t, within); code == 0 {
		t.Errorf("an edge of shop ended in mall with 0: %s", renamed.Stderr)
	}
	old.Restart(t)
	old.Serves(t)
	if now := d.head(t, "mall"); now != head || len(mall.API.Edges(t)) != edges {
		t.Errorf("mall's journal was at %d and is at %d; %+v", head, now, mall.API.Edges(t))
	}
}
