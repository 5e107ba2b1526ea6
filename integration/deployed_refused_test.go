package integration_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/integration/harness"
)

const (
	someID   = "0b6e4ee1-2f6d-4f5e-9b0c-6f6b4d5b9d11"
	manifest = "$JS.API.DIRECT.GET.KV_UNITGATE_SNAPSHOTS.$KV.UNITGATE_SNAPSHOTS.shop.manifest"
)

// edgeUsers are the users of edges in accounts.conf: the unit, and the id that the user is bound to, * for any.
var edgeUsers = map[string][2]string{
	"edge-center-1": {"center", "center-1"}, "edge-center-2": {"center", "center-2"}, "edge-center": {"center", "*"},
	"edge-unbj-1": {"unbj", "unbj-1"}, "edge-unbj-2": {"unbj", "unbj-2"}, "edge-unbj": {"unbj", "*"},
}

// readersOnly are those who read the journal and have no other business with the streams.
func readersOnly() []string {
	users := []string{"operator", "observer"}
	for user := range edgeUsers {
		users = append(users, user)
	}
	return users
}

// says are what an edge says of itself, and asks as itself; hears is what it is asked.
var (
	says  = []string{"join", "leave", "report", "lease", "read"}
	hears = []string{"status", "sessions", "evict", "probe", "handshake", "cutover", "count", "standing"}
)

// closed is what no reader may say or hear: "hear" is a subscription, the rest are publishes.
var closed = []string{
	"unitgate.evt.shop.unit.put." + someID, // an event
	"_INBOX.somebody.1",                    // a grant: it is the answer to a request for a lease
	"unitgate.beacon.shop",                 // who vouches for the head
	"unitgate.news.shop", "unitgate.live.shop.unit.put." + someID, "unitgate.outcome.shop." + someID,
	"$KV.UNITGATE_OFFICE.shop", "$KV.UNITGATE_SNAPSHOTS.shop.manifest",
	"$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.UNITGATE_shop", "$JS.API.STREAM.INFO.UNITGATE_OUTCOME",
	"$JS.API.STREAM.DELETE.UNITGATE_shop", "$JS.API.STREAM.UPDATE.UNITGATE_shop", "$JS.API.STREAM.PURGE.UNITGATE_CMD",
	"$JS.API.STREAM.MSG.GET.UNITGATE_shop", "$JS.API.STREAM.MSG.GET.UNITGATE_OUTCOME",
	"$JS.API.DIRECT.GET.UNITGATE_shop", "$JS.API.DIRECT.GET.UNITGATE_shop.unitgate.evt.shop.unit.put." + someID,
	"$JS.API.DIRECT.GET.UNITGATE_OUTCOME.unitgate.outcome.other." + someID, "$JS.API.DIRECT.GET.KV_UNITGATE_SNAPSHOTS",
	"$JS.API.DIRECT.GET.KV_UNITGATE_SNAPSHOTS.$KV.UNITGATE_SNAPSHOTS.other.manifest",
	"$JS.API.CONSUMER.CREATE.UNITGATE_shop", "$JS.API.CONSUMER.CREATE.UNITGATE_shop.c", "$JS.API.CONSUMER.CREATE.UNITGATE_shop.c.unitgate.evt.shop.>",
	"$JS.API.CONSUMER.CREATE.KV_UNITGATE_SNAPSHOTS.c", "$JS.API.CONSUMER.DURABLE.CREATE.UNITGATE_shop.c",
	"$JS.API.CONSUMER.MSG.NEXT.UNITGATE_shop.c", "$JS.API.CONSUMER.INFO.UNITGATE_shop.c", "$JS.API.CONSUMER.DELETE.UNITGATE_shop.c",
	"$JS.API.CONSUMER.NAMES.UNITGATE_shop", "$JS.API.CONSUMER.LIST.UNITGATE_shop", "$JS.API.CONSUMER.RESET.UNITGATE_shop.c",
	"$SRV.PING", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO",
	"unitgate.journal.other", "unitgate.journal.shop.operators", "unitgate.namespaces.operators",
	"hear _INBOX.>", "hear _INBOX.*.>", "hear >",
	"hear unitgate.outcome.shop." + someID, "hear unitgate.outcome.>", "hear unitgate.evt.shop.>", "hear unitgate.beacon.other", "hear unitgate.live.other.>",
	"hear unitgate.journal.shop", "hear unitgate.api.>", "hear unitgate.edge.>", "hear unitgate.edge.*.*.*.lease", "hear unitgate.edge.*.*.*.read",
	"hear $JS.API.>", "hear $KV.>", "hear _R_.>",
}

