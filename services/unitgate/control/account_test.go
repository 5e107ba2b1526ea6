package control_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/unitgate/control"
)

func streams(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func journalOf(t *testing.T, js jetstream.JetStream) jetstream.StreamConfig {
	t.Helper()
	st, err := js.Stream(t.Context(), "UNITGATE_shop")
	if err != nil {
		t.Fatal(err)
	}
	return st.CachedInfo().Config
}

// An account may demand a bound of every stream: the journal has one then, at which it takes no more and drops nothing.
func TestAccountDemandsBounds(t *testing.T) {
	srv := serve(t)
	if err := srv.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{
		"": {MaxMemory: 1 << 20, MaxStore: 2 << 30, MaxStreams: -1, MaxConsumers: -1, MaxBytesRequired: true},
	}); err != nil {
		t.Fatal(err)
	}
	nc := dial(t, srv)
	c := start(t, nc)
	defer shut(t, c)
	if o := do(t, nc, "namespace", "create", nil); !o.OK {
		t.Fatal(o.Error)
	}
	if cfg := journalOf(t, streams(t, nc)); cfg.MaxBytes <= 0 || cfg.Discard != jetstream.DiscardNew {
		t.Errorf("a bound of %d bytes, discard %v", cfg.MaxBytes, cfg.Discard)
	}
}

// A journal that is full says so, with what to do; what it has stays, and it goes on once there is room.
func TestFullJournal(t *testing.T) {
	srv := serve(t)
	nc := dial(t, srv)
	c, err := control.Start(t.Context(), control.Config{NC: nc, JournalBytes: 1 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, c)
	if o := do(t, nc, "namespace", "create", nil); !o.OK {
		t.Fatal(o.Error)
	}
	js := streams(t, nc)
	cfg := journalOf(t, js)
	if cfg.MaxBytes != 1<<20 {
		t.Fatalf("a bound of %d bytes", cfg.MaxBytes)
	}
	cfg.MaxBytes = 1 // as if the rest were used
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	unit := func() (command.Outcome, error) {
		return command.NewClient(nc, "shop").Do(t.Context(), "unit", "put", command.Request{Actor: "test", Data: events.Unit{ID: "center"}})
	}
	o, err := unit()
	if err != nil || o.OK || !errors.Is(o.Error, command.ErrUnavailable) || !strings.Contains(o.Error.Message, "make room") || !strings.Contains(o.Error.Message, "maximum bytes") {
		t.Fatalf("%+v %v", o, err)
	}
	cfg.MaxBytes = 1 << 20
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if o, err := unit(); err != nil || !o.OK {
		t.Fatalf("with room again: %+v %v", o, err)
	}
}

// A stream that was there before and takes unitgate's subjects is named.
func TestSubjectsAreTaken(t *testing.T) {
	srv := serve(t)
	nc := dial(t, srv)
	c := start(t, nc)
	defer shut(t, c)
	if _, err := streams(t, nc).CreateStream(t.Context(), jetstream.StreamConfig{Name: "archive", Subjects: []string{"unitgate.evt.>"}}); err != nil {
		t.Fatal(err)
	}
	o, err := command.NewClient(nc, "shop").Do(t.Context(), "namespace", "create", command.Request{Actor: "test"})
	if text := fmt.Sprint(o.Error, err); o.OK || !strings.Contains(text, "archive") || !strings.Contains(text, "unitgate.evt.shop.>") {
		t.Errorf("%s", text)
	}
}

// cluster starts servers that know each other.
func cluster(t *testing.T, n int) []*server.Server {
	t.Helper()
	var routes []*url.URL
	for range n {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
	}
	var all []*server.Server
	for i := range n {
		port, _ := strconv.Atoi(routes[i].Port())
		srv, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), Routes: routes,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port, NoAdvertise: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, srv)
	}
	return all
}

// How many replicas there are follows from the cluster, whatever the number of URLs that lead to it.
func TestReplicasOfTheCluster(t *testing.T) {
	for _, c := range []struct{ servers, want int }{{3, 3}, {1, 1}} {
		t.Run(fmt.Sprintf("%d servers", c.servers), func(t *testing.T) {
			var srv *server.Server
			opts := []nats.Option{}
			if c.servers > 1 {
				all := cluster(t, c.servers)
				for _, srv := range all {
					srv.Start()
					t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
				}
				until(t, "the cluster knows all its servers", func() bool {
					return slices.ContainsFunc(all, func(s *server.Server) bool {
						return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == c.servers
					})
				})
				srv = all[0] // one URL, and it tells of no other
			} else {
				srv = serve(t)
				opts = append(opts, func(o *nats.Options) error { // three names of one server
					o.Servers = []string{"nats://a:1", "nats://b:1", "nats://c:1"}
					return nil
				})
			}
			nc := dial(t, srv, opts...)
			running := start(t, nc)
			defer shut(t, running)
			if o := do(t, nc, "namespace", "create", nil); !o.OK {
				t.Fatal(o.Error)
			}
			if got := journalOf(t, streams(t, nc)).Replicas; got != c.want {
				t.Errorf("%d replicas, want %d", got, c.want)
			}
		})
	}
}
