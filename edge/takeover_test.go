package edge_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/edge/handover"
	"github.com/unitgate/unitgate/events"
)

// G2 holds over a take-over: a wave waits for the process that is still serving as for the one that accepts, and the old
// one evicts and reports like any edge. It leaves with its last session, and then nobody waits for it any more.
func TestCutoverDuringATakeOver(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ns := newNamespace(t)
	dir := t.TempDir()
	ns.start("center", t.TempDir())
	old, ended := ns.startOwn("unbj", dir, false)
	goes, _, err := dial(ctx, old.Addrs()[0], "6249")
	if err != nil {
		t.Fatal(err)
	}
	stays, _, err := dial(ctx, old.Addrs()[0], "8330")
	if err != nil {
		t.Fatal(err)
	}
	next, _ := ns.startOwn("unbj", dir, true)
	if next.ID() == old.ID() || next.Addrs()[0] != old.Addrs()[0] || next.AdminAddr() != old.AdminAddr() {
		t.Errorf("%s on %v, %s; then %s on %v, %s", old.ID(), old.Addrs(), old.AdminAddr(), next.ID(), next.Addrs(), next.AdminAddr())
	}
	for old.Ready() && ctx.Err() == nil { // for a moment both accept
		time.Sleep(time.Millisecond)
	}
	c, _, err := dial(ctx, next.Addrs()[0], "8331")
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	ns.report(next.ID(), "the new client", func(r events.EdgeReport) bool { return r.Sessions["unit_type"] == 1 })

	id := begin(ns)
	fenced := ns.do(events.FenceWave{Cutover: id, Term: 1})
	var closed websocket.CloseError
	if _, _, err := goes.Read(ctx); !errors.As(err, &closed) || closed.Code != 1012 {
		t.Errorf("the moved session ends with %v", err)
	}
	for edge, evicted := range map[string]int{old.ID(): 1, next.ID(): 0} {
		ns.report(edge, "drained", func(r events.EdgeReport) bool {
			return r.Applied >= fenced.Seq && len(r.Fences) == 1 && r.Fences[0].Drained && r.Fences[0].Evicted == evicted
		})
	}
	_ = stays.CloseNow()
	_ = goes.CloseNow()
	// While the wave waits for it, the old edge must not leave, though it serves nobody.
	ns.report(old.ID(), "no session", func(r events.EdgeReport) bool { return r.Sessions["unit_type"] == 0 })
	_, err = ns.try(events.CommitWave{Cutover: id, Term: 1, Edges: results(fenced, id)[:1]})
	if err == nil {
		t.Error("committed without the old edge")
	}
	ns.do(events.CommitWave{Cutover: id, Term: 1, Edges: results(fenced, id)})
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("the old edge does not end")
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if e := ns.state.Edges[old.ID()]; e.Gone != "left" {
		t.Errorf("%+v", e)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*", "id")); err != nil || len(left) != 1 || !strings.Contains(left[0], next.ID()) {
		t.Errorf("%v are left, %v", left, err)
	}
}

// startOwn runs an edge that makes its own id, until the test ends.
func (ns *namespace) startOwn(unit, dir string, takeOver bool) (e *edge.Edge, ended <-chan error) {
	ns.t.Helper()
	cfg := ns.config(unit, dir)
	cfg.ID, cfg.TakeOver = "", takeOver
	e, err := edge.New(cfg)
	if err != nil {
		ns.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	done := make(chan struct{})
	go func() { defer close(done); end <- e.Run(ctx) }()
	ns.t.Cleanup(func() { cancel(); <-done })
	ns.report(e.ID(), "its join", func(r events.EdgeReport) bool { return r.Applied > 0 && e.Ready() })
	return e, end
}

// Who cannot be the same edge is refused before anything is handed over, and the running one goes on.
func TestTakeOverIsRefused(t *testing.T) {
	ns := newNamespace(t)
	dir := t.TempDir()
	old, _ := ns.start("unbj", dir)
	for what, change := range map[string]func(*edge.Config){
		"cluster":   func(c *edge.Config) { c.Cluster = "ws-other" },
		"unit":      func(c *edge.Config) { c.Unit = "center" },
		"namespace": func(c *edge.Config) { c.Namespace = "other" },
		"id":        func(c *edge.Config) { c.ID = old.ID() },
	} {
		cfg := ns.config("unbj", dir)
		cfg.ID, cfg.TakeOver = "", true
		change(&cfg)
		if _, err := edge.New(cfg); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := edge.New(ns.config("unbj", dir)); !errors.Is(err, agent.ErrLocked) || !strings.Contains(err.Error(), "--take-over") {
		t.Error(err)
	}
	if !old.Ready() {
		t.Error("the running edge is not ready any more")
	}
}

// A process that was offered the sockets and does not go on keeps nobody out: not one that says nothing more, and not a
// new version that hangs before its commit. It is given up for the next one; when it goes on after all, it accepts nobody.
func TestTakeOverPastOneThatHangs(t *testing.T) {
	ns := newNamespace(t)
	ns.start("center", t.TempDir())
	dir := t.TempDir()
	old, _ := ns.startOwn("unbj", dir, false)

	silent, err := handover.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	o, err := silent.Offer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close() // it keeps the sockets
	cfg := ns.config("unbj", dir)
	cfg.ID, cfg.TakeOver = "", true
	hangs, err := edge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	next, _ := ns.startOwn("unbj", dir, true)
	if err := silent.Commit(t.Context(), 0); !errors.Is(err, handover.ErrRefused) {
		t.Errorf("the silent process does not know that it was given up: %v", err)
	}
	if err := hangs.Run(t.Context()); !errors.Is(err, handover.ErrRefused) {
		t.Errorf("the one that hung goes on: %v", err)
	}
	for old.Ready() && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	for range 20 { // whoever else accepted there would get one of them
		c, _, err := dial(t.Context(), next.Addrs()[0], "8331")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.CloseNow()
	}
}
