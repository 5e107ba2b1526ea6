// Package exclusive tests `ownership: exclusive` on real parts: controllers, agents and a NATS server in virtual time, and
// edges with their sockets in real time.
package exclusive

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server/ats"
)

// TestMain registers the server's clock outside of any bubble, see journaltest.Bubble.
func TestMain(m *testing.M) {
	ats.Register()
	m.Run()
	ats.Unregister()
}
