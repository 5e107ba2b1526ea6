package exclusive

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/cutover"
	"github.com/unitgate/unitgate/services/projector"
)

const ns = "shop"

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// bubbleClock is the boot clock of a bubble: time there is not the machine's.
func bubbleClock() time.Duration { return time.Duration(time.Now().UnixNano()) }

func ranges(border uint32) map[string][]routing.Range {
	return map[string][]routing.Range{"center": {{From: 0, To: border - 1}}, "unbj": {{From: border, To: 15}}}
}

// config is a namespace of two units with 16 slots, border between them at 8.
func config(ownership string) events.Config {
	return events.Config{
		Namespace: ns, Policy: &events.PolicyPatch{Ownership: &ownership},
		UnitTypes: []events.UnitType{{Name: "user", Slots: 16}},
		Units:     []events.Unit{{ID: "center", Center: true}, {ID: "unbj"}},
		Clusters:  []events.Cluster{{ID: "center", Unit: "center"}, {ID: "unbj", Unit: "unbj"}},
		Domains: []events.Domain{{
			Host:  "ws.shop.localhost", // looked up by no resolver: that of package net cannot be used in two bubbles
			Units: map[string]events.DomainUnit{"center": {Cluster: "center"}, "unbj": {Cluster: "unbj"}},
			URIs:  []events.URI{{Path: "/", Origins: map[string]events.Origins{"center": {"127.0.0.1:9001"}, "unbj": {"127.0.0.1:9002"}}}},
		}},
		Rules: map[string]events.RulesConfig{"user": {Ranges: ranges(8)}},
	}
}

// plane is one control process's part in a namespace.
type plane struct {
	t         *testing.T
	projector *projector.Projector
	handler   *command.Handler
	manager   *cutover.Manager
}

// startPlane runs a control process until the test ends.
func startPlane(t *testing.T, nc *nats.Conn, incarnation string) *plane {
	t.Helper()
	p, stop := runPlane(t, nc, incarnation)
	t.Cleanup(stop)
	return p
}

// runPlane runs a control process until it is stopped.
func runPlane(t *testing.T, nc *nats.Conn, incarnation string) (p *plane, stop func()) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Create(t.Context(), js, ns, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p = &plane{t: t, projector: projector.New(j, nil, false, quiet())}
	p.handler = command.NewHandler(p.projector, cutover.NewPreparer(cutover.NewFleet(nc, ns), js, p.projector), time.Now, quiet())
	p.manager = cutover.New(cutover.Config{
		NC: nc, JS: js, Namespace: ns, Epoch: j.Epoch(), States: p.projector, Submit: p.handler, Replicas: 1, Logger: quiet(),
		Key: keyOf(incarnation), Clock: bubbleClock,
	})
	if _, err := nc.QueueSubscribe(events.EdgeSubject(ns, "*", "*", "join"), "control", p.join); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.projector.Run(ctx) })
	running.Go(func() { _ = p.manager.Run(ctx) })
	return p, func() { cancel(); running.Wait() }
}

// keyOf is the key of a process by this name.
func keyOf(process string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(process))
	return ed25519.NewKeyFromSeed(seed[:])
}

func (p *plane) join(m *nats.Msg) {
	var env struct{ Data json.RawMessage }
	_ = json.Unmarshal(m.Data, &env)
	c, err := events.DecodeCommand("edge", "join", env.Data)
	signer, serr := events.VerifySigner(m.Header, m.Subject, m.Data)
	if err != nil || serr != nil {
		p.t.Error(err, serr)
		return
	}
	b, _ := json.Marshal(p.handler.Do(context.Background(), events.Envelope{Actor: "test", Traceparent: command.NewTraceparent(), Signer: signer, Command: c}))
	_ = m.Respond(b)
}

func (p *plane) try(c events.Command) command.Outcome {
	return p.handler.Do(context.Background(), events.Envelope{Actor: "test", Reason: "test", Traceparent: command.NewTraceparent(), Command: c})
}

func (p *plane) do(c events.Command) {
	p.t.Helper()
	if o := p.try(c); !o.OK {
		p.t.Fatalf("%T: %v", c, o.Error)
	}
}

// begin proposes and starts a cutover that moves the border, past the prechecks that need real edges, and returns its id.
func (p *plane) begin(border uint32) string {
	p.t.Helper()
	p.do(events.PreviewCutover{Ranges: ranges(border)})
	id := fmt.Sprintf("c%d", p.projector.State().CutoverCount)
	for _, k := range events.CheckIDs() {
		p.do(events.SkipCheck{Cutover: id, Check: k})
	}
	p.do(events.StartCutover{Cutover: id})
	return id
}

