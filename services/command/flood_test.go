package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/command"
)

// flood is a service of two namespaces, shop and other, in which commands for the unit "slow", and questions, stay in work until release
// is closed.
type flood struct {
	t       *testing.T
	nc      *nats.Conn
	m       *memoryNamespaces
	reader  *metric.ManualReader
	release chan struct{}
	working atomic.Int64
	most    atomic.Int64
}

// Prepare holds up commands with the reason "slow".
func (f *flood) Prepare(ctx context.Context, _ *events.State, env events.Envelope) (events.Envelope, error) {
	if env.Reason == "slow" {
		f.hold(ctx)
	}
	return env, nil
}

func (f *flood) hold(ctx context.Context) {
	n := f.working.Add(1)
	defer f.working.Add(-1)
	for {
		most := f.most.Load()
		if n <= most || f.most.CompareAndSwap(most, n) {
			break
		}
	}
	select {
	case <-f.release:
	case <-ctx.Done():
	}
}

func startFlood(t *testing.T) *flood {
	t.Helper()
	f := &flood{t: t, nc: connect(t), reader: metric.NewManualReader(), release: make(chan struct{})}
	f.m = &memoryNamespaces{t: t, js: map[string]*journal.Memory{}, hs: map[string]*command.Handler{}, prepare: f}
	f.m.echo = func(ctx context.Context, data json.RawMessage) (any, error) { f.hold(ctx); return data, nil }
	meters, err := command.NewMeters(metric.NewMeterProvider(metric.WithReader(f.reader)).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := command.Serve(command.Config{NC: f.nc, Namespaces: f.m, Asked: []string{"test.echo", "test.other"}, Meters: meters, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-f.release:
		default:
			close(f.release)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, ns := range []string{"shop", "other"} {
		f.ok(ns+".namespace.create", `{"actor":"me","data":{"unitTypes":[{"name":"unit_type","slots":100}]}}`)
		f.ok(ns+".unit.put", `{"actor":"me","data":{"id":"center"}}`)
		f.ok(ns+".cluster.put", `{"actor":"me","data":{"id":"hz","unit":"center"}}`)
	}
	return f
}

// ok asks for what is answered at once.
func (f *flood) ok(subject, body string) {
	f.t.Helper()
	if o, _ := ask(f.t, f.nc, "unitgate.api."+subject, body); !o.OK {
		f.t.Errorf("%s: %v", subject, o.Error)
	}
}

// sends sends messages and returns their answers.
func (f *flood) sends(n int, subject string, body func(i int) string) *nats.Subscription {
	f.t.Helper()
	sub, err := f.nc.SubscribeSync(f.nc.NewInbox())
	if err != nil {
		f.t.Fatal(err)
	}
	for i := range n {
		if err := f.nc.PublishRequest("unitgate.api."+subject, sub.Subject, []byte(body(i))); err != nil {
			f.t.Fatal(err)
		}
	}
	return sub
}

// answers counts n answers by their code, "" if it is ok.
func (f *flood) answers(sub *nats.Subscription, n int) map[string]int {
	f.t.Helper()
	codes := map[string]int{}
	for range n {
		m, err := sub.NextMsg(20 * time.Second)
		if err != nil {
			f.t.Fatalf("%v after %v", err, codes)
		}
		var o command.Outcome
		if err := json.Unmarshal(m.Data, &o); err != nil {
			f.t.Fatal(err)
		}
		if o.OK {
			codes[""]++
		} else {
			codes[o.Error.Code]++
		}
	}
	return codes
}

// refused is what the counter says.
func (f *flood) refused(kind, reason string) (n int64) {
	f.t.Helper()
	var got metricdata.ResourceMetrics
	if err := f.reader.Collect(f.t.Context(), &got); err != nil {
		f.t.Fatal(err)
	}
	for _, m := range got.ScopeMetrics[0].Metrics {
		if m.Name != "unitgate.requests.refused" {
			continue
		}
		for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
			k, _ := p.Attributes.Value(attribute.Key("kind"))
			r, _ := p.Attributes.Value(attribute.Key("reason"))
			if k.AsString() == kind && r.AsString() == reason {
				n += p.Value
			}
		}
	}
	return n
}

// others are served while one kind of calls in shop fills its slots and its queue.
func (f *flood) others(but string) {
	f.t.Helper()
	id := map[string]string{"shop": "a", "other": "b"}
	for _, ns := range []string{"other", "shop"} {
		for kind, call := range map[string][2]string{
			"command":  {"unit.put", `{"actor":"me","data":{"id":"` + id[ns] + `"}}`},
			"bulk":     {"config.apply", `{"actor":"me","data":{"packed":""}}`}, // is read, and found to be nothing
			"edge":     {"edge.join", `{"actor":"edge/e1","data":{"id":"e1","directory":"00000000-0000-4000-8000-000000000000","unit":"center","cluster":"hz","address":"10.0.0.1:80"}}`},
			"question": {"test.other", `{}`},
		} {
			if ns == "shop" && kind == but {
				continue
			}
			o, _ := ask(f.t, f.nc, "unitgate.api."+ns+"."+call[0], call[1])
			if !o.OK && (kind != "bulk" || o.Error.Code != "bad_value") {
				f.t.Errorf("%s of %s: %v", call[0], ns, o.Error)
			}
		}
	}
}

// A flood of one kind of calls in one namespace fills its own queue, the rest of it is told at once to come again, and
// nobody else waits: no other kind there, and no other namespace.
func TestFloodsStayInTheirLane(t *testing.T) {
	for kind, c := range map[string]struct {
		subject     string
		body        func(i int) string
		slots, room int
	}{
		"command":  {"unit.put", func(i int) string { return fmt.Sprintf(`{"actor":"me","reason":"slow","data":{"id":"u%d"}}`, i%100) }, 16, 16 + 256},
		"question": {"test.echo", func(int) string { return `{}` }, 4, 4 + 64},
		"edge": {"edge.leave", func(i int) string {
			return fmt.Sprintf(`{"actor":"edge/e%d","reason":"slow","data":{"id":"e%d","directory":"00000000-0000-4000-8000-000000000000"}}`, i, i)
		}, 8, 8 + 1024},
		"bulk": {"config.apply", func(int) string {
			return `{"actor":"me","reason":"slow","data":` + string(events.Pack([]byte(`{"base":0,"config":{"namespace":"shop"}}`+strings.Repeat(" ", 200_000)))) + `}`
		}, 1, 1 + 8},
	} {
		t.Run(kind, func(t *testing.T) {
			f := startFlood(t)
			const more = 50
			sub := f.sends(c.room+more, "shop."+c.subject, c.body)
			if got := f.answers(sub, more); got["busy"] != more {
				t.Errorf("what finds no room is answered with %v", got)
			}
			if kind == "question" { // each one has a lane
				f.ok("shop.test.other", `{}`)
			}
			f.others(kind)
			if n := f.refused(kind, "busy"); n != more {
				t.Errorf("%d are counted as refused", n)
			}
			close(f.release)
			got := f.answers(sub, c.room) // none of those that had room is lost
			if got["busy"] > 0 {
				t.Errorf("of those that had room: %v", got)
			}
			if most := f.most.Load(); most != int64(c.slots) {
				t.Errorf("%d were in work at a time, want %d", most, c.slots)
			}
		})
	}
}

// Whatever is larger than such a thing may be is refused unread, with its size, and counted. Most of S4's messages are.
func TestRefusedBySize(t *testing.T) {
	f := startFlood(t)
	close(f.release)
	for _, c := range []struct {
		name, kind string
		most       int
	}{
		{"edge.join", "edge", 4 << 10}, {"edge.leave", "edge", 4 << 10}, {"test.other", "question", 4 << 10}, {"unit.put", "command", 8 << 10},
		{"cutover.pause", "command", 8 << 10}, {"cluster.put", "command", 128 << 10}, {"domain.put", "command", 512 << 10}, {"unit.explode", "command", 4 << 10},
		{"wave.fence", "command", 4 << 10},
	} {
		for _, junk := range []string{strings.Repeat("{", c.most+1), `{"data":{"packed":"` + strings.Repeat("A", c.most) + `"}}`} {
			before := f.refused(c.kind, "size")
			o, header := ask(t, f.nc, "unitgate.api.shop."+c.name, junk)
			want := fmt.Sprintf("%s has %d bytes, a message of it at most %d", c.name, len(junk), c.most)
			if o.OK || o.Error.Code != "too_large" || !strings.Contains(o.Error.Message, want) || header.Get("Nats-Service-Error-Code") != "too_large" {
				t.Errorf("%+v, want too_large: %s", o.Error, want)
			}
			if after := f.refused(c.kind, "size"); after != before+1 {
				t.Errorf("%s: counted %d times", c.name, after-before)
			}
		}
		if o, _ := ask(t, f.nc, "unitgate.api.shop."+c.name, strings.Repeat("{", c.most)); o.OK || o.Error.Code != "bad_command" {
			t.Errorf("%s of %d bytes is not read: %+v", c.name, c.most, o.Error)
		}
	}
	o, _ := ask(t, f.nc, "unitgate.api.shop.edge.join", `{"actor":"edge/e1","data":{"packed":""}}`)
	if o.OK || o.Error.Code != "bad_value" || o.Error.Field != "packed" || !strings.Contains(o.Error.Message, "edge.join does not come packed") {
		t.Errorf("packed: %+v", o.Error)
	}
}

// Names of namespaces that do not exist, of which there is no end, share a few slots: they open no thousand journals at a
// time, and those that exist are served.
func TestFloodOfNamespaces(t *testing.T) {
	f := startFlood(t)
	unknown := &unknownNamespaces{memoryNamespaces: f.m, flood: f}
	nc := connect(t)
	s, err := command.Serve(command.Config{NC: nc, Namespaces: unknown, Asked: []string{"test.echo"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	f.nc = nc
	const n = 600
	subs := []*nats.Subscription{}
	for i := range n {
		subs = append(subs, f.sends(1, fmt.Sprintf("ns-%d.unit.put", i), func(int) string { return `{"actor":"me","data":{"id":"u"}}` }))
	}
	f.ok("shop.unit.put", `{"actor":"me","data":{"id":"x"}}`)
	if most := f.most.Load(); most > 16 {
		t.Errorf("%d journals were looked for at a time", most)
	}
	close(f.release)
	codes := map[string]int{}
	for _, sub := range subs {
		for code, n := range f.answers(sub, 1) {
			codes[code] += n
		}
	}
	if codes["unknown_namespace"] < 16+256 || codes["unknown_namespace"]+codes["busy"] != n {
		t.Errorf("answered with %v", codes)
	}
}

// unknownNamespaces takes long to find that there is no such namespace.
type unknownNamespaces struct {
	*memoryNamespaces
	flood *flood
}

func (u *unknownNamespaces) Get(ctx context.Context, name string) (command.Namespace, error) {
	if !u.Known(name) {
		u.flood.hold(ctx)
	}
	return u.memoryNamespaces.Get(ctx, name)
}

// A message may carry a megabyte of headers. None but the trace context is kept, and nothing of it reaches the journal.
func TestHugeHeaders(t *testing.T) {
	f := startFlood(t)
	for name, h := range map[string]nats.Header{
		"traceparent": {"traceparent": {strings.Repeat("0", 500_000)}},
		"many":        manyHeaders(60_000),
		"forged":      {"Nats-Expected-Last-Sequence": {"1"}, "Nats-Rollup": {"all"}, "Unitgate-Actor": {"driver"}},
	} {
		m := &nats.Msg{Subject: "unitgate.api.shop.unit.put", Header: h, Data: []byte(`{"actor":"me","data":{"id":"` + name + `"}}`)}
		reply, err := f.nc.RequestMsg(m, 20*time.Second)
		if err != nil || !strings.HasPrefix(string(reply.Data), `{"ok":true`) {
			t.Fatalf("%s: %v %s", name, err, reply.Data)
		}
		seq := head(t, f.m.journal("shop"))
		err = f.m.journal("shop").Read(t.Context(), seq, func(rec events.Record) error {
			if rec.Actor != "me" || len(rec.Traceparent) != 55 {
				t.Errorf("%s: the record is by %q, its trace %q", name, rec.Actor, rec.Traceparent)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func manyHeaders(n int) nats.Header {
	h := nats.Header{}
	for i := range n {
		h[fmt.Sprintf("%05x", i)] = []string{""}
	}
	return h
}
