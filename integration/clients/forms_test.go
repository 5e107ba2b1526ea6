package clients

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/edge/certs/certstest"
	"github.com/unitgate/unitgate/integration/harness"
)

// forms are what a Location can look like; the last two lead to a listener that speaks TLS.
var forms = []struct{ scheme, prefix string }{
	{"ws", "ws://"}, {"http", "http://"}, {"protocol-relative", "//"}, {"wss", "wss://"}, {"https", "https://"},
}

// follows are the forms that a client follows by itself, from ws://.
var follows = map[string][]string{
	"coder/websocket":   {"ws", "http", "protocol-relative", "wss", "https"},
	"npm ws":            {"ws", "http", "protocol-relative", "wss", "https"},
	"npm websocket":     {},
	"Python websockets": {"ws", "protocol-relative"}, // 10.4 goes on without TLS

	"Python websocket-client": {"ws", "wss"},
	"Python aiohttp":          {"http", "protocol-relative", "https"},
	"Chromium":                {},
}

// TestRedirectForms: which scheme of a domain works with which client that follows redirects by itself.
func TestRedirectForms(t *testing.T) {
	harness.Long(t, "it starts a namespace and a browser, several times")
	authority := certstest.New(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "edge.pem"), filepath.Join(dir, "edge.key")
	authority.Issue(cert, key, certstest.Leaf{Names: []string{"127.0.0.1"}})
	t.Setenv("NODE_EXTRA_CA_CERTS", authority.CAFile())
	t.Setenv("SSL_CERT_FILE", authority.CAFile())
	addr := func() string { return "127.0.0.1:" + strconv.Itoa(harness.FreePort(t)) }
	plain, secure, wrong := addr(), addr(), addr()
	seen := harness.NewRegister()
	config := harness.Config{
		Namespace: "forms", Domain: "websocket.example", RouterID: `"header:routerId", "query:routerId"`,
		Units: []harness.Unit{{ID: "center", Range: "0-5999", Location: plain}, {ID: "unbj", Range: "6000-9999", Location: wrong}},
	}
	for i := range config.Units {
		config.Units[i].Origins = []string{harness.StartOrigin(t, config.Units[i].ID, seen, 0).Addr}
	}
	system := harness.StartSystem(t, config)
	system.StartEdge(t, "center-1", config.Units[0], plain, "--listen-tls", secure, "--tls-cert", cert, "--tls-key", key)
	system.StartEdge(t, "unbj-1", config.Units[1], wrong)

	all := programs(t)
	did := map[string][]string{}
	for i, form := range forms {
		config.Scheme, config.Units[0].Location = form.scheme, plain
		if strings.HasSuffix(form.scheme, "s") && form.scheme != "ws" {
			config.Units[0].Location = secure
		}
		if r := harness.Run(t, "apply", "-f", config.File(t), "--yes", "--nats", system.NATS); r.Code != 0 {
			t.Fatal(r.Stderr)
		}
		location := form.prefix + config.Units[0].Location + "/"
		harness.Eventually(t, within, "redirects to "+location, func() bool {
			_, answer, err := harness.Dial(harness.Handshake{Addr: wrong, RouterID: "1"})
			return err == nil && answer.Header.Get("Location") == location
		})
		for j, p := range all {
			id := strconv.Itoa(100*i + j)
			if got := outcome(t, p.start(t, []order{{mode: "once", entry: "ws://" + wrong + "/", routerID: id, roots: authority.Pool}})[0]); got == "center" {
				did[p.name] = append(did[p.name], form.scheme)
			} else {
				t.Logf("%s does not follow %s: %s", p.name, location, got)
			}
		}
	}
	var rows []string
	for _, p := range all {
		if !slices.Equal(did[p.name], follows[p.name]) {
			t.Errorf("%s follows %q, want %q", p.name, did[p.name], follows[p.name])
		}
		cells := []string{p.name}
		for _, form := range forms {
			cells = append(cells, yes(slices.Contains(did[p.name], form.scheme)))
		}
		rows = append(rows, row(cells...))
	}
	checkPage(t, rows)
}

// outcome waits for the welcome of an origin, and returns its unit; or for an error, and returns that.
func outcome(t *testing.T, trail trail) (got string) {
	t.Helper()
	if !harness.Poll(within, func() bool {
		for _, e := range trail.events(t) {
			switch unit, welcome := strings.CutPrefix(e.Data, "Welcome to the server! "); {
			case welcome:
				got = unit
			case e.Event == "error":
				got = e.Message
			}
		}
		return got != ""
	}) {
		t.Fatalf("nothing comes of it: %+v", trail.events(t))
	}
	return got
}