// until waits for a state, in virtual time.
func (p *plane) until(what string, within time.Duration, ok func(*events.State) bool) *events.State {
	p.t.Helper()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		s := p.projector.State()
		if ok(s) {
			return s
		}
		if time.Since(begun) > within {
			p.t.Fatalf("%s: not within %s; at %d, %+v, %+v", what, within, s.Seq, s.Exclusive, s.CutoverList())
		}
	}
}

func ended(id string) func(*events.State) bool {
	return func(s *events.State) bool { return s.Cutovers[id].State == events.Completed }
}

// door is an edge's relay without sockets: users are connected, or they are not.
type door struct {
	unit string

	mu      sync.Mutex // guards what follows
	view    *handshake.View
	users   map[string]bool // connected
	until   time.Duration   // as agent.Relay's Serve; 0: freely, -1: forbidden
	counts  agent.Counts
	forbids int // how often it was forbidden to serve while users were connected
	changed chan struct{}
	evicted map[string]bool // users who were ever evicted
}

func newDoor(unit string) *door {
	return &door{unit: unit, users: map[string]bool{}, evicted: map[string]bool{}, changed: make(chan struct{}, 1)}
}

func (d *door) leased() bool { return d.until == 0 || d.until > 0 && bubbleClock() < d.until }

func (d *door) serves(user string) bool {
	if d.view == nil {
		return false
	}
	_, ok := d.view.Serves("user", user)
	return ok && d.view.Admits && d.leased()
}

// dial lets a user in, if it is served here.
func (d *door) dial(user string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.serves(user) {
		d.users[user] = true
	}
	return d.users[user]
}

// serving reports whether a byte of the user may pass at this moment: pollers look at the lease first (R12).
func (d *door) serving(user string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.users[user] && d.leased()
}

func (d *door) connected(user string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.users[user]
}

func (d *door) signal() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// Install implements agent.Relay, as do the others.
func (d *door) Install(_ context.Context, v *handshake.View) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.view = v
	d.counts.Victims = 0
	for u := range d.users {
		if _, ok := v.Serves("user", u); !ok {
			d.counts.Victims++
		}
	}
	return nil
}

func (d *door) Evict(string, int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for u := range d.users {
		if _, ok := d.view.Serves("user", u); !ok {
			delete(d.users, u)
			d.evicted[u] = true
			d.counts.Evicted++
		}
	}
	d.counts.Victims = 0
	d.signal()
}

func (d *door) Counts(string) agent.Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counts
	c.Sessions = len(d.users)
	return c
}

func (d *door) Changed() <-chan struct{}                        { return d.changed }
func (d *door) CountKeys(string, routing.Keys, routing.IDs) int { return 0 }
func (d *door) CountDomains([]string) map[string]int            { return nil }
func (d *door) CountRouter(string, string) int                  { return 0 }
func (d *door) EvictRouter(string, string) int                  { return 0 }
func (d *door) CountProxied(string, string) int                 { return 0 }
func (d *door) Down([]string) map[string]string                 { return nil }
func (d *door) Passage(events.CutoverQuestion) events.CutoverAnswer {
	return events.CutoverAnswer{} // it remembers nobody
}
func (d *door) ServeFreely() { d.mu.Lock(); d.until = 0; d.mu.Unlock() }

func (d *door) Serve(until time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = until
	return true
}

func (d *door) Forbid() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.users) > 0 {
		d.forbids++
	}
	d.until, d.counts.Victims = -1, 0
	clear(d.users)
	done := make(chan struct{})
	close(done)
	return done
}

// startEdge runs an edge's agent until the test ends.
func startEdge(t *testing.T, nc *nats.Conn, id, unit string) *door {
	t.Helper()
	d, stop := runEdge(t, nc, t.TempDir(), id, unit, "127.0.0.1:"+map[string]string{"b1": "7201", "b2": "7202", "h1": "7101", "h2": "7102"}[id])
	t.Cleanup(stop)
	return d
}

// runEdge runs an edge's agent on a state directory until it is stopped.
func runEdge(t *testing.T, nc *nats.Conn, path, id, unit, address string) (d *door, stop func()) {
	t.Helper()
	dir, err := agent.OpenStateDir(path, id)
	if err != nil {
		t.Fatal(err)
	}
	d = newDoor(unit)
	r, err := agent.Start(agent.Config{
		Namespace: ns, Unit: unit, Cluster: unit, Advertise: address,
		Dir: dir, NATS: agent.NATS{Conn: nc}, Relay: d, Clock: bubbleClock, Logger: quiet(),
		Try: func(context.Context, string, events.Service) events.TriedSession { return events.TriedSession{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return d, func() { cancel(); <-ended; _ = dir.Close() }
}
