package cli

import (
	"errors"
	"testing"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

// An origin that every edge's probes find down is down, whatever else is said of it; of edges that say nothing nothing follows.
func TestProbesSay(t *testing.T) {
	answer := func(id, unit string, down map[string]string, err error) cutover.Answer[events.EdgeStatus] {
		return cutover.Answer[events.EdgeStatus]{Edge: events.Edge{ID: id, Unit: unit}, Value: events.EdgeStatus{Down: down}, Err: err}
	}
	bad, none := map[string]string{"o:1": "GET /healthz answered 400, want 2xx-3xx"}, map[string]string{}
	answers := []cutover.Answer[events.EdgeStatus]{
		answer("a-1", "a", bad, nil), answer("a-2", "a", bad, nil), answer("a-old", "a", nil, nil), answer("a-mute", "a", none, errors.New("silent")),
		answer("b-1", "b", none, nil), answer("b-2", "b", bad, nil), answer("c-old", "c", nil, nil),
	}
	for _, c := range []struct{ unit, origin, state, why string }{
		{"a", "o:1", "down", "a-1: GET /healthz answered 400, want 2xx-3xx"},
		{"a", "o:2", "up", ""},
		{"b", "o:1", "down at 1 of 2 edges", "b-2: GET /healthz answered 400, want 2xx-3xx"},
		{"c", "o:1", "", ""},
		{"d", "o:1", "", ""},
	} {
		if state, why := probesSay(answers, c.unit, c.origin); state != c.state || why != c.why {
			t.Errorf("%s of %s: %q %q", c.origin, c.unit, state, why)
		}
	}
}
