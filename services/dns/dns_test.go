package dns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libdns/libdns"

	"github.com/unitgate/unitgate/events"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// shop is a namespace with a domain in two units and these load balancers: cluster -> addresses.
func shop(dns events.DNS, balancers map[string][]string) *events.State {
	s := events.NewState()
	s.Namespace, s.ConfigVersion = "shop", 1
	s.Units = map[string]events.Unit{"center": {ID: "center", Center: true}, "unbj": {ID: "unbj"}}
	for cluster, list := range balancers {
		for i, a := range list {
			id := fmt.Sprintf("%s-%d", cluster, i)
			s.LoadBalancers[id] = events.LoadBalancer{ID: id, Cluster: cluster, Address: a}
		}
	}
	s.Domains["ws.msha.test"] = events.DomainState{Active: &events.Domain{
		Host: "ws.msha.test", DNS: dns,
		Units: map[string]events.DomainUnit{
			"center": {Subdomain: "center.ws.msha.test:8443", Cluster: "hz"}, "unbj": {Subdomain: "unbj.ws.msha.test", Cluster: "bj"},
		},
	}}
	return s
}

var multi = events.DNS{Provider: "rfc2136", Zone: "msha.test", MultiUnit: true}

func TestWant(t *testing.T) {
	single := multi
	single.MultiUnit = false
	two := map[string][]string{"hz": {"192.0.2.10", "192.0.2.9", "2001:DB8::1"}, "bj": {"192.0.2.20"}}
	for _, c := range []struct {
		name      string
		dns       events.DNS
		balancers map[string][]string
		sets      []string
		problem   string
	}{
		{"every unit", multi, two, []string{
			"center.ws.msha.test A [192.0.2.10 192.0.2.9]", "center.ws.msha.test AAAA [2001:db8::1]", "unbj.ws.msha.test A [192.0.2.20]",
			"ws.msha.test A [192.0.2.10 192.0.2.20 192.0.2.9]", "ws.msha.test AAAA [2001:db8::1]",
		}, ""},
		{"the center only", single, two, []string{
			"center.ws.msha.test A [192.0.2.10 192.0.2.9]", "center.ws.msha.test AAAA [2001:db8::1]", "unbj.ws.msha.test A [192.0.2.20]",
			"ws.msha.test A [192.0.2.10 192.0.2.9]", "ws.msha.test AAAA [2001:db8::1]",
		}, ""},
		{"a host name", single, map[string][]string{"hz": {"slb.cloud.test"}, "bj": {"192.0.2.20"}}, []string{
			"center.ws.msha.test CNAME [slb.cloud.test]", "unbj.ws.msha.test A [192.0.2.20]", "ws.msha.test CNAME [slb.cloud.test]",
		}, ""},
		{"a host name beside an address", multi, map[string][]string{"hz": {"slb.cloud.test"}, "bj": {"192.0.2.20"}}, []string{
			"center.ws.msha.test CNAME [slb.cloud.test]", "unbj.ws.msha.test A [192.0.2.20]",
		}, "ws.msha.test: a host name (slb.cloud.test) cannot be published beside"},
		{"a unit without load balancers", single, map[string][]string{"hz": {"192.0.2.9"}}, []string{
			"center.ws.msha.test A [192.0.2.9]", "ws.msha.test A [192.0.2.9]",
		}, "unbj.ws.msha.test: no load balancer"},
		{"the top of the zone", events.DNS{Provider: "rfc2136", Zone: "ws.msha.test"}, map[string][]string{"hz": {"slb.cloud.test"}, "bj": {"192.0.2.20"}}, []string{
			"center.ws.msha.test CNAME [slb.cloud.test]", "unbj.ws.msha.test A [192.0.2.20]",
		}, "ws.msha.test: the top of a zone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			zones := Want(shop(c.dns, c.balancers))
			if len(zones) != 1 || zones[0].Name != c.dns.Zone || zones[0].Provider != "rfc2136" {
				t.Fatalf("%+v", zones)
			}
			var got []string
			for _, s := range zones[0].Sets {
				got = append(got, fmt.Sprint(s.Name, " ", s.Type, " ", s.Values))
			}
			if !slices.Equal(got, c.sets) {
				t.Errorf("wants\n%s", strings.Join(got, "\n"))
			}
			var all []string
			for _, p := range zones[0].Problems {
				all = append(all, p.Name+": "+p.Why)
			}
			if p := strings.Join(all, "; "); (p == "") != (c.problem == "") || !strings.Contains(p, c.problem) {
				t.Errorf("problems %q", p)
			}
		})
	}
	if z := Want(shop(events.DNS{Provider: "none"}, two)); len(z) != 0 {
		t.Errorf("without a provider: %+v", z)
	}
	s := shop(multi, two)
	s.Domains["ws.msha.test"] = events.DomainState{Draft: s.Domains["ws.msha.test"].Active}
	if z := Want(s); len(z) != 0 {
		t.Errorf("a draft is published: %+v", z)
	}
}