// refused is what each user may not do.
func refused(keys *harness.Keys) map[string][]string {
	all := map[string][]string{
		"observer": {
			"unitgate.api.shop.unit.put", "unitgate.api.shop.config.apply", "unitgate.api.shop.cutover.start", "unitgate.api.shop.edge.join",
			"unitgate.cmd.shop.unit.put", "unitgate.edge.shop.center.center-1.evict",
			"unitgate.edge.shop.center.center-1.count", "unitgate.edge.shop.center.center-1.standing", // the control plane's places
		},
		"operator": {
			"unitgate.api.other.unit.put", "unitgate.cmd.other.unit.put",
			"unitgate.api.shop.edge.join", "unitgate.api.shop.edge.leave", "unitgate.cmd.shop.edge.join", "unitgate.cmd.shop.edge.leave",
			"unitgate.edge.shop.center.center-1.count", "unitgate.edge.shop.center.center-1.standing",
		},
		"control": {
			"unitgate.api.shop.unit.put", "unitgate.cmd.shop.unit.put", "$JS.API.STREAM.DELETE.UNITGATE_shop", "$JS.API.STREAM.UPDATE.UNITGATE_shop",
			"$JS.API.STREAM.PURGE.UNITGATE_CMD", "$JS.API.STREAM.MSG.DELETE.UNITGATE_CMD", "$JS.API.META.LEADER.STEPDOWN", "hear _INBOX.>",
		},
		"admin": {
			"unitgate.evt.shop.unit.put." + someID, "unitgate.api.shop.unit.put", "unitgate.cmd.shop.unit.put", "unitgate.beacon.shop",
			"$KV.UNITGATE_OFFICE.shop", "hear _INBOX.>",
		},
	}
	for _, word := range says {
		all["observer"] = append(all["observer"], "unitgate.edge.shop.center.center-1."+word)
		all["operator"] = append(all["operator"], "unitgate.edge.shop.center.center-1."+word)
	}
	for user := range edgeUsers {
		all[user] = refusedEdge(user)
	}
	for _, user := range readersOnly() {
		all[user] = append(all[user], closed...)
		for _, other := range append(readersOnly(), "control", "admin") {
			if other != user {
				all[user] = append(all[user], "hear "+keys.Inbox(other)+".>")
			}
		}
	}
	return all
}

// refusedEdge is what an edge's user may not do besides: what is another edge's, or not an edge's at all.
func refusedEdge(user string) []string {
	of := edgeUsers[user]
	all := []string{
		"unitgate.api.shop.unit.put", "unitgate.api.shop.edge.retire", "unitgate.api.shop.edge.join", "unitgate.api.shop.edge.leave",
		"unitgate.cmd.shop.unit.put", "unitgate.journal.shop", "unitgate.namespaces", "hear unitgate.live.shop.>",
		"unitgate.edge.other." + of[0] + ".e.join", "hear unitgate.edge.shop." + of[0] + ".*.join",
	}
	for _, other := range edgeUsers {
		if other[0] == of[0] && (of[1] == "*" || other[1] == "*" || other[1] == of[1]) {
			continue
		}
		edge := "unitgate.edge.shop." + other[0] + "." + strings.Replace(other[1], "*", "any", 1) + "."
		for _, word := range says {
			all = append(all, edge+word)
		}
		for _, word := range hears {
			all = append(all, "hear "+edge+word)
		}
	}
	for _, word := range hears { // a question is the control plane's
		all = append(all, "unitgate.edge.shop.center.center-1."+word, "hear unitgate.edge.shop.*.*."+word)
	}
	return all
}

