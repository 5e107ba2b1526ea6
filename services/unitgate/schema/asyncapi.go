package main

import (
	"fmt"
	"maps"
	"reflect"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/cutover"
	"github.com/unitgate/unitgate/services/dns"
)

// The parts of an AsyncAPI 3.0 document (https://www.asyncapi.com/docs/reference/specification/v3.0.0) that are used here.
type (
	document struct {
		AsyncAPI           string               `json:"asyncapi"`
		Info               info                 `json:"info"`
		DefaultContentType string               `json:"defaultContentType"`
		Servers            map[string]server    `json:"servers"`
		Channels           map[string]channel   `json:"channels"`
		Operations         map[string]operation `json:"operations"`
		Components         components           `json:"components"`
	}
	info struct {
		Title       string  `json:"title"`
		Version     string  `json:"version"`
		Description string  `json:"description"`
		License     license `json:"license"`
	}
	license struct {
		Name string `json:"name"`
	}
	server struct {
		Host        string `json:"host"`
		Protocol    string `json:"protocol"`
		Description string `json:"description"`
	}
	channel struct {
		Address     *string              `json:"address"` // null: as the message it answers says
		Description string               `json:"description,omitempty"`
		Parameters  map[string]parameter `json:"parameters,omitempty"`
		Messages    map[string]ref       `json:"messages"`
	}
	parameter struct {
		Description string `json:"description"`
	}
	operation struct {
		Action   string `json:"action"` // of the control plane: receive or send
		Channel  ref    `json:"channel"`
		Summary  string `json:"summary,omitempty"`
		Messages []ref  `json:"messages"`
		Reply    *reply `json:"reply,omitempty"`
	}
	reply struct {
		Channel  ref   `json:"channel"`
		Messages []ref `json:"messages"`
	}
	message struct {
		Name    string  `json:"name"`
		Summary string  `json:"summary,omitempty"`
		Headers *schema `json:"headers"`
		Payload *schema `json:"payload"`
	}
	components struct {
		Schemas  map[string]*schema `json:"schemas"`
		Messages map[string]message `json:"messages"`
	}
	ref struct {
		Ref string `json:"$ref"`
	}
)

const about = `Commands, events and outcomes of unitgate on NATS. Send a command as a request on unitgate.api, and its outcome is the reply; ` +
	`or publish it on unitgate.cmd, where it waits for a control plane, and find its outcome on unitgate.outcome. What was accepted is an event ` +
	`on unitgate.evt, the journal, which comes live on unitgate.live. Commands have no other keys than these; events and outcomes may get more. ` +
	`An event, or the data of config.apply, rules.init and cutover.preview, whose JSON has 128 KiB or more may be {"packed": "…"} instead: base64 of ` +
	`that JSON under DEFLATE (RFC 1951). A command that is larger than its description says is refused before it is read.`

// async builds the document.
type async struct {
	document
	given, said *derivation // what comes from outside, and what the control plane says
}

func asyncAPI(c comments) document {
	a := async{document: document{
		AsyncAPI:           "3.0.0",
		Info:               info{"unitgate", "1.0.0", about, license{"Apache-2.0"}},
		DefaultContentType: "application/json",
		Servers:            map[string]server{"nats": {"127.0.0.1:4222", "nats", "Any server of the NATS cluster."}},
		Channels:           map[string]channel{}, Operations: map[string]operation{},
		Components: components{map[string]*schema{}, map[string]message{}},
	}}
	derive := func(given bool, prefix string) *derivation {
		return &derivation{comments: c, given: given, prefix: prefix, refs: "#/components/schemas/", defs: map[string]*schema{}, types: map[string]reflect.Type{}}
	}
	a.given, a.said = derive(true, "given."), derive(false, "")
	a.Channels["reply"] = channel{Description: "The reply subject of the request.", Messages: map[string]ref{}}
	a.Channels["outcome"] = a.at("unitgate.outcome.{namespace}.{commandId}", "What became of a durable command, for 24 hours; its newest outcome only.")
	for _, e := range events.Catalogue() {
		a.event(e)
		if !e.Internal {
			a.command(e)
		}
	}
	which := &schema{Type: "object", AdditionalProperties: false, Required: []string{"cutover"}, Properties: properties{{"cutover", &schema{Type: "string"}}}}
	a.query("cutover.show", which, reflect.TypeFor[cutover.View](), "A cutover as it stands.")
	a.query("dns.show", &schema{Type: "object"}, reflect.TypeFor[[]dns.Standing](), "DNS names: wanted, present, and the difference.")
	maps.Copy(a.Components.Schemas, a.given.defs)
	maps.Copy(a.Components.Schemas, a.said.defs)
	a.Components.Schemas["packed"] = &schema{
		Type: "object", AdditionalProperties: false, Required: []string{"packed"},
		Description: "Large data: the JSON of what would stand here, compressed as RFC 1951 (DEFLATE) says, at most 8 MiB of it.",
		Properties:  properties{{"packed", &schema{Type: "string", ContentEncoding: "base64"}}},
	}
	return a.document
}

