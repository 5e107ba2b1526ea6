package integration_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/integration/harness"
)

// TestDeployedAttacks does, as each user that only reads, what once filled, stalled or listened in on what others need, on
// the single-node config of deployments/nats. After each attack commands take effect, readers read, and an edge that is
// new joins.
func TestDeployedAttacks(t *testing.T) {
	harness.Long(t, "thousands of messages from each user")
	t.Parallel()
	d := startDeployed(t, "single.conf", 1, 1)
	d.fillJournal(t)
	server := d.nats.Server("n1").PID
	for _, attack := range []struct {
		name string
		by   func(*testing.T, *deployed, string)
	}{
		{"a thousand consumers", consumers},
		{"a whole journal in one message", wholeJournal},
		{"a literal subscription with a push consumer behind it", shadow},
		{"others' inboxes", inboxes},
		{"questions without end", endlessQuestions},
	} {
		t.Run(attack.name, func(t *testing.T) {
			before, consumed, head := memory(t, server, "VmRSS"), d.state(t).Consumers, d.head(t)
			for _, user := range readersOnly() {
				attack.by(t, d, user)
			}
			grown := memory(t, server, "VmRSS") - before
			t.Logf("NATS has grown by %d KiB", grown>>10)
			most := 64 << 20
			if harness.Race { // whose shadow of the memory is several times as large
				most *= 4
			}
			if grown > most {
				t.Errorf("NATS has grown by %d MiB", grown>>20)
			}
			if n := d.state(t).Consumers; n > consumed {
				t.Errorf("%d consumers on the journal, there were %d", n, consumed)
			}
			if now := d.head(t); now != head {
				t.Errorf("the journal has gone from %d to %d", head, now)
			}
			d.works(t)
			d.undisturbed(t)
		})
	}
	for _, c := range d.controls {
		if used := memory(t, c.PID, "VmRSS"); used > 256<<20 {
			t.Errorf("a controller uses %d MiB", used>>20)
		}
	}
	u := d.units[1]
	d.edges = append(d.edges, d.StartEdge(t, u.ID+"-2", u, freeAddr(t), "--nkey", d.keys.Edge(u.ID, u.ID+"-2")))
	d.undisturbed(t)
}

