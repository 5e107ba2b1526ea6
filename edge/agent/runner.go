package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/edge/deadman"
	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/bus"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/routing"
)

// Relay is what the agent needs of an edge's data path. Every method may be called concurrently.
type Relay interface {
	// Install returns when every poller decides by the view.
	Install(ctx context.Context, v *handshake.View) error
	// Evict starts or adjusts the closing of a unit type's victims, rate per second, 0 for no limit.
	Evict(unitType string, rate int)
	Counts(unitType string) Counts
	// Changed is signalled when counters moved or the last victim is gone. For one receiver.
	Changed() <-chan struct{}
	CountKeys(unitType string, keys routing.Keys, except routing.IDs) int
	CountRouter(unitType, routerID string) int
	// CountDomains counts sessions by domain, handshakes under way included; only those domains that have some.
	CountDomains(hosts []string) map[string]int
	// CountProxied counts one user's sessions that are passed on to edges of other units.
	CountProxied(unitType, routerID string) int
	// Down are those of some origins of the configuration that the probes hold for down, with the reason.
	Down(origins []string) map[string]string
	// Passage says what the relay saw of a cutover. It leaves the answer's Commit empty.
	Passage(q events.CutoverQuestion) events.CutoverAnswer
	// EvictRouter starts to close one user's sessions and returns how many they are.
	EvictRouter(unitType, routerID string) int
	// Serve lets it serve until a moment on Config.Clock and no longer; false: it has come to the end of what was allowed
	// before, and only Forbid helps.
	Serve(until time.Duration) bool
	// ServeFreely lets it serve without a lease, as from the start.
	ServeFreely()
	// Forbid ends the service at once; the channel is closed when no leg is left.
	Forbid() <-chan struct{}
}

// NATS says how to reach the bus: by a connection of the caller's, which stays open, or by one of the agent's own.
type NATS struct {
	Conn    *nats.Conn
	URL     string
	Options []nats.Option // for URL; reconnecting for ever is set in any case
}

// Try opens a session at this edge's front door, with secret in the field by which the edge knows its own, and closes it
// again. It may be called concurrently.
type Try func(ctx context.Context, secret string, service events.Service) events.TriedSession

// Config of a Runner. Every field is needed unless it says otherwise.
type Config struct {
	Namespace, Unit, Cluster string
	Advertise                string // HOST:PORT that other edges and probes dial
	Capacity                 int    // most sessions; 0: not limited
	Version                  string // of the binary; "": not known
	Dir                      *StateDir
	Succeeds                 Predecessor // zero: none
	NATS                     NATS
	Relay                    Relay
	Try                      Try
	Clock                    func() time.Duration // CLOCK_BOOTTIME; nil: that
	Deadman                  Deadman              // nil: nothing ends a process that stands still beyond its lease
	Dev                      Dev                  // zero outside `dev`
	Logger                   *slog.Logger         // nil: none
	Tracing                  trace.TracerProvider // nil: nothing is traced
}

// Runner is the process around an Agent. Run owns the machine; Status may be called by any goroutine.
type Runner struct {
	cfg      Config
	self     Self
	secret   string // by which the edge knows its own handshakes
	log      *slog.Logger
	nc       *nats.Conn
	asks     *nats.Conn // where questions come
	own      bool       // both are to be closed
	speaker  speaker
	saved    *Saved
	follower *follower
	joiner   *joiner
	loop     loop
	work     sync.WaitGroup
	shown    atomic.Pointer[progress] // written by loop
	seldom   seldom
	desks    []*desk // made by Start

	idleEvictions allowance
}

