//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/unitgate/unitgate/integration/bench/crew"
	"github.com/unitgate/unitgate/integration/bench/load"
	"github.com/unitgate/unitgate/integration/bench/origin"
)

// metric is one figure that a phase yields.
type metric struct {
	key, title, unit string
	more             bool // more is better
}

// phase is one thing that is measured.
type phase struct {
	name    string
	metrics []metric
	without []string // targets that have no part in it
	// proxies is the number of proxies, load generators and origins; nil: one.
	proxies func(*options) int
	once    bool // in the first round only
	// run measures. A metric that it leaves out has no value on this target.
	run func(ctx context.Context, m *measurement) (values, error)
	// alone is run for a phase that sets up its own proxies.
	alone func(ctx context.Context, b *bench, m *measurement) (values, error)
}

// values are figures by the metrics' keys.
type values map[string]float64

func phases() []phase {
	echo := func(name string, rate int) phase {
		return phase{name: name, run: echoAt(rate), metrics: []metric{
			{"p50", "latency p50", "µs", false}, {"p99", "latency p99", "µs", false}, {"p999", "latency p99.9", "µs", false},
			{"cpu", "CPU per message", "µs", false}, {"late", "sent late by the generator, p99", "µs", false},
		}}
	}
	idling := func(name string, sessions func(*options) int) phase {
		return phase{name: name, without: []string{targetDirect}, run: func(ctx context.Context, m *measurement) (values, error) { return idle(ctx, m, sessions(m.options)) },
			proxies: func(o *options) int { return (sessions(o) + o.perProxy() - 1) / o.perProxy() },
			metrics: []metric{{"user", "user memory per session", "B", false}, {"kernel", "kernel memory per session, all four sockets", "B", false}}}
	}
	crowd := idling(phaseCrowd, func(o *options) int { return o.crowd })
	crowd.once = true
	return []phase{
		idling("idle", func(o *options) int { return o.idle }),
		{name: "handshake", run: handshakes, metrics: []metric{
			{"rate", "opened and ended", "1/s", true}, {"cpu", "CPU each", "µs", false}, {"p50", "connect to 101, p50", "µs", false}, {"p99", "connect to 101, p99", "µs", false}}},
		crowd,
		echo("echo5k", 5000),
		echo("echo20k", 20_000),
		{name: "closed", run: closedLoop, metrics: []metric{{"rate", "messages", "1/s", true}, {"cpu", "CPU per message", "µs", false}}},
		{name: "bulk", run: bulk, metrics: []metric{{"rate", "origin to client", "MB/s", true}, {"cpu", "CPU per GB", "s", false}}},
		{name: "slow", without: []string{targetDirect}, run: slowReaders, metrics: []metric{
			{"user", "user memory per slow reader", "B", false}, {"rate", "then read by all at once", "MB/s", true}}},
		{name: "tlsidle", without: []string{targetDirect}, run: idleTLS, metrics: []metric{{"user", "user memory per TLS session", "B", false}}},
		{name: "tlshandshake", without: []string{targetDirect}, run: handshakesTLS, metrics: []metric{
			{"rate", "opened and ended over TLS", "1/s", true}, {"cpu", "CPU each", "µs", false}, {"p50", "connect to 101, p50", "µs", false}, {"p99", "connect to 101, p99", "µs", false}}},
		{name: "tlsbulk", without: []string{targetDirect}, run: bulkTLS, metrics: []metric{{"rate", "origin to client over TLS", "MB/s", true}, {"cpu", "CPU per GB", "s", false}}},
		{name: "evict", without: []string{targetNginx, targetHAProxy, targetDirect}, alone: evictNinth, metrics: evictMetrics},
		{name: "evict2", without: []string{targetNginx, targetHAProxy, targetDirect}, alone: evictFromTwo, metrics: evictMetrics},
	}
}

func phaseNames() []string {
	var out []string
	for _, p := range phases() {
		out = append(out, p.name)
	}
	return out
}

// measurement is one phase on one target, in one round.
type measurement struct {
	*options
	site    *site
	loads   []*crew.Member
	origins []*crew.Member
	name    string // of the phase and the round, for files
}

// warmUp is how long a proxy works before it is measured.
func (o *options) warmUp() time.Duration { return min(500*time.Millisecond, o.duration/4) }

