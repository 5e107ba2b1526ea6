package edge

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/edge/origin"
	"github.com/unitgate/unitgate/edge/relay"
)

// scope is the name of our instruments' scope.
const scope = "github.com/unitgate/unitgate/edge"

// instruments are what an edge shows to a scraper. Nearly all of them are read from counters that are there anyway, and
// only while somebody asks.
//
// No label takes a value that a client can choose: unit types, units and origins come from the configuration, all other
// values from this program.
type instruments struct {
	meter metric.Meter
	all   []metric.Observable
	err   error // the first one

	sessions, victims, held, evictions, landed     metric.Float64Observable
	handshakes, errors, redirects                  metric.Float64Observable
	proxied, proxyEvictions, proxyDials, proxyFail metric.Float64Observable
	admitted, capacity, connections, turnedAway    metric.Float64Observable
	cut, acceptPauses                              metric.Float64Observable
	bytes, paused, pauses                          metric.Float64Observable
	originUp, originConnections, originConnects    metric.Float64Observable
	originTime, originFailures                     metric.Float64Observable
	pollers, pollersBusy, longestRun, overruns     metric.Float64Observable
	ready, draining, handedOver, connected, broken metric.Float64Observable
	applied, installed, head, staleness, rules     metric.Float64Observable
	leaseNeeded, lease, questions                  metric.Float64Observable
}

