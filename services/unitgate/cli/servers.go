package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"

	"github.com/choria-io/fisk"
	"github.com/choria-io/fisk/units"
	"go.opentelemetry.io/otel/attribute"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/edge/deadman"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/dns"
	"github.com/unitgate/unitgate/services/telemetry"
	"github.com/unitgate/unitgate/services/unitgate/pid1"
)

// servers holds the flags of the commands that run until they are stopped.
type servers struct {
	*cli
	admin    string
	replicas int

	journalBytes units.Base2Bytes
	signatures   string
	hooks        hookFlags
	edge         edge.Config
	tls          tlsFlags
	front        frontFlags
	otlp         string
	logs         logging
	dns          dns.Settings
}

func (c *cli) addServers(p parent) {
	s := &servers{cli: c}
	c.addDev(p)
	ctl := c.command(p, "control", "Run the control plane; any number of replicas may run against one NATS", s.runControl)
	ctl.Flag("edge-signatures", "of edges that came before messages were signed: auto (those that are registered need none), required (once none is left), optional (for the way back in an upgrade)").
		Default("auto").EnumVar(&s.signatures, "auto", string(events.SignaturesRequired), string(events.SignaturesOptional))
	addNumber(ctl, "journal-replicas", "copies of journals; three on a cluster of as many servers, else one, if not given", &s.replicas)
	ctl.Flag("journal-max-bytes", "what a new journal may hold before it takes no more; no bound, or 256MiB in an account that demands one, if not given").PlaceHolder("SIZE").BytesVar(&s.journalBytes)
	s.hooks.add(ctl, "")
	ctl.Flag("dns-rfc2136-server", "DNS server that takes the names of domains with provider rfc2136").Envar("UNITGATE_DNS_RFC2136_SERVER").PlaceHolder("HOST[:PORT]").StringVar(&s.dns.RFC2136Server)
	ctl.Flag("dns-rfc2136-key-file", "file with its TSIG key, [ALGORITHM:]NAME:SECRET; or set "+dns.RFC2136KeyVariable).PlaceHolder("FILE").StringVar(&s.dns.RFC2136KeyFile)
	ctl.Flag("dns-alidns-key-file", "file with an access key of alidns, ID:SECRET; or set "+dns.AliDNSKeyVariable).PlaceHolder("FILE").StringVar(&s.dns.AliDNSKeyFile)
	s.addAdmin(ctl)
	s.logs.add(ctl, "info")
	addOTLP(ctl, &s.otlp)
	e := c.command(p, "edge", "Run one edge replica of a unit, named with --namespace", s.runEdge)
	e.Flag("unit", "unit that the edge stands in").Required().PlaceHolder("ID").StringVar(&s.edge.Unit)
	e.Flag("cluster", "cluster that the edge belongs to").Required().PlaceHolder("ID").StringVar(&s.edge.Cluster)
	e.Flag("listen", "address for clients; repeatable").Required().PlaceHolder("HOST:PORT").StringsVar(&s.edge.Listen)
	s.tls.add(e, &s.edge)
	e.Flag("advertise", "address that other edges and probes dial; the first --listen if not given").PlaceHolder("HOST:PORT").StringVar(&s.edge.Advertise)
	e.Flag("state-dir", "directory for the edge's id and state, of this edge alone").Required().PlaceHolder("DIR").StringVar(&s.edge.StateDir)
	e.Flag("id", "the edge's id; made once and kept in the state directory if not given").PlaceHolder("ID").StringVar(&s.edge.ID)
	e.Flag("pprof", "also Go's profiles on the admin listener, under /debug/pprof/").UnNegatableBoolVar(&s.edge.Profiling)
	e.Flag("drain-time", "on SIGTERM: time in which the sessions are closed, one after the other; 0s closes all at once").Default("25s").PlaceHolder("DURATION").DurationVar(&s.edge.DrainTime)
	e.Flag("leave", "on SIGTERM: leave for good, so that no cutover waits for this edge; its id and state directory never come back").UnNegatableBoolVar(&s.edge.Leave)
	e.Flag("take-over", "take the place of the edge that runs with this state directory, if one does: it goes on until its sessions have ended").UnNegatableBoolVar(&s.edge.TakeOver)
	addNumber(e, "take-over-rate", "with --take-over: sessions a second that the other edge closes; it waits for their ends if not given", &s.edge.TakeRate)
	addNumber(e, "capacity", "most sessions; not limited if not given", &s.edge.Capacity)
	s.front.add(e, &s.edge)
	s.addAdmin(e)
	s.logs.add(e, "info")
	addOTLP(e, &s.otlp)
}

