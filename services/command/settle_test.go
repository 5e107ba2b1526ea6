package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/command"
)

// hooked calls after once a record was stored, before the handler learns of it.
type hooked struct {
	journal.Journal
	after func()
}

func (h hooked) Append(ctx context.Context, after uint64, rec events.Record) (events.Record, error) {
	rec, err := h.Journal.Append(ctx, after, rec)
	if err == nil {
		h.after()
	}
	return rec, err
}

// "a command that was running when its controller died is finished or decided anew, never doubled": one that dies right
// after its append, with another one there.
func TestControllerDiesBetweenAppendAndAck(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js, cl := s.JetStream(), command.NewClient(s.Connect(), "shop")
		died := make(chan struct{})
		armed := false
		dying := control(t, s, func(c *controller) {
			c.wrap = func(j journal.Journal) journal.Journal {
				return hooked{j, func() {
					if armed {
						armed = false
						c.nc.Close() // nothing is said any more: no outcome, no ack
						close(died)
					}
				}}
			}
		})
		createShop(t, cl)
		armed = true
		ticket := publish(t, cl, putUnit("u1"), time.Minute)
		<-died
		dying.kill()
		if n := len(records(t, js)); n != 2 {
			t.Fatalf("journal has %d records, want 2: the append came before the death", n)
		}
		began := time.Now()
		control(t, s)
		o := outcome(t, cl, ticket.ID)
		if !o.OK || o.Seq != 2 {
			t.Errorf("after the death: %+v %v", o, o.Error)
		}
		if took := time.Since(began); took > 40*time.Second {
			t.Errorf("taken over after %v", took)
		}
		synctest.Wait()
		if n := len(records(t, js)); n != 2 || waiting(t, js) != 0 {
			t.Errorf("journal has %d records, %d commands wait", n, waiting(t, js))
		}
	})
}

// A rejection is final once its outcome is stored: a lost ack does not have it decided anew, even if it would succeed now.
func TestRejectionStaysAfterALostAck(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js, nc := s.JetStream(), s.Connect()
		cl := command.NewClient(nc, "shop")
		first := control(t, s)
		createShop(t, cl)
		// The ack is lost: its subject is nobody's. (JetStream hears acks by a subscription like any other; a service
		// import that a test can not cut, so the controller is killed at the moment its outcome is seen.)
		seen, err := nc.SubscribeSync("unitgate.outcome.shop.*")
		if err != nil {
			t.Fatal(err)
		}
		r := command.Request{ID: uuid.NewString(), Actor: "test", Data: events.Cluster{ID: "ws", Unit: "unsh"}}
		ticket, err := cl.Publish(t.Context(), "cluster", "put", r, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := seen.NextMsg(time.Minute); err != nil {
			t.Fatal(err)
		}
		if o := outcome(t, cl, r.ID); o.OK || o.Error.Code != "unknown_unit" {
			t.Fatalf("outcome %+v", o)
		}
		synctest.Wait()
		if o, err := cl.Do(t.Context(), "unit", "put", putUnit("unsh")); err != nil || !o.OK {
			t.Fatal(o.Error, err)
		}
		first.close()
		// The same delivery again, as the server would make it: the same sequence in a stream of the same epoch.
		redeliver(t, js, ticket.Seq)
		control(t, s)
		synctest.Wait()
		time.Sleep(time.Minute)
		if o := outcome(t, cl, r.ID); o.OK || o.Queued != ticket.Seq {
			t.Errorf("a settled rejection became %+v", o)
		}
		if n := len(records(t, js)); n != 2 {
			t.Errorf("journal has %d records, want 2", n)
		}
	})
}

