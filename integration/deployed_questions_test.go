package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/integration/harness"
)

const (
	askedSessions  = 1500 // sessions of the edge that is asked
	oneUsers       = 300  // of these, of one user
	mostEdgeMemory = 384  // MiB: 1,373 were taken by 16 questions of 22 KB, before they had bounds
)

// TestDeployedQuestions asks an edge everything that each role may ask, at its largest and beyond, while a role that may
// only look floods it. What is too large is refused by a code before it is read, the control plane is answered all the
// time, no poller works at it for 5 ms in a row, memory is bounded, and nobody loses a session.
func TestDeployedQuestions(t *testing.T) {
	t.Parallel()
	d := startDeployed(t, "single.conf", 1, 1)
	q := &questions{t: t, d: d, edge: d.edges[0], at: "unitgate.edge.shop.center." + d.edges[0].ID + "."}
	q.observer, q.operator, q.control = d.connect(t, "observer", nil), d.connect(t, "operator", nil), d.connect(t, "control", nil)
	q.settle()

	t.Run("control", q.asControl)
	t.Run("observer", q.asObserver)
	t.Run("operator", q.asOperator)
	t.Run("flood", q.flooded)
	q.undisturbed()
}

type questions struct {
	t                           *testing.T
	d                           *deployed
	edge                        *harness.EdgeProcess
	at                          string // what a question's subject begins with
	observer, operator, control *nats.Conn
	clients                     []*harness.Client
	open                        atomic.Int64
}

// settle opens the sessions.
func (q *questions) settle() {
	q.clients = make([]*harness.Client, askedSessions)
	var all sync.WaitGroup
	for part := range 8 {
		all.Go(func() {
			for i := part; i < askedSessions; i += 8 {
				id := strconv.Itoa(i)
				if i < oneUsers {
					id = "1234"
				}
				q.clients[i] = harness.MustDial(q.t, harness.Handshake{Addr: q.edge.Addr, Host: q.d.Domain, RouterID: id})
			}
		})
	}
	all.Wait()
	for _, c := range q.clients {
		q.open.Add(1)
		go func() {
			for {
				if _, err := c.Read(time.Hour); err != nil {
					q.open.Add(-1)
					return
				}
			}
		}()
	}
}

// ask puts a question until it is answered otherwise than by busy, and returns the answer and the code of its error.
func (q *questions) ask(t *testing.T, nc *nats.Conn, what string, body []byte) (answer []byte, code string) {
	t.Helper()
	harness.Eventually(t, recovers, what+" is answered", func() bool {
		m, err := nc.Request(q.at+what, body, 10*time.Second)
		if errors.Is(err, nats.ErrMaxPayload) { // the account's limit
			code = "too_large"
			return true
		}
		if err != nil {
			t.Logf("%s: %v", what, err)
			return false
		}
		answer, code = m.Data, m.Header.Get("Nats-Service-Error-Code")
		return code != "busy"
	})
	return answer, code
}

func (q *questions) want(t *testing.T, nc *nats.Conn, what string, body []byte, code string, into any) {
	t.Helper()
	answer, got := q.ask(t, nc, what, body)
	if got != code {
		t.Errorf("%s, %d bytes: %q, want %q: %.300s", what, len(body), got, code, answer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			t.Errorf("%s: %.300s: %v", what, answer, err)
		}
	}
}

func packedJSON(question any) []byte {
	b, err := json.Marshal(question)
	if err != nil {
		panic(err)
	}
	return events.Pack(b)
}

// repeated is the question of S3: one range again and again.
func repeated(n int) []byte {
	return []byte(`{"unitType":"","slots":[` + strings.Repeat(`"0-9999",`, n-1) + `"0-9999"]}`)
}

