package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
)

// How long a command rests that could not be decided: doubled with each delivery, and cut so that it comes again right
// after it has expired.
const (
	restFirst = time.Second
	restMax   = 15 * time.Second
)

// budgetWait is how long a large command keeps a hand while others are in progress; then it is put back.
const budgetWait = time.Second

// queued is one delivery of a durable command. Its poison is why it can not be a command at all, else nil.
type queued struct {
	call
	cost      int    // of the budget
	oversize  bool   // it was not read
	seq       uint64 // in UNITGATE_CMD
	delivered uint64 // 1 for the first time
	poison    error
}

// tokenForm is what an outcome's subject takes over from a command's.
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// settle carries one delivery to its end: outcome stored and acked, or given back.
func (d *Durable) settle(ctx context.Context, q *queue, m *nats.Msg) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	defer d.progress(m)()
	c, err := q.read(m)
	m.Header, m.Data = nil, nil // which may be a megabyte, and many times that in memory
	if c.oversize {
		d.taker.meters.refused(durable, refusedSize)
	}
	if err != nil {
		d.cfg.Log.Error("a durable command without an address is dropped", "subject", m.Subject, "err", err)
		d.end(m, "+TERM")
		return
	}
	log := d.cfg.Log.With("namespace", c.namespace, "command", c.entity+"."+c.verb, "command_id", c.ID, "queued", c.seq)
	before, err := q.outcome(ctx, c.namespace, c.ID)
	if err == nil && before.of(q, c.seq) {
		d.end(m, "+ACK") // settled by a controller that died, or whose ack got lost
		return
	}
	var o Outcome
	if err == nil {
		o = d.decide(ctx, c)
		if err = pending(ctx, o); err == nil && before.stays(c, o) {
			log.Warn("its outcome is not told: a command was accepted under this id", "ok", o.OK, "err", o.Error)
		} else if err == nil {
			err = q.store(ctx, c, o, before.seq)
		}
	}
	switch {
	case err != nil:
		rest := d.rest(c)
		log.Warn("a durable command is put back", "err", err, "for", rest)
		d.end(m, fmt.Sprintf(`-NAK {"delay":%d}`, rest))
	case c.poison != nil:
		log.Warn("this is no command", "err", c.poison)
		d.end(m, "+TERM")
	default:
		d.end(m, "+ACK")
	}
}

func (d *Durable) decide(ctx context.Context, c queued) Outcome {
	if c.poison != nil {
		o := d.taker.refuse(ctx, c.call, c.poison)
		d.taker.meters.took("", events.Name{}, false, wayDurable, o)
		return o
	}
	wait, cancel := context.WithTimeout(ctx, budgetWait)
	defer cancel()
	if err := d.cfg.Budget.take(wait, c.cost); err != nil {
		d.taker.meters.refused(durable, refusedBusy)
		return rejected(err)
	}
	defer d.cfg.Budget.give(c.cost)
	return d.taker.take(ctx, c.call)
}

// pending is why an outcome is not final: the journal or this controller could not decide now.
func pending(ctx context.Context, o Outcome) error {
	if o.OK {
		return nil
	}
	for _, e := range []error{ErrUnavailable, ErrBusy, ErrStopped} {
		if errors.Is(o.Error, e) {
			return o.Error
		}
	}
	return ctx.Err() // what was decided while time ran out or the process stopped was not decided by a rule
}

// rest is how long a command that could not be decided waits before it comes again, here or elsewhere.
func (d *Durable) rest(c queued) time.Duration {
	if d.working.Err() != nil {
		return 0 // this process stops: the next one takes it
	}
	rest := min(restFirst<<min(c.delivered-1, 10), restMax)
	if left := c.notAfter.Sub(d.cfg.Now()); left > 0 && left < rest {
		rest = left + time.Millisecond
	}
	return rest
}

// end tells the server what to do with the message. A lost word costs another delivery, nothing else.
func (d *Durable) end(m *nats.Msg, word string) {
	if err := d.cfg.JS.Conn().Publish(m.Reply, []byte(word)); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		d.cfg.Log.Warn("a durable command will come again", "subject", m.Subject, "err", err)
	}
}

// read makes a call of a message. The error means that there is nowhere to send an outcome to.
func (q *queue) read(m *nats.Msg) (queued, error) {
	meta, err := m.Metadata()
	if err != nil {
		return queued{}, err
	}
	c := queued{seq: meta.Sequence.Stream, delivered: meta.NumDelivered}
	c.again = c.delivered > 1
	tokens := strings.Split(m.Subject, ".")
	if c.namespace = tokens[2]; !tokenForm.MatchString(c.namespace) { // the stream's subjects have at least three
		return c, events.ErrBadName.With("namespace %q", c.namespace)
	}
	if len(tokens) == 5 {
		c.entity, c.verb = tokens[3], tokens[4]
	}
	bound := routeOf(c.entity, c.verb, nil).bound
	if c.poison = bound.CheckSize(c.entity, c.verb, len(m.Data)); c.poison != nil {
		c.oversize, c.ID = true, idIn(m.Data) // so that whoever waits for it is told
	} else if c.request, c.poison = decodeRequest(m.Data); c.poison != nil {
		_ = json.Unmarshal(m.Data, &c.request) // likewise
	}
	c.cost = costOf(bound, m.Data)
	if c.ID != "" && events.CheckUUID(c.ID) != nil {
		c.poison, c.ID = events.CheckUUID(c.ID), ""
	}
	if c.ID == "" {
		c.ID = DerivedID(q.epoch, c.seq)
	}
	if c.notAfter, err = expiry(m.Header, meta.Timestamp); err != nil && c.poison == nil {
		c.poison = err
	}
	if len(tokens) != 5 {
		c.poison = events.ErrBadCommand.With("%q is no command: the subject is %s.<namespace>.<entity>.<verb>", m.Subject, QueuePrefix)
		return c, nil
	}
	c.traceparent, c.queued = traceparent(m.Header), true
	return c, nil
}