// TestDeployedRefuses tries to do as each user what is another's, on the single-node config of deployments/nats, while
// its processes run: nothing of it is let through, and all the same nobody is kept from his work.
func TestDeployedRefuses(t *testing.T) {
	t.Parallel()
	d := startDeployed(t, "single.conf", 1, 1)
	for user, subjects := range refused(d.keys) {
		complaints := make(chan error, 1)
		nc := d.connect(t, user, complaints)
		for _, s := range subjects {
			d.refuses(t, user, nc, complaints, s)
		}
		nc.Close()
	}
	d.answers(t)
	d.repliesStay(t)
	d.works(t)
	d.snapshots(t)
	d.undisturbed(t)

	// The same from inside the account with the journal, to see that these tests would notice.
	before := d.head(t)
	inside := d.connect(t, "admin", nil)
	if err := inside.PublishRequest("$JS.API.STREAM.INFO.UNITGATE_shop", intoJournal(), nil); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, recovers, "a server's answer is in the journal", func() bool { return d.head(t) > before })
}

// refuses tries one thing and waits for the server's refusal.
func (d *deployed) refuses(t *testing.T, user string, nc *nats.Conn, complaints <-chan error, what string) {
	t.Helper()
	verb := "Publish"
	subject, hear := strings.CutPrefix(what, "hear ")
	var err error
	if hear {
		verb = "Subscription"
		_, err = nc.SubscribeSync(subject)
	} else {
		err = nc.PublishRequest(subject, nc.NewInbox(), []byte("{}"))
	}
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-complaints:
		if want := fmt.Sprintf("Permissions Violation for %s to %q", verb, subject); !strings.Contains(err.Error(), want) {
			t.Errorf("%s, %s: %v; want %s", user, what, err, want)
		}
	case <-time.After(recovers):
		t.Errorf("%s, %s: nothing was refused", user, what)
	}
}

// mayAsk is what each reader may ask.
func mayAsk() map[string][]string {
	all := map[string][]string{}
	for _, user := range []string{"operator", "observer"} {
		all[user] = []string{manifest, "unitgate.journal.shop", "unitgate.namespaces", "unitgate.api.shop.cutover.show", "unitgate.edge.shop.center.center-1.status"}
	}
	all["operator"] = append(all["operator"], "unitgate.api.shop.unit.put")
	for user, of := range edgeUsers {
		own := "unitgate.edge.shop." + of[0] + "." + strings.Replace(of[1], "*", "nobody", 1) + "."
		all[user] = []string{manifest, own + "join", own + "leave", own + "read"}
	}
	return all
}

