//go:build linux

package main

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/integration/bench/crew"
	"github.com/unitgate/unitgate/integration/bench/load"
)

// system is what edges need around them: a NATS server, in this process, and for every realm a control plane.
type system struct {
	opts *options
	dir  string
	bin  string
	cert certificate
	nats *server.Server
	nc   *nats.Conn

	addrs map[string]map[string]string // of edges, by realm and id
}

const startWithin = 30 * time.Second

func startSystem(ctx context.Context, o *options, cert certificate, dir string) (s *system, err error) {
	s = &system{opts: o, cert: cert, dir: dir, bin: o.unitgate, addrs: map[string]map[string]string{}}
	if s.bin == "" {
		if s.bin, err = build(ctx, dir); err != nil {
			return nil, err
		}
	}
	s.nats, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: filepath.Join(dir, "nats"), NoSigs: true, NoLog: true,
	})
	if err != nil {
		return nil, err
	}
	s.nats.Start()
	if !s.nats.ReadyForConnections(startWithin) {
		err = errors.New("the NATS server does not start")
	}
	if err == nil {
		s.nc, err = nats.Connect(s.nats.ClientURL())
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// version is the revision of the binary's sources, if it tells.
func (s *system) version() string {
	info, err := buildinfo.ReadFile(s.bin)
	if err != nil {
		return "unknown"
	}
	version := info.GoVersion
	for _, b := range info.Settings {
		if b.Key == "vcs.revision" {
			version = b.Value[:min(12, len(b.Value))] + ", " + version
		}
	}
	return version
}

func (s *system) stop() {
	if s.nc != nil {
		s.nc.Close()
	}
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}

// build compiles unitgate as it is released.
func build(ctx context.Context, dir string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w; run this inside it, or give -unitgate BINARY", err)
	}
	bin := filepath.Join(dir, "unitgate")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-trimpath", "-o", bin, "./services/unitgate")
	cmd.Dir = strings.TrimSpace(string(root))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
}

// environment is ours without what would lead unitgate elsewhere. The edge takes one poller for each processor that it
// may use.
func (s *system) environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); name != "NATS_URL" && !strings.HasPrefix(name, "UNITGATE_") && !strings.HasPrefix(name, "OTEL_") {
			env = append(env, v)
		}
	}
	return append(env, fmt.Sprintf("GOMAXPROCS=%d", s.opts.threads))
}

// realm is a namespace with its control plane. Its edges keep their state directories and addresses from one start to
// the next, as edges do.
type realm struct {
	*system
	name    string
	control *crew.Process
	addrs   map[string]string // of edges, by id
}

// ownIDs is how many routerIds, from 0, belong to the unit here: all slots but the last one.
const ownIDs = 9999

const (
	unitHere  = "here"  // owns every session at first
	unitThere = "there" // where evicted sessions belong
)

// enter starts a control plane for a namespace; the namespace comes with the first config.
func (s *system) enter(name string) (*realm, error) {
	p, err := crew.Start(crew.Spec{
		Name: "control plane of " + name, Program: s.bin, Env: s.environment(),
		Args: []string{"control", "--nats", s.nats.ClientURL(), "-n", name, "--admin", "127.0.0.1:0"},
	})
	if err != nil {
		return nil, err
	}
	if s.addrs[name] == nil {
		s.addrs[name] = map[string]string{}
	}
	return &realm{system: s, name: name, control: p, addrs: s.addrs[name]}, nil
}

