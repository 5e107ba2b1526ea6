package command_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/command"
)

// A refusal after a try that got no answer does not mean that nothing is queued: the first one may be.
func TestRefusalAfterAnUnclearTry(t *testing.T) {
	t.Parallel()
	s := journaltest.StartServer(t)
	nc := s.Connect()
	tries := 0
	_, err := nc.Subscribe("unitgate.cmd.>", func(m *nats.Msg) {
		if tries++; tries == 1 {
			return // stored, and its acknowledgement is lost
		}
		full := map[string]any{"error": map[string]any{"code": 503, "err_code": 10077, "description": "maximum bytes exceeded"}}
		b, err := json.Marshal(full)
		if err == nil {
			err = m.Respond(b)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = command.NewClient(s.Connect(), "shop").Publish(t.Context(), "unit", "put", command.Request{Actor: "test", Data: events.Unit{ID: "u1"}}, 0)
	if !errors.Is(err, command.ErrNoAnswer) {
		t.Errorf("%v, want no_answer", err)
	}
}
