package command_test

import (
	"context"
	"log/slog"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/command"
)

// No caller chooses a label: what does not exist is counted under one name.
func TestLabelsOfCommands(t *testing.T) {
	nc := connect(t)
	reader := sdk.NewManualReader()
	meters, err := command.NewMeters(sdk.NewMeterProvider(sdk.WithReader(reader)).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	m := &memoryNamespaces{t: t, js: map[string]*journal.Memory{}, hs: map[string]*command.Handler{}}
	s, err := command.Serve(command.Config{NC: nc, Namespaces: m, Asked: []string{"test.echo"}, Meters: meters, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	create := `{"actor":"me","data":{"unitTypes":[{"name":"unit_type","slots":100}]}}`
	for _, c := range [][2]string{
		{"shop.namespace.create", create},
		{"shop.unit.put", `{"actor":"me","data":{"id":"unbj"}}`},
		{"shop.unit.put", `{"actor":"me","data":{"id":"BAD"}}`},
		{"shop.unit.verb", `{}`},
		{"shop.wave.fence", `{}`},
		{"chosen.unit.put", `{"actor":"me","data":{"id":"unbj"}}`},
		{"-.unit.put", `{}`},
		{"shop.test.echo", `{}`},
	} {
		ask(t, nc, "unitgate.api."+c[0], c[1])
	}
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{
		"shop namespace.create api ok": 1, "shop unit.put api ok": 1, "shop unit.put api bad_name": 1,
		"shop unknown api bad_command":    2, // a verb of the driver is none of a caller
		" unit.put api unknown_namespace": 1, " unit.put api bad_name": 1,
	}
	for _, metric := range got.ScopeMetrics[0].Metrics {
		sum, ok := metric.Data.(metricdata.Sum[int64])
		if !ok || metric.Name != "unitgate.commands" {
			continue
		}
		for _, p := range sum.DataPoints {
			var key string
			for i, label := range []string{"namespace", "command", "via", "code"} {
				v, _ := p.Attributes.Value(attribute.Key(label))
				if key += v.AsString(); i < 3 {
					key += " "
				}
			}
			if want[key] != p.Value {
				t.Errorf("%s: %d", key, p.Value)
			}
			delete(want, key)
		}
	}
	if len(want) > 0 {
		t.Errorf("not counted: %v", want)
	}
}
