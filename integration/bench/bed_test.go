package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/unitgate/control"
	"github.com/unitgate/unitgate/services/unitgate/demo"
)

const patience = 30 * time.Second

// bed is a control plane and four edges, two in each unit of the demo, in this process, on embedded NATS servers.
type bed struct {
	b       testing.TB
	urls    []string
	nc      *nats.Conn
	reports chan events.EdgeStatus
	applied map[string]uint64 // by edge, as reported; owned by the benchmark's goroutine
	hashes  map[string]string // of the state that it has applied, likewise
	edges   map[string]*edge.Edge
}

func newBed(b testing.TB, servers int) *bed {
	b.Helper()
	d := &bed{b: b, reports: make(chan events.EdgeStatus, 4096), applied: map[string]uint64{}, hashes: map[string]string{}, edges: map[string]*edge.Edge{}}
	d.startServers(servers)
	d.nc = d.connect()
	d.startControl(servers)
	_, err := d.nc.Subscribe("unitgate.edge.demo.*.*.report", func(m *nats.Msg) {
		var r events.EdgeStatus
		if json.Unmarshal(m.Data, &r) == nil {
			d.reports <- r
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	d.until("a controller answers", func() bool {
		origins := map[string]string{"center": "127.0.0.1:1", "unbj": "127.0.0.1:2"} // nobody connects to them
		_, err := d.try("config", "apply", events.ApplyConfig{Config: demo.Config(origins)})
		return err == nil
	})
	cfg := demo.Config(nil)
	for i := range 4 {
		c := cfg.Clusters[i%len(cfg.Clusters)]
		d.startEdge(c.Unit, c.ID, fmt.Sprintf("%s-%d", c.Unit, i/len(cfg.Clusters)+1))
	}
	d.await(5) // the config and four joins; a driver's taking office comes some time
	return d
}

// startServers starts one server, or a cluster whose servers know each other.
func (d *bed) startServers(n int) {
	d.b.Helper()
	var routes []*url.URL
	for range n {
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: d.freeAddr()})
	}
	var all []*server.Server
	for i := range n {
		o := &server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: d.b.TempDir(),
			NoSigs: true, NoLog: true,
		}
		if n > 1 {
			port, err := strconv.Atoi(routes[i].Port())
			if err != nil {
				d.b.Fatal(err)
			}
			o.Cluster = server.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: port}
			o.Routes = routes
		}
		s, err := server.NewServer(o)
		if err != nil {
			d.b.Fatal(err)
		}
		s.Start()
		d.b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		all = append(all, s)
	}
	for _, s := range all {
		if !s.ReadyForConnections(patience) {
			d.b.Fatal("a server does not start")
		}
		d.urls = append(d.urls, s.ClientURL())
	}
	d.until("the cluster has a leader", func() bool {
		return n == 1 || slices.ContainsFunc(all, func(s *server.Server) bool { return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == n })
	})
}

// freeAddr is an address that nobody listens on at the moment.
func (d *bed) freeAddr() string {
	d.b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (d *bed) until(what string, ok func() bool) {
	d.b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			d.b.Fatalf("waiting in vain: %s", what)
		}
	}
}

func (d *bed) connect() *nats.Conn {
	d.b.Helper()
	nc, err := nats.Connect(d.urls[0], nats.MaxReconnects(-1))
	if err != nil {
		d.b.Fatal(err)
	}
	d.b.Cleanup(nc.Close)
	return nc
}

func (d *bed) startControl(replicas int) {
	d.b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := control.Start(ctx, control.Config{NC: d.connect(), Replicas: replicas, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		d.b.Fatal(err)
	}
	d.b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			d.b.Error(err)
		}
	})
}

func (d *bed) startEdge(unit, cluster, id string) {
	d.b.Helper()
	e, err := edge.New(edge.Config{
		Namespace: "demo", Unit: unit, Cluster: cluster, ID: id, Listen: []string{"127.0.0.1:0"}, StateDir: d.b.TempDir(),
		NATS: agent.NATS{URL: d.urls[len(d.urls)-1]}, Engines: 1, CloseTimeout: time.Second,
	})
	if err != nil {
		d.b.Fatal(err)
	}
	d.edges[id] = e
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	d.b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			d.b.Error(err)
		}
	})
}

// do gives a command and returns the sequence of its event.
func (d *bed) do(entity, verb string, data any) uint64 {
	d.b.Helper()
	seq, err := d.try(entity, verb, data)
	if err != nil {
		d.b.Fatalf("%s.%s: %v", entity, verb, err)
	}
	return seq
}

func (d *bed) try(entity, verb string, data any) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o, err := command.NewClient(d.nc, "demo").Do(ctx, entity, verb, command.Request{Actor: "bench", Data: data})
	if err == nil && !o.OK {
		err = o.Error
	}
	return o.Seq, err
}

// await waits until four edges have reported a sequence as applied: every poller decides by it, and it is on disk.
func (d *bed) await(seq uint64) {
	d.b.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	for {
		n := 0
		for _, a := range d.applied {
			if a >= seq {
				n++
			}
		}
		if n == 4 {
			return
		}
		select {
		case r := <-d.reports:
			d.applied[r.Edge], d.hashes[r.Edge] = r.Applied, r.StateHash
		case <-end.C:
			d.b.Fatalf("sequence %d is not applied by four edges: %v", seq, d.applied)
		}
	}
}
