package dev_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
	"github.com/unitgate/unitgate/services/unitgate/dev"
)

func start(t *testing.T, o dev.Options) *dev.Dev {
	t.Helper()
	o.FreePorts, o.Log = true, slog.New(slog.DiscardHandler)
	d, err := dev.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// command sends one command and wants it accepted.
func do(t *testing.T, d *dev.Dev, entity, verb string, data any) command.Outcome {
	t.Helper()
	nc, err := nats.Connect(d.Ready().NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	o, err := command.NewClient(nc, d.Ready().Namespace).Do(ctx, entity, verb, command.Request{Actor: "test", Data: data})
	if err != nil || !o.OK {
		t.Fatalf("%s.%s: %v %v", entity, verb, err, o.Error)
	}
	return o
}

// location asks an edge for a routerId and returns where it redirects to, "" if it serves itself.
func location(t *testing.T, addr, host, routerID string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, "ws://"+addr+"/", &websocket.DialOptions{
		Host:       host,
		HTTPHeader: http.Header{"routerId": {routerID}},
		HTTPClient: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	})
	if err == nil {
		c.CloseNow()
		return ""
	}
	if resp == nil || resp.StatusCode != http.StatusFound {
		t.Fatalf("routerId %s at %s: %v", routerID, addr, err)
	}
	return resp.Header.Get("Location")
}

// Redirects lead to the first edge of the owner by its address, whatever the Host: dev must work without DNS.
func TestServesWithoutDNS(t *testing.T) {
	d := start(t, dev.Options{Edges: 2})
	r := d.Ready()
	if r.Namespace != "demo" || r.Domain != "websocket.localhost" || r.UnitType != "unit_type" || len(r.Units) != 2 || r.Units[0].Name != "杭州中心" {
		t.Fatalf("ready: %+v", r)
	}
	center, unbj := r.Units[0].Edges, r.Units[1].Edges
	if len(center) != 2 || len(unbj) != 2 {
		t.Fatalf("edges: %v %v", center, unbj)
	}
	for _, host := range []string{"", "websocket.localhost", "unbj.websocket.localhost:80"} {
		for _, edge := range unbj {
			if got, want := location(t, edge, host, "1111"), "http://"+center[0]+"/"; got != want {
				t.Errorf("1111 at %s as %q is sent to %q, want %q", edge, host, got, want)
			}
			if got := location(t, edge, host, "8330"); got != "" {
				t.Errorf("8330 at %s as %q is sent to %q", edge, host, got)
			}
		}
	}
}

// With a data directory the namespace goes on where it was, at other ports.
func TestGoesOnWithItsData(t *testing.T) {
	data := t.TempDir()
	first := start(t, dev.Options{Edges: 1, Data: data})
	do(t, first, "cutover", "preview", map[string]any{"ranges": map[string][]string{"center": {"0-6380"}, "unbj": {"6381-9999"}}})
	nc, err := nats.Connect(first.Ready().NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	completed, err := nc.SubscribeSync("unitgate.live.demo.cutover.completed.*")
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	do(t, first, "cutover", "start", map[string]string{"cutover": "c1"})
	if _, err := completed.NextMsg(30 * time.Second); err != nil {
		t.Fatal("the cutover is not completed:", err)
	}

	if _, err := dev.Start(t.Context(), dev.Options{Edges: 1, Data: data, FreePorts: true, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("two on one directory: %v", err)
	}
	do(t, first, "edge", "retire", map[string]string{"id": "unbj-1", "reason": "its rack burnt"})
	if err := <-first.Failed(); err == nil || !strings.Contains(err.Error(), "unbj-1") {
		t.Errorf("the retired edge ended with %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := start(t, dev.Options{Edges: 1, Data: data})
	if v := second.State().Rules["unit_type"].Version; v != 2 {
		t.Errorf("rule version %d after the second start", v)
	}
	var ids []string
	for _, e := range second.State().LiveEdges() {
		ids = append(ids, e.ID)
	}
	if !slices.Equal(ids, []string{"center-1", "unbj-2"}) { // the retired one never comes back
		t.Errorf("edges %v", ids)
	}
	r := second.Ready()
	if got, want := location(t, r.Units[1].Edges[0], "", "6249"), "http://"+r.Units[0].Edges[0]+"/"; got != want {
		t.Errorf("6249 is sent to %q, want %q", got, want)
	}
}

func TestWithAConfigFile(t *testing.T) {
	f, err := configfile.Parse("shop.yaml", []byte(`
namespace: shop
unitTypes: [{name: t, slots: 10}]
units: [{id: b}, {id: a, center: true}]
clusters: [{id: ca, unit: a}, {id: cb, unit: b, instances: [named-1]}]
domains:
  - host: shop.example
    units: {a: {cluster: ca}, b: {cluster: cb}}
    uris: [{path: /, origins: {a: "127.0.0.1:1", b: "127.0.0.1:1"}}]
rules: {t: {ranges: {a: [0-4], b: [5-9]}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, dev.Options{File: f, Edges: 1})
	r := d.Ready()
	if r.Namespace != "shop" || r.Domain != "shop.example" || r.UnitType != "t" || r.Units[0].ID != "b" || r.Units[1].ID != "a" {
		t.Fatalf("ready: %+v", r)
	}
	if e := d.State().Edges["named-1"]; e.Cluster != "cb" || e.Address != r.Units[0].Edges[0] {
		t.Errorf("edges: %+v", d.State().Edges)
	}
	file := filepath.Join(t.TempDir(), "ready.json")
	if err := r.WriteFile(file); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	var read dev.Ready
	if err != nil || json.Unmarshal(b, &read) != nil || read.NATS != r.NATS || len(read.Units) != 2 {
		t.Errorf("ready file: %v\n%s", err, b)
	}
}

func TestRefusals(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if l, err := net.Listen("tcp4", "127.0.0.1:4222"); err == nil { // else someone else has it, which is as good
		defer l.Close()
	}
	_, err := dev.Start(t.Context(), dev.Options{Edges: 1, Log: log})
	if err == nil || !strings.Contains(err.Error(), "port 4222 (NATS) is in use") || !strings.Contains(err.Error(), "--free-ports") {
		t.Errorf("busy port: %v", err)
	}
	for text, want := range map[string]string{
		"namespace: a\nunits: [{id: u, center: true}]":                                                         "unit u has no cluster",
		"namespace: a\nunits: [{id: u, center: true}]\nclusters: [{id: c, unit: u, instances: [one]}]":         "admits 1 edges only",
		"namespace: a\nunitTypes: [{name: t, slots: 10}]\nunits: [{id: u}]\nrules:\n  t: {ranges: {u: [0-8]}}": "x.yaml:5: range_gap",
		"namespace: a\nunitTypes: [{name: t, slots: 10}]\nunits: [{id: u}]\nclusters:\n- {id: c, unit: v}\n":   "x.yaml:5: unknown_unit",
	} {
		f, err := configfile.Parse("x.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dev.Start(t.Context(), dev.Options{File: f, Edges: 2, FreePorts: true, Log: log}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot %v, want %s", text, err, want)
		}
	}
}
