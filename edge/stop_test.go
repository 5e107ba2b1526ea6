package edge_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/events"
)

// G2 holds to the end of an edge: a fence that comes while it stops is not drained as long as a session of the wave is
// left, here that of a client which does not answer its Close and sends on to the old unit.
func TestStoppingEdgeIsNotDrained(t *testing.T) {
	ns := newNamespace(t)
	unbj, stop := ns.start("unbj", t.TempDir())
	c, err := net.Dial("tcp", unbj.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nrouterId: 6249\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(c)
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	id := begin(ns)
	ns.report(unbj.ID(), "the cutover", func(r events.EdgeReport) bool { return len(r.Moved) == 1 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	if first, err := br.ReadByte(); first != 0x88 || err != nil { // the Close frame
		t.Fatal(first, err)
	}
	fenced := ns.do(events.FenceWave{Cutover: id, Term: 1})
	r := ns.report(unbj.ID(), "the fence", func(r events.EdgeReport) bool { return r.Applied >= fenced.Seq })
	if len(r.Fences) != 1 || r.Fences[0].Drained {
		t.Errorf("a session is open and the edge reports %+v", r)
	}
	_ = c.Close()
	<-stopped
}

// A drain takes the time that it was given, or less when the sessions end before. Nobody is sent here meanwhile, and a
// cutover goes on as ever: the session that moves does not wait for its turn, and the report says so.
func TestDrain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ns := newNamespace(t)
	unbj, stop := ns.start("unbj", t.TempDir(), func(c *edge.Config) { c.DrainTime = 1000 * time.Hour })
	goes, _, err := dial(ctx, unbj.Addrs()[0], "6249")
	if err != nil {
		t.Fatal(err)
	}
	stays, _, err := dial(ctx, unbj.Addrs()[0], "8330")
	if err != nil {
		t.Fatal(err)
	}
	id := begin(ns)
	ns.report(unbj.ID(), "the cutover", func(r events.EdgeReport) bool { return len(r.Moved) == 1 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	for unbj.Ready() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if code, body := get(t, unbj, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "draining") {
		t.Error(code, body)
	}
	fenced := ns.do(events.FenceWave{Cutover: id, Term: 1})
	var closed websocket.CloseError
	if _, _, err := goes.Read(ctx); !errors.As(err, &closed) || closed.Code != 1012 {
		t.Errorf("the moved session ends with %v", err)
	}
	ns.report(unbj.ID(), "drained", func(r events.EdgeReport) bool {
		return r.Applied >= fenced.Seq && len(r.Fences) == 1 && r.Fences[0].Drained && r.Fences[0].Evicted == 1
	})
	if got, err := say(ctx, stays, "still"); got != "still:unbj" {
		t.Error(got, err)
	}
	if _, _, err := dial(ctx, unbj.Addrs()[0], "8330"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a draining edge answers a new client: %v", err)
	}
	select {
	case <-stopped:
		t.Error("it did not wait for its last session")
	default:
	}
	_ = stays.CloseNow()
	select {
	case <-stopped:
	case <-ctx.Done():
		t.Error("it does not end with its last session")
	}
}

// When the time of a drain is over, so are the sessions.
func TestDrainTimeIsOver(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ns := newNamespace(t)
	unbj, stop := ns.start("unbj", t.TempDir(), func(c *edge.Config) { c.DrainTime = time.Second })
	c, _, err := dial(ctx, unbj.Addrs()[0], "8330") // nobody answers its Close
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	began := time.Now()
	stop()
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("the client had %v", took)
	}
}

// An address that another edge listens on is refused, not shared.
func TestAddressInUse(t *testing.T) {
	ns := newNamespace(t)
	first, _ := ns.start("unbj", t.TempDir())
	addr := first.Addrs()[0]
	_, err := edge.New(edge.Config{
		Namespace: "demo", Unit: "unbj", Cluster: "ws-unbj", Listen: []string{addr}, StateDir: t.TempDir(),
		NATS: agent.NATS{Options: []nats.Option{nats.InProcessServer(ns.srv)}},
	})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), addr) {
		t.Errorf("%v", err)
	}
}

// An edge that shall leave does so when it stops, but not while a wave waits for it. Its id never comes back.
func TestLeave(t *testing.T) {
	ns := newNamespace(t)
	dir := t.TempDir()
	unbj, stop := ns.start("unbj", dir, func(c *edge.Config) { c.Leave = true })
	id := begin(ns)
	fenced := ns.do(events.FenceWave{Cutover: id, Term: 1})
	ns.report(unbj.ID(), "the fence", func(r events.EdgeReport) bool { return r.Applied >= fenced.Seq })
	refused, err := ns.srv.Connect().SubscribeSync(events.EdgeSubject("demo", "unbj", unbj.ID(), "leave"))
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	for range 2 { // it asks again, so it was refused
		if _, err := refused.NextMsg(patience); err != nil {
			t.Fatal(err)
		}
	}
	s := ns.do(events.PauseCutover{Cutover: id})
	if gone := s.Edges[unbj.ID()].Gone; gone != "" {
		t.Errorf("the edge has %s while a wave waited for it", gone)
	}
	<-stopped
	ns.mu.Lock()
	gone := ns.state.Edges[unbj.ID()].Gone
	ns.mu.Unlock()
	if gone != "left" {
		t.Errorf("the journal says %q of the edge", gone)
	}
	err = edge.Run(t.Context(), edge.Config{
		Namespace: "demo", Unit: "unbj", Cluster: "ws-unbj", Listen: []string{"127.0.0.1:0"}, StateDir: dir,
		NATS: agent.NATS{Options: []nats.Option{nats.InProcessServer(ns.srv)}},
	})
	if !errors.Is(err, agent.ErrGone) {
		t.Errorf("started again it ends with %v", err)
	}
}
