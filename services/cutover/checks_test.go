package cutover

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// Each precheck passes on a healthy system and fails when the thing that it measures is broken.

func TestRulesComplete(t *testing.T) {
	start := func(t *testing.T) (*ledger, func() events.Check) {
		l := newLedger(t)
		l.do(t, events.PreviewCutover{Ranges: rangesOf("0-11", "12-15")})
		return l, func() events.Check {
			c := l.head.Cutovers["c1"]
			k := rulesComplete(l.head, &c)
			k.At = day
			return k
		}
	}
	b := &bed{t: t}
	t.Run("healthy", func(t *testing.T) {
		_, check := start(t)
		b.want(check(), events.Pass, "16 of 16 slots, 2 units, 1 domains")
	})
	t.Run("other rules came into force", func(t *testing.T) {
		l, check := start(t)
		r := l.head.Rules["user"]
		r.Version++
		l.head.Rules["user"] = r
		b.want(check(), events.Fail, "16 of 16", "preview again")
	})
	t.Run("an owner without a registered edge in its effective cluster", func(t *testing.T) {
		l, check := start(t)
		l.do(t, events.RetireEdge{ID: "b1", Reason: "x"}, events.RetireEdge{ID: "b2", Reason: "x"})
		b.want(check(), events.Fail, "16 of 16", "unbj", "ws.shop.example", "bj", "start one")
	})
	t.Run("an owner that a domain does not have", func(t *testing.T) {
		l, check := start(t)
		d := *l.head.Domains["ws.shop.example"].Active
		d.Units = map[string]events.DomainUnit{"unbj": d.Units["unbj"]}
		l.head.Domains["ws.shop.example"] = events.DomainState{Active: &d}
		b.want(check(), events.Fail, "16 of 16", "center", "not in the domain")
	})
	t.Run("an owner that is gone", func(t *testing.T) {
		l, check := start(t)
		delete(l.head.Units, "unbj")
		b.want(check(), events.Fail, "16 of 16", "unbj", "does not exist")
	})
	t.Run("a cluster of another unit", func(t *testing.T) {
		l, check := start(t)
		l.head.Clusters["bj"] = events.Cluster{ID: "bj", Unit: "center"}
		b.want(check(), events.Fail, "16 of 16", "bj")
	})
	t.Run("no domain", func(t *testing.T) {
		l, check := start(t)
		clear(l.head.Domains)
		b.want(check(), events.Warn, "0 domains", "activate")
	})
}

func TestNoOpenCutover(t *testing.T) {
	l := newLedger(t)
	b := &bed{t: t}
	l.do(t, events.PreviewCutover{Ranges: rangesOf("0-9", "10-15")})
	check := func() events.Check {
		c := l.head.Cutovers["c1"]
		k := noOpenCutover(l.head, &c)
		k.At = day
		return k
	}
	b.want(check(), events.Pass, "0 running")
	l.start(t, 1)
	b.want(check(), events.Fail, "1 running", "c2", "started")
	l.do(t, events.PauseCutover{Cutover: "c2"})
	b.want(check(), events.Fail, "1 running", "c2", "paused")
	l.do(t, events.AbortCutover{Cutover: "c2"})
	b.want(check(), events.Pass, "0 running")
}

