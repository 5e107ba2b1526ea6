package bench_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/unitgate/cli"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
	"github.com/unitgate/unitgate/services/unitgate/demo"
)

// manyIDs is a config file that adds a unit type with 100,000 numeric exact IDs, 11 digits each and in no order, to the
// demo's.
func manyIDs(tb testing.TB) string {
	cfg := demo.Config(map[string]string{"center": "127.0.0.1:1", "unbj": "127.0.0.1:2"})
	cfg.UnitTypes = append(cfg.UnitTypes, events.UnitType{Name: "phones", Slots: 10000})
	lists := map[string][]string{}
	for i := range uint64(100_000) {
		unit := []string{"center", "unbj"}[i%2]
		lists[unit] = append(lists[unit], fmt.Sprintf("1%010d", i*7_919_317_331%10_000_000_000))
	}
	cfg.Rules["phones"] = events.RulesConfig{Ranges: cfg.Rules["unit_type"].Ranges, Exact: lists}
	return write(tb, cfg)
}

// manyDomains is a config file with 64 units and 200 domains, each in every unit, in addition to the demo's.
func manyDomains(tb testing.TB) string {
	cfg := demo.Config(map[string]string{"center": "127.0.0.1:1", "unbj": "127.0.0.1:2"})
	for u := range 62 {
		id := fmt.Sprintf("unit-%02d", u)
		cfg.Units = append(cfg.Units, events.Unit{ID: id})
		cfg.Clusters = append(cfg.Clusters, events.Cluster{ID: "ws-" + id, Unit: id})
	}
	for d := range 200 {
		domain := events.Domain{
			Host: fmt.Sprintf("shop-%03d.example.com", d), Units: map[string]events.DomainUnit{},
			URIs: []events.URI{{Path: "/", Origins: map[string]events.Origins{}}},
		}
		for i, c := range cfg.Clusters {
			domain.Units[c.Unit] = events.DomainUnit{Cluster: c.ID}
			domain.URIs[0].Origins[c.Unit] = events.Origins{fmt.Sprintf("10.%d.%d.1:9000", i, d)}
		}
		cfg.Domains = append(cfg.Domains, domain)
	}
	return write(tb, cfg)
}

func write(tb testing.TB, cfg events.Config) string {
	tb.Helper()
	text, err := configfile.Format(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "config.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// apply is `unitgate apply`, whole: it reads the file, reads the state, plans, and sends the command. It returns the
// sequence of the event.
func (d *bed) apply(file string) uint64 {
	d.b.Helper()
	var out, err bytes.Buffer
	code := cli.Run(d.b.Context(), []string{"apply", "-f", file, "--yes", "-o", "json", "--nats", d.urls[0]}, strings.NewReader(""), &out, &err)
	var done struct {
		Seq uint64 `json:"seq"`
	}
	if code != 0 || json.Unmarshal(out.Bytes(), &done) != nil || done.Seq == 0 {
		d.b.Fatalf("apply ended with %d: %s%s", code, &out, &err)
	}
	return done.Seq
}

// BenchmarkApply is from the start of `unitgate apply -f FILE --yes` until the last of four edges has reported that every
// poller decides by its event and that the state is on disk.
func BenchmarkApply(b *testing.B) {
	for _, c := range []struct {
		name string
		file func(testing.TB) string
	}{{"100k-exact-IDs", manyIDs}, {"200-domains-64-units", manyDomains}} {
		b.Run(c.name, func(b *testing.B) {
			file := c.file(b)
			var applied []time.Duration
			for b.Loop() {
				b.StopTimer()
				d := newBed(b, 1)
				b.StartTimer()
				began := time.Now()
				d.await(d.apply(file))
				applied = append(applied, time.Since(began))
			}
			report(b, "applied", applied)
		})
	}
}
