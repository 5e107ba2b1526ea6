package command_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/command"
)

func connect(t *testing.T) *nats.Conn {
	t.Helper()
	srv, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS did not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// memoryNamespaces keeps journals in memory.
type memoryNamespaces struct {
	t  *testing.T
	mu sync.Mutex
	js map[string]*journal.Memory
	hs map[string]*command.Handler

	prepare command.Preparer // of every namespace that is made
	echo    command.Query    // test.echo; nil: it answers what it was asked
}

func (m *memoryNamespaces) Get(_ context.Context, name string) (command.Namespace, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hs[name] == nil {
		return command.Namespace{}, events.ErrUnknownNamespace.With("there is no namespace %q", name)
	}
	echo := m.echo
	if echo == nil {
		echo = func(_ context.Context, data json.RawMessage) (any, error) { return data, nil }
	}
	other := func(_ context.Context, data json.RawMessage) (any, error) { return "other", nil }
	return command.Namespace{Handler: m.hs[name], Queries: map[string]command.Query{"test.echo": echo, "test.other": other}}, nil
}

func (m *memoryNamespaces) Known(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hs[name] != nil
}

func (m *memoryNamespaces) Create(ctx context.Context, name string) (command.Namespace, error) {
	m.mu.Lock()
	if m.hs[name] == nil {
		m.js[name] = journal.NewMemory(name)
		m.hs[name] = handlerWith(m.t, m.js[name], m.prepare)
	}
	m.mu.Unlock()
	return m.Get(ctx, name)
}

func (m *memoryNamespaces) journal(name string) *journal.Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.js[name]
}

