package journaltest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events/journal"
)

// Asking is the subject of the questions in tests.
const Asking = "unitgate.journal.shop"

// Answer answers the questions about a journal on Asking, as a control plane does, until the test or ctx ends.
func Answer(ctx context.Context, t testing.TB, nc *nats.Conn, j *journal.Stream) {
	t.Helper()
	pages := journal.NewPages(j)
	sub, err := nc.QueueSubscribe(Asking, "test", func(m *nats.Msg) {
		var q journal.Question
		if err := json.Unmarshal(m.Data, &q); err != nil {
			t.Errorf("question %s: %v", m.Data, err)
			return
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		b, err := json.Marshal(pages.Answer(ctx, q))
		if err != nil {
			t.Error(err)
		}
		_ = m.Respond(b) // fails only on a closed connection
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() })
}

// OpenAsking opens the journal of shop as a reader that asks.
func OpenAsking(t testing.TB, js jetstream.JetStream) *journal.Stream {
	t.Helper()
	j, err := journal.OpenAsking(t.Context(), js, "shop", Asking)
	if err != nil {
		t.Fatal(err)
	}
	return j
}
