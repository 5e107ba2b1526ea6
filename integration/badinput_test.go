package integration_test

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
)

// badInput is a namespace with one edge in center, to which bad input of every kind is sent.
type badInput struct {
	*harness.System
	config harness.Config
	edge   *harness.EdgeProcess
	seen   *harness.Register
}

func startBadInput(t *testing.T) *badInput {
	t.Helper()
	seen := harness.NewRegister()
	b := &badInput{seen: seen, config: harness.Config{Namespace: "bad", Domain: "bad.example.com", Path: "/ws", Units: []harness.Unit{
		{ID: "center", Range: "0-5997", Origins: []string{harness.StartOrigin(t, "center", seen, 0).Addr}},
		{ID: "unbj", Range: "5998-9999", Origins: []string{harness.StartOrigin(t, "unbj", seen, 0).Addr}},
	}}}
	b.System = harness.StartSystem(t, b.config)
	b.edge = b.StartEdge(t, "center-1", b.config.Units[0], "127.0.0.1:"+strconv.Itoa(harness.FreePort(t)))
	return b
}

func TestBadInput(t *testing.T) {
	b := startBadInput(t)
	head := b.Head(t)
	t.Run("config", b.configs)
	t.Run("commands", b.commands)
	t.Run("handshakes", b.handshakes)
	if now := b.Head(t); now != head {
		t.Errorf("bad input appended %d events", now-head)
	}
	again := b.Run(t, "apply", "-f", b.config.File(t), "--yes").OK(t)
	if now := b.Head(t); now != head {
		t.Errorf("the same config again appended %d events: %s", now-head, again.Stdout)
	}
}

