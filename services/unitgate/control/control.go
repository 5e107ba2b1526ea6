// Package control assembles the control plane: for each namespace a journal, its projector, the command handler and the
// cutover manager, behind one api service and one taker of durable commands. Any number of processes may run it against one NATS.
package control

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/cutover"
	"github.com/unitgate/unitgate/services/dns"
	"github.com/unitgate/unitgate/services/outbound"
	"github.com/unitgate/unitgate/services/projector"
	"github.com/unitgate/unitgate/services/reading"
)

const (
	// discoverEvery is how often the streams are listed for namespaces that another process made.
	discoverEvery = 5 * time.Second
	flushWait     = time.Second // for the last answers to go out
	heardWait     = 10 * time.Second

	// maxNamespaces bounds what namespace.create and config.apply may make: each namespace is a stream, an office and some
	// goroutines here for good.
	maxNamespaces = 1000
)

// Config is what a control plane needs.
type Config struct {
	NC *nats.Conn
	// Dial makes further connections like NC, one for each role that asks something of the api: a server cuts off whoever
	// does not read fast enough, and whoever floods one of them shall not take the journal and the office from us, nor the
	// others' commands. Close closes them. nil: all goes over NC.
	Dial     func(name string) (*nats.Conn, error)
	Replicas int // of journals and buckets; 0: three on a cluster of at least three servers, else one

	JournalBytes int64 // bound of a new journal; 0: none, unless the account demands one
	Log          *slog.Logger
	Hooks        *cutover.HookCaller  // nil: hooks cannot be called, and fail
	Dials        *outbound.Policy     // what a configuration lets this process connect to, hooks apart; nil: the default
	Tracing      trace.TracerProvider // nil: nothing is traced

	Meters metric.MeterProvider // nil: nothing is measured

	DNS map[string]dns.Provider // by the name that a domain calls it; without one its names are not published

	Key        ed25519.PrivateKey // of this process in its offices, see cutover.Config; nil: a fresh one
	Signatures events.Signatures  // what is demanded of edges
}

// Control is a running control plane. Its methods may be used by any goroutine.
type Control struct {
	cfg     Config
	js      jetstream.JetStream
	snaps   *journal.KVSnapshots
	ctx     context.Context // of everything it runs
	stop    context.CancelFunc
	running sync.WaitGroup
	service *command.Service
	reading *reading.Service
	meters  *meters
	durable *command.Durable
	dialled []*nats.Conn

	mu         sync.Mutex
	namespaces map[string]*namespace
}

// Start connects the parts, and serves the api and durable commands once every existing namespace has been opened.
func Start(ctx context.Context, cfg Config) (*Control, error) {
	js, err := jetstream.New(cfg.NC)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	snaps, err := openSnapshots(ctx, js, &cfg)
	if err != nil {
		return nil, fmt.Errorf("open the snapshot bucket: %w", err)
	}
	if cfg.Tracing == nil {
		cfg.Tracing = noop.NewTracerProvider()
	}
	if cfg.Key == nil {
		cfg.Key = cutover.NewKey()
	}
	c := &Control{cfg: cfg, js: js, snaps: snaps, namespaces: map[string]*namespace{}}
	if c.meters, err = c.measure(); err != nil {
		return nil, err
	}
	c.ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := c.discover(ctx); err != nil {
		c.stop()
		return nil, errors.Join(err, c.meters.end())
	}
	if err := c.serve(ctx); err != nil {
		c.stop()
		c.running.Wait()
		c.hangUp()
		return nil, errors.Join(err, c.meters.end())
	}
	c.running.Go(c.keepDiscovering)
	return c, nil
}

// serve offers the api, and takes durable commands.
func (c *Control) serve(ctx context.Context) (err error) {
	api := command.Config{Namespaces: c, Asked: asked(), Budget: command.NewBudget(), Signatures: c.cfg.Signatures, Meters: c.meters.commands, Log: c.cfg.Log}
	for name, nc := range map[string]**nats.Conn{"commands": &api.NC, "edges": &api.Edges, "questions": &api.Questions} {
		if *nc, err = c.dial(name); err != nil {
			return fmt.Errorf("connect for %s: %w", name, err)
		}
	}
	if c.service, err = command.Serve(api); err != nil {
		return err
	}
	c.durable, err = command.ServeDurable(ctx, command.DurableConfig{
		JS: c.js, Namespaces: c, Replicas: c.cfg.Replicas, Log: c.cfg.Log, Meters: c.meters.commands, Budget: api.Budget, Signatures: c.cfg.Signatures,
	})
	if err != nil {
		return errors.Join(err, c.service.Close(ctx))
	}
	if err := c.serveReaders(); err != nil {
		return errors.Join(err, c.durable.Close(ctx), c.service.Close(ctx))
	}
	if err := c.heard(ctx); err != nil {
		return errors.Join(err, c.reading.Close(), c.durable.Close(ctx), c.service.Close(ctx))
	}
	return nil
}

