package cutover

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// runs runs a manager until the returned function stops it and waits for its end.
func runs(m *Manager) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	return func() { cancel(); running.Wait() }
}

func ended(s *events.State) bool { return s.Cutovers["c1"].State == events.Completed }

// A cutover from preview to its end on a real server: prechecks, office, two waves, and what is shown of it.
func TestManagerDrivesACutover(t *testing.T) {
	b := newBed(t)
	b.reportAlways()
	m := b.manager("")
	defer runs(m)()
	b.change("b1", func(e *fakeEdge) { e.sessions = 3 })
	b.do(events.PreviewCutover{Ranges: rangesOf("0-11", "12-15"), Waves: 2})
	b.do(events.CheckCutover{Cutover: "c1"})
	b.do(events.StartCutover{Cutover: "c1"})
	s := b.eventually("completed", ended)
	if r := s.Rules["user"]; r.Version != 2 || r.Current.SlotOwner(8) != "center" {
		t.Errorf("rules after the cutover: %+v", r)
	}
	if !m.Leading() || len(m.Reports()) != 4 {
		t.Errorf("leading %v, %d reports", m.Leading(), len(m.Reports()))
	}
	v, err := ShowQuery(b.projector, m)(b.ctx, json.RawMessage(`{"cutover":"c1"}`))
	if err != nil {
		t.Fatal(err)
	}
	got := v.(View)
	if got.State != events.Completed || got.Sessions != 3 || got.CompletedAt == nil || len(got.Waves) != 2 || got.Waves[1].State != events.CommittedWave || len(got.Edges) != 4 || len(got.TraceID) != 32 {
		t.Errorf("view: %+v", got)
	}
	if _, err := ShowQuery(b.projector, m)(b.ctx, json.RawMessage(`{"cutover":"c9"}`)); err == nil {
		t.Error("an unknown cutover is shown")
	}
}

// R1: one manager leads; when it is stopped cleanly the other one leads at once, when it is cut off after T+m_o, and
// never both. The second one goes on where the first one ended.
func TestTakeOver(t *testing.T) {
	for name, clean := range map[string]bool{"clean stop": true, "cut off": false} {
		t.Run(name, func(t *testing.T) {
			journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
				b := newBedOn(t, s.Connect(s.Uncut()), 1)
				b.setUp()
				first := b.manager("11111111-1111-4111-8111-111111111111")
				first.cfg.NC = s.Connect()
				first.cfg.JS = s.JetStream()
				stop := runs(first)
				time.Sleep(time.Second) // virtual
				if !first.Leading() {
					t.Fatal("nobody leads")
				}
				second := b.manager("22222222-2222-4222-8222-222222222222")
				defer runs(second)()
				b.preview()
				b.do(events.StartCutover{Cutover: "c1"})
				b.eventually("fenced", func(s *events.State) bool { c := s.Cutovers["c1"]; return c.FencedWave() == 0 })
				begun := time.Now()
				if clean {
					stop()
				} else {
					s.Cut()
					defer stop()
					defer s.Heal()
				}
				for !second.Leading() {
					if first.Leading() && second.Leading() {
						t.Fatal("both lead")
					}
					time.Sleep(10 * time.Millisecond)
				}
				took := time.Since(begun)
				if clean && took > time.Second || !clean && (took < Term-RenewEvery+TermMargin || took > 5*time.Second) {
					t.Errorf("take-over took %s", took)
				}
				if first.Leading() {
					t.Error("both lead")
				}
				b.reportAlways()
				got := b.eventually("completed", ended)
				if got.Office.Term != 2 || got.Office.Holder != Incarnation(keyOf("22222222-2222-4222-8222-222222222222")) || !got.Office.Signs() {
					t.Errorf("office: %+v", got.Office)
				}
				word := second.Sign(events.Beacon{Seq: got.Seq})
				if next := second.Sign(events.Beacon{Seq: got.Seq}); !word.By(got.Office) || next.Up <= word.Up || first.Sign(word).By(got.Office) {
					t.Errorf("only the office's beacons are the office's, and each is later: %v, %v", word, next)
				}
			})
		})
	}
}

// A process whose state does not follow the journal any more gives the office up.
func TestBrokenProjectorGivesTheOfficeUp(t *testing.T) {
	b := newBed(t)
	broken := &brokenStates{States: b.projector, changed: make(chan struct{})}
	m := b.manager("")
	m.cfg.States = broken
	ended := make(chan error, 1)
	go func() { ended <- m.Run(b.ctx) }()
	b.eventually("in office", func(s *events.State) bool { return s.Office.Term == 1 })
	broken.fail()
	if err := <-ended; err == nil {
		t.Error("ends without an error")
	}
	kv, err := openOffice(b.ctx, b.js, 1)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := readOffice(b.ctx, kv, testNamespace); err != nil || k.Holder != "" || k.Term != 1 {
		t.Errorf("the key still holds %+v, %v", k, err)
	}
}

// brokenStates is a projector that can fail.
type brokenStates struct {
	States
	changed chan struct{}
	mu      sync.Mutex
	err     error
}

