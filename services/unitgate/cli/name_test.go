package cli_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/unitgate/cli"
	"github.com/unitgate/unitgate/services/unitgate/dev"
)

// A journal without an event is no namespace that an operator would have to tell from the real one with -n.
func TestEmptyJournalIsNotAmbiguous(t *testing.T) {
	d, err := dev.Start(t.Context(), dev.Options{FreePorts: true, Edges: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	nc, err := nats.Connect(d.Ready().NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err == nil {
		_, err = journal.Create(t.Context(), js, "empty", journal.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := cli.Run(t.Context(), append(args, "--nats", d.Ready().NATS), strings.NewReader(""), &out, &errs)
		return code, out.String() + errs.String()
	}
	if code, text := run("get", "units"); code != 0 || !strings.Contains(text, "unbj") {
		t.Errorf("without -n: %d, %s", code, text)
	}
	if code, text := run("get", "units", "-n", "empty"); code != 3 || !strings.Contains(text, "nothing stands in it yet") {
		t.Errorf("with -n: %d, %s", code, text)
	}
}
