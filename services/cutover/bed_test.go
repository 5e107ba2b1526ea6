package cutover

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/projector"
)

// bed is a control plane's parts on a real server, with small edges that answer and report.
type bed struct {
	t         *testing.T
	ctx       context.Context
	nc        *nats.Conn
	js        jetstream.JetStream
	projector *projector.Projector
	prepare   *Preparer
	handler   *command.Handler
	edges     map[string]*fakeEdge
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// newBed is the namespace of shopConfig with four edges that are well.
func newBed(t *testing.T) *bed {
	s := journaltest.StartServer(t)
	b := newBedOn(t, s.Connect(), 1)
	b.setUp()
	return b
}

// newBedOn starts the control plane's parts on a connection.
func newBedOn(t *testing.T, nc *nats.Conn, replicas int) *bed {
	ctx, stop := context.WithCancel(context.Background())
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Create(ctx, js, testNamespace, journal.Options{Replicas: replicas})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, ctx: ctx, nc: nc, js: js, projector: projector.New(j, nil, false, quiet()), edges: map[string]*fakeEdge{}}
	var running sync.WaitGroup
	running.Go(func() { _ = b.projector.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	b.prepare = NewPreparer(NewFleet(nc, testNamespace), js, b.projector)
	b.prepare.names.lookup = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	b.prepare.names.dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nobody speaks TLS") }
	b.handler = command.NewHandler(b.projector, b.prepare, time.Now, quiet())
	return b
}

func (b *bed) setUp() {
	b.do(events.ApplyConfig{Config: shopConfig()})
	for _, e := range []events.JoinEdge{
		{ID: "b1", Directory: directoryOf("b1"), Unit: "unbj", Cluster: "bj", Address: "127.0.0.1:7201"}, {ID: "b2", Directory: directoryOf("b2"), Unit: "unbj", Cluster: "bj", Address: "127.0.0.1:7202"},
		{ID: "h1", Directory: directoryOf("h1"), Unit: "center", Cluster: "hz", Address: "127.0.0.1:7101"}, {ID: "h2", Directory: directoryOf("h2"), Unit: "center", Cluster: "hz", Address: "127.0.0.1:7102"},
	} {
		b.do(e)
		b.edge(e.ID, e.Unit)
	}
}

// do carries out a command through the handler, prechecks included.
func (b *bed) do(c events.Command) command.Outcome {
	b.t.Helper()
	o := b.handler.Do(b.ctx, events.Envelope{Actor: "test", Reason: "test", Traceparent: command.NewTraceparent(), Command: c})
	if !o.OK {
		b.t.Fatalf("%T: %v", c, o.Error)
	}
	return o
}

// preview proposes the move of slots 8-11 to center and returns the cutover.
func (b *bed) preview() *events.Cutover {
	b.t.Helper()
	b.do(events.PreviewCutover{Ranges: rangesOf("0-11", "12-15"), Waves: 2})
	s := b.projector.State()
	c := s.Cutovers[fmt.Sprintf("c%d", s.CutoverCount)]
	return &c
}

// check runs one precheck of a fresh preview.
func (b *bed) check(id string) events.Check {
	b.t.Helper()
	c := b.preview()
	return b.prepare.Run(b.ctx, b.projector.State(), c, []string{id})[0]
}

func (b *bed) want(k events.Check, state events.CheckState, measured string, words ...string) {
	b.t.Helper()
	if k.State != state || !strings.Contains(k.Measured, measured) || k.At.IsZero() {
		b.t.Errorf("want %s with %q measured, got %+v", state, measured, k)
	}
	for _, w := range words {
		if !strings.Contains(k.Message, w) {
			b.t.Errorf("message %q does not say %q", k.Message, w)
		}
	}
}

// eventually waits until the state is as wanted.
func (b *bed) eventually(what string, ok func(*events.State) bool) *events.State {
	b.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		ch := b.projector.Changed()
		s := b.projector.State()
		if ok(s) {
			return s
		}
		select {
		case <-ch:
		case <-limit:
			b.t.Fatalf("%s: not within 20 s; at sequence %d, cutovers %+v", what, s.Seq, s.CutoverList())
		}
	}
}

// fakeEdge answers an edge's questions from the control plane's own state, changed by the test.
type fakeEdge struct {
	b        *bed
	id, unit string

	mu       sync.Mutex // guards what follows
	sub      *nats.Subscription
	twist    func(*events.EdgeReport)            // changes what it says of itself
	sessions int                                 // on whatever it is asked about
	domains  map[string]int                      // sessions by domain
	asked    []events.CountQuestion              // what it was asked
	probe    func(origin string) (failed string) // "" or why it cannot connect
	mute     bool                                // it hears and does not answer
	try      func(events.Service) (status int, failed string)
}

func (b *bed) edge(id, unit string) {
	e := &fakeEdge{b: b, id: id, unit: unit, twist: func(*events.EdgeReport) {}, probe: func(string) string { return "" }, try: func(events.Service) (int, string) { return 101, "" }}
	sub, err := b.nc.Subscribe(fmt.Sprintf("unitgate.edge.%s.%s.%s.*", testNamespace, unit, id), e.answer)
	if err != nil {
		b.t.Fatal(err)
	}
	e.sub = sub
	b.edges[id] = e
}

// change changes an edge under its lock.
func (b *bed) change(id string, f func(*fakeEdge)) {
	e := b.edges[id]
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e)
}

