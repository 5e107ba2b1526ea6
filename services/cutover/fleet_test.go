package cutover

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/unitgate/unitgate/events"
)

// The control plane asks where nobody else does, so that it does not stand in line with them; an edge of before, which does
// not answer there, is asked where everybody asks.
func TestControlAsksAtAPlaceOfItsOwn(t *testing.T) {
	b := newBed(t)
	edges := []events.Edge{{ID: "new", Unit: "center"}, {ID: "old", Unit: "center"}}
	var own, shared, old atomic.Int64
	for what, n := range map[string]*atomic.Int64{
		"new.count": &own, "new.standing": &own, "new.sessions": &shared, "new.status": &shared, "old.sessions": &old, "old.status": &old,
	} {
		answer := []byte(`{}`)
		if strings.HasSuffix(what, ".count") || strings.HasSuffix(what, ".sessions") {
			answer = []byte(`{"sessions":41}`)
		}
		if _, err := b.nc.Subscribe("unitgate.edge."+testNamespace+".center."+what, func(m *nats.Msg) { n.Add(1); _ = m.Respond(answer) }); err != nil {
			t.Fatal(err)
		}
	}
	question := func(string) events.CountQuestion { return events.CountQuestion{Slots: []string{"1"}} }

	fleet := NewFleet(b.nc, testNamespace).ForControl()
	for _, a := range fleet.Count(b.ctx, edges, question) {
		if a.Value.Sessions != 41 {
			t.Errorf("%+v", a)
		}
	}
	for _, a := range fleet.Status(b.ctx, edges) {
		if a.Err != nil {
			t.Error(a.Err)
		}
	}
	if own.Load() != 2 || shared.Load() != 0 || old.Load() != 2 {
		t.Errorf("%d questions at its own place, %d elsewhere", own.Load(), shared.Load())
	}
	NewFleet(b.nc, testNamespace).Count(b.ctx, edges[:1], question)
	if own.Load() != 2 || shared.Load() != 1 {
		t.Errorf("who only looks asks %d times at the control plane's place", own.Load()-2)
	}
}

// An edge that is busy is asked again; what it says in the end is not lost.
func TestBusyEdgesAreAskedAgain(t *testing.T) {
	b := newBed(t)
	var asked atomic.Int64
	for id, busy := range map[string]int64{"soon": 2, "never": 1 << 30} {
		if _, err := b.nc.Subscribe("unitgate.edge."+testNamespace+".center."+id+".status", func(m *nats.Msg) {
			reply := nats.NewMsg(m.Reply)
			reply.Data = []byte(`{}`)
			if id == "never" || asked.Add(1) <= busy {
				reply.Header.Set(micro.ErrorCodeHeader, "busy")
				reply.Header.Set(micro.ErrorHeader, "ask again")
			}
			_ = m.RespondMsg(reply)
		}); err != nil {
			t.Fatal(err)
		}
	}
	answers := NewFleet(b.nc, testNamespace).Status(b.ctx, []events.Edge{{ID: "soon", Unit: "center"}, {ID: "never", Unit: "center"}})
	if answers[0].Err != nil || asked.Load() != 3 {
		t.Errorf("asked %d times: %v", asked.Load(), answers[0].Err)
	}
	if err := answers[1].Err; err == nil || !strings.Contains(err.Error(), "never") {
		t.Errorf("an edge that stays busy: %v", err)
	}
}
