// Package dev is a whole system in one process, for a first look and for tests: an embedded NATS server with JetStream,
// the control plane, the edges of every unit, and the demo's origins unless there is a config file. All of it is the
// real thing, on loopback sockets.
//
// Start returns when everything serves; Close ends it in the opposite order. A Dev's methods may be used by any goroutine.
package dev

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
	"github.com/unitgate/unitgate/services/outbound"
	"github.com/unitgate/unitgate/services/telemetry"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
	"github.com/unitgate/unitgate/services/unitgate/control"
	"github.com/unitgate/unitgate/services/unitgate/demo"
)

// Options say what to run.
type Options struct {
	File      *configfile.File // nil: the demo
	Data      string           // directory that outlives this; "": a fresh one, removed at the end
	FreePorts bool             // ports that the kernel chooses, instead of the default ones
	Edges     int              // of each unit
	Log       *slog.Logger
	Hooks     *cutover.HookCaller // nil: hooks cannot be called, and fail
	Dials     *outbound.Policy    // as in control.Config
	OTLP      string              // URL of a collector for traces; "": what the standard variables say
}

const (
	readyWait = 30 * time.Second
	closeWait = 2 * time.Second

	maxFailures = 16 // that are kept until someone asks
)

// Ready is what a ready file says.
type Ready struct {
	NATS      string `json:"nats"`
	Namespace string `json:"namespace"`
	Domain    string `json:"domain"`
	UnitType  string `json:"unitType"`
	Units     []Unit `json:"units"`
}

// Unit is one unit of a Ready.
type Unit struct {
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	Edges []string `json:"edges"` // HOST:PORT for clients, the first one is where redirects lead
}

// Dev is a running system.
type Dev struct {
	o       Options
	config  events.Config
	data    string
	closers []func(context.Context) error // in the order of starting

	key ed25519.PrivateKey // of this process, in every office that it holds

	server  *server.Server
	nc      *nats.Conn
	js      jetstream.JetStream
	control *control.Control
	edges   []*edge.Edge
	failed  chan error // why edges ended by themselves
	ready   Ready
	state   *events.State // when it became ready
}

// Start runs the system until Close. ctx bounds the start only.
func Start(ctx context.Context, o Options) (_ *Dev, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	d := &Dev{o: o, failed: make(chan error, maxFailures)}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	for _, step := range []func(context.Context) error{
		d.openData, d.startNATS, d.connect, d.handOn, d.startControl, d.startOrigins, d.applyConfig, d.startEdges, d.awaitServing,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Ready says where everything is.
func (d *Dev) Ready() Ready { return d.ready }

// State is the namespace as it was when everything served.
func (d *Dev) State() *events.State { return d.state }

// Failed tells why edges ended by themselves, one after another; the rest goes on. For one receiver.
func (d *Dev) Failed() <-chan error { return d.failed }

// Close ends everything, the newest part first.
func (d *Dev) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	var all error
	for _, c := range slices.Backward(d.closers) {
		all = errors.Join(all, c(ctx))
	}
	d.closers = nil
	return all
}

func (d *Dev) atEnd(f func(context.Context) error) { d.closers = append(d.closers, f) }

// openData takes the directory: two processes on one would spoil the journal.
func (d *Dev) openData(context.Context) (err error) {
	d.data = d.o.Data
	if d.data == "" {
		if d.data, err = os.MkdirTemp("", "unitgate-dev-"); err != nil {
			return fmt.Errorf("make a directory for the data: %w", err)
		}
		d.atEnd(func(context.Context) error { return os.RemoveAll(d.data) })
	}
	if err := os.MkdirAll(d.data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	unlock, err := lock(filepath.Join(d.data, "dev.lock"))
	if err != nil {
		return err
	}
	d.atEnd(func(context.Context) error { return unlock() })
	return nil
}

func (d *Dev) connect(context.Context) (err error) {
	if d.nc, err = d.dial("main"); err != nil {
		return fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	d.atEnd(func(context.Context) error { d.nc.Close(); return nil })
	if d.js, err = jetstream.New(d.nc); err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	return nil
}

func (d *Dev) dial(name string) (*nats.Conn, error) {
	return nats.Connect(d.server.ClientURL(), nats.Name("unitgate-dev "+name), nats.MaxReconnects(-1))
}

// trace starts the telemetry of one part, as if it were a process of its own.
func (d *Dev) trace(ctx context.Context, service string, about ...attribute.KeyValue) (*telemetry.T, error) {
	t, err := telemetry.Start(context.WithoutCancel(ctx), telemetry.Config{Service: service, OTLP: d.o.OTLP, Attributes: about, Log: d.o.Log})
	if err == nil {
		d.atEnd(func(ctx context.Context) error {
			_ = t.Shutdown(ctx) // spans that a collector does not take in time are no failure of ours
			return nil
		})
	}
	return t, err
}

func (d *Dev) startControl(ctx context.Context) error {
	t, err := d.trace(ctx, telemetry.Control)
	if err != nil {
		return err
	}
	if d.control, err = control.Start(ctx, control.Config{
		NC: d.nc, Dial: d.dial, Replicas: 1, Log: d.o.Log, Key: d.key, Hooks: d.o.Hooks, Dials: d.o.Dials, Tracing: t.TracerProvider(),
	}); err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	d.atEnd(d.control.Close)
	return nil
}

// startOrigins makes the config, which in the demo names servers of this process.
func (d *Dev) startOrigins(context.Context) error {
	if d.o.File != nil {
		d.config = d.o.File.Config
		return nil
	}
	origins := map[string]string{}
	for _, unit := range demo.Units() {
		o, err := demo.StartOrigin(unit)
		if err != nil {
			return err
		}
		d.atEnd(func(context.Context) error { return o.Close() })
		origins[unit] = o.Addr()
	}
	d.config = demo.Config(origins)
	return nil
}

// runEdge serves one edge until Close.
func (d *Dev) runEdge(e *edge.Edge) {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.Run(ctx); err != nil && ctx.Err() == nil {
			select {
			case d.failed <- fmt.Errorf("edge %s: %w", e.ID(), err):
			default: // the first ones are enough
			}
		}
	})
	d.edges = append(d.edges, e)
	d.atEnd(func(context.Context) error { stop(); running.Wait(); return nil })
}