func (s *brokenStates) fail() {
	s.mu.Lock()
	s.err = errors.New("a record of a newer version")
	s.mu.Unlock()
	close(s.changed)
}

func (s *brokenStates) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Changed is the projector's, or the failure.
func (s *brokenStates) Changed() <-chan struct{} {
	if s.Err() != nil {
		return s.States.Changed()
	}
	both, inner := make(chan struct{}), s.States.Changed()
	go func() {
		defer close(both)
		select {
		case <-inner:
		case <-s.changed:
		}
	}()
	return both
}

// A needed edge that says nothing is named, until an operator does without it.
func TestSilentEdgeIsNamedAndSkipped(t *testing.T) {
	b := newBed(t)
	m := b.manager("")
	defer runs(m)()
	b.preview()
	b.do(events.StartCutover{Cutover: "c1"})
	b.silence("b2")
	b.reportAlways()
	waiting := func(s *events.State) []string { return Show(s, s.Cutovers["c1"], m.Reports()).Waves[0].WaitingFor }
	s := b.eventually("fenced", func(s *events.State) bool { c := s.Cutovers["c1"]; return c.FencedWave() == 0 })
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for limit := time.After(30 * time.Second); !slices.Equal(waiting(s), []string{"b2"}); {
		select {
		case <-poll.C:
		case <-limit:
			t.Fatalf("waiting for %v, want b2", waiting(s))
		}
	}
	for i := range 2 {
		b.eventually("fenced", func(s *events.State) bool { c := s.Cutovers["c1"]; return c.FencedWave() == i })
		b.do(events.SkipCheck{Cutover: "c1", Edge: "b2", Reason: "its machine burnt down"})
	}
	s = b.eventually("completed", ended)
	for _, r := range s.Cutovers["c1"].Waves[0].Results {
		if r.Skipped != (r.ID == "b2") {
			t.Errorf("result %+v", r)
		}
	}
}

// Two processes race for a key that is not there, and for one revision: one wins, the other learns that it lost.
func TestOfficeCompareAndSet(t *testing.T) {
	b := newBed(t)
	kv, err := openOffice(b.ctx, b.js, 1)
	if err != nil {
		t.Fatal(err)
	}
	write := func(expect uint64, holder string) (uint64, Fate) {
		rev, fate, err := writeOffice(b.ctx, kv, testNamespace, WriteOffice{Value: OfficeValue{Holder: holder, Term: 1}, Expect: expect})
		if err != nil {
			t.Fatal(err)
		}
		return rev, fate
	}
	if k, err := readOffice(b.ctx, kv, testNamespace); err != nil || k != (OfficeKey{}) {
		t.Fatalf("no key reads as %+v, %v", k, err)
	}
	rev, fate := write(0, "one")
	if fate != Accepted {
		t.Fatal("the first writer lost")
	}
	if _, fate := write(0, "two"); fate != Refused {
		t.Fatal("the second writer of a key that was not there won")
	}
	if _, fate := write(rev+1, "two"); fate != Refused {
		t.Fatal("a wrong revision won")
	}
	if k, _ := readOffice(b.ctx, kv, testNamespace); k != (OfficeKey{rev, OfficeValue{Holder: "one", Term: 1}}) {
		t.Fatalf("reads %+v", k)
	}
	if _, err := kv.Put(b.ctx, testNamespace, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if k, err := readOffice(b.ctx, kv, testNamespace); err != nil || k.Holder == "" {
		t.Fatalf("an unreadable value must count as held: %+v, %v", k, err)
	}
	if err := kv.Delete(b.ctx, testNamespace); err != nil {
		t.Fatal(err)
	}
	if _, fate := write(0, "two"); fate != Accepted {
		t.Fatal("a deleted key cannot be written")
	}
}

// A report counts only if it came on its edge's own subject.
func TestReportsComeOnTheirOwnSubject(t *testing.T) {
	r := events.EdgeReport{Namespace: "shop", Unit: "unbj", Edge: "b1"}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]bool{
		"unitgate.edge.shop.unbj.b1.report": true, "unitgate.edge.shop.unbj.b2.report": false,
		"unitgate.edge.shop.center.b1.report": false, "unitgate.edge.other.unbj.b1.report": false, "unitgate.edge.shop": false,
	} {
		var got events.EdgeReport
		if ok := decodeFrom(&nats.Msg{Subject: subject, Data: b}, &got, &got); ok != want {
			t.Errorf("%s: %v, want %v", subject, ok, want)
		}
	}
	if decodeFrom(&nats.Msg{Subject: "unitgate.edge.shop.unbj.b1.report", Data: []byte("no JSON")}, &r, &r) {
		t.Error("no JSON counts")
	}
}

func TestCommandIDs(t *testing.T) {
	seen := map[string]bool{}
	for _, incarnation := range []string{"11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", "no uuid"} {
		for n := range uint64(3) {
			id := commandIDs(incarnation)(n)
			if err := events.CheckUUID(id); err != nil || seen[id] {
				t.Errorf("id %d of %s: %s, %v", n, incarnation, id, err)
			}
			seen[id] = true
		}
	}
}