// memory is a provider's zone in memory, which can fail.
type memory struct {
	mu      sync.Mutex
	records []libdns.Record
	fail    error
	calls   int // reads
	writes  int
}

func (m *memory) GetRecords(context.Context, string) ([]libdns.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	return slices.Clone(m.records), m.fail
}

func (m *memory) SetRecords(_ context.Context, _ string, recs []libdns.Record) ([]libdns.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	for _, r := range recs {
		m.records = slices.DeleteFunc(m.records, func(o libdns.Record) bool { return o.RR().Name == r.RR().Name && o.RR().Type == r.RR().Type })
	}
	for _, r := range recs {
		m.records = append(m.records, r)
		// RFC 1034 section 3.6.2: nothing stands beside a CNAME.
		for _, o := range m.records {
			if o.RR().Name == r.RR().Name && (o.RR().Type == "CNAME") != (r.RR().Type == "CNAME") {
				return nil, errors.New("a CNAME and other data at " + r.RR().Name)
			}
		}
	}
	return recs, nil
}

func (m *memory) DeleteRecords(_ context.Context, _ string, recs []libdns.Record) ([]libdns.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	for _, r := range recs {
		m.records = slices.DeleteFunc(m.records, func(o libdns.Record) bool {
			return o.RR().Name == r.RR().Name && o.RR().Type == r.RR().Type && o.RR().Data == r.RR().Data
		})
	}
	return recs, nil
}

func (m *memory) text() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, r := range m.records {
		out = append(out, fmt.Sprint(r.RR().Name, " ", r.RR().Type, " ", r.RR().Data))
	}
	slices.Sort(out)
	return out
}

// fixed is a States that does not change by itself.
type fixed struct {
	mu sync.Mutex
	s  *events.State
	ch chan struct{}
}

func (f *fixed) State() *events.State { f.mu.Lock(); defer f.mu.Unlock(); return f.s }

func (f *fixed) Changed() <-chan struct{} { f.mu.Lock(); defer f.mu.Unlock(); return f.ch }

func (f *fixed) set(s *events.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.s = s
	close(f.ch)
	f.ch = make(chan struct{})
}

func reconciler(m *memory, s *events.State) (*Reconciler, *fixed) {
	f := &fixed{s: s, ch: make(chan struct{})}
	return New("shop", f, map[string]Provider{"rfc2136": m}, func() bool { return true }, quiet()), f
}

// Whatever changes in the configuration, the zone follows, all of it is marked, others' records are never touched, and
// once it is right nothing is written.
func TestReconcileFollowsEveryChange(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	foreign := []libdns.Record{
		libdns.RR{Name: "www", Type: "A", Data: "192.0.2.99"}, libdns.RR{Name: "_unitgate.other", Type: "TXT", Data: "unitgate namespace=other"},
		libdns.RR{Name: "other", Type: "A", Data: "192.0.2.98"}, libdns.RR{Name: "@", Type: "SOA", Data: "x"},
	}
	m := &memory{records: slices.Clone(foreign)}
	r, _ := reconciler(m, nil)
	pick := func() []string {
		all := []string{"192.0.2.1", "192.0.2.2", "2001:db8::2", "2001:db8::3"}
		switch rnd.IntN(5) {
		case 0:
			return nil
		case 1:
			return []string{"slb.cloud.test"}
		}
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		return all[:1+rnd.IntN(3)]
	}
	for i := range 300 {
		dns := events.DNS{Provider: "rfc2136", Zone: "msha.test", MultiUnit: rnd.IntN(2) == 0}
		if rnd.IntN(8) == 0 {
			dns = events.DNS{Provider: "none"}
		}
		s := shop(dns, map[string][]string{"hz": pick(), "bj": pick()})
		if !r.Reconcile(t.Context(), s) {
			t.Fatalf("step %d failed", i)
		}
		writes := m.writes
		if !r.Reconcile(t.Context(), s) || m.writes != writes {
			t.Fatalf("step %d: %d writes to a zone that is right", i, m.writes-writes)
		}
		want := Zone{Name: "msha.test"}
		if z := Want(s); len(z) > 0 {
			want = z[0]
		}
		names := map[string]bool{}
		for _, set := range want.Sets {
			names[set.Name] = true
		}
		published := map[string]bool{}
		for _, d := range Compare("shop", want, m.records) {
			if stuck := slices.ContainsFunc(want.Problems, func(p Problem) bool { return p.Name == d.Name }); d.State != map[bool]State{true: Kept, false: OK}[stuck] {
				t.Fatalf("step %d: %+v", i, d)
			}
			published[d.Name] = true
		}
		for name := range names {
			if !published[name] {
				t.Fatalf("step %d: %s is not there", i, name)
			}
		}
		for _, f := range foreign {
			if !slices.ContainsFunc(m.records, func(o libdns.Record) bool { return reflect.DeepEqual(o.RR(), f.RR()) }) {
				t.Fatalf("step %d: %v is gone", i, f.RR())
			}
		}
		if want := len(foreign) + len(published); len(slices.DeleteFunc(m.text(), func(s string) bool {
			return !strings.Contains(s, " TXT ") && !strings.Contains(s, "SOA") && !strings.HasPrefix(s, "www") && !strings.HasPrefix(s, "other")
		})) != want {
			t.Fatalf("step %d: %v", i, m.text())
		}
	}
}

