package agent

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/integration/harness"
)

// officeKey is the key of all offices in these tests.
func officeKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))
}

func officePublic() string { return hex.EncodeToString(officeKey().Public().(ed25519.PublicKey)) }

// office has somebody take the office, if nobody has.
func (l *lab) office() *events.State {
	return l.history(func(w *world) {
		if w.state.Office.Term == 0 {
			w.do(events.TakeOffice{Term: 1, Holder: "driver", Key: officePublic()})
		}
	})
}

// beacon is what the office says of a state, with a proof of this age. Each one is a later one.
func (l *lab) beacon(s *events.State, age time.Duration) events.Beacon {
	up := events.Duration(l.beacons.Add(int64(time.Millisecond)))
	return events.Beacon{Namespace: "demo", Epoch: l.journal.Epoch(), Seq: s.Seq, Hash: s.Chain, Time: time.Now(), Age: events.Duration(age), Up: up}.Signed(officeKey())
}

// speak publishes a beacon as the controller in office does.
func (l *lab) speak(b events.Beacon) {
	l.t.Helper()
	m, err := json.Marshal(b)
	if err == nil {
		err = l.nc.Publish("unitgate.beacon.demo", m)
	}
	if err != nil {
		l.t.Error(err)
	}
}

// vouch speaks every second until the test ends, or until the returned function is called.
func (l *lab) vouch() (hush func()) {
	l.office()
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			l.speak(l.beacon(l.history(func(*world) {}), 100*time.Millisecond))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	hush = sync.OnceFunc(func() { close(stop); <-ended })
	l.t.Cleanup(hush)
	return hush
}

// What vouches for a state, and what does not: only a beacon about this journal that the state has reached, and no other
// event at its sequence; from the moment of its proof on.
func TestStaleness(t *testing.T) {
	l := newLab(t)
	l.office()
	s := l.joins(1, 3)
	f := newFollower("demo", l.nc, l.srv.JetStream(), nil, discard())
	f.begin(t.Context(), l.journal, s.Seq)
	now := time.Now()
	f.Current = now.Add(-time.Hour)
	stale := func() time.Duration { _, d, _ := f.standing(now); return d.Round(time.Second) }
	if err := l.journal.Read(t.Context(), 1, f.apply); err != nil || stale() != time.Hour {
		t.Errorf("having read everything, the edge claims to be fresh: %v (%v)", stale(), err)
	}
	f.look(t.Context())
	if stale() != time.Hour {
		t.Errorf("an answer of the server proves nothing, and staleness is %v", stale())
	}
	other, forked, unsigned := l.beacon(s, time.Second), l.beacon(s, time.Second), l.beacon(s, time.Second)
	other.Epoch, forked.Hash, unsigned.Sign = "another", strings.Repeat("d", 64), nil
	f.hear(other.Signed(officeKey()), now)
	f.hear(forked.Signed(officeKey()), now)
	f.hear(unsigned, now)
	if stale() != time.Hour {
		t.Errorf("a beacon of another history counts: %v", stale())
	}
	f.hear(l.beacon(s, 2*time.Second), now)
	if stale() != 2*time.Second {
		t.Errorf("vouched for 2 s ago: %v", stale())
	}
	f.hear(l.beacon(s, time.Minute), now) // late or repeated: it takes nothing back
	if stale() != 2*time.Second {
		t.Errorf("an older proof counts: %v", stale())
	}
	next := l.joins(4, 1)
	now = now.Add(10 * time.Second)
	f.hear(l.beacon(next, time.Second), now)
	if head, _, _ := f.standing(now); head != s.Seq || stale() != 12*time.Second {
		t.Errorf("the journal has not told of more than %d, head %d: %v", s.Seq, head, stale())
	}
	f.look(t.Context()) // as the beacon made it do
	if head, _, _ := f.standing(now); head != next.Seq || stale() != 12*time.Second {
		t.Errorf("behind the head %d: %v", head, stale())
	}
	if err := l.journal.Read(t.Context(), next.Seq, f.apply); err != nil || stale() != time.Second {
		t.Errorf("at the head, vouched for 1 s ago: %v (%v)", stale(), err)
	}
	old := l.beacon(s, 0) // an edge ahead of the beacon has all that the beacon vouches for
	f.hear(old, now)
	if stale() != 0 {
		t.Errorf("ahead of the beacon: %v", stale())
	}
}

