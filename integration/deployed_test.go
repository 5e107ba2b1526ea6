package integration_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events/bus"
	"github.com/unitgate/unitgate/integration/harness"
)

// deployed is a namespace as deployments/nats has it: NATS servers with the shipped files, their accounts, users and
// permissions; and two units, in which each process signs in with the key of its role.
type deployed struct {
	*harness.System
	keys     *harness.Keys
	nats     *harness.Cluster
	controls []*control
	edges    []*harness.EdgeProcess
	units    []harness.Unit
	seen     *harness.Register
}

// control is a controller with an admin listener.
type control struct {
	*harness.Process
	args  []string
	admin string
}

// startDeployed starts servers, two controllers, and as many edges in each unit as it is told.
func startDeployed(t *testing.T, config string, servers, edges int) *deployed {
	t.Helper()
	config, err := filepath.Abs("../deployments/nats/" + config)
	if err != nil {
		t.Fatal(err)
	}
	keys := harness.DeployedKeys(t, "../deployments/nats")
	d := &deployed{keys: keys, nats: harness.StartDeployed(t, config, servers, keys), seen: harness.NewRegister()}
	cfg := harness.Config{Namespace: "shop", Domain: "shop.example.com"} // the namespace and the units of accounts.conf
	for _, u := range []harness.Unit{{ID: "center", Range: "0-5997"}, {ID: "unbj", Range: "5998-9999"}} {
		u.Origins = []string{harness.StartOrigin(t, u.ID, d.seen, 0).Addr}
		u.Location = freeAddr(t)
		cfg.Units = append(cfg.Units, u)
	}
	d.units = cfg.Units
	d.System = &harness.System{API: d.as("operator"), Domain: cfg.Domain}
	for range 2 {
		c := &control{admin: freeAddr(t)}
		c.args = []string{"control", "--nats", d.NATS, "--nkey", keys.Seed("control"), "--admin", c.admin}
		c.Process = harness.Start(t, c.args...)
		d.controls = append(d.controls, c)
	}
	file := cfg.File(t)
	harness.Eventually(t, recovers, "the config is applied", func() bool { return d.API.Run(t, "apply", "-f", file, "--yes").Code == 0 })
	for _, u := range cfg.Units {
		for n := range edges {
			addr := u.Location
			if n > 0 {
				addr = freeAddr(t)
			}
			id := u.ID + "-" + strconv.Itoa(n+1)
			d.edges = append(d.edges, d.StartEdge(t, id, u, addr, "--nkey", keys.Edge(u.ID, id)))
		}
	}
	return d
}

// as is the command line as a role has it.
func (d *deployed) as(role string) harness.API {
	return harness.API{NATS: d.nats.URL, Namespace: "shop", Flags: []string{"--nkey", d.keys.Seed(role)}}
}

