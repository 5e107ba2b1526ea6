package journaltest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
)

// What a test with full rights does past the guards of a journal: write many records quickly, or write history anew.

// Message is the message of a record as the journal stores it, without the guards. Actor and reason must be plain.
func Message(ns string, rec events.Record) *nats.Msg {
	m := nats.NewMsg("unitgate.evt." + ns + "." + rec.Entity + "." + rec.Verb + "." + rec.CommandID)
	m.Data = rec.Data
	for key, value := range map[string]string{
		"Unitgate-Type": rec.Type, "Unitgate-Schema": strconv.Itoa(rec.Schema), "Unitgate-Time": rec.Time.Format(time.RFC3339Nano),
		"Unitgate-Actor": rec.Actor, "Unitgate-Prev": rec.Prev,
	} {
		m.Header.Set(key, value)
	}
	if rec.Reason != "" {
		m.Header.Set("Unitgate-Reason", rec.Reason)
	}
	return m
}

// Bulk writes n more events of a namespace without waiting for each, with correct hashes, and brings s to them. They put
// units, 16 different ones: small events, and a state that stays small.
func Bulk(t testing.TB, js jetstream.JetStream, ns string, s *events.State, n int) {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for range n {
		i := s.Seq + 1
		env := events.Envelope{ID: fmt.Sprintf("00000000-0000-4000-8000-%012x", i), Actor: "bulk", Command: events.PutUnit{}}
		var e events.Event = events.UnitPut{Unit: events.Unit{ID: fmt.Sprintf("u%d", i%16), Name: fmt.Sprintf("unit at %d", i)}}
		if s.Seq == 0 {
			env.Command = events.CreateNamespace{}
			e = events.NamespaceCreated{Namespace: ns, Changes: events.Changes{UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 10000}}}}
		}
		rec, err := events.NewRecord(s, env, e, at)
		if err == nil {
			err = s.Apply(rec)
		}
		if err == nil {
			_, err = js.PublishMsgAsync(Message(ns, rec), jetstream.WithStallWait(time.Minute))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(2 * time.Minute):
		t.Fatal("the server does not acknowledge the bulk")
	}
}

// Rewrite replaces what the journal of a namespace holds, under the same epoch: by what change makes of its messages. With
// a hole, the record of that sequence is deleted afterwards.
func Rewrite(t testing.TB, js jetstream.JetStream, ns string, change func([]*nats.Msg) []*nats.Msg, hole uint64) {
	t.Helper()
	name := "UNITGATE_" + ns
	st, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	var all []*nats.Msg
	for seq := uint64(1); seq <= st.CachedInfo().State.LastSeq; seq++ {
		raw, err := st.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		m := &nats.Msg{Subject: raw.Subject, Header: nats.Header{}, Data: raw.Data}
		for key, values := range raw.Header {
			if !strings.HasPrefix(key, "Nats-") {
				m.Header[key] = values
			}
		}
		all = append(all, m)
	}
	cfg.DenyDelete = hole == 0
	st = Recreate(t, js, cfg)
	for _, m := range change(all) {
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if hole > 0 {
		if err := st.DeleteMsg(t.Context(), hole); err != nil {
			t.Fatal(err)
		}
	}
}

// Recreate deletes a stream, if it is there, and makes it anew.
func Recreate(t testing.TB, js jetstream.JetStream, cfg jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	if err := js.DeleteStream(t.Context(), cfg.Name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Fatal(err)
	}
	again := time.NewTicker(20 * time.Millisecond) // the server may still be removing the old files
	defer again.Stop()
	for range 250 {
		st, err := js.CreateStream(t.Context(), cfg)
		if err == nil {
			return st
		}
		var api *jetstream.APIError
		if !errors.As(err, &api) || api.ErrorCode != 10049 { // "error creating store for stream"
			t.Fatal(err)
		}
		<-again.C
	}
	t.Fatal("the stream cannot be made anew")
	return nil
}

// Tampering is one way to break a history of at least six records.
type Tampering struct {
	Change func([]*nats.Msg) []*nats.Msg
	Hole   uint64
	Breaks uint64 // sequence that a reader from the start must name
}

// Tamperings are forged, re-ordered, doubled and deleted records.
func Tamperings() map[string]Tampering {
	return map[string]Tampering{
		"forged": {Change: func(all []*nats.Msg) []*nats.Msg {
			all[3].Header.Set("Unitgate-Actor", "mallory")
			return all
		}, Breaks: 5}, // the first record that does not continue the forged one
		"re-ordered": {Change: func(all []*nats.Msg) []*nats.Msg {
			all[3], all[4] = all[4], all[3]
			return all
		}, Breaks: 4},
		"doubled": {Change: func(all []*nats.Msg) []*nats.Msg {
			return append(all[:4:4], append([]*nats.Msg{all[3]}, all[4:]...)...)
		}, Breaks: 5},
		"deleted": {Change: func(all []*nats.Msg) []*nats.Msg {
			return append(all[:3:3], all[4:]...)
		}, Breaks: 4},
		"a hole": {Change: func(all []*nats.Msg) []*nats.Msg { return all }, Hole: 4, Breaks: 5},
	}
}