// newInstruments makes them, and the histograms that the relay is to fill.
func newInstruments(p metric.MeterProvider) (*instruments, relay.Observers, error) {
	if p == nil {
		p = noop.NewMeterProvider()
	}
	in := &instruments{meter: p.Meter(scope)}
	g, c := in.gauge, in.counter

	in.sessions = g("sessions", "{session}", "Sessions from the origin's 101 until both connections are closed, by whether this edge is ending them (closing) or not (open).")
	in.victims = g("victims", "{session}", "Sessions, dials and connections to origins on keys that are not served here any more, until they are closed; 0 means drained.")
	in.held = g("handshakes_held", "{handshake}", "Handshakes that wait for the commit of a hand-over.")
	in.evictions = c("evictions", "{session}", "Sessions that this edge has ended, by reason: moved by a cutover, operator, removed (the domain), shutdown, no_lease.")
	in.landed = c("landed", "{session}", "Sessions admitted on keys that a cutover has brought here.")
	in.handshakes = c("handshakes", "{handshake}", "Handshakes that have come to an end, by verdict; unit_type is empty where none was known.")
	in.errors = c("handshake_errors", "{handshake}", "Of the handshakes, those that this edge answered with an error of its own (5xx): no room, no origin, no lease, held too long.")
	in.redirects = c("redirects", "{handshake}", "Clients of another unit that were brought there, by how: redirect, close or proxy.")
	in.proxied = g("sessions_proxied", "{session}", "Sessions that this edge passes on to an edge of another unit, which counts them among its own.")
	in.proxyEvictions = c("evictions_proxied", "{session}", "Of those, the ones that this edge has closed because a cutover moved them.")
	in.proxyDials = c("proxy_dials", "{handshake}", "Tries to have an edge of another unit answer a handshake.")
	in.proxyFail = c("proxy_dial_failures", "{handshake}", "Of those, the ones that failed, or were answered with 5xx.")
	in.admitted = g("sessions_admitted", "{session}", "Sessions that count against the capacity, dialling and held ones included.")
	in.capacity = g("capacity_sessions", "{session}", "Most sessions (--capacity); absent without a limit.")
	in.connections = g("connections", "{connection}", "Clients' connections, whatever becomes of them.")
	in.turnedAway = c("connections_refused", "{connection}", "Clients' connections refused by a limit, by which one.")
	in.cut = c("connections_cut", "{connection}", "Connections without a session, or with the rest of one, that this edge has reset: unread, the peer had not read to the end in time; room, it had been there for longest when clients had all descriptors but the reserve.")
	in.acceptPauses = c("accept_pauses", "{pause}", "Times that a poller accepted nobody for a while: clients had all descriptors but the reserve, or the kernel had no memory.")
	in.bytes = c("relayed", "By", "Bytes written to clients and to origins, heads included, above TCP.")
	in.paused = g("reads_paused", "{connection}", "Connections that are not read at this moment because the other side is slower.")
	in.pauses = c("read_pauses", "{pause}", "Times that reading was paused because the other side was slower.")
	in.originUp = g("origin_up", "", "1 if sessions are sent to the origin, 0 while it is ejected, on trial, or down by its probes; absent once it is removed.")
	in.originConnections = g("origin_connections", "{connection}", "Connections to the origin, those being made included.")
	in.originConnects = c("origin_connects", "{connection}", "Connects that the origin has accepted.")
	in.originTime = c("origin_connect_time", "s", "Time that these connects have taken together, names looked up included.")
	in.originFailures = c("origin_failures", "{handshake}", "Handshakes that the origin refused to take, broke off or left without an answer.")

	in.pollers = g("pollers", "{poller}", "Pollers, each of which does everything for its share of the connections.")
	in.pollersBusy = c("poller_busy", "s", "Time that the pollers were busy, together: at most so many seconds in one as there are pollers.")
	in.longestRun = g("poller_longest_run", "s", "Longest time, within the last half to whole minute, that a poller was busy with one event while all its other connections waited.")
	in.overruns = c("poller_overruns", "{run}", "Times that this took more than 5 ms: more than a poller has to do in a row, so that it had to wait for a processor.")

	in.ready = g("ready", "", "1 if this edge admits sessions, as /readyz says.")
	in.draining = g("draining", "", "1 while this edge ends its sessions to stop.")
	in.handedOver = g("handed_over", "", "1 if another process accepts in this one's place.")
	in.connected = g("nats_connected", "", "1 if this edge is connected to NATS.")
	in.broken = g("journal_broken", "", "1 if this edge does not follow the journal any more, because that is not what it was.")
	in.questions = c("questions", "{question}", "Questions on NATS, by what was asked and what became of it: answered, refused (too large, or no such keys), busy (too many at a time), dropped without a word (far too many, or for another process).")
	in.installed = g("installed_sequence", "", "Sequence that every poller decides by.")
	in.leaseNeeded = g("lease_needed", "", "1 if this edge serves by a lease only, under exclusive ownership.")
	in.lease = g("lease_remaining", "s", "How long this edge may still serve by its lease; 0 without one, absent if none is needed.")

	in.applied = in.shared("applied_sequence", "", "Sequence of the journal that the state stands at; of an edge: decided by and on disk.")
	in.head = in.shared("head_sequence", "", "Newest sequence that the journal told of.")
	in.staleness = in.shared("staleness", "s", "How long ago it was last known that the state was all there was.")
	in.rules = in.shared("rule_version", "", "Version of the rules in force.")

	seen := relay.Observers{
		Connected: in.histogram("origin_connect", "How long origins took to accept, names looked up included."),
		Held:      in.histogram("handshake_held", "How long a handshake had been held when it was let in, redirected or given up."),
		Slice:     in.slices(),
		Landed:    in.histogram("landing", "How long after this edge decided by a commit a session landed on a key that it had brought here."),
	}
	return in, seen, in.err
}

func (in *instruments) made(o metric.Float64Observable, err error) metric.Float64Observable {
	if err != nil && in.err == nil {
		in.err = fmt.Errorf("metrics: %w", err)
	}
	in.all = append(in.all, o)
	return o
}

func (in *instruments) gauge(name, unit, help string) metric.Float64Observable {
	return in.shared("edge."+name, unit, help)
}

// shared is a gauge that the control plane has as well.
func (in *instruments) shared(name, unit, help string) metric.Float64Observable {
	return in.made(in.meter.Float64ObservableGauge("unitgate."+name, metric.WithUnit(unit), metric.WithDescription(help)))
}

func (in *instruments) counter(name, unit, help string) metric.Float64Observable {
	return in.made(in.meter.Float64ObservableCounter("unitgate.edge."+name, metric.WithUnit(unit), metric.WithDescription(help)))
}

