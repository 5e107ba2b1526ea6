package cutover

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/unitgate/unitgate/events"
)

// A cutover of two waves, the second of which is lifted once, as states that a driver reads one second apart: each phase
// is measured once, by the process in office only, and none of which the beginning was not seen.
func TestPhases(t *testing.T) {
	reader := sdk.NewManualReader()
	meters, err := NewMeters(sdk.NewMeterProvider(sdk.WithReader(reader)).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(state events.CutoverState, waves ...events.WaveState) *events.State {
		c := events.Cutover{ID: "c1", State: state}
		for _, w := range waves {
			c.Waves = append(c.Waves, events.Wave{State: w})
		}
		return &events.State{Cutovers: map[string]events.Cutover{"c1": c}}
	}
	const p, f, c = events.PendingWave, events.FencedWave, events.CommittedWave
	way := []*events.State{
		{}, at(events.Proposed, p, p), at(events.Checked, p, p), at(events.Started, p, p), at(events.Started, p, p),
		at(events.Started, f, p), at(events.Started, c, p), at(events.Started, c, f), at(events.Paused, c, p),
		at(events.Started, c, p), at(events.Started, c, f), at(events.Started, c, c), at(events.Completed, c, c), at(events.Completed, c, c),
	}
	reported := at(events.Completed, c, c)
	cut := reported.Cutovers["c1"]
	cut.Report = &events.CutoverReport{}
	reported.Cutovers["c1"] = cut
	way = append(way, reported, reported)
	blackouts := func(*events.Cutover) []time.Duration { return []time.Duration{time.Second / 2, time.Second} }
	for name, leads := range map[string]func(i int) bool{
		"in office":   func(int) bool { return true },
		"standing by": func(int) bool { return false },
		"took over":   func(i int) bool { return i >= 6 }, // in the middle of the first wave
	} {
		w := watcher{meters: meters, namespace: name, stages: nil}
		for i, s := range way {
			w.see(s, time.Duration(i)*time.Second, leads(i), blackouts)
		}
	}
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, m := range got.ScopeMetrics[0].Metrics {
		for _, d := range m.Data.(metricdata.Histogram[float64]).DataPoints {
			ns, _ := d.Attributes.Value(attribute.Key("namespace"))
			phase, _ := d.Attributes.Value(attribute.Key("phase"))
			lines = append(lines, fmt.Sprintf("%s: %s %s %d in %gs", ns.AsString(), m.Name, phase.AsString(), d.Count, d.Sum))
		}
	}
	slices.Sort(lines)
	want := []string{
		"in office: unitgate.cutover.blackout  2 in 1.5s",
		"in office: unitgate.cutover.phase between 2 in 2s",
		"in office: unitgate.cutover.phase fenced 2 in 2s",
		"in office: unitgate.cutover.phase start 1 in 2s",
		"in office: unitgate.cutover.phase whole 1 in 9s",
		"took over: unitgate.cutover.blackout  2 in 1.5s",
		"took over: unitgate.cutover.phase between 2 in 2s",
		"took over: unitgate.cutover.phase fenced 1 in 1s",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%q\nwant\n%q", lines, want)
	}
}
