package edge_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// An edge opens a session at its own door, also while its unit has no users yet and its unit type takes no clients without
// a routerId; nobody else can say that he is that session.
func TestEdgeTriesItsOwnDoor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ns := newNamespace(t)
	ns.do(events.ApplyConfig{Base: ns.state.ConfigVersion, Config: events.Config{
		Namespace: "demo",
		UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 10000, Unmarked: "reject"}},
		Units:     []events.Unit{{ID: "center", Center: true}, {ID: "unbj"}, {ID: "fresh"}},
		Clusters:  []events.Cluster{{ID: "ws-fresh", Unit: "fresh"}},
		Domains: []events.Domain{{
			Host:  "websocket.localhost",
			Units: map[string]events.DomainUnit{"center": {Cluster: "ws-center"}, "unbj": {Cluster: "ws-unbj"}, "fresh": {Cluster: "ws-fresh"}},
			URIs: []events.URI{
				{Path: "/", Origins: map[string]events.Origins{"fresh": {origin(t, "fresh")}}},
				{Path: "/down", Origins: map[string]events.Origins{"fresh": {"127.0.0.1:1"}}},
				{Path: "/none", Origins: map[string]events.Origins{"center": {"127.0.0.1:1"}}},
				{Path: "/closed", Origins: map[string]events.Origins{"fresh": {refusing(t, 401)}}},
				{Path: "/shut", Origins: map[string]events.Origins{"fresh": {closing(t)}}},
			},
		}},
	}})
	fresh, _ := ns.start("fresh", t.TempDir())

	services := []events.Service{{Host: "websocket.localhost", Path: "/"}, {Host: "websocket.localhost", Path: "/down"}, {Host: "websocket.localhost", Path: "/none"}, {Host: "websocket.localhost", Path: "/closed"}, {Host: "websocket.localhost", Path: "/shut"}}
	question, err := json.Marshal(events.HandshakeQuestion{Services: services})
	if err != nil {
		t.Fatal(err)
	}
	nc := ns.srv.Connect()
	var a events.HandshakeAnswer
	for range 4 { // the precheck is retried, and no origin has to pay for it
		m, err := nc.RequestWithContext(ctx, "unitgate.edge.demo.fresh."+fresh.ID()+".handshake", question)
		if err != nil {
			t.Fatal(err)
		}
		a = events.HandshakeAnswer{}
		if err := json.Unmarshal(m.Data, &a); err != nil || len(a.Sessions) != len(services) {
			t.Fatalf("%s: %v", m.Data, err)
		}
	}
	if _, page := get(t, fresh, "/status"); strings.Contains(page, `"ejected"`) || strings.Count(page, `"state":"healthy"`) != 4 {
		t.Errorf("some origin pays for the probes: %s", page)
	}
	for i, want := range []struct {
		status int
		failed string
	}{{101, ""}, {502, "answered 502"}, {502, "no origins"}, {401, "answered 401"}, {502, "closes the connection"}} {
		got := a.Sessions[i]
		if got.Service != services[i] || got.Status != want.status || (got.Failed == "") != (want.failed == "") || !strings.Contains(got.Failed, want.failed) || got.Took <= 0 ||
			got.Closed != strings.Contains(want.failed, "closes") {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	for _, secret := range []string{"", "1", "guess"} {
		if status := knock(ctx, t, fresh.Addrs()[0], secret); status != http.StatusBadRequest {
			t.Errorf("a client with secret %q got %d", secret, status)
		}
	}
	// They are no user's: no cutover counts them or closes them.
	for len(fresh.Status(ctx).Sessions) > 0 && fresh.Status(ctx).Sessions["unit_type"] > 0 {
		if ctx.Err() != nil {
			t.Fatal("the session was not closed")
		}
	}
}

// What the probes of an edge find is what it tells whoever asks, also of an origin to whose port one can connect.
func TestWhatProbesFindIsTold(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	picky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "websocket.localhost" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer picky.Close()
	addr := picky.Listener.Addr().String()
	probe := events.Health{Probe: "http", Interval: events.Duration(100 * time.Millisecond), Rise: 1, Fall: 1}
	ns := newNamespace(t, func(c *events.Config) {
		wrong := probe
		wrong.Host = "app.example"
		c.Domains[0].URIs = []events.URI{{Path: "/", Origins: map[string]events.Origins{"unbj": {addr}}, Health: &wrong}}
	})
	e, _ := ns.start("unbj", t.TempDir())
	nc := ns.srv.Connect()
	ask := func(what string, question, answer any) {
		t.Helper()
		b, err := json.Marshal(question)
		if err != nil {
			t.Fatal(err)
		}
		m, err := nc.RequestWithContext(ctx, "unitgate.edge.demo.unbj."+e.ID()+"."+what, b)
		if err == nil {
			err = json.Unmarshal(m.Data, answer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	status := func() (st events.EdgeStatus) { ask(events.AskStatus, struct{}{}, &st); return st }
	for !strings.Contains(status().Down[addr], "answered 400") {
		if ctx.Err() != nil {
			t.Fatal("nobody is told what the probes find")
		}
	}
	var a events.ProbeAnswer
	if ask(events.AskProbe, events.ProbeQuestion{Origins: []string{addr}}, &a); !strings.Contains(a.Failed[addr], "answered 400") {
		t.Errorf("%+v", a)
	}
	d := ns.state.Domains["websocket.localhost"].Active
	right := *d
	right.URIs = []events.URI{{Path: "/", Origins: d.URIs[0].Origins, Health: &probe}}
	ns.do(events.ApplyConfig{Base: ns.state.ConfigVersion, Config: events.Config{Namespace: "demo", Domains: []events.Domain{right}}})
	for st := status(); len(st.Down) > 0 || st.Down == nil; st = status() {
		if ctx.Err() != nil {
			t.Fatalf("by the domain's own name it is down as well: %+v", st.Down)
		}
	}
	a = events.ProbeAnswer{}
	if ask(events.AskProbe, events.ProbeQuestion{Origins: []string{addr}}, &a); len(a.Failed) != 0 {
		t.Errorf("%+v", a)
	}
}

// closing is an origin that closes every connection once it has the handshake, as a Socket.IO server does with one for a
// path that it does not serve.
func closing(t *testing.T) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = c.Close()
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// refusing is an origin that answers every handshake with this status.
func refusing(t *testing.T, status int) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

// knock sends a handshake without a routerId and with a secret of the edge's own, and returns the status of the answer.
func knock(ctx context.Context, t *testing.T, addr, secret string) int {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: websocket.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nUnitgate-Probe: %s\r\n\r\n", secret)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
