package events

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// speaker is an office that speaks of a journal.
type speaker struct {
	key ed25519.PrivateKey
	up  time.Duration
}

func newSpeaker(seed byte) *speaker {
	return &speaker{key: ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize)))}
}

func (k *speaker) public() string { return hex.EncodeToString(k.key.Public().(ed25519.PublicKey)) }

// says is the next beacon about a state, as it comes off the wire.
func (k *speaker) says(t *testing.T, s *State, age time.Duration) Beacon {
	t.Helper()
	k.up += time.Second
	b := Beacon{Namespace: "shop", Epoch: "e", Seq: s.Seq, Hash: s.Chain, Time: start.Add(k.up), Age: Duration(age), Up: Duration(k.up)}.Signed(k.key)
	wire, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var back Beacon
	if err := json.Unmarshal(wire, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

// Every field of a beacon is signed.
func TestBeaconSignature(t *testing.T) {
	k := newSpeaker('a')
	o := Office{Term: 1, Holder: "x", Key: k.public()}
	b := k.says(t, &State{Seq: 3, Chain: "hash"}, 1234567*time.Nanosecond)
	if !b.By(o) {
		t.Fatal("the office's own beacon is not believed")
	}
	for name, change := range map[string]func(b *Beacon){
		"namespace": func(b *Beacon) { b.Namespace = "other" }, "epoch": func(b *Beacon) { b.Epoch = "f" }, "seq": func(b *Beacon) { b.Seq++ },
		"hash": func(b *Beacon) { b.Hash = "hasH" }, "time": func(b *Beacon) { b.Time = b.Time.Add(1) }, "age": func(b *Beacon) { b.Age-- },
		"up": func(b *Beacon) { b.Up++ }, "none": func(b *Beacon) { b.Sign = nil }, "cut": func(b *Beacon) { b.Sign = b.Sign[1:] },
		"a border moves": func(b *Beacon) { b.Namespace, b.Epoch = "shope", "" },
	} {
		forged := b
		change(&forged)
		if forged.By(o) {
			t.Errorf("%s: a forged beacon is believed", name)
		}
	}
	for _, key := range []string{"", "zz", "00", newSpeaker('b').public(), strings.Repeat("00", 33)} {
		if b.By(Office{Key: key}) {
			t.Errorf("believed with the key %q", key)
		}
	}
}

// What nobody in office said raises no head and makes nothing fresh, and what it claims is looked for.
func TestForgedBeacons(t *testing.T) {
	k, mallory := newSpeaker('a'), newSpeaker('m')
	s := &State{Seq: 5, Chain: "five", Office: Office{Term: 1, Holder: "x", Key: k.public()}}
	var f Freshness
	f.Current = start
	if err := f.Reached(s); err != nil || f.Head != 5 {
		t.Fatal(f.Head, err)
	}
	now := start.Add(time.Hour)
	recorded := k.says(t, s, 0)
	if err := f.Hear(recorded, "e", s, now); err != nil || f.Stale(now) != 0 {
		t.Fatal(f.Stale(now), err)
	}
	now = now.Add(time.Hour)
	unsigned := k.says(t, s, 0)
	unsigned.Sign = nil
	for name, b := range map[string]Beacon{
		"another key": mallory.says(t, s, 0), "unsigned": unsigned, "repeated": recorded,
		"behind": mallory.says(t, &State{Seq: 4, Chain: "?"}, 0), "from the future": mallory.says(t, s, -time.Hour),
	} {
		if err := f.Hear(b, "e", s, now); !errors.Is(err, ErrNotTheOffice) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.Hear(k.says(t, s, 0), "other", s, now); !errors.Is(err, ErrOtherJournal) {
		t.Error(err)
	}
	if f.Stale(now) != time.Hour || f.Hinted() {
		t.Errorf("stale for %v, hinted: %v", f.Stale(now), f.Hinted())
	}
	if err := f.Hear(mallory.says(t, &State{Seq: 1 << 60, Chain: "?"}, 0), "e", s, now); err != nil || f.Head != 5 || !f.Hinted() {
		t.Errorf("head %d, hinted %v, %v", f.Head, f.Hinted(), err)
	}
	f.Told(6)
	if f.Head != 6 || f.Hinted() {
		t.Errorf("head %d, hinted %v", f.Head, f.Hinted())
	}
	s.Seq, s.Chain = 6, "six" // no promise of mallory's is kept
	if err := f.Reached(s); err != nil || f.Stale(now) != time.Hour {
		t.Errorf("stale for %v (%v)", f.Stale(now), err)
	}
	if err := f.Hear(k.says(t, s, time.Second), "e", s, now); err != nil || f.Stale(now) != time.Second {
		t.Errorf("the office's next word: stale for %v (%v)", f.Stale(now), err)
	}
}

// Freshness counts from the proof, once the state has come to what it was about.
func TestFreshness(t *testing.T) {
	k := newSpeaker('a')
	s := &State{Seq: 5, Chain: "five", Office: Office{Term: 1, Holder: "x", Key: k.public()}}
	next := &State{Seq: 7, Chain: "seven", Office: s.Office}
	f := Freshness{Current: start}
	now := start.Add(time.Hour)
	if err := f.Hear(k.says(t, next, 2*time.Second), "e", s, now); err != nil || f.Head != 0 || f.Stale(now) != time.Hour {
		t.Errorf("behind: head %d, stale for %v (%v)", f.Head, f.Stale(now), err)
	}
	if err := f.Reached(next); err != nil || f.Head != 7 || f.Stale(now) != 2*time.Second || !f.Heard.Equal(now) {
		t.Errorf("at the head %d: stale for %v (%v)", f.Head, f.Stale(now), err)
	}
	if err := f.Hear(k.says(t, s, time.Minute), "e", next, now); err != nil || f.Stale(now) != 2*time.Second {
		t.Errorf("an older proof: stale for %v (%v)", f.Stale(now), err)
	}
	if err := f.Hear(k.says(t, &State{Seq: 7, Chain: "other"}, 0), "e", next, now); !errors.Is(err, ErrForked) {
		t.Errorf("another event at its own sequence: %v", err)
	}
	if err := f.Hear(k.says(t, &State{Seq: 8, Chain: "other"}, 0), "e", next, now); err != nil {
		t.Error(err)
	}
	if err := f.Reached(&State{Seq: 8, Chain: "eight", Office: s.Office}); !errors.Is(err, ErrForked) || f.Stale(now) != 2*time.Second {
		t.Errorf("another event at a promised sequence: stale for %v (%v)", f.Stale(now), err)
	}

	successor := newSpeaker('b')
	taken := &State{Seq: 9, Chain: "nine", Office: Office{Term: 2, Holder: "y", Key: successor.public()}}
	if err := f.Hear(successor.says(t, taken, 0), "e", next, now); err != nil || f.Stale(now) != 2*time.Second {
		t.Errorf("an office that the state does not know yet: stale for %v (%v)", f.Stale(now), err)
	}
	if err := f.Hear(k.says(t, taken, 0), "e", taken, now); !errors.Is(err, ErrNotTheOffice) {
		t.Errorf("an office that is over: %v", err)
	}
	if err := f.Hear(successor.says(t, taken, time.Second), "e", taken, now); err != nil || f.Stale(now) != time.Second {
		t.Errorf("the successor: stale for %v (%v)", f.Stale(now), err)
	}
}

// The time since a moment is the longer one of what two clocks say: one stops in suspend, the other can be set.
func TestElapsed(t *testing.T) {
	then := time.Now()
	suspended := then.Add(time.Second).Round(0).Add(time.Hour) // the wall clock alone
	if got := Elapsed(suspended, then); got < time.Hour {
		t.Error(got)
	}
	if got := Elapsed(then.Add(-time.Hour), then); got != 0 {
		t.Errorf("a clock that went back: %v", got)
	}
}
