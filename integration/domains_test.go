package integration_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// otherDomain is the config of a second domain beside config's, in the same clusters.
func otherDomain(t *testing.T, config harness.Config, host string) string {
	t.Helper()
	text := "namespace: " + config.Namespace + "\ndomains:\n  - host: " + host + "\n    units: {"
	for i, u := range config.Units {
		text += []string{"", ", "}[min(i, 1)] + u.ID + ": {cluster: " + u.Cluster() + "}"
	}
	text += "}\n    uris: [{path: /, origins: {"
	for i, u := range config.Units {
		text += []string{"", ", "}[min(i, 1)] + u.ID + ": \"" + strings.Join(u.Origins, ",") + "\""
	}
	file := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(file, []byte(text+"}}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// lives fails the test unless the session still carries messages both ways.
func lives(t *testing.T, c *harness.Client) {
	t.Helper()
	const text = "still here"
	if err := c.Send(text); err != nil {
		t.Fatal(err)
	}
	for {
		got, err := c.Read(within)
		if err != nil {
			t.Fatalf("the session has ended: %v", err)
		}
		if strings.HasPrefix(string(got), text) {
			return
		}
	}
}

// closedBy reads until the edge's Close and returns it.
func closedBy(t *testing.T, c *harness.Client) harness.CloseError {
	t.Helper()
	for {
		_, err := c.Read(within)
		var closed *harness.CloseError
		switch {
		case errors.As(err, &closed):
			return *closed
		case err != nil:
			t.Fatalf("no Close: %v", err)
		}
	}
}

// TestDomainsEnd: edges serve active versions only; a domain is deactivated or removed once nobody has a session of it,
// by what all edges say at that moment. A silent edge stops it, too. By force the sessions are closed, also on an edge that
// hears of it late; nobody else's are.
func TestDomainsEnd(t *testing.T) {
	config := twoUnits(t, harness.NewRegister())
	config.Namespace = "ends"
	system := harness.StartSystem(t, config)
	edges := map[string]*harness.EdgeProcess{}
	for _, u := range config.Units {
		edges[u.ID] = system.StartEdge(t, u.ID+"-1", u, "127.0.0.1:"+strconv.Itoa(harness.FreePort(t)))
	}
	dial := func(unit, host, id string) (*harness.Client, int) {
		c, answer, err := harness.Dial(harness.Handshake{Addr: edges[unit].Addr, Host: host, RouterID: id})
		if err != nil {
			t.Fatal(err)
		}
		if c != nil {
			t.Cleanup(c.Drop)
		}
		return c, answer.StatusCode
	}
	answers := func(unit, host string, status int) {
		t.Helper()
		harness.Eventually(t, within, host+" is answered with "+strconv.Itoa(status)+" in "+unit, func() bool {
			c, got := dial(unit, host, map[string]string{"center": "1", "unbj": "8330"}[unit])
			if c != nil {
				c.Drop()
			}
			return got == status
		})
	}
	end := func(verb, host string, flags ...string) harness.Result {
		t.Helper()
		return system.Run(t, append([]string{"domain", verb, host}, flags...)...)
	}

	const other = "other.example"
	file := otherDomain(t, config, other)
	system.Run(t, "apply", "-f", file, "--yes", "--draft").OK(t)
	answers("center", config.Domain, http.StatusSwitchingProtocols)
	if _, got := dial("center", other, "1"); got != http.StatusMisdirectedRequest {
		t.Errorf("a draft is answered with %d", got)
	}
	system.Run(t, "domain", "activate", other).OK(t)
	answers("center", other, http.StatusSwitchingProtocols)
	answers("unbj", "unbj."+other, http.StatusSwitchingProtocols)

	atCenter, _ := dial("center", config.Domain, "1")
	atUnbj, _ := dial("unbj", "unbj."+config.Domain, "8330")
	bystander, _ := dial("unbj", other, "8330")
	everybody := []*harness.Client{atCenter, atUnbj, bystander}
	harness.Eventually(t, within, "the short sessions of before have ended", func() bool {
		r := end("deactivate", config.Domain)
		if r.Code != 3 {
			t.Fatalf("exit code %d: %s", r.Code, r.Stderr)
		}
		return strings.Contains(r.Stderr, "sessions_live: domains[websocket.msha.tech]: 2 sessions of")
	})
	end("remove", config.Domain).Refused(t, 3, "sessions_live")
	system.Run(t, "apply", "-f", file, "--yes", "--prune").Refused(t, 3, "sessions_live")
	for _, c := range everybody {
		lives(t, c)
	}

	edges["unbj"].Signal(t, syscall.SIGSTOP)
	end("deactivate", config.Domain).Refused(t, 3, "sessions_live")
	atCenter.Drop()
	harness.Eventually(t, within, "the session at the center is gone", func() bool {
		r := end("deactivate", config.Domain)
		return r.Code == 3 && strings.Contains(r.Stderr, "sessions_unknown") && strings.Contains(r.Stderr, "unbj-1")
	})
	end("deactivate", config.Domain, "--force").Refused(t, 3, "reason_missing")
	var done struct {
		Seq         uint64   `json:"seq"`
		Forced      bool     `json:"forced"`
		Sessions    int      `json:"sessions"`
		SilentEdges []string `json:"silentEdges"`
	}
	end("deactivate", config.Domain, "--force", "--reason", "the region burns").OK(t).JSON(t, &done)
	if !done.Forced || done.Sessions != 0 || len(done.SilentEdges) != 1 || done.SilentEdges[0] != "unbj-1" {
		t.Errorf("%+v", done)
	}
	if r := system.Run(t, "log", "--entity", "domain").OK(t); !strings.Contains(r.Stdout, "the region burns") {
		t.Errorf("the reason is not in the journal: %s", r.Stdout)
	}
	answers("center", config.Domain, http.StatusMisdirectedRequest)
	system.Run(t, "domain", "activate", config.Domain).OK(t)
	answers("center", config.Domain, http.StatusSwitchingProtocols)
	edges["unbj"].Signal(t, syscall.SIGCONT) // it sees a state in which the domain is back
	if got := closedBy(t, atUnbj); got != (harness.CloseError{Code: 1001, Reason: "domain removed"}) {
		t.Errorf("%+v", got)
	}
	lives(t, bystander)

	answers("unbj", config.Domain, http.StatusSwitchingProtocols)
	again, _ := dial("unbj", config.Domain, "8330")
	lives(t, again) // the old word is not about it
	harness.Eventually(t, within, "only that one is left", func() bool {
		return strings.Contains(end("remove", config.Domain).Stderr, " 1 sessions of ")
	})
	end("remove", config.Domain, "--force", "--reason", "for good").OK(t).JSON(t, &done)
	if done.Sessions != 1 {
		t.Errorf("%+v", done)
	}
	if got := closedBy(t, again); got.Code != 1001 {
		t.Errorf("%+v", got)
	}
	answers("unbj", config.Domain, http.StatusMisdirectedRequest)
	lives(t, bystander)
	bystander.Drop()
	harness.Eventually(t, within, "without sessions it goes by itself", func() bool { return end("remove", other).Code == 0 })
	answers("unbj", other, http.StatusMisdirectedRequest)
}