func (s *servers) addAdmin(cmd *fisk.CmdClause) {
	cmd.Flag("admin", "address of /healthz, /readyz, /status and /metrics; '' for none").Default("127.0.0.1:0").PlaceHolder("HOST:PORT").StringVar(&s.admin)
}

func (s *servers) log() *slog.Logger { return s.logger(&s.logs) }

// checkListen finds a wrong address before anything is opened.
func checkListen(flag, addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return usage("%s %q: want HOST:PORT", flag, addr)
	}
	return nil
}

// spareProcs is how many goroutines may run besides the pollers.
const spareProcs = 2

// makeRoom gives each processor a poller, and returns how many those are.
//
// A poller waits in epoll_wait, a system call. As long as no other P is idle, the runtime takes a poller's P away 20 µs
// into each wait and looks for such waits up to 50,000 times a second: that took 12 % of a processor at 20,000 messages a
// second, and a poller that woke up had to find a P again, often on another thread. With Ps to spare it leaves them alone.
func makeRoom() int {
	n := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(n + spareProcs)
	return n
}

func (s *servers) runEdge(ctx context.Context) error {
	if pid1.Is() {
		return s.runBehind(ctx)
	}
	if s.namespace == "" {
		return usage("which namespace? --namespace NAME")
	}
	for _, addr := range s.edge.Listen {
		if err := checkListen("--listen", addr); err != nil {
			return err
		}
	}
	if err := s.tls.check(&s.edge); err != nil {
		return err
	}
	if err := s.front.check(&s.edge); err != nil {
		return err
	}
	if s.edge.Advertise != "" && events.CheckAddress(s.edge.Advertise, "advertise") != nil {
		return usage("--advertise %q: want HOST:PORT, host names in lower case", s.edge.Advertise)
	}
	if s.edge.TakeRate > 0 && !s.edge.TakeOver {
		return usage("--take-over-rate is for --take-over")
	}
	if s.edge.DrainTime < 0 {
		return usage("--drain-time %s: want 0s or more", s.edge.DrainTime)
	}
	s.edge.Namespace, s.edge.Admin, s.edge.Logger = s.namespace, s.admin, s.log()
	s.edge.NATS = agent.NATS{URL: s.server, Options: s.natsAuth()}
	s.edge.Engines, s.edge.Ends, s.edge.Version = makeRoom(), pid1.Ends(), telemetry.Version()
	if timer, err := deadman.New(); err != nil {
		s.edge.Deadman = agent.NoDeadman(err)
	} else {
		s.edge.Deadman = timer
	}
	tel, stop, err := s.startTelemetry(ctx, telemetry.Edge, attribute.String("unitgate.namespace", s.namespace), attribute.String("unitgate.unit", s.edge.Unit))
	if err != nil {
		return err
	}
	defer stop()
	s.edge.Tracing, s.edge.TraceShare = tel.TracerProvider(), tel.Handshakes()
	s.edge.Metrics = edge.Metrics{Provider: tel.MeterProvider(), Handler: tel.Metrics()}
	e, err := edge.New(s.edge)
	if err != nil {
		return err
	}
	if a := e.AdminAddr(); a != "" {
		s.edge.Logger.Info("admin listener", "addr", a)
	}
	return e.Run(ctx)
}

// runBehind leaves the place of PID 1, which a timer cannot end, and has a child do the work (rule R12).
func (s *servers) runBehind(ctx context.Context) error {
	code, err := pid1.Run(ctx, s.log())
	if err == nil && code != exitDone {
		return ended(code)
	}
	return err
}

// ended is the exit code of a child that has said itself what was wrong.
type ended int

func (e ended) Error() string { return fmt.Sprintf("the child ended with exit code %d", int(e)) }
