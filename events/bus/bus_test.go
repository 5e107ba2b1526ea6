package bus

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

func seed(t *testing.T) (text []byte, public string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	text, err = pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	public, err = pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return text, public
}

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func applied(t *testing.T, opts []nats.Option) nats.Options {
	t.Helper()
	o := nats.GetDefaultOptions()
	for _, apply := range opts {
		if err := apply(&o); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// TestWithSeed: a user's answers come to its own inboxes; a seed that every user of the machine may read is refused,
// whatever else the mode says, and no error shows a seed.
func TestWithSeed(t *testing.T) {
	text, public := seed(t)
	for _, mode := range []os.FileMode{0o600, 0o400, 0o440, 0o640} {
		o, err := WithSeed(write(t, string(text)+"\n", mode))
		if err != nil {
			t.Fatalf("%04o: %v", mode, err)
		}
		if got := applied(t, o); got.InboxPrefix != "_INBOX."+public || got.Nkey != public {
			t.Errorf("%04o: inbox %s and key %s, want those of %s", mode, got.InboxPrefix, got.Nkey, public)
		}
	}
	for _, mode := range []os.FileMode{0o644, 0o604, 0o602, 0o666} {
		file := write(t, string(text), mode)
		if _, err := WithSeed(file); !errors.Is(err, ErrExposed) || !strings.Contains(err.Error(), "chmod o-rw "+file) {
			t.Errorf("%04o: %v", mode, err)
		}
	}
	for _, wrong := range []string{"", "sesame", string(text[:20])} {
		if _, err := WithSeed(write(t, wrong, 0o600)); err == nil || wrong != "" && strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// TestWithCredentials: the inbox is that of the user of the JWT.
func TestWithCredentials(t *testing.T) {
	text, public := seed(t)
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"` + public + `"}`))
	creds := fmt.Sprintf("-----BEGIN NATS USER JWT-----\ne30.%s.sig\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n", claims, text)
	o, err := WithCredentials(write(t, creds, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if got := applied(t, o); got.InboxPrefix != "_INBOX."+public {
		t.Errorf("inbox %s", got.InboxPrefix)
	}
	if _, err := WithCredentials(write(t, creds, 0o644)); !errors.Is(err, ErrExposed) {
		t.Errorf("credentials that all may read: %v", err)
	}
	for _, odd := range []string{"", "e30", strings.Replace(creds, claims, "!!", 1), strings.Replace(creds, claims, "e30", 1)} {
		o, err := WithCredentials(write(t, odd, 0o600))
		if err != nil || applied(t, o).InboxPrefix != "" {
			t.Errorf("%.40q: %v", odd, err)
		}
	}
}

func TestBeyond(t *testing.T) {
	for addr, want := range map[string]bool{
		"": false, "pipe": false, "127.0.0.1:4222": false, "127.8.8.8:4222": false, "[::1]:4222": false,
		"10.0.0.5:4222": true, "[fd00::1]:4222": true, "nats.example.com:4222": true,
	} {
		if got := beyond(addr); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}
