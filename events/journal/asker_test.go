package journal

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A refusal shuts the door that it is about, and no other one whose subject begins alike; and once: a connection keeps its
// last error for ever, and a later answer that is only slow is none.
func TestDoorsAreShutByTheirOwnRefusals(t *testing.T) {
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, NoLog: true, Users: []*server.User{
		{Username: "control", Password: "x"},
		{Username: "reader", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{AskSubject("shop2")}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	connect := func(user string) *nats.Conn {
		nc, err := nats.Connect("", nats.InProcessServer(s), nats.UserInfo(user, "x"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	control, reader := connect("control"), connect("reader")
	if _, err := control.Subscribe(AskSubject("shop"), func(m *nats.Msg) {
		time.AfterFunc(2*againAfter, func() { _ = m.Respond([]byte(`{"head":7}`)) })
	}); err != nil {
		t.Fatal(err)
	}
	if err := control.Flush(); err != nil {
		t.Fatal(err)
	}
	shop, shop2 := asker{nc: reader, subject: AskSubject("shop")}, asker{nc: reader, subject: AskSubject("shop2")}
	if _, err := shop2.ask(t.Context(), Question{}); !errors.Is(err, errBarred) || shop2.closed.open() {
		t.Errorf("what the server forbids: %v", err)
	}
	if a, err := shop.ask(t.Context(), Question{}); err != nil || a.Head != 7 || !shop.closed.open() {
		t.Errorf("a slow answer behind another door's refusal: %+v, %v", a, err)
	}
	if shop2.closed.shut(reader, shop2.subject+`"`) {
		t.Error("one refusal shuts the door twice")
	}
	shop2.closed.until = time.Now()
	if _, err := shop2.ask(t.Context(), Question{}); !errors.Is(err, errBarred) {
		t.Errorf("forbidden again: %v", err)
	}
}