func TestEdgesAtHead(t *testing.T) {
	t.Run("healthy", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		b.want(b.check("edges-at-head"), events.Pass, "4 of 4")
	})
	t.Run("a silent edge", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		b.silence("b2")
		fastest := time.Hour // of some: a busy machine takes its time now and then
		for range 3 {
			begun := time.Now()
			b.want(b.check("edges-at-head"), events.Fail, "3 of 4", "b2", "not connected")
			if fastest = min(fastest, time.Since(begun)); fastest < headWait {
				break
			}
		}
		if fastest > headWait {
			t.Errorf("took %s: where nobody listens the answer comes at once", fastest)
		}
	})
	t.Run("a lagging edge", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		b.change("b2", func(e *fakeEdge) { e.twist = func(r *events.EdgeReport) { r.Applied-- } })
		b.want(b.check("edges-at-head"), events.Fail, "3 of 4", "b2", "is at sequence")
	})
	t.Run("an edge that is a moment behind", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		n := 0
		b.change("b2", func(e *fakeEdge) {
			e.twist = func(r *events.EdgeReport) {
				if n++; n < 4 {
					r.Applied--
				}
			}
		})
		b.want(b.check("edges-at-head"), events.Pass, "4 of 4")
	})
	t.Run("a silent edge beside one that is a moment behind", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		b.change("b2", func(e *fakeEdge) { e.mute = true }) // connected, as a stopped process is
		n := 0
		b.change("h1", func(e *fakeEdge) {
			e.twist = func(r *events.EdgeReport) {
				if n++; n < 2 {
					r.Applied--
				}
			}
		})
		b.want(b.check("edges-at-head"), events.Fail, "3 of 4", "b2", "does not answer")
	})
	t.Run("another edge's directory", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		b.change("h1", func(e *fakeEdge) { e.twist = func(r *events.EdgeReport) { r.Directory = directoryOf("h9") } })
		b.want(b.check("edges-at-head"), events.Fail, "3 of 4", "h1", "another state directory")
	})
	t.Run("a wrong hash", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		b.change("h1", func(e *fakeEdge) {
			e.twist = func(r *events.EdgeReport) { r.StateHash = strings.Repeat("0", 64) }
		})
		b.want(b.check("edges-at-head"), events.Fail, "3 of 4", "h1", "another state")
	})
	t.Run("another journal", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		b.change("h1", func(e *fakeEdge) { e.twist = func(r *events.EdgeReport) { r.Epoch = "old" } })
		b.want(b.check("edges-at-head"), events.Fail, "3 of 4", "h1", "another journal")
	})
	t.Run("no edge", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		for id := range b.edges {
			b.do(events.RetireEdge{ID: id, Reason: "x"})
		}
		b.want(b.check("edges-at-head"), events.Fail, "0 of 0", "no edge has joined")
	})
}

func TestTargetOrigins(t *testing.T) {
	const origin = "127.0.0.1:9001" // center's, which gains
	t.Run("healthy", func(t *testing.T) {
		b := newBed(t)
		b.want(b.check("target-origins"), events.Pass, "1 of 1 origins, asked by 2 of 2 edges")
	})
	t.Run("one edge cannot reach it", func(t *testing.T) {
		b := newBed(t)
		b.change("h2", func(e *fakeEdge) { e.probe = func(string) string { return "connection refused" } })
		b.want(b.check("target-origins"), events.Fail, "0 of 1 origins", "h2", origin, "connection refused")
	})
	t.Run("the losing unit's origins do not matter", func(t *testing.T) {
		b := newBed(t)
		for _, id := range []string{"b1", "b2"} {
			b.change(id, func(e *fakeEdge) { e.probe = func(string) string { return "connection refused" } })
		}
		b.want(b.check("target-origins"), events.Pass, "1 of 1")
	})
	t.Run("one edge is silent", func(t *testing.T) {
		b := newBed(t)
		b.silence("h2")
		b.want(b.check("target-origins"), events.Pass, "asked by 1 of 2 edges")
	})
	t.Run("no edge answers", func(t *testing.T) {
		b := newBed(t)
		b.silence("h1")
		b.silence("h2")
		b.want(b.check("target-origins"), events.Fail, "0 of 1 origins, asked by 0 of 2 edges", "no edge of unit center answers")
	})
	t.Run("none configured", func(t *testing.T) {
		b := newBed(t)
		d := *b.projector.State().Domains["ws.shop.example"].Active
		d.URIs = []events.URI{{Path: "/", Origins: map[string]events.Origins{"unbj": {"127.0.0.1:9002"}}}}
		b.do(events.PutDomain{Domain: d})
		b.do(events.ActivateDomain{Host: d.Host})
		b.want(b.check("target-origins"), events.Fail, "0 of 0", "center", "ws.shop.example/", "configure one")
	})
}