func (b *bed) silence(id string) { _ = b.edges[id].sub.Unsubscribe() }

func (e *fakeEdge) report() events.EdgeReport {
	s := e.b.projector.State()
	r := events.EdgeReport{
		Namespace: testNamespace, Epoch: e.b.projector.Journal().Epoch(), Edge: e.id, Directory: directoryOf(e.id), Unit: e.unit, Incarnation: "p-" + e.id,
		Applied: s.Seq, StateHash: s.Hash(),
	}
	for _, c := range s.CutoverList() {
		if w := c.FencedWave(); w >= 0 {
			r.Fences = append(r.Fences, events.FenceReport{Cutover: c.ID, Wave: w, Fence: c.Waves[w].FenceSeq, Drained: true})
		}
	}
	e.twist(&r)
	return r
}

func (e *fakeEdge) answer(m *nats.Msg) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mute {
		return
	}
	var v any
	switch m.Subject[strings.LastIndexByte(m.Subject, '.')+1:] {
	case events.AskStatus, events.AskStanding:
		v = e.report()
	case events.AskSessions, events.AskCount:
		var q events.CountQuestion
		data, _ := events.Unpack(m.Data)
		_ = json.Unmarshal(data, &q)
		e.asked = append(e.asked, q)
		v = events.CountAnswer{Sessions: e.sessions, Domains: e.domains}
	case "probe":
		var q events.ProbeQuestion
		_ = json.Unmarshal(m.Data, &q)
		a := events.ProbeAnswer{Failed: map[string]string{}}
		for _, o := range q.Origins {
			if why := e.probe(o); why != "" {
				a.Failed[o] = why
			}
		}
		v = a
	case "handshake":
		var q events.HandshakeQuestion
		_ = json.Unmarshal(m.Data, &q)
		var a events.HandshakeAnswer
		for _, service := range q.Services {
			t := events.TriedSession{Service: service}
			t.Status, t.Failed = e.try(service)
			t.Closed = strings.Contains(t.Failed, "closes the connection")
			a.Sessions = append(a.Sessions, t)
		}
		v = a
	default:
		return
	}
	b, _ := json.Marshal(v)
	_ = m.Respond(b)
}

// reportAlways makes every edge report at each change of the state, as long as the test runs.
func (b *bed) reportAlways() {
	var running sync.WaitGroup
	b.t.Cleanup(running.Wait)
	ctx, stop := context.WithCancel(b.ctx)
	b.t.Cleanup(stop)
	running.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			ch := b.projector.Changed()
			for id, e := range b.edges {
				e.mu.Lock()
				r, _ := json.Marshal(e.report())
				muted := !e.sub.IsValid()
				e.mu.Unlock()
				if !muted {
					_ = b.nc.Publish(fmt.Sprintf("unitgate.edge.%s.%s.%s.report", testNamespace, e.unit, id), r)
				}
			}
			select {
			case <-ch:
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
}

// keyOf is the key of a process by this name.
func keyOf(process string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(process))
	return ed25519.NewKeyFromSeed(seed[:])
}

func (b *bed) manager(incarnation string) *Manager {
	return New(Config{
		NC: b.nc, JS: b.js, Namespace: testNamespace, Epoch: b.projector.Journal().Epoch(), States: b.projector,
		Submit: b.handler, Replicas: 1, Logger: quiet(), Key: keyOf(incarnation),
		Clock: func() time.Duration { return time.Duration(time.Now().UnixNano()) }, // in a bubble time is not the machine's
	})
}
