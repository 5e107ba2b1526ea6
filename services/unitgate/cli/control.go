package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	natsbus "github.com/unitgate/unitgate/events/bus"
	"github.com/unitgate/unitgate/services/telemetry"
	"github.com/unitgate/unitgate/services/unitgate/admin"
	"github.com/unitgate/unitgate/services/unitgate/control"
)

const (
	retryEvery = time.Second

	smallestJournal = 1 << 20 // bytes: some of the largest events

	closeWithin = 5 * time.Second // for commands under way when a control plane stops

	// A server that hangs, or whose machine is gone, keeps its connections: it is left after the third ping that is due
	// (15 s; the library's defaults need minutes), because another one may well serve.
	pingEvery    = 5 * time.Second
	pingsPending = 2
)

// controller is a control plane that may not have started yet.
type controller struct {
	nc      *nats.Conn
	running atomic.Pointer[control.Control]
	log     *slog.Logger
}

// runControl runs the control plane until ctx ends. NATS may be away, at the start or later: it is waited for.
func (s *servers) runControl(ctx context.Context) error {
	if s.replicas < 0 || s.replicas > 5 {
		return usage("--journal-replicas %d: want 0 to 5", s.replicas)
	}
	if s.journalBytes != 0 && s.journalBytes < smallestJournal {
		return usage("--journal-max-bytes %s: want at least 1MiB", s.journalBytes)
	}
	hooks, dials, err := s.hooks.caller()
	if err != nil {
		return err
	}
	providers, err := s.dns.Open()
	if err != nil {
		return err
	}
	c := &controller{log: s.log()}
	tel, stop, err := s.startTelemetry(ctx, telemetry.Control)
	if err != nil {
		return err
	}
	defer stop()
	said, err := newComplaints(c.log, tel.MeterProvider())
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	if c.nc, err = s.connectForGood("main", said); err != nil {
		return err
	}
	defer c.nc.Close()
	a, err := admin.Listen(s.admin, admin.Source{Ready: c.ready, Status: c.status, Metrics: tel.Metrics()}, c.log)
	if err != nil {
		return err
	}
	defer a.Close()
	dial := func(name string) (*nats.Conn, error) { return s.connectForGood(name, said) }
	running := c.start(ctx, control.Config{
		NC: c.nc, Dial: dial, Replicas: s.replicas, JournalBytes: int64(s.journalBytes), DNS: providers, Hooks: hooks, Dials: dials, Signatures: s.demands(),
		Log: c.log, Tracing: tel.TracerProvider(), Meters: tel.MeterProvider(),
	})
	if running == nil {
		return nil
	}
	c.log.Info("control plane serves", "nats", redact(c.nc.ConnectedUrl()))
	<-ctx.Done()
	closing, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if err := running.Close(closing); err != nil && c.nc.IsConnected() {
		return fmt.Errorf("stop the control plane: %w", err)
	}
	return nil
}

// connectForGood connects, and goes on trying for ever.
func (s *servers) connectForGood(name string, said *complaints) (*nats.Conn, error) {
	opts := s.natsAuth()
	if name == "main" {
		opts = append(opts, nats.ConnectHandler(natsbus.WarnPlain(said.log)))
	}
	nc, err := nats.Connect(s.server, append(opts,
		nats.Name("unitgate-control "+name), nats.Timeout(connectWait), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsPending),
		nats.DisconnectErrHandler(said.away(name)), nats.ReconnectHandler(said.back(name)), nats.ErrorHandler(said.on(name)))...)
	if err != nil {
		return nil, errNoNATS.With("cannot use %s: %s", redact(s.server), because(err))
	}
	return nc, nil
}

// start tries until the control plane runs; nil when ctx ends before.
func (c *controller) start(ctx context.Context, cfg control.Config) *control.Control {
	for {
		running, err := control.Start(ctx, cfg)
		if err == nil {
			c.running.Store(running)
			return running
		}
		if ctx.Err() == nil {
			c.log.Warn("the control plane cannot start yet, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryEvery):
		}
	}
}

// ready: it takes commands.
func (c *controller) ready() error {
	running := c.running.Load()
	switch {
	case !c.nc.IsConnected():
		return errors.New("not connected to NATS")
	case running == nil:
		return errors.New("starting: no journal could be opened yet")
	}
	return running.Err()
}

func (c *controller) status(ctx context.Context) any {
	namespaces := []control.Status{}
	if running := c.running.Load(); running != nil {
		namespaces = running.Status(ctx)
	}
	return struct {
		Connected  bool             `json:"connected"`
		NATS       string           `json:"nats"`
		Namespaces []control.Status `json:"namespaces"`
	}{c.nc.IsConnected(), redact(c.nc.ConnectedUrl()), namespaces}
}

// demands is what --edge-signatures says.
func (s *servers) demands() events.Signatures {
	if s.signatures == "auto" {
		return events.SignaturesAuto
	}
	return events.Signatures(s.signatures)
}
