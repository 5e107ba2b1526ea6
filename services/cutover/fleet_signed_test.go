package cutover

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// An answer counts only under the signature of the edge that was asked, and for this question:
// what a sibling says in its name, and what it said before, are no answers.
func TestAnswersAreTheEdgesOwn(t *testing.T) {
	nc := journaltest.StartServer(t).Connect()
	var signer ed25519.PrivateKey
	e := events.Edge{ID: "b1", Unit: "unbj"}
	for i := 0; signer == nil; i++ {
		seed := sha256.Sum256(fmt.Append(nil, i))
		if s, agree, err := events.DeriveKeys(seed[:]); err == nil {
			signer, e.Key = s, hex.EncodeToString(agree.PublicKey().Bytes())
		}
	}
	e.Directory = events.Fingerprint(e.Key)
	subject := events.EdgeSubject("shop", "unbj", "b1", "status")
	body, _ := json.Marshal(events.EdgeStatus{Head: 7})
	old := events.SignedHeaders(signer, events.AnswerSubject(subject, "an earlier question"), "", body)
	for _, tt := range []struct {
		name   string
		header func(number string) nats.Header
		legacy bool // the edge's directory is of a version before signatures
		ok     bool
	}{
		{"its own", func(n string) nats.Header {
			return events.SignedHeaders(signer, events.AnswerSubject(subject, n), "", body)
		}, false, true},
		{"unsigned", func(string) nats.Header { return nil }, false, false},
		{"a sibling's", func(n string) nats.Header {
			return events.SignedHeaders(NewKey(), events.AnswerSubject(subject, n), "", body)
		}, false, false},
		{"given before", func(string) nats.Header { return old }, false, false},
		{"of another edge", func(n string) nats.Header {
			return events.SignedHeaders(signer, events.AnswerSubject(events.EdgeSubject("shop", "unbj", "b2", "status"), n), "", body)
		}, false, false},
		{"for another question", func(n string) nats.Header {
			return events.SignedHeaders(signer, events.AnswerSubject(events.EdgeSubject("shop", "unbj", "b1", "sessions"), n), "", body)
		}, false, false},
		{"a report", func(string) nats.Header { return events.SignedHeaders(signer, subject, "", body) }, false, false},
		{"unsigned, of a version before", func(string) nats.Header { return nil }, true, true},
		{"a stranger's, of a version before", func(n string) nats.Header {
			return events.SignedHeaders(NewKey(), events.AnswerSubject(subject, n), "", body)
		}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sub, err := nc.Subscribe(subject, func(m *nats.Msg) {
				_ = m.RespondMsg(&nats.Msg{Data: body, Header: tt.header(m.Header.Get(events.HeaderQuestion))})
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			e := e
			if tt.legacy {
				e.Directory = directoryOf("b1")
			}
			a := NewFleet(nc, "shop").Status(t.Context(), []events.Edge{e})[0]
			if (a.Err == nil) != tt.ok || tt.ok && a.Value.Head != 7 || !tt.ok && !errors.Is(a.Err, events.ErrBadSignature) {
				t.Errorf("%+v", a)
			}
		})
	}
}
