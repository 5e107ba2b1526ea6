package agent

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
)

// hopKeys knows what an edge shares with each of the others: each can make it of its own private key and the other's
// public one, which the journal holds. One goroutine owns it.
type hopKeys struct {
	own    *ecdh.PrivateKey     // nil: there are none
	shared map[string]hopSecret // by the other's public key, in hex
}

// hopSecret is what an edge knows of another one by its key.
type hopSecret struct {
	secret []byte            // that the two share; nil: that is no key
	key    ed25519.PublicKey // by which the other one is known in TLS; nil: it has none
}

// with is what this edge shares with the one that has this public key.
func (k *hopKeys) with(public string) hopSecret {
	if s, ok := k.shared[public]; ok {
		return s
	}
	var s hopSecret
	if b, err := hex.DecodeString(public); err == nil && k.own != nil {
		if key, err := ecdh.X25519().NewPublicKey(b); err == nil {
			if shared, err := k.own.ECDH(key); err == nil {
				sum := sha256.Sum256(append([]byte("unitgate hop"), shared...))
				s.secret = sum[:]
				s.key, _ = events.SigningKey(public) // nil with an error
			}
		}
	}
	if k.shared == nil {
		k.shared = map[string]hopSecret{}
	}
	k.shared[public] = s
	return s
}

// forget drops what is shared with edges that are no peers any more.
func (k *hopKeys) forget(peers map[string]*handshake.Peer, s *events.State) {
	if len(k.shared) <= 2*len(peers)+8 {
		return
	}
	kept := map[string]hopSecret{}
	for id := range peers {
		public := s.Edges[id].Key
		kept[public] = k.shared[public]
	}
	k.shared = kept
}

// hops gives the view the other edges, and each domain that passes handshakes on those of its effective clusters. Without
// such a domain there is nothing to be done.
func (v *views) hops(s *events.State, view *handshake.View, active []*events.Domain) {
	if !slices.ContainsFunc(active, func(d *events.Domain) bool { return d.Correction == "proxy" }) {
		return
	}
	view.Peers = map[string]*handshake.Peer{}
	accepting := map[string][]*handshake.Peer{} // by cluster
	live := s.LiveEdges()
	for _, e := range live {
		shared := v.keys.with(e.Key)
		if e.ID == v.self.ID || shared.secret == nil {
			continue
		}
		p := &handshake.Peer{ID: e.ID, Address: e.Address, Secret: shared.secret, Key: shared.key, Sure: e.Signs()}
		view.Peers[e.ID] = p
		if e.Accepts() {
			accepting[e.Cluster] = append(accepting[e.Cluster], p)
		}
	}
	for _, e := range live {
		if p := view.Peers[e.Successor]; p != nil {
			p.Before = view.Peers[e.ID]
		}
	}
	v.keys.forget(view.Peers, s)
	for _, d := range active {
		if d.Correction != "proxy" {
			continue
		}
		edges := map[string]*handshake.Edges{}
		for unit, u := range d.Units {
			if peers := accepting[u.Cluster]; unit != v.self.Unit && len(peers) > 0 {
				edges[unit] = &handshake.Edges{Unit: unit, Peers: peers}
			}
		}
		view.Sites[strings.ToLower(d.Host)].Edges = edges
	}
}