// Start reads the state directory and begins to connect, without waiting for it: NATS may be down (G5).
func Start(cfg Config) (*Runner, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = deadman.Now
	}
	r := &Runner{
		cfg: cfg, secret: rand.Text(), log: cfg.Logger.With("edge", cfg.Dir.ID()),
		self: Self{cfg.Namespace, cfg.Unit, cfg.Cluster, cfg.Dir.ID(), cfg.Dir.Identity(), uuid.NewString(), cfg.Version},
	}
	r.loop = loop{Runner: r, machine: New(r.self), views: views{self: r.self, dev: cfg.Dev, probe: r.secret, keys: hopKeys{own: cfg.Dir.Key()}, signer: cfg.Dir.Signer()}, types: map[string]bool{}, told: map[string]events.Rate{}, done: make(chan finished), traces: newTraces(cfg.Tracing, r.self)}
	r.shown.Store(&progress{report: r.loop.machine.compose()})
	r.desks = r.newDesks()
	var err error
	if r.saved, err = cfg.Dir.Load(); err != nil {
		return nil, err
	}
	if r.saved != nil && r.saved.State.Namespace != cfg.Namespace {
		return nil, fmt.Errorf("%w: it was in namespace %q, not %q; give each edge a directory of its own", ErrOtherID, r.saved.State.Namespace, cfg.Namespace)
	}
	if err := r.connect(); err != nil {
		return nil, err
	}
	r.speaker = speaker{r.nc, r.self, cfg.Dir.Signer()}
	js, err := jetstream.New(r.nc)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	r.follower = newFollower(cfg.Namespace, r.nc, js, r.saved, r.log)
	r.follower.asks = journal.EdgeAskSubject(cfg.Namespace, cfg.Unit, r.self.ID)
	r.joiner = &joiner{
		speaker: r.speaker, follower: r.follower, log: r.log, kicked: make(chan struct{}, 1),
		want: events.JoinEdge{
			ID: r.self.ID, Directory: r.self.Directory, Unit: cfg.Unit, Cluster: cfg.Cluster, Address: cfg.Advertise, Capacity: cfg.Capacity,
			Key:      cfg.Dir.PublicKey(),
			Succeeds: cfg.Succeeds.ID, SucceedsDirectory: cfg.Succeeds.Directory, SucceedsProof: cfg.Succeeds.Proof,
		},
	}
	return r, nil
}

// A server that hangs, or whose machine is gone, keeps its connections: it is left after the third ping that is due (15 s;
// the library's defaults need minutes), because another one may well serve.
const (
	pingEvery    = 5 * time.Second
	pingsPending = 2
)

// connect connects to NATS twice. Whoever asks the edge can send as fast as NATS lets it, and the client library reads all
// of a connection one after the other, a message's headers included: on the connection of the leases that would end them.
func (r *Runner) connect() error {
	if r.nc = r.cfg.NATS.Conn; r.nc != nil {
		r.asks = r.nc
		return nil
	}
	var err error
	if r.nc, err = r.dial("",
		nats.ConnectHandler(bus.WarnPlain(r.log)),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() { // by ourselves
				r.log.Warn("NATS is out of reach: serving on with the last state", "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { r.log.Info("NATS is back", "server", nc.ConnectedServerName()) }),
	); err != nil {
		return err
	}
	if r.asks, err = r.dial("/questions"); err != nil {
		r.nc.Close()
		return err
	}
	r.own = true
	return nil
}

func (r *Runner) dial(what string, more ...nats.Option) (*nats.Conn, error) {
	opts := append([]nats.Option{
		nats.Name("unitgate-edge/" + r.self.ID + what),
		nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(spread, spread),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsPending),
		nats.ErrorHandler(r.natsError),
	}, more...)
	opts = append(opts, r.cfg.NATS.Options...)
	nc, err := nats.Connect(r.cfg.NATS.URL, append(opts, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))...)
	if err != nil {
		return nil, unusable(err)
	}
	return nc, nil
}

// unusable is why NATS cannot be connected to, without the URL, which may hold a password: not even as url.Error quotes it.
func unusable(err error) error {
	var parse *url.Error
	if errors.As(err, &parse) {
		return errors.New("connect to NATS: its URL cannot be read: check its form, and escape special characters")
	}
	return fmt.Errorf("connect to NATS: %w", err)
}

// ID is the edge's id.
func (r *Runner) ID() string { return r.self.ID }

// Run keeps the edge up to date until ctx ends, or it has left, then returns nil. An error says that the edge must stop, and why:
// ErrGone, events.ErrEdgeElsewhere, or another join that is refused for ever. When Run returns, nothing of the agent runs any more; the relay and the
// state directory are the caller's to close.
func (r *Runner) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers, err := r.answer(ctx)
	if err != nil {
		return err
	}
	leases, err := r.loop.hearLeases(ctx)
	if err != nil {
		answers.close()
		return err
	}
	defer leases()
	if err := r.follower.listen(ctx); err != nil {
		answers.close()
		return fmt.Errorf("listen to the beacons of %s: %w", r.self.Namespace, err)
	}
	var refused error
	r.work.Go(func() { r.follower.run(ctx) })
	r.work.Go(func() { r.follower.watch(ctx) })
	r.work.Go(func() { refused = r.joiner.run(ctx); cancel() }) // it ends with ctx, or ends it
	r.loop.run(ctx)
	answers.close()
	r.work.Wait()
	r.shut()
	return refused
}

// shut flushes what was published and closes the agent's own connections.
func (r *Runner) shut() {
	if !r.own {
		return
	}
	for _, nc := range []*nats.Conn{r.asks, r.nc} {
		if nc.IsConnected() {
			_ = nc.FlushTimeout(time.Second) // best effort: reports are repeated, and this edge has none to come
		}
		nc.Close()
	}
}
