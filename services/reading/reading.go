// Package reading answers the questions of readers that may not read the journals' streams themselves: edges, operators
// and observers (events/journal says what they ask and why).
//
// A Service owns its subscriptions and the lanes in which questions wait. What one role, or the edges of one unit, ask
// waits in a lane of its own, of bounded length, and each lane has one question in work: however much is asked on one
// behalf, the others' questions come next.
package reading

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

const (
	// queue is the group of all controllers: one of them answers each question.
	queue = "unitgate-reading"

	// A question is a sequence, or the name of a command.
	maxQuestion = 1 << 10

	// answerWithin is how long a question is worth an answer, from its arrival: whoever asked has given up by then.
	answerWithin = 3 * time.Second
)

// Journals is what the control plane knows. Its methods may be called by any goroutine.
type Journals interface {
	// Pages reads a namespace's journal; journal.ErrNoJournal if there is none.
	Pages(ctx context.Context, namespace string) (*journal.Pages, error)
	// Member reports whether an edge is registered in a unit, without waiting.
	Member(namespace, unit, edge string) bool
	// List are the namespaces that have a journal.
	List(ctx context.Context) ([]journal.Listed, error)
	// Outcome is the outcome of a durable command as it is stored; nil if there is none.
	Outcome(ctx context.Context, namespace, id string) ([]byte, error)
}

// Service answers questions until it is closed.
type Service struct {
	of   Journals
	log  *slog.Logger
	subs []*nats.Subscription
	stop context.CancelFunc
	lanes
}

// Config says whom to answer, each on a connection of its own if that shall not be kept from reading by the others: a
// server cuts off who is flooded.
type Config struct {
	Edges     *nats.Conn
	Operators *nats.Conn // and all where roles have no accounts of their own
	Observers *nats.Conn
	Journals  Journals
	Log       *slog.Logger
}

// Roles, as accounts put them behind the subjects of questions.
const (
	operators = ".operators"
	observers = ".observers"
)

// Serve begins to answer.
func Serve(cfg Config) (*Service, error) {
	ctx, stop := context.WithCancel(context.Background())
	s := &Service{of: cfg.Journals, log: cfg.Log, stop: stop, lanes: lanes{by: map[string]*lane{}}}
	s.work = func(q question) { s.answer(ctx, q) }
	for _, o := range []struct {
		nc      *nats.Conn
		subject string
		sort    func(tokens []string) (place, bool)
	}{
		{cfg.Edges, journal.EdgeAskSubject("*", "*", "*"), byEdge},
		{cfg.Operators, journal.AskSubject("*"), byRole},
		{cfg.Operators, journal.AskSubject("*") + operators, byRole},
		{cfg.Operators, journal.ListSubject, byRole},
		{cfg.Operators, journal.ListSubject + operators, byRole},
		{cfg.Observers, journal.AskSubject("*") + observers, byRole},
		{cfg.Observers, journal.ListSubject + observers, byRole},
	} {
		sub, err := o.nc.QueueSubscribe(o.subject, queue, func(m *nats.Msg) { s.take(m, o.sort) })
		if err != nil {
			return nil, errors.Join(fmt.Errorf("offer to read the journals on %s: %w", o.subject, err), s.Close())
		}
		s.subs = append(s.subs, sub)
	}
	return s, nil
}

// Close takes no more questions and waits for those in work, which it cuts short.
func (s *Service) Close() error {
	var errs []error
	for _, sub := range s.subs {
		if err := sub.Unsubscribe(); !errors.Is(err, nats.ErrConnectionClosed) {
			errs = append(errs, err)
		}
	}
	s.stop()
	s.close()
	return errors.Join(errs...)
}

// question is a message that waits for its answer.
type question struct {
	msg       *nats.Msg
	namespace string // "": for the list
	arrived   time.Time
}

// place is where a question waits.
type place struct {
	namespace string
	lane      string
	asker     string // of whom only the newest question counts; "": each counts
}

// byRole: unitgate.journal.<namespace>[.<role>], unitgate.namespaces[.<role>].
func byRole(t []string) (place, bool) {
	if t[1] == "namespaces" {
		return place{lane: "role." + strings.Join(t[2:], ".")}, true
	}
	return place{namespace: t[2], lane: "role." + strings.Join(t[3:], ".")}, events.CheckID(t[2], "namespace") == nil
}

// byEdge: unitgate.edge.<namespace>.<unit>.<id>.read.
func byEdge(t []string) (place, bool) {
	p := place{namespace: t[2], lane: "unit." + t[2] + "." + t[3], asker: t[4]}
	return p, events.CheckID(t[2], "namespace") == nil && events.CheckID(t[3], "unit") == nil && events.CheckID(t[4], "edge") == nil
}

// take puts a question into its lane. It runs on the subscription's goroutine and never waits.
func (s *Service) take(m *nats.Msg, sort func([]string) (place, bool)) {
	if m.Reply == "" {
		return
	}
	tokens := strings.Split(m.Subject, ".")
	p, ok := sort(tokens)
	if ok && p.asker != "" && !s.of.Member(p.namespace, tokens[3], p.asker) {
		p.lane += ".strangers" // any number of names may ask there, and those who serve do not wait for them
	}
	switch {
	case !ok || len(m.Data) > maxQuestion:
		s.refuse(m, journal.CodeBadQuestion, "no question about a journal has this form")
	case !s.add(p, question{m, p.namespace, time.Now()}):
		s.refuse(m, journal.CodeBusy, "too many questions of this role or unit wait for their answers: ask again")
	}
}

func (s *Service) refuse(m *nats.Msg, code, why string) {
	s.send(m, journal.Answer{Error: &events.Error{Code: code, Message: why}})
}

func (s *Service) answer(ctx context.Context, q question) {
	ctx, cancel := context.WithDeadline(ctx, q.arrived.Add(answerWithin))
	defer cancel()
	if ctx.Err() != nil {
		return
	}
	var asked journal.Question
	if len(q.msg.Data) > 0 {
		if err := json.Unmarshal(q.msg.Data, &asked); err != nil {
			s.refuse(q.msg, journal.CodeBadQuestion, err.Error())
			return
		}
	}
	a, err := s.find(ctx, q.namespace, asked)
	if ctx.Err() != nil {
		return
	}
	if errors.Is(err, journal.ErrNoJournal) {
		err = &events.Error{Code: journal.CodeUnknownNamespace, Message: err.Error()}
	}
	var known *events.Error
	switch {
	case errors.As(err, &known):
		a = journal.Answer{Error: known}
	case err != nil:
		a = journal.Answer{Error: &events.Error{Code: journal.CodeUnavailable, Message: err.Error()}}
	}
	s.send(q.msg, a)
}

func (s *Service) find(ctx context.Context, namespace string, q journal.Question) (a journal.Answer, err error) {
	switch {
	case namespace == "":
		a.Listed, err = s.of.List(ctx)
		return a, err
	case q.Outcome != "":
		if err := events.CheckUUID(q.Outcome); err != nil {
			return a, err
		}
		a.Outcome, err = s.of.Outcome(ctx, namespace, q.Outcome)
		return a, err
	}
	pages, err := s.of.Pages(ctx, namespace)
	if err != nil {
		return a, err
	}
	return pages.Answer(ctx, q), nil
}

func (s *Service) send(m *nats.Msg, a journal.Answer) {
	b, err := json.Marshal(a)
	if err == nil {
		err = m.Respond(b)
	}
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		s.log.Warn("a reader's question is not answered", "subject", m.Subject, "err", err)
	}
}
