package command_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/command"
)

// An accepted command answers the same for ever: no repeat of it, however malformed, and no other command under its id puts
// something else in the place of its outcome. And a malformed repeat of one that came over the api is answered with what
// that was answered.
func TestAcceptanceIsNeverOverwritten(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js, cl := s.JetStream(), command.NewClient(s.Connect(), "shop")
		control(t, s)
		createShop(t, cl)
		queued, direct := putUnit("u1"), putUnit("u2")
		if o := outcome(t, cl, publish(t, cl, queued, 0).ID); !o.OK || o.Seq != 2 {
			t.Fatalf("%+v", o)
		}
		if o, err := cl.Do(t.Context(), "unit", "put", direct); err != nil || !o.OK || o.Seq != 3 {
			t.Fatalf("%+v %v", o, err)
		}
		for _, c := range []struct {
			subject, body string
			header        nats.Header
		}{
			{"unit.put", `{"id":%q,"extra":1,"actor":"me","data":{"id":"u1"}}`, nil},
			{"unit.put", `{"id":%q,"actor":7,"data":{"id":"u1"}}`, nil},
			{"unit.put", `{"id":%q,"actor":"me","data":{"id":7}}`, nil},
			{"unit.put", `{"id":%q,"actor":"me","data":{"color":"red"}}`, nil},
			{"unit.put", `{"id":%q,"actor":"me","data":{"id":"u1"}}`, nats.Header{"Unitgate-Expires": {"tomorrow"}}},
			{"unit.put", `{"id":%q,"actor":"me","data":{"id":"u1"}}`, nats.Header{"Unitgate-Expires": {"1ns"}}},
			{"cluster.put", `{"id":%q,"actor":"me","data":{"id":"ws","unit":"nowhere"}}`, nil},
			{"unit.explode", `{"id":%q,"actor":"me","data":{}}`, nil},
			{"unit", `{"id":%q,"actor":"me","data":{}}`, nil},
			{"wave.fence", `{"id":%q,"actor":"me","data":{}}`, nil},
		} {
			for seq, id := range map[uint64]string{2: queued.ID, 3: direct.ID} {
				m := &nats.Msg{Subject: "unitgate.cmd.shop." + c.subject, Header: c.header, Data: fmt.Appendf(nil, c.body, id)}
				if _, err := js.PublishMsg(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if o := outcome(t, cl, id); c.subject == "unit.put" || seq == 2 {
					if !o.OK || o.Seq != seq || o.Entity != "unit" || o.Verb != "put" {
						t.Errorf("after %s %s %v: %+v %v", m.Subject, m.Data, m.Header, o, o.Error)
					}
				}
			}
		}
		if o, err := cl.Do(t.Context(), "unit", "put", command.Request{ID: queued.ID, Actor: "test", Data: map[string]int{"id": 7}}); err != nil || !o.OK || o.Seq != 2 {
			t.Errorf("malformed repeat over the api: %+v %v", o, err)
		}
		if o, err := cl.Do(t.Context(), "unit", "put", command.Request{Actor: "test", Data: map[string]int{"id": 7}}); err != nil || o.OK {
			t.Errorf("malformed: %+v %v", o, err)
		}
		synctest.Wait()
		if n := waiting(t, js); n != 0 {
			t.Errorf("%d messages wait", n)
		}
		if n := len(records(t, js)); n != 3 {
			t.Errorf("journal has %d records, want 3", n)
		}
		// A command that was accepted under the same id as another one is told where nothing stood.
		both := command.Request{ID: direct.ID, Actor: "test", Data: events.Cluster{ID: "ws", Unit: "u1"}}
		if _, err := cl.Publish(t.Context(), "cluster", "put", both, 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if o := outcome(t, cl, direct.ID); !o.OK || o.Entity != "unit" {
			t.Errorf("the outcome of unit.put is now %+v", o)
		}
		if n := len(records(t, js)); n != 4 {
			t.Errorf("journal has %d records, want 4", n)
		}
	})
}
