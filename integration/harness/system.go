package harness

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// startWithin is generous: two cores may be compiling, or running under the race detector.
	startWithin = time.Minute
	stopWithin  = 20 * time.Second
)

// Dev is a running `unitgate dev`.
type Dev struct {
	*Process
	API
	Ready Ready
}

// StartDev starts `unitgate dev` on free ports and waits until everything serves.
func StartDev(t testing.TB, args ...string) *Dev {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ready.json")
	p := Start(t, append([]string{"dev", "--free-ports", "--ready-file", file}, args...)...)
	d := &Dev{Process: p}
	Eventually(t, startWithin, "dev is ready", func() bool {
		if !p.Running() {
			t.Fatalf("dev ended before it was ready: %s", p.Stderr)
		}
		text, err := os.ReadFile(file)
		// The file may be seen while it is being written.
		return err == nil && json.Unmarshal(text, &d.Ready) == nil
	})
	d.API = API{NATS: d.Ready.NATS, Namespace: d.Ready.Namespace}
	return d
}

// Edges returns the addresses of a unit's edges.
func (d *Dev) Edges(t testing.TB, unit string) []string {
	t.Helper()
	for _, u := range d.Ready.Units {
		if u.ID == unit {
			return u.Edges
		}
	}
	t.Fatalf("the ready file names no unit %s: %+v", unit, d.Ready.Units)
	return nil
}

// Stop ends a process as an operator does, with SIGTERM, and expects exit code 0.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	if code := p.Wait(t, stopWithin); code != 0 {
		t.Errorf("unitgate %s: exit code %d after SIGTERM", p.Name, code)
	}
}

// System is a namespace of separate processes around a NATS server inside the test.
type System struct {
	API
	Domain    string
	Control   *Process
	flags     []string // of the controller
	EdgesNATS string   // where its edges sign in; "": where everybody does
}

// StartSystem starts NATS and one controller, with more flags if given, and applies the config.
func StartSystem(t testing.TB, c Config, flags ...string) *System {
	t.Helper()
	return StartSystemOn(t, startNATS(t), c, flags...)
}

// StartSystemOn starts one controller on NATS servers that run already, and applies the config.
func StartSystemOn(t testing.TB, url string, c Config, flags ...string) *System {
	t.Helper()
	s := &System{API: API{NATS: url, Namespace: c.Namespace}, Domain: c.Domain, flags: flags}
	s.StartControl(t)
	file := c.File(t)
	// Until a controller answers, a command fails at once with "no responders" and changes nothing.
	Eventually(t, startWithin, "the config is applied", func() bool {
		return Run(t, "apply", "-f", file, "--yes", "--nats", s.NATS).Code == 0
	})
	return s
}

// StartControl starts a controller; a former one is forgotten.
func (s *System) StartControl(t testing.TB) {
	t.Helper()
	s.Control = Start(t, append([]string{"control", "--nats", s.NATS, "-n", s.Namespace, "--admin", "127.0.0.1:0"}, s.flags...)...)
}

// EdgeProcess is a running `unitgate edge`.
type EdgeProcess struct {
	*Process
	ID     string
	Addr   string
	system *System
	run    func(t testing.TB, args ...string) *Process
	args   []string
}

// StartEdge starts an edge, with more flags if given, and waits until it serves.
func (s *System) StartEdge(t testing.TB, id string, u Unit, addr string, flags ...string) *EdgeProcess {
	t.Helper()
	return s.startEdge(t, Start, id, u, addr, flags)
}

// StartEdgeAsInit is StartEdge in a pid namespace of the edge's own.
func (s *System) StartEdgeAsInit(t testing.TB, id string, u Unit, addr string, flags ...string) *EdgeProcess {
	t.Helper()
	return s.startEdge(t, StartInit, id, u, addr, flags)
}

func (s *System) startEdge(t testing.TB, run func(testing.TB, ...string) *Process, id string, u Unit, addr string, flags []string) *EdgeProcess {
	t.Helper()
	e := &EdgeProcess{ID: id, Addr: addr, system: s, run: run}
	e.args = append([]string{"edge", "--nats", cmp.Or(s.EdgesNATS, s.NATS), "--namespace", s.Namespace, "--unit", u.ID, "--cluster", u.Cluster(),
		"--listen", addr, "--advertise", addr, "--id", id, "--state-dir", t.TempDir(), "--admin", "127.0.0.1:0"}, flags...)
	e.Process = run(t, e.args...)
	e.Serves(t)
	return e
}

