package integration_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/unitgate/unitgate/integration/harness"
)

// What the accounts and permissions of deployments/nats refuse, by role. "hear" is a subscription, the rest are publishes.
var refused = map[string][]string{
	"edge-center": {
		"unitgate.evt.shop.unit.put." + someID,           // an event
		"_INBOX.somebody.1",                              // a grant: it is the answer to a request for a lease
		"hear unitgate.edge.*.*.*.lease",                 // and who hears none cannot answer
		"hear unitgate.edge.shop.unbj.unbj-1.evict",      // what another unit's edge is asked
		"unitgate.edge.shop.unbj.unbj-1.report",          // what another unit's edge says
		"unitgate.edge.shop.unbj.unbj-1.lease",           //
		"unitgate.edge.shop.unbj.unbj-1.join",            // and that it is there, or goes for good
		"unitgate.edge.shop.unbj.unbj-1.leave",           //
		"unitgate.edge.other.center.center-1.join",       // of another namespace
		"hear unitgate.edge.shop.center.center-1.join",   // and who hears none cannot answer
		"unitgate.edge.shop.center.center-2.evict",       // a question, which is the control plane's
		"unitgate.beacon.shop",                           // who vouches for the head
		"unitgate.api.shop.unit.put",                     // a command
		"unitgate.api.shop.edge.retire",                  // also one about edges
		"unitgate.api.shop.edge.join",                    // where the subject names no unit
		"unitgate.api.shop.edge.leave",                   //
		"unitgate.cmd.shop.unit.put",                     // a durable one
		"unitgate.outcome.shop." + someID,                //
		"$KV.UNITGATE_OFFICE.shop",                       // the office
		"$KV.UNITGATE_SNAPSHOTS.shop.manifest",           //
		"$JS.API.STREAM.DELETE.UNITGATE_shop",            // streams
		"$JS.API.CONSUMER.CREATE.UNITGATE_shop.c.filter", //
		"$JS.API.CONSUMER.NAMES.UNITGATE_shop",           // by which another edge's consumer could be found, and deleted
		"$SRV.PING", "$SYS.REQ.SERVER.PING",
	},
	"observer": {
		"unitgate.evt.shop.unit.put." + someID, "_INBOX.somebody.1", "unitgate.beacon.shop", "unitgate.outcome.shop." + someID,
		"unitgate.api.shop.unit.put", "unitgate.api.shop.config.apply", "unitgate.api.shop.cutover.start", "unitgate.cmd.shop.unit.put",
		"unitgate.api.shop.edge.join", "unitgate.edge.shop.center.center-1.evict", "unitgate.edge.shop.center.center-1.lease",
		"unitgate.edge.shop.center.center-1.count", "unitgate.edge.shop.center.center-1.standing", // the control plane's places
		"unitgate.edge.shop.center.center-1.report", "$KV.UNITGATE_OFFICE.shop", "$JS.API.STREAM.DELETE.UNITGATE_shop",
		"$JS.API.STREAM.UPDATE.UNITGATE_shop", "$JS.API.CONSUMER.NAMES.UNITGATE_shop", "hear unitgate.edge.>", "hear unitgate.api.>",
	},
	"operator": {
		"unitgate.evt.shop.unit.put." + someID, "_INBOX.somebody.1", "unitgate.beacon.shop", "unitgate.outcome.shop." + someID,
		"unitgate.api.other.unit.put", "unitgate.edge.shop.center.center-1.lease",
		"unitgate.edge.shop.center.center-1.count", "unitgate.edge.shop.center.center-1.standing", "unitgate.edge.shop.center.center-1.report",
		"$KV.UNITGATE_OFFICE.shop", "$JS.API.STREAM.DELETE.UNITGATE_shop", "$JS.API.STREAM.PURGE.UNITGATE_CMD", "hear unitgate.api.>",
	},
	"control": {
		"unitgate.api.shop.unit.put", "unitgate.cmd.shop.unit.put", "$JS.API.STREAM.DELETE.UNITGATE_shop", "$JS.API.STREAM.UPDATE.UNITGATE_shop",
		"$JS.API.STREAM.PURGE.UNITGATE_CMD", "$JS.API.STREAM.MSG.DELETE.UNITGATE_CMD", "$JS.API.META.LEADER.STEPDOWN",
	},
	"admin": {
		"unitgate.evt.shop.unit.put." + someID, "unitgate.api.shop.unit.put", "unitgate.cmd.shop.unit.put", "unitgate.beacon.shop", "$KV.UNITGATE_OFFICE.shop",
	},
}

const someID = "0b6e4ee1-2f6d-4f5e-9b0c-6f6b4d5b9d11"

