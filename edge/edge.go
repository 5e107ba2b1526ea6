// Package edge is one edge replica, assembled: the state directory, the relay with its sockets, the agent that keeps it
// up to date, and the admin listener.
//
// An Edge is made by New, which takes everything that can be refused at once (directory, ports, options), and lives in
// Run. All of its methods may be called concurrently.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/edge/certs"
	"github.com/unitgate/unitgate/edge/front"
	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/edge/limit"
	"github.com/unitgate/unitgate/edge/probe"
	"github.com/unitgate/unitgate/edge/relay"
	"github.com/unitgate/unitgate/events"
)

// Config of an Edge.
type Config struct {
	Namespace  string
	Unit       string
	Cluster    string
	Listen     []string      // addresses HOST:PORT for clients, at least one; port 0 takes a free one
	ListenTLS  []string      // the same for clients that speak TLS
	Certs      []certs.Files // for ListenTLS; the first is for clients that ask for no name, or for one that none has
	Advertise  string        // HOST:PORT that other edges and probes dial; "": the first listen address
	StateDir   string        // made if it is not there
	ID         string        // "": made once and kept in StateDir
	TakeOver   bool          // take the sockets over from the process that works in StateDir; if there is none, start like any other
	Ends       string        // pid namespace that ends with this process, as the kernel names it; "": none, see pid1
	TakeRate   int           // sessions a second that it is to close then; 0: they stay until they end
	Capacity   int           // most sessions; 0: not limited
	Version    string        // of the binary, which the edge tells of; "": it tells none
	Limits     limit.Limits  // of clients' connections, whatever becomes of them
	NATS       agent.NATS
	Deadman    agent.Deadman        // ends this process if it stands still beyond its lease; nil: nothing does, as in dev, whose edges share a process
	Dev        agent.Dev            // zero outside `dev`
	Admin      string               // HOST:PORT for /healthz, /readyz, /status and /metrics; "": none
	Profiling  bool                 // also Go's profiles on the admin listener, under /debug/pprof/
	Logger     *slog.Logger         // nil: none
	Tracing    trace.TracerProvider // nil: nothing is traced
	Metrics    Metrics              // shown on the admin listener
	TraceShare float64              // of handshakes, 0 to 1, of which a span is made

	ProxyProtocol front.Trusted     // load balancers, whose connections have to begin with a PROXY header
	Fields        *handshake.Fields // of clients that reach origins, or do not; nil: as is always so

	Engines          int           // pollers; 0: one for each core
	MaxHead          int           // longest head of a client's request, in bytes; 0: handshake.MaxHead
	MaxHeld          int           // most handshakes held at a time; 0: 10,000
	HandshakeTimeout time.Duration // 0: 10 s
	DialTimeout      time.Duration // for an origin; 0: 5 s
	CloseTimeout     time.Duration // for sessions to end when they are closed all at once, then they are reset; 0: 5 s
	DrainTime        time.Duration // for them to end when Run's context ends: they are closed one after the other; 0: all at once
	Leave            bool          // when Run's context ends, this edge leaves for good, see agent.Runner.Leave
}

// Metrics says what an edge measures with, and what shows it.
type Metrics struct {
	Provider metric.MeterProvider // nil: nothing is measured
	Handler  http.Handler         // for /metrics; nil: there is none
}

// Edge is one edge replica.
type Edge struct {
	cfg   Config
	log   *slog.Logger
	home  *agent.Home
	dir   *agent.StateDir
	certs *certs.Store // nil without ListenTLS
	relay *relay.Relay
	agent *agent.Runner
	admin *admin // nil without Config.Admin

	instruments *instruments
	measuring   metric.Registration // nil: not yet
	measured    atomic.Bool         // everything is there that is read for it

	takeover *takeover   // nil: it began with sockets of its own
	draining atomic.Bool // no client is admitted any more
	serving  atomic.Bool // it has begun to accept
	handed   atomic.Bool // another process accepts
}

