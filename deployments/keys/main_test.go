package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/unitgate/unitgate/events/bus"
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
		name := strings.ToUpper(strings.ReplaceAll(role, "-", "_"))
		for _, wanted := range []string{"nkey: $UNITGATE_NKEY_" + name + "\n", "$UNITGATE_INBOX_" + name + ","} {
			if !strings.Contains(string(text), wanted) {
				t.Errorf("accounts.conf does not ask for %q", wanted)
			}
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

// TestServersRead: nats-server reads the shipped files with nats.env in its environment, with the quotes that some ways
// there leave, and without.
func TestServersRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"NATS_SERVER_NAME": "n1", "NATS_STORE_DIR": t.TempDir(), "NATS_ROUTES": "[nats://n2:6222]"} {
		t.Setenv(name, value)
	}
	for _, quote := range []string{"", "'"} {
		for line := range strings.Lines(env(t, dir)) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			if strings.HasPrefix(name, "UNITGATE_INBOX_") {
				value = quote + strings.Trim(value, "'") + quote
			}
			t.Setenv(name, value)
		}
		for file, host := range map[string]string{"single.conf": "127.0.0.1", "cluster.conf": "127.0.0.1", "kubernetes.conf": "0.0.0.0"} {
			opts, err := server.ProcessConfigFile("../nats/" + file)
			if err != nil {
				t.Fatalf("%s, quotes %q: %v", file, quote, err)
			}
			for _, u := range opts.Nkeys {
				if want := bus.Inbox(u.Nkey) + ".>"; u.Permissions.Subscribe.Allow[0] != want {
					t.Errorf("%s, quotes %q: a user hears %q, want %s first", file, quote, u.Permissions.Subscribe.Allow, want)
				}
			}
			if opts.HTTPHost != host || opts.HTTPPort != 8222 {
				t.Errorf("%s shows the server's insides on %s:%d, want %s", file, opts.HTTPHost, opts.HTTPPort, host)
			}
			if len(opts.Nkeys) != len(roles) {
				t.Errorf("%s has %d users", file, len(opts.Nkeys))
			}
		}
	}
}
