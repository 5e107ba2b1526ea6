package events

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// SchemaVersion is the version of the events' JSON that this program writes.
const SchemaVersion = 1

// MaxEventSize bounds the JSON of one event, in bytes.
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
	Data        []byte    // the event as JSON
}

// Hash is the hex SHA-256 over every field, each with its length in front, so that no two records share an encoding.
func (r *Record) Hash() string {
	h := sha256.New()
	for _, f := range []string{
		strconv.FormatUint(r.Seq, 10), r.Entity, r.Verb, r.CommandID, r.Type, strconv.Itoa(r.Schema),
		r.Time.UTC().Format(time.RFC3339Nano), r.Actor, r.Reason, r.Traceparent, r.Prev, string(r.Data),
	} {
		fmt.Fprintf(h, "%d:%s", len(f), f)
	}
	return hex.EncodeToString(h.Sum(nil))
}
