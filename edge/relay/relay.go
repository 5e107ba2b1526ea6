// Package relay owns an edge's sockets: listeners, dialling, the byte tunnel, the closing handshake. It is the only
// package that knows nbio.
//
// A Relay runs one engine per core, each with its own poller goroutine, its own listener on the shared port and its own
// sessions. Both legs of a session live on one engine, so that its poller owns all state of the session and takes no
// lock. After the 101 nothing is re-framed: bytes pass as they are, and only frame headers are followed, so that a Close
// frame can be put between two messages.
//
// The rule everything serves: a session whose key is still served is never closed, paused or dialled again by Install
// or Evict. All methods of Relay may be called concurrently.
package relay

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/edge/front"
	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/edge/limit"
	"github.com/unitgate/unitgate/edge/names"
	origins "github.com/unitgate/unitgate/edge/origin"
	"github.com/unitgate/unitgate/edge/probe"
)

// Config says how a Relay works. The zero value of every field is usable, but it needs an address to be of use.
type Config struct {
	Addrs            []string      // listen addresses HOST:PORT; port 0 takes a free one
	TLSAddrs         []string      // the same for clients that speak TLS
	Engines          int           // pollers; default runtime.GOMAXPROCS(0)
	Capacity         int           // most sessions, dialling and held ones included; 0: no limit
	MaxHeld          int           // most held handshakes, in places of limit.PlaceBytes; default 10,000
	MaxHead          int           // longest head of a client's request, in bytes; default handshake.MaxHead
	LongHeads        int           // bytes for all heads together, of each what is beyond 8 KiB; default 64 MiB
	HandshakeTimeout time.Duration // for a client to send its request's head; default 10 s
	AnswerTimeout    time.Duration // for a client to read an answer that is no session, in all; then it is reset; default 30 s
	DialTimeout      time.Duration // for one origin to accept, unless the view says otherwise; default 5 s
	DialBudget       time.Duration // when origins have failed a client for this long, no further one is tried; default 15 s
	Logger           *slog.Logger  // default: none

	Tracing    trace.TracerProvider // nil: nothing is traced
	TraceShare float64              // of handshakes, 0 to 1, of which a span is made

	// Inherited are sockets of another process. An address that stands in Addrs or TLSAddrs is listened on with these
	// instead of new ones; New closes their descriptors then. Those of other addresses stay the caller's.
	Inherited []Listener
	Wait      bool // listen, but accept nobody until Accept

	Observers Observers // default: none

	silence silence       // of a peer that is there; other than the defaults in tests
	rest    time.Duration // restTimeout; other than that in tests
	young   time.Duration // likewise
	lookUp  names.LookUp  // likewise

	Limits        limit.Limits  // of connections
	ProxyProtocol front.Trusted // whose connections have to begin with a PROXY header

	Fields *handshake.Fields // of clients that reach origins, or do not; nil: as is always so

	// HopKey is the private half of the key by which other edges know this one, as a view's Peers have theirs; nil: this
	// edge speaks no TLS to others.
	HopKey ed25519.PrivateKey
	clock  func() time.Time // of marks; default time.Now

	// Certificate chooses the certificate for a TLS client; needed with TLSAddrs. It is called by any goroutine, and what
	// it returns must not change any more.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// ErrClosed is returned by methods of a Relay that was closed.
var ErrClosed = errors.New("relay is closed")

// Relay accepts clients, decides their handshakes and relays their sessions to origins.
type Relay struct {
	cfg      Config
	log      *slog.Logger
	engines  []*engine
	addrs    []string
	tlsAddrs []string
	epoch    time.Time

	tells bool // see tellsTheRest

	ceilings struct{ clients, dials atomic.Int64 } // see ceilingsOf

	tls        *tls.Config   // of all TLS clients, so that they share the keys of session tickets
	hops       *hopTLS       // nil without Config.HopKey
	frontSaid  atomic.Int64  // when a log line last told of a balancer without PROXY headers, by now; 0: never
	skewSaid   atomic.Int64  // when a log line last told of clocks that are apart, by now; 0: never
	tlsPermits chan struct{} // one is held by each TLS handshake that computes

	gate   *limit.Gate
	book   origins.Book
	peers  origins.Book // edges of other units, to which clients are passed on
	prober *probe.Prober
	names  *names.Names // of origins and edges

	places    *limit.Places[*session]  // of held handshakes
	longHeads *limit.Places[*longHead] // of Config.LongHeads
	admitted  atomic.Int64             // sessions counted against Capacity
	opened    atomic.Int64             // tunnels, ever
	changed   chan struct{}
	emptied   chan struct{} // signalled when an engine that does not accept has lost its last session

	until     atomic.Int64 // until when may be served: a moment on deadman.Now's clock, untilever or never
	forbidden atomic.Bool  // until is never, and every poller has let go: a new lease may begin

	installing sync.Mutex // makes views arrive in the same order everywhere
	view       *handshake.View
	newest     atomic.Pointer[handshake.View] // view, for others than Install

	mu        sync.Mutex // guards what follows
	stats     map[string]*typeStats
	evictions map[string]*eviction
	verdicts  map[verdict]*atomic.Int64
	passages  map[string][]*passage // by unit type, newest first; Install alone replaces it

	widening sync.Mutex // guards narrow
	narrow   []narrow

	kick    chan struct{}   // wakes the evictor
	life    context.Context // ends when Close begins
	end     context.CancelFunc
	closing sync.Once
	running sync.WaitGroup // TLS handshakes, the evictor, the tidying
}

// New binds the listeners and starts the engines. Until the first Install every handshake is answered 503.
func New(cfg Config) (*Relay, error) {
	if cfg.Engines <= 0 {
		cfg.Engines = runtime.GOMAXPROCS(0)
	}
	if cfg.MaxHeld <= 0 {
		cfg.MaxHeld = 10_000
	}
	if cfg.LongHeads <= 0 {
		cfg.LongHeads = longHeads
	}
	if cfg.HandshakeTimeout <= 0 {
		cfg.HandshakeTimeout = 10 * time.Second
	}
	if cfg.AnswerTimeout <= 0 {
		cfg.AnswerTimeout = answerTimeout
	}
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = 5 * time.Second
	}
	if cfg.DialBudget <= 0 {
		cfg.DialBudget = 15 * time.Second
	}
	cfg.silence = cfg.silence.withDefaults()
	cfg.rest, cfg.young = cmp.Or(cfg.rest, restTimeout), cmp.Or(cfg.young, young)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if len(cfg.TLSAddrs) > 0 && cfg.Certificate == nil {
		return nil, errors.New("listening for TLS needs a certificate")
	}
	if cfg.lookUp == nil {
		cfg.lookUp = names.System
	}
	if cfg.clock == nil {
		cfg.clock = time.Now
	}
	hops, err := newHopTLS(cfg.HopKey)
	if err != nil {
		return nil, err
	}
	r := &Relay{
		cfg: cfg, log: cfg.Logger, epoch: time.Now(),
		tells: tellsTheRest(),
		hops:  hops, tls: newTLSConfig(cfg.Certificate, hops), tlsPermits: newTLSPermits(cfg.Engines),
		gate:      limit.New(cfg.Limits),
		places:    limit.NewPlaces[*session](cfg.MaxHeld),
		longHeads: limit.NewPlaces[*longHead](cfg.LongHeads / limit.PlaceBytes),
		changed:   make(chan struct{}, 1),
		emptied:   make(chan struct{}, 1),
		kick:      make(chan struct{}, 1),
		stats:     map[string]*typeStats{},
		evictions: map[string]*eviction{},
		verdicts:  map[verdict]*atomic.Int64{},
	}
	r.measure()
	r.prober = probe.New(r.now, r.log)
	r.names = names.New(r.now, cfg.lookUp, cfg.DialTimeout, r.regroup)
	r.life, r.end = context.WithCancel(context.Background())
	if err := r.startAll(); err != nil {
		_ = r.Close(context.Background())
		return nil, err
	}
	return r, nil
}

