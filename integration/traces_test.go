package integration_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/integration/harness"
	"github.com/unitgate/unitgate/integration/otlp"
)

func collector(t *testing.T) *otlp.Receiver {
	t.Helper()
	r, err := otlp.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

var fourEdges = []string{"center-1", "center-2", "unbj-1", "unbj-2"}

// TestTraceOfACutover: two waves over two units and four edge processes are one trace.
func TestTraceOfACutover(t *testing.T) {
	r := collector(t)
	s := startTraced(t, r.HTTP())
	s.connect(t, 3)
	id := s.Cutover(t, append([]string{"preview", "--waves", "2", "--rate", "max"}, toCenter...)...).ID
	s.Cutover(t, "check", id)
	c := s.Cutover(t, "start", id, "--wait")
	awaitTrace(t, r, c.TraceID, 2)
	s.stop(t)
	spans := spansOf(r.Spans(), c.TraceID)
	checkTrace(t, spans, expected{cutover: c, waves: 2, checks: 8, evicted: 6, edges: fourEdges})
	for _, name := range []string{
		"process unitgate.api.{namespace}.cutover.preview", "process unitgate.api.{namespace}.cutover.check", "process unitgate.api.{namespace}.cutover.start",
		"cutover.complete", "send unitgate.evt.{namespace}.cutover.proposed", "send unitgate.evt.{namespace}.cutover.completed",
	} {
		if n := len(named(spans, name)); n != 1 {
			t.Errorf("%d spans %s, want one", n, name)
		}
	}
	root := named(spans, "cutover")[0]
	if d := root.End.Sub(root.Start); d <= 0 || d > within {
		t.Errorf("the root lasts %s", d)
	}
	for _, w := range named(spans, "cutover.wave") {
		if w.Start.Before(root.Start) || w.End.After(root.End) {
			t.Errorf("a wave from %s to %s is not within the root, %s to %s", w.Start, w.End, root.Start, root.End)
		}
	}
}

// TestTraceOutlivesItsController: the cutover is proposed with a traceparent, by a plain request; its controller is killed
// between two waves, and so is an edge. Another controller ends the cutover, and emits the root. What a process finds
// when it starts is linked to, not continued.
func TestTraceOutlivesItsController(t *testing.T) {
	harness.Long(t, "an office is taken over after seconds")
	const caller, trace = "b7ad6b7169203331", "0af7651916cd43dd8448eb211c80319c"
	r := collector(t)
	s := startTraced(t, r.HTTP())
	s.connect(t, 3)
	q := nats.NewMsg("unitgate.api.traced.cutover.preview")
	q.Data = []byte(`{"actor":"me","data":{"unitType":"unit_type","ranges":{"center":["0-6380"],"unbj":["6381-9999"]},"waves":2,"rate":"max","interval":"8s"}}`)
	q.Header.Set("traceparent", "00-"+trace+"-"+caller+"-01")
	nc := harness.Connect(t, s.NATS)
	m, err := nc.RequestMsg(q, within)
	if err != nil {
		t.Fatal(err)
	}
	var o struct {
		OK   bool
		Data struct{ ID string }
	}
	if err := json.Unmarshal(m.Data, &o); err != nil || !o.OK {
		t.Fatalf("%s, %v", m.Data, err)
	}
	id := o.Data.ID
	s.Cutover(t, "start", id)
	s.AwaitCutover(t, id, within, "its first wave committed", func(c harness.Cutover) bool { return c.Waves[0].State == "committed" })
	harness.Eventually(t, within, "the first wave's spans", func() bool { // who is killed takes what it has not sent yet
		spans := spansOf(r.Spans(), trace)
		return len(named(spans, "cutover.wave")) == 1 && len(named(spans, "edge.evict")) == 4 && len(named(spans, "edge.apply")) == 4
	})
	harness.Eventually(t, within, "the mark that it was emitted", func() bool { // else the successor emits it again
		m, err := nc.Request("$JS.API.DIRECT.GET.KV_UNITGATE_OFFICE.$KV.UNITGATE_OFFICE.traced.traced", nil, within)
		return err == nil && strings.Contains(string(m.Data), `"`+id+`":`) && !strings.Contains(string(m.Data), `"`+id+`":0`)
	})
	s.Control.Kill()
	s.edges[3].Kill()
	s.edges[3].Restart(t)
	s.StartControl(t)
	harness.Eventually(t, within, "another controller answers", func() bool { return s.Run(t, "cutover", "show", id).Code == 0 })
	c := s.AwaitCutover(t, id, time.Minute, "completed", func(c harness.Cutover) bool { return c.State == "completed" })
	if c.TraceID != trace {
		t.Errorf("trace %s, want the caller's", c.TraceID)
	}
	awaitTrace(t, r, trace, 2)
	s.stop(t)
	spans := spansOf(r.Spans(), trace)
	checkTrace(t, spans, expected{parent: caller, cutover: c, waves: 2, checks: 8, evicted: 6, edges: fourEdges})

	root := named(spans, "cutover")
	for _, name := range []string{"control.catchup", "edge.catchup"} {
		linked := 0
		for _, start := range named(r.Spans(), name) {
			if start.Trace == trace || start.Parent != "" {
				t.Errorf("%s is part of the cutover's trace: %+v", name, start)
			}
			for _, l := range start.Links {
				if l.Trace == trace && len(root) == 1 && l.ID == root[0].ID {
					linked++
				}
			}
		}
		if linked != 1 {
			t.Errorf("%d spans %s link to the cutover that they found, want that of the restarted process", linked, name)
		}
	}
}

// TestNoCollector: where it should be nothing answers, and neither sessions nor cutovers nor an end are the worse for it.
func TestNoCollector(t *testing.T) {
	dev := harness.StartDev(t, "--otlp", "http://127.0.0.1:"+silentPort(t))
	client := harness.MustDial(t, harness.Handshake{Addr: dev.Edges(t, "unbj")[0], RouterID: "8330"})
	defer client.Drop()
	c := dev.Cutover(t, append([]string{"preview", "--rate", "max"}, toCenter...)...)
	if c = dev.Cutover(t, "start", c.ID, "--wait"); c.State != "completed" {
		t.Errorf("the cutover is %s", c.State)
	}
	if err := client.Send("still there"); err != nil {
		t.Error(err)
	}
	harness.Eventually(t, within, "the echo", func() bool {
		text, err := client.Read(within)
		if err != nil {
			t.Fatal(err)
		}
		return string(text) == "still there:unbj"
	})
	began := time.Now()
	dev.Stop(t)
	t.Logf("ended within %s", time.Since(began).Round(time.Millisecond))
}
