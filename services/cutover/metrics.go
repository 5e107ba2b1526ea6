package cutover

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/unitgate/unitgate/events"
)

// Meters take what the process in office sees of the cutovers, in seconds. Only that one measures, so that the sum over
// all controllers counts each once. They may be shared by the managers of all namespaces.
type Meters struct {
	phase    metric.Float64Histogram
	blackout metric.Float64Histogram
}

// NewMeters registers them.
func NewMeters(m metric.Meter) (*Meters, error) {
	phase, err := m.Float64Histogram("unitgate.cutover.phase", metric.WithUnit("s"),
		metric.WithDescription("How long parts of cutovers took: start (to the first fence, pre hooks included), fenced (a wave, from its fence to its commit), between (a commit and the next fence), whole (start to end)."))
	blackout, berr := m.Float64Histogram("unitgate.cutover.blackout", metric.WithUnit("s"),
		metric.WithDescription("How long moved users had no session, from the Close to the 101 of their next one: of the sessions that a cutover's report compares."))
	return &Meters{phase, blackout}, errors.Join(err, berr)
}

// The phases of a cutover.
const (
	phaseStart   = "start"
	phaseFenced  = "fenced"
	phaseBetween = "between"
	phaseWhole   = "whole"
)

// stage is how far a cutover was when the driver last looked, and since when on its own clock. The zero value is not
// known: what has begun before this process saw it is not measured.
type stage struct {
	state     events.CutoverState
	fenced    int // wave, -1: none
	committed int // waves
	reported  bool

	began, since time.Duration // it was started; it reached this stage: by the manager's clock, 0: not seen
}

// watcher measures cutovers by what the journal says of them. The loop owns it.
type watcher struct {
	meters    *Meters // nil: nobody wants to know
	namespace string
	stages    map[string]stage // by cutover
}

// see compares a state with the one before. leads says that this process is in office; blackouts are those that the driver
// knows of a cutover whose report has come.
func (w *watcher) see(s *events.State, now time.Duration, leads bool, blackouts func(*events.Cutover) []time.Duration) {
	if w.meters == nil {
		return
	}
	now = max(now, 1) // 0 means never
	next := make(map[string]stage, len(s.Cutovers))
	for id, c := range s.Cutovers {
		is := stage{state: c.State, fenced: c.FencedWave(), committed: c.NextWave(), reported: c.Report != nil}
		was, known := w.stages[id]
		is.began, is.since = was.began, was.since
		if known && leads {
			w.compare(was, &is, now)
			if is.reported && !was.reported {
				for _, d := range blackouts(&c) {
					w.meters.blackout.Record(context.Background(), d.Seconds(), w.labels())
				}
			}
		} else if is.state != was.state || is.fenced != was.fenced || is.committed != was.committed {
			is.began, is.since = 0, 0 // nobody here saw when
		}
		next[id] = is
	}
	w.stages = next
}

// compare records what has ended between two stages.
func (w *watcher) compare(was stage, is *stage, now time.Duration) {
	if is.state == was.state && is.fenced == was.fenced && is.committed == was.committed {
		return
	}
	is.since = now
	switch {
	case was.state != events.Started && was.state != events.Paused && is.state == events.Started:
		is.began = now
	case was.fenced >= 0 && is.committed > was.committed:
		w.record(phaseFenced, was.since, now)
	case is.fenced >= 0 && was.fenced < 0 && was.state == events.Started && was.committed == 0:
		w.record(phaseStart, was.since, now)
	case is.fenced >= 0 && was.fenced < 0 && was.state == events.Started:
		w.record(phaseBetween, was.since, now)
	}
	if is.state.Ended() && !was.state.Ended() {
		w.record(phaseWhole, is.began, now)
	}
}

func (w *watcher) record(phase string, from, now time.Duration) {
	if from > 0 {
		w.meters.phase.Record(context.Background(), (now - from).Seconds(), w.labels(attribute.String("phase", phase)))
	}
}

func (w *watcher) labels(more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(more, attribute.String("namespace", w.namespace))...))
}

// blackouts are those of a cutover whose report this driver has made.
func (d *Driver) blackouts(c *events.Cutover) []time.Duration {
	if q := d.inquiries[inquiryKey{c.ID, -1}]; q != nil {
		return laid(q.answers).blackouts
	}
	return nil
}
