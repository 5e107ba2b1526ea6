package agent

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
)

// hopWorld has a domain that passes handshakes on, and edges with keys: two of each unit, and one of another cluster.
func hopWorld(t *testing.T) (w *world, dirs map[string]*StateDir) {
	t.Helper()
	w, dirs = newWorld(t, nil), map[string]*StateDir{}
	w.do(events.PutCluster{Cluster: events.Cluster{ID: "ws-other", Unit: "center"}})
	d := config().Domains[0]
	d.Correction = "proxy"
	w.do(events.PutDomain{Domain: d})
	w.do(events.ActivateDomain{Host: d.Host})
	for id, cluster := range map[string]string{"bj-1": "ws-bj", "hz-1": "ws-hz", "hz-2": "ws-hz", "hz-9": "ws-other"} {
		dirs[id] = openDir(t, t.TempDir(), id)
		unit := map[string]string{"ws-bj": "unbj"}[cluster]
		if unit == "" {
			unit = "center"
		}
		w.do(events.JoinEdge{
			ID: id, Directory: directoryOf(id), Unit: unit, Cluster: cluster, Address: id + ".example:80",
			Key: dirs[id].PublicKey(),
		})
	}
	w.join("hz-0", "center", "ws-hz", "hz-0.example:80") // of a version without keys
	return w, dirs
}

// hopView is the view of one of its edges.
func hopView(w *world, dirs map[string]*StateDir, unit, id string) *handshake.View {
	v := views{self: self(unit, id), keys: hopKeys{own: dirs[id].Key()}}
	return v.build(w.state.Clone())
}

// Handshakes are passed on to the edges of the domain's effective cluster that accept, and each two edges share a secret
// that no other two have.
func TestHops(t *testing.T) {
	w, dirs := hopWorld(t)
	v := hopView(w, dirs, "unbj", "bj-1")
	site := v.Sites["websocket.localhost"]
	if site.Correction != "proxy" || len(site.Edges) != 1 || site.Edges["center"].Unit != "center" {
		t.Fatalf("%+v", site)
	}
	var addrs []string
	for _, p := range site.Edges["center"].Peers {
		addrs = append(addrs, p.Address)
	}
	if !slices.Equal(addrs, []string{"hz-1.example:80", "hz-2.example:80"}) {
		t.Errorf("passed on to %q", addrs)
	}
	if v.ID != "bj-1" || len(v.Peers) != 3 || v.Peers["bj-1"] != nil || v.Peers["hz-0"] != nil {
		t.Errorf("peers %v", v.Peers)
	}
	seen := map[string]bool{}
	for _, id := range []string{"hz-1", "hz-2", "hz-9"} {
		theirs := hopView(w, dirs, "center", id)
		if !bytes.Equal(v.Peers[id].Secret, theirs.Peers["bj-1"].Secret) || len(v.Peers[id].Secret) != 32 || seen[string(v.Peers[id].Secret)] {
			t.Errorf("%s and bj-1 share %x and %x", id, v.Peers[id].Secret, theirs.Peers["bj-1"].Secret)
		}
		seen[string(v.Peers[id].Secret)] = true
		if theirs.Sites["websocket.localhost"].Edges["unbj"] == nil || theirs.Sites["websocket.localhost"].Edges["center"] != nil {
			t.Errorf("%s passes on to %v", id, theirs.Sites["websocket.localhost"].Edges)
		}
	}

	// One that has handed its sockets over still passes on what it has; nobody is passed on to it.
	dirs["hz-3"] = openDir(t, t.TempDir(), "hz-3")
	w.do(events.JoinEdge{
		ID: "hz-3", Directory: directoryOf("hz-3"), Unit: "center", Cluster: "ws-hz", Address: "hz-1.example:80",
		Key: dirs["hz-3"].PublicKey(), Succeeds: "hz-1", SucceedsDirectory: directoryOf("hz-1"),
	})
	w.do(events.RetireEdge{ID: "hz-2", Reason: "test"})
	v = hopView(w, dirs, "unbj", "bj-1")
	if p := v.Sites["websocket.localhost"].Edges["center"].Peers; len(p) != 1 || p[0].ID != "hz-3" || v.Peers["hz-1"] == nil || v.Peers["hz-2"] != nil {
		t.Errorf("passed on to %v, known are %v", p, v.Peers)
	}
	if p := v.Peers["hz-3"]; p.Before != v.Peers["hz-1"] || p.Before.Before != nil || v.Peers["hz-9"].Before != nil { // until it accepts, that one does
		t.Errorf("%+v takes the place of %+v", p, p.Before)
	}

	d := config().Domains[0]
	w.do(events.PutDomain{Domain: d})
	w.do(events.ActivateDomain{Host: d.Host})
	if v = hopView(w, dirs, "unbj", "bj-1"); v.Peers != nil || v.Sites["websocket.localhost"].Edges != nil {
		t.Errorf("nothing is passed on: %v", v.Peers)
	}
}

