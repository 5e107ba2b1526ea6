package integration_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/unitgate/unitgate/edge/certs/certstest"
	"github.com/unitgate/unitgate/integration/harness"
)

// composeService is what of a service is looked at here; compose-go reads all of it, in deployments/check.
type composeService struct {
	Image       string
	Entrypoint  []string
	Command     []string
	Environment map[string]string
	Volumes     []string
	HealthCheck struct{ Test []string }
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
}

// composed is the compose file brought up without a container engine: each service of ours in the image's root, in
// namespaces of its own but for the network. There, each has an address of its own, on which it listens instead of on all.
type composed struct {
	t        *testing.T
	services map[string]composeService
	addrs    map[string]string
	image    harness.Image
	dirs     map[string]string // of this machine, by volume
	up       map[string]*harness.Process
}

// TestCompose brings compose.yaml up as its dependencies and health checks say, with the commands, environment, mounts and
// names that stand there, and does with it what its first lines say.
func TestCompose(t *testing.T) {
	harness.Long(t, "it builds a binary of its own")
	if os.Geteuid() != 0 {
		harness.Missing(t, "namespaces and another root need root")
	}
	t.Parallel()
	c := loadComposed(t)
	for _, name := range slices.Sorted(maps.Keys(c.services)) {
		if c.services[name].Image == "unitgate" {
			c.start(name)
		}
	}
	edge := func(name, port string) string { return c.addrs[name] + ":" + port }
	_, answer, err := harness.Dial(harness.Handshake{Addr: edge("unbj-1", "7201"), Host: "localhost:7201", RouterID: "1111"})
	if err != nil || answer.StatusCode != 302 || answer.Header.Get("Location") != "http://localhost:7101/" {
		t.Errorf("1111 is answered %+v, %v", answer, err)
	}
	for _, s := range []struct{ addr, id, unit string }{{edge("center-2", "7102"), "1111", "center"}, {edge("unbj-2", "7202"), "8330", "unbj"}} {
		client := harness.MustDial(t, harness.Handshake{Addr: s.addr, Host: "localhost", RouterID: s.id})
		if text, err := client.Read(recovers); err != nil || string(text) != "Welcome to the server! "+s.unit {
			t.Errorf("%s: %q, %v", s.id, text, err)
		}
	}
	var edges []harness.Edge
	p := c.exec("control", "get", "edges", "--nkey", "/keys/operator.nk", "-o", "json")
	if code := p.Wait(t, recovers); code != 0 || json.Unmarshal([]byte(p.Stdout.String()), &edges) != nil || len(edges) != 4 ||
		slices.ContainsFunc(edges, func(e harness.Edge) bool { return !e.Live }) {
		t.Errorf("get edges: %d %s%s", code, p.Stdout, p.Stderr)
	}
}

func loadComposed(t *testing.T) *composed {
	t.Helper()
	text, err := os.ReadFile("../deployments/compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]composeService
		Volumes  map[string]any
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	c := &composed{t: t, services: file.Services, addrs: map[string]string{}, dirs: map[string]string{}, up: map[string]*harness.Process{}}
	net, hosts := rand.IntN(1<<16), "127.0.0.1 localhost\n" // so that nobody else's ports are in the way
	for i, name := range slices.Sorted(maps.Keys(file.Services)) {
		c.addrs[name] = fmt.Sprintf("127.%d.%d.%d", net>>8, net&255, i+1)
		hosts += c.addrs[name] + " " + name + "\n"
	}
	for volume := range file.Volumes {
		c.dirs[volume] = owned(t, nil)
	}
	c.image = makeImage(t, certstest.New(t))
	for _, dir := range []string{"keys", "etc/unitgate"} { // an engine makes what is mounted on
		if err := os.MkdirAll(filepath.Join(c.image.Root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range map[string]string{"etc/hosts": hosts, "etc/unitgate/shop.yaml": ""} {
		if err := os.WriteFile(filepath.Join(c.image.Root, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// start starts a service once those that it depends on are as far as it wants them, and waits until it is healthy.
func (c *composed) start(name string) {
	c.t.Helper()
	if c.up[name] != nil {
		return
	}
	s := c.services[name]
	for on, want := range s.DependsOn {
		c.start(on)
		if want.Condition == "service_completed_successfully" {
			if code := c.up[on].Wait(c.t, recovers); code != 0 {
				c.t.Fatalf("%s ends with %d: %s", on, code, c.up[on].Stderr)
			}
		}
	}
	switch name {
	case "keys":
		c.up[name] = c.keys()
		return
	case "nats":
		c.up[name] = c.nats()
	default:
		c.up[name] = c.exec(name, s.Command...)
	}
	if test := s.HealthCheck.Test; name != "nats" && len(test) > 0 {
		harness.Eventually(c.t, recovers, name+" is healthy", func() bool {
			return c.exec(name, test[2:]...).Wait(c.t, recovers) == 0
		})
	}
}

// exec runs the image's program in the place of a service.
func (c *composed) exec(name string, args ...string) *harness.Process {
	c.t.Helper()
	in := c.image
	in.Mounts, in.Env = map[string]string{}, slices.Clone(c.image.Env)
	for _, v := range c.services[name].Volumes {
		from, to, _ := strings.Cut(v, ":")
		to, _, _ = strings.Cut(to, ":")
		in.Mounts[to] = c.dirs[from]
		if strings.HasPrefix(from, ".") {
			in.Mounts[to] = c.abs(from)
		}
	}
	for k, v := range c.services[name].Environment {
		if !strings.HasPrefix(k, "OTEL_") { // there is no collector here
			in.Env = append(in.Env, k+"="+v)
		}
	}
	var own []string
	for _, a := range args {
		own = append(own, strings.NewReplacer("0.0.0.0:", c.addrs[name]+":", "127.0.0.1:", c.addrs[name]+":").Replace(a))
	}
	return in.Start(c.t, own...)
}

func (c *composed) abs(file string) string {
	c.t.Helper()
	abs, err := filepath.Abs(filepath.Join("../deployments/compose", file))
	if err != nil {
		c.t.Fatal(err)
	}
	return abs
}

// keys does what the image of the Dockerfile's stage keys does, with its result owned as there.
func (c *composed) keys() *harness.Process {
	c.t.Helper()
	program, dir := filepath.Join(c.t.TempDir(), "keys"), c.dirs["keys"]
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./deployments/keys")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	p := harness.StartProgram(c.t, "", program, dir)
	p.Wait(c.t, recovers)
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, file := range files {
		if err := os.Chown(file, harness.ImageUser, harness.ImageUser); err != nil {
			c.t.Fatal(err)
		}
	}
	return p
}

// nats runs the service's own entry point with a shell, and nats-server in the place of its image's.
func (c *composed) nats() *harness.Process {
	c.t.Helper()
	s := c.services["nats"]
	server := strings.Join(harness.NATSServer(c.t), " ") + " -a " + c.addrs["nats"] + " -m " + strconv.Itoa(harness.FreePort(c.t))
	command := []string{"env"}
	for k, v := range s.Environment {
		command = append(command, k+"="+strings.Replace(v, "/data", c.dirs["nats"], 1))
	}
	for _, word := range s.Entrypoint {
		command = append(command, strings.NewReplacer("/keys/", c.dirs["keys"]+"/", "nats-server", server, "/etc/nats/", c.abs("../nats")+"/").Replace(word))
	}
	return harness.StartProgram(c.t, "", command[0], command[1:]...)
}