// redeliver puts a stream with the old epoch and the old message at its old sequence in the place of the queue.
func redeliver(t *testing.T, js jetstream.JetStream, seq uint64) {
	t.Helper()
	st, err := js.Stream(t.Context(), command.QueueStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	cfg.FirstSeq = seq
	journaltest.Recreate(t, js, cfg)
	o, err := js.Stream(t.Context(), command.OutcomeStream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := o.GetLastMsgForSubject(t.Context(), "unitgate.outcome.shop.>")
	if err != nil {
		t.Fatal(err)
	}
	id := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	body := fmt.Sprintf(`{"id":%q,"actor":"me","data":{"id":"ws","unit":"unsh"}}`, id)
	if ack, err := js.Publish(t.Context(), "unitgate.cmd.shop.cluster.put", []byte(body)); err != nil || ack.Sequence != seq {
		t.Fatal(ack, err)
	}
}

// Redelivery of a command without an id repeats nothing: its id follows from the stream and the sequence.
func TestCommandWithoutID(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js, cl := s.JetStream(), command.NewClient(s.Connect(), "shop")
		c := control(t, s)
		createShop(t, cl)
		ack, err := js.Publish(t.Context(), "unitgate.cmd.shop.unit.put", []byte(`{"actor":"me","data":{"id":"u1"}}`))
		if err != nil {
			t.Fatal(err)
		}
		st, err := js.Stream(t.Context(), command.QueueStream)
		if err != nil {
			t.Fatal(err)
		}
		epoch := uuid.MustParse(st.CachedInfo().Config.Metadata["unitgate-epoch"])
		id := command.DerivedID(epoch, ack.Sequence)
		if u := uuid.MustParse(id); u.Version() != 5 || id != uuid.NewSHA1(epoch, fmt.Appendf(nil, "UNITGATE_CMD/%d", ack.Sequence)).String() {
			t.Errorf("derived id %s", id)
		}
		if o := outcome(t, cl, id); !o.OK || o.Seq != 2 || o.Queued != ack.Sequence {
			t.Errorf("outcome %+v", o)
		}
		if rec := records(t, js)[1]; rec.CommandID != id {
			t.Errorf("the journal has id %s, want %s", rec.CommandID, id)
		}

		// The queue is deleted and made anew while the controller runs: the same sequence is another command.
		if err := js.DeleteStream(t.Context(), command.QueueStream); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second) // the controller notices and makes it
		if ack, err = js.Publish(t.Context(), "unitgate.cmd.shop.unit.put", []byte(`{"actor":"me","data":{"id":"u2"}}`)); err != nil || ack.Sequence != 1 {
			t.Fatal(ack, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(records(t, js)); n != 3 {
			t.Errorf("journal has %d records, want 3", n)
		}
		c.close()
	})
}

// Poison: what is no command is answered where an id is known or can be derived, and is gone; what follows is taken.
func TestPoison(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		nc := s.Connect()
		js, cl := s.JetStream(), command.NewClient(nc, "shop")
		control(t, s)
		createShop(t, cl)
		st, err := js.Stream(t.Context(), command.QueueStream)
		if err != nil {
			t.Fatal(err)
		}
		epoch := uuid.MustParse(st.CachedInfo().Config.Metadata["unitgate-epoch"])
		known := uuid.NewString()
		before := uint64(1)
		for _, c := range []struct{ subject, body, id, code string }{
			{"shop.unit.put", `{`, "", "bad_command"},
			{"shop.unit.put", `no json`, "", "bad_command"},
			{"shop.unit.put", "\xff\xfe", "", "bad_command"},
			{"shop.unit.put", `[]`, "", "bad_type"},
			{"shop.unit.put", ``, "", "missing_field"},
			{"shop.unit.put", `{"id":7,"actor":"me","data":{"id":"a"}}`, "", "bad_type"},
			{"shop.unit.put", `{"id":"7","actor":"me","data":{"id":"a"}}`, "", "bad_id"},
			{"shop.unit.put", `{"id":"` + strings.ToUpper(known) + `","actor":"me","data":{"id":"a"}}`, "", "bad_id"},
			{"shop.unit.put", `{"id":"a.>","actor":"me","data":{"id":"a"}}`, "", "bad_id"},
			{"shop.unit.put", `{"id":"` + known + `","extra":1,"actor":"me","data":{"id":"a"}}`, known, "unknown_field"},
			{"shop.unit.put", `{"actor":"me","data":{"id":"a","color":"red"}}`, "", "unknown_field"},
			{"shop.unit.explode", `{}`, "", "bad_command"},
			{"shop.wave.fence", `{"actor":"me","data":{"cutover":"c1","wave":0,"term":1}}`, "", "bad_command"},
			{"shop.test.echo", `{"data":{}}`, "", "bad_command"},
			{"shop.unit", `{"actor":"me","data":{"id":"a"}}`, "", "bad_command"},
			{"shop", `{"actor":"me","data":{"id":"a"}}`, "", "bad_command"},
			{"shop.unit.put.more", `{"actor":"me","data":{"id":"a"}}`, "", "bad_command"},
			{"SHOP.unit.put", `{"actor":"me","data":{"id":"a"}}`, "", "bad_name"},
			{"other.unit.put", `{"actor":"me","data":{"id":"a"}}`, "", "unknown_namespace"},
		} {
			ack, err := js.Publish(t.Context(), "unitgate.cmd."+c.subject, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.id == "" {
				c.id = command.DerivedID(epoch, ack.Sequence)
			}
			ns, _, _ := strings.Cut(c.subject, ".")
			if o := outcome(t, command.NewClient(nc, ns), c.id); o.OK || o.Error.Code != c.code {
				t.Errorf("%s %.40q: %v, want %s", c.subject, c.body, o.Error, c.code)
			}
		}
		if _, err := js.Publish(t.Context(), "unitgate.cmd.bad*name.unit.put", []byte(`{}`)); err != nil { // nowhere to answer
			t.Log(err)
		}
		if _, err := js.Publish(t.Context(), "unitgate.cmd.shop.unit.put", make([]byte, 1<<20+1)); err == nil {
			t.Error("more than a MiB was queued")
		}
		if o := outcome(t, cl, publish(t, cl, putUnit("u1"), 0).ID); !o.OK {
			t.Errorf("after the poison: %v", o.Error)
		}
		synctest.Wait()
		if n := uint64(len(records(t, js))); n != before+1 || waiting(t, js) != 0 {
			t.Errorf("journal has %d records, %d messages wait", n, waiting(t, js))
		}
	})
}

