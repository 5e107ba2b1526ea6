package events

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"testing"
)

// identity is an edge with keys of its own, and a directory named by them.
type identity struct {
	join   JoinEdge
	signer ed25519.PrivateKey
	public string // of signer, in hex
}

// identityOf makes the n-th seed's identity for an edge.
func identityOf(t testing.TB, edge string, n int) identity {
	t.Helper()
	signer, agree, err := DeriveKeys(seeds(n + 1)[n])
	if err != nil {
		t.Fatal(err)
	}
	id := identity{joinOf(edge), signer, hex.EncodeToString(signer.Public().(ed25519.PublicKey))}
	id.join.Key = hex.EncodeToString(agree.PublicKey().Bytes())
	id.join.Directory = Fingerprint(id.join.Key)
	return id
}

// as sends a command under a signature; the test's other commands have none.
func (w *world) as(signer string, c Command) (Event, error) {
	w.t.Helper()
	env := w.envelope(c)
	env.Signer = signer
	return w.tryEnvelope(env)
}

func (w *world) mustAs(signer string, c Command) {
	w.t.Helper()
	if _, err := w.as(signer, c); err != nil {
		w.t.Fatalf("%+v: %v", c, err)
	}
}

// S1, S2: what is said in an edge's name without its signature, or with another's, changes
// nothing, whatever else it knows of the edge.
func TestOnlyAnEdgeSpeaksForItself(t *testing.T) {
	own, other, fresh := identityOf(t, "bj-5", 0), identityOf(t, "hz-5", 1), identityOf(t, "bj-6", 2)
	next := fresh.join
	next.Succeeds, next.SucceedsDirectory, next.Address = "bj-5", own.join.Directory, own.join.Address
	proof := func(by ed25519.PrivateKey, namespace, old, id, key string) JoinEdge {
		j := next
		j.SucceedsProof = SignSuccession(by, namespace, old, id, key)
		return j
	}
	moved := func(change func(j *JoinEdge)) JoinEdge { j := own.join; change(&j); return j }
	leave := LeaveEdge{ID: "bj-5", Directory: own.join.Directory}
	for _, tt := range []struct {
		name    string
		signer  string
		command Command
		field   string // "": accepted
	}{
		{"leave, unsigned", "", leave, "id"},
		{"leave, signed by another unit's edge", other.public, leave, "id"},
		{"leave, signed by a stranger", fresh.public, leave, "id"},
		{"leave, signed by itself", own.public, leave, ""},
		{"address, unsigned", "", moved(func(j *JoinEdge) { j.Address = "evil.example:1" }), "id"},
		{"address, signed by another", other.public, moved(func(j *JoinEdge) { j.Address = "evil.example:1" }), "id"},
		{"address, signed by itself", own.public, moved(func(j *JoinEdge) { j.Address = "new.example:1" }), ""},
		{"key of the attacker, signed by it", other.public, moved(func(j *JoinEdge) { j.Key = other.join.Key }), "key"},
		{"key of the attacker, unsigned", "", moved(func(j *JoinEdge) { j.Key = other.join.Key }), "key"},
		{"another key, signed by the old one", own.public, moved(func(j *JoinEdge) { j.Key = other.join.Key }), "key"},
		{"succession by the public directory", fresh.public, next, "succeedsProof"},
		{"succession signed by the successor", fresh.public, proof(fresh.signer, "shop", "bj-5", "bj-6", fresh.join.Key), "succeedsProof"},
		{"succession of another namespace", fresh.public, proof(own.signer, "other", "bj-5", "bj-6", fresh.join.Key), "succeedsProof"},
		{"succession for another id", fresh.public, proof(own.signer, "shop", "bj-5", "bj-7", fresh.join.Key), "succeedsProof"},
		{"succession for another key", fresh.public, proof(own.signer, "shop", "bj-5", "bj-6", other.join.Key), "succeedsProof"},
		{"succession of another edge", fresh.public, proof(own.signer, "shop", "bj-4", "bj-6", fresh.join.Key), "succeedsProof"},
		{"succession, unsigned join", "", proof(own.signer, "shop", "bj-5", "bj-6", fresh.join.Key), "id"},
		{"succession", fresh.public, proof(own.signer, "shop", "bj-5", "bj-6", fresh.join.Key), ""},
		{"first join, unsigned", "", fresh.join, "id"},
		{"first join, signed by another", own.public, fresh.join, "id"},
		{"first join with a random directory, signed by another", own.public, func() JoinEdge { j := fresh.join; j.Directory = directoryOf("bj-6"); return j }(), "id"},
		{"first join under another's key and directory", fresh.public, func() JoinEdge { j := own.join; j.ID, j.Address = "bj-6", fresh.join.Address; return j }(), "id"},
		{"first join", fresh.public, fresh.join, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := shop(t)
			w.mustAs(own.public, own.join)
			w.mustAs(other.public, other.join)
			_, err := w.as(tt.signer, tt.command)
			if tt.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			w.refused(tt.command, err, ErrBadSignature, tt.field)
		})
	}
}

