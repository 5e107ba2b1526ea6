package cli_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/services/unitgate/reader"
)

// The walkthrough's configuration before its cutover, one command a step: namespace, units, clusters, load balancers, a
// domain with its URIs and DNS, its activation, the rules.
var seedSteps = []struct{ name, data string }{
	{"namespace.create", `{"policy":{"ownership":"available","hold":"5s","closeCode":1012,"evictRate":1000},
		"unitTypes":[{"name":"unit_type","slots":10000,"routerId":["header:routerId","cookie:routerId","query:routerId"],"unmarked":"local"}]}`},
	{"unit.put", `{"id":"center","name":"杭州中心","center":true}`},
	{"unit.put", `{"id":"unbj","name":"北京单元"}`},
	{"cluster.put", `{"id":"ws-hz-2","unit":"center","protocol":"websocket"}`},
	{"cluster.put", `{"id":"ws-bj-2","unit":"unbj","protocol":"websocket"}`},
	{"loadbalancer.put", `{"id":"slb-hz-1","cluster":"ws-hz-2","address":"203.0.113.10"}`},
	{"loadbalancer.put", `{"id":"slb-bj-1","cluster":"ws-bj-2","address":"203.0.113.20"}`},
	{"domain.put", `{"host":"websocket.msha.tech","unitType":"unit_type","protocol":"websocket","scheme":"auto","correction":"redirect",
		"dns":{"provider":"rfc2136","zone":"msha.tech","multiUnit":true},
		"units":{"center":{"subdomain":"center.websocket.msha.tech","cluster":"ws-hz-2"},"unbj":{"subdomain":"unbj.websocket.msha.tech","cluster":"ws-bj-2"}},
		"uris":[{"path":"/","origins":{"center":"10.0.0.1:9000,10.0.0.2:9000","unbj":"10.1.0.1:9000"}},
			{"path":"/chat","origins":{"center":"10.0.0.3:9000","unbj":"10.1.0.3:9000"},"connectTimeout":"2s","health":{"probe":"http","path":"/healthz"}}]}`},
	{"domain.activate", `{"host":"websocket.msha.tech"}`},
	{"rules.init", `{"unitType":"unit_type","ranges":{"center":["0-5997"],"unbj":["5998-9999"]},"exact":{"unbj":["4001","vip-7"]}}`},
}

// The same as a file.
const seedFile = `namespace: by-apply
policy: {ownership: available, hold: 5s, closeCode: 1012, evictRate: 1000}
unitTypes:
  - {name: unit_type, slots: 10000, routerId: [header:routerId, cookie:routerId, query:routerId], unmarked: local}
units:
  - {id: center, name: 杭州中心, center: true}
  - {id: unbj, name: 北京单元}
clusters:
  - {id: ws-hz-2, unit: center, protocol: websocket}
  - {id: ws-bj-2, unit: unbj, protocol: websocket}
loadBalancers:
  - {id: slb-hz-1, cluster: ws-hz-2, address: 203.0.113.10}
  - {id: slb-bj-1, cluster: ws-bj-2, address: 203.0.113.20}
domains:
  - host: websocket.msha.tech
    unitType: unit_type
    protocol: websocket
    scheme: auto
    correction: redirect
    dns: {provider: rfc2136, zone: msha.tech, multiUnit: true}
    units:
      center: {subdomain: center.websocket.msha.tech, cluster: ws-hz-2}
      unbj: {subdomain: unbj.websocket.msha.tech, cluster: ws-bj-2}
    uris:
      - {path: /, origins: {center: "10.0.0.1:9000,10.0.0.2:9000", unbj: "10.1.0.1:9000"}}
      - {path: /chat, origins: {center: "10.0.0.3:9000", unbj: "10.1.0.3:9000"}, connectTimeout: 2s, health: {probe: http, path: /healthz}}
rules:
  unit_type:
    ranges: {center: [0-5997], unbj: [5998-9999]}
    exact: {unbj: ["4001", "vip-7"]}
`

// The set-up done by commands of the CLI, by plain NATS requests, and by apply, gives the same configuration: the exports
// are equal to the byte, and the states in everything but their history.
func TestSetUpByCommandsAndByApply(t *testing.T) {
	s := startSystem(t)
	nc, err := nats.Connect(s.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, step := range seedSteps {
		if host, ok := strings.CutPrefix(step.data, `{"host":"`); ok && step.name == "domain.activate" {
			s.must("domain", "activate", strings.TrimSuffix(host, `"}`), "-n", "by-cli")
		} else {
			s.must("queue", step.name, step.data, "--wait", "-n", "by-cli")
		}
		reply, err := nc.Request("unitgate.api.by-nats."+step.name, []byte(`{"actor":"me","data":`+step.data+`}`), time.Minute)
		if err != nil || !strings.HasPrefix(string(reply.Data), `{"ok":true,"seq":`) {
			t.Fatalf("%s: %v, %+v", step.name, err, reply)
		}
	}
	s.must("apply", "-f", s.file(seedFile), "--yes")

	wantExport := s.must("export", "-n", "by-apply")
	wantState := s.configuration(nc, "by-apply")
	for _, way := range []string{"by-cli", "by-nats"} {
		export := s.must("export", "-n", way)
		if got := strings.Replace(export, "namespace: "+way, "namespace: by-apply", 1); got != wantExport {
			t.Errorf("%s exports\n%s\nby apply it is\n%s", way, got, wantExport)
		}
		if got := s.configuration(nc, way); got != wantState {
			t.Errorf("the state %s is\n%s\nby apply it is\n%s", way, got, wantState)
		}
		// And the file finds nothing to do there.
		same := s.must("apply", "-f", s.file(strings.Replace(seedFile, "by-apply", way, 1)), "--prune")
		if !strings.Contains(same, "already as") {
			t.Errorf("the file would change what was made %s: %s", way, same)
		}
	}
	// One command is one event, and so is the whole file.
	for way, want := range map[string]int{"by-cli": len(seedSteps), "by-nats": len(seedSteps), "by-apply": 1} {
		if log := s.must("log", "-n", way); strings.Count(log, "\n")-strings.Count(log, "DriverTookOffice") != want {
			t.Errorf("%s there are not %d events of the configuration:\n%s", way, want, log)
		}
	}
}

// configuration is a namespace's state without what tells one history from another.
func (s system) configuration(nc *nats.Conn, namespace string) string {
	s.t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	state, err := reader.State(s.t.Context(), js, namespace, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(state.Encode(), &parts); err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for name, part := range parts {
		if !slices.Contains([]string{"namespace", "seq", "chain", "configVersion", "office"}, name) {
			out = append(out, fmt.Sprintf("%s %s\n", name, part))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}
