package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/integration/harness"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

// TestAsyncAPI lets real processes do everything that the catalogue of commands has, keeps every message on the subjects
// of the api, of durable commands, outcomes, events and live events, and holds each against events/asyncapi.json, with no
// key that is not in it. It fails if a command or an event was never seen; that of exclusive ownership is waited for where
// everything is to run.
func TestAsyncAPI(t *testing.T) {
	t.Parallel()
	d := readDocument(t)
	url := harness.StartNATS(t)
	c := startCapture(t, url)
	w := walkEverything(t, url, c)
	if harness.Everything() { // until a new journal grants leases takes some 20 s
		w.apply(`"policy":{"ownership":"exclusive"}`)
		c.await(t, "ownership.established", 1)
		c.verify(t, d)
	} else {
		c.verify(t, d, "ownership")
	}
	// The test bites: a message with a key too many, one with a key too few, one of another type, an unknown subject.
	for _, m := range []*nats.Msg{
		{Subject: "unitgate.api.a.unit.put", Data: []byte(`{"actor":"me","data":{"id":"a","colour":"red"}}`)},
		{Subject: "unitgate.api.a.unit.put", Data: []byte(`{"actor":"me","data":{"name":"a"}}`)},
		{Subject: "unitgate.api.a.unit.put", Data: []byte(`{"actor":"me","data":{"id":7}}`)},
		{Subject: "unitgate.evt.a.unit.put.x", Data: []byte(`{"id":"a"}`)}, // headers are missing
		{Subject: "unitgate.api.a.unit.explode", Data: []byte(`{}`)},
	} {
		channel, err := d.channelOf(m.Subject)
		if err == nil {
			err = d.check(m, d.messages[channel])
		}
		if err == nil {
			t.Errorf("%s %s is fine by the document", m.Subject, m.Data)
		}
	}
}

// walk is a namespace "async" under plain NATS requests.
type walk struct {
	t    *testing.T
	nc   *nats.Conn
	js   jetstream.JetStream
	seen *capture
	sent map[string]string // data of the last command of each name
}

// ok sends a command that must be accepted, and returns its answer.
func (w *walk) ok(name, data string) json.RawMessage {
	w.t.Helper()
	actor := "walk"
	if name == "edge.join" || name == "edge.leave" { // which the edge itself says
		var edge struct{ ID string }
		if err := json.Unmarshal([]byte(data), &edge); err != nil {
			w.t.Fatal(err)
		}
		actor = events.EdgeActor(edge.ID)
	}
	m := nats.NewMsg("unitgate.api.async." + name)
	m.Data = []byte(`{"actor":"` + actor + `","reason":"to be seen","data":` + data + `}`)
	m.Header.Set("traceparent", command.NewTraceparent())
	reply, err := w.nc.RequestMsg(m, time.Minute)
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	w.seen.replied(name, reply)
	w.sent[name] = data
	var o command.Outcome
	if err := json.Unmarshal(reply.Data, &o); err != nil || !o.OK {
		w.t.Fatalf("%s %s: %s", name, data, reply.Data)
	}
	return o.Data
}