// heard waits until the NATS server has taken the subscriptions: a question asked before that over another connection
// would be answered with "no responders", by a control plane that says it serves.
func (c *Control) heard(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, heardWait)
	defer cancel()
	for _, nc := range append([]*nats.Conn{c.cfg.NC}, c.dialled...) {
		if err := nc.FlushWithContext(ctx); err != nil {
			return fmt.Errorf("subscribe to what is asked: %w", err)
		}
	}
	return nil
}

// serveReaders offers to read the journals for those who may not.
func (c *Control) serveReaders() (err error) {
	cfg := reading.Config{Journals: questions{c}, Log: c.cfg.Log}
	for name, nc := range map[string]**nats.Conn{"readers edges": &cfg.Edges, "readers operators": &cfg.Operators, "readers observers": &cfg.Observers} {
		if *nc, err = c.dial(name); err != nil {
			return fmt.Errorf("connect for %s: %w", name, err)
		}
	}
	c.reading, err = reading.Serve(cfg)
	return err
}

func (c *Control) dial(name string) (*nats.Conn, error) {
	if c.cfg.Dial == nil {
		return c.cfg.NC, nil
	}
	nc, err := c.cfg.Dial(name)
	if err == nil {
		c.dialled = append(c.dialled, nc)
	}
	return nc, err
}

// hangUp closes the connections that dial made, once what was written to them is out.
func (c *Control) hangUp() {
	for _, nc := range c.dialled {
		if nc.IsConnected() {
			_ = nc.FlushTimeout(flushWait) // answers that get lost are asked for again
		}
		nc.Close()
	}
}

// Close stops taking commands, lets those under way end until ctx ends, and stops everything else.
func (c *Control) Close(ctx context.Context) error {
	var durable error
	var stopping sync.WaitGroup
	stopping.Go(func() { durable = c.durable.Close(ctx) })
	err := c.service.Close(ctx)
	stopping.Wait()
	err = errors.Join(err, durable)
	err = errors.Join(err, c.reading.Close())
	c.stop()
	c.running.Wait()
	c.hangUp()
	return errors.Join(err, c.meters.end())
}

// openSnapshots opens the bucket of snapshots, the first thing that is made in an account. Where nobody says how many
// replicas there are to be, it gets three where there are three servers, and what is made later gets as many as it has.
// How many URLs were given says nothing of that: one may lead to a cluster, and three to one server.
func openSnapshots(ctx context.Context, js jetstream.JetStream, cfg *Config) (*journal.KVSnapshots, error) {
	clustered := cfg.NC.ConnectedClusterName() != ""
	o := journal.Options{Replicas: cfg.Replicas}
	if o.Replicas == 0 {
		o = journal.Options{Replicas: 1}
		if clustered {
			o = journal.Options{Replicas: 3, Fewer: true}
		}
	}
	snaps, err := journal.CreateSnapshots(ctx, js, o)
	if err != nil || cfg.Replicas > 0 {
		return snaps, err
	}
	if cfg.Replicas, err = snaps.Replicas(ctx); err != nil {
		return nil, err
	}
	if clustered && cfg.Replicas < 3 {
		cfg.Log.Warn("journals on this cluster survive no loss of a server: they get as many replicas as the bucket of snapshots has; say --journal-replicas 3, and raise those of the streams that are there with `nats stream edit STREAM --replicas 3`",
			"replicas", cfg.Replicas, "bucket", journal.SnapshotBucket, "cluster", cfg.NC.ConnectedClusterName())
	}
	return snaps, nil
}

// discover opens every namespace that has a journal.
func (c *Control) discover(ctx context.Context) error {
	found, err := journal.List(ctx, c.js)
	if err != nil {
		return fmt.Errorf("list the journals: %w", err)
	}
	for _, ns := range found {
		if _, err := c.open(ctx, ns.Name); err != nil {
			return fmt.Errorf("open namespace %s: %w", ns.Name, err)
		}
	}
	return nil
}

