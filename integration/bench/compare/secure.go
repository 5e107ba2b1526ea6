//go:build linux

package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/unitgate/unitgate/integration/bench/load"
	"github.com/unitgate/unitgate/integration/bench/origin"
)

// toTLS is where load generator i finds its proxy when it speaks TLS.
func (m *measurement) toTLS(i int, path string) load.Target {
	t := m.to(i, path)
	addrs := m.site.secure
	if path == origin.StreamPath {
		addrs = m.site.secureStreams
	}
	t.Addrs = addrs[i%len(addrs):][:1]
	t.Inflight = 16
	return t
}

// openTLS opens n sessions over TLS, spread over the load generators.
func (m *measurement) openTLS(ctx context.Context, n int, path string) error {
	errs := make([]error, len(m.loads))
	var all sync.WaitGroup
	for i, l := range m.loads {
		part := n / len(m.loads)
		if i < n%len(m.loads) {
			part++
		}
		all.Go(func() {
			var opened load.Opened
			errs[i] = l.Call(ctx, "tls open", load.OpenArgs{Target: m.toTLS(i, path), N: part, Within: 2 * time.Minute}, &opened)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// idleTLS is idle over TLS.
func idleTLS(ctx context.Context, m *measurement) (values, error) {
	user, err := m.asleep(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.openTLS(ctx, m.idleTLS, "/"); err != nil {
		return nil, err
	}
	if err := rest(ctx, m.settle); err != nil {
		return nil, err
	}
	then, err := anonOf(m.site.pids()...)
	if err != nil {
		return nil, err
	}
	var none load.None
	return values{"user": float64(then-user) / float64(m.idleTLS)}, m.loads[0].Call(ctx, "tls alive", none, &none)
}

// handshakesTLS is handshakes over TLS, each a full one.
func handshakesTLS(ctx context.Context, m *measurement) (values, error) {
	var done load.Handshaken
	run := func(d time.Duration) error {
		return m.loads[0].Call(ctx, "tls handshakes", load.HandshakeArgs{Target: m.toTLS(0, "/"), Duration: d}, &done)
	}
	if err := run(m.warmUp()); err != nil {
		return nil, err
	}
	cpu, err := m.cpu(ctx, func() error { return run(m.duration) })
	if err != nil {
		return nil, err
	}
	n := float64(done.Done)
	v := values{"rate": n / done.Elapsed.Seconds(), "p50": micros(done.Open.P50), "p99": micros(done.Open.P99)}
	return m.each(v, cpu, n, time.Microsecond), nil
}

// bulkTLS is bulk over TLS.
func bulkTLS(ctx context.Context, m *measurement) (values, error) {
	if err := m.openTLS(ctx, bulkSessions, origin.StreamPath); err != nil {
		return nil, err
	}
	var none load.None
	if err := m.loads[0].Call(ctx, "tls ask", none, &none); err != nil {
		return nil, err
	}
	var got load.Received
	run := func(d time.Duration) error {
		return m.loads[0].Call(ctx, "tls receive", load.ReceiveArgs{Duration: d}, &got)
	}
	if err := run(m.warmUp()); err != nil {
		return nil, err
	}
	cpu, err := m.cpu(ctx, func() error { return run(m.duration) })
	if err != nil {
		return nil, err
	}
	v := values{"rate": float64(got.Bytes) / 1e6 / got.Elapsed.Seconds()}
	return m.each(v, cpu, float64(got.Bytes)/1e9, time.Second), nil
}
