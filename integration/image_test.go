package integration_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/unitgate/unitgate/edge/certs/certstest"
	"github.com/unitgate/unitgate/integration/harness"
)

// imageCopies are the Dockerfile's last stage, which makeImage does by hand.
var imageCopies = []string{
	"COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt",
	"COPY --from=build /image/unitgate /unitgate",
	"COPY --from=build --chown=65532:65532 /image/var/lib/unitgate/ /var/lib/unitgate/",
	"COPY --from=build --chown=65532:65532 /image/tmp/ /tmp/",
	"USER 65532:65532",
	`ENTRYPOINT ["/unitgate"]`,
	`CMD ["--help"]`,
}

// makeImage makes a directory as the Dockerfile makes the image's root: with its own command for the binary, its own
// directories, and an authority of the test's where Debian's are.
func makeImage(t *testing.T, authority *certstest.Authority) harness.Image {
	t.Helper()
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, _ := strings.Cut(string(text), "\nFROM scratch\n")
	if got := strings.Split(strings.TrimSpace(last), "\n"); !slices.Equal(got, imageCopies) {
		t.Fatalf("the Dockerfile's last stage is %q: make the same of it here", got)
	}
	build := regexp.MustCompile(`go build (.*) -o /image/unitgate (\S+)`).FindStringSubmatch(string(text))
	dirs := regexp.MustCompile(`mkdir -p (.*)`).FindStringSubmatch(string(text))
	if build == nil || dirs == nil || !strings.Contains(string(text), "\nENV CGO_ENABLED=0\n") {
		t.Fatal("the Dockerfile's build stage is not as expected")
	}
	root := t.TempDir()
	cmd := exec.Command("sh", "-c", "go build "+build[1]+` -o "$0" `+build[2], filepath.Join(root, "unitgate"))
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
	}
	made := []string{"etc/ssl/certs", "proc", "run/secrets/unitgate"} // the last two are the runtime's
	for _, dir := range strings.Fields(dirs[1]) {
		if inside, ok := strings.CutPrefix(dir, "/image/"); ok {
			made = append(made, inside)
		}
	}
	for _, dir := range made {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ca, err := os.ReadFile(authority.CAFile())
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"), ca, 0o600)
	}
	if err == nil {
		err = os.Chmod(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return harness.Image{Root: root, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}}
}

