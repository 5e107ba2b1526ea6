package command

import (
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/unitgate/unitgate/events"
)

// kind is one of the roles that ask something of the api, and what they ask. Each kind has subscriptions, queues and slots
// of its own, so that none delays another; and a connection of its own where Config says so, because a server cuts off
// whoever does not read fast enough.
type kind string

const (
	commands  kind = "command"  // of operators
	bulk      kind = "bulk"     // those that may be large
	edges     kind = "edge"     // what edges say of themselves
	questions kind = "question" // of operators and observers
	durable   kind = "durable"  // commands that come from the queue; no endpoint
)

func classOf(k kind) class {
	switch k {
	case bulk:
		return class{slots: 1, total: 2, queue: 8, bytes: 4 << 20}
	case edges: // after an outage a thousand of them join at once
		return class{slots: 8, total: 64, queue: 1024, bytes: 4 << 20, sender: 2}
	case questions: // a lane for each question: one may wait for a DNS provider
		return class{slots: 4, total: 32, queue: 64, bytes: 256 << 10}
	default:
		return class{slots: 16, total: 64, queue: 256, bytes: 4 << 20}
	}
}

// questionBound is how large a question may be: an id. The largest is refused before it is read.
var questionBound = events.Bound{Wire: 4 << 10}

// route is how a message is taken, by its entity and verb alone.
type route struct {
	kind  kind
	bound events.Bound
}

// routeOf finds the route of a command, or of a question, which asked lists as "entity.verb". What is neither is answered
// as a command that does not exist.
func routeOf(entity, verb string, asked map[string]bool) route {
	bound, known := events.FindBound(entity, verb)
	switch {
	case asked[entity+"."+verb]:
		return route{questions, questionBound}
	case !known:
		return route{commands, questionBound}
	case entity == "edge" && slices.Contains(edgeVerbs(), verb):
		return route{edges, bound}
	case bound.Unpacked > 0:
		return route{bulk, bound}
	}
	return route{commands, bound}
}

// endpoint is one subscription of the api.
type endpoint struct {
	name, subject string // subject: entity and verb, which may be *
	kind          kind
	wire          int  // the largest message that is taken there
	own           bool // subject is a whole one: an edge's own
}

// endpoints divides the api's subjects, unitgate.api.<namespace>.<entity>.<verb>, without overlap: NATS deals a message out
// among all subscriptions that match it, and would give one of a question to a subscription for commands. Entities that are
// of one kind are taken as a whole, so that a verb which does not exist is answered; of the others each verb is.
func endpoints(asked []string) []endpoint {
	verbs, order := map[string][]endpoint{}, []string{}
	add := func(entity, verb string, k kind, wire int) {
		if verbs[entity] == nil {
			order = append(order, entity)
		}
		verbs[entity] = append(verbs[entity], endpoint{name: entity + "-" + verb, subject: entity + "." + verb, kind: k, wire: wire})
	}
	for _, e := range events.Catalogue() { // of internal ones too: that nobody may give them is an answer
		r := routeOf(e.Entity, e.Verb, nil)
		add(e.Entity, e.Verb, r.kind, r.bound.Wire)
	}
	for _, q := range asked {
		entity, verb, _ := strings.Cut(q, ".")
		add(entity, verb, questions, questionBound.Wire)
	}
	var out []endpoint
	for _, entity := range order {
		out = append(out, merged(entity, verbs[entity])...)
	}
	for _, verb := range edgeVerbs() {
		r := routeOf("edge", verb, nil)
		out = append(out, endpoint{"own-edge-" + verb, events.EdgeSubject("*", "*", "*", verb), r.kind, r.bound.Wire, true})
	}
	return out
}

// merged is one endpoint for all verbs of an entity, if they are of one kind.
func merged(entity string, verbs []endpoint) []endpoint {
	all := endpoint{name: entity, subject: entity + ".*", kind: verbs[0].kind}
	for _, v := range verbs {
		if v.kind != all.kind {
			return verbs
		}
		all.wire = max(all.wire, v.wire)
	}
	return []endpoint{all}
}

// Pending limits of one subscription: what the client library holds before accept sees it. accept never waits, so that
// this only bridges moments; what comes beyond it is dropped, and its sender hears nothing and asks again. Bytes count as
// they came: headers take ten times as much once the library has read them.
const (
	pendingMessages  = 4096
	pendingBytes     = 4 << 20
	pendingQuestions = 1 << 20
)

func (e endpoint) options() []micro.EndpointOpt {
	subject, bytes := Prefix+".*."+e.subject, max(pendingBytes, 4*e.wire)
	if e.kind == questions {
		bytes = pendingQuestions
	}
	if e.own {
		subject = e.subject
	}
	return []micro.EndpointOpt{
		micro.WithEndpointSubject(subject),
		micro.WithEndpointPendingLimits(pendingMessages, bytes),
	}
}

// requestTimeout is for one request, from its coming to its answer, prechecks included.
const requestTimeout = 30 * time.Second
