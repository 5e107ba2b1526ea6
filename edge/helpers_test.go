package edge_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/events/routing"
)

const patience = 20 * time.Second

// namespace is the walkthrough's, on a real NATS server: the test decides its events with the real core and appends them
// to a real journal, where a control plane would.
type namespace struct {
	t       *testing.T
	srv     *journaltest.Server
	journal journal.Journal
	reports chan events.EdgeReport
	newest  map[string]events.EdgeReport // by edge, as far as report has looked

	mu    sync.Mutex // guards what follows
	state *events.State
	n     int
}

func newNamespace(t *testing.T, tweaks ...func(*events.Config)) *namespace {
	ns := &namespace{t: t, srv: journaltest.StartServer(t), state: events.NewState(), reports: make(chan events.EdgeReport, 4096), newest: map[string]events.EdgeReport{}}
	js := ns.srv.JetStream()
	var err error
	if ns.journal, err = journal.Create(t.Context(), js, "demo", journal.Options{}); err != nil {
		t.Fatal(err)
	}
	ns.listen(js.Conn())
	cfg := events.Config{
		Namespace: "demo",
		UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 10000}},
		Units:     []events.Unit{{ID: "center", Center: true}, {ID: "unbj"}},
		Clusters:  []events.Cluster{{ID: "ws-center", Unit: "center"}, {ID: "ws-unbj", Unit: "unbj"}},
		Domains: []events.Domain{{
			Host:  "websocket.localhost",
			Units: map[string]events.DomainUnit{"center": {Cluster: "ws-center"}, "unbj": {Cluster: "ws-unbj"}},
			URIs:  []events.URI{{Path: "/", Origins: map[string]events.Origins{"center": {origin(t, "center")}, "unbj": {origin(t, "unbj")}}}},
		}},
		Rules: map[string]events.RulesConfig{"unit_type": {Ranges: ranges(5998)}},
	}
	for _, tweak := range tweaks {
		tweak(&cfg)
	}
	ns.do(events.ApplyConfig{Config: cfg})
	return ns
}

func ranges(border uint32) map[string][]routing.Range {
	return map[string][]routing.Range{"center": {{From: 0, To: border - 1}}, "unbj": {{From: border, To: 9999}}}
}

// listen takes reports, and answers joins and leaves.
func (ns *namespace) listen(nc *nats.Conn) {
	ns.t.Helper()
	_, err := nc.Subscribe("unitgate.edge.demo.*.*.report", func(m *nats.Msg) {
		var r events.EdgeReport
		if err := json.Unmarshal(m.Data, &r); err != nil {
			ns.t.Errorf("report %s: %v", m.Data, err)
		}
		ns.reports <- r
	})
	for _, verb := range []string{"join", "leave"} {
		if err != nil {
			break
		}
		_, err = nc.Subscribe(events.EdgeSubject("demo", "*", "*", verb), func(m *nats.Msg) {
			var env struct{ Data json.RawMessage }
			var o struct {
				OK    bool          `json:"ok"`
				Error *events.Error `json:"error,omitempty"`
			}
			err := json.Unmarshal(m.Data, &env)
			signer, serr := events.VerifySigner(m.Header, m.Subject, m.Data)
			err = cmp.Or(err, serr)
			var c events.Command
			if err == nil {
				c, err = events.DecodeCommand("edge", verb, env.Data)
			}
			if err == nil {
				_, err = ns.tryAs(signer, c)
			}
			o.OK = err == nil
			errors.As(err, &o.Error)
			b, _ := json.Marshal(o)
			_ = m.Respond(b)
		})
	}
	if err != nil {
		ns.t.Fatal(err)
	}
}

func (ns *namespace) try(c events.Command) (*events.State, error) { return ns.tryAs("", c) }

// tryAs is try of an edge that signs.
func (ns *namespace) tryAs(signer string, c events.Command) (*events.State, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.n++
	env := events.Envelope{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", ns.n), Actor: "test", Signer: signer, Signatures: events.SignaturesOptional, Command: c}
	now := time.Now()
	e, err := events.Decide(ns.state, "demo", env, now)
	if err != nil {
		return nil, err
	}
	rec, err := events.NewRecord(ns.state, env, e, now)
	if err == nil {
		rec, err = ns.journal.Append(context.Background(), ns.state.Seq, rec)
	}
	if err == nil {
		err = ns.state.Apply(rec)
	}
	return ns.state.Clone(), err
}

func (ns *namespace) do(c events.Command) *events.State {
	ns.t.Helper()
	s, err := ns.try(c)
	if err != nil {
		ns.t.Fatalf("%T: %v", c, err)
	}
	return s
}

// report waits for a report of an edge that fits; the newest one may have come before.
func (ns *namespace) report(id, what string, fits func(events.EdgeReport) bool) events.EdgeReport {
	ns.t.Helper()
	deadline := time.After(patience)
	for {
		if r, ok := ns.newest[id]; ok && fits(r) {
			return r
		}
		select {
		case r := <-ns.reports:
			ns.newest[r.Edge] = r
		case <-deadline:
			ns.t.Fatalf("no report of %s with %s; the last one is %+v", id, what, ns.newest[id])
		}
	}
}

// config is an edge's.
func (ns *namespace) config(unit, dir string) edge.Config {
	return edge.Config{
		Namespace: "demo", Unit: unit, Cluster: "ws-" + unit, Listen: []string{"127.0.0.1:0"}, StateDir: dir, ID: unit + "-1",
		NATS: agent.NATS{Options: []nats.Option{nats.InProcessServer(ns.srv), nats.ReconnectWait(10 * time.Millisecond)}},
		Dev:  agent.Dev{AdvertisedLocations: true, FallbackHost: true}, Admin: "127.0.0.1:0", Engines: 2,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// start runs an edge of a unit until the test ends, and waits until it has joined.
func (ns *namespace) start(unit, dir string, tweaks ...func(*edge.Config)) (e *edge.Edge, stop func()) {
	ns.t.Helper()
	cfg := ns.config(unit, dir)
	for _, tweak := range tweaks {
		tweak(&cfg)
	}
	e, err := edge.New(cfg)
	if err != nil {
		ns.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-ended:
				if err != nil {
					ns.t.Errorf("edge of %s ended with %v", unit, err)
				}
			case <-time.After(patience):
				ns.t.Errorf("edge of %s does not end", unit)
			}
		})
	}
	ns.t.Cleanup(stop)
	ns.report(e.ID(), "its join", func(r events.EdgeReport) bool { return r.Applied > 0 && e.Ready() })
	return e, stop
}

// origin is a server that echoes "<text>:<unit>".
func origin(t *testing.T, unit string) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			typ, b, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), typ, append(b, ":"+unit...)) != nil {
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// dial connects a user by way of an edge, following redirects; took are the addresses that answered.
func dial(ctx context.Context, via, routerID string) (c *websocket.Conn, took []string, err error) {
	client := &http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error { took = append(took, r.URL.Host); return nil }}
	c, resp, err := websocket.Dial(ctx, "ws://"+via+"/", &websocket.DialOptions{
		HTTPClient: client, HTTPHeader: http.Header{"routerId": {routerID}, "unitType": {"unit_type"}},
	})
	if err != nil && resp != nil && resp.Body != nil {
		b, _ := io.ReadAll(resp.Body)
		err = fmt.Errorf("%w: %s", err, b)
	}
	return c, append([]string{via}, took...), err
}

// say sends a text and returns the answer.
func say(ctx context.Context, c *websocket.Conn, text string) (string, error) {
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		return "", err
	}
	_, b, err := c.Read(ctx)
	return string(b), err
}
