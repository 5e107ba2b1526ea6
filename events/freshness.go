package events

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"strconv"
	"time"
)

// Errors of Freshness.Hear and Reached: why a beacon is not believed.
var (
	ErrOtherJournal = errors.New("a beacon is about another journal")
	ErrNotTheOffice = errors.New("a beacon is not from the office, or a repeated one")
	ErrForked       = errors.New("a beacon names another event at this reader's sequence")
)

// Signed is the beacon with its sender's signature.
func (b Beacon) Signed(key ed25519.PrivateKey) Beacon {
	b.Sign = ed25519.Sign(key, b.said())
	return b
}

// By reports whether the holder of an office signed the beacon as it is.
func (b Beacon) By(o Office) bool {
	key, err := hex.DecodeString(o.Key)
	return err == nil && len(key) == ed25519.PublicKeySize && ed25519.Verify(key, b.said(), b.Sign)
}

// said is what is signed: every field but the signature, each with its length in front.
func (b Beacon) said() []byte {
	var m []byte
	for _, f := range []string{
		"unitgate beacon", b.Namespace, b.Epoch, strconv.FormatUint(b.Seq, 10), b.Hash, b.Time.UTC().Format(time.RFC3339Nano),
		strconv.FormatInt(int64(b.Age), 10), strconv.FormatInt(int64(b.Up), 10),
	} {
		m = appendField(m, f)
	}
	return m
}

// Freshness is what the reader of a journal knows of how new its state is. Its owner guards it.
//
// The head is what the journal itself said: by its records, or asked for it. A beacon never moves it. One that the office
// signed says how fresh the state is; any other is a hint at most, for which the journal is asked.
type Freshness struct {
	Head    uint64    // newest sequence that the journal told of
	Current time.Time // the reader last knew then that it had all there was, see Beacon; at first when its state was stored
	Heard   time.Time // the last beacon that was believed came then; zero: none has

	hinted  uint64   // newest sequence that a beacon spoke of since the journal was last asked
	promise promise  // what the office said that the state has not reached yet
	key     string   // of the office that sent the newest beacon believed
	up      Duration // of that beacon: what comes after it has more
}

// promise is a proof that waits for the state to come to its sequence.
type promise struct {
	seq  uint64
	hash string
	at   time.Time // of the proof, on the reader's clock
}

// Hear takes a beacon that came now. The error says why it is not believed. A beacon that is not from the office and speaks
// of more than the state has is no error: the take-over of the office may be among what is missing.
func (f *Freshness) Hear(b Beacon, epoch string, s *State, now time.Time) error {
	if b.Epoch != epoch {
		return ErrOtherJournal
	}
	f.hinted = max(f.hinted, b.Seq)
	if !b.By(s.Office) || s.Office.Key == f.key && b.Up <= f.up {
		if b.Seq > s.Seq {
			return nil
		}
		return ErrNotTheOffice
	}
	f.key, f.up, f.Heard = s.Office.Key, b.Up, now
	p := promise{b.Seq, b.Hash, now.Add(-max(time.Duration(b.Age), 0))}
	if p.seq <= s.Seq {
		return f.keep(p, s)
	}
	if f.promise.seq <= s.Seq { // one that is not met yet stays: beacons may come faster than their events are applied
		f.promise = p
	}
	return nil
}

// Reached notes that the state has moved. The error is ErrForked.
func (f *Freshness) Reached(s *State) error {
	f.Head = max(f.Head, s.Seq)
	if f.promise.seq == 0 || s.Seq < f.promise.seq {
		return nil
	}
	p := f.promise
	f.promise = promise{}
	return f.keep(p, s)
}

// keep notes that nothing beyond the promise's sequence was there at its time. The state has come so far.
func (f *Freshness) keep(p promise, s *State) error {
	if p.seq == s.Seq && p.hash != s.Chain {
		return ErrForked
	}
	if p.at.After(f.Current) {
		f.Current = p.at
	}
	return nil
}

// Told notes that the journal was asked for its head.
func (f *Freshness) Told(head uint64) { f.Head, f.hinted = max(f.Head, head), 0 }

// Hinted reports whether a beacon spoke of more than the journal has told of.
func (f *Freshness) Hinted() bool { return f.hinted > f.Head }

// Stale is how long ago the reader last knew that it had all there was.
func (f *Freshness) Stale(now time.Time) time.Duration { return Elapsed(now, f.Current) }

// Elapsed is how long ago something was: by the clock that goes on in suspend or by the one that nobody sets, whichever
// says more.
func Elapsed(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)), 0)
}