// apply is a config.apply of these parts.
func (w *walk) apply(parts string) {
	w.t.Helper()
	state, err := reader.State(w.t.Context(), w.js, "async", slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	w.ok("config.apply", fmt.Sprintf(`{"base":%d,"config":{"namespace":"async",%s}}`, state.ConfigVersion, parts))
}

func (w *walk) cutover(name, id, more string) {
	w.t.Helper()
	w.ok("cutover."+name, `{"cutover":"`+id+`"`+more+`}`)
}

// checked runs the prechecks until they let the cutover start: edges that have just come need a moment.
func (w *walk) checked(id string) {
	w.t.Helper()
	harness.Eventually(w.t, within, "the prechecks of "+id+" pass", func() bool {
		return !bytes.Contains(w.ok("cutover.check", `{"cutover":"`+id+`"}`), []byte(`"state":"fail"`))
	})
}

// hooks answers the calls of hooks: nothing until it is let go, then with a status.
type hooks struct {
	mu      sync.Mutex
	status  int
	called  chan struct{} // 1 deep
	release chan struct{} // closed: go on
}

func (h *hooks) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	select {
	case h.called <- struct{}{}:
	default:
	}
	select {
	case <-h.release:
	case <-r.Context().Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	rw.WriteHeader(h.status)
}

func (h *hooks) answer(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
}

// walkEverything brings about every command, every event and every outcome, but for exclusive ownership.
func walkEverything(t *testing.T, url string, c *capture) *walk {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &harness.System{API: harness.API{NATS: url, Namespace: "async"}, Domain: "async.example"}
	control := func() {
		s.Control = harness.Start(t, "control", "--nats", url, "-n", "async", "--admin", "127.0.0.1:0", "--hook-secret-file", secret, "--hook-allow", "127.0.0.1",
			"--edge-signatures", "optional") // two edges come that sign nothing, see members
		harness.Eventually(t, within, "a control plane answers", func() bool {
			_, err := nc.Request("unitgate.api.async.cutover.show", []byte(`{"data":{"cutover":"c1"}}`), time.Second)
			return err == nil // the capture hears it, too, so that nobody says that nobody is there
		})
	}
	control()
	w := &walk{t: t, nc: nc, js: js, seen: c, sent: map[string]string{}}
	w.configuration()
	h := &hooks{status: http.StatusOK, called: make(chan struct{}, 1), release: make(chan struct{})}
	receiver := httptest.NewServer(h)
	t.Cleanup(receiver.Close)
	w.apply(fmt.Sprintf(`"policy":{"lease":"15s"},"hooks":[{"name":"ask","url":%q,"on":"pre","timeout":"1m"},{"name":"tell","url":%[1]q,"on":"post"}]`, receiver.URL))

	for _, unit := range []string{"center", "unbj"} {
		s.StartEdge(t, unit+"-1", harness.Unit{ID: unit}, freeAddr(t))
	}
	w.members()
	w.cutovers(c, h)
	w.durable()
	w.refusedAgain(s, control)
	c.await(t, "command.refused", 1)
	return w
}

// configuration uses every command that shapes a namespace.
func (w *walk) configuration() {
	w.t.Helper()
	seen := harness.NewRegister()
	w.ok("namespace.create", `{"policy":{"lease":"20s"},"unitTypes":[{"name":"unit_type","slots":10000}]}`)
	origins := map[string]string{}
	for _, unit := range []string{"center", "unbj", "spare"} {
		w.ok("unit.put", fmt.Sprintf(`{"id":%q,"name":"Unit %[1]s","center":%v}`, unit, unit == "center"))
		w.ok("cluster.put", fmt.Sprintf(`{"id":"ws-%s","unit":%[1]q}`, unit))
		w.ok("loadbalancer.put", fmt.Sprintf(`{"id":"lb-%s","cluster":"ws-%[1]s","address":"203.0.113.1"}`, unit))
		if unit != "spare" {
			origins[unit] = harness.StartOrigin(w.t, unit, seen, 0).Addr
		}
	}
	w.ok("loadbalancer.remove", `{"id":"lb-spare"}`)
	w.ok("cluster.remove", `{"id":"ws-spare"}`)
	w.ok("unit.remove", `{"id":"spare"}`)
	for _, host := range []string{"async.example", "gone.example"} {
		w.ok("domain.put", fmt.Sprintf(`{"host":%q,"units":{"center":{"cluster":"ws-center"},"unbj":{"cluster":"ws-unbj"}},
			"uris":[{"path":"/","origins":{"center":%q,"unbj":%q},"health":{"probe":"tcp"}}]}`, host, origins["center"], origins["unbj"]))
		w.ok("domain.activate", fmt.Sprintf(`{"host":%q}`, host))
	}
	w.ok("domain.deactivate", `{"host":"gone.example"}`)
	w.ok("domain.remove", `{"host":"gone.example"}`)
	w.ok("rules.init", `{"ranges":{"center":["0-5997"],"unbj":["5998-9999"]},"exact":{"unbj":["vip-7"]}}`)
	w.ok("dns.show", `{}`)
}

// members lets two edges come that are none, and go.
func (w *walk) members() {
	w.t.Helper()
	const directory = `"directory":"00000000-0000-4000-8000-00000000000`
	for i, id := range []string{"ghost-1", "ghost-2"} {
		w.ok("edge.join", fmt.Sprintf(`{"id":%q,%s%d","unit":"center","cluster":"ws-center","address":"127.0.0.1:%d","capacity":10}`, id, directory, i, i+1))
	}
	w.ok("edge.leave", `{"id":"ghost-1",`+directory+`0"}`)
	w.ok("edge.retire", `{"id":"ghost-2","reason":"it never was"}`)
}

// cutovers leads four of them to four ends.
func (w *walk) cutovers(c *capture, h *hooks) {
	w.t.Helper()
	const there = `{"ranges":{"center":["0-6380"],"unbj":["6381-9999"]},"exactAdd":{"center":["vip-8"]},"waves":2,"interval":"10ms","rate":"max",` +
		`"gate":{"originErrors":50,"window":"1s","action":"pause"}}`
	w.ok("cutover.preview", there)
	w.checked("c1")
	w.cutover("retry", "c1", `,"check":"subdomains"`)
	w.cutover("skip", "c1", `,"check":"subdomains","reason":"nobody publishes them"`)
	w.cutover("start", "c1", "")
	<-h.called // and waits, so that nothing is fenced
	w.cutover("pause", "c1", "")
	w.cutover("resume", "c1", "")
	close(h.release)
	c.await(w.t, "cutover.completed", 1)
	c.await(w.t, "cutover.reported", 1)
	w.cutover("show", "c1", "")
	w.cutover("rollback", "c1", "")
	w.checked("c2")
	w.cutover("start", "c2", "")
	c.await(w.t, "cutover.completed", 2)

	w.ok("cutover.preview", there)
	w.cutover("abort", "c3", "")
	w.ok("cutover.preview", `{"drain":"unbj","steps":[10,100]}`)
	w.checked("c4")
	h.answer(http.StatusServiceUnavailable)
	w.cutover("start", "c4", "")
	c.await(w.t, "cutover.failed", 1)
}

// durable leaves every command once more, for the control plane to find. Some are accepted again, most are refused.
func (w *walk) durable() {
	w.t.Helper()
	client := command.NewClient(w.nc, "async")
	publish := func(entity, verb, data string) command.Settled {
		ticket, err := client.Publish(w.t.Context(), entity, verb, command.Request{Actor: "walk", Data: json.RawMessage(data)}, time.Minute)
		if err != nil {
			w.t.Fatalf("%s.%s: %v", entity, verb, err)
		}
		o, err := client.Outcome(w.t.Context(), ticket.ID)
		if err != nil {
			w.t.Fatalf("%s.%s: %v", entity, verb, err)
		}
		return o
	}
	accepted := 0
	for _, n := range events.Names() {
		if publish(n.Entity, n.Verb, w.sent[n.Entity+"."+n.Verb]).OK {
			accepted++
		}
	}
	if accepted == 0 || accepted == len(events.Names()) {
		w.t.Errorf("%d of %d durable commands were accepted: both kinds of outcomes are wanted", accepted, len(events.Names()))
	}
}

// refusedAgain leaves a command that is refused, which somebody had in hand before, as a controller that died would have.
func (w *walk) refusedAgain(s *harness.System, control func()) {
	w.t.Helper()
	s.Control.Stop(w.t)
	client := command.NewClient(w.nc, "async")
	ticket, err := client.Publish(w.t.Context(), "unit", "put", command.Request{Actor: "walk", Data: events.Unit{ID: "unbj", Center: true}}, time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := w.js.Stream(w.t.Context(), command.QueueStream)
	if err != nil {
		w.t.Fatal(err)
	}
	for name := range st.ConsumerNames(w.t.Context()).Name() {
		consumer, err := st.Consumer(w.t.Context(), name)
		if err != nil {
			w.t.Fatal(err)
		}
		m, err := consumer.Next(jetstream.FetchMaxWait(within))
		if err != nil {
			w.t.Fatal(err)
		}
		if err := m.Nak(); err != nil {
			w.t.Fatal(err)
		}
	}
	control()
	if o, err := client.Outcome(w.t.Context(), ticket.ID); err != nil || o.OK {
		w.t.Errorf("the second center is accepted: %+v, %v", o, err)
	}
}
