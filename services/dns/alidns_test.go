package dns

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/unitgate/unitgate/events"
)

// inAli is the shop with its names at alidns.
func inAli(balancers map[string][]string) *events.State {
	return shop(events.DNS{Provider: "alidns", Zone: "msha.test", MultiUnit: true}, balancers)
}

// aliReconciler is one that has an access key, given as an operator gives it, and what it logs.
func aliReconciler(t *testing.T, key string, s *events.State) (*Reconciler, *bytes.Buffer) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	providers, err := Settings{AliDNSKeyFile: file}.Open()
	if err != nil {
		t.Fatal(err)
	}
	log := &bytes.Buffer{}
	return New("shop", &fixed{s: s, ch: make(chan struct{})}, providers, func() bool { return true }, slog.New(slog.NewTextHandler(log, nil))), log
}

const goodAli = aliID + ":" + aliSecret

// withMarkers are records with a marker for each name, and what else is in the zone.
func withMarkers(others []string, records ...string) []string {
	out := slices.Concat(others, records)
	for _, r := range records {
		out = append(out, "_unitgate."+strings.Fields(r)[0]+" TXT unitgate namespace=shop")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func aliFollows(t *testing.T, ali *aliServer, r *Reconciler, s *events.State, want []string) {
	t.Helper()
	for _, d := range r.Show(t.Context(), s) {
		if d.Error != "" {
			t.Fatal(d.Error)
		}
	}
	if !r.Reconcile(t.Context(), s) {
		t.Fatalf("%v; the zone is\n%s", r.failed, strings.Join(ali.text(), "\n"))
	}
	if got := ali.text(); !slices.Equal(got, want) {
		t.Fatalf("the zone is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	writes := ali.count("Add") + ali.count("Update") + ali.count("Delete")
	if !r.Reconcile(t.Context(), s) || ali.count("Add")+ali.count("Update")+ali.count("Delete") != writes {
		t.Fatalf("a zone that is right was written: %v", ali.asked)
	}
	for _, z := range r.Show(t.Context(), s) {
		for _, d := range z.Names {
			if d.State != OK && d.State != Kept {
				t.Errorf("%+v", d)
			}
		}
	}
}

// The service's documentation signs this request by this key.
func TestAliDNSSignature(t *testing.T) {
	req, err := http.NewRequest(http.MethodPost, "https://ecs.cn-shanghai.aliyuncs.com/?ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai", nil)
	if err != nil {
		t.Fatal(err)
	}
	key := aliDNS{"YourAccessKeyId", "YourAccessKeySecret"}
	key.sign(req, "RunInstances", "2014-05-26", "3156853299f313e23d1673dc12e1703d", time.Date(2023, 10, 26, 10, 22, 32, 0, time.UTC))
	const want = "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
	if got := req.Header.Get("Authorization"); got != want {
		t.Error(got)
	}
}

func TestAliDNSFollowsTheConfiguration(t *testing.T) {
	ali := newAliServer(t)
	// Names that ours are part of, and values that begin like ours: nobody may take them for ours.
	for _, rr := range []string{"news", "x.ws", "x.unbj.ws", "ws.x"} {
		ali.row(rr, "A", "192.0.2.9")
		ali.row(rr, "A", "192.0.2.90")
		ali.row("_unitgate."+rr, "TXT", "unitgate namespace=shopping")
	}
	ali.serve(t)
	others := ali.text()
	r, log := aliReconciler(t, goodAli, nil)
	follows := func(balancers map[string][]string, want ...string) {
		t.Helper()
		aliFollows(t, ali, r, inAli(balancers), withMarkers(others, want...))
	}
	follows(map[string][]string{"hz": {"192.0.2.9", "192.0.2.10", "2001:db8::1"}, "bj": {"192.0.2.20"}},
		"ws A 192.0.2.9", "ws A 192.0.2.10", "ws A 192.0.2.20", "ws AAAA 2001:db8::1",
		"center.ws A 192.0.2.9", "center.ws A 192.0.2.10", "center.ws AAAA 2001:db8::1", "unbj.ws A 192.0.2.20")
	for _, row := range ali.zones["msha.test"] {
		if strings.HasSuffix(row.RR, "ws") && row.TTL != 60 && !slices.Contains(others, row.RR+" "+row.Type+" "+row.Value) {
			t.Errorf("%+v", row)
		}
	}
	follows(map[string][]string{"hz": {"192.0.2.10"}, "bj": {"192.0.2.21", "192.0.2.20"}}, // one fewer, one more, others as they were
		"ws A 192.0.2.10", "ws A 192.0.2.20", "ws A 192.0.2.21", "center.ws A 192.0.2.10", "unbj.ws A 192.0.2.20", "unbj.ws A 192.0.2.21")
	follows(map[string][]string{"hz": {"192.0.2.10"}, "bj": {"slb.cloud.test"}}, // from addresses to a name
		"ws A 192.0.2.10", "ws A 192.0.2.20", "ws A 192.0.2.21", "center.ws A 192.0.2.10", "unbj.ws CNAME slb.cloud.test")
	follows(map[string][]string{"hz": {"192.0.2.10"}, "bj": {"slb2.cloud.test"}},
		"ws A 192.0.2.10", "ws A 192.0.2.20", "ws A 192.0.2.21", "center.ws A 192.0.2.10", "unbj.ws CNAME slb2.cloud.test")
	follows(map[string][]string{"hz": {"192.0.2.10"}, "bj": {"192.0.2.1"}},
		"ws A 192.0.2.1", "ws A 192.0.2.10", "center.ws A 192.0.2.10", "unbj.ws A 192.0.2.1")
	aliFollows(t, ali, r, shop(events.DNS{Provider: "none"}, nil), others)
	if strings.Contains(log.String(), aliSecret) || strings.Contains(log.String(), "WARN") {
		t.Error(log)
	}
}

// The top of a zone is called @ there, and is a name like others.
func TestAliDNSTopOfTheZone(t *testing.T) {
	ali := newAliServer(t)
	ali.zones["ws.msha.test"] = nil
	ali.serve(t)
	s := shop(events.DNS{Provider: "alidns", Zone: "ws.msha.test"}, map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}})
	r, _ := aliReconciler(t, goodAli, s)
	for range 2 {
		if !r.Reconcile(t.Context(), s) {
			t.Fatal(r.failed)
		}
	}
	if n := ali.count("Add"); n != 6 || !slices.ContainsFunc(ali.zones["ws.msha.test"], func(r aliRow) bool { return r.RR == "@" && r.Value == "192.0.2.9" }) {
		t.Errorf("%d added: %+v", n, ali.zones["ws.msha.test"])
	}
}

// What stands on a later page is seen as well: ours is not made again, and a foreign name not joined.
func TestAliDNSReadsEveryPage(t *testing.T) {
	ali := newAliServer(t)
	ali.row("ws", "A", "192.0.2.98") // somebody else's, and the oldest of all
	for i := range 1100 {
		ali.row(fmt.Sprintf("host%d", i), "A", "192.0.2.50")
	}
	ali.serve(t)
	others := ali.text()
	s := inAli(map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}})
	r, _ := aliReconciler(t, goodAli, s)
	want := withMarkers(others, "center.ws A 192.0.2.9", "unbj.ws A 192.0.2.20")
	for range 2 {
		if !r.Reconcile(t.Context(), s) {
			t.Fatal(r.failed)
		}
		if got := ali.text(); !slices.Equal(got, want) {
			t.Fatalf("%d records, want %d", len(got), len(want))
		}
	}
	for _, d := range r.Show(t.Context(), s)[0].Names {
		if d.State != map[bool]State{true: Foreign, false: OK}[d.Name == "ws.msha.test"] {
			t.Errorf("%+v", d)
		}
	}
	// One that comes between two pages hides none.
	all := len(ali.text())
	ali.paged = func() {
		ali.paged = nil
		ali.row("late", "A", "192.0.2.51")
	}
	if got, err := r.providers["alidns"].GetRecords(t.Context(), "msha.test."); err != nil || len(got) != all {
		t.Errorf("%d records of %d, %v", len(got), all, err)
	}
	// A record that goes between two pages lets another slip past: that is no reading of the zone.
	ali.paged = func() {
		ali.paged = nil
		ali.zones["msha.test"] = ali.zones["msha.test"][1:]
	}
	if _, err := r.providers["alidns"].GetRecords(t.Context(), "msha.test."); err == nil || !strings.Contains(err.Error(), "changed while") {
		t.Errorf("%v", err)
	}
}