// StateDir is the directory that the edge was given.
func (e *EdgeProcess) StateDir() string { return e.args[slices.Index(e.args, "--state-dir")+1] }

// Restart starts an edge that has ended, with the same flags and state directory. It need not serve yet.
func (e *EdgeProcess) Restart(t testing.TB) {
	t.Helper()
	e.Process = e.run(t, e.args...)
}

// Serves waits until the edge answers as a live one.
func (e *EdgeProcess) Serves(t testing.TB) {
	t.Helper()
	Eventually(t, startWithin, "edge "+e.ID+" serves", func() bool {
		for _, known := range e.system.API.Edges(t) {
			if known.ID == e.ID && known.Live {
				return true
			}
		}
		return false
	})
}

// StartNATS starts a NATS server inside the test, without authentication, and returns its URL.
func StartNATS(t testing.TB) string { t.Helper(); return startNATS(t) }

func startNATS(t testing.TB) string {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: FreePort(t), JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(startWithin) {
		t.Fatal("the NATS server does not start")
	}
	return ns.ClientURL()
}

// Head returns the journal's last sequence, as the server counts it.
func (a API) Head(t testing.TB) uint64 {
	t.Helper()
	nc, err := nats.Connect(a.NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "UNITGATE_"+a.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}

// Config is a namespace with one domain and one unit type of 10,000 slots.
type Config struct {
	Namespace string
	Domain    string
	Path      string // of the only URI; "": /
	Scheme    string // of Location; "": http
	Policy    string // what differs from the defaults: "ownership: exclusive, lease: 15s"
	Units     []Unit

	Correction string // "": redirect
	RouterID   string // where it is looked for, in order; "": "header:routerId"
}

// Unit is a unit of a Config; the first one is the center.
type Unit struct {
	ID       string
	Range    string   // slots, "0-5997"
	Exact    []string // exact IDs
	Origins  []string // HOST:PORT
	Location string   // HOST:PORT to which clients are redirected; "": the sub-domain
}

// Cluster is the id of the unit's only cluster.
func (u Unit) Cluster() string { return "ws-" + u.ID }

// YAML writes the config file.
func (c Config) YAML() string {
	var head, clusters, subdomains, origins, ranges, exact strings.Builder
	for i, u := range c.Units {
		location := u.Location
		if location == "" {
			location = u.ID + "." + c.Domain
		}
		fmt.Fprintf(&head, "  - {id: %s, name: Unit %s, center: %v}\n", u.ID, u.ID, i == 0)
		fmt.Fprintf(&clusters, "  - {id: %s, unit: %s, protocol: websocket}\n", u.Cluster(), u.ID)
		fmt.Fprintf(&subdomains, "      %s: {subdomain: %q, cluster: %s}\n", u.ID, location, u.Cluster())
		fmt.Fprintf(&origins, "          %s: %q\n", u.ID, strings.Join(u.Origins, ","))
		fmt.Fprintf(&ranges, "      %s: [%s]\n", u.ID, u.Range)
		if len(u.Exact) > 0 {
			fmt.Fprintf(&exact, "      %s: [%s]\n", u.ID, quoted(u.Exact))
		}
	}
	path := c.Path
	if path == "" {
		path = "/"
	}
	policy := ""
	if c.Policy != "" {
		policy = "policy: {" + c.Policy + "}\n"
	}
	text := "namespace: " + c.Namespace + "\n" + policy + `unitTypes:
  - {name: unit_type, slots: 10000, routerId: [` + cmp.Or(c.RouterID, `"header:routerId"`) + `], unmarked: local}
units:
` + head.String() + "clusters:\n" + clusters.String() + `domains:
  - host: ` + c.Domain + `
    unitType: unit_type
    protocol: websocket
    scheme: ` + cmp.Or(c.Scheme, "http") + `
    correction: ` + cmp.Or(c.Correction, "redirect") + `
    dns: {provider: none}
    units:
` + subdomains.String() + `    uris:
      - path: ` + path + `
        origins:
` + origins.String() + `rules:
  unit_type:
    ranges:
` + ranges.String()
	if exact.Len() > 0 {
		text += "    exact:\n" + exact.String()
	}
	return text
}

func quoted(ids []string) string {
	var out []string
	for _, id := range ids {
		out = append(out, strconv.Quote(id))
	}
	return strings.Join(out, ", ")
}

// File writes the config into a temporary file.
func (c Config) File(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(c.YAML()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
