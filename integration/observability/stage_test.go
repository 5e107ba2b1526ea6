package observability_test

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

const (
	within = 40 * time.Second // bounds every wait: generous, timings are not what is proved

	domain = "websocket.msha.tech"
	// Long enough to be no part of a time, a port or an id by chance.
	mover = "98765432100006249" // slot 6249 lies in the moving range
	stays = "98765432100008330"
)

// stage is a namespace of real processes after a cutover that has moved one user from unbj to center.
type stage struct {
	*harness.System
	center, unbj *harness.EdgeProcess
	cutover      harness.Cutover
	fenced       families        // of the controller, while the wave was fenced
	back         *harness.Client // of the mover, after the cutover
}

// play brings a system up on NATS servers and takes it through a cutover. control and edge are more flags for these
// processes.
func play(t *testing.T, url string, control, edge []string) *stage {
	t.Helper()
	seen := harness.NewRegister()
	units := make([]harness.Unit, 2)
	for i, u := range []harness.Unit{{ID: "center", Range: "0-5997"}, {ID: "unbj", Range: "5998-9999"}} {
		u.Origins = []string{harness.StartOrigin(t, u.ID, seen, 50*time.Millisecond).Addr}
		u.Location = "127.0.0.1:" + strconv.Itoa(harness.FreePort(t))
		units[i] = u
	}
	s := &stage{}
	s.System = harness.StartSystemOn(t, url, harness.Config{Namespace: "shop", Domain: domain, Policy: "hold: 20s", Units: units}, control...)
	s.center = s.StartEdge(t, "center-1", units[0], units[0].Location, edge...)
	s.unbj = s.StartEdge(t, "unbj-1", units[1], units[1].Location, edge...)

	if s.dial(t, stays, s.unbj.Addr) == nil {
		t.FailNow()
	}
	moved := make(chan struct{})
	first := s.dial(t, mover, s.unbj.Addr)
	if first == nil {
		t.FailNow()
	}
	go func() {
		defer close(moved)
		for {
			if _, err := first.Read(within); err != nil {
				return // closed with 1012
			}
		}
	}()
	harness.Eventually(t, within, "the controller has heard that both edges are at the head", func() bool {
		head, at := s.Head(t), 0
		for _, e := range s.Edges(t) {
			if e.Applied == head {
				at++
			}
		}
		return at == 2
	})
	preview := s.Cutover(t, "preview", "--range", "center=0-6380", "--range", "unbj=6381-9999")
	s.Cutover(t, "check", preview.ID)
	harness.Run(t, "cutover", "preview", "--range", "center=0-9999", "--range", "unbj=1-2", "--nats", s.NATS, "-n", s.Namespace).Exits(t, 3)
	s.center.Signal(t, syscall.SIGSTOP) // the commit waits for it, so that the mover is held for as long as we like
	harness.Run(t, "cutover", "start", preview.ID, "--nats", s.NATS, "-n", s.Namespace).OK(t)
	select {
	case <-moved:
	case <-time.After(within):
		t.Fatal("the mover's session is not closed")
	}
	var held sync.WaitGroup
	held.Go(func() { s.back = s.dial(t, mover, s.unbj.Addr) })
	harness.Eventually(t, within, "the mover is held", func() bool {
		f := parse(t, scrape(t, s.unbj.Process))
		return f.value(t, "unitgate_edge_handshakes_held", "unit_type=unit_type") == 1
	})
	s.fenced = parse(t, scrape(t, s.Control))
	s.center.Signal(t, syscall.SIGCONT)
	if held.Wait(); s.back == nil {
		t.FailNow()
	}
	harness.Eventually(t, within, "the cutover is reported", func() bool {
		s.cutover = s.Cutover(t, "show", preview.ID)
		return s.cutover.State == "completed" && s.cutover.Report != nil
	})
	if r := s.cutover.Report; r.Evicted != 1 || r.Landed != 1 || r.Blackout.Samples != 1 {
		t.Fatalf("report %+v", r)
	}
	return s
}

// strict starts an edge of another namespace of the same controller, which serves by leases only. In a new namespace there
// is none for a while.
func (s *stage) strict(t *testing.T) *harness.EdgeProcess {
	t.Helper()
	unit := harness.Unit{ID: "center", Range: "0-9999", Origins: []string{"127.0.0.1:9"}}
	c := harness.Config{Namespace: "strict", Domain: domain, Policy: "ownership: exclusive, lease: 15s", Units: []harness.Unit{unit}}
	harness.Run(t, "apply", "-f", c.File(t), "--yes", "--nats", s.NATS).OK(t)
	other := &harness.System{API: harness.API{NATS: s.NATS, Namespace: c.Namespace}, Domain: domain}
	return other.StartEdge(t, "strict-1", unit, "127.0.0.1:"+strconv.Itoa(harness.FreePort(t)))
}

// dial connects a user, and follows redirects. nil: it has failed.
func (s *stage) dial(t *testing.T, id, addr string) *harness.Client {
	t.Helper()
	for range 5 {
		c, answer, err := harness.Dial(harness.Handshake{Addr: addr, Host: domain, RouterID: id})
		if c != nil {
			t.Cleanup(c.Drop)
			return c
		}
		to := &url.URL{}
		if err == nil {
			to, err = answer.Location()
		}
		if err != nil {
			t.Errorf("%s at %s: %v", id, addr, err)
			return nil
		}
		addr = to.Host
	}
	t.Errorf("%s is sent to and fro", id)
	return nil
}

var adminLine = regexp.MustCompile(`admin listener.*addr["=:]+([0-9.:]+)`)

// scrape is what a process shows at /metrics.
func scrape(t *testing.T, p *harness.Process) string {
	t.Helper()
	m := adminLine.FindStringSubmatch(p.Stderr.String())
	if m == nil {
		t.Fatalf("no admin listener: %s", p.Stderr)
	}
	resp, err := http.Get("http://" + m[1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s, %v", resp.Status, err)
	}
	return string(b)
}
