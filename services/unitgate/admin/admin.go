// Package admin is the listener for operators and probes of a control plane or an edge: /healthz says that the process
// runs, /readyz whether it does its work, /status what it knows, as JSON,
// /metrics what it measures, for Prometheus.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Source is what the listener shows. Its functions may be called at any time, by several goroutines.
type Source struct {
	Ready  func() error // nil when the process does its work, else what it waits for
	Status func(ctx context.Context) any

	Metrics http.Handler // for /metrics; nil: there is none
}

// Listener is a running admin listener.
type Listener struct {
	server *http.Server
	addr   string
	done   chan struct{}
}

// Listen serves on HOST:PORT. An empty address is no listener: nil, which may be closed.
func Listen(addr string, s Source, log *slog.Logger) (*Listener, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w; choose another one with --admin HOST:PORT, or none with --admin ''", err)
	}
	a := &Listener{addr: l.Addr().String(), done: make(chan struct{}), server: &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute,
	}}
	go func() {
		defer close(a.done)
		if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("admin listener ended", "err", err)
		}
	}()
	log.Info("admin listener", "addr", a.addr)
	return a, nil
}

// Addr is HOST:PORT.
func (a *Listener) Addr() string { return a.addr }

// Close ends the listener and its connections.
func (a *Listener) Close() {
	if a == nil {
		return
	}
	_ = a.server.Close() // nothing is left to be done about it
	<-a.done
}

func (s Source) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		b, err := json.MarshalIndent(s.Status(r.Context()), "", "  ")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(b, '\n')) // whoever asked has gone
	})
	if s.Metrics != nil {
		mux.Handle("GET /metrics", s.Metrics)
	}
	return mux
}
