package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// readyWait is less than orchestrators give a probe by default (compose 30 s, Kubernetes 1 s as we configure it 5 s).
const readyWait = 4 * time.Second

// ready is a probe for images that hold nothing but this program.
type ready struct {
	*cli
	admin string
	alive bool
}

func (c *cli) addReady(p parent) {
	r := &ready{cli: c}
	cmd := c.command(p, "ready", "Ask a control plane or an edge whether it does its work, as a health check", r.run)
	cmd.Flag("admin", "its --admin address").Required().PlaceHolder("HOST:PORT").StringVar(&r.admin)
	cmd.Flag("alive", "ask only whether the process runs").UnNegatableBoolVar(&r.alive)
}

// run exits with 0 if the answer is 200, else with 1 and what was answered.
func (r *ready) run(ctx context.Context) error {
	if err := checkListen("--admin", r.admin); err != nil {
		return err
	}
	path := "/readyz"
	if r.alive {
		path = "/healthz"
	}
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.admin+path, nil)
	if err != nil {
		return usage("--admin %q: %w", r.admin, err)
	}
	// No proxy of the environment: the question is for this very address.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return fmt.Errorf("no whole answer of %s: %w", r.admin, err)
	}
	said := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s: %d %s", r.admin, path, resp.StatusCode, said)
	}
	r.say("%s", said)
	return r.print(map[string]any{"ok": true})
}
