package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/events/routing"
)

const patience = 20 * time.Second // for what must come; a test that has to wait so long fails

// lab is a real NATS server with a real journal, whose events the test decides and appends.
type lab struct {
	t       *testing.T
	srv     *journaltest.Server
	nc      *nats.Conn // the control plane's
	journal journal.Journal
	reports chan events.EdgeReport
	logs    chan string
	beacons atomic.Int64 // how long the office has run, as its beacons say

	mu sync.Mutex // guards w
	w  *world
}

func newLab(t *testing.T) *lab { return newLabOn(t, journaltest.StartServer(t)) }

func newLabOn(t *testing.T, srv *journaltest.Server) *lab {
	l := &lab{t: t, srv: srv, reports: make(chan events.EdgeReport, 4096), logs: make(chan string, 4096)}
	js := l.srv.JetStream(srv.Uncut())
	l.nc = js.Conn()
	j, err := journal.Create(t.Context(), js, "demo", journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.journal = j
	_, err = l.nc.Subscribe("unitgate.edge.demo.*.*.report", func(m *nats.Msg) {
		var r events.EdgeReport
		if err := json.Unmarshal(m.Data, &r); err != nil {
			t.Errorf("report %s: %v", m.Data, err)
		}
		l.reports <- r
	})
	if err != nil {
		t.Fatal(err)
	}
	l.w = newWorld(t, l.append)
	return l
}

func (l *lab) append(rec events.Record) {
	if _, err := l.journal.Append(context.Background(), rec.Seq-1, rec); err != nil {
		l.t.Error(err)
	}
}

// history runs f with the world's lock held and returns the state after it.
func (l *lab) history(f func(w *world)) *events.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.w)
	return l.w.state.Clone()
}

