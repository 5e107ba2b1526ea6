package control_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
)

// Durable commands wait while no control plane runs, also the one that makes the namespace; one that stops hands over what
// it has not settled, and each takes effect once.
func TestDurableCommandsAreHandedOver(t *testing.T) {
	nc := connect(t)
	cl := command.NewClient(nc, "shop")
	shut(t, start(t, nc)) // makes the queue

	create, err := cl.Publish(t.Context(), "namespace", "create", command.Request{Actor: "test", Data: events.CreateNamespace{UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 100}}}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Do(t.Context(), "unit", "put", command.Request{Actor: "test", Data: events.Unit{ID: "x"}}); err == nil {
		t.Error("the api answered with nobody there")
	}
	first := start(t, nc)
	if o, err := cl.Outcome(t.Context(), create.ID); err != nil || !o.OK {
		t.Fatal(o.Error, err)
	}
	second := start(t, nc)
	defer shut(t, second)

	began := time.Now()
	const n = 60
	ids := make([]string, n)
	for i := range ids {
		ids[i] = uuid.NewString()
		if _, err := cl.Publish(t.Context(), "unit", "put", command.Request{ID: ids[i], Actor: "test", Data: events.Unit{ID: fmt.Sprintf("u%d", i)}}, time.Hour); err != nil {
			t.Fatal(err)
		}
		if i == n/3 {
			shut(t, first)
		}
	}
	for _, id := range ids {
		if o, err := cl.Outcome(t.Context(), id); err != nil || !o.OK || o.Entity != "unit" || o.Verb != "put" {
			t.Errorf("%s: %+v %v", id, o, err)
		}
	}
	if took := time.Since(began); took > 30*time.Second { // AckWait is 35 s: nothing was left lying
		t.Errorf("the hand-over took %v", took)
	}
	until(t, "all units", func() bool { return len(second.State("shop").Units) == n })
}
