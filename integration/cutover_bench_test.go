//go:build linux

package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/integration/bench/origin"
	"github.com/unitgate/unitgate/integration/harness"
)

const (
	multitude  = 9000 // sessions over four edges
	movers     = 1000 // of them, on the two edges of unbj
	firstMover = 6000 // their routerIds and slots count from here
)

// fate is how one moved user fared.
type fate struct {
	edge   string
	closed time.Time // its Close came
	back   time.Time // the next 101 came
}

// moving is a namespace of processes with the whole multitude connected.
type moving struct {
	*harness.System
	b     *testing.B
	nc    *nats.Conn
	edges []string // addresses: two of center, two of unbj
	fates chan fate
}

func startMoving(b *testing.B) *moving {
	m := &moving{b: b, fates: make(chan fate, movers)}
	place := func() string { return "127.0.0.1:" + strconv.Itoa(harness.FreePort(b)) }
	for range 4 {
		m.edges = append(m.edges, place())
	}
	// An origin waits in epoll_wait and keeps its P for a while then: with none to spare the NATS server in this process
	// would wait for one at every step of a cutover.
	procs := runtime.GOMAXPROCS(runtime.NumCPU() + 4)
	b.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	serve := func() string {
		o, bound, err := origin.New([]string{"127.0.0.1:0"})
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			runtime.LockOSThread()
			_ = o.Run() // as long as the process
		}()
		return bound[0]
	}
	units := []harness.Unit{
		{ID: "center", Range: "0-5997", Location: m.edges[0], Origins: []string{serve()}},
		{ID: "unbj", Range: "5998-9999", Location: m.edges[2], Origins: []string{serve()}},
	}
	m.System = harness.StartSystem(b, harness.Config{Namespace: "moving", Domain: "moving.example.com", Units: units})
	for i, addr := range m.edges {
		u := units[i/2]
		m.StartEdge(b, fmt.Sprintf("%s-%d", u.ID, 1+i%2), u, addr)
	}
	var err error
	if m.nc, err = nats.Connect(m.NATS); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.nc.Close)
	var dialling sync.WaitGroup
	turns := make(chan struct{}, 32)
	for i := range multitude {
		at, id := i/2%2, i%5000 // center
		if i%2 == 1 {           // every other one in unbj, movers first
			n := i / 2
			at, id = 2+n%2, firstMover+n
			if n >= movers {
				id = firstMover + movers + n%3000
			}
		}
		turns <- struct{}{}
		dialling.Go(func() {
			defer func() { <-turns }()
			c, resp, err := harness.Dial(m.shake(m.edges[at], id))
			if c == nil {
				b.Errorf("%d at %s: %v, %v", id, m.edges[at], resp, err)
				return
			}
			b.Cleanup(c.Drop)
			if id >= firstMover && id < firstMover+movers {
				go m.follow(c, m.edges[at], id)
			}
		})
	}
	dialling.Wait()
	return m
}

func (m *moving) shake(addr string, id int) harness.Handshake {
	return harness.Handshake{Addr: addr, Host: m.Domain, RouterID: strconv.Itoa(id)}
}

// follow waits for a mover's Close and comes back at once, where it came before and then where it is sent.
func (m *moving) follow(c *harness.Client, addr string, id int) {
	var closed *harness.CloseError
	for {
		if _, err := c.Read(0); errors.As(err, &closed) {
			break
		} else if err != nil {
			return // the benchmark is over
		}
	}
	g := fate{edge: addr, closed: time.Now()}
	go func() { // RFC 6455 section 7.1.1: the server closes the connection first, and the edge waits up to 2 s for the client to follow
		_, _ = io.Copy(io.Discard, c.Raw())
		c.Drop()
	}()
	for {
		again, resp, err := harness.Dial(m.shake(addr, id))
		switch {
		case err != nil:
			m.b.Errorf("%d comes back: %v", id, err)
			return
		case again != nil:
			g.back = time.Now()
			m.fates <- g
			m.b.Cleanup(again.Drop)
			return
		case resp.StatusCode == http.StatusFound:
			to, err := url.Parse(resp.Header.Get("Location"))
			if err != nil {
				m.b.Error(err)
				return
			}
			addr = to.Host
		default:
			m.b.Errorf("%d comes back and gets %s", id, resp.Status)
			return
		}
	}
}

