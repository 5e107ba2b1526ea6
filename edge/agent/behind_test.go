package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

// Beacons that come faster than their events are applied: an edge that is one event behind says so, and no more.
func TestStalenessOfAnEdgeThatIsAMomentBehind(t *testing.T) {
	f := newFollower("shop", nil, nil, nil, slog.New(slog.DiscardHandler))
	j := journal.NewMemory("shop")
	f.journal, f.epoch = j, j.Epoch()
	start := time.Now()
	f.Current = start
	f.state.Office = events.Office{Term: 1, Holder: "driver", Key: officePublic()}
	for n := uint64(1); n <= 1000; n++ {
		now := start.Add(time.Duration(n) * 60 * time.Millisecond)
		f.hear(events.Beacon{Namespace: "shop", Epoch: j.Epoch(), Seq: n, Hash: "x", Up: events.Duration(n)}.Signed(officeKey()), now)
		if n > 1 {
			f.mu.Lock()
			f.state.Seq, f.state.Chain = n-1, "x"
			f.reached()
			f.mu.Unlock()
		}
	}
	if _, stale, _ := f.standing(start.Add(60 * time.Second)); stale > 2*time.Second {
		t.Errorf("always one event behind, staleness %v", stale)
	}
}

// A state that was stored by a clock that was ahead is of unknown age.
func TestStateFromTheFuture(t *testing.T) {
	w := newWorld(t, nil)
	path := madeDir(t, "bj-1")
	d, err := OpenStateDir(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Save("epoch", w.state); err != nil {
		t.Fatal(err)
	}
	ahead := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(path, "state.json"), ahead, ahead); err != nil {
		t.Fatal(err)
	}
	saved, err := d.Load()
	if err != nil || time.Since(saved.At) < 24*time.Hour {
		t.Errorf("stored at %v (%v)", saved.At, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
