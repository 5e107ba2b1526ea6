package journal_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

func TestOpenAndList(t *testing.T) {
	js := journaltest.StartServer(t).JetStream()
	if _, err := journal.Open(t.Context(), js, "shop"); !errors.Is(err, journal.ErrNoJournal) {
		t.Fatalf("open without a journal: %v", err)
	}
	if _, err := journal.Create(t.Context(), js, "Shop.>", journal.Options{}); !errors.Is(err, journal.ErrInvalid) {
		t.Fatalf("bad namespace: %v", err)
	}
	if names, err := journal.List(t.Context(), js); err != nil || len(names) != 0 {
		t.Fatalf("list of nothing: %v, %v", names, err)
	}
	for _, ns := range []string{"shop", "demo"} {
		created, err := journal.Create(t.Context(), js, ns, journal.Options{})
		if err != nil {
			t.Fatal(err)
		}
		opened, err := journal.Open(t.Context(), js, ns)
		if err != nil || opened.Epoch() != created.Epoch() || opened.Namespace() != ns {
			t.Fatalf("opened %q of epoch %q, %v; want %q", opened.Namespace(), opened.Epoch(), err, created.Epoch())
		}
	}
	foreign(t, js, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"unitgate.evt.other.>"}})
	if found, err := journal.List(t.Context(), js); err != nil || len(found) != 2 || found[0].Name != "demo" || found[1].Name != "shop" || found[1].Epoch == "" {
		t.Fatalf("list: %v, %v", found, err)
	}
}

