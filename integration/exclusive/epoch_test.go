package exclusive

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/cutover"
)

// season makes the journal, and leaves the office as a driver does that was in it for long: leases are granted at once.
func season(t *testing.T, srv *journaltest.Server) {
	t.Helper()
	js := srv.JetStream(srv.Uncut())
	j, err := journal.Create(t.Context(), js, ns, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: cutover.OfficeBucket, History: 1, Storage: jetstream.FileStorage})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(cutover.OfficeValue{Epoch: j.Epoch()})
	if err == nil {
		_, err = kv.Create(t.Context(), ns, b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The journal is deleted and made anew, with other rules, while an edge of the old one is cut off with a lease. The new
// one's edges are granted nothing until that lease has ended, however soon they ask; a successor of its driver does not
// wait again, so that their sessions stay.
func TestNewEpoch(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		s := newScene(t, srv, srv.Connect(), srv.Connect())
		s.exclusive()
		time.Sleep(5 * time.Second)
		srv.Cut() // the control process and b1, for good
		cut := time.Now()
		if err := srv.JetStream(srv.Uncut()).DeleteStream(t.Context(), "UNITGATE_"+ns); err != nil {
			t.Fatal(err)
		}
		second, stop := runPlane(t, srv.Connect(srv.Uncut()), "22222222-2222-4222-8222-222222222222")
		anew := config("exclusive")
		anew.Rules = map[string]events.RulesConfig{"user": {Ranges: ranges(12)}}
		second.do(events.ApplyConfig{Config: anew})
		h2 := startEdge(t, srv.Connect(srv.Uncut()), "h2", "center")
		met := 0
		for !h2.dial("9") {
			if time.Since(cut) > 2*lease {
				t.Fatal("nothing is ever granted")
			}
			if s.b1.serving("9") {
				met++
			}
			time.Sleep(20 * time.Millisecond)
		}
		if s.b1.serving("9") || s.b2.serving("9") {
			t.Error("G2: an edge of the old journal serves the same user")
		}
		if met == 0 {
			t.Error("nobody served beside whom the new edges could have")
		}
		if took := time.Since(cut); took < silence {
			t.Errorf("the first lease is granted %s after the journal was made anew", took)
		}
		startPlane(t, srv.Connect(srv.Uncut()), "33333333-3333-4333-8333-333333333333")
		time.Sleep(5 * time.Second)
		stop()
		time.Sleep(2 * lease)
		if h2.mu.Lock(); h2.forbids > 0 {
			t.Error("a successor in the same journal waits again")
		}
		h2.mu.Unlock()
	})
}
