package mutants

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	module = "github.com/unitgate/unitgate/"
	seeds  = 1500 // after so many without a bug a mutant has survived
)

// root is the top of the repository.
const root = "../../.."

// mutate is the text of the files that a mutant changes, by path under root.
func (m *mutant) mutate(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, e := range m.edits {
		text, ok := out[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			t.Fatalf("mutant %s: %q stands %d times in %s, want once. Whoever changed that code: let the mutant remove the rule (%s) where it is kept now",
				m.name, e.old, n, e.file, m.rule)
		}
		out[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return out
}

// TestMutantsFit: a mutant that does not change the code any more proves nothing.
func TestMutantsFit(t *testing.T) {
	names := map[string]bool{}
	for _, m := range list {
		if names[m.name] {
			t.Errorf("two mutants are called %s", m.name)
		}
		names[m.name] = true
		m.mutate(t)
	}
	if len(list) < 20 {
		t.Errorf("%d mutants, want at least 20", len(list))
	}
}

var bugLine = regexp.MustCompile(`seed (\d+): (.*)`)

// TestMutants builds the simulation, or a package's tests, with each mutant in the place of the code.
func TestMutants(t *testing.T) {
	if os.Getenv("UNITGATE_MUTANTS") == "" {
		t.Skip("takes minutes: set UNITGATE_MUTANTS=1")
	}
	var mu sync.Mutex
	caught := make([]string, len(list))
	t.Run("each", func(t *testing.T) {
		for i, m := range list {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				what := m.catch(t)
				mu.Lock()
				caught[i] = fmt.Sprintf("%-34s %-22s %s", m.name, what, m.rule)
				mu.Unlock()
				t.Logf("caught by %s in %.1f s", what, time.Since(began).Seconds())
			})
		}
	})
	t.Logf("mutants and what caught them, at which seed:\n%s", strings.Join(caught, "\n"))
}

// overlay writes the mutant's files and what the go command needs to take them for the real ones.
func (m *mutant) overlay(t *testing.T, dir string) string {
	t.Helper()
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for file, text := range m.mutate(t) {
		copied := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(top, file)] = copied
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "overlay.json")
}

// catch says what caught the mutant; the test fails if nothing does, or something else than was expected.
func (m *mutant) catch(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	overlay := m.overlay(t, dir)
	pkg := "integration/sim"
	if m.test != "" {
		pkg = m.test
	}
	binary := filepath.Join(dir, "mutant.test")
	build := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, module+pkg)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	args := []string{"-test.run", "^TestSeeds$", "-first"}
	if !m.mixed && slices.ContainsFunc(m.edits, func(e edit) bool { return e.file == held || e.file == leases || e.file == times }) {
		args = append(args, "-exclusive") // more seeds of those that can notice
	}
	if m.test != "" {
		args = []string{"-test.run", "^" + m.by + "$", "-test.timeout", "2m"}
	}
	run := exec.Command(binary, args...)
	run.Dir = filepath.Join(root, pkg)
	run.Env = append(os.Environ(), "GOMAXPROCS=1", fmt.Sprintf("UNITGATE_SIM_RUNS=%d", seeds))
	if m.test != "" {
		run.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", runtime.GOMAXPROCS(0)))
	}
	out, err := run.CombinedOutput()
	if err == nil {
		t.Fatalf("nothing notices that this rule is gone: %s", m.rule)
	}
	if m.test != "" {
		if !strings.Contains(string(out), "--- FAIL: "+m.by) {
			t.Fatalf("%s did not fail by itself: %s", m.by, out)
		}
		return m.by
	}
	// Which rule is seen to be broken first is a matter of the seed: the real code breaks none.
	bug := bugLine.FindStringSubmatch(string(out))
	if bug == nil {
		t.Fatalf("the simulation failed without a bug:\n%s", out)
	}
	rule, _, _ := strings.Cut(bug[2], ":")
	return rule + " at seed " + bug[1]
}
