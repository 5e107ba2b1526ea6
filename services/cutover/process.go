// Package cutover owns the process manager of cutovers, their prechecks, and what the outside is shown of them.
//
// Driver is the pure machine that fences, waits and commits; Manager runs one for a namespace on NATS. Any number of
// processes may run a Manager: the office (R1) lets one of them act. Preparer measures what a command about a cutover
// needs to know (live sessions, prechecks) through a Fleet, which asks the edges. Show makes the view of a cutover.
// A Driver belongs to one goroutine; Manager, Preparer and Fleet may be used by any number.
package cutover

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
)

// States is where the state is read: projector.Projector is one.
type States interface {
	State() *events.State
	Changed() <-chan struct{} // closed when State or Err changes
	Err() error               // why the state does not follow the journal any more, nil while it does
}

// Submitter takes the driver's commands: command.Handler is one.
type Submitter interface {
	Do(ctx context.Context, env events.Envelope) command.Outcome
}

// Config of a Manager. All fields but Replicas, Key, Signatures, Clock, Hooks and Tracing are required.
type Config struct {
	NC        *nats.Conn
	JS        jetstream.JetStream
	Namespace string
	Epoch     string // of the journal that States follows
	States    States
	Submit    Submitter
	Replicas  int // of the office's bucket, as the journal's
	Logger    *slog.Logger
	// Key signs what the office says: beacons and grants. It is this process's alone and never stored; its fingerprint
	// is the incarnation under which the process holds the office. nil: a fresh one.
	Key        ed25519.PrivateKey
	Signatures events.Signatures    // what is demanded of edges
	Clock      func() time.Duration // CLOCK_BOOTTIME; nil: that
	Meters     *Meters              // nil: nothing is measured
	Hooks      *HookCaller          // nil: there is no secret to sign calls with, so that every hook fails
	Tracing    trace.TracerProvider // nil: nothing is traced
}

const (
	tickEvery  = 100 * time.Millisecond
	submitWait = 5 * time.Second // for one command of the driver
	checksWait = 9 * time.Second // for one before which prechecks run; less than the driver waits
	stopWait   = time.Second     // for a clean end
)

// Manager runs the driver of one namespace and hears the edges' reports. Make one with New.
type Manager struct {
	cfg    Config
	public string        // Config.Key's public half, in hex
	holder string        // this process's incarnation
	mail   *mailbox      // what edges say, until the driver hears it
	start  time.Duration // on Config.Clock
	inputs chan func(At) Input
	fleet  *Fleet
	leads  atomic.Bool

	mu      sync.Mutex // guards the rest
	reports map[string]Voice
	vouched time.Duration // a write of this process was sent then that a quorum has acknowledged; 0: none, or not in office
	newer   chan struct{} // closed when vouched changes
	up      time.Duration // of the last beacon signed
	leases  Leases        // as of the last tick; valid while in office
}

// Report is what an edge last said.
type Report struct {
	events.EdgeReport
	HeardAt  time.Time
	Doubtful bool // another process has spoken under this edge's id a moment ago
}

// New makes a manager; Run starts it.
func New(cfg Config) *Manager {
	if cfg.Key == nil {
		cfg.Key = NewKey()
	}
	if cfg.Clock == nil {
		cfg.Clock = bootClock
	}
	if cfg.Hooks == nil {
		cfg.Hooks = NewHookCaller(HookConfig{})
	}
	m := &Manager{
		cfg: cfg, public: publicHalf(cfg.Key), holder: Incarnation(cfg.Key), start: cfg.Clock(),
		inputs: make(chan func(At) Input, 256), fleet: NewFleet(cfg.NC, cfg.Namespace).ForControl(), reports: map[string]Voice{}, newer: make(chan struct{}),
	}
	m.mail = newMailbox(func(unit, edge string) bool {
		e, ok := cfg.States.State().Edges[edge]
		return ok && e.Gone == "" && e.Unit == unit
	}, m.clock)
	return m
}

// Leading reports whether this process holds the office and acts.
func (m *Manager) Leading() bool { return m.leads.Load() }

// Vouched is the moment before the newest renewal of the office was sent that a quorum has acknowledged, as long as this
// process holds the office and acts, and a channel that is closed when that changes.
func (m *Manager) Vouched() (at time.Time, inOffice bool, newer <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.date(m.vouched), m.vouched > 0, m.newer
}

// Sign makes a beacon one of this process's: with the key that the journal holds of its office. Each is later than the ones
// before.
func (m *Manager) Sign(b events.Beacon) events.Beacon {
	m.mu.Lock()
	m.up = max(m.clock(), m.up+1)
	b.Up = events.Duration(m.up)
	m.mu.Unlock()
	return b.Signed(m.cfg.Key)
}

// vouch notes what Vouched says.
func (m *Manager) vouch(at time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at == m.vouched {
		return
	}
	m.vouched = at
	close(m.newer)
	m.newer = make(chan struct{})
}

