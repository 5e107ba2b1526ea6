// Package harness runs unitgate for tests the way its users run it: the real
// binary as processes of their own, a real NATS server, origins and clients on
// real sockets. It owns every process and socket that it starts, and ends them
// with the test that started them. Its types may be used from any goroutine.
package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// requireAll, set to 1, turns every skip for a missing part into a failure, and runs the Long tests.
const requireAll = "UNITGATE_REQUIRE_ALL"

// Long skips a test that waits for what takes long by its nature, unless everything is to run.
func Long(t testing.TB, why string) {
	t.Helper()
	if !Everything() {
		t.Skipf("%s: %s=1 runs it", why, requireAll)
	}
}

// Everything reports whether everything is to run, also what takes long by its nature.
func Everything() bool { return os.Getenv(requireAll) != "" }

// buildDir tells the tests of a package where its binary belongs.
const buildDir = "UNITGATE_TEST_BUILD_DIR"

// Main runs a package's tests and removes what they built. Every package that
// uses the harness calls it: func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }.
func Main(m *testing.M) int {
	if len(os.Args) > 2 && os.Args[1] == natsArg {
		return runNATS(os.Args[2:])
	}
	if len(os.Args) > 5 && os.Args[1] == imageArg {
		return runInImage(os.Args[2:])
	}
	dir, err := os.MkdirTemp("", "unitgate-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv(buildDir, dir); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	return m.Run()
}

// built is compiled once in a test process, with the race detector when the test has it.
var built = sync.OnceValues(func() (string, error) {
	dir := os.Getenv(buildDir)
	if dir == "" {
		return "", fmt.Errorf("no %s: call harness.Main in TestMain", buildDir)
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	// Stamping needs a repository that git trusts, which a copied tree is not.
	args := []string{"build", "-buildvcs=false", "-o", filepath.Join(dir, "unitgate")}
	if Race {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "./services/unitgate")...)
	build.Dir = string(root[:len(root)-1])
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return filepath.Join(dir, "unitgate"), nil
})

// Binary returns the path of a freshly built unitgate.
func Binary(t testing.TB) string {
	t.Helper()
	file, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Missing skips a test that lacks a part, or fails it where every part is required.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(requireAll) != "" {
		t.Fatalf("%s is set, and %s", requireAll, what)
	}
	t.Skip(what)
}