func serve(t *testing.T) (*nats.Conn, *memoryNamespaces) {
	t.Helper()
	nc := connect(t)
	m := &memoryNamespaces{t: t, js: map[string]*journal.Memory{}, hs: map[string]*command.Handler{}}
	s, err := command.Serve(command.Config{NC: nc, Namespaces: m, Asked: []string{"test.echo", "cutover.show"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return nc, m
}

func ask(t *testing.T, nc *nats.Conn, subject, body string) (command.Outcome, nats.Header) {
	t.Helper()
	reply, err := nc.Request(subject, []byte(body), 10*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	var o command.Outcome
	if err := json.Unmarshal(reply.Data, &o); err != nil {
		t.Fatalf("%s: answer %q: %v", subject, reply.Data, err)
	}
	return o, reply.Header
}

func TestApiCreatesAndChangesANamespace(t *testing.T) {
	nc, m := serve(t)
	o, _ := ask(t, nc, "unitgate.api.shop.namespace.create", `{"actor":"me","data":{"unitTypes":[{"name":"unit_type","slots":100}]}}`)
	if !o.OK || o.Seq != 1 {
		t.Fatalf("create: %+v", o.Error)
	}
	o, _ = ask(t, nc, "unitgate.api.shop.unit.put", `{"actor":"me","data":{"id":"unbj","name":"北京单元"}}`)
	if !o.OK || o.Seq != 2 {
		t.Fatalf("put: %+v", o.Error)
	}
	o, _ = ask(t, nc, "unitgate.api.shop.test.echo", `{"data":{"a":1}}`)
	if !o.OK || string(o.Data) != `{"a":1}` {
		t.Errorf("query: %+v", o)
	}
	if n := head(t, m.journal("shop")); n != 2 {
		t.Errorf("journal has %d events, want 2", n)
	}
}

// "Bad input: every field of every command is validated: nothing appended"; the error's code is also in the header
// that NATS services use.
func TestApiRefusesBadRequests(t *testing.T) {
	nc, m := serve(t)
	if o, _ := ask(t, nc, "unitgate.api.shop.namespace.create", `{"actor":"me","data":{"unitTypes":[{"name":"unit_type","slots":100}]}}`); !o.OK {
		t.Fatal(o.Error)
	}
	before := head(t, m.journal("shop"))
	for _, c := range []struct{ subject, body, code, field string }{
		{"shop.unit.put", `{`, "bad_command", ""},
		{"shop.unit.put", `[]`, "bad_type", ""},
		{"shop.unit.put", `{"actor":"me","data":{"id":"a"},"extra":1}`, "unknown_field", "extra"},
		{"shop.unit.put", `{"id":"7","actor":"me","data":{"id":"a"}}`, "bad_id", "id"},
		{"shop.unit.put", `{"actor":"me","data":{"id":"a","color":"red"}}`, "unknown_field", "color"},
		{"shop.unit.put", `{"actor":"me","data":{"id":"a","id":"b"}}`, "duplicate_field", "id"},
		{"shop.unit.put", `{"actor":"me","data":{"id":7}}`, "bad_type", "id"},
		{"shop.unit.put", `{"actor":"me","data":{"id":null}}`, "bad_type", "id"},
		{"shop.unit.put", `{"actor":"me","data":{}}`, "missing_field", "id"},
		{"shop.unit.put", `{"actor":"me","data":{"id":"` + strings.Repeat("x", 64) + `"}}`, "bad_name", "id"},
		{"shop.unit.explode", `{}`, "bad_command", ""},
		{"shop.wave.fence", `{"actor":"me","data":{"cutover":"c1","wave":0,"term":1}}`, "bad_command", ""},
		{"shop.cutover.start", `{"actor":"me","data":{"cutover":"c1","checks":[]}}`, "unknown_field", "checks"},
		{"shop.rules.init", `{"actor":"me","data":{"ranges":{"a":["0-98"]}}}`, "range_gap", "ranges"},
		{"shop.rules.init", `{"actor":"me","data":{"ranges":{"a":["0-60"],"b":["60-99"]}}}`, "range_overlap", "ranges"},
		{"shop.rules.init", `{"actor":"me","data":{"ranges":{"a":["9-5"]}}}`, "bad_range", "ranges.a[0]"},
		{"shop.rules.init", `{"actor":"me","data":{"ranges":{"a":["0-99"]}}}`, "unknown_unit", "rules.unit_type"},
		{"SHOP.unit.put", `{"actor":"me","data":{"id":"a"}}`, "bad_name", "namespace"},
		{"other.unit.put", `{"actor":"me","data":{"id":"a"}}`, "unknown_namespace", ""},
		{"other.cutover.show", `{"data":{"cutover":"c1"}}`, "unknown_namespace", ""},
	} {
		o, header := ask(t, nc, "unitgate.api."+c.subject, c.body)
		if o.OK || o.Error.Code != c.code || o.Error.Field != c.field {
			t.Errorf("%s %s: %+v, want %s at %q", c.subject, c.body, o.Error, c.code, c.field)
		}
		if got := header.Get("Nats-Service-Error-Code"); got != c.code {
			t.Errorf("%s %s: error code header %q", c.subject, c.body, got)
		}
	}
	ids := make([]string, 50_000) // together over the size of an event, however they are packed
	noise := rand.NewChaCha8([32]byte{})
	for i := range ids {
		var b [9]byte
		_, _ = noise.Read(b[:])
		ids[i] = base64.RawURLEncoding.EncodeToString(b[:])
	}
	big, err := json.Marshal(events.ApplyConfig{Config: events.Config{
		Namespace: "big", UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 10}}, Units: []events.Unit{{ID: "a"}},
		Rules: map[string]events.RulesConfig{"unit_type": {Ranges: map[string][]routing.Range{"a": {{From: 0, To: 9}}}, Exact: map[string][]string{"a": ids}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := ask(t, nc, "unitgate.api.big.config.apply", `{"actor":"me","data":`+string(big)+`}`); o.OK || o.Error.Code != "too_large" {
		t.Errorf("50,000 exact IDs: %+v", o.Error)
	}
	if n := head(t, m.journal("shop")); n != before {
		t.Errorf("bad requests appended %d events", n-before)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.js) != 1 {
		t.Errorf("bad requests made journals: %d", len(m.js))
	}
}

func TestClientSaysWhatIsWrong(t *testing.T) {
	nc := connect(t)
	_, err := command.NewClient(nc, "shop").Do(t.Context(), "unit", "put", command.Request{Actor: "test", Data: events.Unit{ID: "a"}})
	if e, ok := err.(*events.Error); !ok || e.Code != command.ErrNoController.Code {
		t.Errorf("no controller: %v", err)
	}
	sub, err := nc.Subscribe("unitgate.api.shop.unit.put", func(m *nats.Msg) { _ = m.Respond([]byte("what?")) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	_, err = command.NewClient(nc, "shop").Do(t.Context(), "unit", "put", command.Request{Actor: "test", Data: events.Unit{ID: "a"}})
	if e, ok := err.(*events.Error); !ok || e.Code != command.ErrNoAnswer.Code {
		t.Errorf("no outcome: %v", err)
	}
}