// apply applies a config in which all sessions go to these origins.
func (r *realm) apply(ctx context.Context, origins []string) error {
	list := strings.Join(origins, ",")
	text := fmt.Sprintf(`namespace: %s
unitTypes:
  - {name: unit_type, slots: 10000, routerId: ["header:routerId"], unmarked: local}
units:
  - {id: here, name: Here, center: true}
  - {id: there, name: There}
clusters:
  - {id: ws-here, unit: here, protocol: websocket}
  - {id: ws-there, unit: there, protocol: websocket}
domains:
  - host: %s
    unitType: unit_type
    protocol: websocket
    scheme: http
    correction: redirect
    dns: {provider: none}
    units:
      here: {subdomain: here.%[2]s, cluster: ws-here}
      there: {subdomain: there.%[2]s, cluster: ws-there}
    uris:
      - path: /
        origins: {here: %[3]q, there: %[3]q}
rules:
  unit_type:
    ranges: {here: [0-%[4]d], there: [%[5]d-%[5]d]}
`, r.name, load.Host, list, ownIDs-1, ownIDs)
	file := filepath.Join(r.dir, r.name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	var out []byte
	// Until the control plane answers, a command fails at once and changes nothing.
	err := r.control.AwaitReady(ctx, func() bool {
		cmd := exec.CommandContext(ctx, r.bin, "apply", "-f", file, "--yes", "--nats", r.nats.ClientURL(), "-n", r.name)
		cmd.Env = r.environment()
		var err error
		out, err = cmd.CombinedOutput()
		return err == nil
	})
	if err != nil {
		return fmt.Errorf("apply the config: %w\n%s", err, out)
	}
	return nil
}

// edge starts an edge and waits until it decides by the newest state.
func (r *realm) edge(ctx context.Context, s *site, id, unit string, flags ...string) error {
	addr, err := r.keptAddr(id)
	if err != nil {
		return err
	}
	secure, err := r.keptAddr(id + " TLS")
	if err != nil {
		return err
	}
	admin, err := freeAddr()
	if err != nil {
		return err
	}
	stateDir := filepath.Join(r.dir, r.name+"-"+id)
	args := []string{"edge", "--nats", r.nats.ClientURL(), "-n", r.name, "--unit", unit, "--cluster", "ws-" + unit, "--listen", addr,
		"--listen-tls", secure, "--tls-cert", r.cert.cert, "--tls-key", r.cert.key,
		"--advertise", addr, "--id", id, "--state-dir", stateDir, "--admin", admin}
	args = append(args, flags...)
	if r.opts.pprof != "" {
		args = append(args, "--pprof")
	}
	p, err := crew.Start(crew.Spec{Name: "edge " + id, Program: r.bin, Env: r.environment(), Args: args})
	if err != nil {
		return err
	}
	s.add(p, addr, secure, secure)
	s.admin = append(s.admin, admin)
	head := uint64(0)
	return p.AwaitReady(ctx, func() bool {
		if head == 0 {
			head = r.head(ctx)
		}
		return head > 0 && ready(ctx, admin, head)
	})
}

// keptAddr is the address that something in the realm has had from its first start on.
func (r *realm) keptAddr(what string) (string, error) {
	var err error
	if r.addrs[what] == "" {
		r.addrs[what], err = freeAddr()
	}
	return r.addrs[what], err
}

// head is the journal's last sequence, 0 if it cannot be had.
func (r *realm) head(ctx context.Context) uint64 {
	js, err := jetstream.New(r.nc)
	if err != nil {
		return 0
	}
	stream, err := js.Stream(ctx, "UNITGATE_"+r.name)
	if err != nil {
		return 0
	}
	return stream.CachedInfo().State.LastSeq
}

// ready says whether an edge admits sessions, and has applied a sequence.
func ready(ctx context.Context, admin string, seq uint64) bool {
	var status struct {
		Applied uint64 `json:"applied"`
	}
	if _, err := get(ctx, "http://"+admin+"/readyz"); err != nil {
		return false
	}
	b, err := get(ctx, "http://"+admin+"/status")
	return err == nil && json.Unmarshal(b, &status) == nil && status.Applied >= seq
}

// edges is the target unitgate: edges of one unit in a realm of their own.
type edges struct {
	system   *system
	name     string // of the realm
	realm    *realm
	observer *observer // nil: nobody observes them
}

func (e *edges) start(ctx context.Context, n int, origins []string) (*site, error) {
	if e.realm == nil {
		var err error
		if e.realm, err = e.system.enter(e.name); err != nil {
			return nil, err
		}
	}
	if err := e.realm.apply(ctx, origins); err != nil {
		return nil, err
	}
	s := &site{}
	for i := range n {
		if err := e.realm.edge(ctx, s, fmt.Sprintf("edge-%d", i+1), unitHere, e.observer.flags()...); err != nil {
			s.stop()
			return nil, err
		}
	}
	e.observer.watch(s)
	return s, nil
}

// leave ends the control plane.
func (r *realm) leave() { r.control.Stop(stopWithin) }

func (e *edges) stop() {
	if e.realm != nil {
		e.realm.leave()
	}
}

// get is an HTTP request whose answer is 200.
func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return b, err
}
