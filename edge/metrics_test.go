package edge

import (
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/unitgate/unitgate/edge/origin"
)

// named is an instrument that can be told from others.
type named struct {
	noop.Float64ObservableGauge
	name string
}

// seenBy collects what is observed of one instrument.
type seenBy struct {
	noop.Observer
	of     metric.Float64Observable
	values *[]float64
}

func (s seenBy) ObserveFloat64(of metric.Float64Observable, v float64, _ ...metric.ObserveOption) {
	if of == s.of {
		*s.values = append(*s.values, v)
	}
}

// An origin that was removed from the configuration and still has sessions is not down: an alert would fire for as long as
// they stay.
func TestRemovedOriginIsNotDown(t *testing.T) {
	in, _, err := newInstruments(nil)
	if err != nil {
		t.Fatal(err)
	}
	in.originUp, in.originConnections = named{name: "up"}, named{name: "connections"}
	list := []origin.Status{{Address: "10.0.0.1:80", State: "removed", Sessions: 3}}
	var up, connections []float64
	in.origins(seenBy{of: in.originUp, values: &up}, list)
	in.origins(seenBy{of: in.originConnections, values: &connections}, list)
	if len(up) != 0 || len(connections) != 1 || connections[0] != 3 {
		t.Errorf("up %v, connections %v", up, connections)
	}
	list[0].State = "down"
	if in.origins(seenBy{of: in.originUp, values: &up}, list); len(up) != 1 || up[0] != 0 {
		t.Errorf("up %v", up)
	}
}
