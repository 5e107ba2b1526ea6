package projector_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/projector"
)

// A state with four lists of 100,000 exact IDs passes what a NATS message holds, so its snapshot has chunks. It is read
// again as it was; where a chunk is gone the journal is replayed from the start, to the same state.
func TestSnapshotOfLongLists(t *testing.T) {
	js := journaltest.StartServer(t).JetStream()
	j, err := journal.Create(t.Context(), js, "shop", journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	snaps, err := journal.CreateSnapshots(t.Context(), js, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := events.NewState()
	give := func(c events.Command) {
		t.Helper()
		env := events.Envelope{ID: uuid.NewString(), Command: c}
		e, err := events.Decide(want, "shop", env, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		rec, err := events.NewRecord(want, env, e, time.Now())
		if err == nil {
			rec, err = j.Append(t.Context(), want.Seq, rec)
		}
		if err == nil {
			want, err = events.Evolve(want, rec)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var types []events.UnitType
	for n := range uint64(4) {
		types = append(types, events.UnitType{Name: fmt.Sprintf("type-%d", n), Slots: 10})
	}
	give(events.ApplyConfig{Config: events.Config{Namespace: "shop", UnitTypes: types, Units: []events.Unit{{ID: "center"}}}})
	r := rand.New(rand.NewPCG(5, 6)) // sorted, they hardly compress
	for _, ut := range types {
		set := map[string]bool{}
		for len(set) < routing.MaxExact {
			set[fmt.Sprint(10_000_000_000+r.Uint64N(10_000_000_000))] = true
		}
		ids := slices.Collect(maps.Keys(set))
		give(events.InitRules{UnitType: ut.Name, RulesConfig: events.RulesConfig{
			Ranges:     map[string][]routing.Range{"center": {{From: 0, To: 9}}},
			ExactDelta: map[string]routing.Packed{"center": routing.Pack(routing.MustIDs(ids...))},
		}})
	}
	state := want.Encode()
	if err := snaps.Put(t.Context(), "shop", journal.Cursor{Epoch: j.Epoch(), Seq: want.Seq, Hash: want.Chain}, state); err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), journal.SnapshotBucket)
	if err != nil {
		t.Fatal(err)
	}
	chunks := chunkKeys(t, kv)
	if len(chunks) < 2 {
		t.Fatalf("%d bytes of state are in %d chunks", len(state), len(chunks))
	}

	check := func(how string, warned bool) {
		t.Helper()
		var log bytes.Buffer
		p := projector.New(j, snaps, false, slog.New(slog.NewTextHandler(&log, nil)))
		stop := running(t.Context(), p)
		got, err := p.Await(t.Context(), want.Seq)
		if err != nil || !bytes.Equal(got.Encode(), state) {
			t.Errorf("%s: the state differs (%v)", how, err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if strings.Contains(log.String(), "unusable") != warned {
			t.Errorf("%s: %s", how, log.String())
		}
	}
	check("from the snapshot", false)
	if err := kv.Delete(t.Context(), chunks[1]); err != nil {
		t.Fatal(err)
	}
	check("from the journal", true)
}

func chunkKeys(t *testing.T, kv jetstream.KeyValue) []string {
	t.Helper()
	l, err := kv.ListKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for key := range l.Keys() {
		if strings.Contains(key, ".chunk.") {
			out = append(out, key)
		}
	}
	return out
}