func TestCreateConcurrently(t *testing.T) {
	js := journaltest.StartServer(t).JetStream()
	const creators = 8
	var mu sync.Mutex
	epochs := map[string]bool{}
	var wg sync.WaitGroup
	for range creators {
		wg.Go(func() {
			j, err := journal.Create(t.Context(), js, "shop", journal.Options{Replicas: 1})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			epochs[j.Epoch()] = true
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(epochs) != 1 {
		t.Fatalf("%d creators made %d journals", creators, len(epochs))
	}
}

func TestForeignStream(t *testing.T) {
	meta := func(pairs ...string) map[string]string {
		m := map[string]string{"unitgate-epoch": "e", "unitgate-schema": "1"}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	ours := jetstream.StreamConfig{Name: "UNITGATE_shop", Subjects: []string{"unitgate.evt.shop.>"}, Metadata: meta(), DenyDelete: true, DenyPurge: true}
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"no epoch":       func(c *jetstream.StreamConfig) { c.Metadata = nil },
		"newer schema":   func(c *jetstream.StreamConfig) { c.Metadata = meta("unitgate-schema", "2") },
		"other subjects": func(c *jetstream.StreamConfig) { c.Subjects = []string{"unitgate.evt.shop.>", "x"} },
		"ages":           func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"bounded":        func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 },
		"deletable":      func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		"in memory":      func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
	} {
		t.Run(name, func(t *testing.T) {
			js := journaltest.StartServer(t).JetStream()
			cfg := ours
			change(&cfg)
			foreign(t, js, cfg)
			if _, err := journal.Open(t.Context(), js, "shop"); !errors.Is(err, journal.ErrForeign) {
				t.Errorf("open: %v", err)
			}
			if _, err := journal.Create(t.Context(), js, "shop", journal.Options{}); !errors.Is(err, journal.ErrForeign) {
				t.Errorf("create: %v", err)
			}
		})
	}
}

func foreign(t testing.TB, js jetstream.JetStream, cfg jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	return journaltest.Recreate(t, js, cfg)
}

func TestDeletesAreDenied(t *testing.T) {
	js := journaltest.StartServer(t).JetStream()
	j := newStream(t, js)
	journaltest.Fill(t, j, journal.Cursor{}, 1, 3)
	st, err := js.Stream(t.Context(), "UNITGATE_shop")
	if err != nil {
		t.Fatal(err)
	}
	if err := st.DeleteMsg(t.Context(), 2); err == nil {
		t.Error("a record could be deleted")
	}
	if err := st.Purge(t.Context()); err == nil {
		t.Error("the journal could be purged")
	}
	rollup := nats.NewMsg("unitgate.evt.shop.unit.put.x")
	rollup.Header.Set("Nats-Rollup", "all")
	if _, err := js.PublishMsg(t.Context(), rollup); err == nil {
		t.Error("the journal could be rolled up")
	}
	if n := len(journaltest.All(t, j)); n != 3 {
		t.Errorf("%d records are left, want 3", n)
	}
}

// TestLiveSubject: stored events reappear under unitgate.live with the tokens after the namespace kept.
func TestLiveSubject(t *testing.T) {
	srv := journaltest.StartServer(t)
	j := newStream(t, srv.JetStream())
	nc := srv.Connect()
	sub, err := nc.SubscribeSync("unitgate.live.shop.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	journaltest.Fill(t, j, journal.Cursor{}, 1, 1)
	m, err := sub.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if want := "unitgate.live.shop.unit.put." + journaltest.Record(1).CommandID; m.Subject != want || string(m.Data) != `{"n":1}` {
		t.Fatalf("republished %s %s, want %s", m.Subject, m.Data, want)
	}
}

// lossy loses the acknowledgement of a publish, and the publish itself if drop is set.
type lossy struct {
	jetstream.JetStream
	drop bool
}

func (l lossy) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if !l.drop {
		if _, err := l.JetStream.PublishMsg(ctx, m, opts...); err != nil {
			return nil, err
		}
	}
	return nil, nats.ErrTimeout
}

// TestLostAcknowledgement: an append without an answer is resolved by looking; when that tells nothing, ErrUnknown.
func TestLostAcknowledgement(t *testing.T) {
	js := journaltest.StartServer(t).JetStream()
	newStream(t, js)
	open := func(l lossy) *journal.Stream {
		j, err := journal.Open(t.Context(), l, "shop")
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	if stored, err := open(lossy{js, false}).Append(t.Context(), 0, journaltest.Record(1)); err != nil || stored.Seq != 1 {
		t.Fatalf("stored but not acknowledged: %d, %v", stored.Seq, err)
	}
	next := journaltest.Record(2)
	next.Prev = journaltest.All(t, open(lossy{js, false}))[0].Hash()
	if _, err := open(lossy{js, true}).Append(t.Context(), 1, next); !errors.Is(err, journal.ErrUnknown) {
		t.Fatalf("lost on the way: %v", err)
	}
	again := journaltest.Record(1)
	again.Prev, again.Actor = next.Prev, "someone else"
	if _, err := open(lossy{js, true}).Append(t.Context(), 1, again); !errors.Is(err, journal.ErrDuplicate) {
		t.Fatalf("lost on the way, took effect before: %v", err)
	}
}

// TestAppendWithoutServer: with the link cut, an append ends in bounded time and claims nothing.
func TestAppendWithoutServer(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		j := newStream(t, srv.JetStream())
		srv.Cut()
		start := time.Now()
		if _, err := j.Append(t.Context(), 0, journaltest.Record(1)); !errors.Is(err, journal.ErrUnknown) {
			t.Errorf("append without a server: %v", err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		srv.Heal()
		follower := journaltest.Follow(t, j, journal.Cursor{}) // waits for the connection
		// Whether the first attempt has arrived late or was lost: the same record again is in once.
		if _, err := j.Append(t.Context(), 0, journaltest.Record(1)); err != nil {
			t.Errorf("append again: %v", err)
		}
		follower.Next()
		if n := len(journaltest.All(t, j)); n != 1 {
			t.Errorf("%d records, want 1", n)
		}
	})
}

// stoodStill is the context of a process that was stopped beyond its time and whose timers have not noticed yet.
type stoodStill struct{ context.Context }

func (stoodStill) Deadline() (time.Time, bool) { return time.Now().Add(-time.Second), true }

func TestAppendAfterItsTime(t *testing.T) {
	j := newStream(t, journaltest.StartServer(t).JetStream())
	if _, err := j.Append(stoodStill{t.Context()}, 0, journaltest.Record(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("append after the caller's time: %v", err)
	}
	if n := len(journaltest.All(t, j)); n != 0 {
		t.Errorf("%d records, want none", n)
	}
}
