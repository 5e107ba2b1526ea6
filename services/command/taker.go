package command

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// Query answers a question about a namespace; it changes nothing.
type Query func(ctx context.Context, data json.RawMessage) (any, error)

// Namespace is what the service needs of one.
type Namespace struct {
	Handler *Handler
	Queries map[string]Query // by "entity.verb"
}

// Namespaces finds and makes namespaces. Get's error is events.ErrUnknownNamespace where there is none. Known asks nobody: it
// is whether this process serves the namespace already.
type Namespaces interface {
	Known(name string) bool
	Get(ctx context.Context, name string) (Namespace, error)
	Create(ctx context.Context, name string) (Namespace, error)
}

// request is the envelope on the wire.
type request struct {
	ID     string          `json:"id,omitempty"`
	Actor  string          `json:"actor,omitempty"`
	Reason string          `json:"reason,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
}

// decodeRequest reads an envelope; no body counts as {}.
func decodeRequest(body []byte) (request, error) {
	var r request
	if len(body) > 0 {
		if err := events.DecodeStrict(body, &r); err != nil {
			return r, err
		}
	}
	if len(r.Data) == 0 {
		r.Data = json.RawMessage("{}")
	}
	return r, nil
}

// call is one command or query, whichever way it came.
type call struct {
	namespace, entity, verb string
	request
	way
	traceparent string      // of the message, or a fresh one
	signed      nats.Header // the headers of a signature, of what edges say; nothing else of a message's headers is kept
	signer      string      // verified, see events.Envelope
	about       *aboutEdge  // which the subject names; nil: it names none
	queued      bool        // it came durably: nobody waits, so questions make no sense
}

// headers takes over what is wanted of a message's, which may be a megabyte of them.
func (c *call) headers(h nats.Header, signed bool) {
	c.traceparent = traceparent(h)
	if !signed {
		return
	}
	c.signed = nats.Header{}
	for _, name := range []string{events.HeaderKey, events.HeaderSignature, events.HeaderExpires} {
		if v, ok := h[name]; ok {
			c.signed[name] = v
		}
	}
}

// prefix is where the subjects of the call's kind begin.
func (c *call) prefix() string {
	if c.queued {
		return QueuePrefix
	}
	return Prefix
}

func (c *call) subject() string {
	return c.prefix() + "." + c.namespace + "." + c.entity + "." + c.verb
}

// taker gives calls to the handlers and queries of their namespaces.
type taker struct {
	namespaces Namespaces
	meters     *Meters
	signatures events.Signatures
}

func newTaker(n Namespaces, m *Meters, signatures events.Signatures) taker {
	if m == nil {
		m = noMeters()
	}
	return taker{n, m, signatures}
}

// take has a call answered, and counts it if it is none of the questions.
func (t taker) take(ctx context.Context, c call) Outcome {
	var ns Namespace
	err := events.CheckID(c.namespace, "namespace")
	if err == nil {
		ns, err = t.namespaces.Get(ctx, c.namespace)
	}
	o := t.answer(ctx, c, ns, err)
	if _, asks := ns.Queries[c.entity+"."+c.verb]; asks {
		return o
	}
	known, via := c.namespace, wayAPI
	if ns.Handler == nil && !o.OK { // nor has it just been made
		known = ""
	}
	if c.queued {
		via = wayDurable
	}
	name, exists := events.FindName(c.entity, c.verb)
	t.meters.took(known, name, exists, via, o)
	return o
}

// answer answers for a namespace, or without one: err says why.
func (t taker) answer(ctx context.Context, c call, ns Namespace, err error) Outcome {
	if err != nil && !errors.Is(err, events.ErrUnknownNamespace) {
		return rejected(err)
	}
	if q, ok := ns.Queries[c.entity+"."+c.verb]; ok {
		if c.queued {
			return rejected(events.ErrBadCommand.With("%s.%s is a question: ask it on %s, where somebody answers", c.entity, c.verb, Prefix))
		}
		return query(ctx, q, c.Data)
	}
	if c.ID != "" { // before the data is looked at, which may be large
		if err := events.CheckUUID(c.ID); err != nil {
			return rejected(err)
		}
	}
	cmd, cerr := events.DecodeCommand(c.entity, c.verb, c.Data)
	if err != nil && errors.Is(cerr, events.ErrBadCommand) {
		return rejected(err) // a query, or nothing that could create the namespace
	}
	if cerr != nil {
		return t.refuse(ctx, c, cerr)
	}
	env := events.Envelope{ID: c.ID, Actor: c.Actor, Reason: c.Reason, Traceparent: c.traceparent, Command: cmd, Signer: c.signer, Signatures: t.signatures}
	if c.about != nil && err == nil {
		if err := c.about.check(cmd, ns.Handler.projector.State()); err != nil {
			return rejected(err)
		}
	}
	c.way.message = message{prefix: c.prefix(), subject: c.subject(), queued: c.queued}
	if err != nil {
		return t.create(ctx, c, env)
	}
	return ns.Handler.do(ctx, env, c.way)
}

// refuse rejects what cannot be decided because of its form, unless a command with its entity, verb and id was accepted
// before: that one answers the same for ever, however malformed the repeat is.
func (t taker) refuse(ctx context.Context, c call, why error) Outcome {
	name, known := events.FindName(c.entity, c.verb)
	if !known || events.CheckUUID(c.ID) != nil || events.CheckID(c.namespace, "namespace") != nil {
		return rejected(why)
	}
	ns, err := t.namespaces.Get(ctx, c.namespace)
	switch {
	case errors.Is(err, events.ErrUnknownNamespace):
		return rejected(why)
	case err != nil:
		return rejected(err)
	}
	if o, done := ns.Handler.recall(ctx, name, c.ID); done {
		return o
	}
	return rejected(why)
}

// create makes a journal only for a command that may be a namespace's first.
func (t taker) create(ctx context.Context, c call, env events.Envelope) Outcome {
	trial := env
	if trial.ID == "" {
		trial.ID = "00000000-0000-0000-0000-000000000000"
	}
	e, err := events.Decide(events.NewState(), c.namespace, trial, time.Time{})
	if err == nil {
		err = events.CheckActor(env.Actor, env.Command)
	}
	if err == nil {
		_, err = events.NewRecord(events.NewState(), trial, e, time.Time{}) // it may be too large
	}
	if err != nil {
		return rejected(err)
	}
	ns, err := t.namespaces.Create(ctx, c.namespace)
	if errors.Is(err, events.ErrTooLarge) {
		return rejected(err)
	}
	if err != nil {
		return rejected(ErrUnavailable.With("the journal of %q cannot be made: %v", c.namespace, err))
	}
	return ns.Handler.do(ctx, env, c.way)
}

func query(ctx context.Context, q Query, data json.RawMessage) Outcome {
	v, err := q(ctx, data)
	if err != nil {
		return rejected(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return rejected(err)
	}
	return Outcome{OK: true, Data: b}
}

// traceparent is the caller's W3C trace context, or a fresh root where there is none that a receiver may take: every
// cutover has a trace.
func traceparent(h nats.Header) string {
	v := h.Get("traceparent")
	if _, _, ok := events.ParseTraceparent(v); ok {
		return v
	}
	return NewTraceparent()
}

// NewTraceparent begins a trace: no span is named by it yet, which the first one that is made for it takes on.
func NewTraceparent() string {
	var id events.TraceID
	rand.Read(id[:]) // never fails, see crypto/rand
	return events.RootTraceparent(id)
}
