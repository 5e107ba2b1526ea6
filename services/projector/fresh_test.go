package projector_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server/ats"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/projector"
)

// TestMain registers the server's clock outside of any synctest bubble; see journaltest.Bubble.
func TestMain(m *testing.M) {
	ats.Register()
	code := m.Run()
	ats.Unregister()
	os.Exit(code)
}

// A controller says how stale it is as an edge does: by the beacons of the office, its own or another's, and by nothing
// that anybody else says; its head is what the journal told.
func TestStaleness(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		js := srv.JetStream()
		j, err := journal.Create(t.Context(), js, "shop", journal.Options{})
		if err != nil {
			t.Fatal(err)
		}
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
		s := add(t, j, add(t, j, events.NewState()))
		s = take(t, j, s, key)

		p := projector.New(j, nil, false, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		defer func() { stop(); <-done }()
		if err := p.Listen(ctx, js.Conn()); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Await(ctx, s.Seq); err != nil {
			t.Fatal(err)
		}
		up := time.Second
		beacon := func(s *events.State, age time.Duration) events.Beacon {
			up += time.Second
			return events.Beacon{Namespace: "shop", Epoch: j.Epoch(), Seq: s.Seq, Hash: s.Chain, Age: events.Duration(age), Up: events.Duration(up)}
		}
		speak := func(b events.Beacon) {
			t.Helper()
			m, err := json.Marshal(b)
			if err == nil {
				err = js.Conn().Publish("unitgate.beacon.shop", m)
			}
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		want := func(what string, head uint64, stale time.Duration) {
			t.Helper()
			if h, d := p.Standing(t.Context()); h != head || d.Round(100*time.Millisecond) != stale {
				t.Errorf("%s: head %d, stale for %v; want %d, %v", what, h, d, head, stale)
			}
		}
		time.Sleep(time.Hour)
		want("nobody has vouched since it started", s.Seq, time.Hour)
		speak(beacon(s, 0))
		want("unsigned", s.Seq, time.Hour)
		speak(beacon(&events.State{Seq: 99, Chain: "x"}, 0))
		want("forged", s.Seq, time.Hour)
		speak(beacon(s, time.Second).Signed(key))
		want("vouched for", s.Seq, time.Second)
		time.Sleep(time.Minute)
		want("the office is silent", s.Seq, time.Minute+time.Second)
		s = add(t, j, s)
		synctest.Wait()
		want("having read everything", s.Seq, time.Minute+time.Second)
		speak(beacon(s, 0).Signed(key))
		want("vouched for", s.Seq, 0)
	})
}

// take puts somebody into office.
func take(t *testing.T, j journal.Journal, s *events.State, key ed25519.PrivateKey) *events.State {
	t.Helper()
	env := events.Envelope{ID: uuid.NewString(), Command: events.TakeOffice{Term: 1, Holder: "x", Key: hex.EncodeToString(key.Public().(ed25519.PublicKey))}}
	e, err := events.Decide(s, j.Namespace(), env, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := events.NewRecord(s, env, e, time.Now())
	if err == nil {
		rec, err = j.Append(t.Context(), s.Seq, rec)
	}
	if err != nil {
		t.Fatal(err)
	}
	next, err := events.Evolve(s, rec)
	if err != nil {
		t.Fatal(err)
	}
	return next
}
