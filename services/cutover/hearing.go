package cutover

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// Unheard counts the messages of edges that this process has not read, by why.
func (m *Manager) Unheard() map[string]uint64 { return m.mail.counts() }

// listen has what edges say come into the mailbox, until end is called. There is no queue: every controller hears every
// request, which is a report, and the one in office answers.
func (m *Manager) listen() (end func(), err error) {
	reports, err := m.cfg.NC.Subscribe(events.EdgeSubject(m.cfg.Namespace, "*", "*", "report"), m.mail.put)
	if err != nil {
		return nil, fmt.Errorf("subscribe to the reports of %s: %w", m.cfg.Namespace, err)
	}
	leases, err := m.cfg.NC.Subscribe(events.EdgeSubject(m.cfg.Namespace, "*", "*", "lease"), m.mail.put)
	if err != nil {
		_ = reports.Unsubscribe()
		return nil, fmt.Errorf("subscribe to the requests for leases of %s: %w", m.cfg.Namespace, err)
	}
	return func() { _, _ = reports.Unsubscribe(), leases.Unsubscribe() }, nil // fail only on a closed connection
}

// read decodes what an edge says, as kind tells, and hands it to the driver by way of post.
// A signature that does not hold is not the same as none.
func (m *Manager) read(msg *nats.Msg) (input func(At) Input, ok bool) {
	signer, err := events.VerifySigner(msg.Header, msg.Subject, msg.Data)
	if err != nil {
		m.mail.drop(droppedUnsigned)
		return nil, false
	}
	if strings.HasSuffix(msg.Subject, ".lease") {
		var r events.LeaseRequest
		ok = decodeFrom(msg, &r, &r.EdgeReport)
		input = func(at At) Input { return Asked{at, r, msg.Reply, signer} }
	} else {
		var r events.EdgeReport
		ok = decodeFrom(msg, &r, &r)
		input = func(at At) Input { return Reported{at, r, signer} }
	}
	if !ok {
		m.mail.drop(droppedForm)
	}
	return input, ok
}

// decodeFrom reads a message and makes sure that it is about the edge whose subject it came on.
func decodeFrom(msg *nats.Msg, into any, r *events.EdgeReport) bool {
	t := strings.Split(msg.Subject, ".")
	return json.Unmarshal(msg.Data, into) == nil && len(t) == 6 && r.Namespace == t[2] && r.Unit == t[3] && r.Edge == t[4]
}

// answer says to an edge what the driver answers, under the office's signature.
func (m *Manager) answer(out AnswerLease) {
	b, err := json.Marshal(out.Answer)
	if err == nil && out.Reply != "" {
		subject := events.LeaseAnswerSubject(out.Answer.Namespace, out.Answer.Edge)
		err = m.cfg.NC.PublishMsg(&nats.Msg{Subject: out.Reply, Data: b, Header: events.SignedHeaders(m.cfg.Key, subject, "", b)})
	}
	if err != nil { // the edge asks again
		m.cfg.Logger.Warn("a request for a lease could not be answered", "namespace", m.cfg.Namespace, "edge", out.Answer.Edge, "err", err)
	}
}
