package journal_test

import (
	"os"
	"testing"

	"github.com/nats-io/nats-server/v2/server/ats"
)

// TestMain registers the server's clock outside of any synctest bubble: a file store would start it inside, and the
// bubble's virtual time would never be idle.
func TestMain(m *testing.M) {
	ats.Register()
	code := m.Run()
	ats.Unregister()
	os.Exit(code)
}