func (q *questions) asControl(t *testing.T) {
	ids := make([]string, routing.MaxExact)
	for i := range ids {
		ids[i] = strconv.Itoa(1_000_000 + 7*i)
	}
	var everyOther []string
	for s := 0; s < 10_000; s += 2 {
		everyOther = append(everyOther, strconv.Itoa(s))
	}
	many := routing.MustIDs(ids...)
	var n events.CountAnswer
	large := packedJSON(events.CountQuestion{Slots: []string{"0-9999"}, Except: many, Exact: many})
	q.want(t, q.control, events.AskCount, large, "", &n)
	if n.Sessions != askedSessions {
		t.Errorf("%d sessions", n.Sessions)
	}
	q.want(t, q.control, events.AskSessions, large, "", &n) // as control planes of before ask
	if n.Sessions != askedSessions {
		t.Errorf("%d sessions where everybody asks", n.Sessions)
	}
	q.want(t, q.control, events.AskCount, packedJSON(events.CountQuestion{Slots: append(everyOther, everyOther...)}), "", &n)
	if n.Sessions < (askedSessions-oneUsers)/2 {
		t.Errorf("%d sessions in every other slot", n.Sessions)
	}
	q.want(t, q.control, events.AskCount, repeated(10_001), "too_large", nil)
	q.want(t, q.control, events.AskCount, events.Pack(repeated(932_000)), "too_large", nil)
	q.want(t, q.control, events.AskStanding, []byte(`{}`), "", nil)
	origins := make([]string, events.MaxProbes)
	for i := range origins {
		origins[i] = fmt.Sprintf("127.0.0.1:%d", 1+i%7)
	}
	var probed events.ProbeAnswer
	q.want(t, q.control, events.AskProbe, packedJSON(events.ProbeQuestion{Origins: origins}), "", &probed)
	if len(probed.Failed) != 7 {
		t.Errorf("%d of 7 origins fail", len(probed.Failed))
	}
	q.want(t, q.control, events.AskProbe, packedJSON(events.ProbeQuestion{Origins: slices.Concat(origins, []string{"x"})}), "bad_value", nil)
	services := make([]events.Service, events.MaxHandshakes)
	for i := range services {
		services[i] = events.Service{Host: q.d.Domain, Path: "/"}
	}
	q.want(t, q.control, events.AskHandshake, packedJSON(events.HandshakeQuestion{Services: services}), "", nil)
	fences := make([]uint64, events.MaxFences)
	q.want(t, q.control, events.AskCutover, packedJSON(events.CutoverQuestion{Cutover: "c1", Fences: fences, Users: 8192}), "", nil)
	q.want(t, q.control, events.AskCutover, packedJSON(events.CutoverQuestion{Cutover: "c1", Fences: slices.Concat(fences, []uint64{1}), Users: 8192}), "bad_value", nil)
}

func (q *questions) asObserver(t *testing.T) {
	q.want(t, q.operator, events.AskSessions, repeated(85_000), "too_large", nil) // 1.5 s for every handshake, before there were bounds
	if _, err := q.observer.Request(q.at+events.AskSessions, repeated(85_000), time.Second); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("who only looks asks with 850 KB: %v", err)
	}
	bomb := events.Pack(repeated(932_000))
	q.want(t, q.observer, events.AskSessions, bomb, "too_large", nil) // 9 s
	var all sync.WaitGroup
	for range 16 { // 108 s and more
		all.Go(func() {
			m, err := q.observer.Request(q.at+events.AskSessions, bomb, 10*time.Second)
			if err == nil && m.Header.Get("Nats-Service-Error-Code") == "" {
				t.Errorf("answered with %s", m.Data)
			}
		})
	}
	all.Wait()
	var n events.CountAnswer
	q.want(t, q.observer, events.AskSessions, []byte(`{"routerId":"1234"}`), "", &n)
	if n.Sessions != oneUsers+1 {
		t.Errorf("%d sessions of one user", n.Sessions)
	}
	for _, what := range []string{events.AskCount, events.AskStanding, events.AskEvict, events.AskProbe} {
		if _, err := q.observer.Request(q.at+what, []byte(`{}`), time.Second); err == nil {
			t.Errorf("it may ask %s", what)
		}
	}
}

func (q *questions) asOperator(t *testing.T) {
	for i := range 200 {
		q.want(t, q.operator, events.AskEvict, fmt.Appendf(nil, `{"routerId":"nobody-%d"}`, i), "", nil)
	}
	var n events.EvictAnswer
	q.want(t, q.operator, events.AskEvict, []byte(`{"routerId":"1234","reason":"test"}`), "", &n)
	if n.Sessions != oneUsers+1 {
		t.Errorf("%d sessions of one user are closed", n.Sessions)
	}
	harness.Eventually(t, recovers, "they are closed", func() bool {
		var n events.CountAnswer
		q.want(t, q.control, events.AskCount, []byte(`{"slots":["0-9999"]}`), "", &n)
		return q.open.Load() == askedSessions-oneUsers-1 && n.Sessions == askedSessions-oneUsers-1
	})
	q.want(t, q.operator, events.AskEvict, []byte(`{"routerId":"7","reason":"`+strings.Repeat("a", 8<<10)+`"}`), "too_large", nil)
}

