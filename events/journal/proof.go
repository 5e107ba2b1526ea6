package journal

import (
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// heardWithin is how recently a leader must have heard from a follower for its word about the stream's end to count. It is
// less than the 4 s after which NATS servers elect another leader at the earliest, and more than their heartbeat of 1 s.
const heardWithin = 3 * time.Second

// proves tells why what a server said about the end of a replicated stream proves nothing; nil if it counts, and always
// where there is one copy. Every replica speaks for itself while it knows of no leader, however far behind it is; and a
// leader that stood still, or is cut off, goes on speaking for a history that others have continued.
func proves(info *jetstream.StreamInfo) error {
	c := info.Cluster
	if c == nil || len(c.Replicas) == 0 && info.Config.Replicas <= 1 {
		return nil
	}
	if c.Leader == "" || slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool { return p.Name == c.Leader }) {
		return fmt.Errorf("a replica that does not lead says that the stream ends at %d", info.State.LastSeq)
	}
	heard := 1 // from itself
	for _, p := range c.Replicas {
		if !p.Offline && p.Active > 0 && p.Active < heardWithin { // 0: never
			heard++
		}
	}
	if most := max(info.Config.Replicas, len(c.Replicas)+1)/2 + 1; heard < most {
		return fmt.Errorf("the leader %s says that the stream ends at %d, and has heard from %d of the %d servers it needs", c.Leader, info.State.LastSeq, heard, most)
	}
	return nil
}
