package telemetry

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

func scrapeOf(t *testing.T, tel *T) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// A metric whose labels grow without end, by whatever mistake, has a bounded number of series: nothing gets lost in the
// sum, and the rest of the scrape stays what it is.
func TestSeriesAreBounded(t *testing.T) {
	tel, err := Start(t.Context(), Config{Service: Edge})
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Shutdown(context.Background())
	meter := tel.MeterProvider().Meter("test")
	counter, err := meter.Int64Counter("grows", metric.WithDescription("A counter."))
	if err != nil {
		t.Fatal(err)
	}
	observed, err := meter.Int64ObservableGauge("watched", metric.WithDescription("A gauge."))
	if err == nil {
		_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			for i := range 2 * maxSeries {
				o.ObserveInt64(observed, 1, metric.WithAttributes(attribute.Int("n", i)))
			}
			return nil
		}, observed)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxSeries {
		counter.Add(t.Context(), 1, metric.WithAttributes(attribute.Int("n", i)))
	}
	for range 3 {
		text := scrapeOf(t, tel)
		for _, name := range []string{"grows_total{", "watched{"} {
			if n := strings.Count(text, "\n"+name); n > maxSeries || n < maxSeries/2 {
				t.Errorf("%s: %d series", name, n)
			}
		}
		if want := fmt.Sprintf("\ngrows_total{otel_metric_overflow=\"true\"} %d\n", maxSeries+1); !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
		if !strings.Contains(text, "\ngo_goroutines ") || !strings.Contains(text, "\nprocess_open_fds ") || !strings.Contains(text, `service_name="unitgate-edge"`) {
			t.Error("Go's own, the process's or the service's name is missing")
		}
	}
}
