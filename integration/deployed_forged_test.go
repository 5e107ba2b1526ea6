package integration_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/integration/harness"
)

// attacker is a process that holds the seed of one unit's edges, and keys of its own making.
type attacker struct {
	t      *testing.T
	nc     *nats.Conn
	denied chan error // what the server says about permissions
	signer ed25519.PrivateKey
	key    string // Edge.Key that belongs to signer
}

func (d *deployed) attacker(t *testing.T, role string) *attacker {
	a := &attacker{t: t, denied: make(chan error, 16)}
	a.nc = d.connect(t, role, a.denied)
	a.keys("attacker")
	return a
}

// keys makes keys that it signs with from now on.
func (a *attacker) keys(of string) {
	for i := 0; ; i++ {
		seed := sha256.Sum256(fmt.Appendf(nil, "%s %d", of, i))
		if signer, agree, err := events.DeriveKeys(seed[:]); err == nil {
			a.signer, a.key = signer, hex.EncodeToString(agree.PublicKey().Bytes())
			return
		}
	}
}

// command gives a command about an edge on a subject, signed or not, and returns the code of
// the answer: "" if it took effect, "denied" if NATS lets it through to no process.
func (a *attacker) command(subject string, signed bool, data any) (code string) {
	a.t.Helper()
	harness.Eventually(a.t, recovers, "the control plane has time for it", func() bool {
		code = a.try(subject, signed, data)
		return code != "busy" // nobody may ask that often
	})
	return code
}