// In the editions that sell no shorter one, names have the shortest TTL that there is.
func TestAliDNSMinimumTTL(t *testing.T) {
	ali := newAliServer(t)
	ali.minTTL = 600
	ali.serve(t)
	r, _ := aliReconciler(t, goodAli, nil)
	others := ali.text()
	aliFollows(t, ali, r, inAli(map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}}),
		withMarkers(others, "ws A 192.0.2.9", "ws A 192.0.2.20", "center.ws A 192.0.2.9", "unbj.ws A 192.0.2.20"))
	aliFollows(t, ali, r, inAli(map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.21"}}),
		withMarkers(others, "ws A 192.0.2.9", "ws A 192.0.2.21", "center.ws A 192.0.2.9", "unbj.ws A 192.0.2.21"))
	for _, row := range ali.zones["msha.test"] {
		if row.TTL != 600 {
			t.Errorf("%+v", row)
		}
	}
}

// Whatever the service refuses is said with its code, once, and never with the secret; nothing is changed, and it goes on
// once the service does.
func TestAliDNSRefusals(t *testing.T) {
	ali := newAliServer(t)
	server := ali.serve(t)
	s := inAli(map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}})
	elsewhere := shop(events.DNS{Provider: "alidns", Zone: "test"}, map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}})
	before := ali.text()
	fails := func(what string, r *Reconciler, log *bytes.Buffer, s *events.State, says ...string) {
		t.Helper()
		for range 2 {
			if r.Reconcile(t.Context(), s) {
				t.Errorf("%s: that is well", what)
			}
		}
		said := strings.Join(slices.Collect(maps.Values(r.failed)), "; ") + r.Show(t.Context(), s)[0].Error
		for _, w := range says {
			if !strings.Contains(said, w) || !strings.Contains(log.String(), w) {
				t.Errorf("%s: %q, logged %q; want %q", what, said, log, w)
			}
		}
		for _, not := range []string{aliSecret, "another", "x-acs", "Signature=", "PageSize=", "\n"} {
			if strings.Contains(said, not) || not != "\n" && strings.Contains(log.String(), not) {
				t.Errorf("%s: %q is in %q, %q", what, not, said, log)
			}
		}
		if n := strings.Count(log.String(), "WARN"); n != 1 {
			t.Errorf("%s: %d warnings: %s", what, n, log)
		}
		if !slices.Equal(ali.text(), before) {
			t.Errorf("%s: the zone is %v", what, ali.text())
		}
	}
	r, log := aliReconciler(t, "LTAI-no-such:another", s)
	fails("unknown key", r, log, s, "InvalidAccessKeyId.NotFound", "HTTP 404", "access key")
	r, log = aliReconciler(t, aliID+":another", s)
	fails("wrong secret", r, log, s, "SignatureDoesNotMatch", "HTTP 400", "access key")
	r, log = aliReconciler(t, goodAli, s)
	fails("a zone of nobody", r, log, elsewhere, "InvalidDomainName.NoExist", "add the zone")
	r, log = aliReconciler(t, goodAli, s)
	ali.refuse = slices.Repeat([]aliRefusal{aliThrottled}, 3)
	fails("throttled", r, log, s, "Throttling.User")
	r, log = aliReconciler(t, goodAli, s)
	ali.refuse = slices.Repeat([]aliRefusal{{503, "ServiceUnavailable", "The request has failed due to a temporary failure of the server."}}, 3)
	fails("unavailable", r, log, s, "ServiceUnavailable", "HTTP 503")
	aliFollows(t, ali, r, s, withMarkers(before, "ws A 192.0.2.9", "ws A 192.0.2.20", "center.ws A 192.0.2.9", "unbj.ws A 192.0.2.20"))
	before = ali.text()
	server.Close()
	r, log = aliReconciler(t, goodAli, s)
	fails("server down", r, log, s, "connection refused")
}

