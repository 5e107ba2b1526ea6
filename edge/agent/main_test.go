package agent

import (
	"os"
	"testing"

	"github.com/nats-io/nats-server/v2/server/ats"
)

// TestMain registers the server's clock outside of any synctest bubble, see journaltest.Bubble.
func TestMain(m *testing.M) {
	ats.Register()
	code := m.Run()
	ats.Unregister()
	os.Exit(code)
}