// try is command once.
func (a *attacker) try(subject string, signed bool, data any) string {
	a.t.Helper()
	body, err := json.Marshal(map[string]any{"id": uuid.NewString(), "actor": "edge/" + strings.Split(subject, ".")[4], "data": data})
	if err != nil {
		a.t.Fatal(err)
	}
	m := &nats.Msg{Subject: subject, Data: body}
	if signed {
		m.Header = events.SignedHeaders(a.signer, subject, time.Now().Add(time.Minute).UTC().Format(time.RFC3339), body)
	}
	m.Reply = a.nc.NewInbox()
	answers := make(chan *nats.Msg, 2)
	sub, err := a.nc.ChanSubscribe(m.Reply, answers)
	if err == nil {
		defer func() { _ = sub.Unsubscribe() }()
		err = a.nc.PublishMsg(m)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	var answer *nats.Msg
	select {
	case answer = <-answers:
	case err := <-a.denied:
		if !strings.Contains(err.Error(), "Permissions Violation for Publish to \""+subject+"\"") {
			a.t.Errorf("%s: %v", subject, err)
		}
		return "denied"
	case <-time.After(recovers):
		a.t.Fatalf("%s: no answer", subject)
	}
	var o struct {
		OK    bool
		Error *events.Error
	}
	if err := json.Unmarshal(answer.Data, &o); err != nil {
		a.t.Fatal(err)
	}
	if o.OK {
		return ""
	}
	return o.Error.Code
}

// registered are the edges as the journal has them: anybody may read that.
func (d *deployed) registered(t *testing.T) map[string]events.EdgeJoined {
	t.Helper()
	out := map[string]events.EdgeJoined{}
	for _, line := range strings.Split(strings.TrimSpace(d.as("observer").Run(t, "log").OK(t).Stdout), "\n") {
		var r struct {
			Type string
			Data json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Type == "EdgeJoined" {
			var e events.EdgeJoined
			if err := json.Unmarshal(r.Data, &e); err != nil {
				t.Fatal(err)
			}
			out[e.ID] = e
		}
	}
	return out
}

// TestDeployedForgers does, with the key of each unit's edges, all that could be said in the
// name of another edge, of the same unit and of the other: it can be read in the journal what
// an edge is, and nothing of that is a proof (S1, S2). No edge comes, goes, moves or changes.
func TestDeployedForgers(t *testing.T) {
	t.Parallel()
	d := startDeployed(t, "single.conf", 1, 2)
	before := d.registered(t)
	for role, unit := range map[string]string{"edge-center": "center", "edge-unbj": "unbj"} {
		a := d.attacker(t, role)
		for id, e := range before {
			subject := func(unit, id, verb string) string { return events.EdgeSubject("shop", unit, id, verb) }
			own := e.Unit == unit
			refused := func(what, got string, want ...string) {
				t.Helper()
				for _, w := range want {
					if got == w {
						return
					}
				}
				t.Errorf("%s about %s: %s: %q, want one of %q", role, id, what, got, want)
			}
			// On the edge's own subject NATS keeps the other unit out, and its signature the own one.
			wall := "denied"
			if own {
				wall = "bad_signature"
			}
			moved, replaced := e, e
			moved.Address, replaced.Key = "127.0.0.1:1", a.key
			for _, signed := range []bool{false, true} {
				for what, data := range map[string]any{"leave": events.LeaveEdge{ID: id, Directory: e.Directory}, "join": moved} {
					refused(fmt.Sprintf("%s, signed %t", what, signed), a.command(subject(e.Unit, id, what), signed, data), wall)
				}
				refused("another key", a.command(subject(e.Unit, id, "join"), signed, replaced), wall)
				refused("leave on the api", a.command("unitgate.api.shop.edge.leave", signed, events.LeaveEdge{ID: id, Directory: e.Directory}), "denied", "bad_signature")
			}
			// On a subject of the attacker's own.
			mine := subject(unit, "mine", "leave")
			refused("leave on another subject", a.command(mine, true, events.LeaveEdge{ID: id, Directory: e.Directory}), "wrong_subject")
			next := events.JoinEdge{
				ID: "mine", Directory: events.Fingerprint(a.key), Unit: e.Unit, Cluster: e.Cluster, Address: e.Address, Key: a.key,
				Succeeds: id, SucceedsDirectory: e.Directory, SucceedsProof: events.SignSuccession(a.signer, "shop", id, "mine", a.key),
			}
			// What stands in no list: its own id, in its own unit or in the other one, in the place of an edge.
			refused("succession", a.command(subject(unit, "mine", "join"), true, next), "wrong_subject", "bad_signature")
			next.SucceedsProof = ""
			refused("succession without a word for it", a.command(subject(unit, "mine", "join"), true, next), "wrong_subject", "bad_signature")
			next.Succeeds, next.SucceedsDirectory, next.Directory = "", "", e.Directory
			refused("a directory of another edge", a.command(subject(unit, "mine", "join"), false, next), "wrong_subject", "bad_signature")
			refused("another unit's subject", a.command(subject(e.Unit, "mine", "join"), true, next), "denied", "address_taken")
		}
	}
	if after := d.registered(t); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("edges were %v and are %v", before, after)
	}
	for _, e := range d.edges {
		if !e.Running() {
			t.Errorf("edge %s has ended", e.Addr)
		}
	}
}

// TestDeployedForgedDrain is S9: while a losing edge evicts one session a second, a process
// with the key of its unit says in its name, over and over, that it has drained. The wave
// waits for the edge itself, and no user is served by two units.
func TestDeployedForgedDrain(t *testing.T) {
	t.Parallel()
	d := startDeployed(t, "single.conf", 1, 1)
	var sessions []*harness.Client
	for range 4 {
		sessions = append(sessions, harness.MustDial(t, harness.Handshake{Addr: d.edges[1].Addr, Host: d.Domain, RouterID: "6249"}))
	}
	a := d.attacker(t, "edge-unbj")
	id := d.Cutover(t, append(append([]string{"preview"}, toCenter...), "--waves", "1", "--rate", "1")...).ID
	d.Run(t, "cutover", "start", id).OK(t)
	said := 0
	var fence uint64
	ends := make(chan struct{})
	go func() {
		defer close(ends)
		for _, c := range sessions {
			for {
				if _, err := c.Read(recovers); err != nil {
					break
				}
			}
		}
	}()
	done := d.AwaitCutover(t, id, recovers, "it completes", func(c harness.Cutover) bool {
		status := d.status(t, "unbj-1")
		for _, f := range status.Fences {
			fence = f.Fence
		}
		if fence > 0 {
			forged := status.EdgeReport
			forged.Fences = []events.FenceReport{{Cutover: id, Fence: fence, Drained: true}}
			forged.Serial += 1000
			a.say(forged, false)
			a.say(forged, true)
			said += 2
		}
		if c.State == "completed" {
			return true
		}
		return false
	})
	if said == 0 {
		t.Fatal("nothing was forged")
	}
	<-ends // each session was ended by its edge before the commit, or this hangs
	if c := d.Cutover(t, "show", done.ID); c.Evicted != len(sessions) {
		t.Errorf("evicted %d of %d: the commit did not wait", c.Evicted, len(sessions))
	}
	if o := d.seen.Overlaps(); len(o) > 0 {
		t.Errorf("served by two units: %v", o)
	}
}

// status is what an edge answers of itself, as an observer may ask.
func (d *deployed) status(t *testing.T, edge string) (s events.EdgeStatus) {
	t.Helper()
	nc := d.connect(t, "observer", nil)
	defer nc.Close()
	unit, _, _ := strings.Cut(edge, "-")
	m, err := nc.Request(events.EdgeSubject("shop", unit, edge, "status"), nil, recovers)
	if err == nil {
		err = json.Unmarshal(m.Data, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// say publishes a report in an edge's name.
func (a *attacker) say(r events.EdgeReport, signed bool) {
	a.t.Helper()
	subject := events.EdgeSubject(r.Namespace, r.Unit, r.Edge, "report")
	body, err := json.Marshal(r)
	if err != nil {
		a.t.Fatal(err)
	}
	m := &nats.Msg{Subject: subject, Data: body}
	if signed {
		m.Header = events.SignedHeaders(a.signer, subject, "", body)
	}
	if err := a.nc.PublishMsg(m); err != nil {
		a.t.Fatal(err)
	}
}

// TestDeployedGhosts is the other half of S2: a unit's key invents edges. There are only so
// many, the rest is refused with what to do, and one command retires those that came in.
func TestDeployedGhosts(t *testing.T) {
	harness.Long(t, "two thousand joins")
	t.Parallel()
	d := startDeployed(t, "single.conf", 1, 1)
	a := d.attacker(t, "edge-unbj")
	unsigned := events.JoinEdge{ID: "ghost", Directory: uuid.NewString(), Unit: "unbj", Cluster: d.units[1].Cluster(), Address: "127.9.9.9:1", Key: a.key}
	if code := a.command(events.EdgeSubject("shop", "unbj", "ghost", "join"), false, unsigned); code != "bad_signature" {
		t.Errorf("an unsigned ghost beside edges that sign: %q", code)
	}
	codes := map[string]int{}
	var ghosts []string
	for i := range 2000 {
		id := "ghost-" + strconv.Itoa(i)
		a.keys(id)
		j := events.JoinEdge{ID: id, Directory: events.Fingerprint(a.key), Key: a.key, Unit: "unbj", Cluster: d.units[1].Cluster(), Address: fmt.Sprintf("127.9.%d.%d:1", i/250, i%250)}
		code := a.command(events.EdgeSubject("shop", "unbj", id, "join"), true, j)
		if codes[code]++; code == "" {
			ghosts = append(ghosts, id)
		}
	}
	t.Logf("%v", codes)
	if len(ghosts) >= events.MaxEdges || codes["cluster_full"] == 0 {
		t.Errorf("%d of 2000 ghosts came in: %v", len(ghosts), codes)
	}
	d.Run(t, append(append([]string{"edge-retire"}, ghosts...), "--reason", "invented by a stolen key")...).OK(t)
	harness.Eventually(t, recovers, "the ghosts are gone", func() bool {
		n := 0
		for _, e := range d.Edges(t) {
			if strings.HasPrefix(e.ID, "ghost-") {
				n++
			}
		}
		return n == 0
	})
}