func (r *Relay) startAll() error {
	for i := range r.cfg.Engines {
		e, err := newEngine(r, i)
		if err != nil {
			return err
		}
		r.engines = append(r.engines, e)
	}
	for _, addr := range r.cfg.Addrs {
		bound, err := r.listen(addr, false)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", addr, err)
		}
		r.addrs = append(r.addrs, bound)
	}
	for _, addr := range r.cfg.TLSAddrs {
		bound, err := r.listen(addr, true)
		if err != nil {
			return fmt.Errorf("listen for TLS on %s: %w", addr, err)
		}
		r.tlsAddrs = append(r.tlsAddrs, bound)
	}
	if !r.cfg.Wait {
		r.Accept()
	}
	r.running.Add(2)
	go r.runEvictions()
	go r.runTidying()
	return nil
}

// clock is the time of day, by which marks between edges are dated.
func (r *Relay) clock() time.Time { return r.cfg.clock() }

// Addrs are the addresses listened on, with the ports that were taken for 0, in Config's order.
func (r *Relay) Addrs() []string { return r.addrs }

// TLSAddrs are the addresses listened on for TLS, likewise.
func (r *Relay) TLSAddrs() []string { return r.tlsAddrs }

// Clients counts their connections and those that were refused.
func (r *Relay) Clients() limit.Counts { return r.gate.Counts() }