// answers asks as each user what it may ask: it is answered, once, on the user's own inbox.
func (d *deployed) answers(t *testing.T) {
	t.Helper()
	harness.Eventually(t, recovers, "a controller takes a snapshot", func() bool {
		m, err := d.connect(t, "observer", nil).Request(manifest, nil, recovers)
		return err == nil && m.Header.Get("Status") == ""
	})
	for user, subjects := range mayAsk() {
		nc := d.connect(t, user, nil)
		for _, subject := range subjects {
			sub, err := nc.SubscribeSync(nc.NewInbox())
			if err == nil {
				err = nc.PublishRequest(subject, sub.Subject, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sub.NextMsg(recovers); err != nil {
				t.Errorf("%s, %s: %v", user, subject, err)
			}
			if m, err := sub.NextMsg(20 * time.Millisecond); err == nil {
				t.Errorf("%s, %s: a second answer: %v %s", user, subject, m.Header, m.Data)
			}
		}
		nc.Close()
	}
}

func intoJournal() string { return "unitgate.evt.shop.unit.put." + uuid.NewString() }

// repliesStay asks what a role may ask, and has the answers sent to where it may not write: a server does not compare
// reply subjects with permissions, and would write there in the asker's place. Accounts are what keeps them in.
func (d *deployed) repliesStay(t *testing.T) {
	t.Helper()
	before := d.head(t)
	for user, subjects := range mayAsk() {
		nc := d.connect(t, user, nil)
		for _, q := range subjects {
			for _, reply := range []string{
				intoJournal(), "unitgate.outcome.shop." + someID, "$KV.UNITGATE_OFFICE.shop", "unitgate.cmd.shop.unit.put", "$JS.API.STREAM.DELETE.UNITGATE_CMD",
				"unitgate.beacon.shop", "unitgate.news.shop", "unitgate.live.shop.unit.put." + someID,
			} {
				if err := nc.PublishRequest(q, reply, []byte("{}")); err != nil {
					t.Fatal(err)
				}
			}
		}
		// An answer shows that those before it have been given.
		if _, err := nc.Request(subjects[1], nil, recovers); err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		nc.Close()
	}
	if after := d.head(t); after != before {
		t.Errorf("the journal has gone from %d to %d", before, after)
	}
	d.as("observer").Run(t, "journal", "verify").OK(t)
	if r := d.as("operator").Run(t, "outcome", someID); r.Code == 0 {
		t.Errorf("an outcome was planted: %s", r.Stdout)
	}
}

// works gives commands as an operator does, both ways, and reads as an observer does.
func (d *deployed) works(t *testing.T) {
	t.Helper()
	before := d.head(t)
	d.Run(t, "queue", "unit.put", `{"id":"unsh"}`, "--wait").OK(t)
	if after := d.head(t); after != before+1 {
		t.Errorf("one command has taken the journal from %d to %d", before, after)
	}
	d.Run(t, "evict", "--router-id", "1", "--reason", "test").OK(t)
	for _, args := range [][]string{{"get", "edges"}, {"get", "sessions"}, {"get", "namespaces"}, {"route", "1"}, {"log"}, {"export"}, {"get", "dns"}} {
		d.as("observer").Run(t, args...).OK(t)
	}
	nc := d.connect(t, "observer", nil)
	live, err := nc.SubscribeSync("unitgate.live.shop.>")
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	id := d.Cutover(t, append([]string{"preview"}, toCenter...)...).ID
	if m, err := live.NextMsg(recovers); err != nil || !strings.Contains(string(m.Data), id) {
		t.Errorf("live: %v, %v", m, err)
	}
}

// snapshots waits for a snapshot and for one that takes its place, and starts an edge that begins with it.
func (d *deployed) snapshots(t *testing.T) {
	t.Helper()
	taken := uint64(0)
	for n := range 2 {
		d.Run(t, "queue", "unit.put", fmt.Sprintf(`{"id":"unsh","name":"%d"}`, n), "--wait").OK(t)
		harness.Eventually(t, recovers, "a controller takes a snapshot", func() bool {
			var verdict struct{ Snapshot *struct{ Seq uint64 } }
			d.as("observer").Run(t, "journal", "verify").OK(t).JSON(t, &verdict)
			if verdict.Snapshot == nil || verdict.Snapshot.Seq <= taken {
				return false
			}
			taken = verdict.Snapshot.Seq
			return true
		})
	}
	u := d.units[0]
	d.edges = append(d.edges, d.StartEdge(t, u.ID+"-9", u, freeAddr(t), "--nkey", d.keys.Edge(u.ID, u.ID+"-9")))
}

// head is the journal's, as its account sees it.
func (d *deployed) head(t *testing.T) uint64 {
	t.Helper()
	return d.state(t).LastSeq
}
