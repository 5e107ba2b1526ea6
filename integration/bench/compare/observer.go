//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/unitgate/unitgate/integration/otlp"
)

// observer is what looks at edges: a collector that takes their spans, and somebody who reads their metrics, fifteen times
// as often as Prometheus does by default.
type observer struct {
	collector *otlp.Receiver
	readings  atomic.Int64
}

const readEvery = time.Second

func newObserver() (*observer, error) {
	r, err := otlp.Listen()
	if err != nil {
		return nil, err
	}
	return &observer{collector: r}, nil
}

// flags are those of an edge that is observed; a nil observer has none.
func (o *observer) flags() []string {
	if o == nil {
		return nil
	}
	return []string{"--otlp", o.collector.HTTP()}
}

// watch reads the metrics of a site's edges until it is stopped.
func (o *observer) watch(s *site) {
	if o == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	for _, addr := range s.admin {
		reading.Go(func() {
			tick := time.NewTicker(readEvery)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					if _, err := get(ctx, "http://"+addr+"/metrics"); err == nil {
						o.readings.Add(1)
					}
				}
			}
		})
	}
	s.unwatch = func() { cancel(); reading.Wait(); http.DefaultClient.CloseIdleConnections() }
}

// stop ends it, and says what it has seen: a comparison in which that is nothing proves nothing.
func (o *observer) stop(log io.Writer) {
	o.collector.Close()
	fmt.Fprintf(log, "observed: %d spans, %d readings of metrics\n", len(o.collector.Spans()), o.readings.Load())
}
