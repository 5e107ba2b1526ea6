package cutover

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
)

func (b *bed) try(c events.Command) command.Outcome {
	b.t.Helper()
	return b.handler.Do(b.ctx, events.Envelope{Actor: "test", Command: c})
}

// A domain ends by what every edge of the namespace says at that moment, whichever command ends it: sessions refuse it,
// and so does an edge that says nothing; an operator's word goes before both, and what was known stands in the event.
func TestDomainsEndByWhatEdgesSay(t *testing.T) {
	b := newBed(t)
	host := shopConfig().Domains[0].Host
	apply := func(force bool) events.Command {
		return events.ApplyConfig{Base: b.projector.State().ConfigVersion, Prune: true, Force: force, Reason: "closed", Config: events.Config{Namespace: testNamespace, Domains: []events.Domain{}}}
	}
	refused := func(code string, words ...string) {
		t.Helper()
		head := b.projector.State().Seq
		for _, c := range []events.Command{events.DeactivateDomain{Host: host}, events.RemoveDomain{Host: host}, apply(false)} {
			o := b.try(c)
			if o.OK || o.Error.Code != code {
				t.Errorf("%T: %+v", c, o)
				continue
			}
			for _, w := range words {
				if !strings.Contains(o.Error.Error(), w) {
					t.Errorf("%T: %q does not say %q", c, o.Error, w)
				}
			}
		}
		if s := b.projector.State(); s.Seq != head {
			t.Errorf("%d events were appended", s.Seq-head)
		}
	}
	b.change("h1", func(e *fakeEdge) { e.domains = map[string]int{host: 3} })
	b.change("b2", func(e *fakeEdge) { e.domains = map[string]int{host: 4, "other.example": 9} })
	refused("sessions_live", "7 sessions", host)

	b.change("h1", func(e *fakeEdge) { e.domains = nil })
	b.change("b2", func(e *fakeEdge) { e.domains = nil })
	b.silence("b1")
	refused("sessions_unknown", "b1", host)

	b.change("h1", func(e *fakeEdge) { e.domains = map[string]int{host: 3} })
	o := b.try(apply(true))
	if !o.OK {
		t.Fatal(o.Error)
	}
	if want := fmt.Sprintf(`"ended":[{"host":%q,"sessions":3,"silentEdges":["b1"],"forced":true}]`, host); !strings.Contains(string(o.Data), want) {
		t.Errorf("no %s in %s", want, o.Data)
	}
	if s := b.projector.State(); s.Cuts[host] != o.Seq || len(s.Domains) != 0 {
		t.Errorf("domains %v, cuts %v", s.Domains, s.Cuts)
	}
}

// Edges are asked only about what a command would end.
func TestDomainsThatStayAreNotCounted(t *testing.T) {
	b := newBed(t)
	for _, c := range []events.Command{
		events.RemoveDomain{Host: "mars.example"}, events.DeactivateDomain{Host: ""},
		events.ApplyConfig{Base: b.projector.State().ConfigVersion + 1, Prune: true, Config: events.Config{Namespace: testNamespace, Domains: []events.Domain{}}},
		events.ApplyConfig{Base: b.projector.State().ConfigVersion, Config: events.Config{Namespace: testNamespace, Units: []events.Unit{{ID: "third"}}}},
	} {
		b.try(c)
	}
	b.change("h1", func(e *fakeEdge) {
		if slices.ContainsFunc(e.asked, func(q events.CountQuestion) bool { return len(q.Domains) > 0 }) {
			t.Errorf("asked %+v", e.asked)
		}
	})
}