// The staleness of a stored state counts from the last proof and not from the last change.
func TestStalenessSurvivesRestart(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		l := newLabOn(t, srv)
		l.admit()
		path := t.TempDir()
		e := l.start(path)
		s := l.joins(1, 1)
		e.view("the news", admitting)
		l.report("the news", func(r events.EdgeReport) bool { return r.Applied > s.Seq })
		l.vouch()
		time.Sleep(time.Hour)
		if st := e.r.Status(t.Context()); st.Staleness > 2 || st.Head != st.Applied {
			t.Errorf("%+v", st)
		}
		e.stop()
		d := openDir(t, path, "")
		saved, err := d.Load()
		if err != nil || time.Since(saved.At) > 3*time.Second {
			t.Errorf("known to be fresh at %v, it is %v now (%v)", saved.At, time.Now(), err)
		}
		_ = d.Close()
	})
}

// G5: two hours without the bus. The edge serves on, says how stale it is, and when the bus is back it comes to the head
// and says so.
func TestPartition(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		l := newLabOn(t, srv)
		l.admit()
		l.vouch()
		e := l.start(t.TempDir())
		e.view("the join", admitting)
		seq := l.history(func(*world) {}).Seq
		l.report("the join", at(seq))
		time.Sleep(time.Minute)
		srv.Cut()
		const away = 2 * time.Hour
		news := l.joins(1, 20)
		time.Sleep(away)
		l.logged("it is not known whether this edge is at the head")
		if st := e.r.Status(t.Context()); st.Connected || st.Applied != seq || !st.Joined || st.Staleness < away.Seconds() || st.Staleness > away.Seconds()+5 {
			t.Errorf("%+v", st)
		}
		srv.Heal()
		back := time.Now()
		l.report("the news", at(news.Seq))
		if took := time.Since(back); took > 10*time.Second {
			t.Errorf("it took %v after the bus was back", took)
		}
		l.logged("at the head again")
		if st := e.r.Status(t.Context()); st.Staleness > 3 {
			t.Errorf("%+v", st)
		}
		e.stop()
	})
}

// A day without the bus, for the part that follows: everything comes then, and the staleness is what it was.
func TestDayWithoutTheBus(t *testing.T) {
	away := 24 * time.Hour
	if harness.Race { // which takes a hundred times the time of an attempt to connect
		away = time.Hour
	}
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		l := newLabOn(t, srv)
		js := srv.JetStream(nats.ReconnectWait(2 * time.Second))
		f := newFollower("demo", js.Conn(), js, nil, discard())
		if err := f.listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{}, 2)
		go func() { f.run(t.Context()); ended <- struct{}{} }()
		go func() { f.watch(t.Context()); ended <- struct{}{} }()
		l.vouch()
		time.Sleep(10 * time.Second)
		srv.Cut()
		news := l.joins(1, 50)
		time.Sleep(away)
		if head, stale, _ := f.standing(time.Now()); head != 2 || stale < away || stale > away+3*time.Second {
			t.Errorf("head %d, stale for %v", head, stale)
		}
		srv.Heal()
		time.Sleep(10 * time.Second)
		_, s := f.newer("", 0)
		if head, stale, broken := f.standing(time.Now()); head != news.Seq || s.Hash() != news.Hash() || stale > 3*time.Second || broken != nil {
			t.Errorf("head %d, state %d, stale for %v, broken %v", head, s.Seq, stale, broken)
		}
	})
}

// An edge that hears of an event which its consumer does not bring fetches it.
func TestBeaconTellsWhatIsMissing(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		l := newLabOn(t, srv)
		l.admit()
		e := l.start(t.TempDir())
		l.report("the join", at(e.view("the join", admitting).Seq))
		js, _ := l.stream()
		st, err := js.Stream(t.Context(), "UNITGATE_demo")
		if err != nil {
			t.Fatal(err)
		}
		for name := range st.ConsumerNames(t.Context()).Name() {
			if _, err := st.PauseConsumer(t.Context(), name, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		news := l.joins(1, 3)
		heard := time.Now()
		l.speak(l.beacon(news, 0))
		l.report("the news", at(news.Seq))
		if took := time.Since(heard); took > time.Second {
			t.Errorf("it took %v", took)
		}
		e.stop()
	})
}
