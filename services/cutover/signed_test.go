package cutover

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/unitgate/unitgate/events"
)

// keysOf are an edge's key in the journal, and the public key of what it signs.
func keysOf(t *testing.T, name string) (key, signer string) {
	t.Helper()
	for i := 0; ; i++ {
		seed := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, i))
		if s, agree, err := events.DeriveKeys(seed[:]); err == nil {
			return hex.EncodeToString(agree.PublicKey().Bytes()), hex.EncodeToString(s.Public().(ed25519.PublicKey))
		}
	}
}

// signed gives a command that is signed, and must be accepted.
func (r *rig) signed(signer string, c events.Command) {
	r.t.Helper()
	if err := r.tryAs(signer, r.id(), c); err != nil {
		r.t.Fatal(err)
	}
}

// join registers an edge that signs, in b1's unit, and returns what it asks.
func (r *rig) join(id, key, signer string) events.LeaseRequest {
	r.t.Helper()
	r.signed(signer, events.JoinEdge{ID: id, Directory: events.Fingerprint(key), Unit: "unbj", Cluster: "bj", Address: "127.0.0.1:7299", Key: key})
	r.read()
	q := r.request("b1", testLease)
	q.Edge, q.Directory, q.Applied, q.Incarnation = id, events.Fingerprint(key), r.head.Seq, "p-"+id
	return q
}

// S9: a report in an edge's name without its signature is not heard, whatever it says.
func TestReportNeedsItsEdgesSignature(t *testing.T) {
	r := exclusiveRig(t)
	key, signer := keysOf(t, "own")
	_, other := keysOf(t, "other")
	q := r.join("b7", key, signer)
	q.Serial = 1
	for name, by := range map[string]string{"unsigned": "", "another edge's": other, "its X25519 key": key} {
		if r.d.hear(q.EdgeReport, by) {
			t.Errorf("%s: heard", name)
		}
		if a, _ := r.askAs(q, by); a == nil || a.Refused == nil || a.Refused.Code != "bad_signature" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if _, spoke := r.d.Voice("b7"); spoke {
		t.Fatal("the edge has a voice that is not its own")
	}
	if !r.d.hear(q.EdgeReport, signer) {
		t.Fatal("its own report is not heard")
	}
}

// R2, R6: what was recorded and is sent once more says nothing, and gets no lease.
func TestSaidOnceMore(t *testing.T) {
	r := exclusiveRig(t)
	key, signer := keysOf(t, "own")
	q := r.join("b7", key, signer)
	first, second := q.EdgeReport, q.EdgeReport
	first.Serial, second.Serial, second.Sessions = 1, 2, map[string]int{"unit_type": 5}
	if !r.d.hear(first, signer) || !r.d.hear(second, signer) {
		t.Fatal("not heard")
	}
	if r.d.hear(first, signer) || r.d.hear(second, signer) {
		t.Error("a report counts twice")
	}
	if a, _ := r.askAs(q, signer); a == nil || a.Lease == 0 {
		t.Fatalf("%+v", a)
	}
	given := r.d.tenure.given["b7"]
	r.hold(3 * events.LeaseEvery)
	if a, _ := r.askAs(q, signer); a != nil {
		t.Errorf("a request that was answered gets %+v", a)
	}
	if r.d.tenure.given["b7"] != given {
		t.Error("a recorded request counts as a grant")
	}
	if v, _ := r.d.Voice("b7"); v.Serial != 2 || v.Sessions["unit_type"] != 0 {
		t.Errorf("%+v", v) // the request's report was the newest
	}
}

// An edge of a version without signatures is heard until it signs, or the operator ends that.
func TestEdgeThatDoesNotSignYet(t *testing.T) {
	r := exclusiveRig(t)
	key, signer := keysOf(t, "own")
	_, other := keysOf(t, "other")
	report := r.report("b1")
	e := r.head.Edges["b1"]
	r.signed(signer, events.JoinEdge{ID: e.ID, Directory: e.Directory, Unit: e.Unit, Cluster: e.Cluster, Address: e.Address, Capacity: e.Capacity, Key: key})
	r.read()
	report.Applied = r.head.Seq
	if !r.d.hear(report, "") || r.d.hear(report, other) || !r.d.hear(report, signer) {
		t.Error("unsigned and its own count, another's does not")
	}
	if r.d.hear(report, "") {
		t.Error("it has signed: what is unsigned is not its own any more")
	}
	r.d.cfg.Signatures = events.SignaturesRequired
	if b2 := r.report("b2"); r.d.hear(b2, "") {
		t.Error("unsigned, although that is over")
	}
}
