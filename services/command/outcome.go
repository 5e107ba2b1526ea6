// Package command takes commands: it decides them against the current state and appends what they lead to.
//
// A Handler does that for one namespace; Service offers handlers as a request/reply api on NATS, and Durable takes the
// same commands from a stream, where they wait while nobody is there; Client is the other end of both. All of them may be used by any number of goroutines, and any number of processes may serve one namespace:
// the journal's guards let each command take effect once.
package command

import (
	"encoding/json"
	"errors"
	"reflect"

	"github.com/unitgate/unitgate/events"
)

// Outcome is what became of a command.
type Outcome struct {
	OK    bool            `json:"ok"`
	Seq   uint64          `json:"seq,omitempty"`  // sequence of the command's event
	Data  json.RawMessage `json:"data,omitempty"` // what the command answers; follows from the event alone
	Error *events.Error   `json:"error,omitempty"`
}

// The errors of taking commands, besides the rejections of the core.
var (
	// ErrUnavailable: the journal did not take the event. Nothing happened, or the same command id tells what did.
	ErrUnavailable = &events.Error{Code: "journal_unavailable"}
	// ErrBusy: others kept changing the state. Nothing happened: send the command again.
	ErrBusy = &events.Error{Code: "busy"}
	// ErrStopped: this control plane cannot follow the journal any more.
	ErrStopped = &events.Error{Code: "projector_stopped"}
	// ErrExpired: a durable command came too late. Nothing happened.
	ErrExpired = &events.Error{Code: "expired"}
)

func rejected(err error) Outcome {
	if e, ok := errors.AsType[*events.Error](err); ok {
		return Outcome{Error: e}
	}
	return Outcome{Error: &events.Error{Code: "internal", Message: err.Error()}}
}

// accepted is the outcome that a record stands for; it is the same whenever it is asked for.
func accepted(rec events.Record) Outcome {
	o := Outcome{OK: true, Seq: rec.Seq, Data: rec.JSON()}
	if len(o.Data) > events.MaxEventSize { // no message would hold it
		o.Data = rec.Data
	}
	e, err := rec.Event()
	if err != nil {
		return o
	}
	switch e := e.(type) {
	case events.CutoverProposed:
		o.Data, _ = json.Marshal(proposalOf(e))
	case events.CutoverRolledBack: // the way back is what is asked about next
		o.Data, _ = json.Marshal(proposalOf(e.Back))
	default: // the event itself is the answer
	}
	return o
}

// proposal is what `cutover preview` prints: the fields of `cutover show` that exist at that moment. It hides the full
// rule set of the event.
type proposal struct {
	ID     string         `json:"id"`
	State  string         `json:"state"`
	Slots  int            `json:"slots"`
	Waves  []proposedWave `json:"waves"`
	Rules  *struct{}      `json:"rules,omitempty"`
	Change *struct{}      `json:"change,omitempty"`
	events.Count
	events.CutoverProposed
}

type proposedWave struct {
	Index int    `json:"index"`
	Slots int    `json:"slots"`
	Exact int    `json:"exact"`
	State string `json:"state"`
}

func proposalOf(e events.CutoverProposed) proposal {
	p := proposal{ID: e.Cutover, State: string(events.Proposed), Slots: e.Slots(), Waves: []proposedWave{}, Count: e.Counted, CutoverProposed: e}
	for i, keys := range e.Waves {
		p.Waves = append(p.Waves, proposedWave{i, keys.SlotCount(), keys.ExactIDs(), string(events.PendingWave)})
	}
	return p
}

// Answer is the type of an accepted command's Outcome.Data, by the type of its event; see accepted.
func Answer(event reflect.Type) reflect.Type {
	switch event {
	case reflect.TypeFor[events.CutoverProposed](), reflect.TypeFor[events.CutoverRolledBack]():
		return reflect.TypeFor[proposal]()
	}
	return event
}
