package harness

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsArg as the first argument turns a test binary into nats-server, with the arguments that follow.
const natsArg = "run-nats-server"

const (
	connectPause = 100 * time.Millisecond // between tries to reconnect
	connectPing  = time.Second            // a connection to a paused server stays open for ever

	// routePing makes a server leave another one that hangs after three of them. NATS does so after 90 s (30 s each), and
	// for that long it still hands requests to subscribers behind the hanging one, controllers for instance.
	routePing = 2 * time.Second
)

// Cluster is three NATS servers with JetStream, each a process of its own: a server that is shut down inside the test
// process says goodbye to the others and so hides elections, one that is killed or paused does not.
type Cluster struct {
	URL     string   // of all three
	Routes  []string // URLs at which servers dial each other
	servers map[string]*natsServer
}

type natsServer struct {
	*Process
	url, config string
	command     []string // how it is started
}

// StartCluster starts the servers. They need not have elected anybody when it returns.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	names := []string{"n1", "n2", "n3"}
	c := &Cluster{servers: map[string]*natsServer{}}
	var urls []string
	for range names {
		c.Routes = append(c.Routes, "nats://127.0.0.1:"+strconv.Itoa(FreePort(t)))
	}
	for i, name := range names {
		addr, dir := "127.0.0.1:"+strconv.Itoa(FreePort(t)), t.TempDir()
		s := &natsServer{url: "nats://" + addr, config: filepath.Join(dir, "nats.conf")}
		text := fmt.Sprintf("server_name: %s\nlisten: %q\njetstream: {store_dir: %q}\ncluster: {name: test, listen: %q, ping_interval: \"%v\", ping_max: 2, routes: [%s]}\n",
			name, addr, filepath.Join(dir, "js"), strings.TrimPrefix(c.Routes[i], "nats://"), routePing, strings.Join(c.Routes, ", "))
		if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.command = []string{program(t), natsArg, "-c", s.config}
		c.servers[name] = s
		urls = append(urls, s.url)
	}
	c.URL = strings.Join(urls, ",")
	c.start(t)
	return c
}

// start starts every server and waits until all listen.
func (c *Cluster) start(t testing.TB) {
	t.Helper()
	for name := range c.servers {
		c.Restart(t, name)
	}
	for name, s := range c.servers {
		Eventually(t, startWithin, "NATS server "+name+" listens", func() bool {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "nats://"))
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
}

// NATSServer is a command that is nats-server; its arguments follow.
func NATSServer(t testing.TB) []string {
	t.Helper()
	return []string{program(t), natsArg}
}

// program is this test binary, which can be a server.
func program(t testing.TB) string {
	t.Helper()
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Restart starts a server that was killed, with the name, the ports and the store that it had.
func (c *Cluster) Restart(t testing.TB, name string) {
	t.Helper()
	command := c.servers[name].command
	c.servers[name].Process = StartProgram(t, "", command[0], command[1:]...)
}

// Server is the process of one server.
func (c *Cluster) Server(name string) *Process { return c.servers[name].Process }

// Leader is the server that leads a stream, once one does and says so.
func (c *Cluster) Leader(t testing.TB, js jetstream.JetStream, stream string) string {
	t.Helper()
	leader := ""
	Eventually(t, startWithin, stream+" has a leader", func() bool {
		if s, err := js.Stream(t.Context(), stream); err == nil && s.CachedInfo().Cluster != nil {
			leader = s.CachedInfo().Cluster.Leader
		}
		return c.servers[leader] != nil
	})
	return leader
}

// Connect connects to one or more servers until the test ends, and leaves one that is silent for some seconds.
func Connect(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(connectPause),
		nats.PingInterval(connectPing), nats.MaxPingsOutstanding(2))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// runNATS runs a server until a signal ends it, with nats-server's own arguments.
func runNATS(args []string) int {
	o, err := server.ConfigureOptions(flag.NewFlagSet("nats-server", flag.ContinueOnError), args, nil, nil, nil)
	if err == nil {
		var s *server.Server
		if s, err = server.NewServer(o); err == nil {
			s.ConfigureLogger()
			s.Start()
			s.WaitForShutdown()
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, "harness: nats server:", err)
	return 1
}
