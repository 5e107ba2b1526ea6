package integration_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/integration/harness"
	"github.com/unitgate/unitgate/integration/otlp"
)

// tracedSystem is two units with two edges each, of which every process sends its spans to one collector.
type tracedSystem struct {
	*harness.System
	units []harness.Unit
	edges []*harness.EdgeProcess // two of each unit
}

// startTraced starts the processes. The collector is said by variables, as in production.
func startTraced(t *testing.T, collector string) *tracedSystem {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	seen := harness.NewRegister()
	s := &tracedSystem{}
	for i, id := range []string{"center", "unbj"} {
		s.units = append(s.units, harness.Unit{
			ID: id, Range: []string{"0-5997", "5998-9999"}[i], Location: "127.0.0.1:" + strconv.Itoa(harness.FreePort(t)),
			Origins: []string{harness.StartOrigin(t, id, seen, 0).Addr},
		})
	}
	s.System = harness.StartSystem(t, harness.Config{Namespace: "traced", Domain: "traced.example.com", Units: s.units})
	for _, u := range s.units {
		s.edges = append(s.edges, s.StartEdge(t, u.ID+"-1", u, u.Location, "--drain-time", "0s"))
		s.edges = append(s.edges, s.StartEdge(t, u.ID+"-2", u, "127.0.0.1:"+strconv.Itoa(harness.FreePort(t)), "--drain-time", "0s"))
	}
	return s
}

// connect opens sessions of n users from slot 6000 on at each edge of unbj.
func (s *tracedSystem) connect(t *testing.T, n int) {
	t.Helper()
	for i, e := range s.edges[2:] {
		for k := range n {
			go drain(harness.MustDial(t, harness.Handshake{Addr: e.Addr, Host: s.Domain, RouterID: strconv.Itoa(6000 + i*n + k)}))
		}
	}
}

// stop ends every process, so that what they had to send is sent.
func (s *tracedSystem) stop(t *testing.T) {
	t.Helper()
	for _, e := range s.edges {
		e.Stop(t)
	}
	s.Control.Stop(t)
}

// spansOf are those of one trace.
func spansOf(all []otlp.Span, trace string) (out []otlp.Span) {
	for _, s := range all {
		if s.Trace == trace {
			out = append(out, s)
		}
	}
	return out
}