// "forged Nats-* headers harmless": the server refuses them, or they end in the queue; nothing of them reaches the journal.
func TestForgedHeaders(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		nc := s.Connect()
		js, cl := s.JetStream(), command.NewClient(nc, "shop")
		control(t, s)
		createShop(t, cl)
		for i := range 3 {
			publish(t, cl, putUnit(fmt.Sprintf("w%d", i)), time.Hour)
		}
		want := 4
		for i, h := range []nats.Header{
			{"Nats-Rollup": {"all"}}, {"Nats-Rollup": {"sub"}}, {"Nats-TTL": {"1s"}}, {"Nats-Schedule": {"@every 1s"}}, {"Nats-Incr": {"1"}},
			{"Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}},
			{"Nats-Expected-Stream": {"UNITGATE_shop"}}, {"Nats-Expected-Last-Sequence": {"99"}}, {"Nats-Expected-Last-Subject-Sequence": {"7"}},
			{"Nats-Expected-Last-Sequence": {"0"}, "Nats-Expected-Stream": {"UNITGATE_CMD"}},
			{"Nats-Sequence": {"9"}, "Nats-Time-Stamp": {"2001-01-01T00:00:00Z"}, "Nats-Stream": {"UNITGATE_shop"}, "Nats-Subject": {"x"}},
			{"Nats-Service-Error-Code": {"x"}, "Unitgate-Queued": {"UNITGATE_CMD/x/1"}, "Unitgate-Prev": {"x"}, "Unitgate-Actor": {"root"}},
			{"Status": {"503"}}, {"Status": {"100"}, "Description": {"Idle Heartbeat"}}, {"Status": {"409"}, "Description": {"Consumer Deleted"}},
			{"Nats-Msg-Id": {"same"}}, {"Nats-Pin-Id": {"x"}}, {"Traceparent": {"x"}, "traceparent": {"no trace"}},
		} {
			r := putUnit(fmt.Sprintf("f%d", i))
			body := []byte(fmt.Sprintf(`{"id":%q,"actor":"me","data":{"id":"f%d"}}`, r.ID, i))
			m := &nats.Msg{Subject: "unitgate.cmd.shop.unit.put", Header: h, Data: body}
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				continue // refused at the door
			}
			want++
			if o := outcome(t, cl, r.ID); !o.OK {
				t.Errorf("%v: %v", h, o.Error)
			}
		}
		for i, h := range []nats.Header{{"Status": {"503"}}, {"Status": {"100"}}, {"Status": {"409"}}} { // and without a body
			m := &nats.Msg{Subject: fmt.Sprintf("unitgate.cmd.shop.unit.put%d", i), Header: h}
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		o, err := cl.Do(t.Context(), "unit", "put", putUnit("last"))
		if err != nil || !o.OK {
			t.Fatal(o.Error, err)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		if n := waiting(t, js); n != 0 {
			t.Errorf("%d messages wait: a header stopped the queue", n)
		}
		recs := records(t, js) // reading checks the chain
		if len(recs) != want+1 {
			t.Errorf("journal has %d records, want %d", len(recs), want+1)
		}
		if i := slices.IndexFunc(recs, func(r events.Record) bool { return r.Actor == "root" || strings.HasPrefix(r.Traceparent, "no") }); i >= 0 {
			t.Errorf("a forged header is in the journal: %+v", recs[i])
		}
	})
}

