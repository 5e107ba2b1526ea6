package cutover

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/command"
)

// View is a cutover as `cutover preview|check|start|show` print it. Its JSON is a contract.
type View struct {
	ID          string                `json:"id"`
	State       events.CutoverState   `json:"state"`
	UnitType    string                `json:"unitType"`
	RuleFrom    uint64                `json:"ruleFrom"`
	RuleTo      uint64                `json:"ruleTo"`
	Moves       []routing.Move        `json:"moves"`
	ExactMoves  []routing.ExactMove   `json:"exactMoves"`           // the first routing.MaxShown
	ExactCount  int                   `json:"exactCount"`           // exact IDs that move
	Slots       int                   `json:"slots"`                // that move
	Sessions    int                   `json:"sessions"`             // that moved keys had when it was proposed
	SilentEdges []string              `json:"silentEdges"`          // that did not answer then
	Diff        string                `json:"diff"`                 // the two rule sets compared, for people
	Rate        events.Rate           `json:"rate"`                 // evictions a second and edge
	Interval    events.Duration       `json:"interval,omitempty"`   // least time between a commit and the next fence
	Gate        *events.Gate          `json:"gate"`                 // looked at after every commit; null: none
	Drain       string                `json:"drain,omitempty"`      // unit that it empties
	Emergency   bool                  `json:"emergency,omitempty"`  // what cannot answer is done without
	RollbackOf  string                `json:"rollbackOf,omitempty"` // the cutover whose keys it moves back
	Reason      *events.Why           `json:"reason"`               // of the last pause or abort, null if there was none
	Checks      []events.Check        `json:"checks"`
	Waves       []WaveView            `json:"waves"`
	Hooks       []HookView            `json:"hooks"`          // that were called, or are to be
	Evicted     int                   `json:"evicted"`        // sessions closed for it
	Landed      int                   `json:"landed"`         // sessions admitted on moved keys by their new owner
	Report      *events.CutoverReport `json:"report"`         // what an ended cutover did to its users and to all others; null until it is made
	Auto        bool                  `json:"auto,omitempty"` // the driver proposed it and starts it: a gate has led to it
	Actor       string                `json:"actor"`
	ProposedAt  time.Time             `json:"proposedAt"`
	StartedAt   *time.Time            `json:"startedAt"`   // null until then
	CompletedAt *time.Time            `json:"completedAt"` // null until then
	EndedAt     *time.Time            `json:"endedAt"`     // completed or aborted; null until then
	TraceID     string                `json:"traceId"`
	Unleased    []string              `json:"unleased,omitempty"` // edges without a lease that the next wave waits for (R13)
	Edges       []EdgeView            `json:"edges"`              // of both sides, by id
}

// WaveView is one wave.
type WaveView struct {
	Index      int                `json:"index"`
	Slots      int                `json:"slots"`
	Exact      int                `json:"exact"`             // exact IDs that move
	State      events.WaveState   `json:"state"`             // "drained": every needed report is there, the commit is not
	Evicted    int                `json:"evicted"`           // sessions closed for it
	WaitingFor []string           `json:"waitingFor"`        // edges whose report the commit needs
	Silence    []SilenceView      `json:"silence,omitempty"` // those of them whose last lease has to run out first
	Skipped    []string           `json:"skipped"`           // edges that an operator did without
	Gate       *events.GateResult `json:"gate,omitempty"`    // not there until the gate has judged it
}

// HookView is one hook of a cutover.
type HookView struct {
	Name   string             `json:"name"`
	On     string             `json:"on"`     // pre or post
	Wait   string             `json:"wait"`   // success, end or none
	Result *events.HookResult `json:"result"` // null until it is known
}

// EdgeView is one edge's part in a cutover.
type EdgeView struct {
	ID      string `json:"id"`
	Unit    string `json:"unit"`
	Applied uint64 `json:"applied"` // sequence of its newest report
	Evicted int    `json:"evicted"`
	Landed  int    `json:"landed"`
}

// Show is the view of a cutover, from the journal's state and what the edges say at this moment.
func Show(s *events.State, c events.Cutover, reports map[string]Report) View {
	d := routing.Compare(c.From, c.To)
	v := View{
		ID: c.ID, State: c.State, UnitType: c.UnitType, RuleFrom: c.RuleFrom, RuleTo: c.RuleTo,
		Moves: orEmpty(d.Moves), ExactMoves: d.ExactMoves(routing.MaxShown), ExactCount: d.Exact.Len(), Slots: d.Slots(), Diff: routing.DiffText(c.From, c.To), Rate: c.Rate,
		Interval: c.Interval, Drain: c.Drain, Emergency: c.Emergency, RollbackOf: c.RollbackOf,
		Sessions: c.Counted.Sessions, SilentEdges: orEmpty(c.Counted.SilentEdges),
		Reason: c.Why, Checks: orEmpty(c.Checks), Waves: []WaveView{}, Hooks: []HookView{}, Actor: c.Actor,
		ProposedAt: c.ProposedAt, StartedAt: moment(c.StartedAt), EndedAt: moment(c.EndedAt), TraceID: traceID(c.Traceparent),
	}
	v.Report, v.Auto = c.Report, c.Auto
	if c.Gate.Set() {
		v.Gate = &c.Gate
	}
	if c.State == events.Completed {
		v.CompletedAt = v.EndedAt
	}
	for i := range c.Waves {
		v.Waves = append(v.Waves, showWave(s, &c, i, reports))
	}
	for _, h := range c.Hooks {
		v.Hooks = append(v.Hooks, HookView{h.Name, h.On, h.Wait, c.Result(h)})
	}
	v.Edges = showEdges(s, &c, d, reports)
	if r := c.Report; r != nil {
		v.Evicted, v.Landed = r.Evicted, r.Landed
		return v
	}
	for _, e := range v.Edges {
		v.Evicted += e.Evicted
		v.Landed += e.Landed
	}
	return v
}

