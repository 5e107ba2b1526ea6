package control

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/cutover"
	"github.com/unitgate/unitgate/services/dns"
	"github.com/unitgate/unitgate/services/projector"
)

const (
	catchUpWait = 2 * time.Second // of a query
	dnsWait     = 8 * time.Second // for the providers' answers to a query
)

// namespace is what runs for one namespace.
type namespace struct {
	pages     *journal.Pages
	projector *projector.Projector
	manager   *cutover.Manager
	handler   *command.Handler
	names     *dns.Reconciler
	queries   map[string]command.Query
	log       *slog.Logger
	nc        *nats.Conn
	tracing   trace.TracerProvider
}

func newNamespace(c *Control, j *journal.Stream) *namespace {
	log := c.cfg.Log.With("namespace", j.Namespace())
	n := &namespace{pages: journal.NewPages(j), projector: projector.New(j, c.snaps, true, c.cfg.Log), log: log, nc: c.cfg.NC, tracing: c.cfg.Tracing}
	fleet := cutover.NewFleet(c.cfg.NC, j.Namespace()).ForControl()
	n.handler = command.NewHandler(n.projector, cutover.NewPreparer(fleet, c.js, n.projector).Dials(c.cfg.Dials).Traced(c.cfg.Tracing), time.Now, log).Traced(c.cfg.Tracing)
	n.handler.Measure(c.meters.commands)
	n.manager = cutover.New(cutover.Config{
		NC: c.cfg.NC, JS: c.js, Namespace: j.Namespace(), Epoch: j.Epoch(), States: n.projector, Submit: n.handler,
		Replicas: c.cfg.Replicas, Logger: c.cfg.Log, Key: c.cfg.Key, Signatures: c.cfg.Signatures, Hooks: c.cfg.Hooks, Tracing: c.cfg.Tracing, Meters: c.meters.cutovers,
	})
	n.names = dns.New(j.Namespace(), n.projector, c.cfg.DNS, n.manager.Leading, log)
	show := cutover.ShowQuery(n.projector, n.manager)
	n.queries = map[string]command.Query{"cutover.show": func(ctx context.Context, data json.RawMessage) (any, error) {
		n.catchUp(ctx)
		return show(ctx, data)
	}, "dns.show": func(ctx context.Context, _ json.RawMessage) (any, error) {
		n.catchUp(ctx)
		ctx, cancel := context.WithTimeout(ctx, dnsWait)
		defer cancel()
		return n.names.Show(ctx, n.projector.State()), nil
	}}
	return n
}

// asked are the questions that every namespace answers.
func asked() []string { return []string{"cutover.show", "dns.show"} }

// catchUp lets a question that follows a command see what the command did, whichever process took it. Where the
// journal cannot be asked, the answer comes from the last known state: an operator needs one most of all then.
func (n *namespace) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catchUpWait)
	defer cancel()
	if _, err := n.projector.CatchUp(ctx); err != nil {
		n.log.Warn("answering from the last known state", "err", err)
	}
}

// run ends when ctx ends; the manager stops first, so that it can give the office back.
func (n *namespace) run(ctx context.Context) {
	project, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var following sync.WaitGroup
	following.Go(func() { _ = n.projector.Run(project) }) // it has logged why it stopped
	if err := n.projector.Listen(project, n.nc); err != nil {
		n.log.Error("how stale this control plane is will not be known", "err", err)
	}
	following.Go(func() { n.projector.Beacon(project, n.nc, n.manager) })
	following.Go(func() { n.names.Run(project) })
	following.Go(func() { n.traceCatchUp(project, time.Now()) })
	defer following.Wait()
	defer stop()
	if err := n.manager.Run(ctx); err != nil {
		n.log.Error("no cutover of this namespace is driven here", "err", err)
	}
}

// traceCatchUp emits the span of the replay with which this process began.
func (n *namespace) traceCatchUp(ctx context.Context, began time.Time) {
	for ctx.Err() == nil {
		if s, err := n.projector.CatchUp(ctx); err == nil {
			cutover.CatchUp(n.tracing, s, began)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(catchUpWait):
		}
	}
}

func (n *namespace) api() command.Namespace {
	return command.Namespace{Handler: n.handler, Queries: n.queries}
}
