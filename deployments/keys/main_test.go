package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrite: a second run changes nothing, and makes what was removed.
func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	before := env(t, dir)
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	if after := env(t, dir); after != before || strings.Count(after, "=U") != len(roles) {
		t.Errorf("%s then %s", before, after)
	}
	for _, role := range roles {
		info, err := os.Stat(filepath.Join(dir, role+".nk"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", role, info, err)
		}
	}
	lost := filepath.Join(dir, "observer.nk")
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	if after := env(t, dir); after == before || strings.Count(after, "=U") != len(roles) {
		t.Errorf("%s then %s", before, after)
	}
	if err := os.WriteFile(lost, []byte("sesame"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write(dir); err == nil || strings.Contains(err.Error(), "sesame") || !strings.Contains(err.Error(), lost) {
		t.Errorf("a file without a seed: %v", err)
	}
}

// TestRoles: they are those that the servers ask their environment for.
func TestRoles(t *testing.T) {
	text, err := os.ReadFile("../nats/accounts.conf")
	if err != nil {
		t.Fatal(err)
	}
	if asked := strings.Count(string(text), "nkey: $UNITGATE_NKEY_"); asked != len(roles) {
		t.Errorf("accounts.conf asks for %d keys, there are %d roles", asked, len(roles))
	}
	for _, role := range roles {
		if name := "nkey: $UNITGATE_NKEY_" + strings.ToUpper(strings.ReplaceAll(role, "-", "_")) + "\n"; !strings.Contains(string(text), name) {
			t.Errorf("accounts.conf does not ask for %q", name)
		}
	}
}

func env(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "nats.env"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