// to is where load generator i finds its proxy.
func (m *measurement) to(i int, path string) load.Target {
	addrs := m.site.addrs
	if len(m.site.processes) > 0 { // load generator i has proxy i for itself; without proxies, all addresses of the origin
		addrs = addrs[i%len(addrs):][:1]
	}
	return load.Target{Addrs: addrs, Sources: sources(), Path: path, IDs: ownIDs, Inflight: 256}
}

// sources are the addresses that clients connect from: one address has 28,000 ports, and those of sessions that have
// ended rest for a second.
func sources() []string { return []string{"127.0.1.1:0", "127.0.1.2:0", "127.0.1.3:0", "127.0.1.4:0"} }

// open opens n sessions, spread over the load generators.
func (m *measurement) open(ctx context.Context, n int, t func(i int) load.Target) error {
	errs := make([]error, len(m.loads))
	var all sync.WaitGroup
	for i, l := range m.loads {
		part := n / len(m.loads)
		if i < n%len(m.loads) {
			part++
		}
		all.Go(func() {
			var opened load.Opened
			errs[i] = l.Call(ctx, "open", load.OpenArgs{Target: t(i), N: part, Within: 2 * time.Minute}, &opened)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// cpu is the processor time that the proxies use while do runs.
func (m *measurement) cpu(ctx context.Context, do func() error) (time.Duration, error) {
	before, err := cpuOf(m.site.pids()...)
	if err != nil {
		return 0, err
	}
	profiled := m.profile(ctx)
	if err := do(); err != nil {
		return 0, errors.Join(err, profiled())
	}
	after, err := cpuOf(m.site.pids()...)
	return after - before, errors.Join(err, profiled())
}

// each adds the processor time per something, if there is a proxy that has used any.
func (m *measurement) each(v values, cpu time.Duration, n float64, unit time.Duration) values {
	if len(m.site.processes) > 0 {
		v["cpu"] = float64(cpu) / n / float64(unit)
	}
	return v
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// asleep is the user memory of proxies that have started and come to rest: some make their tables after they listen.
func (m *measurement) asleep(ctx context.Context) (int64, error) {
	for last, same := int64(-1), 0; ; {
		now, err := anonOf(m.site.pids()...)
		if err != nil {
			return 0, err
		}
		if same++; now != last {
			last, same = now, 0
		}
		if same == 5 {
			return now, nil
		}
		if err := rest(ctx, 50*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// idle opens sessions and leaves them alone.
func idle(ctx context.Context, m *measurement, sessions int) (values, error) {
	user, err := m.asleep(ctx)
	if err != nil {
		return nil, err
	}
	kernel, err := kernelOf()
	if err != nil {
		return nil, err
	}
	if err := m.open(ctx, sessions, func(i int) load.Target { return m.to(i, "/") }); err != nil {
		return nil, err
	}
	if err := rest(ctx, m.settle); err != nil {
		return nil, err
	}
	userThen, err := anonOf(m.site.pids()...)
	if err != nil {
		return nil, err
	}
	kernelThen, err := kernelOf()
	if err != nil {
		return nil, err
	}
	n := float64(sessions)
	v := values{"user": float64(userThen-user) / n, "kernel": float64(kernelThen-kernel) / n}
	var alive load.Echoed // they are no corpses
	return v, m.loads[0].Call(ctx, "echo", load.EchoArgs{Rate: 2000, Duration: m.warmUp()}, &alive)
}

// handshakes opens and ends sessions one after the other, 64 at a time.
func handshakes(ctx context.Context, m *measurement) (values, error) {
	to := m.to(0, "/")
	to.Inflight = 64
	var done load.Handshaken
	if err := m.loads[0].Call(ctx, "handshakes", load.HandshakeArgs{Target: to, Duration: m.warmUp()}, &done); err != nil {
		return nil, err
	}
	cpu, err := m.cpu(ctx, func() error {
		return m.loads[0].Call(ctx, "handshakes", load.HandshakeArgs{Target: to, Duration: m.duration}, &done)
	})
	if err != nil {
		return nil, err
	}
	n := float64(done.Done)
	v := values{"rate": n / done.Elapsed.Seconds(), "p50": micros(done.Open.P50), "p99": micros(done.Open.P99)}
	return m.each(v, cpu, n, time.Microsecond), nil
}

// talk opens sessions, and has messages sent on them: first a while to warm up.
func (m *measurement) talk(ctx context.Context, op string, args func(time.Duration) any) (load.Echoed, time.Duration, error) {
	var out load.Echoed
	if err := m.open(ctx, m.talking, func(i int) load.Target { return m.to(i, "/") }); err != nil {
		return out, 0, err
	}
	if err := m.loads[0].Call(ctx, op, args(m.warmUp()), &out); err != nil {
		return out, 0, err
	}
	cpu, err := m.cpu(ctx, func() error { return m.loads[0].Call(ctx, op, args(m.duration), &out) })
	return out, cpu, err
}

// echoAt sends messages at a rate, whether or not the ones before have come back.
func echoAt(rate int) func(context.Context, *measurement) (values, error) {
	return func(ctx context.Context, m *measurement) (values, error) {
		e, cpu, err := m.talk(ctx, "echo", func(d time.Duration) any { return load.EchoArgs{Rate: rate, Duration: d} })
		if err != nil {
			return nil, err
		}
		v := values{"p50": micros(e.Latency.P50), "p99": micros(e.Latency.P99), "p999": micros(e.Latency.P999), "late": micros(e.Late.P99)}
		return m.each(v, cpu, float64(e.Messages), time.Microsecond), nil
	}
}

// closedLoop sends the next message of a session when the one before has come back.
func closedLoop(ctx context.Context, m *measurement) (values, error) {
	e, cpu, err := m.talk(ctx, "closed", func(d time.Duration) any { return load.ClosedArgs{Duration: d} })
	if err != nil {
		return nil, err
	}
	return m.each(values{"rate": float64(e.Messages) / e.Elapsed.Seconds()}, cpu, float64(e.Messages), time.Microsecond), nil
}

const bulkSessions = 16

// bulk has the origin send as fast as it can on a few sessions.
func bulk(ctx context.Context, m *measurement) (values, error) {
	if err := m.open(ctx, bulkSessions, func(i int) load.Target { return m.to(i, origin.StreamPath) }); err != nil {
		return nil, err
	}
	var none load.None
	if err := m.loads[0].Call(ctx, "ask", load.AskArgs{}, &none); err != nil {
		return nil, err
	}
	var got load.Received
	if err := m.loads[0].Call(ctx, "receive", load.ReceiveArgs{Duration: m.warmUp()}, &got); err != nil {
		return nil, err
	}
	cpu, err := m.cpu(ctx, func() error {
		return m.loads[0].Call(ctx, "receive", load.ReceiveArgs{Duration: m.duration}, &got)
	})
	if err != nil {
		return nil, err
	}
	v := values{"rate": float64(got.Bytes) / 1e6 / got.Elapsed.Seconds()}
	return m.each(v, cpu, float64(got.Bytes)/1e9, time.Second), nil
}

// slowReceive bounds what the kernel keeps on a slow reader's own side.
const slowReceive = 64 << 10

// slowReaders open streams and read nothing, until no byte moves; then they read all of it.
func slowReaders(ctx context.Context, m *measurement) (values, error) {
	user, err := m.asleep(ctx)
	if err != nil {
		return nil, err
	}
	err = m.open(ctx, m.slow, func(i int) load.Target {
		t := m.to(i, origin.StreamPath)
		t.RcvBuf = slowReceive
		return t
	})
	if err != nil {
		return nil, err
	}
	frames := m.slowMB << 20 / (origin.FrameBytes - origin.FrameHead)
	var none load.None
	if err := m.loads[0].Call(ctx, "ask", load.AskArgs{Frames: frames}, &none); err != nil {
		return nil, err
	}
	if err := m.standstill(ctx); err != nil {
		return nil, err
	}
	userThen, err := anonOf(m.site.pids()...)
	if err != nil {
		return nil, err
	}
	var got load.Received
	err = m.loads[0].Call(ctx, "drain", load.DrainArgs{Bytes: int64(frames) * origin.FrameBytes, Within: time.Minute}, &got)
	return values{"user": float64(userThen-user) / float64(m.slow), "rate": float64(got.Bytes) / 1e6 / got.Elapsed.Seconds()}, err
}

// standstill waits until the origin has sent nothing for a second.
func (m *measurement) standstill(ctx context.Context) error {
	last, since := int64(-1), time.Now()
	for time.Since(since) < time.Second {
		var s origin.Stats
		if err := m.origins[0].Call(ctx, "stats", load.None{}, &s); err != nil {
			return err
		}
		if s.Sent != last {
			last, since = s.Sent, time.Now()
		}
		if err := rest(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// has says whether a target takes part in the phase.
func (p *phase) has(target string) bool {
	return !slices.Contains(p.without, target) && (target != targetObserved || p.alone == nil)
}

// title names a metric in messages.
func (p *phase) title(m metric) string { return fmt.Sprintf("%s: %s", p.name, m.title) }
