package integration_test

import (
	"os"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

func TestMain(m *testing.M) {
	code := harness.Main(m)
	_ = os.RemoveAll(formerDir) // "" if no test needed it
	os.Exit(code)
}