// admit answers joins as the control plane does.
func (l *lab) admit() {
	_, err := l.nc.Subscribe("unitgate.edge.demo.*.*.join", func(m *nats.Msg) {
		var env struct {
			ID, Actor string
			Data      json.RawMessage
		}
		o := outcome{}
		err := events.DecodeStrict(m.Data, &struct {
			ID    string          `json:"id"`
			Actor string          `json:"actor"`
			Data  json.RawMessage `json:"data"`
		}{})
		if err == nil {
			err = json.Unmarshal(m.Data, &env)
		}
		signer := ""
		if err == nil {
			signer, err = events.VerifySigner(m.Header, m.Subject, m.Data)
		}
		if err == nil {
			o.Seq, err = l.join(env.ID, env.Actor, signer, env.Data)
		}
		o.OK = err == nil
		errors.As(err, &o.Error)
		b, _ := json.Marshal(o)
		_ = m.Respond(b)
	})
	if err == nil {
		err = l.nc.Flush()
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) join(id, actor, signer string, data []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := events.DecodeCommand("edge", "join", data)
	if err != nil {
		return 0, err
	}
	env := events.Envelope{ID: id, Actor: actor, Signer: signer, Command: c}
	e, err := events.Decide(l.w.state, "demo", env, start)
	if err != nil {
		return 0, err
	}
	rec, err := events.NewRecord(l.w.state, env, e, start)
	if err != nil {
		return 0, err
	}
	l.append(rec)
	return rec.Seq, l.w.state.Apply(rec)
}

// edge is a Runner under test.
type edge struct {
	l     *lab
	r     *Runner
	relay *fakeRelay
	dir   *StateDir
	stop  context.CancelFunc
	ended chan error
}

// start runs an edge of unbj in a state directory; a change may alter its configuration.
func (l *lab) start(path string, change ...func(*Config)) *edge {
	l.t.Helper()
	e := &edge{l: l, relay: newFakeRelay(), ended: make(chan error, 1)}
	e.dir = openDir(l.t, path, "")
	cfg := Config{
		Namespace: "demo", Unit: "unbj", Cluster: "ws-bj", Advertise: "127.0.0.1:7201", Capacity: 100, Dir: e.dir, Relay: e.relay,
		NATS:   NATS{Options: []nats.Option{nats.InProcessServer(l.srv), nats.ReconnectWait(10 * time.Millisecond), nats.ReconnectJitter(0, 0)}},
		Logger: slog.New(slog.NewTextHandler(l, nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	if began := time.Now(); cfg.Clock == nil { // in a bubble time is not the machine's
		cfg.Clock = func() time.Duration { return time.Hour + time.Since(began) }
	}
	var err error
	if e.r, err = Start(cfg); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { e.ended <- e.r.Run(ctx) }()
	e.stop = func() {
		l.t.Helper()
		cancel()
		if err := e.end(); err != nil {
			l.t.Errorf("run ended with %v", err)
		}
		_ = e.dir.Close()
	}
	l.t.Cleanup(cancel)
	return e
}

// end waits until Run has returned.
func (e *edge) end() error {
	e.l.t.Helper()
	select {
	case err := <-e.ended:
		return err
	case <-time.After(patience):
		e.l.t.Fatal("run does not end")
		return nil
	}
}

// Write takes the log of the edges.
func (l *lab) Write(b []byte) (int, error) {
	select {
	case l.logs <- string(b):
	default:
	}
	return len(b), nil
}

// logged waits for a log line that contains a text, and returns it.
func (l *lab) logged(text string) string {
	l.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line := <-l.logs:
			if strings.Contains(line, text) {
				return line
			}
		case <-deadline:
			l.t.Fatalf("%q was not logged", text)
			return ""
		}
	}
}

// report waits for a report that fits.
func (l *lab) report(what string, fits func(events.EdgeReport) bool) events.EdgeReport {
	l.t.Helper()
	deadline := time.After(patience)
	var last events.EdgeReport
	for {
		select {
		case last = <-l.reports:
			if fits(last) {
				return last
			}
		case <-deadline:
			l.t.Fatalf("no report with %s; the last one is %+v", what, last)
		}
	}
}

func at(seq uint64) func(events.EdgeReport) bool {
	return func(r events.EdgeReport) bool { return r.Applied == seq }
}

// ask puts a question to the edge and reads its answer.
func (e *edge) ask(what string, question, answer any) *nats.Msg {
	e.l.t.Helper()
	b, err := json.Marshal(question)
	if err != nil {
		e.l.t.Fatal(err)
	}
	m, err := e.l.nc.Request("unitgate.edge.demo.unbj."+e.r.ID()+"."+what, b, patience)
	if err != nil {
		e.l.t.Fatal(err)
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		e.l.t.Fatalf("%s: %v", m.Data, err)
	}
	return m
}

// fakeRelay does as it is told and counts what the test says.
type fakeRelay struct {
	installs chan *handshake.View
	evicts   chan Evict
	changed  chan struct{}

	mu     sync.Mutex // guards what follows
	counts Counts
	onKeys func(unitType string, k routing.Keys, except routing.IDs) int
	fail   error
	until  time.Duration // as Serve was told; 0: freely, -1: forbidden
}

func newFakeRelay() *fakeRelay {
	return &fakeRelay{installs: make(chan *handshake.View, 4096), evicts: make(chan Evict, 4096), changed: make(chan struct{}, 1)}
}

func (f *fakeRelay) set(c Counts) {
	f.mu.Lock()
	f.counts = c
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Install implements Relay. A view that fences something makes victims of all sessions.
func (f *fakeRelay) Install(_ context.Context, v *handshake.View) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	if _, ok := v.Serves("unit_type", "6249"); !ok {
		f.counts.Victims = f.counts.Sessions
	}
	f.installs <- v
	return nil
}

func (f *fakeRelay) Evict(unitType string, rate int) { f.evicts <- Evict{unitType, events.Rate(rate)} }

func (f *fakeRelay) Counts(unitType string) Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	if unitType != "unit_type" {
		return Counts{}
	}
	return f.counts
}

func (f *fakeRelay) Changed() <-chan struct{} { return f.changed }

func (f *fakeRelay) CountKeys(unitType string, k routing.Keys, except routing.IDs) int {
	return f.onKeys(unitType, k, except)
}

// Passage echoes what it was asked.
func (f *fakeRelay) Passage(q events.CutoverQuestion) events.CutoverAnswer {
	return events.CutoverAnswer{Known: true, Evicted: len(q.Fences), Landed: q.Users}
}

func (f *fakeRelay) CountDomains(hosts []string) map[string]int {
	out := map[string]int{}
	for _, h := range hosts {
		out[h] = len(h)
	}
	return out
}

func (f *fakeRelay) Down([]string) map[string]string { return map[string]string{} }

func (f *fakeRelay) CountProxied(string, string) int { return 0 }

func (f *fakeRelay) CountRouter(unitType, routerID string) int { return len(unitType + routerID) }

func (f *fakeRelay) EvictRouter(unitType, routerID string) int { return len(unitType + routerID) }

// Serve, ServeFreely and Forbid implement Relay.
func (f *fakeRelay) Serve(until time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until = until
	return true
}

func (f *fakeRelay) ServeFreely() { f.Serve(0) }

func (f *fakeRelay) Forbid() <-chan struct{} {
	f.Serve(-1)
	done := make(chan struct{})
	close(done)
	return done
}

// view waits for an installed view that fits.
func (e *edge) view(what string, fits func(*handshake.View) bool) *handshake.View {
	e.l.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case v := <-e.relay.installs:
			if fits(v) {
				return v
			}
		case <-deadline:
			e.l.t.Fatalf("no view with %s was installed", what)
		}
	}
}

func admitting(v *handshake.View) bool { return v.Admits }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
