package cli_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
)

// A refusal is how bad input has to be refused. text is a part of the message.
type refusal struct {
	code, field, text string
	line              int
}

// failed is the error as `-o json` and the api write it.
type failed struct {
	Error struct {
		Code, Field, Message string
		Line                 int
	}
}

// check compares what came with what has to come.
func (r refusal) check(t *testing.T, answer []byte) {
	t.Helper()
	var got failed
	if err := json.Unmarshal(answer, &got); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	if e := got.Error; e.Code != r.code || e.Field != r.field || e.Line != r.line || !strings.Contains(e.Message, r.text) || e.Message == "" {
		t.Errorf("refused with %s at %q, line %d: %s\nwant %s at %q, line %d: … %s …", e.Code, e.Field, e.Line, e.Message, r.code, r.field, r.line, r.text)
	}
}

// TestBadInput sends every bad file and command to a running system: each is refused with its code, its field and a
// message, and nothing is appended to any journal.
func TestBadInput(t *testing.T) {
	s := startSystem(t)
	s.must("cutover", "preview", "-n", "demo", "--range", "center=0-6380", "--range", "unbj=6381-9999")
	s.must("cutover", "preview", "-n", "demo", "--range", "center=0-9999")
	s.must("cutover", "abort", "c2", "-n", "demo")
	nc, err := nats.Connect(s.nats)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	before, cases := s.journals(nc), 0
	t.Run("files", func(t *testing.T) {
		for name, f := range badFiles(t) {
			cases++
			t.Run(name, func(t *testing.T) { f.want.check(t, s.refused(f.text)) })
		}
	})
	t.Run("commands", func(t *testing.T) {
		verbs := map[string]bool{}
		for _, c := range particularCommands() {
			verbs[c.name] = true
		}
		for _, c := range badCommands() {
			cases++
			t.Run(c.name+" "+c.data[:min(len(c.data), 60)], func(t *testing.T) { c.check(t, nc) })
		}
		for _, n := range events.Names() {
			if !verbs[n.Entity+"."+n.Verb] {
				t.Errorf("there is no bad %s.%s: add one to badCommands", n.Entity, n.Verb)
			}
		}
	})
	t.Run("envelopes", func(t *testing.T) {
		for _, c := range badEnvelopes() {
			cases++
			t.Run(c.data[:min(len(c.data), 60)], func(t *testing.T) { c.want.check(t, ask(t, nc, c.name, c.data)) })
		}
	})
	if cases < 200 {
		t.Errorf("only %d cases were tried", cases)
	}
	if after := s.journals(nc); after != before {
		t.Errorf("the journals were %s\nand are %s", before, after)
	}
}

