package cli

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// What a peer can cause does not fill the log: one complaint is logged once a minute, with how often it came since.
func TestComplaintsAreSaidOnceAMinute(t *testing.T) {
	var text bytes.Buffer
	c, err := newComplaints(slog.New(slog.NewTextHandler(&text, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	c.now = func() time.Time { return now }
	sub := &nats.Subscription{Subject: "unitgate.api.*.cutover.show"}
	for range 6000 {
		c.on("questions")(nil, sub, nats.ErrSlowConsumer)
		now = now.Add(20 * time.Millisecond)
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "connection=questions") || !strings.Contains(lines[0], "unitgate.api.*.cutover.show") || !strings.Contains(lines[1], "unsaid=2999") {
		t.Errorf("%d lines in two minutes: %q", len(lines), lines)
	}
	text.Reset()
	for range 3 { // others are said, each once
		c.on("questions")(nil, nil, errors.New("denied a"))
		c.on("main")(nil, nil, errors.New("denied a"))
		c.on("questions")(nil, sub, errors.New("denied b"))
	}
	if n := strings.Count(text.String(), "\n"); n != 3 {
		t.Errorf("%d lines: %s", n, text.String())
	}
	now = now.Add(time.Hour)
	c.on("questions")(nil, nil, errors.New("denied c"))
	if len(c.said) != 1 {
		t.Errorf("%d complaints are remembered after an hour", len(c.said))
	}
}
