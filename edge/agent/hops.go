package agent

import (
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
)

// hopKeys knows the secret that an edge shares with each of the others: each can make it of its own private key and the
// other's public one, which the journal holds. One goroutine owns it.
type hopKeys struct {
	own     *ecdh.PrivateKey  // nil: there are none
	secrets map[string][]byte // by the other's public key, in hex
}

// with is the secret shared with the edge that has this public key, nil if there is none.
func (k *hopKeys) with(public string) []byte {
	if s, ok := k.secrets[public]; ok {
		return s
	}
	var secret []byte
	if b, err := hex.DecodeString(public); err == nil && k.own != nil {
		if key, err := ecdh.X25519().NewPublicKey(b); err == nil {
			if shared, err := k.own.ECDH(key); err == nil {
				sum := sha256.Sum256(append([]byte("unitgate hop"), shared...))
				secret = sum[:]
			}
		}
	}
	if k.secrets == nil {
		k.secrets = map[string][]byte{}
	}
	k.secrets[public] = secret
	return secret
}

// forget drops the secrets of edges that are no peers any more.
func (k *hopKeys) forget(peers map[string]*handshake.Peer, s *events.State) {
	if len(k.secrets) <= 2*len(peers)+8 {
		return
	}
	kept := map[string][]byte{}
	for id := range peers {
		public := s.Edges[id].Key
		kept[public] = k.secrets[public]
	}
	k.secrets = kept
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
		secret := v.keys.with(e.Key)
		if e.ID == v.self.ID || secret == nil {
			continue
		}
		p := &handshake.Peer{ID: e.ID, Address: e.Address, Secret: secret}
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