// journals are the streams of all namespaces with their last sequences.
func (s system) journals(nc *nats.Conn) string {
	s.t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []string
	list := js.ListStreams(s.t.Context(), jetstream.WithStreamListSubject("unitgate.evt.>"))
	for info := range list.Info() {
		out = append(out, fmt.Sprintf("%s %d", info.Config.Name, info.State.LastSeq))
	}
	if list.Err() != nil {
		s.t.Fatal(list.Err())
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// refused applies a bad file and returns what it prints.
func (s system) refused(text string) []byte {
	s.t.Helper()
	exit, stdout, stderr := s.run("apply", "--yes", "-o", "json", "-f", s.file(text))
	if exit != 3 || !strings.HasPrefix(stderr, "unitgate: ") {
		s.t.Errorf("ended with %d: %s%s", exit, stdout, stderr)
	}
	return []byte(stdout)
}

type badFile struct {
	text string
	want refusal
}

// badFiles are those of package configfile, and some that a program makes better than a person.
func badFiles(t *testing.T) map[string]badFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "configfile", "testdata", "bad.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]badFile{
		"nested deeply":         {"namespace: bad\nunits: " + strings.Repeat("[", 500) + strings.Repeat("]", 500), refusal{code: "bad_yaml", line: 2, text: "nested deeper than 32"}},
		"nested without an end": {"namespace: bad\nunits: " + strings.Repeat("[", 100_000), refusal{code: "bad_yaml", line: 2, text: "exceeded max depth"}},
		"NUL":                   {"namespace: bad\nunits: [{id: a, name: \x00}]\n", refusal{code: "bad_yaml", text: "control characters are not allowed"}},
		"NUL in quotes":         {"namespace: bad\nunits: [{id: a, name: \"\\0\"}]\n", refusal{code: "bad_value", field: "units[0].name", line: 2, text: "control characters"}},
		"not UTF-8":             {"namespace: bad\nunits: [{id: a, name: \xff}]\n", refusal{code: "bad_yaml", text: "invalid leading UTF-8"}},
		"half a surrogate":      {"namespace: bad\nunits: [{id: a, name: \"\\uD800\"}]\n", refusal{code: "bad_yaml", line: 2, text: "invalid Unicode"}},
		"binary":                {"\x7fELF\x02\x01\x01", refusal{code: "bad_yaml", text: "control characters are not allowed"}},
		"too large":             {"namespace: bad\n#" + strings.Repeat("x", configfile.MaxSize), refusal{code: "too_large", text: "more than 16 MiB"}},
		"too many namespaces":   {strings.Join(numbered(257, "namespace: n%d\n"), "---\n"), refusal{code: "too_large", line: 512, text: "more than 256 namespaces"}},
		"too many units":        {"namespace: bad\nunits: [" + strings.Join(numbered(257, "{id: u%d}"), ",") + "]", refusal{code: "too_large", field: "", text: "256"}},
		"a long name":           {"namespace: bad\nunits: [{id: a, name: " + strings.Repeat("x", 257) + "}]", refusal{code: "bad_value", field: "units[0].name", line: 2, text: "257 bytes"}},
		"a long exact ID": {"namespace: bad\nunitTypes: [{name: t, slots: 1}]\nunits: [{id: a}]\nrules: {t: {ranges: {a: [0-0]}, exact: {a: [" + strings.Repeat("7", 257) + "x]}}}",
			refusal{code: "bad_router_id", field: "rules.t", line: 4, text: "256"}},
	}
	ids, err := json.Marshal(randomIDs())
	if err != nil {
		t.Fatal(err)
	}
	out["more than an event holds"] = badFile{
		"namespace: demo\nunitTypes: [{name: t, slots: 1}]\nrules: {t: {ranges: {center: [0-0]}, exact: {center: " + string(ids) + "}}}",
		refusal{code: "too_large", text: "at most 524288 are allowed"}}
	for _, f := range txtar.Parse(text).Files {
		head, _, _ := strings.Cut(string(f.Data), "\n")
		parts := strings.SplitN(strings.TrimPrefix(head, "# "), " ", 4)
		if len(parts) != 4 {
			t.Fatalf("%s: %q does not say how it is refused", f.Name, head)
		}
		line, err := strconv.Atoi(parts[2])
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name] = badFile{string(f.Data), refusal{code: parts[0], field: strings.TrimPrefix(parts[1], "-"), line: line, text: parts[3]}}
	}
	return out
}

// randomIDs are exact IDs that no compression brings below the bound of an event, in a message that a server takes.
func randomIDs() []string {
	r := rand.New(rand.NewPCG(1, 2))
	ids := make([]string, 2900)
	for i := range ids {
		id := make([]byte, 256)
		for j := range id {
			id[j] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[r.IntN(64)]
		}
		ids[i] = string(id)
	}
	return ids
}

func numbered(n int, form string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(form, i)
	}
	return out
}

// A badCommand is sent to the demo by request, and durably.
type badCommand struct {
	name, data string // the subject's end, and the command's data
	want       refusal
}

func ask(t *testing.T, nc *nats.Conn, name, body string) []byte {
	t.Helper()
	subject := "unitgate.api.demo." + name
	if strings.Count(name, ".") == 2 {
		subject = "unitgate.api." + name
	}
	reply, err := nc.Request(subject, []byte(body), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if reply.Header.Get("Nats-Service-Error-Code") == "" {
		t.Errorf("no error's code in the headers: %s", reply.Data)
	}
	return reply.Data
}

func (c badCommand) check(t *testing.T, nc *nats.Conn) {
	id := uuid.NewString()
	body := `{"id":"` + id + `","actor":"bad","data":` + c.data + `}`
	c.want.check(t, ask(t, nc, c.name, body))
	// Durably, where the data can be read at all: the outcome is the same.
	if !json.Valid([]byte(body)) {
		return
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "unitgate.cmd.demo."+c.name, []byte(body)); err != nil {
		t.Fatal(err)
	}
	outcome, err := command.NewClient(nc, "demo").Outcome(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := json.Marshal(outcome)
	if err != nil {
		t.Fatal(err)
	}
	c.want.check(t, answer)
}
