package roles_test

import (
	"os"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
