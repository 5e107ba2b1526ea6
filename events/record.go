package events

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
)

// SchemaVersion is the version of the events' JSON that this program writes.
const SchemaVersion = 1

// MaxEventSize bounds one event as it is stored, in bytes: its JSON, or the packed form of that (see Pack).
const MaxEventSize = 512 << 10

// Record is one event as it stands in the journal.
type Record struct {
	Seq         uint64    // stream sequence; the first record of a journal has 1, each next one the last plus one
	Entity      string    // what changed: "cutover"
	Verb        string    // how, in the past tense: "started"
	CommandID   string    // UUID of the command that made the event; Entity, Verb and CommandID are unique together
	Type        string    // the event's Go name: "CutoverStarted"
	Schema      int       // version of Data's form
	Time        time.Time // when the command was decided, UTC; never used for anything that safety depends on
	Actor       string    // who gave the command, as they say
	Reason      string    // why, may be empty
	Traceparent string    // W3C trace context of the command, may be empty
	Prev        string    // Hash of the record before, "" in the first one
	Data        []byte    // the event as JSON, packed if it is large
}

// Hash is the hex SHA-256 over every field, each with its length in front, so that no two records share an encoding.
func (r *Record) Hash() string {
	var stack [1024]byte // most records fit, and a replay hashes each of them
	var num [40]byte
	b := appendField(stack[:0], strconv.AppendUint(num[:0], r.Seq, 10))
	for _, f := range [...]string{r.Entity, r.Verb, r.CommandID, r.Type} {
		b = appendField(b, f)
	}
	b = appendField(b, strconv.AppendInt(num[:0], int64(r.Schema), 10))
	b = appendField(b, r.Time.UTC().AppendFormat(num[:0], time.RFC3339Nano))
	for _, f := range [...]string{r.Actor, r.Reason, r.Traceparent, r.Prev} {
		b = appendField(b, f)
	}
	sum := sha256.Sum256(appendField(b, r.Data))
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	return string(digits[:])
}

// appendField appends a field with its length in front.
func appendField[T string | []byte](b []byte, f T) []byte {
	b = append(strconv.AppendInt(b, int64(len(f)), 10), ':')
	return append(b, f...)
}
