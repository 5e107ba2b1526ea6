package cutover

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/outbound"
)

// Preparer measures what a command about a cutover, or about the end of a domain, needs to know before it is decided. What it measured goes into the
// journal with the command's event. Nothing is measured for a command that would be rejected anyway.
type Preparer struct {
	fleet  *Fleet
	js     jetstream.JetStream
	source Source
	now    func() time.Time // dates the checks
	names  names
	spans  spans
}

var _ command.Preparer = (*Preparer)(nil)

// Source is a state and the journal that it is read from: projector.Projector is one.
type Source interface {
	States
	Journal() journal.Journal
}

// NewPreparer makes a Preparer for the fleet's namespace.
func NewPreparer(fleet *Fleet, js jetstream.JetStream, source Source) *Preparer {
	return &Preparer{fleet: fleet, js: js, source: source, now: time.Now, names: worldNames(nil), spans: spansBy(nil)}
}

// Dials says whom an operator's word may lead this process to. It is called before the first
// command comes; without it outbound's default counts.
func (p *Preparer) Dials(to *outbound.Policy) *Preparer {
	p.names = worldNames(to)
	return p
}

// Traced makes the preparer emit a span of every precheck. It is called before the first command comes.
func (p *Preparer) Traced(by trace.TracerProvider) *Preparer {
	p.spans = spansBy(by)
	return p
}

// Prepare implements command.Preparer. It never fails: what cannot be measured is a failed check or a silent edge.
func (p *Preparer) Prepare(ctx context.Context, s *events.State, env events.Envelope) (events.Envelope, error) {
	switch c := env.Command.(type) {
	case events.PreviewCutover:
		c.Counted = p.count(ctx, s, env)
		env.Command = c
	case events.RollbackCutover:
		c.Counted = p.count(ctx, s, env)
		env.Command = c
	case events.DeactivateDomain:
		c.Counted = p.countDomains(ctx, s, []string{c.Host})
		env.Command = c
	case events.RemoveDomain:
		c.Counted = p.countDomains(ctx, s, []string{c.Host})
		env.Command = c
	case events.ApplyConfig:
		c.Counted = p.countDomains(ctx, s, removedBy(s, c))
		env.Command = c
	case events.CheckCutover:
		if cut, ok := waits(s, c.Cutover); ok {
			c.Checks = p.Run(ctx, s, cut, events.CheckIDs())
			env.Command = c
		}
	case events.RetryCheck:
		if cut, ok := waits(s, c.Cutover); ok && slices.Contains(events.CheckIDs(), c.Check) {
			c.Result = p.Run(ctx, s, cut, []string{c.Check})[0]
			env.Command = c
		}
	case events.StartCutover:
		if cut, ok := waits(s, c.Cutover); ok {
			c.Checks = p.Run(ctx, s, cut, events.StaleChecks(cut.Checks, p.now()))
			env.Command = c
		}
	default: // for no other command is anything measured
	}
	return env, nil
}

// waits finds a cutover whose prechecks may still be run.
func waits(s *events.State, id string) (*events.Cutover, bool) {
	c, ok := s.Cutovers[id]
	return &c, ok && (c.State == events.Proposed || c.State == events.Checked)
}

// count asks the edges how many live sessions a preview would move. Those of the units that lose keys have them, each
// on the keys that its unit loses. The others are asked too, so that an edge whose report the cutover would wait for
// in vain (R8) is named now.
func (p *Preparer) count(ctx context.Context, s *events.State, env events.Envelope) events.Count {
	e, err := events.Decide(s, p.fleet.namespace, env, p.now())
	if err != nil {
		return events.Count{SilentEdges: []string{}}
	}
	var prop events.CutoverProposed
	switch e := e.(type) {
	case events.CutoverProposed:
		prop = e
	case events.CutoverRolledBack:
		prop = e.Back
	default:
		return events.Count{SilentEdges: []string{}}
	}
	from, to, err := s.Between(prop)
	if err != nil {
		return events.Count{SilentEdges: []string{}}
	}
	lost := losses(from, to, "")
	edges := s.LiveEdges()
	answers := p.fleet.Count(ctx, edges, func(unit string) events.CountQuestion {
		q, loses := lost[unit]
		q.UnitType = prop.UnitType
		if !loses {
			q.Slots = []string{slotRange(0, 0)} // only whether it answers
		}
		return q
	})
	n := events.Count{SilentEdges: silent(answers)}
	for _, a := range answers {
		if _, loses := lost[a.Edge.Unit]; loses && a.Err == nil {
			n.Sessions += a.Value.Sessions
			n.Largest = max(n.Largest, a.Value.Sessions)
		}
	}
	return n
}

// losses are by losing unit the keys that go from one rule set's owner to another's, if gainer is not "" those that go to
// that unit.
func losses(from, to *routing.Rules, gainer string) map[string]events.CountQuestion {
	lost := map[string]events.CountQuestion{}
	counts := func(target string) bool { return gainer == "" || target == gainer }
	diff := routing.Compare(from, to)
	for _, m := range diff.Moves {
		if counts(m.Target) {
			q := lost[m.Source]
			q.Slots = append(q.Slots, slotRange(m.From, m.To))
			lost[m.Source] = q
		}
	}
	for unit, ids := range diff.ExactFrom(counts) {
		q := lost[unit]
		q.Exact = ids
		lost[unit] = q
	}
	for unit, ids := range diff.NewlyExact(counts) {
		q := lost[unit]
		q.Except = ids
		lost[unit] = q
	}
	return lost
}

// Run measures the named prechecks at the same time and returns their verdicts in that order.
func (p *Preparer) Run(ctx context.Context, s *events.State, c *events.Cutover, ids []string) []events.Check {
	out := make([]events.Check, len(ids))
	var all sync.WaitGroup
	for i, id := range ids {
		all.Go(func() {
			began := time.Now()
			out[i] = p.measure(ctx, s, c, id)
			out[i].ID, out[i].At = id, p.now().UTC()
			p.spans.precheck(s.Namespace, c, &out[i], began)
		})
	}
	all.Wait()
	return out
}

func (p *Preparer) measure(ctx context.Context, s *events.State, c *events.Cutover, id string) events.Check {
	switch id {
	case "rules-complete":
		return rulesComplete(s, c)
	case "no-open-cutover":
		return noOpenCutover(s, c)
	case "edges-at-head":
		return p.edgesAtHead(ctx, s)
	case "journal-quorum":
		return p.journalQuorum(ctx)
	case "target-capacity":
		return p.targetCapacity(ctx, s, c)
	case "target-origins":
		return p.targetOrigins(ctx, s, c)
	case "target-handshake":
		return p.targetHandshake(ctx, s, c)
	case "subdomains":
		return p.names.check(ctx, s, c)
	default:
		return reading{}.fail("this version does not know the precheck")
	}
}