// fillJournal makes the journal long enough for a reading of all of it to be felt.
func (d *deployed) fillJournal(t *testing.T) {
	t.Helper()
	nc := d.connect(t, "operator", nil)
	const commands = 2000
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	for n := range commands {
		body := fmt.Sprintf(`{"actor":"test","data":{"id":"unsh","name":"%d %s"}}`, n, strings.Repeat("x", 200))
		if err := nc.PublishRequest("unitgate.api.shop.unit.put", answers.Subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
		if n%16 == 15 { // as many as are under way
			for range 16 {
				if _, err := answers.NextMsg(recovers); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if head := d.head(t); head < commands/4 {
		t.Fatalf("the journal has %d events", head)
	}
	nc.Close()
}

// streamState is what the admin sees of the journal's stream.
type streamState struct {
	LastSeq   uint64 `json:"last_seq"`
	Consumers int    `json:"consumer_count"`
}

// shoot publishes messages that the server refuses or drops, and returns when it has read them all.
func shoot(t *testing.T, nc *nats.Conn, times int, message func(n int) (subject, reply, body string)) {
	t.Helper()
	for n := range times {
		subject, reply, body := message(n)
		if err := nc.PublishRequest(subject, reply, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(recovers); err != nil {
		t.Fatal(err)
	}
}

func consumers(t *testing.T, d *deployed, user string) {
	nc := d.connect(t, user, nil)
	defer nc.Close()
	for _, form := range []string{"$JS.API.CONSUMER.DURABLE.CREATE.UNITGATE_shop.%s", "$JS.API.CONSUMER.CREATE.UNITGATE_shop.%s", "$JS.API.CONSUMER.CREATE.UNITGATE_shop.%s.unitgate.evt.shop.>"} {
		shoot(t, nc, 1000, func(n int) (string, string, string) {
			name := fmt.Sprintf("d%d", n)
			return fmt.Sprintf(form, name), nc.NewInbox(), fmt.Sprintf(`{"stream_name":"UNITGATE_shop","config":{"name":%q,"durable_name":%q,"ack_policy":"none"}}`, name, name)
		})
	}
}

// wholeJournal: of these one message of 50 bytes had a server copy all of a stream into its memory, hold up appends
// meanwhile, or answer several megabytes.
func wholeJournal(t *testing.T, d *deployed, user string) {
	nc := d.connect(t, user, nil)
	defer nc.Close()
	for _, ask := range [][2]string{
		{"$JS.API.DIRECT.GET.UNITGATE_shop", `{"seq":1,"batch":1000000000,"max_bytes":1000000000000}`},
		{"$JS.API.DIRECT.GET.UNITGATE_shop", `{"multi_last":["unitgate.evt.>"],"batch":1000}`},
		{"$JS.API.STREAM.INFO.UNITGATE_shop", `{"subjects_filter":">"}`},
		{"$JS.API.STREAM.MSG.GET.UNITGATE_shop", `{"seq":1,"next_by_subj":"unitgate.evt.*.*.*.zzz"}`},
		{"$JS.API.CONSUMER.CREATE.UNITGATE_shop.c", `{"stream_name":"UNITGATE_shop","config":{"name":"c","deliver_policy":"last_per_subject","filter_subject":"unitgate.evt.>","ack_policy":"none"}}`},
		{manifest, `{"seq":1,"batch":1000000,"max_bytes":1000000000000}`}, // allowed by its subject, and refused for its body
		{manifest, `{"multi_last":[">"]}`},
	} {
		shoot(t, nc, 200, func(int) (string, string, string) { return ask[0], nc.NewInbox(), ask[1] })
	}
	m, err := nc.Request(manifest, []byte(`{"seq":1,"batch":1000000}`), recovers)
	if err != nil || m.Header.Get("Status") != "408" || len(m.Data) > 0 {
		t.Errorf("%s gets %v, %v for a batch by a key", user, m, err)
	}
}

// shadow: a literal subscription across an account's border is one in the account with the streams, too, and then a push
// consumer that delivers there is active. It filled the stream of outcomes with old events.
func shadow(t *testing.T, d *deployed, user string) {
	outcome, before := "unitgate.outcome.shop."+uuid.NewString(), d.messages(t, "UNITGATE_OUTCOME")
	nc := d.connect(t, user, nil)
	defer nc.Close()
	live := "unitgate.live.shop.unit.put." + uuid.NewString()
	for _, subject := range []string{outcome, live, "unitgate.beacon.shop", "unitgate.news.shop"} {
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		shoot(t, nc, 10, func(n int) (string, string, string) {
			name := fmt.Sprintf("p%d", n)
			return "$JS.API.CONSUMER.CREATE.UNITGATE_shop." + name, nc.NewInbox(),
				fmt.Sprintf(`{"stream_name":"UNITGATE_shop","config":{"name":%q,"deliver_subject":%q,"ack_policy":"none","deliver_policy":"all"}}`, name, subject)
		})
		for {
			m, err := sub.NextMsg(50 * time.Millisecond)
			if err != nil {
				break
			}
			if strings.HasPrefix(m.Subject, "unitgate.evt.") || m.Header.Get("Unitgate-Type") != "" {
				t.Errorf("%s: %s brings %s", user, subject, m.Subject)
			}
			if subject == "unitgate.beacon.shop" {
				break // it goes on for ever
			}
		}
	}
	if after := d.messages(t, "UNITGATE_OUTCOME"); after != before {
		t.Errorf("%s: the stream of outcomes has gone from %d to %d messages", user, before, after)
	}
}

// inboxes: who listens on a role's common inbox hears, and can answer, what others of the role ask.
func inboxes(t *testing.T, d *deployed, user string) {
	nc := d.connect(t, user, nil)
	defer nc.Close()
	heard := make(chan *nats.Msg, 100)
	for _, subject := range []string{"_INBOX.>", "_INBOX.*.*", "_INBOX.*.*.*", d.keys.Inbox(user) + ".>"} {
		if _, err := nc.ChanSubscribe(subject, heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(recovers); err != nil {
		t.Fatal(err)
	}
	for _, other := range readersOnly() { // each asks and is answered
		if other == user {
			continue
		}
		asker := d.connect(t, other, nil)
		if _, err := asker.Request(manifest, nil, recovers); err != nil {
			t.Errorf("%s is not answered while %s listens: %v", other, user, err)
		}
		asker.Close()
	}
	if err := nc.FlushTimeout(recovers); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-heard:
		t.Errorf("%s hears %s: %.200s", user, m.Subject, m.Data)
	default:
	}
}

// endlessQuestions asks for all of the journal, again and again, on several connections of one user, and takes none of the
// answers. Others read meanwhile, and an operator's command takes effect.
func endlessQuestions(t *testing.T, d *deployed, user string) {
	ask := "unitgate.journal.shop"
	if of, ok := edgeUsers[user]; ok {
		ask = "unitgate.edge.shop." + of[0] + "." + strings.Replace(of[1], "*", "ghost", 1) + ".read"
	}
	for range 5 {
		nc := d.connect(t, user, nil)
		defer nc.Close()
		if _, err := nc.Subscribe(d.keys.Inbox(user)+".>", func(*nats.Msg) { select {} }); err != nil { // it never reads a second one
			t.Fatal(err)
		}
		shoot(t, nc, 2000, func(n int) (string, string, string) {
			return ask, nc.NewInbox(), fmt.Sprintf(`{"after":%d}`, n%100)
		})
	}
	other := "observer"
	if user == other {
		other = "operator"
	}
	d.as(other).Run(t, "get", "edges").OK(t)
	d.Run(t, "evict", "--router-id", "1", "--reason", "test").OK(t)
}

// messages is how many a stream holds, as the admin sees it.
func (d *deployed) messages(t *testing.T, stream string) (n int) {
	t.Helper()
	var info struct {
		State struct {
			Messages int `json:"messages"`
		} `json:"state"`
	}
	d.streamInfo(t, stream, &info)
	return info.State.Messages
}

func (d *deployed) state(t *testing.T) streamState {
	t.Helper()
	var info struct{ State streamState }
	d.streamInfo(t, "UNITGATE_shop", &info)
	return info.State
}

func (d *deployed) streamInfo(t *testing.T, stream string, into any) {
	t.Helper()
	nc := d.connect(t, "admin", nil)
	defer nc.Close()
	m, err := nc.Request("$JS.API.STREAM.INFO."+stream, nil, recovers)
	if err == nil {
		err = json.Unmarshal(m.Data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