// Reports are the edges' newest reports, by edge id. Silent edges stay with their last one, see HeardAt.
func (m *Manager) Reports() map[string]Report {
	now := m.clock()
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]Report, len(m.reports))
	for id, v := range m.reports {
		out[id] = Report{v.EdgeReport, m.date(v.Heard), v.Doubtful(now)}
	}
	return out
}

// Run drives until ctx ends (nil), then gives the office back. It returns an error if the reports cannot be subscribed to,
// or when the state does not follow the journal any more; an unreachable bus is waited for. Call it once.
func (m *Manager) Run(ctx context.Context) error {
	io, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the office is given back after ctx has ended
	defer cancel()
	deaf, err := m.listen()
	if err != nil {
		return err
	}
	defer deaf()
	reading, stopReading := context.WithCancel(io)
	defer stopReading()
	go m.mail.run(reading.Done(), func(msg *nats.Msg) {
		if in, ok := m.read(msg); ok {
			m.post(reading, in)
		}
	})
	told, err := m.tellLeases()
	if err != nil {
		return err
	}
	defer func() { _ = told.Unsubscribe() }()
	defer m.leads.Store(false)
	defer m.vouch(0)

	l := &loop{Manager: m, io: io, seen: watcher{meters: m.cfg.Meters, namespace: m.cfg.Namespace}, driver: NewDriver(DriverConfig{
		Epoch: m.cfg.Epoch, Holder: m.holder, Key: m.public, ID: commandIDs(m.holder), Signatures: m.cfg.Signatures,
	})}
	var telling sync.WaitGroup
	if traced(m.cfg.Tracing) {
		telling.Go(func() { newChronicle(m, l).run(ctx) })
	}
	l.run(ctx)
	telling.Wait()
	if err := m.cfg.States.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the office of %s was given up: %w", m.cfg.Namespace, err)
	}
	return nil
}

// commandIDs gives the n-th command of an incarnation its id.
func commandIDs(incarnation string) func(uint64) string {
	space, err := uuid.Parse(incarnation)
	if err != nil {
		space = uuid.NewSHA1(uuid.NameSpaceOID, []byte(incarnation))
	}
	return func(n uint64) string { return uuid.NewSHA1(space, fmt.Append(nil, n)).String() }
}

func (m *Manager) clock() time.Duration { return m.cfg.Clock() - m.start }

// date is when the clock stood there.
func (m *Manager) date(at time.Duration) time.Time { return time.Now().Add(at - m.clock()) }

// post hands an input to the loop; it is stamped there.
func (m *Manager) post(ctx context.Context, in func(At) Input) {
	select {
	case m.inputs <- in:
	case <-ctx.Done():
	}
}

// loop is the goroutine that owns the driver.
type loop struct {
	*Manager
	io     context.Context // for what the driver wants done; ends after Run
	driver *Driver
	seen   watcher
	office context.Context    //nolint:containedctx // of one time in office: hooks are called in it only
	leave  context.CancelFunc // ends it
	kv     jetstream.KeyValue // nil until a first request has opened it
	kvMu   sync.Mutex         // guards kv
}

func (l *loop) run(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	changed := l.cfg.States.Changed()
	l.step(StateAdvanced{At{l.clock()}, l.cfg.States.State(), l.cfg.Epoch})
	at := func() At { return At{l.clock()} }
	done := ctx.Done()
	var end <-chan time.Time
	stop := func() {
		done, end = nil, time.After(stopWait)
		l.step(Stop{at()})
	}
	for !l.driver.Stopped() {
		select {
		case <-tick.C:
			l.step(Tick{at()})
			if l.cfg.States.Err() != nil && end == nil {
				stop() // it may have broken before the first Changed
			}
		case <-changed:
			changed = l.cfg.States.Changed() // before the state is read, so that no change is missed
			l.step(StateAdvanced{at(), l.cfg.States.State(), l.cfg.Epoch})
			if l.cfg.States.Err() != nil && end == nil {
				stop() // a process that reads the journal must drive, not this one
			}
		case in := <-l.inputs:
			l.step(in(at()))
		case <-done:
			stop()
		case <-end:
			return // the successor has to wait for the term's end
		}
	}
}

func (l *loop) step(in Input) {
	if in, ok := in.(StateAdvanced); ok { // before the driver forgets what a report was made of
		l.seen.see(in.State, in.Now, l.driver.Serving(), l.driver.blackouts)
	}
	todo := l.driver.Step(in)
	l.attend(l.driver.Serving())
	for _, out := range todo {
		go l.perform(l.office, out)
	}
	switch in := in.(type) {
	case Reported:
		l.note(in.Report.Edge)
	case Asked:
		l.note(in.Request.Edge)
	case Tick:
		l.mu.Lock()
		l.leases = l.driver.leases()
		l.mu.Unlock()
	}
	l.vouch(l.driver.Vouched())
	if serving := l.driver.Serving(); serving != l.leads.Swap(serving) {
		l.cfg.Logger.Info("office", "namespace", l.cfg.Namespace, "serving", serving, "term", l.driver.Term(), "holder", l.holder)
		if wait := l.driver.GrantsIn(); wait > 0 {
			l.cfg.Logger.Warn("the journal is new to this office: no edge gets a lease until those of an earlier journal have ended",
				"namespace", l.cfg.Namespace, "epoch", l.cfg.Epoch, "in", wait.Round(time.Second))
		}
	}
}

