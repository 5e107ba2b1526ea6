package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// againAfter is how long one controller may take before the question goes out once more, to another one perhaps: a
// controller that hangs still gets its share of the questions.
const againAfter = 400 * time.Millisecond

// barred is how long a way to read that the NATS server has forbidden is not tried again, and how long a control plane that
// has answered is waited for before another way is.
const barred = 5 * time.Minute

// asker asks the control plane about a journal.
type asker struct {
	nc      *nats.Conn
	subject string
	closed  door

	mu       sync.Mutex
	answered time.Time // last
}

// recent tells whether a control plane has answered lately.
func (a *asker) recent() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.answered.IsZero() && time.Since(a.answered) < barred
}

// door is a way to read that may be forbidden.
type door struct {
	mu    sync.Mutex
	until time.Time // it stays shut
	why   error     // that shut it last: a connection keeps its last error for ever
}

func (d *door) open() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().After(d.until)
}

// shut keeps the door shut for a while if the server has just forbidden this connection to publish on a subject, of which
// start is the beginning, or all of it with the quote behind it; and tells whether it has.
func (d *door) shut(nc *nats.Conn, start string) bool {
	err := nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `Publish to "`+start) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.why == err { //nolint:errorlint // the very same one: it says nothing of what was sent since
		return false
	}
	d.why, d.until = err, time.Now().Add(barred)
	return true
}

var errBarred = errors.New("this user may not ask the control plane")

// ask asks until one controller has answered. nats.ErrNoResponders says that none is there.
func (a *asker) ask(ctx context.Context, q Question) (Answer, error) {
	var out Answer
	if !a.closed.open() {
		return out, errBarred
	}
	body, err := json.Marshal(q)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	sub, err := a.nc.SubscribeSync(a.nc.NewInbox()) // one for all sendings: a late answer to the first is as good as any
	if err != nil {
		return out, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	m, err := a.send(ctx, sub, body)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(m.Data, &out); err != nil {
		return out, fmt.Errorf("answer to a question about the journal: %w", err)
	}
	a.mu.Lock()
	a.answered = time.Now()
	a.mu.Unlock()
	return out, out.failure()
}

func (a *asker) send(ctx context.Context, sub *nats.Subscription, body []byte) (*nats.Msg, error) {
	for {
		if err := a.nc.PublishRequest(a.subject, sub.Subject, body); err != nil {
			return nil, err
		}
		wctx, cancel := context.WithTimeout(ctx, againAfter)
		m, err := sub.NextMsgWithContext(wctx)
		cancel()
		switch {
		case err == nil || !errors.Is(err, context.DeadlineExceeded):
			return m, err
		case a.closed.shut(a.nc, a.subject+`"`):
			return nil, errBarred
		case ctx.Err() != nil:
			return nil, err
		}
	}
}

// Ask asks the control plane one question, without turning to anything else. The errors are those of NATS (no responders:
// no control plane is there), ErrNoJournal, and what the control plane says.
func Ask(ctx context.Context, nc *nats.Conn, subject string, q Question) (Answer, error) {
	a := asker{nc: nc, subject: subject}
	return a.ask(ctx, q)
}

// standing says where the journal stands.
func (a *asker) standing(ctx context.Context) (standing, error) {
	answer, err := a.ask(ctx, Question{})
	if err != nil {
		return standing{}, err
	}
	return answer.standing(), nil
}

func (a *Answer) standing() standing {
	st := standing{epoch: a.Epoch, head: a.Head, asked: true}
	if a.Unproven != "" {
		st.unproven = errors.New(a.Unproven)
	}
	return st
}

// record is one record by its sequence; not ok: there is none.
func (a *asker) record(ctx context.Context, ns string, seq uint64) (events.Record, bool, error) {
	after := seq - 1
	answer, err := a.ask(ctx, Question{After: &after})
	switch {
	case err != nil:
		return events.Record{}, false, err
	case len(answer.Records) > 0 && answer.Records[0].Seq == seq:
		return answer.first(ns)
	case answer.Broken != nil && answer.Broken.Seq == seq:
		return events.Record{}, false, answer.Broken.error(ns)
	}
	return events.Record{}, false, nil
}

// find is the record that a command made; not ok: there is none.
func (a *asker) find(ctx context.Context, ns string, key CommandKey) (events.Record, bool, error) {
	answer, err := a.ask(ctx, Question{Find: &key})
	if err != nil || len(answer.Records) == 0 {
		return events.Record{}, false, err
	}
	return answer.first(ns)
}

func (a *Answer) first(ns string) (events.Record, bool, error) {
	rec, err := a.Records[0].record()
	if err != nil {
		return rec, false, malformed(ns, a.Records[0].Seq, err)
	}
	return rec, true, nil
}

func (b *AnswerBreak) error(ns string) error { return malformed(ns, b.Seq, errors.New(b.Why)) }

func malformed(ns string, seq uint64, err error) *BreakError {
	return &BreakError{Namespace: ns, Kind: BreakMalformed, Seq: seq, Err: err}
}