// firstID is where our clients and most others write the id.
var firstID = regexp.MustCompile(`^\s*\{\s*"id"\s*:\s*"([0-9a-f-]{36})"`)

// idIn is the id with which a message begins that is too large to be read; "" if it does not.
func idIn(body []byte) string {
	if m := firstID.FindSubmatch(body[:min(len(body), 128)]); m != nil {
		return string(m[1])
	}
	return ""
}

// outcomeOf is an outcome that is stored, or its absence.
type outcomeOf struct {
	seq  uint64 // in UNITGATE_OUTCOME, 0: none
	mark string
	data []byte
}

// markHeader names the message that an outcome settles: stream, epoch, sequence.
const markHeader = "Unitgate-Queued"

func (q *queue) mark(seq uint64) string { return fmt.Sprintf("%s/%s/%d", QueueStream, q.epoch, seq) }

// of reports whether the outcome settles this very message; the id alone does not, since it may have been sent twice.
func (o outcomeOf) of(q *queue, seq uint64) bool { return o.seq > 0 && o.mark == q.mark(seq) }

// stays reports whether the outcome must not be replaced by another one: an acceptance holds for ever, and only a newer
// message of the same command may put its own mark on it.
func (o outcomeOf) stays(c queued, next Outcome) bool {
	var was Settled
	if o.seq == 0 || json.Unmarshal(o.data, &was) != nil || !was.OK {
		return false
	}
	return !next.OK || was.Entity != c.entity || was.Verb != c.verb
}

func (q *queue) outcome(ctx context.Context, namespace, id string) (outcomeOf, error) {
	return lastOutcome(ctx, q.outcomes, namespace, id)
}

// StoredOutcome is the outcome of a durable command as it is stored; nil if there is none.
func StoredOutcome(ctx context.Context, js jetstream.JetStream, namespace, id string) ([]byte, error) {
	sctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	st, err := js.Stream(sctx, OutcomeStream)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", OutcomeStream, err)
	}
	o, err := lastOutcome(ctx, st, namespace, id)
	return o.data, err
}

func lastOutcome(ctx context.Context, st jetstream.Stream, namespace, id string) (outcomeOf, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	m, err := st.GetLastMsgForSubject(ctx, OutcomePrefix+"."+namespace+"."+id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return outcomeOf{}, nil
	}
	if err != nil {
		return outcomeOf{}, fmt.Errorf("ask for the outcome of %s: %w", id, err)
	}
	return outcomeOf{m.Sequence, m.Header.Get(markHeader), m.Data}, nil
}

// store publishes an outcome and waits until it is stored. It only takes the place of the outcome that was there before it
// was decided: a controller that stood still for longer than AckWait must not talk over its successor, and what stays must
// not be replaced because it came in between. Where it does not fit, the command comes again and finds what is there.
func (q *queue) store(ctx context.Context, c queued, o Outcome, before uint64) error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	body, err := q.encode(c, o)
	if err != nil {
		return err
	}
	m := nats.NewMsg(OutcomePrefix + "." + c.namespace + "." + c.ID)
	m.Data = body
	m.Header.Set(markHeader, q.mark(c.seq))
	if _, err := q.js.PublishMsg(ctx, m, jetstream.WithExpectStream(OutcomeStream), jetstream.WithExpectLastSequencePerSubject(before)); err != nil {
		return fmt.Errorf("store the outcome: %w", err)
	}
	return nil
}

// encode makes an outcome's message. Data that would be too large for one is left out: the api answers it for the same id.
func (q *queue) encode(c queued, o Outcome) ([]byte, error) {
	s := Settled{ID: c.ID, Entity: c.entity, Verb: c.verb, Queued: c.seq, Outcome: o}
	b, err := json.Marshal(s)
	if limit := min(maxMessage, int(q.js.Conn().MaxPayload())) - 4096; err == nil && len(b) > limit { // room for headers
		s.Data, s.DataOmitted = nil, true
		b, err = json.Marshal(s)
	}
	return b, err
}

// Settled is the outcome of a durable command.
type Settled struct {
	ID     string `json:"id"`               // the command's; derived where it had none
	Entity string `json:"entity,omitempty"` // entity, verb and id are what identifies a command
	Verb   string `json:"verb,omitempty"`
	Queued uint64 `json:"queued"` // its sequence in UNITGATE_CMD, as the acknowledgement of the publishing told
	Outcome
	DataOmitted bool `json:"dataOmitted,omitempty"` // data is too large for a message: ask the api with the same id
}
