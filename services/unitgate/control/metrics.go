package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/cutover"
)

// scope is the name of our instruments' scope.
const scope = "github.com/unitgate/unitgate/services"

// silentAfter is from when on an edge counts as silent: it reports every events.ReportEvery.
const silentAfter = 5 * events.ReportEvery

// meters are what a control plane shows to a scraper. What is no histogram and no count of commands is read from the
// namespaces' states, only while somebody asks. No label takes a value that a client can choose.
type meters struct {
	commands *command.Meters
	cutovers *cutover.Meters

	meter        metric.Meter
	all          []metric.Observable
	err          error // the first one
	registration metric.Registration

	applied, head, staleness, rules            metric.Float64Observable
	following, office, term                    metric.Float64Observable
	edges, silent, byState, fenced, runningFor metric.Float64Observable
	unsigned, unheard                          metric.Float64Observable
}

// measure registers what c shows.
func (c *Control) measure() (*meters, error) {
	p := c.cfg.Meters
	if p == nil {
		p = noop.NewMeterProvider()
	}
	m := &meters{meter: p.Meter(scope)}
	var cerr, uerr error
	m.commands, cerr = command.NewMeters(m.meter)
	m.cutovers, uerr = cutover.NewMeters(m.meter)

	m.applied = m.gauge("applied_sequence", "", "Sequence of the journal that the state stands at; of an edge: decided by and on disk.")
	m.head = m.gauge("head_sequence", "", "Newest sequence that the journal told of.")
	m.staleness = m.gauge("staleness", "s", "How long ago it was last known that the state was all there was.")
	m.rules = m.gauge("rule_version", "", "Version of the rules in force.")
	m.following = m.gauge("control.following", "", "1 while this process follows the journal; 0 when that is not what it was, and commands are refused.")
	m.office = m.gauge("driver.in_office", "", "1 if this process drives the namespace's cutovers and grants its leases. The sum over all controllers is 1.")
	m.term = m.gauge("driver.term", "", "Term of the office, as the journal says.")
	m.edges = m.gauge("control.edges", "{edge}", "Edges that have joined and neither left nor retired.")
	m.silent = m.gauge("control.edges_silent", "{edge}", "Of these, those of which this process has had no report for 10 s.")
	m.unsigned = m.gauge("control.edges_unsigned", "{edge}", "Of the edges that have joined, those whose state directory is of a version before signatures: what they say counts unsigned, unless --edge-signatures=required.")
	m.unheard = m.counter("control.edge_messages_unheard", "{message}", "Reports and lease requests that this process has not read, by why: replaced (a newer one of the edge came first), unknown_edge, too_large, bad_form, bad_signature.")
	m.byState = m.gauge("control.cutovers", "{cutover}", "Cutovers that the state keeps, by their state.")
	m.fenced = m.gauge("control.cutover_fenced", "s", "How long the wave that is fenced now has been; 0 if none is.")
	m.runningFor = m.gauge("control.cutover_running", "s", "How long ago the running cutover that began first was started; 0 if none runs.")
	if err := errors.Join(cerr, uerr, m.err); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	var err error
	m.registration, err = m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, n := range c.all() {
			m.observe(o, n)
		}
		return nil
	}, m.all...)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return m, nil
}

// end takes c out of what is shown.
func (m *meters) end() error { return m.registration.Unregister() }

func (m *meters) gauge(name, unit, help string) metric.Float64Observable {
	g, err := m.meter.Float64ObservableGauge("unitgate."+name, metric.WithUnit(unit), metric.WithDescription(help))
	m.err = errors.Join(m.err, err)
	m.all = append(m.all, g)
	return g
}

func (m *meters) counter(name, unit, help string) metric.Float64Observable {
	c, err := m.meter.Float64ObservableCounter("unitgate."+name, metric.WithUnit(unit), metric.WithDescription(help))
	m.err = errors.Join(m.err, err)
	m.all = append(m.all, c)
	return c
}

func (m *meters) observe(o metric.Observer, n *namespace) {
	name := attribute.String("namespace", n.projector.Journal().Namespace())
	at := with(name)
	s := n.projector.State()
	head, stale := n.projector.Known()
	o.ObserveFloat64(m.applied, float64(s.Seq), at)
	o.ObserveFloat64(m.head, float64(max(head, s.Seq)), at)
	o.ObserveFloat64(m.staleness, stale.Seconds(), at)
	o.ObserveFloat64(m.following, truth(n.projector.Err() == nil), at)
	o.ObserveFloat64(m.office, truth(n.manager.Leading()), at)
	o.ObserveFloat64(m.term, float64(s.Office.Term), at)
	for t, r := range s.Rules {
		o.ObserveFloat64(m.rules, float64(r.Version), with(name, attribute.String("unit_type", t)))
	}
	now := time.Now()
	m.observeEdges(o, s, n.manager.Reports(), now, at)
	m.observeCutovers(o, s, now, name)
	for why, count := range n.manager.Unheard() {
		o.ObserveFloat64(m.unheard, float64(count), with(name, attribute.String("reason", why)))
	}
}

func (m *meters) observeEdges(o metric.Observer, s *events.State, reports map[string]cutover.Report, now time.Time, at metric.MeasurementOption) {
	live, silent, unsigned := s.LiveEdges(), 0, 0
	for _, e := range live {
		if r, ok := reports[e.ID]; !ok || now.Sub(r.HeardAt) > silentAfter {
			silent++
		}
		if !e.Signs() {
			unsigned++
		}
	}
	o.ObserveFloat64(m.unsigned, float64(unsigned), at)
	o.ObserveFloat64(m.edges, float64(len(live)), at)
	o.ObserveFloat64(m.silent, float64(silent), at)
}

// observeCutovers dates by the journal's times, which another process's clock may have set: good enough for people.
func (m *meters) observeCutovers(o metric.Observer, s *events.State, now time.Time, name attribute.KeyValue) {
	count := map[events.CutoverState]int{}
	for _, state := range events.CutoverStates() {
		count[state] = 0
	}
	var fenced, running time.Duration
	for _, c := range s.Cutovers {
		count[c.State]++
		if w := c.FencedWave(); w >= 0 {
			fenced = max(fenced, now.Sub(c.Waves[w].FencedAt))
		}
		if c.State.Running() {
			running = max(running, now.Sub(c.StartedAt))
		}
	}
	for state, n := range count {
		o.ObserveFloat64(m.byState, float64(n), with(name, attribute.String("state", string(state))))
	}
	o.ObserveFloat64(m.fenced, fenced.Seconds(), with(name))
	o.ObserveFloat64(m.runningFor, running.Seconds(), with(name))
}

func with(labels ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(labels...))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