// orPacked is data in either form in which it travels.
func orPacked(s *schema) *schema {
	return &schema{AnyOf: []*schema{s, {Ref: "#/components/schemas/packed"}}}
}

// at is a channel with this address, whose parameters stand in braces.
func (a *async) at(address, description string) channel {
	c := channel{Address: &address, Description: description, Messages: map[string]ref{}, Parameters: map[string]parameter{"namespace": {"The namespace's id."}}}
	if tail := "{commandId}"; address[len(address)-len(tail):] == tail {
		c.Parameters["commandId"] = parameter{"The command's id, a UUID in lower case."}
	}
	return c
}

// put adds a message, and puts it into channels.
func (a *async) put(m message, channels ...string) {
	a.Components.Messages[m.Name] = m
	for _, c := range channels {
		a.Channels[c].Messages[m.Name] = ref{"#/components/messages/" + m.Name}
	}
}

// in is a message as an operation on a channel refers to it.
func in(channel, message string) []ref {
	return []ref{{"#/channels/" + channel + "/messages/" + message}}
}

// command adds a command's two ways in, and its outcomes.
func (a *async) command(e events.Entry) {
	name := e.Entity + "." + e.Verb
	summary := a.given.comments[key(e.Command)]
	given, said := "command."+name, "outcome."+name
	api, cmd := "api."+name, "cmd."+name
	a.Channels[api] = a.at("unitgate.api.{namespace}."+name, "Somebody answers, or NATS says at once that nobody is there.")
	a.Channels[cmd] = a.at("unitgate.cmd.{namespace}."+name, "Waits in the stream UNITGATE_CMD for a control plane, until it expires.")
	data := a.given.of(e.Command)
	if e.Bound.Unpacked > 0 {
		data = orPacked(data)
	}
	a.put(message{given, fmt.Sprintf("%s At most %d bytes.", summary, e.Bound.Wire), commandHeaders(), a.envelope(data, "actor")}, api, cmd)
	outcome := a.outcome(orPacked(a.said.of(command.Answer(e.Event))))
	a.put(message{"reply." + name, "What became of " + name + ".", replyHeaders(), outcome}, "reply")
	a.put(message{said, "What became of " + name + ", left with its id.", &schema{Type: "object"}, a.settled(e, outcome)}, "outcome")
	a.Operations["take."+name] = operation{"receive", ref{"#/channels/" + api}, summary, in(api, given), &reply{ref{"#/channels/reply"}, in("reply", "reply."+name)}}
	a.Operations["fetch."+name] = operation{Action: "receive", Channel: ref{"#/channels/" + cmd}, Summary: summary, Messages: in(cmd, given)}
	a.Operations["settle."+name] = operation{Action: "send", Channel: ref{"#/channels/outcome"}, Messages: in("outcome", said)}
}

// query adds a question, which changes nothing and cannot be left for later.
func (a *async) query(name string, data *schema, answered reflect.Type, summary string) {
	api := "api." + name
	a.Channels[api] = a.at("unitgate.api.{namespace}."+name, "A question: it changes nothing.")
	a.put(message{"query." + name, summary, commandHeaders(), a.envelope(data)}, api)
	a.put(message{"reply." + name, summary, replyHeaders(), a.outcome(a.said.of(answered))}, "reply")
	a.Operations["answer."+name] = operation{"receive", ref{"#/channels/" + api}, summary, in(api, "query."+name), &reply{ref{"#/channels/reply"}, in("reply", "reply."+name)}}
}

// event adds what a command leads to, in the journal and live.
func (a *async) event(e events.Entry) {
	name := e.Entity + "." + e.Past
	evt, live, said := "evt."+name, "live."+name, "event."+name
	summary := a.said.comments[key(e.Event)]
	a.Channels[evt] = a.at("unitgate.evt.{namespace}."+name+".{commandId}", "The journal: stream UNITGATE_<namespace>. Only the control plane may publish here.")
	a.Channels[live] = a.at("unitgate.live.{namespace}."+name+".{commandId}", "The same, republished by the stream once it is stored.")
	a.put(message{said, summary, eventHeaders(e.Event.Name()), orPacked(a.said.of(e.Event))}, evt, live)
	a.Operations["store."+name] = operation{Action: "send", Channel: ref{"#/channels/" + evt}, Summary: summary, Messages: in(evt, said)}
	a.Operations["republish."+name] = operation{Action: "send", Channel: ref{"#/channels/" + live}, Summary: summary, Messages: in(live, said)}
}
