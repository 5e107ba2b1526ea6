// Package journal stores the events of a namespace: append under two guards, find by command, read and follow with
// every record checked, and snapshots of the state made from them.
//
// A journal is one dense, hash-linked sequence of [events.Record], and the only truth about its namespace. This package
// knows nothing of what the events mean: Data is opaque to it. There are two implementations that pass one contract
// (package journaltest): [Memory], and [Stream] on NATS JetStream. Both may be used by any number of goroutines; the
// callbacks of one Read or Follow run one after another and never after it has returned.
package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/unitgate/unitgate/events"
)

// Journal of one namespace.
type Journal interface {
	// Namespace is the id of the namespace whose events these are.
	Namespace() string

	// Epoch is the identity of this journal's history, a UUID: a stream that was deleted and created again has another.
	Epoch() string

	// Head is the last sequence, 0 for an empty journal, as the server says. It is a hint: a server cut off from its
	// majority still answers. Only an acknowledged append proves where the head is.
	Head(ctx context.Context) (uint64, error)

	// Check tells whether a cursor is a place in this journal: nil, or a [*BreakError] that says why it is none. A server
	// that has just restarted may say for a moment that the journal is shorter than it is; Follow waits such a moment.
	Check(ctx context.Context, c Cursor) error

	// Notice tells the followings of this journal that it has come to a sequence, as somebody said. What does not come by
	// itself in a moment is then asked for. A wrong number changes nothing.
	Notice(head uint64)

	// Append stores rec right after the record with sequence after (0: as the first), and only if no record with the
	// same Entity, Verb and CommandID exists. It fills Seq and normalizes Time; rec.Prev must be the hash of record
	// after, "" for 0.
	//
	// Errors: [ErrConflict], [ErrDuplicate], [ErrUnknown], [ErrTooLarge], [ErrFull], [ErrInvalid]. After any error but ErrUnknown,
	// nothing was stored.
	Append(ctx context.Context, after uint64, rec events.Record) (events.Record, error)

	// Find returns the record that the command made, by the command's own subject, and whether there is one.
	Find(ctx context.Context, entity, verb, commandID string) (events.Record, bool, error)

	// Read calls fn for all records from sequence from (0 counts as 1) up to the head at the time of the call, in
	// order, each checked for density and the hash chain. It returns fn's error, a [*BreakError], or ctx's error;
	// a lost connection is waited for.
	Read(ctx context.Context, from uint64, fn func(events.Record) error) error

	// Follow calls fn for every record after the cursor, for ever. It returns when ctx ends, with fn's error, or with
	// a [*BreakError]. A lost connection is no error: following goes on at the right place by itself.
	// Records are counted as known only when fn returned nil, so a caller that failed can follow again from its own cursor.
	Follow(ctx context.Context, c Cursor, fn func(events.Record) error) error
}

// Cursor names the last record that a reader knows. The zero value means that it knows none.
type Cursor struct {
	Epoch string `json:"epoch"` // of the journal that the record was read from; "" matches any
	Seq   uint64 `json:"seq"`   // the record's sequence; 0: none known
	Hash  string `json:"hash"`  // the record's hash; "" exactly when Seq is 0
}

// Errors of Append and of opening a journal, to be tested with errors.Is.
var (
	// ErrConflict: the head has moved. Catch up and decide again.
	ErrConflict = errors.New("journal head has moved: catch up and decide again")
	// ErrDuplicate: the command took effect before. Find tells what came of it.
	ErrDuplicate = errors.New("command took effect before: find its record")
	// ErrUnknown: the write was sent and its fate is not known; it may still be stored after this returns. Retry with the
	// same record, or Find it first; the guards keep a second one out.
	ErrUnknown = errors.New("no answer to the append: the event may or may not be stored")
	// ErrTooLarge: the event or its headers exceed the limits.
	ErrTooLarge = errors.New("event too large for the journal")
	// ErrFull: the server has no room for the event, on its disk or within a limit. Nothing was stored.
	ErrFull = errors.New("the journal takes no more: make room on the NATS servers' disks, or raise the limits of the stream and the account")
	// ErrInvalid: the record can not be stored as it is: a field has a wrong form, or Prev is not the predecessor's hash.
	ErrInvalid = errors.New("invalid record")
	// ErrNoJournal: the namespace has no journal.
	ErrNoJournal = errors.New("no journal for this namespace: create the namespace first")
	// ErrForeign: a stream of the journal's name exists and is none of ours, or its configuration has lost a guarantee.
	ErrForeign = errors.New("stream is not a journal of unitgate")
)

// Break is the kind of a break in a journal.
type Break string

// The kinds of breaks. Want and Got of the BreakError hold what the third column says.
const (
	BreakEpoch     Break = "epoch"     // the journal was deleted and created again: epochs
	BreakGap       Break = "gap"       // a record is missing, doubled or out of order: sequences
	BreakHash      Break = "hash"      // a record does not continue the one before, or is not the one at the cursor: hashes
	BreakTruncated Break = "truncated" // the cursor is beyond the last record, so records were lost: sequences (cursor, last)
	BreakMalformed Break = "malformed" // a record that this package would not have written: Err says what is wrong
	BreakGone      Break = "gone"      // the journal was deleted: epochs (Got is "")
)

// BreakError says that a journal is not what it was, or not what it must be. A reader keeps its last good state and
// tells an operator: nothing repairs this by itself.
type BreakError struct {
	Namespace string
	Kind      Break
	Seq       uint64 // sequence of the record that does not fit; with epoch, truncated and gone the cursor's
	Want, Got string // what was expected and what was there, see the kinds
	Err       error  // the cause, for malformed; else nil
}

// Error says what broke, where, and what was expected.
func (e *BreakError) Error() string {
	at := fmt.Sprintf("journal of %q broken at sequence %d", e.Namespace, e.Seq)
	switch e.Kind {
	case BreakEpoch:
		return fmt.Sprintf("%s: it was re-created: epoch is %s, was %s", at, e.Got, e.Want)
	case BreakGone:
		return fmt.Sprintf("%s: its stream is gone: epoch was %s", at, e.Want)
	case BreakTruncated:
		return fmt.Sprintf("%s: truncated or re-created: it ends at %s, records up to %s are known", at, e.Got, e.Want)
	case BreakGap:
		return fmt.Sprintf("%s: record %s came where %s was due", at, e.Got, e.Want)
	case BreakHash:
		return fmt.Sprintf("%s: hash chain: have %q, want %q", at, e.Got, e.Want)
	case BreakMalformed:
		return fmt.Sprintf("%s: malformed record: %v", at, e.Err)
	}
	return fmt.Sprintf("%s: %s", at, e.Kind)
}

// Unwrap returns the cause.
func (e *BreakError) Unwrap() error { return e.Err }

// check refuses a cursor that can not have come from a journal.
func (c Cursor) check() error {
	if (c.Seq == 0) != (c.Hash == "") {
		return fmt.Errorf("%w: cursor at sequence %d with hash %q: a sequence and its hash go together", ErrInvalid, c.Seq, c.Hash)
	}
	return nil
}