func (in *instruments) histogram(name, help string) func(time.Duration) {
	h, err := in.meter.Float64Histogram("unitgate.edge."+name, metric.WithUnit("s"), metric.WithDescription(help))
	if err != nil && in.err == nil {
		in.err = fmt.Errorf("metrics: %w", err)
	}
	return func(d time.Duration) { h.Record(context.Background(), d.Seconds()) }
}

// slices are told apart by time on a processor, which says what a slice took and not how busy the machine is.
func (in *instruments) slices() func(time.Duration, int) {
	record := in.histogram("poller_slice", "Processor time of each slice of a poller's long work, between two of which it looks at its connections: counting, reviewing or ending many sessions, deciding many handshakes.")
	return func(took time.Duration, _ int) { record(took) }
}

// observe has e read whenever somebody asks, as soon as it is complete and until the returned registration ends.
func (in *instruments) observe(e *Edge) (metric.Registration, error) {
	r, err := in.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if !e.measured.Load() {
			return nil
		}
		in.sessionsOf(o, e.relay.Readings())
		in.clients(o, e)
		in.loadOf(o, e.relay.Pollers())
		in.origins(o, e.relay.Origins())
		in.agent(o, e.agent.Standing())
		in.asked(o, e.agent.Questions())
		o.ObserveFloat64(in.ready, truth(e.Ready()))
		o.ObserveFloat64(in.draining, truth(e.draining.Load()))
		o.ObserveFloat64(in.handedOver, truth(e.handed.Load()))
		return nil
	}, in.all...)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return r, nil
}