// configs breaks one line of the config at a time: the error has code, field and line, on stderr and as JSON.
func (b *badInput) configs(t *testing.T) {
	for _, c := range []struct{ name, old, broken, code, field string }{
		{"unknown key", "scheme: http", "shceme: http", "unknown_field", "domains[0].shceme"},
		{"key twice", "scheme: http", "host: again.example.com", "duplicate_field", "domains[0].host"},
		{"wrong type", "slots: 10000", "slots: many", "bad_type", "unitTypes[0].slots"},
		{"out of bounds", "slots: 10000", "slots: 0", "bad_slots", "unitTypes[0].slots"},
		{"outside its set", "correction: redirect", "correction: teleport", "bad_value", "domains[0].correction"},
		{"bad id", "{id: ws-unbj, unit: unbj,", "{id: WS_unbj, unit: unbj,", "bad_name", "clusters[1].id"},
		{"id twice", "{id: ws-unbj, unit: unbj,", "{id: ws-center, unit: unbj,", "duplicate_name", "clusters[1]"},
		{"unknown unit", "{id: ws-unbj, unit: unbj,", "{id: ws-unbj, unit: unsh,", "unknown_unit", "clusters[ws-unbj].unit"},
		{"unknown cluster", "cluster: ws-unbj}", "cluster: ws-unsh}", "unknown_cluster", "domains[bad.example.com].units.unbj.cluster"},
		{"two centers", "name: Unit unbj, center: false", "name: Unit unbj, center: true", "center", "units"},
		{"origin without port", b.config.Units[1].Origins[0], "127.0.0.1", "bad_value", "domains[0].uris[0].origins.unbj"},
		{"gap", "unbj: [5998-9999]", "unbj: [5999-9999]", "range_gap", "rules.unit_type"},
		{"overlap", "unbj: [5998-9999]", "unbj: [5997-9999]", "range_overlap", "rules.unit_type"},
		{"range backwards", "unbj: [5998-9999]", "unbj: [9999-5998]", "bad_range", "rules.unit_type.ranges.unbj"},
		{"not YAML", "rules:", "rules: @", "bad_yaml", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			good := b.config.YAML()
			if strings.Count(good, c.old) != 1 {
				t.Fatalf("%q is not in the config exactly once", c.old)
			}
			file := filepath.Join(t.TempDir(), "broken.yaml")
			if err := os.WriteFile(file, []byte(strings.Replace(good, c.old, c.broken, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			result := b.Run(t, "apply", "-f", file, "--yes")
			if result.Code != 2 && result.Code != 3 {
				t.Fatalf("exit code %d: %s", result.Code, result.Stderr)
			}
			result.Refused(t, result.Code, c.code)
			line := lineOf(good, c.old)
			if strings.HasPrefix(c.code, "range_") {
				line = lineOf(good, "  unit_type:") // what all ranges together lack or have too much is in no single line
			}
			for _, want := range []string{fmt.Sprintf("broken.yaml:%d: ", line), c.field} {
				if !strings.Contains(result.Stderr, want) {
					t.Errorf("stderr does not say %q: %s", want, result.Stderr)
				}
			}
		})
	}
}

func lineOf(text, part string) int {
	before, _, _ := strings.Cut(text, part)
	return 1 + strings.Count(before, "\n")
}

func (b *badInput) commands(t *testing.T) {
	long := strings.Repeat("7", 257)
	for _, c := range []struct {
		exit int
		code string
		args []string
	}{
		{2, "", []string{"nonsense"}},
		{2, "", []string{"get", "nonsense"}},
		{2, "", []string{"apply", "-f", b.config.File(t), "--nonsense"}},
		{2, "", []string{"cutover", "preview"}},
		{2, "", []string{"cutover", "preview", "--range", "center"}},
		{3, "bad_range", []string{"cutover", "preview", "--range", "center=x-y"}},
		{2, "", []string{"connect", "ftp://127.0.0.1/", "--router-id", "1"}},
		{3, "range_gap", []string{"cutover", "preview", "--range", "center=0-6380", "--range", "unbj=6382-9999"}},
		{3, "range_overlap", []string{"cutover", "preview", "--range", "center=0-6380", "--range", "unbj=6380-9999"}},
		{3, "nothing_moves", []string{"cutover", "preview", "--range", "center=0-5997", "--range", "unbj=5998-9999"}},
		{3, "unknown_unit", []string{"cutover", "preview", "--range", "unsh=0-9999"}},
		{3, "unknown_unit_type", []string{"cutover", "preview", "--unit-type", "other", "--range", "center=0-9999"}},
		{3, "bad_router_id", []string{"cutover", "preview", "--exact", "center=" + long}},
		{3, "unknown_cutover", []string{"cutover", "start", "nope"}},
		{3, "unknown_cutover", []string{"cutover", "check", "nope"}},
		{3, "unknown_cutover", []string{"cutover", "show", "nope"}},
		{3, "bad_router_id", []string{"route", long}},
		{3, "unknown_unit_type", []string{"route", "1111", "--unit-type", "other"}},
	} {
		t.Run(fmt.Sprintf("%.50s", strings.Join(c.args, " ")), func(t *testing.T) {
			result := b.Run(t, c.args...)
			if c.code != "" {
				result.Refused(t, c.exit, c.code)
			}
			result.Exits(t, c.exit)
			if strings.TrimSpace(result.Stderr) == "" {
				t.Error("nothing on stderr says why")
			}
		})
	}
	t.Run("apply asks nothing without a terminal", func(t *testing.T) {
		changed := b.config
		changed.Domain = "changed.example.com"
		b.Run(t, "apply", "-f", changed.File(t)).Exits(t, 2)
	})
	t.Run("no controller", func(t *testing.T) {
		nobody := harness.API{NATS: b.NATS, Namespace: "nobody"}
		if result := nobody.Run(t, "route", "1"); result.Code == 0 || result.Stderr == "" {
			t.Errorf("exit code %d: %s", result.Code, result.Stderr)
		}
	})
}

func fnvSlot(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return h.Sum64() % 10000
}

// handshakes sends rows of the contract's table over a real connection.
func (b *badInput) handshakes(t *testing.T) {
	// The slot of what is no decimal number is its FNV-1a hash; take one of unbj's.
	negative := "-1"
	for n := 2; fnvSlot(negative) < 5998; n++ {
		negative = strconv.Itoa(-n)
	}
	base := harness.Handshake{Addr: b.edge.Addr, Host: b.Domain, Target: "/ws/room?x=1", RouterID: "1111"}
	for _, c := range []struct {
		name   string
		change func(*harness.Handshake)
		status int
		header [2]string
	}{
		{"key owned here", func(*harness.Handshake) {}, 101, [2]string{"Upgrade", "websocket"}},
		{"the port of Host is ignored", func(h *harness.Handshake) { h.Host += ":8443" }, 101, [2]string{}},
		{"no routerId is unmarked traffic", func(h *harness.Handshake) { h.RouterID = "" }, 101, [2]string{}},
		{"key owned elsewhere", func(h *harness.Handshake) { h.RouterID = "8330" }, 302, [2]string{"Location", "http://unbj.bad.example.com/ws/room?x=1"}},
		{"a negative routerId is text", func(h *harness.Handshake) { h.RouterID = negative }, 302, [2]string{"Location", "http://unbj.bad.example.com/ws/room?x=1"}},
		{"unknown host", func(h *harness.Handshake) { h.Host = "other.example.com" }, 421, [2]string{}},
		{"no matching URI", func(h *harness.Handshake) { h.Target = "/wsx" }, 404, [2]string{}},
		{"empty routerId", func(h *harness.Handshake) { h.RouterID = " " }, 400, [2]string{}},
		{"300 bytes", func(h *harness.Handshake) { h.RouterID = strings.Repeat("1", 300) }, 400, [2]string{}},
		{"spaces inside", func(h *harness.Handshake) { h.RouterID = "11 11" }, 400, [2]string{}},
		{"control character", func(h *harness.Handshake) { h.RouterID = "11\x0111" }, 400, [2]string{}},
		{"routerId twice", func(h *harness.Handshake) { h.Header = [][2]string{{"routerId", "1112"}} }, 400, [2]string{}},
		{"unknown unit type", func(h *harness.Handshake) {
			h.RouterID, h.Header = "", [][2]string{{"unitType", "other"}, {"routerId", "1"}}
		}, 400, [2]string{}},
		{"headers too large", func(h *harness.Handshake) { h.Header = [][2]string{{"X-Large", strings.Repeat("x", 32<<10)}} }, 431, [2]string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := base
			c.change(&h)
			client, response, err := harness.Dial(h)
			if err != nil {
				t.Fatal(err)
			}
			if client != nil {
				defer client.Drop()
			}
			if response.StatusCode != c.status || c.header[0] != "" && response.Header.Get(c.header[0]) != c.header[1] {
				t.Errorf("answered %s with %v, want %d", response.Status, response.Header, c.status)
			}
		})
	}
	whole := "GET /ws HTTP/1.1\r\nHost: " + b.Domain + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nrouterId: 1111\r\n\r\n"
	for _, c := range []struct{ name, old, broken, header string }{
		{"not a WebSocket handshake", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "", "Upgrade"},
		{"another version", "Version: 13", "Version: 8", "Sec-WebSocket-Version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, response, err := harness.DialRaw(b.edge.Addr, []byte(strings.Replace(whole, c.old, c.broken, 1)))
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != http.StatusUpgradeRequired || response.Header.Get(c.header) == "" {
				t.Errorf("answered %s with %v, want 426 with %s", response.Status, response.Header, c.header)
			}
		})
	}
	t.Run("single bytes", func(t *testing.T) {
		conn, err := net.Dial("tcp", b.edge.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for i := range whole {
			if _, err := conn.Write([]byte{whole[i]}); err != nil {
				t.Fatal(err)
			}
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("answered %v, %v", response, err)
		}
	})
	t.Run("bytes glued to the handshake belong to the tunnel", func(t *testing.T) {
		glued := harness.AppendFrame([]byte(whole), harness.OpText, &[4]byte{1, 2, 3, 4}, []byte("glued"))
		client, response, err := harness.DialRaw(b.edge.Addr, glued)
		if err != nil || client == nil {
			t.Fatal(response, err)
		}
		defer client.Drop()
		for _, want := range []string{"Welcome to the server! center", "glued:center"} {
			if text, err := client.Read(within); err != nil || string(text) != want {
				t.Errorf("read %q, %v; want %q", text, err, want)
			}
		}
	})
}
