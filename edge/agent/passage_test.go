package agent

import (
	"testing"

	"github.com/unitgate/unitgate/events"
)

func (b *bench) sinceCommit(id string) events.CommitCounts {
	p := progress{counts: b.a.counts, commits: b.a.commits}
	return p.sinceCommit("unit_type", id)
}

// What a gate judges is counted from the moment at which the edge began to decide by the commit.
func TestCountsSinceTheCommit(t *testing.T) {
	b := newBench(t)
	b.settle()
	id := b.w.begin(6380, 0)
	b.w.fence(id)
	b.settle()
	b.counters.Counters = events.Counters{Handshakes: 100, HandshakeErrors: 10, Dials: 90, DialErrors: 5}
	b.counted()
	if c := b.sinceCommit(id); c != (events.CommitCounts{}) {
		t.Errorf("before the commit: %+v", c)
	}
	fence := b.w.state.Cutovers[id].Waves[0].FenceSeq
	b.w.commit(id)
	b.settle()
	b.counters.Counters = events.Counters{Handshakes: 107, HandshakeErrors: 11, Dials: 94, DialErrors: 5}
	b.counted()
	want := events.CommitCounts{Fence: fence, Whole: true, Counters: events.Counters{Handshakes: 7, HandshakeErrors: 1, Dials: 4}}
	if c := b.sinceCommit(id); c != want {
		t.Errorf("after the commit: %+v, want %+v", c, want)
	}
	b.w.complete(id)
	b.settle()
	if c := b.sinceCommit(id); c != want {
		t.Errorf("the end of the cutover changes nothing: %+v", c)
	}
	if c := b.sinceCommit("c9"); c != (events.CommitCounts{}) {
		t.Errorf("another cutover: %+v", c)
	}
	if r := b.a.last.Counters["unit_type"]; r.Handshakes != 107 && r.Handshakes != 100 {
		t.Errorf("reported: %+v", r)
	}
}

// A process that starts with the commit on disk cannot know what the one before it has counted, and says so.
func TestCountsAfterARestart(t *testing.T) {
	b := newBench(t)
	id := b.w.begin(6380, 0)
	b.w.fence(id)
	b.w.commit(id)
	s := b.w.state.Clone()
	b.step(Restored{b.now, "E1", s, s.Hash()})
	b.install(s.Seq)
	b.counters.Handshakes = 3
	b.counted()
	if c := b.sinceCommit(id); c.Whole || c.Fence == 0 || c.Counters.Handshakes != 3 {
		t.Errorf("%+v", c)
	}
}

// The question reaches the relay, with what was counted since the commit beside it.
func TestCutoverQuestion(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	defer e.stop()
	l.report("a join", func(r events.EdgeReport) bool { return r.Applied > 1 })
	var a events.CutoverAnswer
	e.ask("cutover", events.CutoverQuestion{Cutover: "c1", Fences: []uint64{7, 9}, Users: 5}, &a)
	if !a.Known || a.Evicted != 2 || a.Landed != 5 || a.Commit != (events.CommitCounts{}) {
		t.Errorf("%+v", a)
	}
	var answer struct{ Error *events.Error }
	for _, bad := range []any{events.CutoverQuestion{Users: maxPassageUsers + 1}, map[string]any{"cut": 1}} {
		if e.ask("cutover", bad, &answer); answer.Error == nil {
			t.Errorf("%+v is answered", bad)
		}
	}
}