// note keeps what an edge last said for Reports.
func (l *loop) note(edge string) {
	if v, ok := l.driver.Voice(edge); ok {
		l.mu.Lock()
		l.reports[edge] = v
		l.mu.Unlock()
	}
}

// attend begins and ends a time in office.
func (l *loop) attend(serving bool) {
	switch {
	case serving && l.office == nil:
		l.office, l.leave = context.WithCancel(l.io)
	case !serving && l.office != nil:
		l.leave()
		l.office = nil
	}
}

// perform does one thing that the driver wants and posts what came of it. office is not nil for what only an office does.
func (l *loop) perform(office context.Context, out Output) {
	switch out := out.(type) {
	case ReadOffice:
		key, err := l.readOffice()
		l.post(l.io, func(at At) Input { return OfficeRead{at, err != nil, key} })
	case WriteOffice:
		rev, fate := l.writeOffice(out)
		l.post(l.io, func(at At) Input { return OfficeWritten{at, out.Attempt, fate, rev} })
	case Submit:
		in := l.submit(out.Envelope)
		l.post(l.io, func(at At) Input { in.At = at; return in })
	case AnswerLease:
		l.answer(out)
	case Inquire:
		answers := l.fleet.Witnesses(l.io, out.Edges, out.Question, l.clock)
		l.post(l.io, func(at At) Input { return Inquired{at, out.Round, answers} })
	case CallHook:
		res, err := l.cfg.Hooks.Call(office, l.cfg.Epoch, out)
		l.logHook(out, res, err)
		if office.Err() == nil { // else the successor calls it again
			l.post(office, func(at At) Input { return HookEnded{at, out.Cutover.ID, res} })
		}
	}
}

func (l *loop) logHook(out CallHook, res events.HookResult, err error) {
	log := l.cfg.Logger
	if err != nil {
		log = log.With("err", err)
	}
	log.Info("hook", "namespace", l.cfg.Namespace, "cutover", out.Cutover.ID, "trace_id", traceID(out.Cutover.Traceparent),
		"hook", res.Name, "on", res.On, "ok", res.OK, "status", res.Status, "code", res.Code, "took", time.Duration(res.Took))
}

func (l *loop) bucket() (jetstream.KeyValue, error) {
	l.kvMu.Lock()
	defer l.kvMu.Unlock()
	if l.kv == nil {
		kv, err := openOffice(l.io, l.cfg.JS, l.cfg.Replicas)
		if err != nil {
			return nil, err
		}
		l.kv = kv
	}
	return l.kv, nil
}

func (l *loop) readOffice() (OfficeKey, error) {
	kv, err := l.bucket()
	var key OfficeKey
	if err == nil {
		key, err = readOffice(l.io, kv, l.cfg.Namespace)
	}
	if err != nil && l.io.Err() == nil {
		l.cfg.Logger.Warn("the office cannot be read", "namespace", l.cfg.Namespace, "err", err)
	}
	return key, err
}

func (l *loop) writeOffice(w WriteOffice) (uint64, Fate) {
	kv, err := l.bucket()
	if err != nil {
		return 0, Unknown
	}
	rev, fate, err := writeOffice(l.io, kv, l.cfg.Namespace, w)
	if err != nil && l.io.Err() == nil {
		l.cfg.Logger.Warn("the office cannot be written", "namespace", l.cfg.Namespace, "err", err)
	}
	return rev, fate
}

// submit carries out a command of the driver's. What may have been stored without an answer is of unknown fate.
func (l *loop) submit(env events.Envelope) Submitted {
	wait := submitWait
	switch env.Command.(type) {
	case events.CheckCutover, events.StartCutover:
		wait = checksWait
	default:
	}
	if _, ok := env.Command.(events.RollbackCutover); ok {
		env.Traceparent = command.NewTraceparent() // what it proposes is another cutover, with a trace of its own
	}
	ctx, cancel := context.WithTimeout(l.io, wait)
	defer cancel()
	o := l.cfg.Submit.Do(ctx, env)
	name := events.NameOf(env.Command)
	switch {
	case o.OK:
		return Submitted{ID: env.ID, Fate: Accepted, Seq: o.Seq}
	case o.Error == nil, o.Error.Code == command.ErrUnavailable.Code, o.Error.Code == "internal":
		l.cfg.Logger.Warn("driver: no answer", "namespace", l.cfg.Namespace, "command", name.Entity+"."+name.Verb, "command_id", env.ID, "err", o.Error)
		return Submitted{ID: env.ID, Fate: Unknown}
	default:
		l.cfg.Logger.Warn("driver: refused", "namespace", l.cfg.Namespace, "command", name.Entity+"."+name.Verb, "command_id", env.ID, "err", o.Error)
		return Submitted{ID: env.ID, Fate: Refused}
	}
}
