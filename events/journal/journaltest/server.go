package journaltest

import (
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Server is a real NATS server with JetStream and file storage inside the test's process, reached without sockets, so that
// it also runs in a testing/synctest bubble (register ats in TestMain then). It stops at the end of the test.
// Its mutex guards all fields but t, dir and name.
type Server struct {
	t    testing.TB
	dir  string
	name string

	virtual bool // in a bubble

	mu    sync.Mutex
	srv   *server.Server // nil while stopped
	cut   bool
	links []net.Conn // of clients that Cut severs
	uncut []net.Conn // of the others
}

var errDown = errors.New("no server: stopped or cut by the test")

// StartServer starts a server with a store of its own.
func StartServer(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), name: "journaltest"}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Bubble runs a test in virtual time (testing/synctest) with a server of its own. Register ats in TestMain for it: a file
// store would start that clock inside, and the bubble would never be idle. Not for parallel tests.
func Bubble(t *testing.T, test func(t *testing.T, s *Server)) {
	t.Helper()
	// The NATS client keeps timers in a global pool (it takes one to flush after a reconnect), and a timer of one bubble
	// is fatal in another. Two collections empty a sync.Pool.
	empty := func() { runtime.GC(); runtime.GC() }
	empty()
	defer empty()
	synctest.Test(t, func(t *testing.T) {
		s := StartServer(t)
		s.virtual = true
		test(t, s)
	})
}

// Start starts the server again after Stop, on the same store.
func (s *Server) Start() {
	s.t.Helper()
	srv, err := server.NewServer(&server.Options{
		ServerName: s.name, JetStream: true, StoreDir: s.dir, DontListen: true, NoSigs: true, NoLog: true,
		JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: 4 << 30,
	})
	if err != nil {
		s.t.Fatalf("embedded nats server: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		s.t.Fatal("embedded nats server is not ready after 10 s")
	}
	s.mu.Lock()
	s.srv = srv
	s.mu.Unlock()
}

// Stop stops the server and waits until it has. Its clients stay and try to reconnect.
func (s *Server) Stop() {
	s.mu.Lock()
	srv, links := s.srv, slices.Concat(s.links, s.uncut)
	s.srv, s.links, s.uncut = nil, nil, nil
	s.mu.Unlock()
	if srv == nil {
		return
	}
	if s.virtual {
		// A server that shuts down sleeps with JetStream's lock held, so that those who pull hear of it, and a request of
		// a client that waits for the lock keeps a bubble's time from passing. So the clients go first: the sleep ends
		// once all that they had asked for is done.
		for _, c := range links {
			_ = c.Close()
		}
		time.Sleep(time.Millisecond)
	}
	srv.Shutdown()
	srv.WaitForShutdown()
}

// Connect returns a connection that reconnects for ever, closed at the end of the test.
func (s *Server) Connect(opts ...nats.Option) *nats.Conn {
	s.t.Helper()
	opts = append([]nats.Option{
		nats.InProcessServer(s), nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // the default one prints what tests provoke
	}, opts...)
	nc, err := nats.Connect("", opts...)
	if err != nil {
		s.t.Fatalf("connect to the embedded nats server: %v", err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

// JetStream returns a JetStream handle on a connection of its own.
func (s *Server) JetStream(opts ...nats.Option) jetstream.JetStream {
	s.t.Helper()
	js, err := jetstream.New(s.Connect(opts...))
	if err != nil {
		s.t.Fatal(err)
	}
	return js
}

// Cut severs all connections and refuses new ones; Heal lets them come back.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	for _, c := range s.links {
		c.Close()
	}
	s.links = nil
}

// Heal ends a Cut.
func (s *Server) Heal() {
	s.mu.Lock()
	s.cut = false
	s.mu.Unlock()
}

// InProcessConn implements nats.InProcessConnProvider for the connections that Cut severs.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil || s.cut {
		return nil, errDown
	}
	c, err := s.srv.InProcessConn()
	if err == nil {
		s.links = append(s.links, c)
	}
	return c, err
}

// Uncut is an option of Connect and JetStream for a connection that Cut leaves alone.
func (s *Server) Uncut() nats.Option { return nats.InProcessServer(uncut{s}) }

type uncut struct{ s *Server }

func (u uncut) InProcessConn() (net.Conn, error) {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	if u.s.srv == nil {
		return nil, errDown
	}
	c, err := u.s.srv.InProcessConn()
	if err == nil {
		u.s.uncut = append(u.s.uncut, c)
	}
	return c, err
}
