package agent

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
)

// R7, "a lost one means a new edge id": a process that has an edge's id and a new state directory is refused for good. It
// admits nobody, answers nothing in the edge's name and writes nothing into the journal, while the edge serves on.
func TestLostStateDirectory(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.admit()
	old := l.start(madeDir(t, "bj-1"))
	joined := old.view("the join", admitting).Seq
	for _, address := range []string{"127.0.0.1:7201", "127.0.0.1:7299"} {
		path := t.TempDir()
		_ = openDir(t, path, "bj-1").Close()
		lost := l.start(path, func(c *Config) { c.Advertise = address })
		if err := lost.end(); !errors.Is(err, events.ErrEdgeElsewhere) {
			t.Errorf("at %s: ended with %v", address, err)
		}
		_ = lost.dir.Close()
		for len(lost.relay.installs) > 0 {
			if v := <-lost.relay.installs; v.Admits {
				t.Errorf("at %s: it admits with the state at %d", address, v.Seq)
			}
		}
	}
	if s := l.history(func(*world) {}); s.Seq != joined || s.Edges["bj-1"].Directory != directoryOf("bj-1") {
		t.Errorf("the journal was at %d and is at %d: %+v", joined, s.Seq, s.Edges)
	}
	old.stop()
}

// The join itself is refused for good as well, when the state that the process knows does not tell yet.
func TestJoinFromAnotherDirectoryIsFinal(t *testing.T) {
	if !final(events.ErrEdgeElsewhere) || final(events.ErrAddressTaken) {
		t.Error("another directory stays another one; an address becomes free when its edge is retired")
	}
}

// What an edge says of itself names its directory; a process that is not the registered edge leaves questions to it.
func TestQuestionsAreForTheRegisteredEdge(t *testing.T) {
	l := newLab(t)
	l.history(func(w *world) { w.join("bj-1", "unbj", "ws-bj", "127.0.0.1:7201") })
	path := t.TempDir()
	lost := openDir(t, path, "bj-1")
	saved := newWorld(t, nil).state // of before the join: it does not know that it is not the edge
	if _, err := lost.Save(l.journal.Epoch(), saved); err != nil {
		t.Fatal(err)
	}
	_ = lost.Close()
	a := &answers{r: &Runner{self: Self{ID: "bj-1", Directory: lost.Identity()}, follower: newFollower("demo", nil, nil, &Saved{State: saved}, discard())}}
	d := &desk{what: events.AskStatus, answer: func(context.Context, []byte) (any, error) { t.Error("it answers"); return nil, nil }}
	d.serve(t.Context(), a, asked{&nats.Msg{Reply: "x"}, time.Now()})
	d.refuse(a, &nats.Msg{Reply: "x"}, busy, d.full())
	if n := d.counts[dropped].Load(); n != 2 {
		t.Errorf("%d questions were left to it, want 2", n)
	}

	edge := l.start(madeDir(t, "bj-1"), func(c *Config) { c.Capacity = 0 })
	edge.view("the join", admitting)
	var st Status
	edge.ask("status", struct{}{}, &st)
	if st.Directory != directoryOf("bj-1") {
		t.Errorf("%+v", st)
	}
	edge.stop()
}

// An address that another edge has is refused with its name; it becomes free when that edge is retired.
func TestAddressOfAnotherEdge(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.history(func(w *world) { w.join("bj-9", "unbj", "ws-bj", "127.0.0.1:7201") })
	l.admit()
	e := l.start(t.TempDir())
	l.logged("address_taken")
	l.history(func(w *world) { w.do(events.RetireEdge{ID: "bj-9", Reason: "test"}) })
	e.view("the join", admitting)
	e.stop()
}

// Someone who changes the registration of a running edge is answered, but not at the speed of the bus.
func TestContestedJoin(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.admit()
	e := l.start(madeDir(t, "bj-1"))
	seq := e.view("the join", admitting).Seq
	l.history(func(w *world) { w.join("bj-1", "unbj", "ws-bj", "127.0.0.1:7299") })
	l.logged("registered with another address")
	if s := l.history(func(*world) {}); s.Seq != seq+1 {
		t.Errorf("it joined again at once: the journal is at %d", s.Seq)
	}
	e.view("the join again", func(v *handshake.View) bool { return v.Seq == seq+2 })
	e.stop()
}

func TestRejoinsAreSpaced(t *testing.T) {
	var r rejoins
	now := start
	if r.wait(now) != 0 {
		t.Error("the first join waits")
	}
	var gaps []time.Duration
	for range 9 {
		r.joined(now)
		gaps = append(gaps, r.wait(now))
		now = now.Add(r.gap)
		if r.wait(now) != 0 || r.wait(now.Add(time.Hour)) != 0 || r.wait(now.Add(-time.Second)) != time.Second {
			t.Errorf("after %s", gaps)
		}
	}
	s := time.Second
	if want := []time.Duration{3 * s, 6 * s, 12 * s, 24 * s, 48 * s, 96 * s, 192 * s, 300 * s, 300 * s}; !slices.Equal(gaps, want) {
		t.Errorf("gaps %s, want %s", gaps, want)
	}
	r.joined(now.Add(time.Hour))
	if r.gap != rejoinEvery {
		t.Errorf("after a join that lasted the gap is %s", r.gap)
	}
}

// The join on the wire names the directory.
func TestJoinOnTheWire(t *testing.T) {
	b, err := json.Marshal(envelope{ID: "1", Actor: "edge/bj-1", Data: events.JoinEdge{ID: "bj-1", Directory: "d1", Unit: "unbj", Cluster: "ws-bj", Address: "h:1"}})
	want := `{"id":"1","actor":"edge/bj-1","data":{"id":"bj-1","directory":"d1","unit":"unbj","cluster":"ws-bj","address":"h:1"}}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}