// owned is a directory of the image's user with these files.
func owned(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(file, harness.ImageUser, harness.ImageUser); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, harness.ImageUser, harness.ImageUser); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestImage runs the static binary in a root as the Dockerfile's image has it, read-only but for the state directory,
// without a shell, as a user without rights and as PID 1: a controller and two edges serve, their health check works, a
// hook over https finds the authorities, and an edge comes back as the one it was.
func TestImage(t *testing.T) {
	harness.Long(t, "it builds a binary of its own")
	if os.Geteuid() != 0 {
		harness.Missing(t, "namespaces and another root need root")
	}
	t.Parallel()
	authority := certstest.New(t)
	image := makeImage(t, authority)
	var called atomic.Int64
	hook := startHTTPS(t, authority, func(w http.ResponseWriter, _ *http.Request) { called.Add(1); w.WriteHeader(http.StatusNoContent) })

	keys := harness.DeployedKeys(t, "../deployments/nats")
	config, err := filepath.Abs("../deployments/nats/single.conf")
	if err != nil {
		t.Fatal(err)
	}
	nats := harness.StartDeployed(t, config, 1, keys)
	secrets := map[string]string{"hook": "a secret of sixteen bytes or more"}
	for _, role := range []string{"control", "edge-center", "edge-unbj"} {
		seed, err := os.ReadFile(keys.Seed(role))
		if err != nil {
			t.Fatal(err)
		}
		secrets[role] = string(seed)
	}
	image.Mounts = map[string]string{"/run/secrets/unitgate": owned(t, secrets)}
	system := &harness.System{
		API:    harness.API{NATS: nats.URL, Namespace: "shop", Flags: []string{"--nkey", keys.Seed("operator")}},
		Domain: "shop.example.com",
	}
	admin := freeAddr(t)
	image.Start(t, "control", "--nats", nats.URL, "--nkey", "/run/secrets/unitgate/control", "--hook-secret-file", "/run/secrets/unitgate/hook", "--hook-allow", "127.0.0.1", "--admin", admin)
	cfg := harness.Config{Namespace: "shop", Domain: system.Domain}
	seen := harness.NewRegister()
	for _, u := range []harness.Unit{{ID: "center", Range: "0-5997"}, {ID: "unbj", Range: "5998-9999"}} {
		u.Origins, u.Location = []string{harness.StartOrigin(t, u.ID, seen, 0).Addr}, freeAddr(t)
		cfg.Units = append(cfg.Units, u)
	}
	file := filepath.Join(t.TempDir(), "shop.yaml")
	if err := os.WriteFile(file, []byte(cfg.YAML()+"hooks:\n  - {name: ask, url: \""+hook+"\", on: pre, wait: success}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, recovers, "the config is applied", func() bool { return system.Run(t, "apply", "-f", file, "--yes").Code == 0 })

	edges, admins := map[string]*harness.Process{}, map[string]string{}
	start := func(u harness.Unit, state string) {
		in := image
		in.Mounts = map[string]string{"/run/secrets/unitgate": image.Mounts["/run/secrets/unitgate"], "/var/lib/unitgate": state}
		edges[u.ID] = in.Start(t, "edge", "--nats", nats.URL, "--nkey", "/run/secrets/unitgate/edge-"+u.ID, "-n", "shop", "--unit", u.ID, "--cluster", u.Cluster(),
			"--listen", u.Location, "--state-dir", "/var/lib/unitgate", "--admin", admins[u.ID], "--drain-time", "0s")
	}
	ready := func(addr string) bool {
		p := image.Start(t, "ready", "--admin", addr)
		return p.Wait(t, recovers) == 0
	}
	states := map[string]string{}
	for _, u := range cfg.Units {
		states[u.ID], admins[u.ID] = owned(t, nil), freeAddr(t)
		start(u, states[u.ID])
	}
	for _, addr := range []string{admin, admins["center"], admins["unbj"]} {
		harness.Eventually(t, recovers, "the image's health check passes", func() bool { return ready(addr) })
	}
	before := system.Edges(t)

	center := cfg.Units[0]
	client := harness.MustDial(t, harness.Handshake{Addr: center.Location, Host: system.Domain, RouterID: "1"})
	if text, err := client.Read(recovers); err != nil || string(text) != "Welcome to the server! center" {
		t.Fatalf("%q, %v", text, err)
	}
	id := system.Cutover(t, append([]string{"preview"}, toCenter...)...).ID
	if c := system.Cutover(t, "start", id, "--wait"); c.State != "completed" || called.Load() != 1 {
		t.Errorf("the cutover is %s, its hook was called %d times", c.State, called.Load())
	}

	edges["center"].Signal(t, syscall.SIGTERM)
	if _, err := readToEnd(client); !closedWith(err, 1001, "edge is shutting down") {
		t.Errorf("the session ended with %v", err)
	}
	if code := edges["center"].Wait(t, recovers); code != 0 || !strings.Contains(edges["center"].Stderr.String(), "the work is done by a child") {
		t.Errorf("exit code %d after SIGTERM: %s", code, edges["center"].Stderr)
	}
	start(center, states["center"])
	harness.Eventually(t, recovers, "the edge is back", func() bool { return ready(admins["center"]) })
	after := system.Edges(t)
	ids := func(edges []harness.Edge) (all []string) {
		for _, e := range edges {
			all = append(all, e.ID)
		}
		return all
	}
	if !slices.Equal(ids(before), ids(after)) {
		t.Errorf("the edges were %q and are %q", ids(before), ids(after))
	}
}

// startHTTPS is a server with a certificate of the authority's.
func startHTTPS(t *testing.T, authority *certstest.Authority, h http.HandlerFunc) (url string) {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "hook.pem"), filepath.Join(dir, "hook.key")
	authority.Issue(cert, key, certstest.Leaf{Names: []string{"127.0.0.1"}})
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}
