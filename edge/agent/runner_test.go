package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/routing"
)

// An edge catches up, joins, and reports the sequence of its own join with the hash that everyone has there (G4).
func TestJoinsAndReports(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	v := e.view("the edge's own join", admitting)
	r := l.report("the join", at(v.Seq))
	s := l.history(func(*world) {})
	me := s.Edges[e.r.ID()]
	if me.Unit != "unbj" || me.Cluster != "ws-bj" || me.Address != "127.0.0.1:7201" || me.Capacity != 100 || s.Seq != v.Seq {
		t.Errorf("joined as %+v at %d", me, s.Seq)
	}
	if r.StateHash != s.Hash() || r.Epoch != l.journal.Epoch() || r.Edge != e.r.ID() || r.Incarnation == "" {
		t.Errorf("%+v", r)
	}
	if !e.r.Ready() {
		t.Error("not ready")
	}
	e.stop()
	saved, err := openDir(t, e.dir.path, "").Load()
	if err != nil || saved.State.Seq != s.Seq || saved.Hash != s.Hash() {
		t.Errorf("on disk: %+v, %v", saved, err)
	}
}

// Fence, eviction at the cutover's rate, drained only when the last victim is gone; all of it through NATS.
func TestFenceThroughTheBus(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	e.view("the join", admitting)
	l.history(func(w *world) { w.join("hz-1", "center", "ws-hz", "127.0.0.1:7101") }) // someone gains the users
	e.relay.set(Counts{Sessions: 2, Evicted: 10})
	fenced := l.history(func(w *world) {
		w.fence(w.begin(6381, 50))
	})
	r := l.report("the fence", at(fenced.Seq))
	if len(r.Fences) != 1 || r.Fences[0] != (events.FenceReport{Cutover: "c1", Fence: fenced.Seq}) {
		t.Errorf("%+v", r.Fences)
	}
	if got := <-e.relay.evicts; got != (Evict{"unit_type", 50}) {
		t.Errorf("evicts %+v", got)
	}
	e.relay.set(Counts{Sessions: 0, Evicted: 12})
	r = l.report("drained", func(r events.EdgeReport) bool { return len(r.Fences) == 1 && r.Fences[0].Drained })
	if r.Fences[0].Evicted != 2 {
		t.Errorf("%+v", r.Fences)
	}
	committed := l.history(func(w *world) { w.commit("c1") })
	if r = l.report("the commit", at(committed.Seq)); len(r.Fences) != 0 || r.Moved[0] != (events.MovedReport{Cutover: "c1", Evicted: 2}) {
		t.Errorf("%+v", r)
	}
	e.stop()
}

// Events that have nothing to do with it come while sessions are evicted: the log does not tell of the eviction anew with
// each of them.
func TestEvictionIsLoggedOnce(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	e.view("the join", admitting)
	l.history(func(w *world) { w.join("hz-1", "center", "ws-hz", "127.0.0.1:7101") })
	e.relay.set(Counts{Sessions: 2})
	l.history(func(w *world) { w.fence(w.begin(6381, 50)) })
	<-e.relay.evicts
	for n := range 3 {
		other := l.history(func(w *world) { w.do(events.PutUnit{Unit: events.Unit{ID: "unsh", Name: strconv.Itoa(n)}}) })
		l.report("another event", at(other.Seq))
		<-e.relay.evicts // ordered again, since each state may leave victims of its own
	}
	e.stop()
	told := 0
	for range len(l.logs) {
		if strings.Contains(<-l.logs, "evicting sessions") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the log told %d times of one eviction", told)
	}
}

// Nobody answers at first ("no responders"): the edge tries again until it is in.
func TestJoinIsRetried(t *testing.T) {
	l := newLab(t)
	e := l.start(t.TempDir())
	l.logged("cannot join yet")
	l.admit()
	e.view("the join", admitting)
	e.stop()
}

// The cluster is configured only later: the edge is refused, says so, and goes on trying.
func TestRefusedJoinIsRetried(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir(), func(c *Config) { c.Cluster = "ws-new" })
	if line := l.logged("unknown_cluster"); strings.Count(line, " edge=") != 1 {
		t.Errorf("the line names its edge more than once: %s", line)
	}
	l.history(func(w *world) { w.do(events.PutCluster{Cluster: events.Cluster{ID: "ws-new", Unit: "unbj"}}) })
	e.view("the join", admitting)
	e.stop()
}