// connect signs in as a role. What the server complains of goes to the channel.
func (d *deployed) connect(t *testing.T, role string, complaints chan<- error) *nats.Conn {
	t.Helper()
	sign, err := bus.WithSeed(d.keys.Seed(role))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(d.NATS, append(sign, nats.MaxReconnects(-1), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case complaints <- err:
		default:
		}
	}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// driver is the controller in office.
func (d *deployed) driver(t *testing.T) *control {
	t.Helper()
	var leads *control
	harness.Eventually(t, recovers, "a controller is in office", func() bool {
		for _, c := range d.controls {
			var status struct{ Namespaces []struct{ Leading bool } }
			response, err := http.Get("http://" + c.admin + "/status")
			if err != nil {
				continue
			}
			err = json.NewDecoder(response.Body).Decode(&status)
			response.Body.Close()
			if err == nil && len(status.Namespaces) == 1 && status.Namespaces[0].Leading {
				leads = c
			}
		}
		return leads != nil
	})
	return leads
}

// TestDeployedCluster takes the three-node config of deployments/nats, with its accounts and permissions, through a bad
// day: while a cutover evicts one session a second, the controller in office is killed, and so is the NATS server that
// leads the journal. The cutover completes, nobody else is touched, and the other servers and processes come back.
func TestDeployedCluster(t *testing.T) {
	harness.Long(t, "NATS elects and an office is taken over")
	t.Parallel()
	d := startDeployed(t, "cluster.conf", 3, 2)
	unbj := d.edges[2:]
	var movers, others []*harness.Client
	for i := range 12 {
		movers = append(movers, harness.MustDial(t, harness.Handshake{Addr: unbj[i%2].Addr, Host: d.Domain, RouterID: strconv.Itoa(6000 + i)}))
		others = append(others, harness.MustDial(t, harness.Handshake{Addr: d.edges[i%4].Addr, Host: d.Domain, RouterID: strconv.Itoa([]int{100, 200, 9000, 9100}[i%4] + i)}))
	}
	id := d.Cutover(t, append(append([]string{"preview"}, toCenter...), "--waves", "1", "--rate", "1")...).ID
	d.as("observer").Run(t, "cutover", "start", id).Refused(t, 3, "denied")
	d.Run(t, "cutover", "start", id).OK(t)
	ends := make(chan error, len(movers))
	for _, m := range movers {
		go func() { _, err := readToEnd(m); ends <- err }()
	}
	moved := func(err error) {
		if !closedWith(err, 1012, "moved to center") {
			t.Errorf("a session that moves ends with %v", err)
		}
	}
	moved(<-ends)
	js, err := jetstream.New(d.connect(t, "admin", nil))
	if err != nil {
		t.Fatal(err)
	}
	struck, leader := d.driver(t), d.nats.Leader(t, js, "UNITGATE_shop")
	began := time.Now()
	struck.Kill()
	d.nats.Server(leader).Kill()
	for range len(movers) - 1 {
		moved(<-ends)
	}
	t.Logf("evicted %v after", time.Since(began).Round(time.Millisecond))
	harness.Eventually(t, 2*recovers, "the cutover completes", func() bool {
		var c harness.Cutover
		r := d.as("observer").Run(t, "cutover", "show", id)
		return r.Code == 0 && json.Unmarshal([]byte(r.Stdout), &c) == nil && c.State == "completed" && c.Evicted == len(movers)
	})
	t.Logf("completed %v after the controller and the journal's leader were killed", time.Since(began).Round(time.Millisecond))

	for i, o := range others {
		if err := o.Send("still here"); err != nil {
			t.Errorf("session %d of those that stay: %v", i, err)
		}
		for text := ""; !strings.HasPrefix(text, "still here"); {
			b, err := o.Read(recovers)
			if err != nil {
				t.Fatalf("session %d of those that stay: %v", i, err)
			}
			text = string(b)
		}
	}
	harness.MustDial(t, harness.Handshake{Addr: d.edges[0].Addr, Host: d.Domain, RouterID: "6000"})
	if c, answer, err := harness.Dial(harness.Handshake{Addr: unbj[0].Addr, Host: d.Domain, RouterID: "6000"}); err != nil || c != nil || answer.StatusCode != 302 {
		t.Errorf("the unit that a session has left answers it with %v, %v", answer, err)
	}
	if overlaps := d.seen.Overlaps(); len(overlaps) > 0 {
		t.Errorf("in two units at once: %q", overlaps)
	}

	d.nats.Restart(t, leader)
	struck.Process = harness.Start(t, struck.args...)
	began = time.Now()
	d.recovered(t, js)
	d.undisturbed(t)
	t.Logf("all there and current again after %v", time.Since(began).Round(time.Millisecond))
}

// undisturbed checks that no process was ever refused what it wanted of NATS.
func (d *deployed) undisturbed(t *testing.T) {
	t.Helper()
	all := map[string]string{}
	for _, c := range d.controls {
		all["controller "+c.admin] = c.Stderr.String()
	}
	for _, e := range d.edges {
		all["edge "+e.ID] = e.Stderr.String()
	}
	for who, log := range all {
		for line := range strings.Lines(log) {
			if strings.Contains(strings.ToLower(line), "permissions violation") {
				t.Errorf("%s: %s", who, line)
			}
		}
	}
}

// recovered waits until every replica is current, every process serves, and all hold one state, and checks the journal.
func (d *deployed) recovered(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	harness.Eventually(t, recovers, "every replica of every stream is current", func() bool {
		n := 0
		list := js.ListStreams(t.Context())
		for info := range list.Info() {
			if c := info.Cluster; c == nil || len(c.Replicas) != 2 || slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline }) {
				return false
			}
			n++
		}
		return list.Err() == nil && n == 5 // journal, queue, outcomes, snapshots, office
	})
	for _, c := range d.controls {
		harness.Eventually(t, recovers, "controller "+c.admin+" is ready", func() bool { return harness.Run(t, "ready", "--admin", c.admin).Code == 0 })
	}
	harness.Eventually(t, recovers, "every edge is at the head, with one state", func() bool {
		var edges []harness.Edge
		r := d.as("observer").Run(t, "get", "edges")
		return r.Code == 0 && json.Unmarshal([]byte(r.Stdout), &edges) == nil && len(edges) == len(d.edges) &&
			!slices.ContainsFunc(edges, func(e harness.Edge) bool {
				return !e.Live || e.Applied != e.Head || e.StateHash != edges[0].StateHash
			})
	})
	d.as("observer").Run(t, "journal", "verify").OK(t)
}
