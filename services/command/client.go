package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// Errors of the way to the control plane.
var (
	// ErrNoController: nobody serves the api; nothing happened.
	ErrNoController = &events.Error{Code: "no_controller"}
	// ErrNoAnswer: the command may or may not have taken effect; the same id tells.
	ErrNoAnswer = &events.Error{Code: "no_answer"}
)

// Request is a command as a caller gives it.
type Request struct {
	ID          string // UUID; "": a fresh one
	Actor       string
	Reason      string
	Traceparent string // "": a fresh one
	Data        any    // becomes the command's JSON data
}

// Client sends commands and queries of one namespace.
type Client struct {
	nc        *nats.Conn
	namespace string
}

// NewClient makes a client on a connection.
func NewClient(nc *nats.Conn, namespace string) *Client { return &Client{nc, namespace} }

// Do sends one command or query and waits for its outcome. A rejection is an outcome; errors are *events.Error with the
// codes of the way there, or say that Data does not encode.
func (c *Client) Do(ctx context.Context, entity, verb string, r Request) (Outcome, error) {
	if r.ID == "" {
		r.ID = uuid.NewString()
	}
	if r.Traceparent == "" {
		r.Traceparent = NewTraceparent()
	}
	data, err := json.Marshal(r.Data)
	if err != nil {
		return Outcome{}, fmt.Errorf("encode %s.%s: %w", entity, verb, err)
	}
	if r.Data == nil {
		data = []byte("{}")
	}
	body, err := json.Marshal(request{ID: r.ID, Actor: r.Actor, Reason: r.Reason, Data: data})
	if err != nil {
		return Outcome{}, fmt.Errorf("encode %s.%s: %w", entity, verb, err)
	}
	msg := nats.NewMsg(fmt.Sprintf("%s.%s.%s.%s", Prefix, c.namespace, entity, verb))
	msg.Data = body
	msg.Header.Set("traceparent", r.Traceparent)
	reply, err := c.nc.RequestMsgWithContext(ctx, msg)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return Outcome{}, ErrNoController.With("no control plane answers on %s: start unitgate control, or check --nats", c.nc.ConnectedUrlRedacted())
	case errors.Is(err, nats.ErrMaxPayload):
		return Outcome{}, events.ErrTooLarge.With("the command has %d bytes, the server takes %d", len(body), c.nc.MaxPayload())
	case err != nil:
		return Outcome{}, ErrNoAnswer.With("%s.%s: %v: it may or may not have taken effect; the same command id %s tells", entity, verb, err, r.ID)
	}
	var o Outcome
	if err := json.Unmarshal(reply.Data, &o); err != nil || !o.OK && o.Error == nil {
		return Outcome{}, ErrNoAnswer.With("%s.%s: the answer is no outcome: %.100q", entity, verb, reply.Data)
	}
	return o, nil
}