// A proxy's page is no answer of the service, and a service that does not answer is waited for as long as the context
// lasts and no longer, for reading and writing.
func TestAliDNSWithoutAnswer(t *testing.T) {
	s := inAli(map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}})
	r, _ := aliReconciler(t, goodAli, s)
	t.Run("a page", func(t *testing.T) {
		insteadOfAli(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 502, Body: io.NopCloser(strings.NewReader("<html>Bad Gateway</html>"))}, nil
		}).until(t)
		if got := r.Show(t.Context(), s)[0].Error; !strings.Contains(got, "HTTP 502") {
			t.Errorf("%q", got)
		}
	})
	for _, from := range []string{"DescribeDomainRecords", "DescribeSubDomainRecords", "AddDomainRecord"} {
		t.Run("silent from "+from, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ali := newAliServer(t)
				ali.direct(t)
				answers := http.DefaultTransport
				insteadOfAli(func(r *http.Request) (*http.Response, error) {
					if r.Header.Get("x-acs-action") == from {
						<-r.Context().Done()
						return nil, r.Context().Err()
					}
					return answers.RoundTrip(r)
				}).until(t)
				r, _ := aliReconciler(t, goodAli, s)
				at := time.Now()
				if r.Reconcile(t.Context(), s) || time.Since(at) != onceWait || !strings.Contains(fmt.Sprint(r.failed), context.DeadlineExceeded.Error()) {
					t.Errorf("after %v: %v", time.Since(at), r.failed)
				}
			})
		})
	}
}

// When it is throttled it asks less often each time, and goes on where it was.
func TestAliDNSBacksOffWhenThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ali := newAliServer(t)
		ali.direct(t)
		others := ali.text()
		r, log := aliReconciler(t, goodAli, inAli(map[string][]string{"hz": {"192.0.2.9"}, "bj": {"192.0.2.20"}}))
		ali.refuse = slices.Repeat([]aliRefusal{aliThrottled}, 1000)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		time.Sleep(time.Minute)
		if n := ali.count(""); n < 4 || n > 8 {
			t.Errorf("%d requests in the first minute", n)
		}
		time.Sleep(2 * time.Hour)
		before := ali.count("")
		time.Sleep(time.Hour)
		if n := ali.count("") - before; n < 60/8 || n > 24 {
			t.Errorf("%d requests in an hour, after two hours", n)
		}
		ali.mu.Lock()
		ali.refuse = nil
		ali.mu.Unlock()
		time.Sleep(2 * lastRetry)
		if got, want := ali.text(), withMarkers(others, "ws A 192.0.2.9", "ws A 192.0.2.20", "center.ws A 192.0.2.9", "unbj.ws A 192.0.2.20"); !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
		stop()
		<-done
		if got := log.String(); strings.Count(got, "WARN") != 1 || !strings.Contains(got, "up to date again") || strings.Contains(got, aliSecret) {
			t.Error(got)
		}
	})
}