// A cluster may list who joins: another edge is refused, is told what to do, and joins once it stands in the list.
func TestListedInstancesJoin(t *testing.T) {
	l := newLab(t)
	l.admit()
	listed := func(ids ...string) {
		l.history(func(w *world) {
			w.do(events.PutCluster{Cluster: events.Cluster{ID: "ws-bj", Unit: "unbj", Instances: ids}})
		})
	}
	listed("bj-7")
	e := l.start(madeDir(t, "bj-1"))
	if line := l.logged("not_allowed"); !strings.Contains(line, "add it to its instances") {
		t.Errorf("what to do is not said: %s", line)
	}
	listed("bj-7", "bj-1")
	e.view("the join", admitting)
	e.stop()
}

// What no waiting can mend ends the edge with the reason.
func TestRefusedForEver(t *testing.T) {
	for name, c := range map[string]struct {
		before func(w *world)
		change func(*Config)
		want   error
	}{
		"edge_moved": {
			before: func(w *world) { w.join("bj-1", "center", "ws-hz", "127.0.0.1:7101") },
			want:   events.ErrEdgeMoved,
		},
		"bad address": {change: func(c *Config) { c.Advertise = "nowhere" }, want: events.ErrBadValue},
		"retired": {
			before: func(w *world) {
				w.join("bj-1", "unbj", "ws-bj", "127.0.0.1:7201")
				w.do(events.RetireEdge{ID: "bj-1", Reason: "test"})
			},
			want: ErrGone,
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.admit()
			if c.before != nil {
				l.history(c.before)
			}
			e := l.start(madeDir(t, "bj-1"), func(cfg *Config) {
				if c.change != nil {
					c.change(cfg)
				}
			})
			if err := e.end(); !errors.Is(err, c.want) {
				t.Errorf("ended with %v, want %v", err, c.want)
			}
		})
	}
}

// "edge_gone" comes by request only if the state does not tell; here it does, while the edge runs: an operator retires it.
func TestRetiredWhileRunning(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	e.view("the join", admitting)
	l.history(func(w *world) { w.do(events.RetireEdge{ID: e.r.ID(), Reason: "test"}) })
	if err := e.end(); !errors.Is(err, ErrGone) {
		t.Errorf("ended with %v", err)
	}
}

// A new address or capacity is joined anew, under the same id.
func TestNewAddressIsJoined(t *testing.T) {
	l := newLab(t)
	l.admit()
	path := t.TempDir()
	e := l.start(path)
	first := e.view("the join", admitting).Seq
	e.stop()
	e = l.start(path, func(c *Config) { c.Advertise = "127.0.0.1:7299" })
	e.view("the second join", func(v *handshake.View) bool { return v.Seq == first+1 })
	if s := l.history(func(*world) {}); s.Edges[e.r.ID()].Address != "127.0.0.1:7299" || s.Edges[e.r.ID()].Joined != first {
		t.Errorf("%+v", s.Edges)
	}
	e.stop()
}

// G5: "edges … also start that way from their state directory", with NATS down, say that they are stale, and converge
// when it returns.
func TestStartsWithNATSDown(t *testing.T) {
	l := newLab(t)
	l.admit()
	path := t.TempDir()
	e := l.start(path)
	seq := e.view("the join", admitting).Seq
	l.report("the join", at(seq))
	e.stop()
	l.srv.Stop()

	e = l.start(path)
	if v := e.view("the stored state", admitting); v.Seq != seq {
		t.Errorf("serves by %d, want %d", v.Seq, seq)
	}
	if st := e.r.Status(t.Context()); st.Connected || st.Staleness <= 0 || st.Broken != "" || st.Head != seq {
		t.Errorf("%+v", st)
	}
	l.srv.Start()
	s := l.history(func(w *world) { w.join("bj-9", "unbj", "ws-bj", "127.0.0.1:7209") })
	l.report("the news", at(s.Seq))
	e.stop()
}

// A cut of the link ends nothing: the edge serves on, catches up, and reports at once.
func TestLinkIsCut(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir(), func(c *Config) {
		c.NATS.Options = append(c.NATS.Options, nats.DisconnectErrHandler(func(*nats.Conn, error) { l.logs <- "link is down" }))
	})
	e.view("the join", admitting)
	l.srv.Cut()
	l.logged("link is down")
	l.srv.Heal()
	s := l.history(func(w *world) { w.join("bj-9", "unbj", "ws-bj", "127.0.0.1:7209") })
	l.report("the news", at(s.Seq))
	e.stop()
}

