package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

// look asks the journal what became of the command, by the command's own subject. It is not ok when there is nothing, for
// queries, and when the journal cannot be asked (which a client may not be allowed to do).
func (t *talk) look(ctx context.Context) (Outcome, bool) {
	name, ok := events.FindName(t.entity, t.verb)
	if !ok {
		return Outcome{}, false
	}
	js, err := jetstream.New(t.nc)
	if err != nil {
		return Outcome{}, false
	}
	j, err := journal.OpenAsking(ctx, js, t.namespace, journal.AskSubject(t.namespace))
	if err != nil {
		return Outcome{}, false
	}
	rec, ok, err := j.Find(ctx, name.Entity, name.Past, t.id)
	if err != nil || !ok {
		return Outcome{}, false
	}
	return accepted(rec), true
}

// Bounds of the durable way.
const (
	publishTries = 3
	publishWait  = 5 * time.Second        // for the acknowledgement of one try
	lookFirst    = 20 * time.Millisecond  // between looks for an outcome; doubled up to lookMax
	lookMax      = 500 * time.Millisecond //
)

// Ticket is what the queue gives for a command: it is stored and will be taken, by the next controller if there is none.
type Ticket struct {
	ID  string // the command's
	Seq uint64 // its sequence in UNITGATE_CMD; Settled.Queued of its outcome
}

// Publish queues a command durably. It is taken once within expires (0: the default of 60 s; at most 24 h) after it was
// stored, or not at all. Its outcome can be waited for with Outcome, for 24 h.
//
// A try whose acknowledgement gets lost is repeated with the same id, so that the queue may hold the command twice; it
// takes effect once. Errors are *events.Error: ErrNoController when no controller ever made the queue, ErrQueueFull,
// ErrNoAnswer (it may be queued: publish it again with the same id), bad_id, bad_value, too_large.
func (c *Client) Publish(ctx context.Context, entity, verb string, r Request, expires time.Duration) (Ticket, error) {
	if expires < 0 || expires > keepFor {
		return Ticket{}, events.ErrBadValue.With("%v: a command expires after more than nothing and at most 24h", expires).At("expires")
	}
	msg, err := c.message(QueuePrefix, entity, verb, &r)
	if err != nil {
		return Ticket{}, err
	}
	if err := events.CheckUUID(r.ID); err != nil {
		return Ticket{}, err
	}
	if expires > 0 {
		msg.Header.Set(ExpiresHeader, expires.String())
	}
	js, err := jetstream.New(c.nc)
	if err != nil {
		return Ticket{}, fmt.Errorf("jetstream: %w", err)
	}
	for try := range publishTries {
		var ack *jetstream.PubAck
		if ack, err = publish(ctx, js, msg); err == nil {
			return Ticket{ID: r.ID, Seq: ack.Sequence}, nil
		}
		refused := refusal(err)
		if refused != nil && try == 0 {
			return Ticket{}, refused
		}
		if refused != nil || ctx.Err() != nil {
			break // a try before this one got no answer, and may be queued whatever this one was told
		}
	}
	return Ticket{}, ErrNoAnswer.With("%s.%s: %v: it may be queued; publish it again with the same id %s", entity, verb, err, r.ID)
}

func publish(ctx context.Context, js jetstream.JetStream, msg *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	return js.PublishMsg(ctx, msg, jetstream.WithExpectStream(QueueStream))
}

// refusal tells errors after which the command is surely not queued; nil for the others.
func refusal(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		return events.ErrTooLarge.With("the queue does not take it: %v", err)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return ErrNoController.With("there is no queue for durable commands: start unitgate control once")
	case errors.As(err, &api) && api.ErrorCode == errCodeStoreFailed:
		return ErrQueueFull.With("the queue of durable commands is full: see whether a control plane runs")
	case errors.As(err, &api) && api.Code < 500:
		return ErrNoController.With("the queue does not take it: %v", err)
	}
	return nil
}

// errCodeStoreFailed is what a stream that refuses new messages answers when it is full (JSStreamStoreFailedF in
// nats-server's list of errors).
const errCodeStoreFailed jetstream.ErrorCode = 10077

// Outcome waits for the outcome of a durable command until ctx ends; then the error is ErrNoAnswer. It is the newest one
// of that id: of a command that was queued again with the same id, Queued tells which of both it is of.
func (c *Client) Outcome(ctx context.Context, id string) (Settled, error) {
	if err := events.CheckUUID(id); err != nil {
		return Settled{}, err
	}
	js, err := jetstream.New(c.nc)
	if err != nil {
		return Settled{}, fmt.Errorf("jetstream: %w", err)
	}
	for pause := lookFirst; ; pause = min(2*pause, lookMax) {
		s, ok, err := c.settled(ctx, js, id)
		if ok {
			return s, nil
		}
		if !sleep(ctx, pause) {
			if errors.Is(err, ErrNoController) {
				return Settled{}, err
			}
			if err == nil {
				err = ctx.Err()
			}
			return Settled{}, ErrNoAnswer.With("no outcome of %s yet: %v", id, err)
		}
	}
}

// settled is the outcome as the control plane tells it, or the stream itself where no control plane does.
func (c *Client) settled(ctx context.Context, js jetstream.JetStream, id string) (s Settled, ok bool, err error) {
	answer, err := journal.Ask(ctx, c.nc, journal.AskSubject(c.namespace), journal.Question{Outcome: id})
	data := []byte(answer.Outcome)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		if data, err = StoredOutcome(ctx, js, c.namespace, id); errors.Is(err, context.DeadlineExceeded) {
			err = ErrNoController.With("no control plane tells it, and the stream of outcomes does not answer: %v", err)
		}
	}
	if err != nil || data == nil {
		return s, false, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, false, fmt.Errorf("the outcome of %s: %w", id, err)
	}
	return s, true, nil
}
