package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// Errors of the way to the control plane.
var (
	// ErrNoController: nobody serves the api, or nobody ever made the queue; nothing happened.
	ErrNoController = &events.Error{Code: "no_controller"}
	// ErrNoAnswer: the command may or may not have taken effect; the same id tells.
	ErrNoAnswer = &events.Error{Code: "no_answer"}
	// ErrQueueFull: the queue of durable commands takes no more. Nothing happened.
	ErrQueueFull = &events.Error{Code: "queue_full"}
)

// How often and how long Do tries, within the caller's context.
const (
	sends      = 4                      // of one command or query
	answerWait = 5 * time.Second        // after the first sending; doubled with each further one
	pauseFirst = 250 * time.Millisecond // before sending again what nobody could do just then; doubled each time
	lastLook   = time.Second            // into the journal, after the caller's time has run out
)

// Request is a command as a caller gives it.
type Request struct {
	ID          string // UUID; "": a fresh one
	Actor       string
	Reason      string
	Traceparent string // "": a fresh one
	Data        any    // becomes the command's JSON data
}

// Client sends commands and queries of one namespace. Its methods may be used by any goroutine.
type Client struct {
	nc        *nats.Conn
	namespace string
}

// NewClient makes a client on a connection.
func NewClient(nc *nats.Conn, namespace string) *Client { return &Client{nc, namespace} }

// Do sends one command or query and waits for its outcome. A rejection is an outcome; errors are *events.Error with the
// codes of the way there, or say that Data does not encode.
//
// It takes effect once, whatever gets lost: when no answer comes, Do looks at the command's own subject in the journal and
// answers what it finds; else, or where it may not look, it sends the command again with the same id, which a controller
// answers from the journal. The same goes for controllers that are busy or cannot reach the journal. All that happens
// within ctx, and is bounded without it. Nobody there at the first sending is an error at once: nothing happened.
//
// One thing is left open: a rejection after a sending that was not answered. The controller that hung may still come round
// and, if the state has changed, accept, within the time that a controller gives one command (30 s). Send with an id of
// your own and ask with it again where that matters.
func (c *Client) Do(ctx context.Context, entity, verb string, r Request) (Outcome, error) {
	msg, err := c.message(Prefix, entity, verb, &r)
	if err != nil {
		return Outcome{}, err
	}
	msg.Reply = c.nc.NewInbox() // one for all sendings: a late answer to the first is as good as any
	sub, err := c.nc.SubscribeSync(msg.Reply)
	if err != nil {
		return Outcome{}, ErrNoAnswer.With("%s.%s was not sent: %v", entity, verb, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	t := talk{Client: c, entity: entity, verb: verb, id: r.ID, msg: msg, sub: sub}
	return t.run(ctx)
}

// message makes the message of a command and fills in what the request leaves to us.
func (c *Client) message(prefix, entity, verb string, r *Request) (*nats.Msg, error) {
	if r.ID == "" {
		r.ID = uuid.NewString()
	}
	if r.Traceparent == "" {
		r.Traceparent = NewTraceparent()
	}
	data, err := json.Marshal(r.Data)
	if err != nil {
		return nil, fmt.Errorf("encode %s.%s: %w", entity, verb, err)
	}
	if r.Data == nil {
		data = []byte("{}")
	}
	if bound, _ := events.FindBound(entity, verb); bound.Unpacked > 0 {
		data = events.Pack(data)
	}
	body, err := json.Marshal(request{ID: r.ID, Actor: r.Actor, Reason: r.Reason, Data: data})
	if err != nil {
		return nil, fmt.Errorf("encode %s.%s: %w", entity, verb, err)
	}
	if limit := c.nc.MaxPayload(); limit > 0 && int64(len(body)) > limit {
		return nil, events.ErrTooLarge.With("the command has %d bytes, the server takes %d", len(body), limit)
	}
	msg := nats.NewMsg(fmt.Sprintf("%s.%s.%s.%s", prefix, c.namespace, entity, verb))
	msg.Data = body
	msg.Header.Set("traceparent", r.Traceparent)
	return msg, nil
}

// talk is one command or query under way. One goroutine uses it.
type talk struct {
	*Client
	entity, verb, id string
	msg              *nats.Msg
	sub              *nats.Subscription
	unanswered       int // sendings of which nothing was heard
}

var errSilence = errors.New("no answer in time")

func (t *talk) run(ctx context.Context) (Outcome, error) {
	wait, pause := answerWait, pauseFirst
	var o Outcome
	var err error
	for n := range sends {
		if n > 0 && !errors.Is(err, errSilence) {
			if !sleep(ctx, pause*3/4+rand.N(pause/2)) { // not all at once that were told to come again; more than a second in all
				break
			}
			pause *= 2
		}
		if err = t.nc.PublishMsg(t.msg); err != nil {
			break
		}
		t.unanswered++
		o, err = t.answer(ctx, wait)
		wait *= 2
		switch {
		case err == nil && !passing(o):
			return t.final(ctx, o), nil
		case errors.Is(err, nats.ErrNoResponders) && n == 0:
			return Outcome{}, ErrNoController.With("no control plane answers %s.%s on %s: start unitgate control, or check --nats", t.entity, t.verb, t.nc.ConnectedAddr())
		case errors.Is(err, ErrNoAnswer), ctx.Err() != nil:
			return t.give(ctx, o, err)
		case err != nil:
			if found, ok := t.look(ctx); ok {
				return found, nil
			}
		}
	}
	return t.give(ctx, o, err)
}

// passing reports whether a rejection is none by a rule: somebody else, or the same one later, may do it.
func passing(o Outcome) bool {
	return !o.OK && (errors.Is(o.Error, ErrBusy) || errors.Is(o.Error, ErrUnavailable))
}

// answer waits for the answer to any sending.
func (t *talk) answer(ctx context.Context, wait time.Duration) (o Outcome, err error) {
	wctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	m, err := t.sub.NextMsgWithContext(wctx)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		t.unanswered--
		return o, err
	case err != nil && ctx.Err() == nil && wctx.Err() != nil:
		return o, errSilence
	case err != nil:
		return o, err
	}
	t.unanswered--
	if err := json.Unmarshal(m.Data, &o); err != nil || !o.OK && o.Error == nil {
		return Outcome{}, ErrNoAnswer.With("%s.%s: the answer is no outcome: %.100q", t.entity, t.verb, m.Data)
	}
	return o, nil
}

// final makes sure that a rejection does not hide the effect of a sending that was not answered.
func (t *talk) final(ctx context.Context, o Outcome) Outcome {
	if !o.OK && t.unanswered > 0 {
		if found, ok := t.look(ctx); ok {
			return found
		}
	}
	return o
}

// give gives up: with what the journal says, with the last outcome if every sending was answered, or without an answer.
func (t *talk) give(ctx context.Context, o Outcome, err error) (Outcome, error) {
	if !errors.Is(ctx.Err(), context.Canceled) {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastLook)
			defer cancel()
		}
		if found, ok := t.look(ctx); ok {
			return found, nil
		}
	}
	switch {
	case err == nil && o.Error != nil && t.unanswered == 0:
		return o, nil
	case errors.Is(err, ErrNoAnswer):
		return Outcome{}, err
	case err == nil && o.Error != nil: // the last sending was answered, one before it was not
		err = o.Error
	case err == nil:
		err = ctx.Err()
	}
	return Outcome{}, ErrNoAnswer.With("%s.%s: %v: it may or may not have taken effect; the same command id %s tells", t.entity, t.verb, err, t.id)
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