// An edge whose directory is of a version without signatures: it goes on as before, gets a
// key when it is upgraded, and the operator's word ends the exception.
func TestEdgeOfAVersionWithoutSignatures(t *testing.T) {
	own, other := identityOf(t, "bj-1", 0), identityOf(t, "bj-1", 1)
	keyed := func(id identity) JoinEdge { j := joinOf("bj-1"); j.Key = id.join.Key; return j }
	w := shop(t)
	w.do(func() JoinEdge { j := joinOf("bj-1"); j.Address = "unsigned.example:1"; return j }())
	w.mustAs(own.public, keyed(own)) // upgraded
	w.do(joinOf("bj-1"))             // and back: its old version has no key, or another one
	w.mustAs(own.public, keyed(own))

	_, err := w.as(other.public, LeaveEdge{ID: "bj-1", Directory: directoryOf("bj-1")})
	w.refused("leave by a stranger's signature", err, ErrBadSignature, "id")

	strict := func(signer string, c Command) error {
		env := w.envelope(c)
		env.Signer, env.Signatures = signer, SignaturesRequired
		_, err := w.tryEnvelope(env)
		return err
	}
	w.refused("unsigned", strict("", keyed(own)), ErrBadSignature, "id")
	w.refused("the attacker's key", strict(other.public, keyed(other)), ErrBadSignature, "key")
	w.refused("no key", strict("", joinOf("bj-9")), ErrBadSignature, "id")
	w.refused("leave", strict("", LeaveEdge{ID: "bj-1", Directory: directoryOf("bj-1")}), ErrBadSignature, "id")
	w.refused("succession", strict(own.public, successor("bj-1", "hz-1")), ErrEdgeMoved, "succeeds")
	if err := strict(own.public, LeaveEdge{ID: "bj-1", Directory: directoryOf("bj-1")}); err != nil {
		t.Fatal(err)
	}
}

// Ghosts of one cluster are bounded, and those that are gone make room.
func TestClusterIsFull(t *testing.T) {
	w := shop(t)
	w.large = true
	join := func(i int) JoinEdge {
		j := joinOf(fmt.Sprintf("hz-%03d", i))
		return j
	}
	n := 0
	for w.s.registered("ws-hz-2") < MaxEdges {
		w.do(join(n))
		n++
	}
	w.refuse(join(n), ErrClusterFull, "cluster")
	w.do(joinOf("bj-7")) // another cluster has room
	w.do(RetireEdge{ID: "hz-000", Reason: "a ghost"})
	w.do(join(n))
}

// Beside an edge that signs, no new one joins without a signature, unless the operator lets
// it; where none signs yet, an upgrade needs no setting. S2: a ghost needs no more than this.
func TestUnsignedFirstJoins(t *testing.T) {
	own := identityOf(t, "bj-5", 0)
	ghost := joinOf("hz-7") // with a random directory, as a version without signatures has
	ghost.Key = identityOf(t, "hz-7", 1).join.Key
	try := func(w *world, demand Signatures) error {
		env := w.envelope(ghost)
		env.Signatures = demand
		_, err := Decide(w.s, "shop", env, w.now)
		return err
	}
	w := shop(t)
	for demand, want := range map[Signatures]bool{SignaturesAuto: true, SignaturesOptional: true, SignaturesRequired: false} {
		if err := try(w, demand); (err == nil) != want {
			t.Errorf("%q, no edge signs: %v", demand, err)
		}
	}
	w.mustAs(own.public, own.join)
	for demand, want := range map[Signatures]bool{SignaturesAuto: false, SignaturesOptional: true, SignaturesRequired: false} {
		if err := try(w, demand); (err == nil) != want {
			t.Errorf("%q, an edge signs: %v", demand, err)
		}
	}
	w.do(func() JoinEdge { j := joinOf("hz-1"); j.Address = "moved.example:1"; return j }()) // registered before
	w.mustAs(own.public, LeaveEdge{ID: "bj-5", Directory: own.join.Directory})
	if err := try(w, SignaturesAuto); err != nil {
		t.Errorf("the only edge that signs is gone: %v", err)
	}
}
