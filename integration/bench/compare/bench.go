//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/unitgate/unitgate/integration/bench/crew"
	"github.com/unitgate/unitgate/integration/bench/load"
	"github.com/unitgate/unitgate/integration/bench/origin"
)

// bench is one comparison under way.
type bench struct {
	opts    *options
	log     io.Writer
	system  *system // nil without unitgate
	targets map[string]target
	order   []string // names of targets
	loads   []*crew.Member
	origins []*crew.Member
	addrs   []string // of the origins
	report  *report
	cert    certificate
	ends    []func() // what has to be stopped, in reverse order
}

// compare runs everything. The report holds what was measured when something failed on the way, too; the error says so.
func compare(ctx context.Context, o *options, log io.Writer) (*report, error) {
	dir, err := os.MkdirTemp("", "unitgate-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // workers that have given up root go through it
		return nil, err
	}
	b := &bench{opts: o, log: log, targets: map[string]target{}, report: newReport(o)}
	defer b.stop()
	if b.cert, err = newCertificate(dir); err != nil {
		return nil, err
	}
	if err := b.prepare(ctx, dir); err != nil {
		return nil, err
	}
	for round := range o.rounds {
		for _, p := range phases() {
			if slices.Contains(o.phases, p.name) && (round == 0 || !p.once) {
				if err := b.phase(ctx, &p, round); err != nil {
					return nil, err
				}
			}
		}
	}
	return b.report, nil
}

// prepare finds and checks what is going to be compared.
func (b *bench) prepare(ctx context.Context, dir string) error {
	for _, name := range b.opts.targets {
		switch name {
		case targetUnitgate, targetObserved:
			if err := b.prepareEdges(ctx, name, dir); err != nil {
				return err
			}
		case targetDirect:
			b.targets[name] = direct{}
		default:
			r := newNginx(b.opts, b.cert, dir)
			if name == targetHAProxy {
				r = newHAProxy(b.opts, b.cert, dir)
			}
			if r.program == "" {
				fmt.Fprintf(b.log, "%s is not installed, so nothing is compared with it\n", name)
				continue
			}
			if err := r.verify(ctx); err != nil {
				return err
			}
			b.targets[name] = r
			b.report.Versions[name] = r.version(ctx)
		}
		b.order = append(b.order, name)
	}
	return nil
}

// prepareEdges makes a target of edges, around which there is one system for all of them.
func (b *bench) prepareEdges(ctx context.Context, name, dir string) error {
	if b.system == nil {
		s, err := startSystem(ctx, b.opts, b.cert, dir)
		if err != nil {
			return err
		}
		b.system = s
		b.ends = append(b.ends, s.stop)
	}
	e := &edges{system: b.system, name: "bench"}
	if name == targetObserved {
		var err error
		if e.observer, err = newObserver(); err != nil {
			return err
		}
		e.name = "observed"
		b.ends = append(b.ends, func() { e.observer.stop(b.log) })
	}
	b.ends = append(b.ends, e.stop)
	b.targets[name] = e
	b.report.Versions[name] = b.system.version()
	return nil
}

func (b *bench) stop() {
	b.staff(context.Background(), 0) //nolint:errcheck // dismissing does not fail
	for _, end := range slices.Backward(b.ends) {
		end()
	}
}

// staff makes it n load generators and n origins.
func (b *bench) staff(ctx context.Context, n int) error {
	for len(b.loads) > n {
		b.loads[len(b.loads)-1].Stop(stopWithin)
		b.loads = b.loads[:len(b.loads)-1]
	}
	for len(b.origins) > n {
		b.origins[len(b.origins)-1].Stop(stopWithin)
		b.origins = b.origins[:len(b.origins)-1]
	}
	for len(b.loads) < n {
		m, err := crew.Enlist(fmt.Sprintf("load generator %d", len(b.loads)), roleLoad)
		if err != nil {
			return err
		}
		b.loads = append(b.loads, m)
	}
	for len(b.origins) < n {
		m, err := crew.Enlist(fmt.Sprintf("origin %d", len(b.origins)), roleOrigin, "127.0.2.1:0", "127.0.2.2:0", "127.0.2.3:0", "127.0.2.4:0")
		if err != nil {
			return err
		}
		b.origins = append(b.origins, m)
	}
	b.addrs = nil
	for _, o := range b.origins {
		var addrs []string
		if err := o.Call(ctx, "addrs", load.None{}, &addrs); err != nil {
			return err
		}
		b.addrs = append(b.addrs, addrs...)
	}
	return nil
}

// phase runs a phase on every target that has a part in it. Each round begins with another one: what a phase leaves
// behind in the kernel is not always the same neighbour's burden.
func (b *bench) phase(ctx context.Context, p *phase, round int) error {
	for i := range b.order {
		name := b.order[(i+round)%len(b.order)]
		if !p.has(name) {
			continue
		}
		before, err := readMachine()
		if err != nil {
			return err
		}
		v, err := b.measure(ctx, p, name, round)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		after, merr := readMachine()
		if merr != nil {
			return merr
		}
		b.report.noise(before, after)
		if err != nil {
			fmt.Fprintf(b.log, "round %d/%d  %-9s  %-8s  FAILED: %v\n", round+1, b.opts.rounds, p.name, name, err)
			b.report.fail(p, name, round, err)
			continue
		}
		fmt.Fprintf(b.log, "round %d/%d  %-9s  %-8s  %s\n", round+1, b.opts.rounds, p.name, name, p.line(v))
		b.report.add(p, name, v)
	}
	return nil
}

// measure runs a phase on freshly started proxies and leaves nothing of it behind.
func (b *bench) measure(ctx context.Context, p *phase, name string, round int) (v values, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute+b.opts.duration+b.opts.settle)
	defer cancel()
	n := 1
	if p.proxies != nil {
		n = p.proxies(b.opts)
	}
	if err := b.staff(ctx, n); err != nil {
		return nil, err
	}
	m := &measurement{options: b.opts, name: fmt.Sprintf("%s-%d", p.name, round+1), loads: b.loads, origins: b.origins}
	if p.alone != nil {
		defer func() { err = errors.Join(err, b.cleared(ctx)) }()
		return p.alone(ctx, b, m)
	}
	if m.site, err = b.targets[name].start(ctx, n, b.addrs); err != nil {
		return nil, err
	}
	defer m.site.stop()
	defer func() { err = errors.Join(err, b.cleared(ctx)) }() // before the proxies end: they would wait for their sessions
	if v, err = p.run(ctx, m); err != nil {
		for _, process := range m.site.processes {
			err = errors.Join(err, process.Failure())
		}
	}
	return v, err
}

// cleared ends what is left of sessions, and waits until the origins have none. A crew that does not come to that is
// dismissed.
func (b *bench) cleared(ctx context.Context) error {
	for _, l := range b.loads {
		var none load.None
		for _, op := range []string{"close", "tls close"} {
			if err := l.Call(ctx, op, none, &none); err != nil {
				return errors.Join(err, b.staff(ctx, 0))
			}
		}
	}
	for end := time.Now().Add(stopWithin); ; {
		left := int64(0)
		for _, o := range b.origins {
			var s origin.Stats
			if err := o.Call(ctx, "stats", load.None{}, &s); err != nil {
				return errors.Join(err, b.staff(ctx, 0))
			}
			left += s.Open
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("%d connections to origins outlive their sessions by %v", left, stopWithin), b.staff(ctx, 0))
		}
		if err := rest(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}
