package edge_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/edge/agent"
	origins "github.com/unitgate/unitgate/edge/origin"
	"github.com/unitgate/unitgate/events"
)

// Two edges of two units, real sockets, a real journal: a wave is fenced, its one session is evicted, its client's
// handshake is held until the commit and then redirected once; the others notice nothing.
func TestCutover(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ns := newNamespace(t)
	center, stopCenter := ns.start("center", t.TempDir())
	unbj, stopUnbj := ns.start("unbj", t.TempDir())
	// The first edge must know the second one's address for its redirects.
	ns.report(center.ID(), "the other's join", func(r events.EdgeReport) bool { return r.Applied >= unbj.Status(ctx).Applied })

	user := func(via, routerID, unit string, way ...string) *websocket.Conn {
		t.Helper()
		c, took, err := dial(ctx, via, routerID)
		if err != nil {
			t.Fatal(routerID, err)
		}
		if got, err := say(ctx, c, "hello"); got != "hello:"+unit || !slices.Equal(took, way) {
			t.Fatalf("%s: %q by way of %v, %v", routerID, got, took, err)
		}
		return c
	}
	hz, bj := center.Addrs()[0], unbj.Addrs()[0]
	goes := user(bj, "6249", "unbj", bj)
	stays := user(bj, "8330", "unbj", bj)
	user(bj, "1111", "center", bj, hz).CloseRead(ctx) // it answers a Close, like those below

	id := begin(ns)
	fenced := ns.do(events.FenceWave{Cutover: id, Term: 1})
	_, _, err := goes.Read(ctx)
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != 1012 || closed.Reason != "moved to center" {
		t.Fatalf("the moved session ends with %v", err)
	}
	drained := func(r events.EdgeReport) bool {
		return r.Applied >= fenced.Seq && len(r.Fences) == 1 && r.Fences[0].Fence == fenced.Seq && r.Fences[0].Drained
	}
	if r := ns.report(unbj.ID(), "drained", drained); r.Fences[0].Evicted != 1 {
		t.Errorf("%+v", r)
	}
	ns.report(center.ID(), "applied", func(r events.EdgeReport) bool { return r.Applied >= fenced.Seq })

	type dialled struct {
		c    *websocket.Conn
		took []string
		err  error
	}
	again := make(chan dialled, 1)
	go func() {
		c, took, err := dial(ctx, bj, "6249")
		again <- dialled{c, took, err}
	}()
	for unbj.Status(ctx).Held["unit_type"] == 0 {
		select {
		case d := <-again:
			t.Fatalf("not held: %v, %v", d.took, d.err)
		case <-ctx.Done():
			t.Fatal("never held")
		default:
		}
	}
	committed := ns.do(events.CommitWave{Cutover: id, Term: 1, Edges: results(fenced, id)})
	d := <-again
	if d.err != nil || !slices.Equal(d.took, []string{bj, hz}) {
		t.Fatalf("after the commit: %v, %v", d.took, d.err)
	}
	if got, err := say(ctx, d.c, "again"); got != "again:center" {
		t.Fatal(got, err)
	}
	if got, err := say(ctx, stays, "still"); got != "still:unbj" {
		t.Fatal("the untouched session:", got, err)
	}
	ns.report(center.ID(), "the landing", func(r events.EdgeReport) bool {
		return r.Applied >= committed.Seq && len(r.Moved) == 1 && r.Moved[0] == events.MovedReport{Cutover: id, Landed: 1}
	})
	d.c.CloseRead(ctx)
	read := make(chan error, 1)
	go func() { _, _, err := stays.Read(ctx); read <- err }()
	stopUnbj()
	if err := <-read; !errors.As(err, &closed) || closed.Code != websocket.StatusGoingAway {
		t.Errorf("a stopping edge closes with %v", err)
	}
	stopCenter()
}

// begin proposes and starts the walkthrough's cutover.
func begin(ns *namespace) string {
	ns.do(events.TakeOffice{Term: 1, Holder: "test"})
	s := ns.do(events.PreviewCutover{Ranges: ranges(6381)})
	var checks []events.Check
	for _, k := range events.CheckIDs() {
		checks = append(checks, events.Check{ID: k, State: events.Pass, At: s.Cutovers["c1"].ProposedAt})
	}
	ns.do(events.StartCutover{Cutover: "c1", Checks: checks})
	return "c1"
}

// results are what the needed edges have reported.
func results(s *events.State, id string) []events.EdgeResult {
	c := s.Cutovers[id]
	var out []events.EdgeResult
	for _, e := range s.NeededEdges(&c, 0) {
		out = append(out, events.EdgeResult{ID: e.ID, Unit: e.Unit, Applied: s.Seq, Fence: c.Waves[0].FenceSeq, Drained: true})
	}
	return out
}