// with are labels: name, value, name, value.
func with(labels ...string) metric.MeasurementOption {
	kvs := make([]attribute.KeyValue, 0, len(labels)/2)
	for i := 0; i < len(labels); i += 2 {
		kvs = append(kvs, attribute.String(labels[i], labels[i+1]))
	}
	return metric.WithAttributeSet(attribute.NewSet(kvs...))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (in *instruments) sessionsOf(o metric.Observer, r relay.Readings) {
	reasons := relay.Reasons()
	for name, t := range r.Types {
		typ := with("unit_type", name)
		o.ObserveFloat64(in.sessions, float64(t.Sessions-t.Closing), with("unit_type", name, "state", "open"))
		o.ObserveFloat64(in.sessions, float64(t.Closing), with("unit_type", name, "state", "closing"))
		o.ObserveFloat64(in.victims, float64(t.Victims), typ)
		o.ObserveFloat64(in.held, float64(t.Held), typ)
		o.ObserveFloat64(in.errors, float64(t.HandshakeErrors), typ)
		o.ObserveFloat64(in.landed, float64(t.Landed), typ)
		o.ObserveFloat64(in.proxied, float64(t.Proxied.Sessions), typ)
		o.ObserveFloat64(in.proxyEvictions, float64(t.Proxied.Evicted), typ)
		o.ObserveFloat64(in.proxyDials, float64(t.Proxied.Dials), typ)
		o.ObserveFloat64(in.proxyFail, float64(t.Proxied.DialErrors), typ)
		for i, n := range t.Ended[1:] {
			o.ObserveFloat64(in.evictions, float64(n), with("unit_type", name, "reason", reasons[i+1]))
		}
	}
	for _, h := range r.Handshakes {
		if h.To != "" {
			o.ObserveFloat64(in.redirects, float64(h.N), with("unit_type", h.UnitType, "to", h.To, "correction", h.Verdict))
		}
	}
	for v, n := range byVerdict(r.Handshakes) {
		o.ObserveFloat64(in.handshakes, float64(n), with("unit_type", v[0], "verdict", v[1]))
	}
	for _, t := range []struct {
		to, from string
		relay.Traffic
	}{{"client", "origin", r.ToClients}, {"origin", "client", r.ToOrigins}} {
		o.ObserveFloat64(in.bytes, float64(t.Bytes), with("to", t.to))
		o.ObserveFloat64(in.paused, float64(t.Paused), with("from", t.from))
		o.ObserveFloat64(in.pauses, float64(t.Pauses), with("from", t.from))
	}
	o.ObserveFloat64(in.admitted, float64(r.Admitted))
	o.ObserveFloat64(in.cut, float64(r.Late), with("why", "unread"))
	o.ObserveFloat64(in.cut, float64(r.Shed), with("why", "room"))
	o.ObserveFloat64(in.acceptPauses, float64(r.AcceptPauses))
}

// byVerdict adds up the handshakes by unit type and verdict.
func byVerdict(counts []relay.HandshakeCount) map[[2]string]int64 {
	sums := map[[2]string]int64{}
	for _, h := range counts {
		sums[[2]string{h.UnitType, h.Verdict}] += h.N
	}
	return sums
}

func (in *instruments) clients(o metric.Observer, e *Edge) {
	c := e.relay.Clients()
	o.ObserveFloat64(in.connections, float64(c.Connections))
	for limit, n := range map[string]uint64{
		"connections": c.Refused.Connections, "per_address": c.Refused.PerAddress, "rate": c.Refused.Rate, "rate_per_address": c.Refused.RatePerAddress,
		"handshakes_per_address": c.Refused.HandshakesPerAddress,
	} {
		o.ObserveFloat64(in.turnedAway, float64(n), with("limit", limit))
	}
	if e.cfg.Capacity > 0 {
		o.ObserveFloat64(in.capacity, float64(e.cfg.Capacity))
	}
}

func (in *instruments) loadOf(o metric.Observer, p relay.Pollers) {
	o.ObserveFloat64(in.pollers, float64(p.N))
	o.ObserveFloat64(in.pollersBusy, p.Busy.Seconds())
	o.ObserveFloat64(in.longestRun, p.Longest.Seconds())
	o.ObserveFloat64(in.overruns, float64(p.Overrun))
}

// origins shows them by address: one that is watched in two ways is up if it is so by both.
func (in *instruments) origins(o metric.Observer, list []origin.Status) {
	type sum struct {
		up, removed                   bool
		connections, connects, failed int64
		took                          time.Duration
	}
	sums := map[string]sum{}
	for _, s := range list {
		was, ok := sums[s.Address]
		sums[s.Address] = sum{
			up: s.State == "healthy" && (was.up || !ok), removed: s.State == "removed", connections: s.Sessions,
			connects: s.Connects, failed: s.Failed, took: s.ConnectTime,
		}
	}
	for addr, s := range sums {
		at := with("origin", addr)
		if !s.removed { // it is meant to get no sessions: those that it has may stay for days, and nobody is to be woken for it
			o.ObserveFloat64(in.originUp, truth(s.up), at)
		}
		o.ObserveFloat64(in.originConnections, float64(s.connections), at)
		o.ObserveFloat64(in.originConnects, float64(s.connects), at)
		o.ObserveFloat64(in.originTime, s.took.Seconds(), at)
		o.ObserveFloat64(in.originFailures, float64(s.failed), at)
	}
}

func (in *instruments) asked(o metric.Observer, questions map[string]map[string]int64) {
	for what, ends := range questions {
		for result, n := range ends {
			o.ObserveFloat64(in.questions, float64(n), with("question", what, "result", result))
		}
	}
}

func (in *instruments) agent(o metric.Observer, s agent.Standing) {
	at := with("namespace", s.Namespace)
	o.ObserveFloat64(in.connected, truth(s.Connected))
	o.ObserveFloat64(in.broken, truth(s.Broken != ""))
	o.ObserveFloat64(in.installed, float64(s.Installed), at)
	o.ObserveFloat64(in.applied, float64(s.Applied), at)
	o.ObserveFloat64(in.head, float64(s.Head), at)
	o.ObserveFloat64(in.staleness, s.Staleness.Seconds(), at)
	for t, v := range s.RuleVersion {
		o.ObserveFloat64(in.rules, float64(v), with("namespace", s.Namespace, "unit_type", t))
	}
	o.ObserveFloat64(in.leaseNeeded, truth(s.LeaseNeeded))
	if s.LeaseNeeded {
		o.ObserveFloat64(in.lease, s.LeaseLeft.Seconds())
	}
}
