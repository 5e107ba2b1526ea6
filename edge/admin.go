package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/edge/limit"
	"github.com/unitgate/unitgate/edge/origin"
)

// admin is the listener for operators and orchestrators.
type admin struct {
	edge     *Edge // nil before serve
	listener net.Listener
	server   *http.Server
	end      chan error // why the server ended, if it ended by itself
}

func listenAdmin(addr string, profiling bool) (*admin, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	a := &admin{listener: ln, end: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("GET /status", a.status)
	if profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index) // also heap, goroutine, …
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	return a, nil
}

// serve begins to answer. Without a listener it does nothing.
func (a *admin) serve(e *Edge) {
	if a == nil {
		return
	}
	a.edge = e
	go func() {
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			a.end <- fmt.Errorf("admin listener: %w", err)
		}
	}()
}

// failed yields the error with which the listener ended by itself. Without a listener there is none.
func (a *admin) failed() <-chan error {
	if a == nil {
		return nil
	}
	return a.end
}

// ready: the edge admits sessions. It stays ready when NATS is out of reach (G5), under exclusive ownership for as long as its lease.
func (a *admin) ready(w http.ResponseWriter, _ *http.Request) {
	if why := a.edge.unready(); why != "" {
		text(w, http.StatusServiceUnavailable, why)
		return
	}
	text(w, http.StatusOK, "ready")
}

// status is what the edge says of itself on the bus, and its origins, which can be too many for a message.
func (a *admin) status(w http.ResponseWriter, r *http.Request) {
	b, err := json.Marshal(struct {
		agent.Status
		Draining bool            `json:"draining"`
		Clients  limit.Counts    `json:"clients"`
		Origins  []origin.Status `json:"origins"`
	}{a.edge.agent.Status(r.Context()), a.edge.draining.Load(), a.edge.relay.Clients(), a.edge.relay.Origins()})
	if err != nil {
		text(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // the client's loss if it has gone
}

func text(w http.ResponseWriter, code int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, line)
}

// close ends the listener, whether it was served or not.
func (a *admin) close() error {
	err := a.server.Close()
	if a.edge == nil {
		err = errors.Join(err, a.listener.Close())
	}
	return err
}
