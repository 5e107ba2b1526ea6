package harness

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/unitgate/unitgate/events/bus"
)

// Keys are the nkeys of the roles that deployments/nats/accounts.conf knows: the public halves for the servers'
// environment, a file with the seed for each role.
type Keys struct {
	Env   []string // of the servers
	files map[string]string
	inbox map[string]string
}

// NewKeys makes a key for each role ("control", "edge-center", …).
func NewKeys(t testing.TB, roles ...string) *Keys {
	t.Helper()
	k, dir := &Keys{files: map[string]string{}, inbox: map[string]string{}}, t.TempDir()
	for _, role := range roles {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		seed, err := pair.Seed()
		if err != nil {
			t.Fatal(err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ToUpper(strings.ReplaceAll(role, "-", "_"))
		k.Env = append(k.Env, "UNITGATE_NKEY_"+name+"="+public, "UNITGATE_INBOX_"+name+"="+bus.Inbox(public)+".>")
		k.inbox[role] = bus.Inbox(public)
		k.files[role] = filepath.Join(dir, role+".nk")
		if err := os.WriteFile(k.files[role], seed, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

var keyVariable = regexp.MustCompile(`nkey: \$UNITGATE_NKEY_([A-Z0-9_]+)`)

// DeployedKeys makes a key for each user of deployments/nats/accounts.conf, which lies in a directory.
func DeployedKeys(t testing.TB, dir string) *Keys {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "accounts.conf"))
	if err != nil {
		t.Fatal(err)
	}
	var roles []string
	for _, m := range keyVariable.FindAllStringSubmatch(string(text), -1) {
		roles = append(roles, strings.ToLower(strings.ReplaceAll(m[1], "_", "-")))
	}
	return NewKeys(t, roles...)
}

// Edge is the file with the seed of an edge: its own, or its unit's if it has none.
func (k *Keys) Edge(unit, id string) string {
	if own := k.files["edge-"+id]; own != "" {
		return own
	}
	return k.files["edge-"+unit]
}

// Inbox is the prefix of a role's inboxes.
func (k *Keys) Inbox(role string) string { return k.inbox[role] }

// Seed is the file with a role's seed; "" if there is no such role.
func (k *Keys) Seed(role string) string { return k.files[role] }

// StartDeployed starts as many NATS servers as it is told with a config file of deployments/nats as it is shipped: names,
// routes, directories and keys come from the environment, and only addresses from nats-server's own flags, which win over
// a file.
func StartDeployed(t testing.TB, config string, servers int, keys *Keys) *Cluster {
	t.Helper()
	c := &Cluster{servers: map[string]*natsServer{}}
	var urls []string
	for range servers {
		c.Routes = append(c.Routes, "nats://127.0.0.1:"+strconv.Itoa(FreePort(t)))
	}
	for i, route := range c.Routes {
		name, port := "n"+strconv.Itoa(i+1), strconv.Itoa(FreePort(t))
		s := &natsServer{url: "nats://" + net.JoinHostPort("127.0.0.1", port), config: config}
		s.command = append([]string{"env", "NATS_SERVER_NAME=" + name, "NATS_STORE_DIR=" + t.TempDir(), "NATS_ROUTES=[" + strings.Join(c.Routes, ", ") + "]"}, keys.Env...)
		s.command = append(s.command, program(t), natsArg, "-c", config, "-a", "127.0.0.1", "-p", port, "-m", strconv.Itoa(FreePort(t)))
		if servers > 1 {
			s.command = append(s.command, "--cluster", route)
		}
		c.servers[name] = s
		urls = append(urls, s.url)
	}
	c.URL = strings.Join(urls, ",")
	c.start(t)
	return c
}
