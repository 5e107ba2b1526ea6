package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	prom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
)

// maxSeries bounds the series of one metric. What is beyond is added up in one with the label otel_metric_overflow: a
// metric may grow with the configuration, but never without end.
const maxSeries = 2000

// maxScrapes bounds the scrapes that are answered at a time.
const maxScrapes = 4

// bounds of every histogram's buckets, in seconds: from what a local connect takes to what an operator calls an outage.
func bounds() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
}

// meters measure: what is registered with their provider is what their handler shows, together with Go's runtime and the
// process. Nothing is collected but while somebody asks.
type meters struct {
	sdk  *sdk.MeterProvider
	http http.Handler
}

func startMeters(cfg Config, res *resource.Resource) (meters, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector(),
	} {
		if err := registry.Register(c); err != nil {
			return meters{}, fmt.Errorf("telemetry: metrics: %w", err)
		}
	}
	// No label for the scope: it is an import path, the same for all that one process shows.
	reader, err := prom.New(prom.WithRegisterer(registry), prom.WithoutScopeInfo())
	if err != nil {
		return meters{}, fmt.Errorf("telemetry: metrics: %w", err)
	}
	histograms := sdk.NewView(sdk.Instrument{Kind: sdk.InstrumentKindHistogram}, sdk.Stream{
		Aggregation: sdk.AggregationExplicitBucketHistogram{Boundaries: bounds(), NoMinMax: true},
	})
	return meters{
		sdk: sdk.NewMeterProvider(sdk.WithResource(res), sdk.WithReader(reader), sdk.WithView(histograms),
			sdk.WithCardinalityLimit(maxSeries), sdk.WithExemplarFilter(exemplar.AlwaysOffFilter)),
		http: promhttp.HandlerFor(registry, promhttp.HandlerOpts{
			ErrorLog: complaints{cfg.Log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes,
		}),
	}, nil
}

func (m meters) provider() metric.MeterProvider { return m.sdk }

func (m meters) handler() http.Handler { return m.http }

func (m meters) shutdown(ctx context.Context) error { return m.sdk.Shutdown(ctx) }

// complaints has what goes wrong in a scrape logged.
type complaints struct{ log *slog.Logger }

func (c complaints) Println(v ...any) { c.log.Warn("a scrape went wrong", "err", fmt.Sprint(v...)) }
