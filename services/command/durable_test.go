package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/projector"
)

// TestMain registers the server's clock outside of any synctest bubble; see journaltest.Bubble.
func TestMain(m *testing.M) {
	ats.Register()
	code := m.Run()
	ats.Unregister()
	os.Exit(code)
}

// controller is one control process on a connection of its own: projector, handler, api and durable commands.
type controller struct {
	t       *testing.T
	nc      *nats.Conn
	now     func() time.Time // nil: time.Now
	wrap    func(journal.Journal) journal.Journal
	project *projector.Projector
	handler *command.Handler
	service *command.Service
	durable *command.Durable
	traced  trace.TracerProvider // nil: nothing is
	prepare command.Preparer     // nil: nothing is measured
	stop    func()
}

// control starts a controller of namespace shop.
func control(t *testing.T, s *journaltest.Server, opts ...func(*controller)) *controller {
	t.Helper()
	c := &controller{t: t, now: time.Now, wrap: func(j journal.Journal) journal.Journal { return j }}
	for _, o := range opts {
		o(c)
	}
	if c.nc == nil {
		c.nc = s.Connect()
	}
	js, err := jetstream.New(c.nc)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Create(t.Context(), js, "shop", journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	p := projector.New(c.wrap(j), nil, false, log)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	c.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(func() { c.close() })
	c.project = p
	c.handler = command.NewHandler(p, c.prepare, c.now, log)
	if c.traced != nil {
		c.handler.Traced(c.traced)
	}
	if c.service, err = command.Serve(command.Config{NC: c.nc, Namespaces: c, Asked: []string{"test.echo", "test.read"}, Log: log}); err != nil {
		t.Fatal(err)
	}
	if c.durable, err = command.ServeDurable(t.Context(), command.DurableConfig{JS: js, Namespaces: c, Now: c.now, Log: log}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *controller) Get(_ context.Context, name string) (command.Namespace, error) {
	if name != "shop" {
		return command.Namespace{}, events.ErrUnknownNamespace.With("there is no namespace %q", name)
	}
	echo := func(_ context.Context, data json.RawMessage) (any, error) { return data, nil }
	return command.Namespace{Handler: c.handler, Queries: map[string]command.Query{"test.echo": echo, "test.read": c.read}}, nil
}

// read is the state at the journal's head, as cutover.show reads it.
func (c *controller) read(ctx context.Context, _ json.RawMessage) (any, error) {
	s, err := c.project.CatchUp(ctx)
	if err != nil {
		return nil, command.ErrUnavailable.With("%v", err)
	}
	v := view{Version: s.ConfigVersion, Units: map[string]string{}}
	for id, u := range s.Units {
		v.Units[id] = u.Name
	}
	return v, nil
}

func (c *controller) Known(name string) bool { return name == "shop" }

func (c *controller) Create(ctx context.Context, name string) (command.Namespace, error) {
	return c.Get(ctx, name)
}

// close stops the controller as an operator does.
func (c *controller) close() {
	if c.stop == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = c.service.Close(ctx)
	_ = c.durable.Close(ctx)
	c.stop()
	c.stop = nil
}

// kill ends it as SIGKILL does: nothing is said any more, answers and acks are lost.
func (c *controller) kill() {
	c.nc.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.service.Close(ctx)
	_ = c.durable.Close(ctx)
	c.stop()
	c.stop = nil
}

func putUnit(id string) command.Request {
	return command.Request{ID: uuid.NewString(), Actor: "test", Data: events.Unit{ID: id}}
}

func createShop(t *testing.T, cl *command.Client) {
	t.Helper()
	o, err := cl.Do(t.Context(), "namespace", "create", command.Request{Actor: "test", Data: events.CreateNamespace{UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 100}}}})
	if err != nil || !o.OK {
		t.Fatal(o.Error, err)
	}
}

