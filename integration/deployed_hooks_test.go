package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// TestDeployedHooks does what an operator of a namespace can do to whom runs the control
// plane: hooks at what listens on its machine, at the metadata of its cloud, and by names
// and forms that lead there. Nothing is called, and an observer reads in the journal why, and
// no word of what stands there. Once the control plane's own flags say so, the same hook is
// called, with the token that no journal holds.
func TestDeployedHooks(t *testing.T) {
	t.Parallel()
	const secret = "AKIA-SECRET"
	var called atomic.Int64
	paths := make(chan string, 16)
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called.Add(1)
		paths <- r.URL.Path
		_, _ = io.WriteString(w, `{"AccessKeyId":"`+secret+`"}`)
	}))
	t.Cleanup(metadata.Close)
	port := metadata.URL[strings.LastIndexByte(metadata.URL, ':')+1:]

	d := startDeployed(t, "single.conf", 1, 1)
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	again := func(flags ...string) {
		for _, c := range d.controls {
			c.Stop(t)
		}
		for _, c := range d.controls {
			c.Process = harness.Start(t, append(c.args, flags...)...)
		}
		d.driver(t)
	}
	again("--hook-secret-file", write("secret", "a secret of sixteen bytes or more"))

	hooks := "namespace: shop\nhooks:\n"
	for i, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"} {
		hooks += fmt.Sprintf("  - {name: h%d, url: \"http://%s:%s/latest/meta-data/iam\", on: pre, wait: end, timeout: 5s}\n", i, host, port)
	}
	d.Run(t, "apply", "-f", write("hooks.yaml", hooks), "--yes").OK(t)
	id := d.Cutover(t, append([]string{"preview"}, toCenter...)...).ID
	if c := d.Cutover(t, "start", id, "--wait"); c.State != "completed" {
		t.Errorf("%s is %s: %+v", id, c.State, c.Reason)
	}
	log := d.as("observer").Run(t, "log").OK(t).Stdout
	if n := strings.Count(log, "hook_not_allowed"); n != 5 || called.Load() != 0 || strings.Contains(log, secret) {
		t.Errorf("%d hooks were not allowed, %d were called: %s", n, called.Load(), log)
	}

	write("shop.chat.url", metadata.URL+"/hooks/TOKEN\n")
	again("--hook-secret-file", filepath.Join(dir, "secret"), "--hook-secret-dir", dir, "--hook-allow", "127.0.0.1")
	d.Run(t, "apply", "-f", write("hooks.yaml", "namespace: shop\nhooks:\n  - {name: chat, url: \""+metadata.URL+"/hooks/{secret}\", on: pre}\n"), "--yes").OK(t)
	id = d.Cutover(t, "preview", "--range", "center=0-5997", "--range", "unbj=5998-9999").ID
	if c := d.Cutover(t, "start", id, "--wait"); c.State != "completed" || called.Load() != 1 || <-paths != "/hooks/TOKEN" {
		t.Errorf("%s is %s, %d calls: %+v", id, c.State, called.Load(), c.Reason)
	}
	log = d.as("observer").Run(t, "log").OK(t).Stdout
	if strings.Contains(log, secret) || strings.Contains(log, "TOKEN") || !strings.Contains(log, `"message":"200 OK"`) {
		t.Error(log)
	}
	for _, c := range d.controls {
		if text := c.Stderr.String(); strings.Contains(text, secret) || strings.Contains(text, "TOKEN") {
			t.Error(text)
		}
	}
}