// ask sends a command as a program does, without the start of a process.
func (m *moving) ask(verb string, data any) json.RawMessage {
	m.b.Helper()
	q, err := json.Marshal(map[string]any{"actor": "bench", "data": data})
	if err != nil {
		m.b.Fatal(err)
	}
	msg, err := m.nc.Request("unitgate.api.moving.cutover."+verb, q, 30*time.Second)
	if err != nil {
		m.b.Fatal(err)
	}
	var o struct {
		OK   bool
		Data json.RawMessage
	}
	if err := json.Unmarshal(msg.Data, &o); err != nil || !o.OK {
		m.b.Fatalf("%s: %s, %v", verb, msg.Data, err)
	}
	return o.Data
}

// BenchmarkCutover moves 1,000 of 9,000 sessions over four edge processes. The clients come back at once, are redirected
// and served by the other unit; clients, origins, edges, control plane and NATS share the machine. Reported are, from the
// command on, the last Close that a client saw; the time that clients were without a session, from their Close to their
// next 101, and the same as the cutover's own report has it; and how far each edge's rate was from the one asked for. The
// origins stay as long as the process: give each case a run of its own.
func BenchmarkCutover(b *testing.B) {
	for _, c := range []struct {
		name  string
		waves int
		rate  any
	}{{"max-1-wave", 1, "max"}, {"max-20-waves", 20, "max"}, {"rate-200", 1, 200}} {
		b.Run(c.name, func(b *testing.B) {
			if b.N > 1 {
				b.Skip("one run says all: -benchtime 1x")
			}
			m := startMoving(b)
			var made struct{ ID string }
			if err := json.Unmarshal(m.ask("preview", map[string]any{
				"ranges": map[string]any{"center": []string{"0-5997", "6000-6999"}, "unbj": []string{"5998-5999", "7000-9999"}}, "waves": c.waves, "rate": c.rate,
			}), &made); err != nil {
				b.Fatal(err)
			}
			m.ask("check", map[string]string{"cutover": made.ID})
			began := time.Now()
			m.ask("start", map[string]string{"cutover": made.ID})
			var fates []fate
			late := time.After(time.Minute)
			for len(fates) < movers {
				select {
				case g := <-m.fates:
					fates = append(fates, g)
				case <-late:
					b.Fatalf("%d of %d are back", len(fates), movers)
				}
			}
			tell(b, began, fates, c.rate)
			m.report(b, made.ID)
		})
	}
}

// tell reports what the clients saw.
func tell(b *testing.B, began time.Time, fates []fate, rate any) {
	b.Helper()
	var last time.Time
	var without []time.Duration
	byEdge := map[string][]time.Time{}
	for _, g := range fates {
		if g.closed.After(last) {
			last = g.closed
		}
		without = append(without, g.back.Sub(g.closed))
		byEdge[g.edge] = append(byEdge[g.edge], g.closed)
	}
	slices.Sort(without)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op") // the set-up is not what is timed
	b.ReportMetric(ms(last.Sub(began)), "last-close-ms")
	b.ReportMetric(ms(without[len(without)/2]), "blackout-p50-ms")
	b.ReportMetric(ms(without[len(without)*99/100]), "blackout-p99-ms")
	want, ok := rate.(int)
	if !ok {
		return
	}
	worst := 0.0
	for _, closes := range byEdge {
		slices.SortFunc(closes, time.Time.Compare)
		got := float64(len(closes)-1) / closes[len(closes)-1].Sub(closes[0]).Seconds()
		worst = max(worst, 100*max(got/float64(want)-1, 1-got/float64(want)))
	}
	b.ReportMetric(worst, "off-the-rate-%")
}

// report waits for the cutover's own report and adds its figures.
func (m *moving) report(b *testing.B, id string) {
	b.Helper()
	var shown struct {
		State  string
		Report *struct {
			Evicted, Landed int
			Blackout        struct{ P50, P99 float64 }
			Untouched       struct{ Same bool }
		}
	}
	harness.Eventually(b, time.Minute, "the cutover is reported", func() bool {
		return json.Unmarshal(m.ask("show", map[string]string{"cutover": id}), &shown) == nil && shown.Report != nil
	})
	r := shown.Report
	if r.Evicted != movers || r.Landed != movers || !r.Untouched.Same {
		b.Errorf("%s: %+v", shown.State, *r)
	}
	b.ReportMetric(r.Blackout.P50, "reported-p50-ms")
}