// flooded has the observer ask as fast as it can, everything that it may and at every size, and meanwhile the control
// plane and a client want something too.
func (q *questions) flooded(t *testing.T) {
	var floods sync.WaitGroup
	var sent atomic.Int64
	stop := make(chan struct{})
	for i, c := range []struct {
		what string
		body []byte
	}{{events.AskSessions, []byte(`{"slots":["0-9999"]}`)}, {events.AskSessions, events.Pack(repeated(932_000))}, {events.AskStatus, []byte(`{}`)}} {
		nc := q.d.connect(t, "observer", make(chan error, 1))
		floods.Go(func() {
			inbox := nc.NewInbox()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if nc.PublishRequest(q.at+c.what, inbox, c.body) == nil {
					sent.Add(1)
				}
				if n%64 == 0 || i == 1 {
					_ = nc.Flush() // what cannot be sent is not to pile up here
				}
			}
		})
	}
	for range 20 {
		q.want(t, q.control, events.AskStanding, []byte(`{}`), "", nil)
		var n events.CountAnswer
		q.want(t, q.control, events.AskCount, []byte(`{"slots":["0-9999"]}`), "", &n)
		if n.Sessions != askedSessions-oneUsers-1 {
			t.Errorf("%d sessions", n.Sessions)
		}
		harness.MustDial(t, harness.Handshake{Addr: q.edge.Addr, Host: q.d.Domain, RouterID: "5000"}).Drop()
		harness.Eventually(t, recovers, "it has ended", func() bool {
			var n events.CountAnswer
			q.want(t, q.control, events.AskCount, []byte(`{"routerId":"5000"}`), "", &n)
			return n.Sessions == 0
		})
	}
	close(stop)
	floods.Wait()
	t.Logf("while %d questions came", sent.Load())
}

// undisturbed looks at what all of it has done to the edge.
func (q *questions) undisturbed() {
	t := q.t
	if n := q.open.Load(); n != askedSessions-oneUsers-1 {
		t.Errorf("%d of %d sessions are there", n, askedSessions-oneUsers-1)
	}
	text := scrapeEdge(t, q.edge)
	all, short := metricOf(t, text, "unitgate_edge_poller_slice_seconds_count"), metricOf(t, text, `unitgate_edge_poller_slice_seconds_bucket{le="0.005"}`)
	// A thread's time has in it what the kernel does there for others, so a few of thousands may be longer.
	if all < 100 || all-short > max(2, all/500) {
		t.Errorf("%v of %v slices of a poller's work took more than 5 ms", all-short, all)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", q.edge.PID))
	peak := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if err != nil || peak == nil {
		t.Fatalf("%s, %v", status, err)
	}
	if kb, _ := strconv.Atoi(string(peak[1])); kb > mostEdgeMemory<<10 {
		t.Errorf("the edge took %d MiB, at most %d were to be expected", kb>>10, mostEdgeMemory)
	} else {
		t.Logf("%v slices, %v of more than 5 ms; the edge took %d MiB; questions: %s", all, all-short, kb>>10, strings.Join(regexp.MustCompile(`unitgate_edge_questions_total\S+ [1-9]\S*`).FindAllString(text, -1), " "))
	}
	if log := q.edge.Stderr.String(); strings.Count(log, "\n") > 500 {
		t.Errorf("%d lines of log", strings.Count(log, "\n"))
	}
}

func scrapeEdge(t *testing.T, e *harness.EdgeProcess) string {
	t.Helper()
	admin := regexp.MustCompile(`msg="admin listener" addr=(\S+)`).FindStringSubmatch(e.Stderr.String())
	if admin == nil {
		t.Fatalf("no admin listener in %s", e.Stderr)
	}
	response, err := http.Get("http://" + admin[1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func metricOf(t *testing.T, text, series string) float64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), series+" "); ok {
			n, err := strconv.ParseFloat(v, 64)
			if err != nil {
				t.Error(err)
			}
			return n
		}
	}
	t.Errorf("there is no %s", series)
	return 0
}
