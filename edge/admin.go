package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"

	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/edge/limit"
	"github.com/unitgate/unitgate/edge/origin"
)

// admin is the listener for operators and orchestrators.
type admin struct {
	edge     *Edge // nil before serve
	addr     string
	listener net.Listener
	kept     *os.File // another descriptor of it, while another process serves there
	mux      *http.ServeMux
	server   *http.Server
	end      chan error // why the server ended, if it ended by itself
}

// listenAdmin listens, on the socket of another process if there is one, which it closes.
func listenAdmin(addr string, inherited *os.File, profiling bool, metrics http.Handler) (*admin, error) {
	var ln net.Listener
	var err error
	if inherited != nil {
		ln, err = net.FileListener(inherited)
		_ = inherited.Close()
	} else {
		ln, err = net.Listen("tcp", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	a := &admin{listener: ln, addr: ln.Addr().String(), end: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("GET /status", a.status)
	if metrics != nil {
		mux.Handle("GET /metrics", metrics)
	}
	if profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index) // also heap, goroutine, …
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	a.mux = mux
	return a, nil
}

// serve begins to answer. Without a listener it does nothing.
func (a *admin) serve(e *Edge) {
	if a == nil {
		return
	}
	a.edge = e
	// Whoever asks has an end as well, read or not; a profile of a minute has room.
	a.server = &http.Server{
		Handler: a.mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute,
	}
	go func(s *http.Server, ln net.Listener) {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			a.end <- fmt.Errorf("admin listener: %w", err)
		}
	}(a.server, a.listener)
}

// pause leaves the listener to another process and keeps the socket.
func (a *admin) pause() {
	if a == nil {
		return
	}
	var err error
	if a.kept, err = a.listener.(*net.TCPListener).File(); err != nil {
		a.edge.log.Warn("the admin listener will not come back", "err", err)
	}
	_ = a.server.Close() // nothing is left to be done about it
}

// resume serves again after pause.
func (a *admin) resume(e *Edge) {
	if a == nil || a.kept == nil {
		return
	}
	ln, err := net.FileListener(a.kept)
	a.letGo()
	if err != nil {
		e.log.Warn("the admin listener does not come back", "err", err)
		return
	}
	a.listener = ln
	a.serve(e)
}

// letGo closes what pause has kept.
func (a *admin) letGo() {
	if a != nil && a.kept != nil {
		_ = a.kept.Close()
		a.kept = nil
	}
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

// clients are their connections.
type clients struct {
	limit.Counts
	Cut          cut   `json:"cut"`
	AcceptPauses int64 `json:"acceptPauses"` // ever, see relay.Readings
}

// cut are connections that were reset, ever, by why.
type cut struct {
	Unread int64 `json:"unread"` // their peers had not read to the end in time
	Room   int64 `json:"room"`   // to make room for new ones
}

// status is what the edge says of itself on the bus, and its origins, which can be too many for a message.
func (a *admin) status(w http.ResponseWriter, r *http.Request) {
	status := a.edge.agent.Status(r.Context())
	status.Directory = "" // an edge of a version before signatures proves by it that it is the edge
	got := a.edge.relay.Readings()
	b, err := json.Marshal(struct {
		agent.Status
		Draining   bool            `json:"draining"`
		HandedOver bool            `json:"handedOver"` // another process accepts
		Clients    clients         `json:"clients"`
		Origins    []origin.Status `json:"origins"`
		Peers      []origin.Status `json:"peers,omitempty"` // edges of other units, to which clients are passed on
	}{status, a.edge.draining.Load(), a.edge.handed.Load(),
		clients{a.edge.relay.Clients(), cut{got.Late, got.Shed}, got.AcceptPauses}, a.edge.relay.Origins(), a.edge.relay.Peers()})
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
	a.letGo()
	if a.server == nil {
		return a.listener.Close()
	}
	return a.server.Close()
}