// "The same command id from ten clients at once takes effect once and answers the same", over both ways mixed and by two
// controllers.
func TestSameIDOverBothWays(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js := s.JetStream()
		control(t, s)
		control(t, s)
		createShop(t, command.NewClient(s.Connect(), "shop"))
		for round := range 5 {
			r := putUnit(fmt.Sprintf("u%d", round))
			answers := make([]string, 10)
			var all sync.WaitGroup
			for i := range answers {
				cl := command.NewClient(s.Connect(), "shop")
				all.Go(func() {
					var o command.Outcome
					var err error
					if i%2 == 0 {
						o, err = cl.Do(t.Context(), "unit", "put", r)
					} else if _, err = cl.Publish(t.Context(), "unit", "put", r, 0); err == nil {
						var s command.Settled
						s, err = cl.Outcome(t.Context(), r.ID)
						o = s.Outcome
					}
					b, _ := json.Marshal(o)
					answers[i] = fmt.Sprint(string(b), err)
				})
			}
			all.Wait()
			for _, a := range answers {
				if a != answers[0] || !strings.Contains(a, fmt.Sprintf(`{"ok":true,"seq":%d`, round+2)) {
					t.Errorf("round %d: one id answers %s and %s", round, answers[0], a)
				}
			}
		}
		synctest.Wait()
		if n := len(records(t, js)); n != 6 {
			t.Errorf("journal has %d records, want 6", n)
		}
	})
}

// Two controllers share the work; one that stops hands the rest over.
func TestTwoControllersShareDurableWork(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js, cl := s.JetStream(), command.NewClient(s.Connect(), "shop")
		var mu sync.Mutex
		did := map[string]int{}
		counting := func(name string) func(*controller) {
			return func(c *controller) {
				c.wrap = func(j journal.Journal) journal.Journal {
					return hooked{j, func() { mu.Lock(); did[name]++; mu.Unlock() }}
				}
			}
		}
		a := control(t, s, counting("a"))
		createShop(t, cl)
		control(t, s, counting("b"))
		const n = 200
		ids := make([]string, n)
		for i := range ids {
			ids[i] = publish(t, cl, putUnit(fmt.Sprintf("u%d", i)), time.Hour).ID
			if i == n/2 {
				a.close()
			}
		}
		for _, id := range ids {
			if o := outcome(t, cl, id); !o.OK {
				t.Errorf("%s: %v", id, o.Error)
			}
		}
		synctest.Wait() // an outcome is stored before its command is acked
		if got := len(records(t, js)); got != n+1 || waiting(t, js) != 0 {
			t.Errorf("journal has %d records, want %d; %d wait", got, n+1, waiting(t, js))
		}
		// How they share is the scheduler's affair: a may have got none of the queue before it stops.
		if did["a"] < 1 || did["b"] < n/4 || did["a"]+did["b"] != n+1 {
			t.Errorf("shared as %v", did)
		}
	})
}
