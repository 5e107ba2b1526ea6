package harness

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// Register sees all sessions of all origins of a test, and so knows whether two units ever serve one user at once.
type Register struct {
	mu       sync.Mutex
	sessions map[string][]*Session // by routerId, in the order in which they came
	overlaps []string
}

// NewRegister makes an empty register.
func NewRegister() *Register { return &Register{sessions: map[string][]*Session{}} }

// Session is one connection at an origin.
type Session struct {
	Unit     string
	RouterID string
	Peer     string      // the edge's end of the TCP connection: as long as it is the same, the edge never dialled anew
	Header   http.Header // of the handshake

	ws  *websocket.Conn
	tcp *net.TCPConn

	mu       sync.Mutex
	messages []string
	ended    error // why reading ended; nil while it goes on
}

// Messages returns what arrived so far, in order.
func (s *Session) Messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Ended says why the session ended, nil while it lasts.
func (s *Session) Ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func (s *Session) send(ctx context.Context, text string) error {
	return s.ws.Write(ctx, websocket.MessageText, []byte(text))
}

// Sessions returns a user's sessions, ended ones included, in the order in which they came.
func (r *Register) Sessions(routerID string) []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sessions[routerID])
}

// All returns every session of every user.
func (r *Register) All() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(slices.Collect(maps.Values(r.sessions))...)
}

// Overlaps tells where a user had sessions in two units at once.
func (r *Register) Overlaps() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.overlaps)
}

func (r *Register) add(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range r.sessions[s.RouterID] {
		if s.RouterID != "" && other.Unit != s.Unit && other.connected() {
			r.overlaps = append(r.overlaps, fmt.Sprintf("%s came to %s (from %s) while %s still held its session from %s",
				s.RouterID, s.Unit, s.Peer, other.Unit, other.Peer))
		}
	}
	r.sessions[s.RouterID] = append(r.sessions[s.RouterID], s)
}

// connected asks the kernel whether the edge still holds its end. This is exact where the
// origin's own view is not: its goroutine may see an end some milliseconds late.
func (s *Session) connected() bool {
	if s.Ended() != nil {
		return false
	}
	raw, err := s.tcp.SyscallConn()
	if err != nil {
		return false
	}
	const established = 1 // TCP_ESTABLISHED; after the edge's FIN it is TCP_CLOSE_WAIT
	state := uint8(0)
	err = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			state = info.State
		}
	})
	return err == nil && state == established
}

// Origin is a WebSocket server of one unit. It welcomes, echoes "<text>:<unit>", and if
// Ticks is set says "tick <n>:<unit>" that often.
type Origin struct {
	Unit  string
	Addr  string
	Ticks time.Duration
	seen  *Register
}

type tcpKey struct{}

// StartOrigin starts an origin that enters its sessions into a register.
func StartOrigin(t testing.TB, unit string, seen *Register, ticks time.Duration) *Origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &Origin{Unit: unit, Addr: l.Addr().String(), Ticks: ticks, seen: seen}
	s := &http.Server{
		Handler: o,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, tcpKey{}, c)
		},
		ReadHeaderTimeout: handshakeWithin,
		BaseContext:       func(net.Listener) context.Context { return t.Context() },
	}
	go s.Serve(l) //nolint:errcheck // it ends with Close
	t.Cleanup(func() { s.Close() })
	return o
}

// ServeHTTP serves one session to its end.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The request's context ends with the hijack's handler, not with the test.
	tcp, ok := r.Context().Value(tcpKey{}).(*net.TCPConn)
	if !ok {
		http.Error(w, "no TCP connection", http.StatusInternalServerError)
		return
	}
	s := &Session{Unit: o.Unit, RouterID: r.Header.Get("routerId"), Peer: r.RemoteAddr, Header: r.Header, tcp: tcp}
	// The edge has admitted the session when its handshake is here, so it counts from here on.
	if r.Header.Get("Upgrade") != "" {
		o.seen.add(s)
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
	if err != nil {
		s.end(err)
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	s.ws = ws
	s.end(o.serve(r.Context(), s))
}

func (s *Session) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = why
}

func (o *Origin) serve(ctx context.Context, s *Session) error {
	if err := s.send(ctx, "Welcome to the server! "+o.Unit); err != nil {
		return err
	}
	if o.Ticks > 0 {
		ticking, stop := context.WithCancel(ctx)
		defer stop()
		go o.tick(ticking, s)
	}
	for {
		_, text, err := s.ws.Read(ctx)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.messages = append(s.messages, string(text))
		s.mu.Unlock()
		// What came before an end is read even when nothing can be answered any more.
		_ = s.send(ctx, string(text)+":"+o.Unit)
	}
}

func (o *Origin) tick(ctx context.Context, s *Session) {
	ticker := time.NewTicker(o.Ticks)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if s.send(ctx, fmt.Sprintf("tick %d:%s", n, o.Unit)) != nil {
				return
			}
		}
	}
}
