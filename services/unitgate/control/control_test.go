package control_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/unitgate/control"
)

func connect(t *testing.T) *nats.Conn {
	t.Helper()
	return dial(t, serve(t))
}

func dial(t *testing.T, srv *server.Server, o ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", append(o, nats.InProcessServer(srv))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func serve(t *testing.T) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{JetStream: true, StoreDir: t.TempDir(), DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS did not start")
	}
	return srv
}

// slowly is a server whose clients' bytes arrive late.
type slowly struct{ *server.Server }

func (s slowly) InProcessConn() (net.Conn, error) {
	c, err := s.Server.InProcessConn()
	return slowConn{c}, err
}

type slowConn struct{ net.Conn }

func (c slowConn) Write(b []byte) (int, error) {
	time.Sleep(50 * time.Millisecond)
	return c.Conn.Write(b)
}

// What is asked once Start has returned is answered, however late its subscriptions arrive.
func TestServesWhatIsAskedAfterItsStart(t *testing.T) {
	srv := serve(t)
	slow := func(name string) (*nats.Conn, error) {
		if name == "commands" {
			return nats.Connect("", nats.InProcessServer(slowly{srv}))
		}
		return nats.Connect("", nats.InProcessServer(srv))
	}
	c, err := control.Start(t.Context(), control.Config{NC: dial(t, srv), Dial: slow, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, c)
	if o := do(t, dial(t, srv), "namespace", "create", nil); !o.OK {
		t.Fatal(o.Error)
	}
}

func start(t *testing.T, nc *nats.Conn) *control.Control {
	t.Helper()
	c, err := control.Start(t.Context(), control.Config{NC: nc, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shut(t *testing.T, c *control.Control) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		t.Error(err)
	}
}

func do(t *testing.T, nc *nats.Conn, entity, verb string, data any) command.Outcome {
	t.Helper()
	o, err := command.NewClient(nc, "shop").Do(t.Context(), entity, verb, command.Request{Actor: "test", Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); !cond(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("gave up waiting for: %s", what)
		}
	}
}

func leading(c *control.Control) bool { return c.Leads("shop") }

// A namespace outlives the processes that serve it; the office passes on with a new term.
func TestNamespaceOutlivesItsControlPlane(t *testing.T) {
	nc := connect(t)
	first := start(t, nc)
	cfg := events.Config{
		Namespace: "shop",
		UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 100}},
		Units:     []events.Unit{{ID: "center", Center: true}, {ID: "unbj"}},
	}
	if o := do(t, nc, "config", "apply", events.ApplyConfig{Config: cfg}); !o.OK {
		t.Fatal(o.Error)
	}
	until(t, "the first one leads", func() bool { return leading(first) })
	term := first.State("shop").Office.Term
	shut(t, first)
	if _, err := command.NewClient(nc, "shop").Do(t.Context(), "unit", "put", command.Request{Actor: "test", Data: events.Unit{ID: "x"}}); err == nil {
		t.Error("a command was taken with nobody there")
	}

	second := start(t, nc)
	defer shut(t, second)
	if second.State("shop") == nil {
		t.Fatal("the namespace is gone")
	}
	until(t, "the second one leads", func() bool { return leading(second) })
	until(t, "a new term", func() bool { return second.State("shop").Office.Term > term })
	if _, ok := second.State("shop").Units["unbj"]; !ok {
		t.Error("the configuration is gone")
	}
}

// Two processes serve one namespace: both take commands, one drives.
func TestTwoControlPlanes(t *testing.T) {
	nc := connect(t)
	a, b := start(t, nc), start(t, nc)
	defer shut(t, a)
	defer shut(t, b)
	if o := do(t, nc, "namespace", "create", events.CreateNamespace{UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 100}}}); !o.OK {
		t.Fatal(o.Error)
	}
	until(t, "both know the namespace and one leads", func() bool {
		return a.State("shop") != nil && b.State("shop") != nil && leading(a) != leading(b)
	})
	for _, id := range []string{"u1", "u2", "u3", "u4", "u5", "u6"} {
		if o := do(t, nc, "unit", "put", events.Unit{ID: id}); !o.OK {
			t.Fatal(o.Error)
		}
	}
	until(t, "one state hash (G4), and both know that it is the newest one", func() bool {
		x, y := a.Status(t.Context())[0], b.Status(t.Context())[0]
		return x.StateHash == y.StateHash && x.Head == x.Applied && y.Head == y.Applied && x.Staleness < 3 && y.Staleness < 3
	})
	o := do(t, nc, "cutover", "show", map[string]string{"cutover": "c1"})
	if o.OK || o.Error.Code != "unknown_cutover" {
		t.Errorf("show: %s", must(json.Marshal(o)))
	}
}

func must(b []byte, err error) string {
	if err != nil {
		return err.Error()
	}
	return string(b)
}
