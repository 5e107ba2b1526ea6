package command_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/command"
)

// S11: who did it. Neither way in takes a command without an actor, under a name of the system's, or under one that cannot
// be read; an edge speaks for itself only.
func TestActorsFromOutside(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js, cl := s.JetStream(), command.NewClient(s.Connect(), "shop")
		c := control(t, s)
		createShop(t, cl)
		join := events.JoinEdge{ID: "center-1", Directory: "00000000-0000-4000-8000-000000000000", Unit: "center", Cluster: "hz", Address: "10.0.0.1:80"}
		for _, cmd := range []events.Command{
			events.PutUnit{Unit: events.Unit{ID: "center"}}, events.PutCluster{Cluster: events.Cluster{ID: "hz", Unit: "center"}}, join,
		} {
			if o := c.handler.Do(t.Context(), events.Envelope{Command: cmd}); !o.OK { // the system's own have what actor they have
				t.Fatal(o.Error)
			}
		}
		moved := join
		moved.Address = "10.0.0.2:80"
		put := events.Unit{ID: "u1"}
		leave := events.LeaveEdge{ID: "center-1", Directory: "00000000-0000-4000-8000-000000000000"}
		for _, c := range []struct {
			actor, name string
			data        any
			code        string
		}{
			{"", "unit.put", put, "missing_field"}, {"  ", "unit.put", put, "missing_field"}, {"-", "unit.put", put, "missing_field"},
			{"driver", "unit.put", put, "not_allowed"}, {"Driver", "unit.put", put, "not_allowed"}, {"edge/center-1", "unit.put", put, "not_allowed"},
			{"a\u202eb", "unit.put", put, "bad_value"}, {"a\u2028b", "unit.put", put, "bad_value"}, {"dri\u200dver", "unit.put", put, "bad_value"},
			{"unbj operator", "edge.leave", leave, "not_allowed"}, {"edge/unbj-1", "edge.leave", leave, "not_allowed"}, {"driver", "edge.leave", leave, "not_allowed"},
			{"", "edge.leave", leave, "not_allowed"}, {"edge/center-2", "edge.join", moved, "not_allowed"}, {"alice", "edge.join", moved, "not_allowed"},
		} {
			entity, verb, _ := strings.Cut(c.name, ".")
			r := command.Request{ID: uuid.NewString(), Actor: c.actor, Data: c.data}
			o, err := cl.Do(t.Context(), entity, verb, r)
			if err != nil || o.OK || o.Error.Code != c.code || o.Error.Field != "actor" || o.Error.Message == "" {
				t.Errorf("%q, %s: %v %v, want %s at actor", c.actor, c.name, o.Error, err, c.code)
			}
			ticket, err := cl.Publish(t.Context(), entity, verb, r, 0)
			if err != nil {
				t.Fatal(err)
			}
			if o := outcome(t, cl, ticket.ID); o.OK || o.Error.Code != c.code {
				t.Errorf("%q, %s, durably: %v, want %s", c.actor, c.name, o.Error, c.code)
			}
		}
		// Nobody has to say who he is to ask, and nothing was stored.
		if o, err := cl.Do(t.Context(), "test", "read", command.Request{}); err != nil || !o.OK {
			t.Errorf("a question: %v %v", o.Error, err)
		}
		if n := len(records(t, js)); n != 4 {
			t.Errorf("journal has %d records, want 4", n)
		}
		for _, name := range []string{"edge.join", "edge.leave"} {
			entity, verb, _ := strings.Cut(name, ".")
			data := map[string]any{"edge.join": moved, "edge.leave": leave}[name]
			if o, err := cl.Do(t.Context(), entity, verb, command.Request{Actor: "edge/center-1", Data: data}); err != nil || !o.OK {
				t.Errorf("the edge itself, %s: %v %v", name, o.Error, err)
			}
		}
	})
}

// A command that a controller of before took without an actor answers a repeat as it did then.
func TestRepeatWithoutAnActor(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		cl := command.NewClient(s.Connect(), "shop")
		c := control(t, s)
		createShop(t, cl)
		id := uuid.NewString()
		before := c.handler.Do(t.Context(), events.Envelope{ID: id, Command: events.PutUnit{Unit: events.Unit{ID: "u1"}}})
		if !before.OK {
			t.Fatal(before.Error)
		}
		o, err := cl.Do(t.Context(), "unit", "put", command.Request{ID: id, Data: events.Unit{ID: "u1"}})
		if err != nil || !o.OK || o.Seq != before.Seq {
			t.Errorf("%+v %v, it was %+v", o.Error, err, before)
		}
	})
}

