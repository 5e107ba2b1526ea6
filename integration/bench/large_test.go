package bench_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/integration/harness"
	"github.com/unitgate/unitgate/services/unitgate/cli"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
	"github.com/unitgate/unitgate/services/unitgate/demo"
)

// phones are 100,000 different numbers of 11 digits, the same ones each time, in no order.
func phones() []string {
	r := rand.New(rand.NewPCG(1, 2))
	seen, out := map[uint64]bool{}, []string{}
	for len(out) < 100_000 {
		if n := 10_000_000_000 + r.Uint64N(10_000_000_000); !seen[n] {
			seen[n] = true
			out = append(out, strconv.FormatUint(n, 10))
		}
	}
	return out
}

// manyIDs is a config file that adds a unit type with 100,000 numeric exact IDs to the demo's: every other one
// is center's.
func manyIDs(tb testing.TB) string {
	cfg := demo.Config(map[string]string{"center": "127.0.0.1:1", "unbj": "127.0.0.1:2"})
	cfg.UnitTypes = append(cfg.UnitTypes, events.UnitType{Name: "phones", Slots: 10000})
	lists := map[string][]string{}
	for i, id := range phones() {
		unit := []string{"center", "unbj"}[i%2]
		lists[unit] = append(lists[unit], id)
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
	domains := 200
	if harness.Race {
		domains = 20 // the detector makes a minute of it
	}
	for d := range domains {
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

// The same without a look at the clock: real NATS, a control plane and four edges take both files, hold the same state, and
// turn a client away by it.
func TestApplyOfLargeConfigs(t *testing.T) {
	d := newBed(t, 1)
	d.await(d.apply(manyIDs(t)))
	for i, c := range []struct{ id, unit string }{{phones()[0], "center"}, {phones()[1], "unbj"}} {
		for _, unit := range []string{"center", "unbj"} {
			want := ""
			if unit != c.unit {
				want = "http://" + c.unit + ".websocket.localhost/"
			}
			status, location := d.shake(unit+"-1", "websocket.localhost", "phones", c.id)
			if location != want || (status == http.StatusFound) != (want != "") {
				t.Errorf("%d: edge of %s answers %d %q, want a redirect to %q", i, unit, status, location, want)
			}
		}
	}
	d.await(d.apply(manyDomains(t)))
	if status, location := d.shake("center-1", "shop-019.example.com", "unit_type", "8330"); status != http.StatusFound || location != "http://unbj.shop-019.example.com/" {
		t.Errorf("a domain answers %d %q", status, location)
	}
	want := d.hashes["center-1"]
	for id, got := range d.hashes {
		if got != want || want == "" {
			t.Errorf("edge %s has state %s, center-1 %s", id, got, want)
		}
	}
	if code := cli.Run(t.Context(), []string{"journal", "verify", "-n", "demo", "--nats", d.urls[0]}, strings.NewReader(""), io.Discard, io.Discard); code != 0 {
		t.Errorf("journal verify ends with %d", code)
	}
}

// shake is a WebSocket handshake with an edge: its status, and where it redirects to. Origins refuse connections here.
func (d *bed) shake(edge, host, unitType, routerID string) (status int, location string) {
	d.b.Helper()
	req, err := http.NewRequestWithContext(d.b.Context(), http.MethodGet, "http://"+d.edges[edge].Addrs()[0]+"/", nil)
	if err != nil {
		d.b.Fatal(err)
	}
	req.Host = host
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "unitType": unitType, "routerId": routerID} {
		req.Header.Set(k, v)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		d.b.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode, res.Header.Get("Location")
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
