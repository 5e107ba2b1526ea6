package command_test

import (
	"context"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/command"
)

// mute takes requests on the api's subject and never answers.
func mute(t *testing.T, nc *nats.Conn) (asked func() int) {
	t.Helper()
	sub, err := nc.SubscribeSync("unitgate.api.shop.>")
	if err != nil {
		t.Fatal(err)
	}
	return func() int {
		n, _, err := sub.Pending()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// "after a timeout the client library … look[s] there before [it] retr[ies]": an answer that got lost is found in the
// journal, with nobody left to ask; so does a caller whose own time has run out.
func TestClientLooksIntoTheJournal(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js, nc := s.JetStream(), s.Connect()
		cl := command.NewClient(nc, "shop")
		c := control(t, s)
		createShop(t, cl)
		r := putUnit("u1")
		if o, err := cl.Do(t.Context(), "unit", "put", r); err != nil || !o.OK {
			t.Fatal(o.Error, err)
		}
		c.close()

		asked := mute(t, nc)
		began := time.Now()
		o, err := cl.Do(t.Context(), "unit", "put", r)
		if err != nil || !o.OK || o.Seq != 2 || asked() != 1 {
			t.Errorf("after a lost answer: %+v %v, asked %d times", o, err, asked())
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("that took %v", took)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if o, err := cl.Do(short, "unit", "put", r); err != nil || !o.OK {
			t.Errorf("at the end of the caller's time: %+v %v", o, err)
		}

		// A command that is not there is sent again with the same id, a bounded number of times, and its fate is not guessed.
		before := asked()
		_, err = cl.Do(t.Context(), "unit", "put", putUnit("u2"))
		if !errors.Is(err, command.ErrNoAnswer) || asked()-before != 4 {
			t.Errorf("without any answer: %v, asked %d times", err, asked()-before)
		}
		canceled, stop := context.WithCancel(t.Context())
		stop()
		began = time.Now()
		if _, err := cl.Do(canceled, "unit", "put", putUnit("u3")); !errors.Is(err, command.ErrNoAnswer) || time.Since(began) > 0 {
			t.Errorf("canceled: %v after %v", err, time.Since(began))
		}
		if n := len(records(t, js)); n != 2 {
			t.Errorf("journal has %d records, want 2", n)
		}
	})
}

// A controller that dies with a request in hand: the client gets the answer from the next one.
func TestClientOutlivesAController(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js, cl := s.JetStream(), command.NewClient(s.Connect(), "shop")
		died := make(chan struct{})
		armed := false
		dying := control(t, s, func(c *controller) {
			c.wrap = func(j journal.Journal) journal.Journal {
				return lateJournal{j, func() {
					if armed {
						armed = false
						c.nc.Close() // before anything is stored
						close(died)
					}
				}}
			}
		})
		createShop(t, cl)
		armed = true
		answered := make(chan error, 1)
		r := putUnit("u1")
		go func() {
			o, err := cl.Do(t.Context(), "unit", "put", r)
			if err == nil && !o.OK {
				err = o.Error
			}
			answered <- err
		}()
		<-died
		dying.kill()
		control(t, s)
		if err := <-answered; err != nil {
			t.Error(err)
		}
		recs := records(t, js)
		if len(recs) != 2 || recs[1].CommandID != r.ID {
			t.Errorf("journal: %+v", recs)
		}
	})
}

// lateJournal calls before ahead of each append.
type lateJournal struct {
	journal.Journal
	before func()
}

func (l lateJournal) Append(ctx context.Context, after uint64, rec events.Record) (events.Record, error) {
	l.before()
	return l.Journal.Append(ctx, after, rec)
}

// away is a journal that cannot be read for a while.
type away struct {
	journal.Journal
	until time.Time
}

func (a away) Find(ctx context.Context, entity, verb, id string) (events.Record, bool, error) {
	if time.Now().Before(a.until) {
		return events.Record{}, false, errors.New("no leader")
	}
	return a.Journal.Find(ctx, entity, verb, id)
}

// Journal unavailable: the api's client and the queue try again with the same id; the queue until the command expires.
func TestJournalAway(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		js, cl := s.JetStream(), command.NewClient(s.Connect(), "shop")
		first := control(t, s)
		createShop(t, cl)
		first.close()

		c := control(t, s, func(c *controller) {
			c.wrap = func(j journal.Journal) journal.Journal { return away{j, time.Now().Add(time.Second)} }
		})
		if o, err := cl.Do(t.Context(), "unit", "put", putUnit("u1")); err != nil || !o.OK {
			t.Errorf("an election of one second: %v %v", o.Error, err)
		}
		c.close()

		c = control(t, s, func(c *controller) {
			c.wrap = func(j journal.Journal) journal.Journal { return away{j, time.Now().Add(40 * time.Second)} }
		})
		began := time.Now()
		if o, err := cl.Do(t.Context(), "unit", "put", putUnit("u2")); err != nil || o.OK || o.Error.Code != "journal_unavailable" {
			t.Errorf("api: %+v %v", o, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the api's client gave up after %v", took)
		}
		patient := publish(t, cl, putUnit("u3"), time.Hour)
		hasty := publish(t, cl, putUnit("u4"), 5*time.Second)
		if o := outcome(t, cl, hasty.ID); o.OK || o.Error.Code != "expired" {
			t.Errorf("expired while the journal was away: %+v", o)
		}
		if o := outcome(t, cl, patient.ID); !o.OK {
			t.Errorf("patient: %v", o.Error)
		}
		if took := time.Since(began); took < 30*time.Second || took > time.Minute {
			t.Errorf("decided after %v", took)
		}
		if n := len(effects(t, js)); n != 3 {
			t.Errorf("journal has %d events, want 3", n)
		}
		c.close()
	})
}

// What cannot be queued is said before anything is sent.
func TestPublishRefuses(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		cl := command.NewClient(s.Connect(), "shop")
		c := control(t, s)
		noise := make([]byte, 1<<20) // nothing packs it
		_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
		for name, try := range map[string]struct {
			r       command.Request
			expires time.Duration
			code    string
		}{
			"id":     {command.Request{ID: "seven"}, 0, "bad_id"},
			"past":   {command.Request{}, -time.Second, "bad_value"},
			"long":   {command.Request{}, 25 * time.Hour, "bad_value"},
			"size":   {command.Request{Actor: "test", Data: noise}, 0, "too_large"},
			"nearly": {command.Request{Actor: "test", Data: map[string]string{"x": base64.StdEncoding.EncodeToString(noise)[:1<<20-150]}}, 0, "too_large"},
		} {
			_, err := cl.Publish(t.Context(), "unit", "put", try.r, try.expires)
			var e *events.Error
			if !errors.As(err, &e) || e.Code != try.code {
				t.Errorf("%s: %v, want %s", name, err, try.code)
			}
		}
		if _, err := cl.Outcome(t.Context(), "a.>"); !errors.Is(err, events.ErrBadID) {
			t.Errorf("outcome of a wildcard: %v", err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := cl.Outcome(short, uuid.NewString()); !errors.Is(err, command.ErrNoAnswer) {
			t.Errorf("outcome of nothing: %v", err)
		}
		c.close()
	})
}
