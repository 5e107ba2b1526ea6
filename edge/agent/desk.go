package agent

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/unitgate/unitgate/events"
)

// desk answers one kind of question, with so much of this process's time and memory and no more, whoever asks and however
// often. What is beyond is refused at once, so that its asker knows, and beyond that dropped.
type desk struct {
	what   string                                                    // is asked: the last token of the subject
	answer func(ctx context.Context, data []byte) (v any, err error) // may be called by several goroutines
	clerks int                                                       // so many questions are answered at the same time
	room   int                                                       // so many wait for their turn
	within time.Duration                                             // that passes first: nobody waits for the answer any more
	rest   int                                                       // after each answer a clerk rests so many times as long as it took
	shared bool                                                      // what a question says does not matter: one answer is for all that wait
	bulk   *desk                                                     // for those that are packed, or of more than smallQuestion; nil: they come here

	bound    events.Bound
	queue    chan asked
	refusals allowance
	counts   [len(results)]atomic.Int64
}

// asked is a question that waits.
type asked struct {
	m  *nats.Msg
	at time.Time
}

const (
	smallQuestion = 4 << 10 // bytes

	// sharedPause is between two answers that are for all that wait: each of these gets its own signature.
	sharedPause = 50 * time.Millisecond
	maxRest     = 30 * time.Second

	// What nats.go keeps of a subject's messages until we look at them, which takes no time: we queue or refuse them.
	pendingQuestions = 1 << 10
	pendingBytes     = 8 << 20
)

// ErrBusy is the answer to a question for which there is neither a clerk nor room to wait. Nothing happened.
var ErrBusy = &events.Error{Code: "busy"}

// What becomes of questions, by the index of Runner.Questions.
const (
	answered = iota
	refused
	busy
	dropped
)

var results = [...]string{"answered", "refused", "busy", "dropped"}

// open opens a desk: its clerks work until ctx ends.
func (d *desk) open(ctx context.Context, a *answers) {
	d.bound, _ = events.QuestionBound(d.what)
	d.queue = make(chan asked, d.room)
	for range d.clerks {
		a.work.Go(func() { d.work(ctx, a) })
	}
}

// take puts a question where its turn comes, or refuses it. It never waits.
func (d *desk) take(a *answers, m *nats.Msg) {
	if d.bulk != nil && (len(m.Data) > smallQuestion || events.IsPacked(m.Data)) {
		d = d.bulk
	}
	if m.Reply == "" {
		d.counts[dropped].Add(1)
		return
	}
	if err := d.bound.CheckQuestion(d.what, len(m.Data)); err != nil {
		d.refuse(a, m, refused, err)
		return
	}
	select {
	case d.queue <- asked{m, time.Now()}:
	default:
		d.refuse(a, m, busy, d.full())
	}
}

func (d *desk) full() error {
	return ErrBusy.With("this edge answers %d %s questions at a time, and %d more wait: ask again in a few seconds", d.clerks, d.what, d.room)
}

// refuse says so, unless so many were refused in this second that answers would be a flood of their own.
func (d *desk) refuse(a *answers, m *nats.Msg, as int, err error) {
	if !d.refusals.take(time.Now(), maxRefusals) || !a.ours() {
		d.counts[dropped].Add(1)
		return
	}
	d.counts[as].Add(1)
	a.respond(m, nil, err)
}

// work is a clerk's.
func (d *desk) work(ctx context.Context, a *answers) {
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-d.queue:
			began := time.Now()
			if began.Sub(q.at) > d.within {
				d.refuse(a, q.m, busy, d.full())
				continue
			}
			d.serve(ctx, a, q)
			rest := min(time.Duration(d.rest)*time.Since(began), maxRest)
			if d.shared {
				rest = sharedPause
			}
			if rest > 0 && sleep(ctx, rest) != nil {
				return
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// serve answers one question, with those that get the same answer.
func (d *desk) serve(ctx context.Context, a *answers, q asked) {
	if !a.ours() {
		d.counts[dropped].Add(1)
		return
	}
	all := []*nats.Msg{q.m}
	for more := d.shared; more; {
		select {
		case q := <-d.queue:
			all = append(all, q.m)
		default:
			more = false
		}
	}
	ctx, cancel := context.WithDeadline(ctx, q.at.Add(d.within))
	defer cancel()
	var v any
	data, err := d.bound.OpenQuestion(d.what, q.m.Data)
	if err == nil {
		v, err = d.answer(ctx, data)
	}
	as := answered
	if err != nil {
		as = refused
	}
	d.counts[as].Add(int64(len(all)))
	a.respond(all[0], v, err)
	for _, m := range all[1:] {
		a.respond(m, v, err)
	}
}

// respond sends an answer, or an error in its place.
func (a *answers) respond(m *nats.Msg, v any, err error) {
	reply := nats.NewMsg(m.Reply)
	if err != nil {
		e := &events.Error{Code: "internal", Message: err.Error()}
		errors.As(err, &e)
		reply.Header.Set(micro.ErrorCodeHeader, e.Code)
		reply.Header.Set(micro.ErrorHeader, e.Message)
		v = map[string]any{"error": e}
	}
	if reply.Data, err = json.Marshal(v); err == nil {
		a.r.speaker.sign(reply, m)
		err = m.RespondMsg(reply)
	}
	if err != nil && a.ctx.Err() == nil {
		a.r.complain("question not answered", "subject", m.Subject, "err", err)
	}
}

// maxRefusals is how many questions a desk refuses in a second, in so many words.
const maxRefusals = 50

// allowance is for something that may happen so often in a second. Any goroutine may use it.
type allowance struct {
	mu    sync.Mutex // guards what follows
	since time.Time  // when the second began
	n     int        // times in it
}

// take takes one of so many times, if there is one left.
func (a *allowance) take(now time.Time, most int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.since) >= time.Second {
		a.since, a.n = now, 0
	}
	a.n++
	return a.n <= most
}