// counting gives the agent the relay's counts in its own type.
type counting struct{ *relay.Relay }

func (c counting) Counts(unitType string) agent.Counts { return agent.Counts(c.Relay.Counts(unitType)) }

// New takes the state directory, the ports and everything else that may be refused. Clients are answered from then on:
// with 503 until a state is installed that holds the edge's own join. Run must follow, to serve or to let go again.
func New(cfg Config) (e *Edge, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	e = &Edge{cfg: cfg, log: cfg.Logger}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.release(context.Background()))
			e = nil
		}
	}()
	if err := e.settle(); err != nil {
		return e, err
	}
	if len(cfg.ListenTLS)+len(cfg.Certs) > 0 {
		if e.certs, err = certs.Open(cfg.Certs, cfg.Logger); err != nil {
			return e, err
		}
	}
	var seen relay.Observers
	if e.instruments, seen, err = newInstruments(cfg.Metrics.Provider); err != nil {
		return e, err
	}
	e.relay, err = relay.New(relay.Config{
		Addrs: cfg.Listen, TLSAddrs: cfg.ListenTLS, Certificate: e.certs.Certificate,
		Engines: cfg.Engines, Capacity: cfg.Capacity, MaxHead: cfg.MaxHead, MaxHeld: cfg.MaxHeld,
		Limits: cfg.Limits, ProxyProtocol: cfg.ProxyProtocol, Fields: cfg.Fields, HopKey: e.dir.Signer(),
		HandshakeTimeout: cfg.HandshakeTimeout, DialTimeout: cfg.DialTimeout, Logger: cfg.Logger,
		Observers: seen, Tracing: cfg.Tracing, TraceShare: cfg.TraceShare,
		Inherited: e.takeover.listeners(cfg), Wait: e.takeover != nil,
	})
	if err != nil {
		return e, err
	}
	if e.cfg.Advertise == "" {
		if e.cfg.Advertise, err = advertisable(e.relay.Addrs()[0]); err != nil {
			return e, err
		}
	}
	if cfg.Admin != "" {
		if e.admin, err = listenAdmin(cfg.Admin, e.takeover.admin(cfg.Admin), cfg.Profiling, cfg.Metrics.Handler); err != nil {
			return e, err
		}
	}
	if e.measuring, err = e.instruments.observe(e); err != nil {
		return e, err
	}
	// The last that can fail: only Run ends the agent.
	if e.agent, err = agent.Start(agent.Config{
		Namespace: cfg.Namespace, Unit: cfg.Unit, Cluster: cfg.Cluster, Advertise: e.cfg.Advertise, Capacity: cfg.Capacity, Version: cfg.Version,
		Dir: e.dir, Succeeds: e.takeover.predecessor(), NATS: cfg.NATS, Relay: counting{e.relay}, Deadman: cfg.Deadman,
		Try: probe.Front{Addr: e.cfg.Advertise, ProxyProtocol: cfg.ProxyProtocol}.Try, Dev: cfg.Dev, Logger: cfg.Logger, Tracing: cfg.Tracing,
	}); err != nil {
		return e, err
	}
	e.measured.Store(true)
	if e.takeover == nil {
		e.serving.Store(true)
		e.admin.serve(e)
	}
	return e, nil
}

