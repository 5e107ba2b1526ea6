package reader_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

// A snapshot of a history that the journal no longer has is named, not answered from.
func TestStateOfALostHistory(t *testing.T) {
	for name, lose := range map[string]func([]*nats.Msg) []*nats.Msg{
		"truncated": func(m []*nats.Msg) []*nats.Msg { return m[:4] },
		"its last record written anew": func(m []*nats.Msg) []*nats.Msg {
			m[5].Data = []byte(`{"id":"evil"}`)
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			js := journaltest.StartServer(t).JetStream()
			j, err := journal.Create(t.Context(), js, "shop", journal.Options{})
			if err != nil {
				t.Fatal(err)
			}
			states := fill(t, j, 6)
			snaps := journal.NewMemorySnapshots()
			at := journal.Cursor{Epoch: j.Epoch(), Seq: 6, Hash: states[6].Chain}
			if err := snaps.Put(t.Context(), "shop", at, states[6].Encode()); err != nil {
				t.Fatal(err)
			}
			journaltest.Rewrite(t, js, "shop", lose, 0)
			if j, err = journal.Open(t.Context(), js, "shop"); err != nil {
				t.Fatal(err)
			}
			r := reader.New(j, snaps, quiet())
			if s, err := r.State(t.Context()); !errors.Is(err, reader.ErrBroken) {
				t.Errorf("answered %v with %v, want the break", s, err)
			}
			for _, from := range []uint64{1, 3, 7} { // what `log` shows
				if err := r.Records(t.Context(), from, func(events.Record) error { return nil }); !errors.Is(err, reader.ErrBroken) {
					t.Errorf("records from %d on: %v, want the break", from, err)
				}
			}
			// what `rules diff` asks for
			if s, err := r.When(t.Context(), func(s *events.State) bool { return s.Seq == 3 }); !errors.Is(err, reader.ErrBroken) {
				t.Errorf("a state of the past is %v with %v, want the break", s, err)
			}
		})
	}
}