func TestJournalQuorum(t *testing.T) {
	t.Run("one server", func(t *testing.T) {
		b := newBed(t)
		b.want(b.check("journal-quorum"), events.Pass, "1 of 1 replicas current, write acknowledged")
	})
	t.Run("a cluster that answers and takes no writes", func(t *testing.T) {
		b := newBed(t)
		b.want(b.check("journal-quorum"), events.Pass, "write acknowledged")
		st, err := b.js.Stream(b.ctx, "KV_"+OfficeBucket)
		if err != nil {
			t.Fatal(err)
		}
		cfg := st.CachedInfo().Config
		cfg.Sealed = true
		if _, err := b.js.UpdateStream(b.ctx, cfg); err != nil {
			t.Fatal(err)
		}
		b.want(b.check("journal-quorum"), events.Fail, "1 of 1 replicas current, no write acknowledged", "not acknowledged", "NATS servers")
	})
	t.Run("no stream", func(t *testing.T) {
		b := newBed(t)
		c := b.preview()
		b.prepare.fleet = NewFleet(b.nc, "nowhere")
		b.want(b.prepare.Run(b.ctx, b.projector.State(), c, []string{"journal-quorum"})[0], events.Fail, "no answer", "NATS servers")
	})
	t.Run("two of three servers stopped", func(t *testing.T) {
		servers, nc := cluster(t)
		b := newBedOn(t, nc, 3)
		b.setUp()
		c := b.preview()
		check := func() events.Check {
			return b.prepare.Run(b.ctx, b.projector.State(), c, []string{"journal-quorum"})[0]
		}
		for k := check(); k.State != events.Pass; k = check() { // replicas of new streams take a moment
			if b.ctx.Err() != nil || t.Failed() {
				t.Fatal(k)
			}
		}
		b.want(check(), events.Pass, "of 3 replicas current, write acknowledged")
		stopAll(servers[1:])
		k := check()
		b.want(k, events.Fail, "", "NATS servers")
		t.Logf("%s: %s", k.Measured, k.Message)
	})
}

// cluster is three servers in this process, and a connection to the first one.
func cluster(t *testing.T) ([]*server.Server, *nats.Conn) {
	t.Helper()
	var opts []*server.Options
	var routes []*url.URL
	ports := lowPorts(t, 6)
	for i := range 3 {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])})
		opts = append(opts, &server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: ports[3+i], JetStream: true, StoreDir: t.TempDir(),
			NoSigs: true, NoLog: true, Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[i]},
		})
	}
	var servers []*server.Server
	for _, o := range opts {
		o.Routes = routes
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		servers = append(servers, s)
	}
	t.Cleanup(func() { stopAll(servers) })
	nc, err := nats.Connect(servers[0].ClientURL(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.DontRandomize())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ready := time.NewTicker(50 * time.Millisecond)
	defer ready.Stop()
	for deadline := time.Now().Add(30 * time.Second); !current(servers); <-ready.C {
		if time.Now().After(deadline) {
			t.Fatal("the cluster is not ready after 30 s")
		}
	}
	return servers, nc
}

func current(servers []*server.Server) bool {
	known := 0
	for _, s := range servers {
		if !s.Running() || !s.JetStreamIsCurrent() {
			return false
		}
		if s.JetStreamIsLeader() {
			known = len(s.JetStreamClusterPeers()) // only the leader tells
		}
	}
	return known == len(servers)
}

func stopAll(servers []*server.Server) {
	for _, s := range servers {
		s.Shutdown()
	}
	for _, s := range servers {
		s.WaitForShutdown()
	}
}

// lowPorts are free ports below the ephemeral range, so that no outgoing connection takes one meanwhile.
func lowPorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range 1000 {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close() // all are kept until all are found
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no free ports")
	return nil
}
