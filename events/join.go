package events

import (
	"crypto/ed25519"
	"encoding/hex"
	"slices"
)

// MaxEdges is how many registered edges a cluster may have, those that take over included.
// Each one is asked before a wave is committed, so that ghosts stop every cutover.
const MaxEdges = 1000

func (s *State) decideJoin(c JoinEdge, env Envelope) (Event, error) {
	if err := CheckID(c.ID, "id"); err != nil {
		return nil, err
	}
	if _, ok := s.Units[c.Unit]; !ok {
		return nil, ErrUnknownUnit.With("there is no unit %q (known are %v): add it with apply or unit.put, or start the edge with another one", c.Unit, sortedKeys(s.Units)).At("unit")
	}
	cl, ok := s.Clusters[c.Cluster]
	if !ok {
		return nil, ErrUnknownCluster.With("there is no cluster %q (known are %v): add it with apply or cluster.put, or start the edge with another one", c.Cluster, sortedKeys(s.Clusters)).At("cluster")
	}
	if cl.Unit != c.Unit {
		return nil, ErrUnknownCluster.With("cluster %q belongs to unit %q: start the edge with that unit, or with a cluster of %q", c.Cluster, cl.Unit, c.Unit).At("cluster")
	}
	if len(cl.Instances) > 0 && !slices.Contains(cl.Instances, c.ID) {
		return nil, ErrNotAllowed.With("cluster %q lists the edges that may join, and %q is none of them: add it to its instances, or start the edge with an id that is", c.Cluster, c.ID).At("id")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Succeeds != "" {
		if err := s.decideSuccession(c, env); err != nil {
			return nil, err
		}
	}
	old, known := s.Edges[c.ID]
	if !known {
		if err := s.checkFirstSigner(c, env); err != nil {
			return nil, err
		}
		if n := s.registered(c.Cluster); n >= MaxEdges {
			return nil, ErrClusterFull.With("cluster %q has %d edges, the most that there may be: retire those that are gone (edge-retire), or join another cluster", c.Cluster, n).At("cluster")
		}
	}
	if known {
		if old.Gone != "" {
			return nil, ErrEdgeGone.With("edge %q has %s: start one with a new id and a new state directory", c.ID, old.Gone).At("id")
		}
		if err := old.CheckDirectory(c.Directory); err != nil {
			return nil, err
		}
		if err := old.checkSigner(env, c.Key); err != nil {
			return nil, err
		}
		if old.Unit != c.Unit || old.Cluster != c.Cluster {
			return nil, ErrEdgeMoved.With("edge %q belongs to unit %q, cluster %q: use a new id", c.ID, old.Unit, old.Cluster).At("id")
		}
		if next := s.Edges[old.Successor]; old.Successor != "" && next.Gone == "" {
			return nil, ErrEdgeSucceeded.With("edge %q has taken over from %s: clients come to that one", next.ID, c.ID).At("id")
		}
		if old.Address == c.Address && old.Capacity == c.Capacity && old.Key == c.Key && (c.Succeeds == "" || s.Edges[c.Succeeds].Successor == c.ID) {
			return nil, ErrNothingChanges.With("edge %q has joined already", c.ID)
		}
	}
	for _, other := range s.LiveEdges() {
		if other.ID != c.ID && other.ID != c.Succeeds && other.Address == c.Address {
			return nil, ErrAddressTaken.With("edge %q has joined with %s: retire it if it is gone for good, or use another address", other.ID, c.Address).At("address")
		}
	}
	return EdgeJoined(c), nil
}

// Signatures is what is demanded of edges whose state directories are of a version without
// signatures. Those of later ones sign in any case.
type Signatures string

// The demands.
const (
	// SignaturesAuto lets registered edges go on without, and new ones join without as long as
	// no registered edge of the namespace signs: so an upgrade needs no setting, and a new
	// installation has no exception.
	SignaturesAuto Signatures = ""
	// SignaturesRequired makes no exception: once none of the older version runs.
	SignaturesRequired Signatures = "required"
	// SignaturesOptional lets new edges join without at any time: for the way back to the
	// older version in the midst of an upgrade.
	SignaturesOptional Signatures = "optional"
)

// registered counts the edges of a cluster that are not gone.
func (s *State) registered(cluster string) int {
	n := 0
	for _, e := range s.Edges {
		if e.Cluster == cluster && e.Gone == "" {
			n++
		}
	}
	return n
}

// checkSigner refuses what is said in the edge's name and not signed by its key. key is the
// one that it is to have from now on, "" where that stays.
//
// An edge that Signs never changes its key. Of one with an older directory the key may be
// new, because the version that signs draws it; what it says may be unsigned, unless the
// operator has ended that (SignaturesRequired).
func (e Edge) checkSigner(env Envelope, key string) error {
	own := signedBy(e.Key, env.Signer)
	switch {
	case e.Signs() || env.Signatures == SignaturesRequired:
		if key != "" && key != e.Key {
			return ErrBadSignature.With("edge %q has another key: its state directory was replaced, or another process speaks in its name; "+
				"start with a new id and a new state directory, and retire %[1]q once it serves no client", e.ID).At("key")
		}
		if !own {
			return unsigned(e.ID, env)
		}
	case env.Signer != "" && !own && !signedBy(key, env.Signer):
		return unsigned(e.ID, env)
	}
	return nil
}

// checkFirstSigner refuses a first join that its own key has not signed, where a signature is
// demanded: in whose directory the key's fingerprint stands, that is signed at all, or beside
// edges that sign, see Signatures.
func (s *State) checkFirstSigner(c JoinEdge, env Envelope) error {
	demanded := Edge{Key: c.Key, Directory: c.Directory}.Signs() || env.Signer != ""
	switch env.Signatures {
	case SignaturesRequired:
		demanded = true
	case SignaturesAuto:
		for _, e := range s.Edges {
			demanded = demanded || e.Gone == "" && e.Signs()
		}
	case SignaturesOptional:
	}
	if demanded && !signedBy(c.Key, env.Signer) {
		return unsigned(c.ID, env)
	}
	return nil
}

func unsigned(id string, env Envelope) error {
	if env.Signer == "" {
		return ErrBadSignature.With("edge %q speaks by its signature only, and this has none: a process of an older version, or not the edge", id).At("id")
	}
	return ErrBadSignature.With("edge %q has another key than the one that signed this (%.16s…)", id, env.Signer).At("id")
}

// Signer is the Ed25519 public key, in hex, of what the edge signs; "" if it has none.
func (e Edge) Signer() string {
	k, err := SigningKey(e.Key)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(k)
}

// signedBy reports whether signer is the Ed25519 form of an edge's key.
func signedBy(key, signer string) bool {
	return signer != "" && Edge{Key: key}.Signer() == signer
}

// SignSuccession is the word of an edge that another one, with this id and key, may have its
// listeners and its address, in hex. It is given once, in handing the sockets over.
func SignSuccession(by ed25519.PrivateKey, namespace, old, next, key string) string {
	return hex.EncodeToString(ed25519.Sign(by, succession(namespace, old, next, key)))
}

func succession(namespace, old, next, key string) []byte {
	return []byte("unitgate succession 1\n" + namespace + "\n" + old + "\n" + next + "\n" + key) // none holds a line end
}

// decideSuccession checks that an edge may take the place of the one that it names.
func (s *State) decideSuccession(c JoinEdge, env Envelope) error {
	if err := s.succession(EdgeJoined(c)); err != nil {
		return err
	}
	old := s.Edges[c.Succeeds]
	if !old.Signs() && env.Signatures != SignaturesRequired {
		return nil // it may run a version that gives no such word
	}
	key, err := SigningKey(old.Key)
	proof, perr := hex.DecodeString(c.SucceedsProof)
	if err != nil || perr != nil || !ed25519.Verify(key, succession(s.Namespace, old.ID, c.ID, c.Key), proof) {
		return ErrBadSignature.With("edge %q has not said that %q takes its place: it does so in handing its sockets over (--take-over)", old.ID, c.ID).At("succeedsProof")
	}
	return nil
}

// joined evolves the state by a join.
func (s *State) joined(seq uint64, e EdgeJoined) error {
	if old, ok := s.Edges[e.ID]; ok {
		if old.Gone != "" { // R7
			return ErrEdgeGone.With("edge %q has %s", e.ID, old.Gone)
		}
		if err := old.CheckDirectory(e.Directory); err != nil {
			return err
		}
		seq = old.Joined
	}
	if e.Succeeds != "" {
		if err := s.succession(e); err != nil {
			return err
		}
		old := s.Edges[e.Succeeds]
		old.Address, old.Successor = "", e.ID
		s.Edges[old.ID] = old
	}
	s.Edges[e.ID] = Edge{ID: e.ID, Directory: e.Directory, Unit: e.Unit, Cluster: e.Cluster, Address: e.Address, Capacity: e.Capacity, Key: e.Key, Joined: seq}
	return nil
}

// succession checks that the edge named is one that can be succeeded by this one.
func (s *State) succession(e EdgeJoined) error {
	old, ok := s.Edges[e.Succeeds]
	switch {
	case !ok || old.Gone != "":
		return ErrUnknownEdge.With("there is no edge %q to take over from; see get edges", e.Succeeds).At("succeeds")
	case old.ID == e.ID:
		return ErrBadValue.With("an edge does not take over from itself: use a new id").At("succeeds")
	case old.Unit != e.Unit || old.Cluster != e.Cluster:
		return ErrEdgeMoved.With("edge %q belongs to unit %q, cluster %q, and so do its listeners", old.ID, old.Unit, old.Cluster).At("succeeds")
	case old.Directory != e.SucceedsDirectory:
		return ErrEdgeElsewhere.With("edge %q has another state directory than the one that is named", old.ID).At("succeedsDirectory")
	}
	return nil
}

// check validates what stands in the command itself, but for its ids.
func (c JoinEdge) check() error {
	if c.Directory == "" {
		return ErrMissingField.With("say which state directory the edge has, by its UUID").At("directory")
	}
	if !uuidForm.MatchString(c.Directory) {
		return ErrBadValue.With("%q: want the state directory's UUID in lower case", c.Directory).At("directory")
	}
	if (c.Succeeds == "") != (c.SucceedsDirectory == "") {
		return ErrMissingField.With("name the edge that is succeeded, and its state directory, or neither").At("succeeds")
	}
	if c.Key != "" && !keyForm.MatchString(c.Key) {
		return ErrBadValue.With("want 32 bytes in hex, in lower case").At("key")
	}
	if len(c.SucceedsProof) > 2*ed25519.SignatureSize {
		return ErrBadValue.With("want an Ed25519 signature in hex").At("succeedsProof")
	}
	if c.Capacity < 0 {
		return ErrBadValue.With("want 0 (no limit) or more").At("capacity")
	}
	return CheckAddress(c.Address, "address")
}

// CheckDirectory refuses a process that comes under this edge's id with another state directory (R7): what the edge had
// promised stands in its own one only, and its process may still serve. The error is ErrEdgeElsewhere.
func (e Edge) CheckDirectory(directory string) error {
	if e.Directory != directory {
		return ErrEdgeElsewhere.With("the id %q belongs to another state directory, and its process may still serve: "+
			"start with a new id and a new state directory, and retire %[1]q once it serves nobody", e.ID).At("id")
	}
	return nil
}
