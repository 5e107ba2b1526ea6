package main

import (
	"reflect"

	"github.com/unitgate/unitgate/events"
)

const (
	uuidForm  = `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`
	traceForm = `^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`
	hashForm  = `^[0-9a-f]{64}$`
	countForm = `^[0-9]+$`
)

// say is a schema with a description.
func say(s *schema, text string) *schema {
	s.Description = text
	return s
}

// envelope stands around the data of a command or a query, which needs no actor.
func (a *async) envelope(data *schema, required ...string) *schema {
	return &schema{Type: "object", AdditionalProperties: false, Required: required, Properties: properties{
		{"id", say(text(uuidForm), "With entity and verb the identity under which the command takes effect once; a fresh one if left out.")},
		{"actor", say(long(&schema{Type: "string"}, 256), "Who gives it, as they say: a person or a program. A command needs one; driver and edge/ID are the system's own.")},
		{"reason", say(long(&schema{Type: "string"}, 256), "Why; goes into the journal.")},
		{"data", data},
	}}
}

// outcome is the answer, with this data if the command was accepted.
func (a *async) outcome(data *schema) *schema {
	yes, no := true, false
	return &schema{AnyOf: []*schema{
		{Type: "object", Required: []string{"ok"}, Properties: properties{
			{"ok", &schema{Const: yes}},
			{"seq", say(&schema{Type: "integer", Minimum: new(int64)}, "Sequence of the command's event; a question has none.")},
			{"data", data},
		}},
		{Type: "object", Required: []string{"ok", "error"}, Properties: properties{
			{"ok", &schema{Const: no}},
			{"error", a.said.of(reflect.TypeFor[events.Error]())},
		}},
	}}
}

// settled is an outcome as it is left behind.
func (a *async) settled(e events.Entry, outcome *schema) *schema {
	more := properties{
		{"id", say(text(uuidForm), "The command's; derived from the stream's sequence where it had none.")},
		{"entity", &schema{Const: e.Entity}},
		{"verb", &schema{Const: e.Verb}},
		{"queued", say(&schema{Type: "integer", Minimum: new(int64)}, "The command's sequence in UNITGATE_CMD.")},
		{"dataOmitted", say(&schema{Type: "boolean"}, "The data is too large for a message: ask the api with the same id.")},
	}
	out := &schema{}
	for _, branch := range outcome.AnyOf {
		b := *branch
		b.Properties = append(append(properties{}, more...), branch.Properties...)
		b.Required = append([]string{"id", "queued"}, branch.Required...)
		out.AnyOf = append(out.AnyOf, &b)
	}
	return out
}

// Headers, by their names on NATS.

func commandHeaders() *schema {
	return &schema{Type: "object", Properties: properties{
		{"traceparent", say(text(traceForm), "W3C trace context; a fresh root without it.")},
		{"Unitgate-Expires", say(&schema{Type: "string"}, "On unitgate.cmd: when the command expires, an RFC 3339 time, or a duration (90s) from the stream's time; 60s without it, at most 24h.")},
		{"Nats-Expected-Stream", say(&schema{Type: "string"}, "On unitgate.cmd, optional: UNITGATE_CMD, so that no other stream takes it.")},
		{"Nats-Msg-Id", say(&schema{Type: "string"}, "On unitgate.cmd, optional: NATS takes a message with one id once within its window.")},
	}}
}

func replyHeaders() *schema {
	return &schema{Type: "object", Properties: properties{
		{"Nats-Service-Error-Code", say(&schema{Type: "string"}, "Of a rejection: error.code.")},
		{"Nats-Service-Error", say(&schema{Type: "string"}, "Of a rejection: error.message.")},
	}}
}

func eventHeaders(event string) *schema {
	return &schema{
		Type:     "object",
		Required: []string{"Unitgate-Type", "Unitgate-Schema", "Unitgate-Time", "Unitgate-Actor", "Unitgate-Prev"},
		Properties: properties{
			{"Unitgate-Type", &schema{Const: event}},
			{"Unitgate-Schema", say(text(countForm), "Version of the event's JSON.")},
			{"Unitgate-Time", say(&schema{Type: "string", Format: "date-time"}, "When the command was decided, UTC.")},
			{"Unitgate-Actor", say(&schema{Type: "string"}, "Who gave the command; what is not visible is percent-encoded.")},
			{"Unitgate-Reason", say(&schema{Type: "string"}, "Why, written like the actor.")},
			{"Unitgate-Prev", say(or(text(hashForm)), "Hash of the record before; empty in the first one.")},
			{"traceparent", say(text(traceForm), "W3C trace context of the command.")},
			{"Nats-Expected-Stream", say(&schema{Type: "string"}, "The journal's stream.")},
			{"Nats-Expected-Last-Sequence", say(text(countForm), "The guard of the append: the stream's last sequence.")},
			{"Nats-Expected-Last-Subject-Sequence", say(text(countForm), "The guard of the command's identity: always 0.")},
			{"Nats-Stream", say(&schema{Type: "string"}, "On unitgate.live: the stream.")},
			{"Nats-Subject", say(&schema{Type: "string"}, "On unitgate.live: the subject in the journal.")},
			{"Nats-Sequence", say(text(countForm), "On unitgate.live: the event's sequence.")},
			{"Nats-Last-Sequence", say(text(countForm), "On unitgate.live: sequence of the event before under this subject.")},
			{"Nats-Time-Stamp", say(&schema{Type: "string", Format: "date-time"}, "On unitgate.live: when the server stored it.")},
		},
	}
}
