package reader

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

// ErrBroken: the journal, or what was derived from it, is not what it must be.
var ErrBroken = &events.Error{Code: "journal_broken"}

// Verdict is what Verify found. The fields up to StateHash count for the intact part, from the first record on.
type Verdict struct {
	Namespace string    `json:"namespace"`
	Epoch     string    `json:"epoch"`
	OK        bool      `json:"ok"`
	Records   uint64    `json:"records"`            // that are intact, from the first one on
	Head      uint64    `json:"head"`               // as the server says
	Hash      string    `json:"hash"`               // of the last intact record
	StateHash string    `json:"stateHash"`          // of the state after it
	Snapshot  *Snapshot `json:"snapshot,omitempty"` // the newest one
	Break     *Break    `json:"break,omitempty"`
}

// Snapshot says whether the newest snapshot is what its part of the journal gives.
type Snapshot struct {
	Seq   uint64 `json:"seq"`
	State string `json:"state"` // "equal", "different", "unreadable", "other epoch", or "not reached" if the journal broke before
}

// Break is where the journal breaks.
type Break struct {
	Seq  uint64 `json:"seq"`
	Kind string `json:"kind"`           // journal.Break; "apply": the event does not fit the state; "snapshot"
	Want string `json:"want,omitempty"` // hashes, or sequences for a gap
	Got  string `json:"got,omitempty"`
	Text string `json:"text"`
}

// Verify walks the whole journal from its first record, whatever snapshots there are: every sequence, every hash, every
// event decoded and applied; and compares the state with the newest snapshot's where that was taken. A break is part of
// the verdict; an error means that the journal could not be read to the end.
//
// A hash chain proves all but its end: who rewrites the last record of a journal leaves no trace here, unless a snapshot
// stands there. So compare Hash with another reader's, such as an edge's.
func (r *Reader) Verify(ctx context.Context) (Verdict, error) {
	v := Verdict{Namespace: r.journal.Namespace(), Epoch: r.journal.Epoch()}
	snap, state := r.newest(ctx)
	v.Snapshot = snap
	head, err := r.Head(ctx)
	if err != nil {
		return v, err
	}
	v.Head = head
	s := events.NewState()
	there := "" // hash of the state where the snapshot was taken
	err = r.read(ctx, 1, head, func(rec events.Record) error {
		if err := applied(s, rec); err != nil {
			return err
		}
		if snap != nil && snap.Seq == s.Seq && snap.State == notReached {
			snap.State = compared(s, state)
			there = s.Hash()
		}
		return nil
	})
	v.Records, v.Hash, v.StateHash = s.Seq, s.Chain, s.Hash()
	if v.Break, err = breakOf(err); err != nil {
		return v, Unavailable(err)
	}
	if v.Break == nil {
		v.Break = v.snapshotBreak(there, state)
	}
	v.OK = v.Break == nil
	return v, nil
}

const (
	notReached = "not reached"
	different  = "different"
)

// newest is the newest snapshot with its state. One that cannot be read is no break: readers replay without it.
func (r *Reader) newest(ctx context.Context) (*Snapshot, []byte) {
	if r.snaps == nil {
		return nil, nil
	}
	at, state, ok, err := r.snaps.Latest(ctx, r.journal.Namespace())
	switch {
	case errors.Is(err, journal.ErrNoSnapshots), err == nil && !ok:
		return nil, nil
	case err != nil:
		return &Snapshot{State: "unreadable"}, nil
	case at.Epoch != r.journal.Epoch():
		return &Snapshot{Seq: at.Seq, State: "other epoch"}, nil
	}
	return &Snapshot{Seq: at.Seq, State: notReached}, state
}

// compared compares a state with a snapshot's. Bytes that another version wrote are no difference, as for readers.
func compared(s *events.State, snapshot []byte) string {
	if bytes.Equal(s.Encode(), snapshot) {
		return "equal"
	}
	if _, err := events.DecodeState(snapshot); err != nil {
		return "unreadable"
	}
	return different
}

// snapshotBreak is the break of a journal that is whole in itself but not what its snapshot was made from.
func (v *Verdict) snapshotBreak(there string, state []byte) *Break {
	switch {
	case v.Snapshot == nil:
		return nil
	case v.Snapshot.State == different:
		sum := sha256.Sum256(state) // as events.State.Hash
		got := hex.EncodeToString(sum[:])
		return &Break{Seq: v.Snapshot.Seq, Kind: "snapshot", Want: there, Got: got,
			Text: fmt.Sprintf("the state at sequence %d has the hash %s, the snapshot there %s", v.Snapshot.Seq, there, got)}
	case v.Snapshot.State == notReached:
		return &Break{Seq: v.Records, Kind: string(journal.BreakTruncated), Text: fmt.Sprintf("the journal ends at %d, but a snapshot was made at %d", v.Records, v.Snapshot.Seq)}
	}
	return nil
}

// applyError is a record in its place that does not fit the state.
type applyError struct {
	seq uint64
	err error
}

func (e *applyError) Error() string { return e.err.Error() }

// breakOf tells a break from a failure to read.
func breakOf(err error) (*Break, error) {
	var broken *journal.BreakError
	var apply *applyError
	switch {
	case errors.As(err, &apply):
		return &Break{Seq: apply.seq, Kind: "apply", Text: apply.Error()}, nil
	case errors.As(err, &broken):
		return &Break{Seq: broken.Seq, Kind: string(broken.Kind), Want: broken.Want, Got: broken.Got, Text: broken.Error()}, nil
	}
	return nil, err
}
