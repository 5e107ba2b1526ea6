package integration_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/certs/certstest"
	"github.com/unitgate/unitgate/integration/harness"
)

// TestTLS takes the npm client through the walkthrough's first steps over wss, with two edges of two units as processes:
// it is redirected to https, talks, is moved by a cutover; and the edges take a new certificate and refuse a broken one
// while it is connected.
func TestTLS(t *testing.T) {
	authority := certstest.New(t)
	ca, dir := authority.CAFile(), t.TempDir()
	cert, key := filepath.Join(dir, "edge.pem"), filepath.Join(dir, "edge.key")
	authority.Issue(cert, key, certstest.Leaf{Names: []string{"127.0.0.1"}})
	t.Setenv("NODE_EXTRA_CA_CERTS", ca)

	config := twoUnits(t, harness.NewRegister())
	config.Scheme = "auto"
	ports := make([]string, 2)
	for i := range ports {
		ports[i] = "127.0.0.1:" + strconv.Itoa(harness.FreePort(t))
		config.Units[i].Location = ports[i]
	}
	system := harness.StartSystem(t, config)
	edges := make([]*harness.EdgeProcess, 2)
	for i, u := range config.Units {
		edges[i] = system.StartEdge(t, u.ID+"-1", u, "127.0.0.1:"+strconv.Itoa(harness.FreePort(t)),
			"--listen-tls", ports[i], "--tls-cert", cert, "--tls-key", key)
	}
	center, unbj := ports[0], ports[1]

	clients := map[string]walker{}
	for _, id := range []string{stayer, mover, neutral} {
		clients[id] = startNode(t, "wss://"+unbj+"/", id)
	}
	awaitMessages(t, clients[stayer], "center", 2)
	awaitMessages(t, clients[mover], "unbj", 2)
	awaitMessages(t, clients[neutral], "unbj", 2)
	if s := firstOf(t, clients[stayer], "redirecting"); s.Location != "https://"+center+"/" {
		t.Errorf("%s was redirected to %q", stayer, s.Location)
	}

	before := servedBy(t, unbj)
	authority.Issue(cert, key, certstest.Leaf{Names: []string{"127.0.0.1"}})
	harness.Eventually(t, within, "the new certificate is served", func() bool { return servedBy(t, unbj) != before })
	after := servedBy(t, unbj)
	if err := os.WriteFile(cert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, within, "the broken one is refused", func() bool {
		return strings.Contains(edges[1].Stderr.String(), "the new TLS certificate is refused")
	})
	if servedBy(t, unbj) != after {
		t.Error("the broken certificate has changed what is served")
	}

	id := system.Cutover(t, append([]string{"preview"}, toCenter...)...).ID
	if done := system.Cutover(t, "start", id, "--wait"); done.State != "completed" {
		t.Errorf("the cutover ended as %s", done.State)
	}
	awaitMessages(t, clients[mover], "center", 1)
	if s := firstOf(t, clients[mover], "disconnected"); s.Code != 1012 || s.Reason != "moved to center" {
		t.Errorf("%s was disconnected with %d %q", mover, s.Code, s.Reason)
	}
	for _, id := range []string{stayer, neutral} {
		for _, s := range clients[id].steps(t) {
			if s.Event == "disconnected" || s.Event == "error" {
				t.Errorf("%s: %+v", id, s)
			}
		}
	}
	for _, e := range edges {
		e.Stop(t)
	}
	harness.Eventually(t, within, "the clients are told", func() bool {
		return firstOf(t, clients[neutral], "disconnected").Code == 1001
	})
}

// firstOf is the first step of a kind; the zero step if there is none.
func firstOf(t *testing.T, w walker, event string) step {
	t.Helper()
	for _, s := range w.steps(t) {
		if s.Event == event {
			return s
		}
	}
	return step{}
}

// servedBy is the serial number of the certificate that an edge shows.
func servedBy(t *testing.T, addr string) string {
	t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}