// An event that this program does not understand stops the following loudly: the edge serves and reports its last good
// state, and not a sequence more.
func TestUnreadableEvent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	seq := e.view("the join", admitting).Seq
	l.report("the join", at(seq))
	l.history(func(w *world) {
		l.append(events.Record{
			Seq: seq + 1, Entity: "future", Verb: "invented", CommandID: "00000000-0000-4000-8000-0000000000ff", Type: "FutureInvented",
			Schema: 1, Time: start, Actor: "test", Prev: w.state.Chain, Data: []byte(`{}`),
		})
	})
	l.logged("cannot follow the journal any more")
	var st Status
	e.ask("status", struct{}{}, &st)
	if st.Applied != seq || !strings.Contains(st.Broken, "FutureInvented") || !st.Joined {
		t.Errorf("%+v", st)
	}
	l.report("the last good state again", at(seq))
	e.stop()
}

// A state of another journal is not continued: the edge starts over from the journal that there is.
func TestStoredStateOfAnotherEpoch(t *testing.T) {
	l := newLab(t)
	l.admit()
	path := madeDir(t, "bj-1")
	d := openDir(t, path, "bj-1")
	if _, err := d.Save("another epoch", newWorld(t, nil).join("bj-1", "unbj", "ws-bj", "127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	e := l.start(path)
	l.logged("created anew")
	r := l.report("the join in this journal", func(r events.EdgeReport) bool { return r.Epoch == l.journal.Epoch() && r.Applied == 2 })
	if s := l.history(func(*world) {}); r.StateHash != s.Hash() {
		t.Errorf("hash %s, want %s", r.StateHash, s.Hash())
	}
	e.stop()
}

// A state directory of another namespace is refused before anything is served from it.
func TestStateOfAnotherNamespace(t *testing.T) {
	l := newLab(t)
	d := openDir(t, t.TempDir(), "bj-1")
	if _, err := d.Save("E", l.w.state); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Config{Namespace: "other", Unit: "unbj", Dir: d, NATS: NATS{Conn: l.nc}}); !errors.Is(err, ErrOtherID) {
		t.Errorf("got %v", err)
	}
}

// Without a stored state an edge starts from the newest snapshot; a snapshot of another journal is passed over.
func TestStartsFromSnapshot(t *testing.T) {
	l := newLab(t)
	s := l.history(func(w *world) { w.join("hz-1", "center", "ws-hz", "127.0.0.1:7101") })
	l.history(func(w *world) { w.join("hz-2", "center", "ws-hz", "127.0.0.1:7102") })
	js := l.srv.JetStream()
	f := newFollower("demo", js.Conn(), js, nil, discard())
	if at := f.begin(t.Context(), l.journal, 3); at.Seq != 0 {
		t.Errorf("without snapshots it begins at %d", at.Seq)
	}
	snaps, err := journal.CreateSnapshots(t.Context(), js, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for epoch, want := range map[string]uint64{"another": 0, l.journal.Epoch(): s.Seq} {
		if err := snaps.Put(t.Context(), "demo", journal.Cursor{Epoch: epoch, Seq: s.Seq, Hash: s.Chain}, s.Encode()); err != nil {
			t.Fatal(err)
		}
		f := newFollower("demo", js.Conn(), js, nil, discard())
		if at := f.begin(t.Context(), l.journal, 3); at.Seq != want || f.state.Seq != want {
			t.Errorf("snapshot of epoch %q: begins at %d, want %d", epoch, at.Seq, want)
		}
		if _, s := f.newer("", 0); s != nil {
			t.Error("a state from before the head is handed out")
		}
	}
}

// A state that cannot be stored is served and not reported; it is reported when the disk takes it.
func TestDiskRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.admit()
	path := t.TempDir()
	e := l.start(path)
	seq := e.view("the join", admitting).Seq
	l.report("the join", at(seq))
	obstacle := filepath.Join(path, tempFile)
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	s := l.history(func(w *world) { w.join("bj-9", "unbj", "ws-bj", "127.0.0.1:7209") })
	e.view("the news", func(v *handshake.View) bool { return v.Seq == s.Seq })
	l.logged("could not be stored")
	if st := e.r.Status(t.Context()); st.Applied != seq || st.Installed != s.Seq {
		t.Errorf("applied %d, installed %d", st.Applied, st.Installed)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	l.report("the news", at(s.Seq))
	e.stop()
}

func TestQuestions(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	seq := e.view("the join", admitting).Seq
	var got routing.Keys
	var spared routing.IDs
	e.relay.mu.Lock()
	e.relay.onKeys = func(_ string, k routing.Keys, except routing.IDs) int { got, spared = k, except; return 42 }
	e.relay.mu.Unlock()
	e.relay.set(Counts{Sessions: 3, Held: 2, Victims: 1})

	r := l.report("sessions", func(r events.EdgeReport) bool { return r.Sessions["unit_type"] == 3 && r.Applied == seq })
	var st Status
	e.ask("status", struct{}{}, &st)
	if st.Applied != r.Applied || st.Head != r.Applied || st.Edge != e.r.ID() || !st.Joined || st.Held["unit_type"] != 2 ||
		st.RuleVersion["unit_type"] != 1 || st.Address != "127.0.0.1:7201" || st.Capacity != 100 {
		t.Errorf("%+v", st)
	}

	var n events.CountAnswer
	e.ask("sessions", events.CountQuestion{UnitType: "unit_type", Slots: []string{"0-9", "77"}, Except: routing.MustIDs("7"), Exact: routing.MustIDs("a")}, &n)
	if n.Sessions != 42 || len(got.Slots) != 2 || got.Slots[0] != (routing.Range{From: 0, To: 9}) || !got.Exact.Equal(routing.MustIDs("a")) || !spared.Equal(routing.MustIDs("7")) {
		t.Errorf("%d of %+v", n.Sessions, got)
	}
	long := make([]string, 20_000) // which makes the question travel packed
	for i := range long {
		long[i] = fmt.Sprintf("%d@customers.example.com", i)
	}
	e.ask("sessions", events.CountQuestion{UnitType: "unit_type", Exact: routing.MustIDs(long...)}, &n)
	if n.Sessions != 42 || got.Exact.Len() != len(long) {
		t.Errorf("%d of %d exact IDs", n.Sessions, got.Exact.Len())
	}
	e.ask("sessions", events.CountQuestion{RouterID: "6249"}, &n)
	if n.Sessions != len("unit_type6249") {
		t.Errorf("of a routerId: %d; the default unit type is asked for", n.Sessions)
	}
	n = events.CountAnswer{}
	e.ask("sessions", events.CountQuestion{Domains: []string{"a.example", "b"}}, &n)
	if n.Domains["a.example"] != 9 || n.Domains["b"] != 1 || n.Sessions != 10 {
		t.Errorf("of domains: %+v", n)
	}
	many := make([]string, events.MaxDomains+1)
	for _, bad := range []any{map[string]int{"nonsense": 1}, events.CountQuestion{Slots: []string{"9-0"}}, events.CountQuestion{Domains: many}} {
		var answer struct{ Error *events.Error }
		if m := e.ask("sessions", bad, &answer); answer.Error == nil || m.Header.Get(micro.ErrorCodeHeader) != answer.Error.Code {
			t.Errorf("%v: %s", bad, m.Data)
		}
	}
	e.stop()
}

// TestEvictQuestion: an operator's act that stands in no journal is in the log of the edge, with who and why.
func TestEvictQuestion(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	e.view("the join", admitting)
	var n events.EvictAnswer
	e.ask("evict", events.EvictQuestion{RouterID: "6249", Actor: "ops@hz", Reason: "a test"}, &n)
	if n.Sessions != len("unit_type6249") {
		t.Errorf("%d sessions; the default unit type is asked for", n.Sessions)
	}
	l.logged(`routerId=6249 unitType=unit_type sessions=13 actor=ops@hz reason="a test"`)
	for _, bad := range []events.EvictQuestion{{}, {RouterID: "a b"}, {RouterID: "1", Reason: "two\nlines"}, {RouterID: "1", Actor: strings.Repeat("a", 300)}} {
		var answer struct{ Error *events.Error }
		if m := e.ask("evict", bad, &answer); answer.Error == nil || m.Header.Get(micro.ErrorCodeHeader) != answer.Error.Code {
			t.Errorf("%v: %s", bad, m.Data)
		}
	}
	e.stop()
}

// "target-origins (probed by the gaining unit's edges)": who accepts is fine, who does not is named with the reason.
func TestProbe(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	up, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := down.Addr().String()
	_ = down.Close()
	e.view("the join", admitting)
	var a events.ProbeAnswer
	e.ask("probe", events.ProbeQuestion{Origins: []string{up.Addr().String(), refused, "no port"}}, &a)
	if len(a.Failed) != 2 || !strings.Contains(a.Failed[refused], "refused") || a.Failed["no port"] == "" {
		t.Errorf("%+v", a)
	}
	var answer struct{ Error *events.Error }
	if e.ask("probe", events.ProbeQuestion{Origins: make([]string, events.MaxProbes+1)}, &answer); answer.Error == nil {
		t.Error("too many origins are probed")
	}
	e.stop()
}

// The JSON of a status is that of a report with more fields, so that either decodes as a report.
func TestStatusIsAReport(t *testing.T) {
	b, err := json.Marshal(Status{EdgeReport: events.EdgeReport{Applied: 7, Edge: "bj-1"}, Head: 9})
	var r events.EdgeReport
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil || r.Applied != 7 || r.Edge != "bj-1" {
		t.Errorf("%s: %v", b, err)
	}
}