// An edge restarted with NATS down serves from its state directory (G5), on its old address or a new one.
func TestRestartWithNATSDown(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ns := newNamespace(t)
	dir := t.TempDir()
	e, stop := ns.start("unbj", dir)
	id := e.ID()
	stop()
	ns.srv.Stop()

	e, err := edge.New(edge.Config{
		Namespace: "demo", Unit: "unbj", Cluster: "ws-unbj", Listen: []string{"127.0.0.1:0"}, StateDir: dir, Admin: "127.0.0.1:0",
		NATS: agent.NATS{Options: []nats.Option{nats.InProcessServer(ns.srv)}}, Dev: agent.Dev{FallbackHost: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	running, cancelRun := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- e.Run(running) }()
	for { // Ready is shown a moment after the relay admits: dialling tells
		c, _, err := dial(ctx, e.Addrs()[0], "8330")
		if err != nil && strings.Contains(err.Error(), "503") {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := say(ctx, c, "hello"); got != "hello:unbj" {
			t.Error(got, err)
		}
		c.CloseRead(ctx)
		break
	}
	var st agent.Status
	for !st.Joined && ctx.Err() == nil { // it is shown a moment after the relay admits, too
		code, body := get(t, e, "/status")
		if code != 200 || json.Unmarshal([]byte(body), &st) != nil || st.Connected || st.Edge != id || st.Staleness <= 0 {
			t.Fatalf("%d %s", code, body)
		}
	}
	if !st.Joined {
		t.Error("it never says that it has joined")
	}
	cancelRun()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, e *edge.Edge, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + e.AdminAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// The admin listener: alive at once, ready with the join, and the status that CONTRACT lists.
func TestAdmin(t *testing.T) {
	ns := newNamespace(t)
	e, _ := ns.start("unbj", t.TempDir())
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/status": 200, "/nothing": 404, "/debug/pprof/": 404} {
		if code, body := get(t, e, path); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	var st map[string]any
	_, body := get(t, e, "/status")
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"applied", "head", "stateHash", "staleness", "ruleVersion", "sessions"} {
		if st[key] == nil {
			t.Errorf("no %q in %s", key, body)
		}
	}
	var with struct{ Origins []origins.Status }
	if err := json.Unmarshal([]byte(body), &with); err != nil || len(with.Origins) != 1 || with.Origins[0].State != "healthy" || with.Origins[0].Sessions != 0 {
		t.Errorf("the unit's origins are %+v, %v", with.Origins, err)
	}
	apart, err := edge.New(edge.Config{
		Namespace: "other", Unit: "unbj", Cluster: "c", Listen: []string{"127.0.0.1:0"}, StateDir: t.TempDir(), Admin: "127.0.0.1:0",
		Profiling: true, NATS: agent.NATS{Options: []nats.Option{nats.InProcessServer(ns.srv)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1"} {
		if code, body := get(t, apart, path); code != 200 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := get(t, apart, "/readyz"); code != 503 {
		t.Errorf("an edge without a state is ready: %d", code)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := apart.Run(ended); err != nil {
		t.Error(err)
	}
}

// What can be refused is refused by New, which then holds on to nothing.
func TestNewRefuses(t *testing.T) {
	dir, unborn := t.TempDir(), filepath.Join(t.TempDir(), "unborn")
	good := func() edge.Config {
		return edge.Config{Namespace: "demo", Unit: "unbj", Cluster: "c", Listen: []string{"127.0.0.1:0"}, StateDir: dir, ID: "bj-1"}
	}
	first, err := edge.New(good())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*edge.Config)
		want   error
	}{
		"second process": {func(*edge.Config) {}, agent.ErrLocked},
		"bad namespace":  {func(c *edge.Config) { c.Namespace = "No" }, events.ErrBadName},
		"no unit":        {func(c *edge.Config) { c.Unit = "" }, events.ErrMissingField},
		"no listener":    {func(c *edge.Config) { c.Listen = nil }, events.ErrMissingField},
		"no directory":   {func(c *edge.Config) { c.StateDir = "" }, events.ErrMissingField},
		"bad advertise":  {func(c *edge.Config) { c.StateDir = unborn; c.Advertise = "nonsense" }, events.ErrBadValue},
		"bad capacity":   {func(c *edge.Config) { c.Capacity = -1 }, events.ErrBadValue},
		"no address":     {func(c *edge.Config) { c.StateDir = unborn; c.Listen = []string{"0.0.0.0:0"} }, events.ErrMissingField},
		"port in use":    {func(c *edge.Config) { c.StateDir = t.TempDir(); c.Admin = first.Addrs()[0] }, nil},
	} {
		cfg := good()
		c.change(&cfg)
		if _, err := edge.New(cfg); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := os.Stat(unborn); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory was made for an edge that cannot be: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := first.Run(ended); err != nil {
		t.Error(err)
	}
	if err := edge.Run(ended, good()); err != nil { // the directory is free again
		t.Error(err)
	}
}