// An edge is known in TLS by the twin of its key in the journal; where its directory is the fingerprint of that key, in no
// other way.
func TestHopsAreKnownByTheirKeys(t *testing.T) {
	w, dirs := hopWorld(t)
	s := w.state.Clone()
	sealed := s.Edges["hz-2"]
	sealed.Directory = dirs["hz-2"].Identity()
	s.Edges["hz-2"] = sealed
	v := views{self: self("unbj", "bj-1"), keys: hopKeys{own: dirs["bj-1"].Key()}}
	for id, p := range v.build(s).Peers {
		if !p.Key.Equal(dirs[id].Signer().Public()) || p.Sure != (id == "hz-2") {
			t.Errorf("%s is known by %x, surely %v", id, p.Key, p.Sure)
		}
	}
}

// An edge's key outlives its process; a new state directory has another one. One that is damaged is refused.
func TestKeyOfAnEdge(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path, "bj-1")
	key := d.Key()
	_ = d.Close()
	d = openDir(t, path, "bj-1")
	if !key.Equal(d.Key()) || openDir(t, t.TempDir(), "bj-1").Key().Equal(key) {
		t.Error("a key belongs to its state directory")
	}
	if d.Identity() != events.Fingerprint(d.PublicKey()) {
		t.Errorf("identity %s is not the fingerprint of the key", d.Identity())
	}
	if twin, err := events.SigningKey(d.PublicKey()); err != nil || !twin.Equal(d.Signer().Public()) {
		t.Errorf("the edge signs with another key than the journal's: %x, %v", twin, err)
	}
	for _, seed := range []string{"zz", "", strings.Repeat("00", 31), strings.Repeat("00", 33)} {
		if err := d.write(seedFile, []byte(seed+"\n")); err != nil {
			t.Fatal(err)
		}
		_ = d.Close()
		if _, err := OpenStateDir(path, "bj-1"); !errors.Is(err, ErrDamaged) {
			t.Errorf("seed %q: %v", seed, err)
		}
	}
}

// A directory that a version without signatures made keeps its identity and gets keys.
func TestKeysOfAnOlderDirectory(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path, "bj-1")
	const random = "6f328162-0a7c-4f6e-9d0a-0a1b2c3d4e5f"
	if err := errors.Join(d.write(ownFile, []byte(random+"\n")), os.Remove(d.file(seedFile))); err != nil {
		t.Fatal(err)
	}
	before := d.PublicKey()
	_ = d.Close()
	d = openDir(t, path, "bj-1")
	if d.Identity() != random || d.PublicKey() == before || d.Signer() == nil {
		t.Errorf("identity %s, key %s", d.Identity(), d.PublicKey())
	}
}

// The secrets of edges that are gone are forgotten.
func TestHopKeysAreBounded(t *testing.T) {
	w, dirs := hopWorld(t)
	k := hopKeys{own: dirs["bj-1"].Key()}
	for i := range 100 {
		key := openKey(t, byte(i))
		k.with(key)
		k.forget(map[string]*handshake.Peer{"hz-1": {}}, w.state)
	}
	if k.with("no key").secret != nil || len(k.shared) > 11 {
		t.Errorf("%d secrets", len(k.shared))
	}
}

// openKey is some public key.
func openKey(t *testing.T, n byte) string {
	t.Helper()
	return hex.EncodeToString(append([]byte{9, n}, make([]byte, 30)...))
}