// ShowQuery answers `cutover.show`: {"cutover": ID}.
func ShowQuery(states States, m *Manager) command.Query {
	return func(ctx context.Context, data json.RawMessage) (any, error) {
		var q struct {
			Cutover string `json:"cutover"`
		}
		if err := events.DecodeStrict(data, &q); err != nil {
			return nil, err
		}
		s := states.State()
		c, ok := s.Cutovers[q.Cutover]
		if !ok {
			return nil, events.ErrUnknownCutover.With("there is no cutover %q; see get cutovers", q.Cutover).At("cutover")
		}
		v := Show(s, c, m.Reports())
		if s.Policy.Ownership == "exclusive" && c.State == events.Started {
			v.wait(m.Leases(ctx))
		}
		return v, nil
	}
}

func showWave(s *events.State, c *events.Cutover, i int, reports map[string]Report) WaveView {
	w := c.Waves[i]
	v := WaveView{Index: i, Exact: w.Exact.Len(), State: w.State, WaitingFor: []string{}, Skipped: slices.AppendSeq([]string{}, maps.Keys(w.SkipEdges))}
	for _, r := range w.Slots {
		v.Slots += r.Len()
	}
	switch w.State {
	case events.FencedWave:
		v.WaitingFor = waitingFor(s, c, i, reports)
		if len(v.WaitingFor) == 0 {
			v.State = events.DrainedWave
		}
		for _, r := range reports {
			v.Evicted += fenceEvicted(&r.EdgeReport, w.FenceSeq)
		}
	case events.CommittedWave:
		for _, r := range w.Results {
			v.Evicted += r.Evicted
		}
	}
	slices.Sort(v.Skipped)
	v.Gate = w.Gate
	return v
}

func fenceEvicted(r *events.EdgeReport, fence uint64) int {
	for _, f := range r.Fences {
		if f.Fence == fence {
			return f.Evicted
		}
	}
	return 0
}

// showEdges are the edges of both sides: those that are registered, and those whose reports the journal holds.
func showEdges(s *events.State, c *events.Cutover, d routing.Diff, reports map[string]Report) []EdgeView {
	sides := map[string]bool{}
	d.Sides(func(source, target string) { sides[source], sides[target] = true, true })
	edges := map[string]EdgeView{}
	for _, e := range s.LiveEdges() {
		if sides[e.Unit] {
			edges[e.ID] = EdgeView{ID: e.ID, Unit: e.Unit}
		}
	}
	for _, w := range c.Waves {
		for _, r := range w.Results { // of committed waves: the journal knows
			e := edges[r.ID]
			e.ID, e.Unit, e.Applied, e.Evicted = r.ID, r.Unit, max(e.Applied, r.Applied), e.Evicted+r.Evicted
			edges[r.ID] = e
		}
	}
	fenced := uint64(0)
	if w := c.FencedWave(); w >= 0 {
		fenced = c.Waves[w].FenceSeq
	}
	for id, e := range edges {
		r, ok := reports[id]
		if !ok {
			continue
		}
		e.Applied = max(e.Applied, r.Applied)
		if fenced > 0 {
			e.Evicted += fenceEvicted(&r.EdgeReport, fenced)
		}
		for _, m := range r.Moved {
			if m.Cutover == c.ID { // counts fences that were lifted, too, but only since the edge's process started
				e.Evicted, e.Landed = max(e.Evicted, m.Evicted), m.Landed
			}
		}
		edges[id] = e
	}
	if c.Report != nil { // edges have forgotten by now
		for _, r := range c.Report.Edges {
			e := edges[r.ID]
			e.ID, e.Unit, e.Evicted, e.Landed = r.ID, r.Unit, r.Evicted, r.Landed
			edges[r.ID] = e
		}
	}
	return slices.SortedFunc(maps.Values(edges), func(a, b EdgeView) int { return cmp.Compare(a.ID, b.ID) })
}

// traceID is the trace id of a W3C traceparent (version-traceid-parentid-flags), "" if there is none.
func traceID(traceparent string) string {
	if t := strings.Split(traceparent, "-"); len(t) == 4 {
		return t[1]
	}
	return ""
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
