package agent

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

const (
	commandTimeout = 5 * time.Second // for the answer to one request, on whichever subject
	// commandExpires is how long a signed command may take effect, by the clocks of the edge
	// and of the controller, which may differ by a few minutes. One that has taken effect
	// never does so again, and one that was refused cannot be sent once more after that.
	commandExpires = 5 * time.Minute
)

// envelope and outcome are the two ends of a command.
type envelope struct {
	ID    string `json:"id"`
	Actor string `json:"actor"`
	Data  any    `json:"data"`
}

type outcome struct {
	OK    bool          `json:"ok"`
	Seq   uint64        `json:"seq"`
	Error *events.Error `json:"error"`
}

// speaker says things in the name of one edge, signed by its key. Its fields do not change; any
// goroutine may use it.
type speaker struct {
	nc     *nats.Conn
	self   Self // only Namespace, Unit and ID count
	signer ed25519.PrivateKey
}

// message makes a signed message.
func (s speaker) message(subject, expires string, body []byte) *nats.Msg {
	return &nats.Msg{Subject: subject, Data: body, Header: events.SignedHeaders(s.signer, subject, expires, body)}
}

// say publishes on the edge's own subject.
func (s speaker) say(what, reply string, body []byte) error {
	msg := s.message(subject(s.self, what), "", body)
	msg.Reply = reply
	return s.nc.PublishMsg(msg)
}

// sign signs an answer, if the question has a number.
func (s speaker) sign(answer, question *nats.Msg) {
	n := question.Header.Get(events.HeaderQuestion)
	if n == "" || len(n) > events.MaxQuestion {
		return
	}
	for k, v := range events.SignedHeaders(s.signer, events.AnswerSubject(question.Subject, n), "", answer.Data) {
		answer.Header[k] = v
	}
}

// command sends one command about the edge, on a subject that only its unit may use. A control
// plane of a version without signatures listens on the api's: it is tried where nothing
// answers, as the same command. An error means that there was no usable answer.
func (s speaker) command(ctx context.Context, verb, id string, data any) (outcome, error) {
	if err := awaitConnection(ctx, s.nc); err != nil {
		return outcome{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	first, stop := context.WithTimeout(ctx, commandTimeout/2)
	defer stop()
	o, err := s.request(first, subject(s.self, verb), id, data)
	if err == nil || ctx.Err() != nil {
		return o, err
	}
	api := "unitgate.api." + s.self.Namespace + ".edge." + verb
	old, oldErr := s.request(ctx, api, id, data)
	if join, ok := data.(events.JoinEdge); oldErr == nil && ok && join.SucceedsProof != "" && !old.OK && old.Error.Code == events.ErrUnknownField.Code {
		join.SucceedsProof = "" // that version asks for none
		old, oldErr = s.request(ctx, api, id, join)
	}
	if oldErr != nil {
		return outcome{}, errors.Join(err, oldErr)
	}
	return old, nil
}

// request sends a signed command on a subject.
func (s speaker) request(ctx context.Context, subject, id string, data any) (o outcome, err error) {
	b, err := json.Marshal(envelope{ID: id, Actor: "edge/" + s.self.ID, Data: data})
	if err != nil {
		return o, err
	}
	expires := time.Now().Add(commandExpires).UTC().Format(time.RFC3339)
	answer, err := s.nc.RequestMsgWithContext(ctx, s.message(subject, expires, b))
	if err != nil {
		return o, fmt.Errorf("%s: %w", subject, err)
	}
	if err := json.Unmarshal(answer.Data, &o); err != nil {
		return o, fmt.Errorf("answer to %s: %w", subject, err)
	}
	if !o.OK && o.Error == nil {
		return o, fmt.Errorf("answer to %s is neither ok nor an error", subject)
	}
	return o, nil
}