func (c *Config) check() error {
	for _, f := range []struct{ id, name string }{{c.Namespace, "namespace"}, {c.Unit, "unit"}, {c.Cluster, "cluster"}} {
		if err := events.CheckID(f.id, f.name); err != nil {
			return err
		}
	}
	switch {
	case len(c.Listen) == 0:
		return events.ErrMissingField.With("an edge needs an address to listen on").At("listen")
	case c.StateDir == "":
		return events.ErrMissingField.With("an edge needs a directory for its id and its state").At("state-dir")
	case c.Capacity < 0:
		return events.ErrBadValue.With("want 0 (no limit) or more").At("capacity")
	case min(c.Limits.Connections, c.Limits.PerAddress, c.Limits.Rate, c.Limits.RatePerAddress, c.Limits.HandshakesPerAddress) < 0:
		return events.ErrBadValue.With("want 0 (no limit) or more").At("limits")
	case c.MaxHead != 0 && (c.MaxHead < handshake.SmallestHead || c.MaxHead > handshake.LargestHead):
		return events.ErrBadValue.With("want 8192 to 262144 bytes").At("max-head")
	case c.TakeRate < 0:
		return events.ErrBadValue.With("want 0 (not at all) or more").At("take-over-rate")
	case c.DrainTime < 0:
		return events.ErrBadValue.With("want 0 (all at once) or more").At("drain-time")
	}
	var err error
	if c.Advertise == "" {
		_, err = advertisable(c.Listen[0])
	} else {
		err = events.CheckAddress(c.Advertise, "advertise")
	}
	if err != nil {
		return err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Tracing == nil {
		c.Tracing = noop.NewTracerProvider()
	}
	if c.CloseTimeout <= 0 {
		c.CloseTimeout = 5 * time.Second
	}
	return nil
}

// advertisable refuses an address that means "all of mine" and leads nobody here.
func advertisable(addr string) (string, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("listen address %s: %w", addr, err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return "", events.ErrMissingField.With("listening on every address (%s): say which HOST:PORT others dial", addr).At("advertise")
	}
	return addr, nil
}

// ID is the edge's id.
func (e *Edge) ID() string { return e.dir.ID() }

// Addrs are the addresses that clients dial, in Config's order, with the ports that were taken for 0.
func (e *Edge) Addrs() []string { return e.relay.Addrs() }

// TLSAddrs are those for TLS, likewise.
func (e *Edge) TLSAddrs() []string { return e.relay.TLSAddrs() }

// AdminAddr is the address of the admin listener, "" if there is none.
func (e *Edge) AdminAddr() string {
	if e.admin == nil {
		return ""
	}
	return e.admin.addr
}

// Ready tells whether the edge admits sessions.
func (e *Edge) Ready() bool { return e.unready() == "" }

// unready says why the edge does not admit sessions, "" if it does: when every poller decides by a state that holds its
// own join.
func (e *Edge) unready() string {
	switch {
	case e.draining.Load():
		return "draining: this edge ends its sessions and stops"
	case e.handed.Load():
		return "another process has taken over: this edge serves its sessions to their end"
	case !e.agent.Ready():
		return "not ready: no state with this edge's join is installed yet"
	case !e.serving.Load():
		return "not ready: it takes over in a moment"
	}
	return ""
}

// Status says how the edge stands.
func (e *Edge) Status(ctx context.Context) agent.Status { return e.agent.Status(ctx) }

// Run serves until ctx ends: then the edge stops accepting, closes its sessions with 1001 over Config's DrainTime and
// lets go of its directory. Or until another process has taken over and the last session has ended; the edge has left
// then. It returns nil in both cases, or why it had to stop before: agent.ErrGone, events.ErrEdgeElsewhere, another join
// that is refused for ever, a take-over that did not come about, or an admin listener that failed. Call it once.
func (e *Edge) Run(ctx context.Context) error {
	e.log.Info("edge starts", "edge", e.ID(), "unit", e.cfg.Unit, "cluster", e.cfg.Cluster, "listen", e.Addrs(), "listen-tls", e.TLSAddrs(), "advertise", e.cfg.Advertise)
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	watching.Go(func() { e.certs.Watch(running) })
	defer watching.Wait()
	defer cancel()
	agentEnd := make(chan error, 1)
	go func() { agentEnd <- e.agent.Run(running) }()
	passing, stop := context.WithCancel(running)
	defer stop()
	passed := make(chan error, 1)
	var passOn sync.WaitGroup
	passOn.Go(func() { passed <- e.passOn(passing) })

	var err error
	alive, timeout := true, e.cfg.CloseTimeout
	select {
	case <-ctx.Done():
		stop()
		passOn.Wait()
		e.draining.Store(true)
		e.takeover.release()
		if e.cfg.DrainTime > 0 {
			timeout = 0 // they have had their time by then
			alive, err = e.drain(running, agentEnd)
		}
	case err = <-passed:
	case err = <-agentEnd:
		alive = false
	case err = <-e.admin.failed():
	}
	stop()
	passOn.Wait()
	if !alive {
		err = e.unlessLeft(err)
	}
	// The agent reports on while the sessions end, so that a cutover which waits for this edge sees it drained.
	closed := e.closeRelay(ctx, timeout)
	switch {
	case !alive:
	case e.passes():
		e.farewell(ctx)
	case e.cfg.Leave && ctx.Err() != nil:
		err = errors.Join(err, e.leave(running))
	}
	cancel()
	if alive {
		err = errors.Join(err, e.unlessLeft(<-agentEnd))
	}
	err = errors.Join(err, e.release(ctx))
	e.log.Info("edge has stopped", "edge", e.ID(), "reset", closed != nil, "left", e.agent.Left())
	return err
}

// unlessLeft is the agent's error, but for the one with which leaving ends it.
func (e *Edge) unlessLeft(err error) error {
	if e.agent.Left() && errors.Is(err, agent.ErrGone) {
		return nil
	}
	return err
}

// lastClose is how long the last session to be closed in a drain has for its closing handshake: three steps of at most
// 2 s each, of which the first two are the client's.
const lastClose = 5 * time.Second

// drain ends the sessions in the time that the configuration gives them. alive says whether the agent still runs: when
// it ends, with an error, this edge may not serve any longer.
func (e *Edge) drain(running context.Context, agentEnd <-chan error) (alive bool, err error) {
	e.log.Info("draining", "edge", e.ID(), "within", e.cfg.DrainTime)
	ctx, cancel := context.WithTimeout(running, e.cfg.DrainTime)
	defer cancel()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_ = e.relay.Drain(ctx, e.cfg.DrainTime-min(e.cfg.DrainTime/4, lastClose)) // what is left is reset
	}()
	select {
	case err = <-agentEnd:
		cancel()
		<-drained
		return false, err
	case <-drained: // or the time is over
		return true, nil
	}
}