// Close stops accepting, closes every session with 1001, all at once, and ends the engines. Drain before it takes its
// time. Install and Counts go on meanwhile. When ctx ends, the sessions that are left are reset. It returns when no goroutine and no descriptor of the relay is left; ctx's error if it had to reset.
func (r *Relay) Close(ctx context.Context) error {
	var err error
	r.closing.Do(func() { err = r.close(ctx) })
	return err
}

func (r *Relay) close(ctx context.Context) error {
	r.end()
	r.prober.Close()
	r.names.Close()
	var err error
	for _, e := range r.engines {
		e.post(e.shutDown)
	}
	for _, e := range r.engines {
		select {
		case <-e.drained:
		case <-ctx.Done():
			err = fmt.Errorf("close relay: %w", ctx.Err())
			e.post(e.resetAll)
			<-e.drained
		}
	}
	r.running.Wait()
	for _, e := range r.engines {
		e.stop()
	}
	return err
}

// shutDown ends every session, those of held and unfinished handshakes included.
func (e *engine) shutDown() {
	e.closing = true
	e.stopAccepting()
	sessions := make([]*session, 0, len(e.all))
	for s := range e.all {
		sessions = append(sessions, s)
	}
	for _, s := range sessions {
		switch s.state {
		case stFront, stTLS:
			e.close(s, client)
		case stHead:
			if s.hs.buf == nil {
				e.close(s, client) // it has not asked anything yet
				continue
			}
			e.refuseBusy(s, "shutting_down", "this edge is shutting down, try again")
		case stHeld:
			e.unhold(s)
			e.decide(s)
		case stDial, stHop, stReply:
			e.decideAgain(s)
		case stDropped:
			e.hasten(s)
		default:
			e.evict(s, becauseShutdown)
		}
	}
	e.checkDrained()
}

func (e *engine) resetAll() {
	for s := range e.all {
		e.reset(s, client)
		e.abort(s)
	}
}

// checkDrained tells whoever waits for it that nothing is left.
func (e *engine) checkDrained() {
	if len(e.all) > 0 || e.accepting {
		return
	}
	select {
	case e.r.emptied <- struct{}{}:
	default:
	}
	if e.closing {
		select {
		case <-e.drained:
		default:
			close(e.drained)
		}
	}
}