func publish(t *testing.T, cl *command.Client, r command.Request, expires time.Duration) command.Ticket {
	t.Helper()
	ticket, err := cl.Publish(t.Context(), "unit", "put", r, expires)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func outcome(t *testing.T, cl *command.Client, id string) command.Settled {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := cl.Outcome(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func waiting(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	st, err := js.Stream(t.Context(), command.QueueStream)
	if err != nil {
		t.Fatal(err)
	}
	return st.CachedInfo().State.Msgs
}

// records are all that stands in the journal of shop.
func records(t *testing.T, js jetstream.JetStream) (out []events.Record) {
	t.Helper()
	j, err := journal.Open(t.Context(), js, "shop")
	if err == nil {
		err = j.Read(t.Context(), 1, func(r events.Record) error { out = append(out, r); return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// effects are the records that changed something.
func effects(t *testing.T, js jetstream.JetStream) []events.Record {
	t.Helper()
	return slices.DeleteFunc(records(t, js), func(r events.Record) bool { return r.Type == "CommandRefused" })
}

// "with no controller running, the api answers 'no responders' at once and the durable command waits"; "an outcome kept
// 24 h", the command then acked.
func TestDurableCommandWaitsForAController(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js, cl := s.JetStream(), command.NewClient(s.Connect(), "shop")
		if _, err := cl.Publish(t.Context(), "unit", "put", putUnit("u0"), 0); err == nil {
			t.Error("a command was queued where there is no queue")
		}
		first := control(t, s)
		createShop(t, cl)
		first.close()

		began := time.Now()
		if _, err := cl.Do(t.Context(), "unit", "put", putUnit("u0")); err == nil || time.Since(began) > 0 {
			t.Errorf("api with nobody there: %v after %v", err, time.Since(began))
		}
		ticket := publish(t, cl, putUnit("u1"), time.Hour)
		short, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		if o, err := cl.Outcome(short, ticket.ID); err == nil {
			t.Errorf("an outcome with nobody there: %+v", o)
		}
		cancel()
		if n := waiting(t, js); n != 1 {
			t.Fatalf("%d commands wait, want 1", n)
		}

		second := control(t, s)
		o := outcome(t, cl, ticket.ID)
		if !o.OK || o.Seq != 2 || o.Entity != "unit" || o.Verb != "put" || o.ID != ticket.ID || o.Queued != ticket.Seq {
			t.Errorf("outcome %+v", o)
		}
		synctest.Wait()
		if n := waiting(t, js); n != 0 {
			t.Errorf("%d commands still wait", n)
		}
		second.close() // a day of its heartbeats would take a while
		time.Sleep(23 * time.Hour)
		outcome(t, cl, ticket.ID)
		time.Sleep(2 * time.Hour)
		short, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if o, err := cl.Outcome(short, ticket.ID); err == nil {
			t.Errorf("an outcome after 25 h: %+v", o)
		}
	})
}

// "an expired durable command does nothing and says so": both forms of the header, the default, and what is no expiry.
func TestDurableExpiry(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		nc := s.Connect()
		js, cl := s.JetStream(), command.NewClient(nc, "shop")
		first := control(t, s)
		createShop(t, cl)
		first.close()

		ids := map[string]string{}
		send := func(name string, headers nats.Header) {
			m := nats.NewMsg("unitgate.cmd.shop.unit.put")
			ids[name] = uuid.NewString()
			m.Data = fmt.Appendf(nil, `{"id":%q,"actor":"me","data":{"id":%q}}`, ids[name], name)
			m.Header = headers
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		in := func(d time.Duration) string { return time.Now().Add(d).Format(time.RFC3339) }
		want := map[string]string{}
		for name, c := range map[string]struct {
			code    string
			headers nats.Header
		}{
			"default":      {"expired", nil},
			"short":        {"expired", nats.Header{"Unitgate-Expires": {"89s"}}},
			"long":         {"", nats.Header{"Unitgate-Expires": {"91s"}}},
			"early":        {"expired", nats.Header{"Unitgate-Expires": {in(89 * time.Second)}}},
			"late":         {"", nats.Header{"Unitgate-Expires": {in(91 * time.Second)}}},
			"zone":         {"", nats.Header{"Unitgate-Expires": {time.Now().Add(2 * time.Hour).In(time.FixedZone("", 8*3600)).Format(time.RFC3339)}}},
			"past":         {"expired", nats.Header{"Unitgate-Expires": {in(-time.Hour)}}},
			"lower-case":   {"expired", nats.Header{"unitgate-expires": {"5s"}}},
			"whole-day":    {"", nats.Header{"Unitgate-Expires": {"24h"}}},
			"too-long":     {"bad_value", nats.Header{"Unitgate-Expires": {"24h0m1s"}}},
			"too-late":     {"bad_value", nats.Header{"Unitgate-Expires": {in(25 * time.Hour)}}},
			"zero":         {"bad_value", nats.Header{"Unitgate-Expires": {"0s"}}},
			"negative":     {"bad_value", nats.Header{"Unitgate-Expires": {"-5s"}}},
			"number":       {"bad_value", nats.Header{"Unitgate-Expires": {"60"}}},
			"empty":        {"bad_value", nats.Header{"Unitgate-Expires": {""}}},
			"word":         {"bad_value", nats.Header{"Unitgate-Expires": {"tomorrow"}}},
			"twice":        {"bad_value", nats.Header{"Unitgate-Expires": {"60s", "70s"}}},
			"two-spelling": {"bad_value", nats.Header{"Unitgate-Expires": {"60s"}, "UNITGATE-EXPIRES": {"1h"}}},
		} {
			want[name] = c.code
			send(name, c.headers)
		}
		time.Sleep(90 * time.Second)
		control(t, s)
		accepted := 0
		for name, code := range want {
			o := outcome(t, cl, ids[name])
			if code == "" {
				accepted++
			}
			if o.OK != (code == "") || !o.OK && o.Error.Code != code {
				t.Errorf("%s: %+v %v, want %q", name, o, o.Error, code)
			}
		}
		if n := len(records(t, js)); n != 1+accepted {
			t.Errorf("journal has %d records, want %d", n, 1+accepted)
		}
	})
}

// A duration counts from the stream's time, whatever the caller's clock says, and is judged by the controller's.
func TestExpiryByTheControllersClock(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		cl := command.NewClient(s.Connect(), "shop")
		c := control(t, s, func(c *controller) { c.now = func() time.Time { return time.Now().Add(50 * time.Second) } })
		createShop(t, cl)
		if o := outcome(t, cl, publish(t, cl, putUnit("a"), 49*time.Second).ID); o.OK || o.Error.Code != "expired" {
			t.Errorf("by the controller's clock it is late: %+v", o)
		}
		if o := outcome(t, cl, publish(t, cl, putUnit("a"), 51*time.Second).ID); !o.OK {
			t.Errorf("by the controller's clock it is in time: %v", o.Error)
		}
		c.close()
	})
}