// leaveWithin is how long an edge without sessions waits for the word that it has left. A wave that waits for it has its
// report by then and needs the other edges' as well.
const leaveWithin = 30 * time.Second

func (e *Edge) leave(running context.Context) error {
	ctx, cancel := context.WithTimeout(running, leaveWithin)
	defer cancel()
	err := e.agent.Leave(ctx)
	if err == nil {
		e.log.Info("this edge has left for good", "edge", e.ID())
	}
	return err
}

// closeRelay ends all sessions; the error says that some had to be reset.
func (e *Edge) closeRelay(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	return e.relay.Close(ctx)
}

// release lets go of all that New took and Run has not ended.
func (e *Edge) release(ctx context.Context) error {
	var err error
	if e.measuring != nil {
		err = e.measuring.Unregister()
	}
	if e.admin != nil {
		err = errors.Join(err, e.admin.close())
	}
	if e.relay != nil {
		_ = e.closeRelay(ctx, e.cfg.CloseTimeout) // nothing to do if it is closed; resets are no error
	}
	if e.cfg.Deadman != nil { // no leg is left
		err = errors.Join(err, e.cfg.Deadman.Disarm())
	}
	e.takeover.close()
	if e.agent != nil && e.agent.Left() && e.passes() {
		err = errors.Join(err, e.dir.Remove())
	} else if e.dir != nil {
		err = errors.Join(err, e.dir.Close())
	}
	if e.home != nil {
		err = errors.Join(err, e.home.Unlock())
	}
	return err
}

// Run is New and then Run.
func Run(ctx context.Context, cfg Config) error {
	e, err := New(cfg)
	if err != nil {
		return err
	}
	return e.Run(ctx)
}