func (c *Control) keepDiscovering() {
	tick := time.NewTicker(discoverEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
			if err := c.discover(c.ctx); err != nil && c.ctx.Err() == nil {
				c.cfg.Log.Warn("looking for namespaces failed, trying again", "err", err)
			}
		}
	}
}

// Get is command.Namespaces.
func (c *Control) Get(ctx context.Context, name string) (command.Namespace, error) {
	n, err := c.open(ctx, name)
	if errors.Is(err, journal.ErrNoJournal) {
		return command.Namespace{}, events.ErrUnknownNamespace.With("there is no namespace %q", name)
	}
	if err != nil {
		return command.Namespace{}, command.ErrUnavailable.With("the journal of %q cannot be opened: %v", name, err)
	}
	return n.api(), nil
}

// Known is command.Namespaces.
func (c *Control) Known(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.namespaces[name]
	return ok
}

// Create is command.Namespaces.
func (c *Control) Create(ctx context.Context, name string) (command.Namespace, error) {
	if n := len(c.all()); n >= maxNamespaces {
		return command.Namespace{}, events.ErrTooLarge.With("there are %d namespaces, as many as one control plane serves: run another one on a NATS account of its own", n)
	}
	if _, err := journal.Create(ctx, c.js, name, journal.Options{Replicas: c.cfg.Replicas, MaxBytes: c.cfg.JournalBytes}); err != nil {
		return command.Namespace{}, err
	}
	return c.Get(ctx, name)
}

func (c *Control) open(ctx context.Context, name string) (*namespace, error) {
	c.mu.Lock()
	n, ok := c.namespaces[name]
	c.mu.Unlock()
	if ok {
		return n, nil
	}
	j, err := journal.Open(ctx, c.js, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := c.namespaces[name]; ok || c.ctx.Err() != nil {
		return n, c.ctx.Err()
	}
	n = newNamespace(c, j)
	c.namespaces[name] = n
	c.running.Go(func() { n.run(c.ctx) })
	return n, nil
}

// State is the newest state of a namespace, nil if this process does not know it.
func (c *Control) State(name string) *events.State {
	c.mu.Lock()
	n, ok := c.namespaces[name]
	c.mu.Unlock()
	if !ok {
		return nil
	}
	return n.projector.State()
}

// Status is what the admin listener shows of one namespace.
type Status struct {
	Namespace   string            `json:"namespace"`
	Applied     uint64            `json:"applied"`
	Head        uint64            `json:"head"` // newest sequence that the journal told of
	StateHash   string            `json:"stateHash"`
	Staleness   float64           `json:"staleness"`   // how long ago, in seconds, this process last knew that it had all there was, as in events.EdgeStatus
	RuleVersion map[string]uint64 `json:"ruleVersion"` // by unit type
	Leading     bool              `json:"leading"`     // this process drives the namespace's cutovers
	Term        uint64            `json:"term"`        // of the office, as the journal says
	Error       string            `json:"error,omitempty"`
}

// Status lists every namespace, sorted. It asks the journals whose office is silent for their heads, in bounded time.
func (c *Control) Status(ctx context.Context) []Status {
	out := []Status{}
	for _, n := range c.all() {
		head, stale := n.projector.Standing(ctx)
		s := n.projector.State()
		st := Status{
			Namespace: n.projector.Journal().Namespace(), Applied: s.Seq, Head: max(head, s.Seq), StateHash: s.Hash(),
			Staleness: stale.Round(time.Millisecond).Seconds(), RuleVersion: map[string]uint64{},
			Leading: n.manager.Leading(), Term: s.Office.Term,
		}
		for t, r := range s.Rules {
			st.RuleVersion[t] = r.Version
		}
		if err := n.projector.Err(); err != nil {
			st.Error = err.Error()
		}
		out = append(out, st)
	}
	return out
}

// all are the namespaces that this process serves, sorted.
func (c *Control) all() []*namespace {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*namespace
	for _, name := range slices.Sorted(maps.Keys(c.namespaces)) {
		out = append(out, c.namespaces[name])
	}
	return out
}

// Err is why a namespace cannot be served, the first one by name; nil if all are.
func (c *Control) Err() error {
	for _, n := range c.all() {
		if err := n.projector.Err(); err != nil {
			return fmt.Errorf("namespace %s: %w", n.projector.Journal().Namespace(), err)
		}
	}
	return nil
}

// Leads reports whether this process drives a namespace's cutovers.
func (c *Control) Leads(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.namespaces[name]
	return ok && n.manager.Leading()
}

var _ projector.SnapshotStore = (*journal.KVSnapshots)(nil)
