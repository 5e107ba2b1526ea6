package journal

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
)

// A reader that gets no consumer goes on trying, and says why nothing comes; it reads once there is one again.
func TestNoConsumerIsLeft(t *testing.T) {
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := streamConfig("shop", uuid.NewString(), 1)
	cfg.MaxConsumers = 1
	st, err := js.CreateStream(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	j, err := Open(t.Context(), js, "shop")
	if err != nil {
		t.Fatal(err)
	}
	env := events.Envelope{ID: uuid.NewString(), Actor: "test", Command: events.ApplyConfig{Config: events.Config{
		Namespace: "shop", UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 100}}, Units: []events.Unit{{ID: "center", Center: true}},
	}}}
	e, err := events.Decide(events.NewState(), "shop", env, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := events.NewRecord(events.NewState(), env, e, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), 0, rec); err != nil {
		t.Fatal(err)
	}
	if _, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "d0"}); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	read := make(chan error, 1)
	go func() { read <- j.Read(ctx, 1, func(events.Record) error { return nil }) }()
	for j.Trouble() == nil && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if err := j.Trouble(); !errors.Is(err, ErrConsumers) || !strings.Contains(err.Error(), "nats consumer ls UNITGATE_shop") {
		t.Errorf("the reader says %v", err)
	}
	if err := st.DeleteConsumer(t.Context(), "d0"); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil || j.Trouble() != nil {
		t.Errorf("with a consumer again: %v, %v", err, j.Trouble())
	}
}
