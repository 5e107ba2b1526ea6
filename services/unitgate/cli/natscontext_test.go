package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// saveContext writes a context as `nats context save` does: all keys, most of them empty.
func saveContext(t *testing.T, name, fields string) {
	t.Helper()
	dir := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	body := `{"description": "", "socks_proxy": "", "token": "", "user": "", "password": "", "creds": "", "nkey": "", "cert": "", "key": "",
		"ca": "", "nsc": "", "jetstream_domain": "", "jetstream_api_prefix": "", "jetstream_event_prefix": "", "inbox_prefix": "", "user_jwt": "",
		"color_scheme": "", "tls_first": false, ` + fields + `}`
	if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

func startNATS(t *testing.T, o server.Options) string {
	t.Helper()
	o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s.ClientURL()
}

// TestContext connects with each kind of secret to a server that wants it. What fails never shows one.
func TestContext(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	const seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY" // the example of NATS's documentation
	const public = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
	file := filepath.Join(t.TempDir(), "user.nk")
	if err := os.WriteFile(file, []byte(seed), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SEED_DIR", filepath.Dir(file))
	keyed := startNATS(t, server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}})
	password := startNATS(t, server.Options{Username: "ops", Password: "sesame"})
	for name, fields := range map[string]string{
		"password": `"url": "` + password + `", "user": "ops", "password": "sesame"`,
		"token":    `"url": "` + startNATS(t, server.Options{Authorization: "sesame"}) + `", "token": "sesame"`,
		"nkey":     `"url": "` + keyed + `", "nkey": "$SEED_DIR/user.nk"`,
		"inbox":    `"url": "` + password + `", "user": "ops", "password": "sesame", "inbox_prefix": "_INBOX_ops"`,
	} {
		saveContext(t, name, fields)
		c := &cli{context: name, server: nats.DefaultURL, err: new(bytes.Buffer)}
		if err := c.useContext(); err != nil {
			t.Fatal(err)
		}
		b, err := c.connect()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b.close()
	}
	c := &cli{context: "password", server: "nats://127.0.0.1:1", serverSet: true}
	if err := c.useContext(); err != nil || c.server != "nats://127.0.0.1:1" {
		t.Errorf("--nats must win over the context: %s, %v", c.server, err)
	}

	c = &cli{nkey: file, server: keyed, err: new(bytes.Buffer)}
	if err := c.useKey(); err != nil {
		t.Fatal(err)
	}
	if b, err := c.connect(); err != nil {
		t.Errorf("--nkey: %v", err)
	} else {
		b.close()
	}
	for _, args := range [][]string{{"--nkey", file, "--creds", file}, {"--nkey", file + ".none"}, {"--nkey", os.Args[0]}} {
		var out, errs bytes.Buffer
		if code := Run(context.Background(), append(args, "get", "namespaces"), strings.NewReader(""), &out, &errs); code != exitUsage || !strings.Contains(errs.String(), "--nkey") {
			t.Errorf("%q ends with %d: %s", args, code, errs.String())
		}
	}

	saveContext(t, "wrong", `"url": "`+password+`", "user": "ops", "password": "abracadabra"`)
	saveContext(t, "proxy", `"socks_proxy": "socks5://user:abracadabra@proxy"`)
	saveContext(t, "damaged", `"password": abracadabra`)
	saveContext(t, "noseed", `"nkey": "abracadabra"`)
	saveContext(t, "vault", `"creds": "op://abracadabra"`)
	for name, want := range map[string]string{
		"wrong": "Authorization Violation", "proxy": "socks_proxy is not supported", "damaged": "save it again", "noseed": "no seed",
		"vault": "--creds FILE", "nothing": "only damaged, inbox, nkey, noseed, password, proxy, token, vault, wrong", "../password": "no name",
	} {
		var out, errs bytes.Buffer
		code := Run(context.Background(), []string{"get", "namespaces", "-o", "json", "--context", name}, strings.NewReader(""), &out, &errs)
		if code == exitDone || !strings.Contains(errs.String(), want) {
			t.Errorf("%s ends with %d: %s", name, code, errs.String())
		}
		if all := out.String() + errs.String(); strings.Contains(all, "abracadabra") || strings.Contains(all, "sesame") {
			t.Errorf("%s shows a secret: %s", name, all)
		}
	}
}
