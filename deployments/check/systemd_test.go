package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// analyze runs systemd-analyze on copies of the units in which binaries that this machine lacks are ones that it has.
func analyze(t *testing.T, change func(string) string) (string, error) {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("UNITGATE_REQUIRE_ALL") != "" {
			t.Fatal("UNITGATE_REQUIRE_ALL is set, and there is no systemd-analyze")
		}
		t.Skip("no systemd-analyze: apt-get install systemd")
	}
	units, err := filepath.Glob("../systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatalf("%q, %v", units, err)
	}
	dir := t.TempDir()
	args := []string{"verify", "--man=no", "--generators=no"}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		copied := change(strings.NewReplacer("/usr/local/bin/unitgate", "/bin/true", "/usr/local/bin/nats-server", "/bin/true").Replace(string(text)))
		name := filepath.Join(dir, strings.Replace(filepath.Base(unit), "@", "@a", 1)) // a template is verified by an instance
		if err := os.WriteFile(name, []byte(copied), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	out, err := exec.Command(tool, args...).CombinedOutput()
	return string(out), err
}

// TestSysusers: systemd reads the users that the units name.
func TestSysusers(t *testing.T) {
	tool, err := exec.LookPath("systemd-sysusers")
	if err != nil {
		if os.Getenv("UNITGATE_REQUIRE_ALL") != "" {
			t.Fatal("UNITGATE_REQUIRE_ALL is set, and there is no systemd-sysusers")
		}
		t.Skip("no systemd-sysusers: apt-get install systemd")
	}
	file, err := os.Open("../systemd/unitgate.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command(tool, "--dry-run", "--root="+t.TempDir(), "-") // this machine may have such users
	cmd.Stdin = file
	out, err := cmd.CombinedOutput()
	for _, user := range []string{"unitgate", "nats"} {
		if err != nil || !strings.Contains(string(out), "Creating user '"+user+"'") {
			t.Errorf("user %s: %v\n%s", user, err, out)
		}
	}
}

// TestSystemd: systemd itself reads the units, and has nothing to say about them.
func TestSystemd(t *testing.T) {
	if out, err := analyze(t, func(unit string) string { return unit }); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("%v\n%s", err, out)
	}
	for _, wrong := range [][2]string{{"RestartSec=2s", "RestartSex=2s"}, {"RestartSec=2s", "RestartSec=soon"}} {
		if out, _ := analyze(t, func(unit string) string { return strings.Replace(unit, wrong[0], wrong[1], 1) }); strings.TrimSpace(out) == "" {
			t.Errorf("%q passes", wrong[1])
		}
	}
}
