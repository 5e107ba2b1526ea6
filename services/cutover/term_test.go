package cutover

import (
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// key tells the driver what the office key holds.
func (r *rig) key(rev uint64, holder string, term uint64) []Output {
	r.rev = max(r.rev, rev)
	return r.d.Step(OfficeRead{r.at(), false, OfficeKey{rev, OfficeValue{Holder: holder, Term: term}}})
}

// polls answers every read with the same key until d has passed and returns the writes.
func (r *rig) polls(d time.Duration, rev uint64, holder string, term uint64) (w []WriteOffice) {
	for end := r.now + d; r.now < end; {
		for _, o := range r.wait(min(end-r.now, 50*time.Millisecond)) {
			switch o := o.(type) {
			case ReadOffice:
				w = append(w, writes(r.key(rev, holder, term))...)
			case WriteOffice:
				w = append(w, o)
			}
		}
	}
	return w
}

// R1: take-over only after the key stood unchanged for T+m_o on the own clock.
func TestTakeOverWaits(t *testing.T) {
	t.Run("a held key", func(t *testing.T) {
		r := newRig(t)
		r.read()
		r.key(7, "other", 4)
		if w := r.polls(Term+TermMargin-50*time.Millisecond, 7, "other", 4); len(w) > 0 {
			t.Fatalf("took over %v too early", w)
		}
		w := r.polls(50*time.Millisecond, 7, "other", 4)
		if len(w) != 1 || w[0].Expect != 7 || w[0].Value != (OfficeValue{Holder: "me", Term: 5}) {
			t.Fatalf("want {me 5} over revision 7, got %+v", w)
		}
	})
	t.Run("a renewed key", func(t *testing.T) {
		r := newRig(t)
		r.read()
		for rev := range uint64(20) {
			if w := r.polls(time.Second, 7+rev, "other", 4); len(w) > 0 {
				t.Fatalf("took over from a holder that renews: %v", w)
			}
		}
	})
	t.Run("a key that comes back changed starts the time anew", func(t *testing.T) {
		r := newRig(t)
		r.read()
		r.polls(3*time.Second, 7, "other", 4)
		if w := r.polls(3*time.Second, 8, "other", 4); len(w) > 0 {
			t.Fatalf("took over: %v", w)
		}
	})
	t.Run("an office that was given back", func(t *testing.T) {
		r := newRig(t)
		r.read()
		w := writes(r.key(7, "", 4))
		if len(w) != 1 || w[0].Expect != 7 || w[0].Value.Term != 5 {
			t.Fatalf("want {me 5} at once, got %+v", w)
		}
	})
	t.Run("no key and no term ever", func(t *testing.T) {
		r := newRig(t)
		r.read()
		if w := writes(r.key(0, "", 0)); len(w) != 1 || w[0].Expect != 0 || w[0].Value.Term != 1 {
			t.Fatalf("want {me 1} at once, got %+v", w)
		}
	})
	t.Run("a key that someone deleted", func(t *testing.T) {
		r := newRig(t)
		r.do(t, events.TakeOffice{Term: 6, Holder: "other"})
		r.read()
		w := writes(r.key(0, "", 0))
		w = append(w, r.polls(Term, 0, "", 0)...)
		if len(w) > 0 {
			t.Fatalf("its holder may still be in office: %v", w)
		}
		if w := r.polls(time.Second, 0, "", 0); len(w) == 0 || w[0].Value.Term != 7 {
			t.Fatalf("want term 7, above the journal's, got %+v", w)
		}
	})
	t.Run("nothing without a state", func(t *testing.T) {
		r := newRig(t)
		if out := append(r.key(0, "", 0), r.wait(10*time.Second)...); len(out) > 0 {
			t.Fatalf("got %v", out)
		}
	})
}

// R1: the first act is TakeOffice, and nothing else before the state read back holds it.
func TestNothingBeforeTakingOfficeIsReadBack(t *testing.T) {
	r := newRig(t)
	r.start(t, 1)
	r.read()
	out := r.acknowledge(writes(r.key(0, "", 0))[0])
	take := r.only(out)
	if take.Command != (events.TakeOffice{Term: 1, Holder: "me"}) {
		t.Fatalf("first act is %#v", take.Command)
	}
	r.nothing(r.d.Step(Submitted{At: r.at(), ID: take.ID, Fate: Accepted, Seq: r.head.Seq + 1}), "stored but not read back")
	r.nothing(r.hold(2*time.Second), "stored but not read back")
	if r.d.Serving() {
		t.Fatal("serves without having read its term")
	}
	if err := r.try(take.ID, take.Command); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.only(r.read()).Command.(events.FenceWave); !ok {
		t.Fatal("want the fence")
	}
}

// R1: someone else's term in the journal means that this driver is not in office, whatever the key says.
func TestAnotherTermInTheJournal(t *testing.T) {
	r := fencedRig(t, 1)
	r.do(t, events.TakeOffice{Term: 2, Holder: "other"})
	out := r.read()
	r.nothing(append(out, r.hear(r.report("b1"), r.report("b2"), r.report("h1"), r.report("h2"))...), "term 2 holds the office")
	if w := writes(out); len(w) != 1 || w[0].Value != (OfficeValue{"me", 3, testEpoch}) {
		t.Fatalf("it holds the key, so it opens a term above: got %+v", w)
	}
}

// R1: the term runs from before the write was sent, and the holder does nothing once it is over.
func TestTermRunsFromBeforeTheWrite(t *testing.T) {
	r := newRig(t)
	r.start(t, 1)
	r.read()
	w := writes(r.key(0, "", 0))[0]
	r.wait(2900 * time.Millisecond) // the acknowledgement is slow
	take := r.only(r.acknowledge(w))
	if err := r.try(take.ID, take.Command); err != nil {
		t.Fatal(err)
	}
	r.now += 100 * time.Millisecond // T after the write was sent
	r.nothing(r.read(), "its term is over")
	if r.d.Serving() {
		t.Fatal("serves beyond its term")
	}
}

// R1: a term that is not renewed ends, a renewal keeps the term and appends nothing.
func TestRenewal(t *testing.T) {
	t.Run("every second, same term, no event", func(t *testing.T) {
		r := newRig(t)
		r.serve()
		out := r.hold(10 * time.Second)
		r.nothing(out, "a renewal")
		if n := len(writes(out)); n < 9 || n > 10 {
			t.Fatalf("%d renewals in 10 s", n)
		}
		for _, w := range writes(out) {
			if w.Value != (OfficeValue{"me", 1, testEpoch}) {
				t.Fatalf("renewal writes %+v", w.Value)
			}
		}
		if !r.d.Serving() {
			t.Fatal("not serving")
		}
	})
	t.Run("unanswered", func(t *testing.T) {
		r := fencedRig(t, 1)
		r.wait(Term)
		if r.d.Serving() {
			t.Fatal("serves beyond its term")
		}
		r.nothing(r.hear(r.report("b1"), r.report("b2"), r.report("h1"), r.report("h2")), "its term is over")
	})
	t.Run("of unknown fate prolongs nothing", func(t *testing.T) {
		r := newRig(t)
		r.serve()
		w := writes(r.wait(time.Second))[0]
		out := r.d.Step(OfficeWritten{At: r.at(), Attempt: w.Attempt, Fate: Unknown})
		if len(out) != 1 || out[0] != (ReadOffice{}) {
			t.Fatalf("want a look at the key, got %v", out)
		}
		r.wait(1950 * time.Millisecond)
		if !r.d.Serving() {
			t.Fatal("its term still runs")
		}
		r.wait(50 * time.Millisecond)
		if r.d.Serving() {
			t.Fatal("serves beyond its term")
		}
	})
	t.Run("lost", func(t *testing.T) {
		r := fencedRig(t, 1)
		w := writes(r.wait(time.Second))[0]
		r.d.Step(OfficeWritten{At: r.at(), Attempt: w.Attempt, Fate: Refused})
		if r.d.Serving() {
			t.Fatal("serves although someone else has the key")
		}
		r.nothing(r.hear(r.report("b1"), r.report("b2"), r.report("h1"), r.report("h2")), "standby")
		if w := r.polls(Term, 9, "other", 2); len(w) > 0 {
			t.Fatalf("does not wait for the new holder's term: %v", w)
		}
	})
	t.Run("an answer to an older attempt", func(t *testing.T) {
		r := newRig(t)
		r.serve()
		w := writes(r.wait(time.Second))[0]
		r.d.Step(OfficeWritten{At: r.at(), Attempt: w.Attempt - 1, Fate: Accepted, Revision: 99})
		r.d.Step(OfficeWritten{At: r.at(), Attempt: w.Attempt - 1, Fate: Refused})
		if !r.d.Serving() || r.d.office.key.Revision == 99 {
			t.Fatal("an old answer had an effect")
		}
	})
	t.Run("a foreign value", func(t *testing.T) {
		r := newRig(t)
		r.serve()
		w := writes(r.wait(time.Second))[0]
		r.d.Step(OfficeWritten{At: r.at(), Attempt: w.Attempt, Fate: Unknown})
		r.key(5, "other", 2)
		if r.d.Serving() {
			t.Fatal("serves although someone else has the key")
		}
	})
	t.Run("a take-over of unknown fate that happened", func(t *testing.T) {
		r := newRig(t)
		r.read()
		w := writes(r.key(0, "", 0))[0]
		r.d.Step(OfficeWritten{At: r.at(), Attempt: w.Attempt, Fate: Unknown})
		r.wait(retryAfter)
		out := r.key(1, "me", 1)
		r.nothing(out, "nobody knows since when the term runs")
		again := writes(out)
		if len(again) != 1 || again[0].Expect != 1 || again[0].Value != w.Value {
			t.Fatalf("want the same value written again over its own, got %+v", again)
		}
	})
}

// R1: a clean stop gives the office back, but only when nothing of this driver's can be stored any more.
func TestStopGivesTheOfficeBack(t *testing.T) {
	r := newRig(t)
	r.start(t, 1)
	fence := r.only(r.serve())
	out := append(r.d.Step(Stop{r.at()}), r.wait(time.Second)...)
	if w := writes(out); len(w) > 0 {
		t.Fatalf("gives the office back while a command is under way: %v", w)
	}
	out = r.d.Step(Submitted{At: r.at(), ID: fence.ID, Fate: Accepted, Seq: r.head.Seq + 1})
	w := writes(out)
	if len(w) != 1 || w[0].Value != (OfficeValue{"", 1, testEpoch}) {
		t.Fatalf("want a vacant office of term 1, got %+v", out)
	}
	if r.d.Stopped() {
		t.Fatal("stopped before that is stored")
	}
	if r.d.Serving() || r.d.Vouched() != 0 {
		t.Fatal("in office after it was given back: the answer may be under way while a successor acts (simulation, seed 4646)")
	}
	r.acknowledge(w[0])
	if !r.d.Stopped() || r.d.Serving() {
		t.Fatal("not stopped")
	}

	acting := fencedRig(t, 1)
	if w := writes(acting.d.Step(Stop{acting.at()})); len(w) != 1 {
		t.Fatal("want the office given back")
	}
	acting.nothing(acting.hear(acting.report("b1"), acting.report("b2"), acting.report("h1"), acting.report("h2")), "it is stopping")

	standby := newRig(t)
	standby.read()
	standby.key(3, "other", 2)
	if out := standby.d.Step(Stop{standby.at()}); len(out) > 0 || !standby.d.Stopped() {
		t.Fatalf("a standby has nothing to give back: %v", out)
	}
}