// What comes from the queue has the same bounds: refused unread, and told to whoever waits where its id can be seen.
func TestDurableBounds(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js, cl := s.JetStream(), command.NewClient(s.Connect(), "shop")
		control(t, s)
		createShop(t, cl)
		for name, c := range map[string]struct{ subject, body, code string }{
			"large":           {"unit.put", `{"id":%q,"actor":"me","data":{"id":"a","name":"` + strings.Repeat("a", 8<<10) + `"}}`, "too_large"},
			"large join":      {"edge.join", ` { "id" : %q,"actor":"edge/a","data":{"id":"` + strings.Repeat("a", 4<<10) + `"}}`, "too_large"},
			"packed":          {"edge.join", `{"id":%q,"actor":"edge/a","data":{"packed":""}}`, "bad_value"},
			"bomb":            {"cutover.preview", `{"id":%q,"actor":"me","data":` + string(events.Pack([]byte(`{"exact":{"a":[`+strings.Repeat(`"1",`, 1_000_000)+`"1"]}}`))) + `}`, "too_large"},
			"no such command": {"unit.explode", `{"id":%q,"data":"` + strings.Repeat("a", 8<<10) + `"}`, "too_large"},
		} {
			id := uuid.NewString()
			if _, err := js.Publish(t.Context(), "unitgate.cmd.shop."+c.subject, fmt.Appendf(nil, c.body, id)); err != nil {
				t.Fatal(err)
			}
			if o := outcome(t, cl, id); o.OK || o.Error.Code != c.code {
				t.Errorf("%s: %v, want %s", name, o.Error, c.code)
			}
		}
		synctest.Wait()
		if n := waiting(t, js); n != 0 {
			t.Errorf("%d messages wait", n)
		}
	})
}

// Large commands that come both ways share one budget. Those from the queue that find none left are put back and come
// again; small ones pass them.
func TestDurableCommandsWaitForTheBudget(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		cl := command.NewClient(s.Connect(), "shop")
		release := make(chan struct{})
		control(t, s, func(c *controller) {
			c.prepare = preparerFunc(func(ctx context.Context, _ *events.State, env events.Envelope) (events.Envelope, error) {
				if env.Reason == "slow" {
					select {
					case <-release:
					case <-ctx.Done():
					}
				}
				return env, nil
			})
		})
		createShop(t, cl)
		large := func(id, reason string) command.Request {
			cfg := events.Config{Namespace: "shop", Units: []events.Unit{{ID: id, Name: id}}}
			return command.Request{ID: uuid.NewString(), Actor: "me", Reason: reason, Data: packable{events.ApplyConfig{Base: 1, Config: cfg}}}
		}
		var slow []command.Ticket
		for i := range 2 {
			ticket, err := cl.Publish(t.Context(), "config", "apply", large(fmt.Sprintf("slow%d", i), "slow"), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			slow = append(slow, ticket)
		}
		time.Sleep(time.Second)
		late, err := cl.Publish(t.Context(), "config", "apply", large("late", ""), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if o := outcome(t, cl, publish(t, cl, putUnit("small"), 0).ID); !o.OK {
			t.Errorf("a small one: %v", o.Error)
		}
		time.Sleep(5 * time.Second)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if o, err := cl.Outcome(short, late.ID); err == nil {
			t.Errorf("beyond the budget: %+v", o)
		}
		close(release)
		for _, ticket := range append(slow, late) { // each is decided: they were planned before the small one
			if o := outcome(t, cl, ticket.ID); o.OK || o.Error.Code != "stale_version" {
				t.Errorf("%+v", o.Error)
			}
		}
	})
}

type preparerFunc func(ctx context.Context, s *events.State, env events.Envelope) (events.Envelope, error)

func (f preparerFunc) Prepare(ctx context.Context, s *events.State, env events.Envelope) (events.Envelope, error) {
	return f(ctx, s, env)
}

// packable is data that is large enough to be packed.
type packable struct{ events.ApplyConfig }

func (p packable) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"base":%d,"config":{"namespace":"shop","units":[{"id":%q,"name":%[2]q}],"loadBalancers":[],"domains":[%s]}}`,
		p.Base, p.Config.Units[0].ID, strings.TrimSuffix(strings.Repeat(`{"host":"a","units":{"a":{"cluster":"b"}},"uris":[{"path":"/"}]},`, 3000), ",")), nil
}