// TestDeployedRefuses tries to do as each role what is another's, on the single-node config of deployments/nats, while
// its processes run: nothing of it is let through, and all the same nobody is kept from his work.
func TestDeployedRefuses(t *testing.T) {
	t.Parallel()
	d := startDeployed(t, "single.conf", 1, 1)
	for role, subjects := range refused {
		complaints := make(chan error, 1)
		nc := d.connect(t, role, complaints)
		for _, s := range subjects {
			verb := "Publish"
			subject, hear := strings.CutPrefix(s, "hear ")
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
					t.Errorf("%s, %s: %v; want %s", role, s, err, want)
				}
			case <-time.After(recovers):
				t.Errorf("%s, %s: nothing was refused", role, s)
			}
		}
	}
	d.joinsArrive(t)
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

// joinsArrive says as an edge that it joins and that it leaves: the control plane's account hears it on the edge's own
// subject, and its answer comes back.
func (d *deployed) joinsArrive(t *testing.T) {
	t.Helper()
	control, edge := d.connect(t, "control", nil), d.connect(t, "edge-center", nil)
	for _, what := range []string{"join", "leave"} {
		sub, err := control.SubscribeSync("unitgate.edge.*.*.*." + what)
		if err == nil {
			err = control.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		answers := make(chan error, 1)
		subject := "unitgate.edge.shop.center.nobody." + what
		go func() {
			_, err := edge.Request(subject, []byte("{}"), recovers)
			answers <- err
		}()
		m, err := sub.NextMsg(recovers)
		if err != nil || m.Subject != subject {
			t.Fatalf("%s: %v, %v", what, m, err)
		}
		if err := m.Respond(nil); err != nil {
			t.Fatal(err)
		}
		if err := <-answers; err != nil {
			t.Errorf("%s is not answered: %v", what, err)
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
	}
}

func intoJournal() string { return "unitgate.evt.shop.unit.put." + uuid.NewString() }

// repliesStay asks what a role may ask, and has the answers sent to where it may not write: a server does not compare
// reply subjects with permissions, and would write there in the asker's place. And it has consumers made that deliver
// there. Accounts are what keeps both in.
func (d *deployed) repliesStay(t *testing.T) {
	t.Helper()
	before := d.head(t)
	for role, questions := range map[string][]string{
		"edge-center": {"$JS.API.STREAM.INFO.UNITGATE_shop", "$JS.API.INFO", "unitgate.edge.shop.center.center-1.join", "unitgate.edge.shop.center.center-1.lease"},
		"observer":    {"$JS.API.STREAM.INFO.UNITGATE_shop", "unitgate.api.shop.cutover.show", "unitgate.edge.shop.center.center-1.status"},
		"operator":    {"$JS.API.STREAM.INFO.UNITGATE_shop", "unitgate.api.shop.unit.put", "unitgate.edge.shop.center.center-1.status"},
	} {
		nc := d.connect(t, role, nil)
		for _, q := range questions {
			for _, reply := range []string{intoJournal(), "unitgate.outcome.shop." + someID, "$KV.UNITGATE_OFFICE.shop", "unitgate.cmd.shop.unit.put", "$JS.API.STREAM.DELETE.UNITGATE_CMD"} {
				if err := nc.PublishRequest(q, reply, []byte("{}")); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, target := range []string{intoJournal(), "$KV.UNITGATE_OFFICE.shop", "unitgate.api.shop.unit.put", "unitgate.outcome.shop." + someID, "$JS.API.STREAM.DELETE.UNITGATE_CMD"} {
			name := uuid.NewString()
			body := fmt.Sprintf(`{"stream_name":"UNITGATE_shop","config":{"name":%q,"deliver_subject":%q,"ack_policy":"none","deliver_policy":"all","headers_only":true}}`, name, target)
			if _, err := nc.Request("$JS.API.CONSUMER.CREATE.UNITGATE_shop."+name, []byte(body), recovers); err != nil {
				t.Fatalf("%s: %v", role, err)
			}
		}
		// An answer shows that those before it have been given.
		if _, err := nc.Request("$JS.API.STREAM.INFO.UNITGATE_shop", nil, recovers); err != nil {
			t.Fatalf("%s: %v", role, err)
		}
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
	d.edges = append(d.edges, d.StartEdge(t, u.ID+"-9", u, freeAddr(t), "--nkey", d.keys.Seed("edge-"+u.ID)))
}

// head is the journal's, as its account sees it.
func (d *deployed) head(t *testing.T) uint64 {
	t.Helper()
	var info struct {
		State struct {
			LastSeq uint64 `json:"last_seq"`
		}
	}
	nc := d.connect(t, "admin", nil)
	defer nc.Close()
	m, err := nc.Request("$JS.API.STREAM.INFO.UNITGATE_shop", nil, recovers)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	return info.State.LastSeq
}
