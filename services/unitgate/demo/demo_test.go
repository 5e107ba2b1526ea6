package demo

import (
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/unitgate/unitgate/events"
)

func TestOriginSaysWhereItIs(t *testing.T) {
	o, err := start("unbj", "127.0.0.1:0", 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+o.Addr()+"/any/path", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	read := func() string {
		_, b, err := c.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read(); got != "Welcome to the server! unbj" {
		t.Errorf("first message %q", got)
	}
	if err := c.Write(ctx, websocket.MessageText, []byte("1604389722277")); err != nil {
		t.Fatal(err)
	}
	random, echo := false, false
	for !random || !echo {
		switch got := read(); {
		case got == "1604389722277:unbj":
			echo = true
		case regexp.MustCompile(`^0(\.\d+)?:unbj$`).MatchString(got):
			random = true
		default:
			t.Fatalf("message %q", got)
		}
	}
	// Close ends the connection and leaves nobody behind.
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	for {
		if _, _, err := c.Read(ctx); err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		t.Error("the connection outlived the server")
	}
}

func TestConfigIsTheWalkthroughs(t *testing.T) {
	cfg := Config(map[string]string{"center": "127.0.0.1:1", "unbj": "127.0.0.1:2"})
	plan, err := events.PlanConfig(events.NewState(), cfg, events.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rules := plan.Changes.Rules["unit_type"]
	for id, unit := range map[string]string{"1111": "center", "5997": "center", "5998": "unbj", "6249": "unbj", "8330": "unbj"} {
		if got, _ := rules.Owner(id); got != unit {
			t.Errorf("routerId %s belongs to %s, want %s", id, got, unit)
		}
	}
}