// A name that somebody else has published is left alone, and shown.
func TestForeignNamesStay(t *testing.T) {
	m := &memory{records: []libdns.Record{libdns.RR{Name: "ws", Type: "A", Data: "192.0.2.99"}}}
	s := shop(multi, map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}})
	r, _ := reconciler(m, s)
	if !r.Reconcile(t.Context(), s) {
		t.Error("only people can mend that")
	}
	for _, d := range r.Show(t.Context(), s)[0].Names {
		if want := map[bool]State{true: Foreign, false: OK}[d.Name == "ws.msha.test"]; d.State != want {
			t.Errorf("%+v", d)
		}
	}
	if !slices.Contains(m.text(), "ws A 192.0.2.99") || slices.ContainsFunc(m.text(), func(s string) bool { return strings.HasPrefix(s, "_unitgate.ws ") }) {
		t.Error(m.text())
	}
}

func TestShowWithoutProvider(t *testing.T) {
	s := shop(events.DNS{Provider: "alidns", Zone: "msha.test"}, map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}})
	r, _ := reconciler(&memory{}, s)
	if r.Reconcile(t.Context(), s) {
		t.Error("nobody publishes it, and that is well")
	}
	if got := r.Show(t.Context(), s); len(got) != 1 || !strings.Contains(got[0].Error, "not set up") || !strings.Contains(got[0].Error, "rfc2136") {
		t.Errorf("%+v", got)
	}
}

// After failures it tries again, later each time but never later than some minutes; a change of the configuration is
// taken up at once, and other changes are not.
func TestRunBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{fail: errors.New("server down")}
		s := shop(multi, map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}})
		r, f := reconciler(m, s)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		calls := func() int { m.mu.Lock(); defer m.mu.Unlock(); return m.calls }
		time.Sleep(time.Minute)
		if n := calls(); n < 4 || n > 8 {
			t.Errorf("%d tries in the first minute", n)
		}
		time.Sleep(2 * time.Hour)
		before := calls()
		time.Sleep(time.Hour)
		if n := calls() - before; n < 60/8 || n > 24 {
			t.Errorf("%d tries in an hour, after two hours", n)
		}
		before = calls()
		same := *s
		same.Seq = 7
		f.set(&same)
		synctest.Wait()
		if calls() != before {
			t.Error("a change that is none of DNS's was taken up")
		}
		m.mu.Lock()
		m.fail = nil
		m.mu.Unlock()
		next := same
		next.ConfigVersion = 8
		f.set(&next)
		synctest.Wait()
		if calls() != before+1 || len(m.text()) != 7 {
			t.Errorf("%d reads, %v", calls()-before, m.text())
		}
		stop()
		<-done
	})
}

// Who does not lead writes nothing.
func TestOnlyTheLeaderWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		f := &fixed{s: shop(multi, map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}}), ch: make(chan struct{})}
		var leads bool
		var mu sync.Mutex
		r := New("shop", f, map[string]Provider{"rfc2136": m}, func() bool { mu.Lock(); defer mu.Unlock(); return leads }, quiet())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		time.Sleep(time.Hour)
		if m.calls != 0 {
			t.Errorf("%d reads", m.calls)
		}
		mu.Lock()
		leads = true
		mu.Unlock()
		time.Sleep(2 * time.Second)
		if len(m.text()) != 7 {
			t.Errorf("%v", m.text())
		}
		stop()
		<-done
	})
}
