package cutover

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/integration/otlp"
	"github.com/unitgate/unitgate/services/telemetry"
)

// told is a chronicle without a bucket, and the names of the spans that it has emitted, with their ids.
type told struct {
	chronicle
	t   *testing.T
	tel *telemetry.T
	r   *otlp.Receiver
}

func newTold(t *testing.T) *told {
	t.Helper()
	r, err := otlp.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Service: telemetry.Control, OTLP: r.HTTP()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(t.Context()) })
	return &told{chronicle: chronicle{Manager: &Manager{cfg: Config{Namespace: "shop"}}, spans: spansBy(tel.TracerProvider())}, t: t, tel: tel, r: r}
}

// of are the spans that a state leads to.
func (d *told) of(s *events.State, now time.Time) []string {
	d.t.Helper()
	before := len(d.r.Spans())
	d.tell(s, now)
	if err := d.tel.Flush(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	var out []string
	for _, s := range d.r.Spans()[before:] {
		what := s.Name + " " + s.Attributes["unitgate.cutover.id"]
		if s.Name == "cutover.wave" {
			what += "/" + s.Attributes["unitgate.wave"] + " " + s.Attributes["unitgate.wave.state"]
		}
		out = append(out, what+" "+s.ID)
	}
	slices.Sort(out)
	return out
}

// without are spans without their ids.
func without(spans []string) []string {
	var out []string
	for _, s := range spans {
		out = append(out, s[:len(s)-17])
	}
	return out
}

func history(began time.Time, change func(c *events.Cutover)) *events.State {
	s := events.NewState()
	s.Namespace, s.CutoverCount = "shop", 1
	c := events.Cutover{
		ID: "c1", Number: 1, State: events.Started, Traceparent: events.RootTraceparent(events.TraceID{9}), ProposedAt: began,
		Waves: []events.Wave{{State: events.PendingWave}, {State: events.PendingWave}},
	}
	for i := range c.Waves {
		c.Waves[i].Slots = []routing.Range{{From: uint32(i), To: uint32(i)}}
	}
	change(&c)
	s.Cutovers["c1"] = c
	return s
}

func wave(c *events.Cutover, i int, state events.WaveState, fence uint64, at time.Time) {
	c.Waves[i].State, c.Waves[i].FenceSeq, c.Waves[i].FencedAt = state, fence, at
}

// TestChronicle: every wave and every root once, whoever is in office and whatever he has seen.
func TestChronicle(t *testing.T) {
	began := time.Now().Add(-time.Minute)
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	fenced := history(began, func(c *events.Cutover) { wave(c, 0, events.FencedWave, 10, at(1)) })
	paused := history(began, func(c *events.Cutover) { c.State = events.Paused; wave(c, 0, events.PendingWave, 10, at(1)) })
	again := history(began, func(c *events.Cutover) { wave(c, 0, events.FencedWave, 20, at(5)) })
	second := history(began, func(c *events.Cutover) {
		wave(c, 0, events.CommittedWave, 20, at(5))
		wave(c, 1, events.FencedWave, 22, at(7))
	})
	done := history(began, func(c *events.Cutover) {
		wave(c, 0, events.CommittedWave, 20, at(5))
		wave(c, 1, events.CommittedWave, 22, at(7))
		c.State, c.EndedAt = events.Completed, at(9)
	})
	d := newTold(t)
	var all []string
	for _, step := range []struct {
		s    *events.State
		want []string
	}{
		{history(began, func(*events.Cutover) {}), nil},
		{fenced, nil},
		{fenced, nil},
		{paused, []string{"cutover.wave c1/0 unfenced"}},
		{paused, nil},
		{again, nil},
		{second, []string{"cutover.wave c1/0 committed"}},
		{done, []string{"cutover c1", "cutover.wave c1/1 committed"}},
		{done, nil},
	} {
		got := d.of(step.s, time.Now())
		if !slices.Equal(without(got), step.want) {
			t.Errorf("%v, want %v", without(got), step.want)
		}
		all = append(all, got...)
	}

	// A successor that finds the predecessor's mark goes on where that stopped; one that finds an older mark repeats what
	// may be lost, under the same ids.
	for name, c := range map[string]struct {
		mark mark
		want []string
	}{
		"all told":          {mark{Next: 2}, nil},
		"one wave told":     {mark{Next: 2, Open: map[string]uint64{"c1": 20}}, []string{"cutover c1", "cutover.wave c1/1 committed"}},
		"nothing looked at": {mark{Next: 1}, []string{"cutover c1", "cutover.wave c1/0 committed", "cutover.wave c1/1 committed"}},
	} {
		next := newTold(t)
		next.mark = c.mark
		got := next.of(done, time.Now())
		if !slices.Equal(without(got), c.want) {
			t.Errorf("%s: %v, want %v", name, without(got), c.want)
		}
		for _, s := range got {
			if !slices.Contains(all, s) {
				t.Errorf("%s: %s has another id than before: %v", name, s, all)
			}
		}
	}
	old := newTold(t)
	old.mark = mark{Next: 1}
	if got := old.of(done, time.Now().Add(2*staleRoot)); len(got) > 0 {
		t.Errorf("what ended before tracing was on: %v", got)
	}
}

// TestTimesOfSpans: the root has the times of the journal, and a wave ends before what came after it.
func TestTimesOfSpans(t *testing.T) {
	began := time.Now().Add(-time.Minute).Truncate(time.Microsecond)
	d := newTold(t)
	d.of(history(began, func(c *events.Cutover) {
		wave(c, 0, events.CommittedWave, 20, began.Add(time.Second))
		wave(c, 1, events.CommittedWave, 22, began.Add(3*time.Second))
		c.State, c.EndedAt = events.Completed, began.Add(4*time.Second)
	}), time.Now())
	for _, s := range d.r.Spans() {
		from, to := began, began.Add(4*time.Second)
		switch s.Attributes["unitgate.wave"] {
		case "0":
			from, to = began.Add(time.Second), began.Add(3*time.Second)
		case "1":
			from = began.Add(3 * time.Second)
		}
		if !s.Start.Equal(from) || !s.End.Equal(to) {
			t.Errorf("%s lasts from %s to %s, want %s to %s", s.Name, s.Start, s.End, from, to)
		}
	}
}

// TestCommitsSettle: what comes right after a commit may have been decided before it was seen, and bounds its span.
func TestCommitsSettle(t *testing.T) {
	began := time.Now().Add(-time.Minute).Truncate(time.Microsecond)
	committed := history(began, func(c *events.Cutover) { wave(c, 0, events.CommittedWave, 20, began) })
	d := newTold(t)
	at := began.Add(5 * time.Second)
	if got := d.of(committed, at); len(got) > 0 {
		t.Errorf("emitted at once: %v", got)
	}
	if got := d.of(committed, at.Add(settling)); len(got) != 1 {
		t.Errorf("a while later: %v", got)
	} else if s := d.r.Spans()[0]; !s.End.Equal(at) {
		t.Errorf("it ends at %s, seen at %s", s.End, at)
	}

	d = newTold(t)
	d.of(committed, at)
	fenced := at.Add(-time.Millisecond)
	d.of(history(began, func(c *events.Cutover) {
		wave(c, 0, events.CommittedWave, 20, began)
		wave(c, 1, events.FencedWave, 22, fenced)
	}), at.Add(time.Millisecond))
	if s := d.r.Spans(); len(s) != 1 || !s[0].End.Equal(fenced) {
		t.Errorf("%+v: want one that ends with the next fence, at %s", s, fenced)
	}
}

// TestMarkFitsTheBucket however many proposals stand open; those under way keep their place.
func TestMarkFitsTheBucket(t *testing.T) {
	m := mark{Next: 1001, Open: map[string]uint64{"c3": 77}}
	for i := range 1000 {
		if id := fmt.Sprintf("c%d", i+1); id != "c3" {
			m.Open[id] = 0
		}
	}
	b, err := m.encode()
	if err != nil || len(b) > 1024 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	var back mark
	if err := json.Unmarshal(b, &back); err != nil || back.Next != 1001 || back.Open["c3"] != 77 {
		t.Errorf("%s, %v", b, err)
	}
	if _, ok := back.Open["c1000"]; !ok || len(back.Open) < 50 || len(m.Open) != 1000 {
		t.Errorf("%s", b)
	}
}
