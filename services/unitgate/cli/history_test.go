package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/unitgate/cli"
	"github.com/unitgate/unitgate/services/unitgate/dev"
)

// TestLogFollow: what comes is shown as it comes, each once and in order, and Ctrl-C is a good end.
func TestLogFollow(t *testing.T) {
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
	put := func(id string) uint64 {
		t.Helper()
		o, err := command.NewClient(nc, "demo").Do(t.Context(), "unit", "put", command.Request{Actor: "ops@hz", Data: events.Unit{ID: id}})
		if err != nil || !o.OK {
			t.Fatal(o, err)
		}
		return o.Seq
	}
	put("one")
	for name, since := range map[string]string{"from the start": "1", "from the last": "", "from the next": "next", "by time": "1h"} {
		t.Run(name, func(t *testing.T) {
			args := []string{"log", "--follow", "-o", "json", "--entity", "unit", "--actor", "ops", "--nats", d.Ready().NATS, "--since", since}
			switch since {
			case "":
				args[len(args)-1] = "3"
			case "next":
				args[len(args)-1] = strconv.FormatUint(put("between")+1, 10)
			}
			ctx, stop := context.WithTimeout(t.Context(), patience)
			defer stop()
			r, w := io.Pipe()
			ended := make(chan int, 1)
			go func() {
				ended <- cli.Run(ctx, args, strings.NewReader(""), w, io.Discard)
				_ = w.Close()
			}()
			lines := bufio.NewScanner(r)
			want := put("two")
			last := uint64(0)
			if since == "next" {
				last = want - 1 // nothing from before may come
			}
			for last < want && lines.Scan() {
				var e struct{ Seq uint64 }
				if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Seq <= last {
					t.Fatalf("%s after %d: %v", lines.Text(), last, err)
				}
				last = e.Seq
			}
			stop()
			if code := <-ended; last != want || code != 0 {
				t.Errorf("it ended with %d at %d, want %d", code, last, want)
			}
		})
	}
}

// TestBrokenJournal: a record written past the guards stops every command that reads, and verify says where, with both hashes.
func TestBrokenJournal(t *testing.T) {
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
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "UNITGATE_demo")
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	m.Header.Del(jetstream.ExpectedLastSeqHeader)
	m.Header.Del(jetstream.ExpectedLastSubjSeqHeader)
	ack, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data})
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (code int, out, errs string) {
		var o, e bytes.Buffer
		code = cli.Run(t.Context(), append(args, "--nats", d.Ready().NATS), strings.NewReader(""), &o, &e)
		return code, o.String(), e.String()
	}
	code, out, errs := run("journal", "verify", "-o", "json")
	var v struct {
		OK      bool
		Records uint64
		Break   struct {
			Seq       uint64
			Kind      string
			Want, Got string
		}
		Error struct{ Code string }
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 1 || v.OK || v.Records != ack.Sequence-1 || v.Break.Seq != ack.Sequence ||
		v.Break.Kind != "hash" || len(v.Break.Want) != 64 || len(v.Break.Got) != 64 || v.Error.Code != "journal_broken" {
		t.Errorf("verify ends with %d, %v: %s", code, err, out)
	}
	for _, want := range []string{"sequence " + strconv.FormatUint(ack.Sequence, 10), v.Break.Want, v.Break.Got} {
		if !strings.Contains(errs, want) {
			t.Errorf("no %q in %s", want, errs)
		}
	}
	if code, out, _ := run("journal", "verify"); code != 1 || !strings.Contains(out, strconv.FormatUint(ack.Sequence-1, 10)+" of "+strconv.FormatUint(ack.Sequence, 10)+" records intact") {
		t.Errorf("verify ends with %d: %s", code, out)
	}
	for _, args := range [][]string{{"get", "rules"}, {"route", "1"}, {"export"}, {"log"}, {"log", "--follow"}} {
		if code, _, errs := run(args...); code != 1 || !strings.Contains(errs, "journal_broken") || !strings.Contains(errs, "unitgate journal verify") {
			t.Errorf("%v ends with %d: %s", args, code, errs)
		}
	}
	if code, _, errs := run("route", "1", "--at", strconv.FormatUint(ack.Sequence-1, 10)); code != 0 {
		t.Errorf("the past before it: %d, %s", code, errs)
	}
}