func named(spans []otlp.Span, name string) (out []otlp.Span) {
	for _, s := range spans {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out
}

// complete reports whether the root of a trace has come, and so much from the edges as its waves lead to.
func complete(spans []otlp.Span, waves int) bool {
	return len(named(spans, "cutover")) > 0 && len(named(spans, "cutover.wave")) >= waves &&
		len(named(spans, "edge.apply")) >= 4*waves && len(named(spans, "edge.evict")) >= 4*waves
}

// awaitTrace waits until a trace is complete.
func awaitTrace(t *testing.T, r *otlp.Receiver, trace string, waves int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	spans, err := r.Await(ctx, func(all []otlp.Span) bool { return complete(spansOf(all, trace), waves) })
	if err != nil {
		t.Fatalf("the trace %s does not become complete: %s", trace, outline(spansOf(spans, trace)))
	}
}

// expected is what a cutover's trace has to hold.
type expected struct {
	parent  string // of the root
	cutover harness.Cutover
	waves   int
	checks  int // spans of prechecks
	evicted int
	edges   []string // ids
}

// checkTrace holds a trace against what it has to be: one root, every other span below it, and nothing twice.
func checkTrace(t *testing.T, spans []otlp.Span, want expected) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the trace:\n%s", outline(spans))
		}
	}()
	byID := map[string]otlp.Span{}
	for _, s := range spans {
		if _, twice := byID[s.ID]; twice {
			t.Errorf("span %s %s came twice", s.Name, s.ID)
		}
		byID[s.ID] = s
	}
	roots := named(spans, "cutover")
	if len(roots) != 1 {
		t.Fatalf("%d roots", len(roots))
	}
	root := roots[0]
	if root.Parent != want.parent || root.Service != "unitgate-control" {
		t.Errorf("the root has parent %q and service %s, want %q", root.Parent, root.Service, want.parent)
	}
	for k, v := range map[string]string{
		"unitgate.namespace": "traced", "unitgate.cutover.id": want.cutover.ID, "unitgate.cutover.state": want.cutover.State,
		"unitgate.rule.from": fmt.Sprint(want.cutover.RuleFrom), "unitgate.rule.to": fmt.Sprint(want.cutover.RuleTo), "unitgate.slots.moved": "383",
	} {
		if root.Attributes[k] != v {
			t.Errorf("the root's %s is %q, want %q", k, root.Attributes[k], v)
		}
	}
	checks := map[string]int{}
	for _, s := range named(spans, "cutover.precheck") {
		checks[s.Attributes["unitgate.check.id"]]++
		if s.Parent != root.ID || s.Attributes["unitgate.check.verdict"] == "" {
			t.Errorf("a precheck has parent %s and says %v", s.Parent, s.Attributes)
		}
	}
	if n := len(named(spans, "cutover.precheck")); n != want.checks || len(checks) != 8 {
		t.Errorf("%d prechecks of %d kinds, want %d of 8: %v", n, len(checks), want.checks, checks)
	}
	waves := named(spans, "cutover.wave")
	if len(waves) != want.waves {
		t.Errorf("%d waves, want %d", len(waves), want.waves)
	}
	evicted := 0
	for _, w := range waves {
		if w.Parent != root.ID || w.Attributes["unitgate.wave.state"] != "committed" || w.End.Before(w.Start) {
			t.Errorf("wave %+v", w)
		}
		for _, name := range []string{"edge.apply", "edge.evict"} {
			var at []string
			for _, s := range named(spans, name) {
				if s.Parent != w.ID {
					continue
				}
				at = append(at, s.Attributes["unitgate.edge.id"])
				if s.Service != "unitgate-edge" || s.Failed || !strings.HasPrefix(s.Attributes["unitgate.edge.id"], s.Attributes["unitgate.unit"]+"-") {
					t.Errorf("%s: %+v", name, s)
				}
				n, err := strconv.Atoi(s.Attributes["unitgate.sessions.evicted"])
				if evicted += n; name == "edge.evict" && err != nil {
					t.Errorf("an eviction does not say of how many: %v", s.Attributes)
				}
			}
			if slices.Sort(at); !slices.Equal(at, want.edges) {
				t.Errorf("wave %s has %s of %v, want one of each of %v", w.Attributes["unitgate.wave"], name, at, want.edges)
			}
		}
	}
	if evicted != want.evicted {
		t.Errorf("%d sessions evicted, want %d", evicted, want.evicted)
	}
	if n := len(named(spans, "edge.apply")) + len(named(spans, "edge.evict")); n != 2*4*want.waves {
		t.Errorf("%d spans of edges, want %d: some are not below a wave", n, 2*4*want.waves)
	}
	for _, s := range spans {
		if _, there := byID[s.Parent]; !there && s.ID != root.ID {
			t.Errorf("%s has parent %q, which is not in the trace", s.Name, s.Parent)
		}
	}
}

// outline is a trace as text, each span below its parent.
func outline(spans []otlp.Span) string {
	var b strings.Builder
	below := map[string][]otlp.Span{}
	ids := map[string]bool{}
	for _, s := range spans {
		ids[s.ID] = true
	}
	for _, s := range spans {
		if !ids[s.Parent] {
			s.Parent = ""
		}
		below[s.Parent] = append(below[s.Parent], s)
	}
	var draw func(parent, indent string)
	draw = func(parent, indent string) {
		list := below[parent]
		slices.SortFunc(list, func(a, b otlp.Span) int { return a.Start.Compare(b.Start) })
		for _, s := range list {
			fmt.Fprintf(&b, "%s%s %s %s", indent, s.Name, s.End.Sub(s.Start), s.Service)
			for _, k := range slices.Sorted(maps.Keys(s.Attributes)) {
				if strings.HasPrefix(k, "unitgate.") {
					fmt.Fprintf(&b, " %s=%s", strings.TrimPrefix(k, "unitgate."), s.Attributes[k])
				}
			}
			b.WriteByte('\n')
			draw(s.ID, indent+"  ")
		}
	}
	draw("", "")
	return b.String()
}

// silentPort is a port where connections are accepted and nothing is ever said.
func silentPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the kernel goes on accepting into its queue
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
