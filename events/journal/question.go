package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/unitgate/unitgate/events"
)

// What readers ask the control plane that may not read the journal's stream themselves. The JetStream API has no call that
// is safe to give away: by a request of 50 bytes a stream is copied into the server's memory as a whole, its appends wait
// meanwhile, and consumers stay (decision record 0015). A question costs what its answer holds, and that is bounded.

// Bounds of one answer. A message holds 1 MB.
const (
	pageRecords = 512
	pageBytes   = 256 << 10 // of records as the stream holds them; the last one may go beyond
	answerBytes = 900 << 10 // of the answer; a single record has less
)

// AskSubject is where readers ask about a namespace's journal. Where roles have accounts of their own, an account puts its
// role behind it, so that no role's questions keep another's waiting.
func AskSubject(ns string) string { return "unitgate.journal." + ns }

// EdgeAskSubject is where an edge asks instead, so that none speaks for another one.
func EdgeAskSubject(ns, unit, id string) string {
	return "unitgate.edge." + ns + "." + unit + "." + id + ".read"
}

// ListSubject is where readers ask for the namespaces.
const ListSubject = "unitgate.namespaces"

// NewsSubject is where the control plane tells the sequence of what it has just stored, in decimal digits. Nothing is
// believed of it: it makes readers ask.
func NewsSubject(ns string) string { return "unitgate.news." + ns }

// Question of a reader. One of its fields is set; without any it asks where the journal stands.
type Question struct {
	After   *uint64     `json:"after,omitempty"`   // for the records after this sequence, as many as one answer holds
	Find    *CommandKey `json:"find,omitempty"`    // for the record that a command made
	Outcome string      `json:"outcome,omitempty"` // for the outcome of the durable command with this id
}

// CommandKey names a command's record.
type CommandKey struct {
	Entity string `json:"entity"`
	Verb   string `json:"verb"` // in the past tense
	ID     string `json:"id"`
}

// Answer to a Question. Its reader checks the records like any others: it takes nothing on trust but what the stream's
// server would have been trusted with.
type Answer struct {
	Epoch    string          `json:"epoch,omitempty"`
	Head     uint64          `json:"head"`
	Unproven string          `json:"unproven,omitempty"` // why Head does not prove that a longer journal was cut
	Records  []AnswerRecord  `json:"records,omitempty"`  // in the journal's order
	Broken   *AnswerBreak    `json:"broken,omitempty"`   // what follows Records in the stream is no record
	Outcome  json.RawMessage `json:"outcome,omitempty"`  // as it is stored; none: there is none yet
	Listed   []Listed        `json:"listed,omitempty"`   // on ListSubject, sorted by name
	Error    *events.Error   `json:"error,omitempty"`    // instead of all else
}

// Codes of Answer.Error.
const (
	CodeUnknownNamespace = "unknown_namespace"
	CodeUnavailable      = "journal_unavailable"
	CodeBusy             = "busy" // too many ask on the same behalf: ask again
	CodeBadQuestion      = "bad_question"
)

// AnswerRecord is an events.Record as it travels.
type AnswerRecord struct {
	Seq         uint64    `json:"seq"`
	Entity      string    `json:"entity"`
	Verb        string    `json:"verb"`
	CommandID   string    `json:"id"`
	Type        string    `json:"type"`
	Schema      int       `json:"schema"`
	Time        time.Time `json:"time"`
	Actor       string    `json:"actor"`            // escaped, as in the stream's headers: it need not be UTF-8
	Reason      string    `json:"reason,omitempty"` // escaped
	Traceparent string    `json:"traceparent,omitempty"`
	Prev        string    `json:"prev"`
	Data        []byte    `json:"data"` // base64
}

// Listed is a namespace that has a journal.
type Listed struct {
	Name  string `json:"name"`
	Epoch string `json:"epoch"`
	Head  uint64 `json:"head"` // its last sequence
}

// AnswerBreak is a BreakError of kind malformed.
type AnswerBreak struct {
	Seq uint64 `json:"seq"`
	Why string `json:"why"`
}

// size is about what the record takes in an answer, in bytes.
func (r *AnswerRecord) size() int {
	return 400 + len(r.Data)*4/3 + len(r.Actor) + len(r.Reason)
}

func answered(rec *events.Record) AnswerRecord {
	return AnswerRecord{
		rec.Seq, rec.Entity, rec.Verb, rec.CommandID, rec.Type, rec.Schema, rec.Time, escape(rec.Actor), escape(rec.Reason), rec.Traceparent, rec.Prev, rec.Data,
	}
}

// record refuses, like decode, whatever this package would not have stored.
func (r *AnswerRecord) record() (rec events.Record, err error) {
	rec = events.Record{
		Seq: r.Seq, Entity: r.Entity, Verb: r.Verb, CommandID: r.CommandID, Type: r.Type, Schema: r.Schema, Time: r.Time.UTC(),
		Traceparent: r.Traceparent, Prev: r.Prev, Data: r.Data,
	}
	if rec.Actor, err = unescape(r.Actor); err != nil {
		return rec, fmt.Errorf("actor: %w", err)
	}
	if rec.Reason, err = unescape(r.Reason); err != nil {
		return rec, fmt.Errorf("reason: %w", err)
	}
	if err := checkKey(rec.Entity, rec.Verb, rec.CommandID); err != nil {
		return rec, err
	}
	return rec, checkForm(&rec)
}

// failure is what an answer says instead of an answer.
func (a *Answer) failure() error {
	switch {
	case a.Error == nil:
		return nil
	case a.Error.Code == CodeUnknownNamespace:
		return ErrNoJournal
	}
	return fmt.Errorf("the control plane cannot read it: %s: %s", a.Error.Code, a.Error.Message)
}

// ErrNoReader: the user may not read the stream itself, and no control plane is there to read it.
var ErrNoReader = errors.New("no control plane answers, and this user may not read the journal's stream itself")
